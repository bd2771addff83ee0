-- Who counts rows of studies counts studies: a row that an earlier recipe left behind is no study of the consumer's.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

CREATE OR REPLACE VIEW studies AS
SELECT ledger_id, archive, study_instance_uid, accession_number, recipe,
       state::text AS state, code, reason, attempts, next_attempt_at,
       announced, held, missing, report_version,
       discovered_at, retrieving_at, complete_at, drafted_at, reported_at, skipped_at, failed_at, updated_at,
       in_force AS current,
       report_id,
       study_date,
       modalities
FROM ledger
WHERE in_force;

COMMENT ON VIEW studies IS 'One row for each study and archive, of the recipe last asked for; earlier drafts are in report_versions.';
COMMENT ON COLUMN studies.current IS 'Always true: rows of earlier recipes are not listed.';
COMMENT ON COLUMN reports.ledger_id IS 'Row of the ledger whose draft this is; the name of a study in logs.';

RESET ROLE;
RESET search_path;
