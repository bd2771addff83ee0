-- A report that a person has taken over is not drafted anew; that its study has changed since stood in the ledger alone.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

CREATE OR REPLACE VIEW report_row AS
SELECT d.resource_id AS report_id,
       coalesce(split_part(d.patient, '/', 2), '') AS patient,
       coalesce(p.body #>> '{name,0,text}', '') AS patient_name,
       coalesce(p.body #>> '{identifier,0,value}', '') AS patient_id,
       v.accession_number,
       v.study_instance_uid,
       coalesce(l.study_date, (d.effective_at AT TIME ZONE 'UTC')::date) AS study_date,
       d.status,
       v.language,
       v.model_id,
       d.version_id AS version,
       d.last_updated AS created_at,
       jsonb_array_length(jsonb_path_query_array(v.checks, '$[*] ? (@.verdict != "passed")')) AS warnings,
       jsonb_array_length(v.completeness -> 'missing') AS gap,
       v.archive,
       v.critical AND d.written_by = 'machine' AND d.status IN ('partial', 'preliminary') AS critical,
       d.written_by = 'signer' AND EXISTS (
           SELECT FROM ledger AS c
           WHERE c.study_instance_uid = v.study_instance_uid AND c.archive = v.archive AND c.in_force AND c.code = 'report-signed'
       ) AS changed_since
FROM resource AS d
JOIN LATERAL (
    SELECT * FROM report_version AS one
    WHERE one.report_id = d.resource_id AND one.version <= d.version_id
    ORDER BY one.version DESC LIMIT 1
) AS v ON true
JOIN ledger AS l ON l.ledger_id = v.ledger_id
LEFT JOIN resource AS p ON p.resource_type = 'Patient' AND p.resource_id = split_part(d.patient, '/', 2)
WHERE d.resource_type = 'DiagnosticReport';

RESET ROLE;
RESET search_path;
