-- name: next_process_number
SELECT nextval('process_number')::integer;

-- name: hold_process_number
SELECT pg_try_advisory_lock(%(class)s, %(number)s);

-- name: processes
-- Which ledger this is, on which server, and the numbers of the processes that are alive.
SELECT left(encode(sha256(convert_to(
           coalesce((SELECT encode(row_hash, 'hex') FROM audit_event ORDER BY seq LIMIT 1), '') || ' '
           || current_database() || ' ' || coalesce(host(inet_server_addr()), '') || ' '
           || coalesce(inet_server_port()::text, ''), 'UTF8')), 'hex'), 12),
       coalesce((SELECT array_agg(objid::bigint) FROM pg_locks
                 WHERE locktype = 'advisory' AND classid = %(class)s::integer::oid AND objsubid = 2 AND granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())), '{}');

-- name: take_force
-- The recipe asked for is the one in force for these studies; in the usual case it is already.
WITH mine AS (
    SELECT ledger_id, study_instance_uid FROM ledger
    WHERE archive = %(archive)s AND recipe = %(recipe)s AND study_instance_uid = ANY (%(uids)s::text[]) AND NOT in_force
    ORDER BY ledger_id
    FOR UPDATE
), others AS (
    UPDATE ledger AS l SET in_force = false
    FROM mine
    WHERE l.archive = %(archive)s AND l.study_instance_uid = mine.study_instance_uid
      AND l.ledger_id <> mine.ledger_id AND l.in_force
)
UPDATE ledger AS l SET in_force = true FROM mine WHERE l.ledger_id = mine.ledger_id;

-- name: record_found
WITH found AS (
    SELECT DISTINCT ON (uid) *
    FROM unnest(%(uids)s::text[], %(dates)s::date[], %(modalities)s::text[], %(accessions)s::text[],
                %(counts)s::integer[], %(digests)s::text[], %(patients)s::smallint[])
         AS f (uid, study_date, modalities, accession_number, announced_instances, demographics_digest, patients)
), known AS (
    SELECT l.ledger_id, l.state, l.lease_owner, f.*,
           l.demographics_digest <> f.demographics_digest
               OR (l.announced_instances <> f.announced_instances) IS TRUE OR l.patients <> f.patients
               OR (l.state = 'skipped' AND l.code = 'study-gone') AS changed,
           l.announced_instances IS NULL AND f.announced_instances IS NOT NULL AS counted
    FROM found AS f
    JOIN ledger AS l ON l.archive = %(archive)s AND l.recipe = %(recipe)s AND l.study_instance_uid = f.uid
    ORDER BY l.ledger_id
    FOR UPDATE OF l
), touched AS (
    UPDATE ledger AS l SET
        state = CASE WHEN k.changed AND k.lease_owner IS NULL THEN 'discovered' ELSE l.state END,
        rediscovered = l.rediscovered OR (k.changed AND k.lease_owner IS NOT NULL),
        attempts = CASE WHEN k.changed THEN 0 ELSE l.attempts END,
        next_attempt_at = CASE WHEN k.changed THEN NULL ELSE l.next_attempt_at END,
        study_date = k.study_date,
        modalities = string_to_array(k.modalities, E'\\'),
        accession_number = k.accession_number,
        announced_instances = coalesce(k.announced_instances, l.announced_instances),
        demographics_digest = k.demographics_digest,
        patients = k.patients
    FROM known AS k
    WHERE l.ledger_id = k.ledger_id AND (k.changed OR k.counted)
), added AS (
    INSERT INTO ledger (archive, recipe, study_instance_uid, study_date, modalities, accession_number,
                        announced_instances, demographics_digest, patients)
    SELECT %(archive)s, %(recipe)s, f.uid, f.study_date, string_to_array(f.modalities, E'\\'), f.accession_number,
           f.announced_instances, f.demographics_digest, f.patients
    FROM found AS f
    WHERE NOT EXISTS (SELECT FROM known AS k WHERE k.uid = f.uid)
    ORDER BY f.uid
    ON CONFLICT (archive, study_instance_uid, recipe) DO NOTHING
    RETURNING ledger_id
)
SELECT (SELECT count(*) FROM added),
       (SELECT count(*) FROM known WHERE changed),
       (SELECT count(*) FROM found),
       (SELECT count(*) FROM known WHERE state = 'failed' AND NOT changed);

-- name: to_do_among
SELECT ledger_id FROM ledger
WHERE archive = %(archive)s AND recipe = %(recipe)s AND study_instance_uid = ANY (%(uids)s::text[])
  AND (state IN ('discovered', 'retrieving', 'complete', 'drafted')
       OR (state = 'failed' AND next_attempt_at IS NOT NULL))
