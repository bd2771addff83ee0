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

-- For our own review page; not part of the contract.
CREATE VIEW report_row AS
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
       jsonb_array_length(v.completeness -> 'missing') AS gap
FROM resource AS d
JOIN LATERAL (
    SELECT * FROM report_version AS one
    WHERE one.report_id = d.resource_id AND one.version <= d.version_id
    ORDER BY one.version DESC LIMIT 1
) AS v ON true
JOIN ledger AS l ON l.ledger_id = v.ledger_id
LEFT JOIN resource AS p ON p.resource_type = 'Patient' AND p.resource_id = split_part(d.patient, '/', 2)
WHERE d.resource_type = 'DiagnosticReport';

-- True when an instant lies in every range; a range is since <= instant < until, or all but that. No range asks nothing.
CREATE FUNCTION in_ranges(
    instant timestamptz, since timestamptz[], until timestamptz[], outside boolean[]
) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT cardinality(since) = 0 OR (instant IS NOT NULL AND NOT EXISTS (
        SELECT FROM unnest(since, until, outside) AS r (since, until, outside)
        WHERE r.outside = (coalesce(instant >= r.since, true) AND coalesce(instant < r.until, true))))
$$;
