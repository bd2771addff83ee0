-- The audit event of a write names what was written, by version and digest: a row changed later is found by it.

-- SHA-256 over the text that Postgres gives of a stored body; pipeline/store/audit.py recomputes it.
CREATE FUNCTION content_digest(content jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(sha256(convert_to(content::text, 'UTF8')), 'hex')
$$;

-- What a report_version row holds, in this order for ever: its digest is over the text of this array.
CREATE FUNCTION version_content(v report_version) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_array(v.report_id, v.version, v.ledger_id, v.archive, v.study_instance_uid, v.accession_number,
        v.recipe, v.manifest_digest, v.language, v.model_id, v.findings, v.impression, v.draft, v.checks, v.left_out,
        v.completeness)
$$;

CREATE FUNCTION written_entity(named jsonb, content jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(
        'what', named,
        'type', jsonb_build_object('system', 'http://terminology.hl7.org/CodeSystem/audit-entity-type',
                                   'code', '2', 'display', 'System Object'),
        'detail', jsonb_build_array(jsonb_build_object(
            'type', 'sha256', 'valueString', firstread.content_digest(content))))
$$;

-- p_events with the written entities in the last of them, which is the one that says what was written.
CREATE FUNCTION with_written(p_events json, p_written jsonb) RETURNS json
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN json_array_length(p_events) = 0 OR jsonb_array_length(p_written) = 0 THEN p_events
        ELSE (SELECT json_agg(CASE
                  WHEN one.place < json_array_length(p_events) THEN one.value
                  ELSE (one.value::jsonb || jsonb_build_object(
                      'entity', coalesce(one.value::jsonb -> 'entity', '[]') || p_written))::json END
                  ORDER BY one.place)
              FROM json_array_elements(p_events) WITH ORDINALITY AS one (value, place))
    END
$$;
