-- What the release before left: which draft stands, what belongs to which report, and the results of superseded drafts,
-- which it left in force and which are withdrawn here, through the same triggers, with an audit event for each report.
-- The marks alone are no new versions: the triggers sleep while they are set.

ALTER TABLE resource DISABLE TRIGGER USER;
ALTER TABLE ledger DISABLE TRIGGER USER;

UPDATE resource SET report_id = resource_id WHERE resource_type = 'DiagnosticReport';
UPDATE resource AS o SET report_id = named.report_id
FROM (SELECT DISTINCT h.resource_id AS report_id, split_part(one ->> 'reference', '/', 2) AS observation
      FROM resource_history AS h, jsonb_array_elements(h.body -> 'result') AS one
      WHERE h.resource_type = 'DiagnosticReport') AS named
WHERE o.resource_type = 'Observation' AND o.resource_id = named.observation;
UPDATE resource AS p SET report_id = split_part(one ->> 'reference', '/', 2)
FROM resource AS source, jsonb_array_elements(source.body -> 'target') AS one
WHERE p.resource_type = 'Provenance' AND source.resource_type = 'Provenance' AND source.resource_id = p.resource_id
  AND one ->> 'reference' LIKE 'DiagnosticReport/%';

UPDATE ledger AS l SET
    stands = v.version = (SELECT max(r.version) FROM report_version AS r WHERE r.report_id = v.report_id),
    films = jsonb_array_length(v.draft -> 'images'),
    patient_key = coalesce((
        SELECT encode(sha256(convert_to(
                   coalesce(p.body #>> '{identifier,0,assigner,display}', '') || E'\n'
                   || (p.body #>> '{identifier,0,value}'), 'UTF8')), 'hex')
        FROM resource_history AS d
        JOIN resource AS p ON p.resource_type = 'Patient'
                          AND p.resource_id = split_part(d.body #>> '{subject,reference}', '/', 2)
        WHERE d.resource_type = 'DiagnosticReport' AND d.resource_id = v.report_id AND d.version_id = v.version), '')
FROM report_version AS v WHERE v.report_id = l.report_id AND v.version = l.report_version AND v.ledger_id = l.ledger_id;

-- In force is the recipe whose draft stands, else the newest row; the next sweep says it anew.
UPDATE ledger AS l SET in_force = false
WHERE l.ledger_id <> (
    SELECT one.ledger_id FROM ledger AS one
    WHERE one.archive = l.archive AND one.study_instance_uid = l.study_instance_uid
    ORDER BY one.stands DESC, one.ledger_id DESC LIMIT 1);

ALTER TABLE ledger ENABLE TRIGGER USER;
ALTER TABLE resource ENABLE TRIGGER USER;

DO $$
DECLARE
    report record;
    written jsonb;
    provenances jsonb;
BEGIN
    FOR report IN
        SELECT d.resource_id, d.body, v.archive, v.ledger_id
        FROM resource AS d
        JOIN LATERAL (SELECT * FROM report_version AS one WHERE one.report_id = d.resource_id
                      ORDER BY one.version DESC LIMIT 1) AS v ON true
        WHERE d.resource_type = 'DiagnosticReport'
        ORDER BY d.resource_id
    LOOP
        written := withdraw_results(report.resource_id, ARRAY(
            SELECT split_part(one ->> 'reference', '/', 2) FROM jsonb_array_elements(report.body -> 'result') AS one));
        -- Each Provenance speaks of the version that was written with it, not of whatever is current.
        WITH patched AS (
            SELECT p.resource_id, p.body || jsonb_build_object('target', (
                       SELECT jsonb_agg(one.value || jsonb_build_object('reference',
                                  (one.value ->> 'reference') || coalesce('/_history/' || (
                                      SELECT max(h.version_id) FROM resource_history AS h
                                      WHERE h.resource_type = split_part(one.value ->> 'reference', '/', 1)
                                        AND h.resource_id = split_part(one.value ->> 'reference', '/', 2)
                                        AND h.body ->> 'status' <> 'entered-in-error'
                                        AND (h.resource_type <> 'DiagnosticReport' OR EXISTS (
                                            SELECT FROM jsonb_array_elements(h.body -> 'result') AS o
                                            WHERE p.body -> 'target' @> jsonb_build_array(
                                                jsonb_build_object('reference', o -> 'reference'))))), ''))
                              ORDER BY one.place)
                       FROM jsonb_array_elements(p.body -> 'target') WITH ORDINALITY AS one (value, place))) AS body
            FROM resource AS p
            WHERE p.resource_type = 'Provenance' AND p.report_id = report.resource_id
              AND p.body -> 'target' @? '$[*].reference ? (!(@ like_regex "/_history/"))'
        ), put AS (
            UPDATE resource AS r SET body = patched.body FROM patched
            WHERE r.resource_type = 'Provenance' AND r.resource_id = patched.resource_id
            RETURNING r.resource_id, r.version_id, r.body
        )
        SELECT coalesce(jsonb_agg(written_entity(jsonb_build_object(
                   'reference', 'Provenance/' || resource_id || '/_history/' || version_id), body)), '[]')
        INTO provenances FROM put;
        written := written || provenances;
        IF jsonb_array_length(written) > 0 THEN
            PERFORM append_audit('archive:' || report.archive, report.ledger_id, with_written(json_build_array(
                json_build_object(
                    'resourceType', 'AuditEvent',
                    'type', json_build_object('system', 'http://terminology.hl7.org/CodeSystem/audit-event-type',
                                              'code', 'rest', 'display', 'RESTful Operation'),
                    'subtype', json_build_array(json_build_object(
                        'system', 'http://hl7.org/fhir/restful-interaction', 'code', 'update', 'display', 'update')),
                    'action', 'U',
                    'recorded', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                    'outcome', '0',
                    'outcomeDesc', 'upgrade to schema 0002: results of superseded drafts withdrawn, Provenance names versions',
                    'agent', json_build_array(json_build_object('requestor', true, 'who', json_build_object(
                        'identifier', json_build_object('system', 'urn:firstread:application', 'value', 'Firstread'),
                        'display', 'Firstread'))),
                    'source', json_build_object('observer', json_build_object(
                        'identifier', json_build_object('system', 'urn:firstread:application', 'value', 'Firstread'),
                        'display', 'Firstread')),
                    'entity', json_build_array())), written));
        END IF;
    END LOOP;
END $$;

ANALYZE ledger;
