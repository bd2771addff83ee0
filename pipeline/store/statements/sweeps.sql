-- name: begin
INSERT INTO sweep (archive, recipe, since, until, onward, whole_until, begun_at, undated)
VALUES (%(archive)s, %(recipe)s, %(since)s, %(until)s, %(onward)s, %(whole_until)s, %(begun_at)s, %(undated)s)
RETURNING sweep_id;

-- name: passed_over
UPDATE sweep SET passed_over = %(passed_over)s::jsonb WHERE sweep_id = %(sweep_id)s;

-- name: refused
INSERT INTO refusal AS r (archive, sender, reason, refused, first_at, last_at)
SELECT %(archive)s, n.sender, n.reason, n.refused, now(), now()
FROM unnest(%(senders)s::text[], %(reasons)s::text[], %(counts)s::bigint[]) AS n (sender, reason, refused)
ON CONFLICT (archive, sender, reason) DO UPDATE SET refused = r.refused + EXCLUDED.refused, last_at = now();

-- name: turned_away
SELECT archive, source, reason, count, last_at FROM (
    SELECT s.archive, 'search' AS source, p.key AS reason, p.value::bigint AS count, s.begun_at AS last_at
    FROM (SELECT DISTINCT ON (archive) * FROM sweep ORDER BY archive, begun_at DESC, sweep_id DESC) AS s,
         jsonb_each_text(s.passed_over) AS p
    UNION ALL
    SELECT archive, sender, reason, refused, last_at FROM refusal
) AS t
WHERE %(archive)s::text IS NULL OR archive = %(archive)s
ORDER BY archive, source = 'search' DESC, count DESC, reason, source;

-- name: undated_since
SELECT EXISTS (SELECT FROM sweep WHERE archive = %(archive)s AND undated AND ended_at IS NOT NULL
               AND begun_at >= %(moment)s);

-- name: covered_until
SELECT covered_until FROM sweep WHERE archive = %(archive)s AND ended_at IS NOT NULL
ORDER BY ended_at DESC LIMIT 1;

-- name: end
-- Sweeps of one archive end one after the other: each goes on from what the one before covered.
WITH turn AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended('firstread sweep ' || archive, 0)), archive
    FROM sweep WHERE sweep_id = %(sweep_id)s
), before AS (
    SELECT (SELECT s.covered_until FROM sweep AS s
            WHERE s.archive = t.archive AND s.ended_at IS NOT NULL ORDER BY s.ended_at DESC LIMIT 1) AS day
    FROM turn AS t
)
UPDATE sweep AS s SET
    ended_at = clock_timestamp(),
    covered_until = CASE
        WHEN b.day IS NULL THEN CASE WHEN s.onward OR s.since IS NULL THEN s.whole_until END
        WHEN s.since IS NULL OR s.since <= b.day + 1 THEN greatest(b.day, s.whole_until)
        ELSE b.day
    END
FROM before AS b
WHERE s.sweep_id = %(sweep_id)s AND s.ended_at IS NULL;

-- name: swept_since
SELECT EXISTS (SELECT FROM sweep WHERE archive = %(archive)s AND recipe = %(recipe)s AND onward
               AND ended_at IS NOT NULL AND begun_at >= %(moment)s);

-- name: pause
INSERT INTO pause (paused_by, reason) VALUES (%(who)s, %(why)s)
ON CONFLICT ((true)) WHERE resumed_at IS NULL DO NOTHING
RETURNING pause_id;

-- name: resume
UPDATE pause SET resumed_at = clock_timestamp(), resumed_by = %(who)s WHERE resumed_at IS NULL
RETURNING paused_at, paused_by, reason;

-- name: holding
SELECT paused_at, paused_by, reason FROM pause WHERE resumed_at IS NULL;

-- name: received_ready
-- Rows of studies that were pushed, handed over so many seconds ago, and nobody works on.
SELECT l.ledger_id FROM ledger AS l
WHERE l.archive = %(archive)s AND l.recipe = %(recipe)s
  AND (l.state = 'discovered' OR (l.state = 'failed' AND l.next_attempt_at <= now())
       OR (l.state IN ('retrieving', 'complete', 'drafted') AND l.lease_expires_at <= now()))
  AND EXISTS (SELECT FROM instance AS i WHERE i.archive = l.archive
              AND i.study_instance_uid = l.study_instance_uid AND i.path <> ''
              AND i.handed_over_at <= clock_timestamp() - make_interval(secs => %(seconds)s))
ORDER BY l.ledger_id;

-- name: received_unknown
-- Studies that were handed over under another recipe, of which something is not settled yet.
SELECT DISTINCT i.study_instance_uid FROM instance AS i
WHERE i.archive = %(archive)s AND i.path <> '' AND i.handed_over_at IS NOT NULL AND i.settled_at IS NULL
  AND NOT EXISTS (SELECT FROM ledger AS l WHERE l.archive = i.archive
                  AND l.study_instance_uid = i.study_instance_uid AND l.recipe = %(recipe)s)
ORDER BY 1;