ORDER BY ledger_id;

-- name: standing_within
-- Reported studies of these dates that the archive itself once listed; what was pushed alone is nobody's to take back.
SELECT ledger_id, study_instance_uid FROM ledger
WHERE archive = %(archive)s AND recipe = %(recipe)s AND state = 'reported' AND stands AND demographics_digest <> ''
  AND (%(since)s::date IS NULL OR study_date >= %(since)s) AND (%(until)s::date IS NULL OR study_date <= %(until)s)
  AND (%(modalities)s::text[] = '{}' OR modalities && %(modalities)s::text[])
  AND ledger_id > %(after)s
ORDER BY ledger_id LIMIT %(limit)s;

-- name: ledger_ids
SELECT ledger_id FROM ledger
WHERE archive = %(archive)s AND recipe = %(recipe)s AND study_instance_uid = ANY (%(uids)s::text[])
ORDER BY ledger_id;

-- name: resting_among
-- Of an archive that counts: those of the last days, where a film may be replaced and the count stays as it is.
SELECT ledger_id, study_instance_uid FROM ledger
WHERE archive = %(archive)s AND recipe = %(recipe)s AND study_instance_uid = ANY (%(uids)s::text[])
  AND (announced_instances IS NULL OR study_date IS NULL OR study_date >= current_date - %(days)s::integer)
  AND (state IN ('reported', 'skipped') OR (state = 'failed' AND next_attempt_at IS NULL))
ORDER BY ledger_id;

-- name: record_announced
WITH known AS (
    SELECT ledger_id, lease_owner, announced_digest IS NOT NULL AND announced_digest <> %(digest)s AS changed
    FROM ledger WHERE ledger_id = %(ledger_id)s FOR UPDATE
)
UPDATE ledger AS l SET
    announced_digest = %(digest)s,
    announced = %(count)s,
    state = CASE WHEN k.changed AND k.lease_owner IS NULL THEN 'discovered' ELSE l.state END,
    rediscovered = l.rediscovered OR (k.changed AND k.lease_owner IS NOT NULL),
    attempts = CASE WHEN k.changed THEN 0 ELSE l.attempts END,
    next_attempt_at = CASE WHEN k.changed THEN NULL ELSE l.next_attempt_at END
FROM known AS k
WHERE l.ledger_id = k.ledger_id
RETURNING k.changed;

-- name: reopen
SELECT reopen_studies(%(ledger_ids)s::bigint[], %(events)s::json, %(again)s);

-- name: draft_anew
SELECT draft_anew(%(report_id)s, %(event)s::json);

-- name: settled
SELECT l.ledger_id, l.archive, l.study_instance_uid, l.state::text, l.code, l.reason, l.next_attempt_at, l.failed_at,
       l.failed_program, l.failed_settings, l.stands, coalesce(l.report_id, ''),
       coalesce(split_part(d.patient, '/', 2), '')
FROM ledger AS l
LEFT JOIN resource AS d ON d.resource_type = 'DiagnosticReport' AND d.resource_id = l.report_id
WHERE l.lease_owner IS NULL AND l.state::text = ANY (%(states)s::text[])
  AND CASE WHEN %(standing)s THEN l.stands WHEN %(recipe)s::text IS NULL THEN l.in_force ELSE l.recipe = %(recipe)s END
  AND (%(archive)s::text IS NULL OR l.archive = %(archive)s)
  AND (%(studies)s::text[] IS NULL OR l.study_instance_uid = ANY (%(studies)s))
  AND (%(ledger_ids)s::bigint[] IS NULL OR l.ledger_id = ANY (%(ledger_ids)s))
  AND (%(codes)s::text[] IS NULL OR l.code = ANY (%(codes)s))
  AND (%(since)s::date IS NULL OR l.study_date >= %(since)s)
  AND (%(until)s::date IS NULL OR l.study_date <= %(until)s)
  AND (NOT %(hidden)s OR (l.in_force AND NOT l.stands AND d.written_by = 'machine'))
ORDER BY l.ledger_id;

-- name: reinstate
SELECT * FROM reinstate_report(%(ledger_id)s, %(audit)s::json);

-- name: retire
SELECT retire_report(%(ledger_id)s, %(audit)s::json);

-- name: standing_elsewhere
SELECT l.archive, l.ledger_id, l.films
FROM ledger AS l
WHERE l.study_instance_uid = %(study)s AND l.archive <> %(archive)s AND l.stands AND l.patient_key = %(patient_key)s
ORDER BY l.films DESC, l.ledger_id LIMIT 1;

-- name: now
SELECT clock_timestamp();

