-- For consumers who read Postgres directly. Columns are added at the end, never changed. A row of reports is a report that
-- is in force: what was withdrawn is in report_versions. One study is one row of reports, and one row of studies where
-- "current" is true.

CREATE OR REPLACE VIEW reports AS
SELECT d.study_instance_uid,
       v.accession_number,
       d.status,
       CASE WHEN d.written_by = 'machine' THEN v.findings END AS findings,
       CASE WHEN d.written_by = 'machine' THEN v.impression ELSE d.body ->> 'conclusion' END AS impression,
       v.language,
       v.model_id,
       v.recipe,
       d.version_id AS version,
       CASE WHEN d.version_id = v.version THEN v.created_at ELSE d.last_updated END AS created_at,
       as_served(d.body, d.version_id, d.last_updated) AS diagnostic_report,
       d.resource_id AS report_id,
       v.archive,
       v.ledger_id,
       d.patient,
       coalesce(l.study_date, (d.effective_at AT TIME ZONE 'UTC')::date) AS study_date,
       l.modalities
FROM resource AS d
JOIN LATERAL (
    SELECT * FROM report_version AS one
    WHERE one.report_id = d.resource_id AND one.version <= d.version_id
    ORDER BY one.version DESC LIMIT 1
) AS v ON true
JOIN ledger AS l ON l.ledger_id = v.ledger_id
WHERE d.resource_type = 'DiagnosticReport' AND d.status <> 'entered-in-error';

CREATE OR REPLACE VIEW studies AS
SELECT ledger_id, archive, study_instance_uid, accession_number, recipe,
       state::text AS state, code, reason, attempts, next_attempt_at,
       announced, held, missing, report_version,
       discovered_at, retrieving_at, complete_at, drafted_at, reported_at, skipped_at, failed_at, updated_at,
       in_force AS current,
       report_id,
       study_date,
       modalities
FROM ledger;

CREATE VIEW report_versions AS
SELECT h.resource_id AS report_id,
       h.version_id AS version,
       v.archive,
       v.ledger_id,
       v.study_instance_uid,
       v.accession_number,
       h.body ->> 'status' AS status,
       h.written_by,
       CASE WHEN h.written_by = 'machine' THEN v.findings END AS findings,
       CASE WHEN h.written_by = 'machine' THEN v.impression ELSE h.body ->> 'conclusion' END AS impression,
       v.language,
       v.model_id,
       v.recipe,
       v.reinstated_from,
       h.last_updated AS created_at,
       h.version_id = d.version_id AS current
FROM resource_history AS h
JOIN resource AS d ON d.resource_type = h.resource_type AND d.resource_id = h.resource_id
JOIN LATERAL (
    SELECT * FROM report_version AS one
    WHERE one.report_id = h.resource_id AND one.version <= h.version_id
    ORDER BY one.version DESC LIMIT 1
) AS v ON true
WHERE h.resource_type = 'DiagnosticReport';

CREATE VIEW findings AS
SELECT v.study_instance_uid,
       v.archive,
       v.ledger_id,
       d.resource_id AS report_id,
       d.version_id AS version,
       f.place::integer AS number,
       f.value ->> 'kind' AS kind,
       f.value ->> 'side' AS side,
       (f.value ->> 'present')::boolean AS present,
       (f.value ->> 'confidence')::double precision AS confidence,
       (f.value #>> '{region,x0}')::double precision AS x0,
       (f.value #>> '{region,y0}')::double precision AS y0,
       (f.value #>> '{region,x1}')::double precision AS x1,
       (f.value #>> '{region,y1}')::double precision AS y1,
       (f.value #>> '{region,frame}')::integer AS frame,
       f.value #>> '{region,ref,sop_instance_uid}' AS sop_instance_uid,
       f.value ->> 'zone' AS zone,
       f.value ->> 'severity' AS severity,
       f.value ->> 'sentence' AS sentence
FROM resource AS d
JOIN LATERAL (
    SELECT * FROM report_version AS one
    WHERE one.report_id = d.resource_id AND one.version <= d.version_id
    ORDER BY one.version DESC LIMIT 1
) AS v ON true
CROSS JOIN LATERAL jsonb_array_elements(v.draft -> 'findings') WITH ORDINALITY AS f (value, place)
WHERE d.resource_type = 'DiagnosticReport' AND d.status <> 'entered-in-error' AND d.written_by = 'machine';

COMMENT ON VIEW reports IS 'The report of each study that is in force: machine-made drafts, and what a person signed.';
COMMENT ON COLUMN reports.report_id IS 'Id of the FHIR DiagnosticReport; joins findings, report_versions and studies.';
COMMENT ON COLUMN reports.archive IS 'The archive from which the study was drafted.';
COMMENT ON COLUMN reports.ledger_id IS 'Row of studies whose draft this is; the name of a study in logs.';
COMMENT ON COLUMN reports.patient IS 'Reference to the FHIR Patient.';
COMMENT ON COLUMN reports.study_date IS 'Study Date as the archive told it, else the day of the report''s effective time.';
COMMENT ON COLUMN reports.modalities IS 'Modalities in Study as the archive told them; may be empty.';
COMMENT ON VIEW studies IS 'One row for each study, archive and recipe; count studies where current.';
COMMENT ON COLUMN studies.current IS 'True for the row of the recipe last asked for of this study: one for each study and archive.';
COMMENT ON VIEW report_versions IS 'Every version of every report, withdrawn and superseded ones included.';
COMMENT ON COLUMN report_versions.reinstated_from IS 'The earlier version whose content this version has again, else null.';
COMMENT ON VIEW findings IS 'One row for each statement of Findings of a machine-made draft in force; boxes in pixels of the original image.';
COMMENT ON COLUMN findings.present IS 'False where the draft states that the finding is absent.';
COMMENT ON COLUMN findings.confidence IS 'Probability of the classifier, 0 to 1; null where there is none.';

-- For our own review page; not part of the contract.
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
       v.archive
FROM resource AS d
JOIN LATERAL (
    SELECT * FROM report_version AS one
    WHERE one.report_id = d.resource_id AND one.version <= d.version_id
    ORDER BY one.version DESC LIMIT 1
) AS v ON true
JOIN ledger AS l ON l.ledger_id = v.ledger_id
LEFT JOIN resource AS p ON p.resource_type = 'Patient' AND p.resource_id = split_part(d.patient, '/', 2)
WHERE d.resource_type = 'DiagnosticReport';
