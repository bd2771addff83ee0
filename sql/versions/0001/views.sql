-- For consumers who read Postgres directly. The columns are a contract: they are added to, never changed.

-- A resource as FHIR REST would give it: with meta.versionId and meta.lastUpdated.
CREATE FUNCTION as_served(body jsonb, version_id integer, last_updated timestamptz) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT body || jsonb_build_object('meta', coalesce(body -> 'meta', '{}') || jsonb_build_object(
        'versionId', version_id::text,
        'lastUpdated', to_char(last_updated AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')))
$$;

-- The current version of each report. Where a person wrote it, the machine's Findings are no longer shown.
CREATE VIEW reports AS
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
       as_served(d.body, d.version_id, d.last_updated) AS diagnostic_report
FROM resource AS d
JOIN LATERAL (
    SELECT * FROM report_version AS one
    WHERE one.report_id = d.resource_id AND one.version <= d.version_id
    ORDER BY one.version DESC LIMIT 1
) AS v ON true
WHERE d.resource_type = 'DiagnosticReport';

CREATE VIEW studies AS
SELECT ledger_id, archive, study_instance_uid, accession_number, recipe,
       state::text AS state, code, reason, attempts, next_attempt_at,
       announced, held, missing, report_version,
       discovered_at, retrieving_at, complete_at, drafted_at, reported_at, skipped_at, failed_at, updated_at
FROM ledger;