-- name: claim
WITH alive AS (
    SELECT array_agg(objid::bigint) AS processes
    FROM pg_locks
    WHERE locktype = 'advisory' AND classid = %(class)s::integer::oid AND objsubid = 2 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), ready AS (
    SELECT ledger_id
    FROM ledger
    WHERE recipe = %(recipe)s
      AND (state IN ('discovered', 'retrieving', 'complete', 'drafted')
           OR (state = 'failed' AND next_attempt_at IS NOT NULL))
      AND (%(archive)s::text IS NULL OR archive = %(archive)s)
      AND (%(ledger_ids)s::bigint[] IS NULL OR ledger_id = ANY (%(ledger_ids)s::bigint[]))
      AND (%(since)s::date IS NULL OR study_date IS NULL OR study_date >= %(since)s)
      AND (%(until)s::date IS NULL OR study_date IS NULL OR study_date <= %(until)s)
      AND (NOT %(received)s OR EXISTS (
              SELECT FROM instance AS i
              WHERE i.archive = ledger.archive AND i.study_instance_uid = ledger.study_instance_uid
                AND i.path <> '' AND i.handed_over_at IS NOT NULL))
      AND CASE
              WHEN state = 'discovered' THEN true
              -- A run does not come back to what failed in it: that is for the next one.
              WHEN state = 'failed' THEN next_attempt_at <= now()
                   AND (%(begun)s::timestamptz IS NULL OR failed_at < %(begun)s)
              WHEN lease_owner IS NULL OR lease_expires_at <= now() THEN true
              -- After a restart of the server living processes need a moment to take their locks again. What changed
              -- after this statement began was claimed by a process that may not have been alive when it was asked.
              ELSE updated_at < now() AND NOT lease_process = ANY (coalesce((SELECT processes FROM alive), '{}'))
                   AND pg_postmaster_start_time() <= now() - make_interval(secs => %(settle)s)
          END
      -- Whom a process died over is given to nobody together with others.
      AND (at_work OR deaths > 0) = %(alone)s
    ORDER BY ledger_id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
UPDATE ledger AS l SET
    state = 'retrieving',
    lease_owner = %(owner)s,
    lease_process = %(process)s,
    lease_call = %(call)s,
    lease_expires_at = now() + make_interval(secs => %(seconds)s),
    token = l.token + 1,
    -- What a dead process had claimed and not begun was not attempted.
    attempts = l.attempts + CASE WHEN l.lease_owner IS NULL OR l.at_work THEN 1 ELSE 0 END,
    deaths = l.deaths + l.at_work::integer,
    at_work = false,
    next_attempt_at = NULL,
    rediscovered = false
FROM ready
WHERE l.ledger_id = ready.ledger_id
RETURNING l.ledger_id, l.archive, l.study_instance_uid, l.recipe, l.lease_owner, l.token, l.attempts,
          l.lease_expires_at, l.reported_manifest, l.first_short_at, l.reported_films, l.again,
          EXISTS (SELECT FROM ledger AS o
                  WHERE o.study_instance_uid = l.study_instance_uid AND o.archive <> l.archive AND o.stands),
          coalesce(l.modalities, '{}'), l.deaths, l.patients;

-- name: claimed_by_call
SELECT ledger_id, archive, study_instance_uid, recipe, lease_owner, token, attempts,
       lease_expires_at, reported_manifest, first_short_at, reported_films, again,
       EXISTS (SELECT FROM ledger AS o
               WHERE o.study_instance_uid = ledger.study_instance_uid AND o.archive <> ledger.archive AND o.stands),
       coalesce(modalities, '{}'), deaths, patients
FROM ledger
WHERE recipe = %(recipe)s AND lease_call = %(call)s AND lease_owner IS NOT NULL
  AND state IN ('discovered', 'retrieving', 'complete', 'drafted')
ORDER BY ledger_id;

-- name: until_free
-- Seconds until claims of processes that have died are given to others; no row where none has any. See claim.
SELECT greatest(0, %(settle)s - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()))::float
WHERE EXISTS (
    SELECT FROM ledger
    WHERE lease_owner IS NOT NULL AND lease_expires_at > now()
      AND NOT lease_process = ANY (%(living)s::bigint[]));

-- name: suspects
-- Whom a process died over, and who is worked on now; those come first that died least.
SELECT ledger_id
FROM ledger
WHERE recipe = %(recipe)s AND (at_work OR deaths > 0)
  AND (state IN ('discovered', 'retrieving', 'complete', 'drafted')
       OR (state = 'failed' AND next_attempt_at IS NOT NULL))
  AND (%(archive)s::text IS NULL OR archive = %(archive)s)
  AND (%(ledger_ids)s::bigint[] IS NULL OR ledger_id = ANY (%(ledger_ids)s::bigint[]))
  AND (%(since)s::date IS NULL OR study_date IS NULL OR study_date >= %(since)s)
  AND (%(until)s::date IS NULL OR study_date IS NULL OR study_date <= %(until)s)
