-- Which drafts state a critical finding, so that the list of the review page can begin with them.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- One is stated as present, whoever or whatever is sure of it: a pneumothorax, of the kinds that drafts are read for the only
-- one that a radiologist is called for at once.
ALTER TABLE report_version ADD COLUMN critical boolean NOT NULL GENERATED ALWAYS AS (
    jsonb_path_exists(draft, '$.findings[*] ? (@.present == true && @.kind == "pneumothorax")')) STORED;
CREATE INDEX report_version_critical ON report_version (report_id) WHERE critical;

-- As in 0002, and: critical, of a draft that no person has taken over yet.
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
       v.critical AND d.written_by = 'machine' AND d.status IN ('partial', 'preliminary') AS critical
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
