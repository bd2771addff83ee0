-- name: append
SELECT append_audit(%(chain)s, NULL, %(events)s::json);

-- name: append_access
SELECT append_access(%(events)s::json);

-- name: heads
SELECT chain, place, encode(row_hash, 'hex') FROM audit_chain ORDER BY chain;

-- name: rows
SELECT seq, chain, place, to_char(recorded AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       coalesce(ledger_id::text, ''), event::text, encode(previous_hash, 'hex'), encode(row_hash, 'hex')
FROM audit_event
ORDER BY chain, place, seq;

-- name: rows_as_written
SELECT seq, chain, place, to_char(recorded AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       coalesce(ledger_id::text, ''), event::text, encode(previous_hash, 'hex'), encode(row_hash, 'hex')
FROM audit_event
ORDER BY seq;

-- name: bound_resources
SELECT e.seq, e.chain, x.entity #>> '{what,reference}', x.entity #>> '{detail,0,valueString}', h.body::text
FROM audit_event AS e
CROSS JOIN LATERAL json_array_elements(
    CASE json_typeof(e.event -> 'entity') WHEN 'array' THEN e.event -> 'entity' ELSE '[]' END) AS x (entity)
LEFT JOIN resource_history AS h
    ON h.resource_type = split_part(x.entity #>> '{what,reference}', '/', 1)
   AND h.resource_id = split_part(x.entity #>> '{what,reference}', '/', 2)
   AND h.version_id::text = split_part(x.entity #>> '{what,reference}', '/', 4)
WHERE e.ledger_id IS NOT NULL AND x.entity #>> '{detail,0,type}' = 'sha256'
  AND x.entity #>> '{what,reference}' IS NOT NULL
ORDER BY e.seq;

-- name: bound_versions
SELECT e.seq, e.chain, x.entity #>> '{what,display}', x.entity #>> '{detail,0,valueString}',
       CASE WHEN v.report_id IS NOT NULL THEN jsonb_build_array(
           v.report_id, v.version, v.ledger_id, v.archive, v.study_instance_uid, v.accession_number, v.recipe,
           v.manifest_digest, v.language, v.model_id, v.findings, v.impression, v.draft, v.checks, v.left_out,
           v.completeness)::text END
FROM audit_event AS e
CROSS JOIN LATERAL json_array_elements(
    CASE json_typeof(e.event -> 'entity') WHEN 'array' THEN e.event -> 'entity' ELSE '[]' END) AS x (entity)
LEFT JOIN report_version AS v
    ON v.report_id = split_part(x.entity #>> '{what,display}', ' ', 2)
   AND v.version::text = split_part(x.entity #>> '{what,display}', ' ', 3)
WHERE e.ledger_id IS NOT NULL AND x.entity #>> '{detail,0,type}' = 'sha256'
  AND x.entity #>> '{what,display}' LIKE 'report_version %%'
ORDER BY e.seq;

-- name: drifted
SELECT r.resource_type || '/' || r.resource_id
FROM resource AS r
LEFT JOIN resource_history AS h
    ON h.resource_type = r.resource_type AND h.resource_id = r.resource_id AND h.version_id = r.version_id
WHERE h.body IS DISTINCT FROM r.body OR h.written_by <> r.written_by OR r.body ->> 'status' IS DISTINCT FROM r.status
ORDER BY 1
LIMIT 1;

-- name: row_at
SELECT seq, encode(row_hash, 'hex') FROM audit_event WHERE chain = %(chain)s AND place = %(place)s;
