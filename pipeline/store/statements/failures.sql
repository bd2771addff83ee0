-- name: counted
SELECT count(*) FROM failed_study;

-- name: page
SELECT ledger_id, archive, study_instance_uid, accession_number, study_date, code, reason, attempts, failed_at,
       next_attempt_at, signed, report_id, patient
FROM failed_study
WHERE %(before_time)s::timestamptz IS NULL OR (failed_at, ledger_id) < (%(before_time)s, %(before_id)s::bigint)
ORDER BY failed_at DESC, ledger_id DESC
LIMIT %(limit)s;

-- name: one
SELECT ledger_id, archive, study_instance_uid, accession_number, study_date, code, reason, attempts, failed_at,
       next_attempt_at, signed, report_id, patient
FROM failed_study
WHERE ledger_id = %(ledger_id)s;

-- name: draft_anew
SELECT draft_failed_anew(%(ledger_id)s, %(event)s::json);