ORDER BY deaths + at_work::integer, ledger_id;

-- name: note_work
-- Not waited for on the disk: a server that falls with the machine may forget it, and then no study was why.
UPDATE ledger AS l SET at_work = c.begun
FROM set_config('synchronous_commit', 'off', true),
     unnest(%(ledger_ids)s::bigint[], %(tokens)s::bigint[], %(begun)s::boolean[]) AS c (ledger_id, token, begun)
WHERE l.ledger_id = c.ledger_id AND l.token = c.token AND l.lease_owner IS NOT NULL;

-- name: renew
UPDATE ledger AS l SET lease_expires_at = now() + make_interval(secs => %(seconds)s), lease_process = %(process)s
FROM unnest(%(ledger_ids)s::bigint[], %(tokens)s::bigint[]) AS c (ledger_id, token)
WHERE l.ledger_id = c.ledger_id AND l.token = c.token AND l.lease_owner IS NOT NULL
RETURNING l.ledger_id, l.token;

-- name: advance
-- What is drafted is worked on no more: what can kill a process lies behind it.
UPDATE ledger AS l SET state = %(state)s::ledger_state, at_work = l.at_work AND %(state)s <> 'drafted'
FROM unnest(%(ledger_ids)s::bigint[], %(tokens)s::bigint[]) AS c (ledger_id, token)
WHERE l.ledger_id = c.ledger_id AND l.token = c.token AND l.lease_owner IS NOT NULL
RETURNING l.ledger_id, l.token;

-- name: record_complete
UPDATE ledger SET
    state = 'complete',
    announced = %(announced)s, held = %(held)s, missing = %(missing)s::text[], damaged = %(damaged)s::jsonb,
    manifest_digest = %(manifest_digest)s, announced_digest = %(announced_digest)s
WHERE ledger_id = %(ledger_id)s AND token = %(token)s AND lease_owner IS NOT NULL
RETURNING ledger_id;

-- name: release
UPDATE ledger AS l SET
    state = 'discovered', attempts = greatest(l.attempts - 1, 0),
    lease_owner = NULL, lease_process = NULL, lease_expires_at = NULL
FROM unnest(%(ledger_ids)s::bigint[], %(tokens)s::bigint[]) AS c (ledger_id, token)
WHERE l.ledger_id = c.ledger_id AND l.token = c.token AND l.lease_owner IS NOT NULL
RETURNING l.ledger_id, l.token;

-- name: rested
SELECT l.state::text
FROM ledger AS l
JOIN unnest(%(ledger_ids)s::bigint[], %(tokens)s::bigint[]) AS c (ledger_id, token)
  ON l.ledger_id = c.ledger_id AND l.token = c.token
WHERE l.lease_owner IS NULL AND l.state IN ('reported', 'skipped', 'failed');

-- name: save_reports
SELECT s.outcomes, s.versions
FROM set_config('synchronous_commit', %(commit)s, true),
     save_reports(
         %(ledger_ids)s::bigint[], %(tokens)s::bigint[], %(reports)b::text[],
         %(event_places)s::integer[], %(events)b::text[],
         %(resource_places)s::integer[], %(resource_types)b::text[], %(resource_ids)b::text[], %(resources)b::text[],
         %(preview_places)s::integer[], %(preview_ordinals)s::integer[], %(preview_series)b::text[],
         %(preview_instances)b::text[], %(preview_frames)s::integer[], %(preview_rows)s::integer[],
         %(preview_columns)s::integer[], %(preview_jpegs)b::bytea[],
         %(mask_places)s::integer[], %(mask_series)b::text[], %(mask_instances)b::text[], %(mask_classes)b::text[],
         %(mask_contents)b::bytea[],
         %(overlay_places)s::integer[], %(overlay_ordinals)s::integer[], %(overlays)b::bytea[]) AS s;

-- name: settle_study
SELECT s.outcome
FROM set_config('synchronous_commit', %(commit)s, true),
     rest_study(
         %(ledger_id)s, %(token)s, %(state)s::ledger_state, %(code)s, %(message)s,
         %(next_attempt_at)s::timestamptz, %(completeness)s::jsonb, %(left_out)s::jsonb, %(audit)s::json) AS s (outcome);

-- name: flush_commits
SELECT pg_logical_emit_message(true, 'firstread', '');
