-- name: append
SELECT append_audit(%(chain)s, NULL, %(events)s::json);

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
