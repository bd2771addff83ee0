-- name: record_received
SELECT sop, duplicate, conflict
FROM record_received(
    %(archive)s, %(studies)b::text[], %(series)b::text[], %(instances)b::text[], %(digests)b::text[], %(sizes)s::bigint[],
    %(classes)b::text[], %(syntaxes)b::text[], %(paths)b::text[], %(peers)b::text[]);

-- name: of_former_digests
SELECT instance_id, path FROM instance WHERE NOT by_content AND path <> '' ORDER BY instance_id LIMIT %(limit)s;

-- name: renew_digests
UPDATE instance AS i SET sha256 = n.sha256, by_content = true
FROM unnest(%(ids)s::bigint[], %(digests)s::text[]) AS n (instance_id, sha256)
WHERE i.instance_id = n.instance_id AND NOT i.by_content
  AND NOT EXISTS (SELECT FROM instance AS o WHERE o.archive = i.archive AND o.sop_instance_uid = i.sop_instance_uid
                  AND o.sha256 = n.sha256 AND o.instance_id <> i.instance_id);

-- name: mark_digests
UPDATE instance SET by_content = true WHERE instance_id = ANY (%(ids)s::bigint[]);

-- name: received_origins
SELECT sop_instance_uid, sha256, peer, received_at, settled_at IS NULL
FROM instance
WHERE archive = %(archive)s AND study_instance_uid = %(study)s AND path <> ''
ORDER BY instance_id;

-- name: quiet_studies
SELECT archive, study_instance_uid, count(*), max(received_at)
FROM instance AS i
WHERE handed_over_at IS NULL AND path <> '' AND (%(archive)s::text IS NULL OR archive = %(archive)s)
GROUP BY archive, study_instance_uid
HAVING max(received_at) <= clock_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY max(received_at);

-- name: received_instances
SELECT DISTINCT ON (sop_instance_uid)
       study_instance_uid, series_instance_uid, sop_instance_uid, path, sha256, size, sop_class_uid, transfer_syntax_uid
FROM instance
WHERE archive = %(archive)s AND study_instance_uid = %(study)s AND path <> ''
ORDER BY sop_instance_uid, instance_id;

-- name: received_among
SELECT DISTINCT study_instance_uid
FROM instance
WHERE archive = %(archive)s AND study_instance_uid = ANY (%(studies)s) AND path <> '';

-- name: hand_over
-- What came late makes the ledger row in force work again, whatever the archive counts.
WITH handed AS (
    UPDATE instance SET handed_over_at = clock_timestamp()
    WHERE archive = %(archive)s AND study_instance_uid = %(study)s AND handed_over_at IS NULL
      AND received_at <= %(newest)s
    RETURNING instance_id
)
UPDATE ledger AS l SET
    state = CASE WHEN l.lease_owner IS NULL THEN 'discovered' ELSE l.state END,
    rediscovered = l.lease_owner IS NOT NULL,
    attempts = CASE WHEN l.lease_owner IS NULL THEN 0 ELSE l.attempts END,
    next_attempt_at = NULL
WHERE EXISTS (SELECT FROM handed)
  AND l.archive = %(archive)s AND l.study_instance_uid = %(study)s AND l.in_force;

-- name: settle_known
-- All that waits of a study came before, byte for byte, and the outcome of the row in force named it: nothing is to do.
WITH waiting AS (
    SELECT instance_id, sop_instance_uid, sha256, settled_by FROM instance
    WHERE archive = %(archive)s AND study_instance_uid = %(study)s AND path <> '' AND handed_over_at IS NULL
      AND received_at <= %(newest)s
    ORDER BY instance_id
    FOR UPDATE
), resting AS (
    SELECT ledger_id FROM ledger
    WHERE archive = %(archive)s AND study_instance_uid = %(study)s AND recipe = %(recipe)s AND in_force
      AND lease_owner IS NULL AND state IN ('reported', 'skipped')
    FOR UPDATE
)
UPDATE instance AS i SET
    settled_at = clock_timestamp(), settled_code = 'unchanged', handed_over_at = clock_timestamp(),
    released = i.sop_instance_uid = ANY (%(announced)s::text[])
FROM waiting AS w
WHERE i.instance_id = w.instance_id
  AND NOT EXISTS (
      SELECT FROM waiting AS o
      WHERE o.settled_by IS NULL OR o.settled_by NOT IN (SELECT ledger_id FROM resting)
         OR EXISTS (SELECT FROM instance AS other WHERE other.archive = %(archive)s
                    AND other.sop_instance_uid = o.sop_instance_uid AND other.sha256 <> o.sha256))
RETURNING i.instance_id;

-- name: removable
-- Locked until the files are gone and forgotten, so that no other process removes what comes in their place.
SELECT instance_id, path FROM instance
WHERE released AND path <> '' AND (%(archive)s::text IS NULL OR archive = %(archive)s)
  AND (%(studies)s::text[] IS NULL OR study_instance_uid = ANY (%(studies)s))
ORDER BY instance_id
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: forget
UPDATE instance SET path = '' WHERE instance_id = ANY (%(ids)s::bigint[]) AND released;

-- name: note_missing
UPDATE instance SET settled_at = clock_timestamp(), settled_code = 'file-missing', released = true, path = '',
                    handed_over_at = coalesce(handed_over_at, clock_timestamp())
WHERE archive = %(archive)s AND sop_instance_uid = ANY (%(sops)s::text[]) AND path = ANY (%(paths)s::text[])
  AND settled_at IS NULL
RETURNING sop_instance_uid;

-- name: missing
SELECT instance_id, study_instance_uid, sop_instance_uid, sha256 FROM instance
WHERE settled_code = 'file-missing' AND path = '' AND instance_id > %(after)s
ORDER BY instance_id
LIMIT %(limit)s;

-- name: reopen_missing
UPDATE instance AS i SET path = f.path, settled_at = NULL, settled_code = '', released = false, handed_over_at = NULL
FROM unnest(%(ids)s::bigint[], %(paths)s::text[]) AS f (instance_id, path)
WHERE i.instance_id = f.instance_id AND i.settled_code = 'file-missing' AND i.path = ''
  AND NOT EXISTS (SELECT FROM instance AS o WHERE o.study_instance_uid = i.study_instance_uid AND o.path = f.path)
RETURNING i.instance_id;

-- name: release_kept
UPDATE instance SET released = true
WHERE settled_at < clock_timestamp() - make_interval(days => %(days)s) AND NOT released
RETURNING instance_id;
