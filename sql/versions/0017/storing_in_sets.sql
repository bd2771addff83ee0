-- Drafted studies are stored several at once, with one statement for each table (docs/decisions/0050).
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- written_entity (0002) as the text that it is in an event.
CREATE FUNCTION entity_text(p_named text, p_name text, p_content text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT '{"what":{"' || p_named || '":' || to_json(p_name)::text || '},"type":{"system":'
        || '"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"},'
        || '"detail":[{"type":"sha256","valueString":"' || encode(sha256(convert_to(p_content, 'UTF8')), 'hex') || '"}]}'
$$;

-- Entities as JSON, as the text between the brackets: null where there are none.
CREATE FUNCTION entities_text(p_entities jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT nullif(substr(p_entities::text, 2, length(p_entities::text) - 2), '') $$;

-- One event with further entities. Where it ends with its entities, they are put behind them; else it is taken apart.
CREATE FUNCTION with_entities(p_event text, p_entities text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    entities text := p_event::json -> 'entity';
    event jsonb;
BEGIN
    IF coalesce(p_entities, '') = '' THEN
        RETURN p_event;
    ELSIF entities LIKE '[{%}]' AND right(p_event, length(entities) + 1) = entities || '}' THEN
        RETURN left(p_event, -2) || ',' || p_entities || ']}';
    END IF;
    event := p_event;
    RETURN event || jsonb_build_object('entity', coalesce(event -> 'entity', '[]') || ('[' || p_entities || ']')::jsonb);
END $$;
REVOKE EXECUTE ON FUNCTION entity_text(text, text, text), with_entities(text, text), entities_text(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION entity_text(text, text, text), with_entities(text, text), entities_text(jsonb) TO firstread_machine;

DROP FUNCTION save_report(bigint, bigint, jsonb, jsonb, json, text[], text[], integer[], integer[], integer[], bytea[]);
DROP FUNCTION save_masks(text, integer, text[], text[], text[], bytea[], integer[], bytea[]);

-- Stores drafted studies, all of them or none: one place in the first arrays is one study, and what it brings names its place.
-- outcomes are, place by place, 'saved' with the DiagnosticReport's version, or why a study alone was not stored: 'lost' where
-- another claim is newer, 'signed' where a person has taken over the report, 'duplicate' where another archive has as many
-- films. Where that is so of one of several, nothing is written, outcomes is null, and each is to be given alone. Called again
-- after an answer got lost, it gives the same version. Several must be of different studies, and may share a resource only
-- where all mean the same body, which then comes once.
CREATE FUNCTION save_reports(
    p_ledger_ids bigint[], p_tokens bigint[], p_reports text[],
    p_event_places integer[], p_events text[],
    p_resource_places integer[], p_resource_types text[], p_resource_ids text[], p_resources text[],
    p_preview_places integer[], p_preview_ordinals integer[], p_preview_series text[], p_preview_instances text[],
    p_preview_frames integer[], p_preview_rows integer[], p_preview_columns integer[], p_preview_jpegs bytea[],
    p_mask_places integer[], p_mask_series text[], p_mask_instances text[], p_mask_classes text[], p_mask_contents bytea[],
    p_overlay_places integer[], p_overlay_ordinals integer[], p_overlays bytea[],
    OUT outcomes text[], OUT versions integer[]
)
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    many integer := cardinality(p_ledger_ids);
    reports jsonb[] := p_reports::jsonb[];
    study record;
    report_ids text[] := '{}';
    uids text[] := '{}';
    archives text[] := '{}';
    recipes text[] := '{}';
    patients text[] := '{}';
    rediscovered bigint[] := '{}';
    elsewhere bigint[];   -- by place: the row of another archive that stands, and will not
    former integer[] := '{}';  -- places of reports of which a draft was stored before
    renewed text[] := '{}';
    entities text[] := '{}';  -- by place: of what was written
    stored integer[];
    at integer;
BEGIN
    FOR study IN
        SELECT l.*, one.place::integer, one.token AS claimed, r.report ->> 'report_id' AS named,
               coalesce(r.report ->> 'patient_key', '') AS patient, r.report #>> '{completeness,manifest_digest}' AS manifest
        FROM unnest(p_ledger_ids, p_tokens) WITH ORDINALITY AS one (ledger_id, token, place)
        JOIN ledger AS l ON l.ledger_id = one.ledger_id AND l.ledger_id = ANY (p_ledger_ids),
             LATERAL (SELECT reports[one.place] AS report) AS r
        ORDER BY l.ledger_id FOR UPDATE OF l
    LOOP
        IF study.token <> study.claimed OR study.lease_owner IS NULL THEN
            IF many = 1 THEN
                outcomes := ARRAY['lost'];
                IF study.token = study.claimed AND study.report_id = study.named
                   AND study.reported_manifest = study.manifest THEN
                    outcomes := ARRAY['saved'];
                END IF;
                versions := ARRAY[study.report_version];
            END IF;
            RETURN;
        END IF;
        IF study.study_instance_uid = ANY (uids) THEN
            RETURN;
        END IF;
        report_ids[study.place] := study.named;
        uids[study.place] := study.study_instance_uid;
        archives[study.place] := study.archive;
        recipes[study.place] := study.recipe;
        patients[study.place] := study.patient;
        IF study.rediscovered THEN
            rediscovered := rediscovered || study.ledger_id;
        END IF;
    END LOOP;
    IF cardinality(array_remove(uids, NULL)) < many THEN  -- one is not in the ledger
        outcomes := CASE WHEN many = 1 THEN ARRAY['lost'] END;
        RETURN;
    END IF;

    -- Two runs that draft one study from two archives decide one after the other.
    PERFORM pg_advisory_xact_lock(key)
    FROM (SELECT DISTINCT hashtextextended(one.uid, 0) AS key FROM unnest(uids, patients) AS one (uid, patient)
          WHERE one.patient <> '' ORDER BY 1) AS keys;
    FOR study IN
        SELECT one.place::integer, e.ledger_id, e.films,
               coalesce((reports[one.place] #>> '{completeness,films}')::integer, 0) AS ours
        FROM unnest(uids, archives, patients) WITH ORDINALITY AS one (uid, archive, patient, place),
             LATERAL (SELECT l.ledger_id, l.films FROM ledger AS l
                      WHERE l.study_instance_uid = one.uid AND l.archive <> one.archive
                        AND l.stands AND l.patient_key = one.patient
                      ORDER BY l.films DESC, l.ledger_id LIMIT 1) AS e
        WHERE one.patient <> ''
    LOOP
        IF study.films >= study.ours THEN
            outcomes := CASE WHEN many = 1 THEN ARRAY['duplicate'] END;
            RETURN;
        END IF;
        elsewhere[study.place] := study.ledger_id;
    END LOOP;
    FOR study IN
        SELECT one.place::integer, r.written_by
        FROM unnest(report_ids) WITH ORDINALITY AS one (report_id, place)
        JOIN resource AS r ON r.resource_type = 'DiagnosticReport' AND r.resource_id = one.report_id
                              AND r.resource_id = ANY (report_ids)
        ORDER BY r.resource_id FOR UPDATE OF r
    LOOP
        IF study.written_by = 'signer' THEN
            outcomes := CASE WHEN many = 1 THEN ARRAY['signed'] END;
            RETURN;
        END IF;
        former := former || study.place;
        PERFORM FROM report_version AS v
        WHERE v.report_id = report_ids[study.place] AND v.version = (
                  SELECT max(l.version) FROM report_version AS l WHERE l.report_id = report_ids[study.place])
          AND (v.manifest_digest, v.recipe)
              IS DISTINCT FROM (reports[study.place] #>> '{completeness,manifest_digest}', recipes[study.place]);
        IF FOUND THEN
            renewed := renewed || report_ids[study.place];
        END IF;
    END LOOP;

    -- In the order of the key, so that two calls that share a Patient never wait for each other in a ring; what names versions of
    -- the others (Provenance) after them.
    FOR after IN 0 .. ('Provenance' = ANY (p_resource_types))::integer LOOP
        FOR study IN
            WITH sent AS MATERIALIZED (
                SELECT one.place, one.kind, one.id, one.body::jsonb AS body
                FROM unnest(p_resource_places, p_resource_types, p_resource_ids, p_resources) AS one (place, kind, id, body)
                WHERE (one.kind = 'Provenance') = (after = 1)
            ), put AS (
                INSERT INTO resource AS r (resource_type, resource_id, version_id, last_updated, body, study_instance_uid,
                                           written_by, report_id)
                SELECT kind, id, 1, now(), CASE WHEN after = 1 THEN with_versions(body) ELSE body END,
                       CASE WHEN kind IN ('DiagnosticReport', 'Observation', 'ImagingStudy', 'Provenance') THEN uids[place] END,
                       'machine',
                       CASE WHEN kind IN ('DiagnosticReport', 'Observation', 'Provenance') THEN report_ids[place] END
                FROM sent ORDER BY kind, id
                ON CONFLICT (resource_type, resource_id) DO UPDATE
                    SET body = EXCLUDED.body, study_instance_uid = EXCLUDED.study_instance_uid, report_id = EXCLUDED.report_id
                    WHERE r.body IS DISTINCT FROM EXCLUDED.body
                       OR (r.resource_type = 'DiagnosticReport' AND r.resource_id = ANY (renewed))
                RETURNING r.resource_type, r.resource_id, r.version_id, r.body
            )
            SELECT sent.place, string_agg(entity_text('reference', put.resource_type || '/' || put.resource_id || '/_history/'
                                                       || put.version_id, put.body::text), ',') AS entities
            FROM put JOIN sent ON sent.kind = put.resource_type AND sent.id = put.resource_id
            GROUP BY sent.place
        LOOP
            entities[study.place] := concat_ws(',', entities[study.place], study.entities);
        END LOOP;
        IF after = 0 THEN
            FOREACH at IN ARRAY former LOOP
                entities[at] := concat_ws(',', entities[at], entities_text(withdraw_results(report_ids[at], ARRAY(
                    SELECT one.id FROM unnest(p_resource_places, p_resource_types, p_resource_ids) AS one (place, kind, id)
                    WHERE one.place = at AND one.kind = 'Observation'))));
            END LOOP;
        END IF;
    END LOOP;

    versions := ARRAY(
        SELECT r.version_id
        FROM unnest(report_ids) WITH ORDINALITY AS one (report_id, place)
        LEFT JOIN LATERAL (SELECT version_id FROM resource
                           WHERE resource_type = 'DiagnosticReport' AND resource_id = one.report_id LIMIT 1) AS r ON true
        ORDER BY one.place);
    IF array_position(versions, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a report without a DiagnosticReport' USING ERRCODE = 'FR005';
    END IF;

    FOR study IN
        WITH sent AS MATERIALIZED (
            SELECT one.place::integer, one.report_id, one.version, one.report -> 'completeness' AS completeness,
                   one.report -> 'draft' AS draft, one.report
            FROM unnest(report_ids, versions, reports) WITH ORDINALITY AS one (report_id, version, report, place)
        ), stored AS (
            INSERT INTO report_version AS r (
                report_id, version, ledger_id, archive, study_instance_uid, accession_number, recipe, manifest_digest,
                language, model_id, findings, impression, draft, checks, left_out, completeness)
            SELECT report_id, version, p_ledger_ids[place], archives[place], uids[place], report ->> 'accession_number',
                   recipes[place], completeness ->> 'manifest_digest', draft ->> 'language',
                   draft #>> '{provenance,model_id}', draft ->> 'findings_text', draft ->> 'impression_text',
                   draft, report -> 'checks', report -> 'left_out', completeness
            FROM sent ORDER BY report_id
            ON CONFLICT ON CONSTRAINT report_version_pkey DO NOTHING
            RETURNING r.report_id
        )
        SELECT place, entity_text('display', 'report_version ' || report_id || ' ' || version, jsonb_build_array(
                   -- version_content, from what is at hand instead of the stored row
                   report_id, version, p_ledger_ids[place], archives[place], uids[place], report -> 'accession_number',
                   recipes[place], completeness -> 'manifest_digest', draft -> 'language', draft #> '{provenance,model_id}',
                   draft -> 'findings_text', draft -> 'impression_text', draft, report -> 'checks', report -> 'left_out',
                   completeness)::text) AS entity
        FROM stored JOIN sent USING (report_id)
    LOOP
        stored := stored || study.place;
        entities[study.place] := concat_ws(',', entities[study.place], study.entity);
    END LOOP;
    INSERT INTO preview
    SELECT report_ids[one.place], versions[one.place], one.ordinal, one.series, one.instance, one.frame, one.jpeg,
           one.row_count, one.column_count
    FROM unnest(p_preview_places, p_preview_ordinals, p_preview_series, p_preview_instances, p_preview_frames,
                p_preview_rows, p_preview_columns, p_preview_jpegs)
         AS one (place, ordinal, series, instance, frame, row_count, column_count, jpeg)
    WHERE one.place = ANY (stored);
    IF cardinality(p_mask_places) > 0 THEN  -- the first of two files of one UID stays, as DICOM has it
        INSERT INTO mask (sop_instance_uid, series_instance_uid, sop_class_uid, report_id, version, content)
        SELECT one.instance, one.series, one.class, report_ids[one.place], versions[one.place], one.content
        FROM unnest(p_mask_places, p_mask_series, p_mask_instances, p_mask_classes, p_mask_contents)
             AS one (place, series, instance, class, content)
        ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(p_overlay_places) > 0 THEN
        INSERT INTO preview_overlay (report_id, version, ordinal, png)
        SELECT report_ids[one.place], versions[one.place], one.ordinal, one.png
        FROM unnest(p_overlay_places, p_overlay_ordinals, p_overlays) AS one (place, ordinal, png)
        ON CONFLICT DO NOTHING;
    END IF;

    FOREACH at IN ARRAY former LOOP
        UPDATE ledger SET stands = false
        WHERE report_id = report_ids[at] AND ledger_id <> p_ledger_ids[at] AND stands;
    END LOOP;
    FOR at IN 1 .. coalesce(array_upper(elsewhere, 1), 0) LOOP
        IF elsewhere[at] IS NOT NULL THEN
            entities[at] := concat_ws(',', entities[at], entities_text(withdraw_report(elsewhere[at], 'duplicate-study',
                'archive ' || archives[at] || ' has more films of the same study: reported from there (ledger row '
                || p_ledger_ids[at] || ')')));
        END IF;
    END LOOP;
    UPDATE ledger AS l SET
        state = 'reported', lease_owner = NULL, lease_process = NULL, lease_expires_at = NULL,
        attempts = 0, code = '', reason = '', next_attempt_at = NULL, first_short_at = NULL,
        accession_number = one.report ->> 'accession_number',
        announced = (one.completeness ->> 'announced')::integer,
        held = (one.completeness ->> 'held')::integer,
        missing = ARRAY(SELECT jsonb_array_elements_text(one.completeness -> 'missing')),
        damaged = one.completeness -> 'damaged',
        left_out = one.report -> 'left_out',
        manifest_digest = one.completeness ->> 'manifest_digest', reported_manifest = one.completeness ->> 'manifest_digest',
        films = coalesce((one.completeness ->> 'films')::integer, 0),
        reported_films = coalesce(one.completeness ->> 'films_digest', ''),
        announced_digest = one.completeness ->> 'announced_digest',
        report_id = one.report_id, report_version = one.version,
        stands = true, again = false, patient_key = one.patient, failed_program = '', failed_settings = ''
    FROM (SELECT s.*, s.report -> 'completeness' AS completeness
          FROM unnest(p_ledger_ids, reports, report_ids, versions, patients)
               AS s (ledger_id, report, report_id, version, patient) OFFSET 0) AS one
    WHERE l.ledger_id = one.ledger_id AND l.ledger_id = ANY (p_ledger_ids);
    PERFORM settle_received(one.ledger_id, one.archive, one.uid, one.report -> 'received', 'reported')
    FROM unnest(p_ledger_ids, archives, uids, reports) AS one (ledger_id, archive, uid, report)
    WHERE jsonb_array_length(one.report -> 'received') > 0;
    PERFORM release_rested(one) FROM unnest(rediscovered) AS one;

    -- Chain by chain, so that no two calls wait for each other's heads; of each study in the order of its events.
    INSERT INTO audit_event (chain, ledger_id, event, place, recorded, previous_hash, row_hash)
    SELECT 'archive:' || archives[one.place], p_ledger_ids[one.place],
           CASE WHEN one.last THEN with_entities(one.event, entities[one.place]) ELSE one.event END::json, 0, now(), '', ''
    FROM (SELECT e.place, e.event, e.n, e.place IS DISTINCT FROM lead(e.place) OVER (ORDER BY e.n) AS last
          FROM unnest(p_event_places, p_events) WITH ORDINALITY AS e (place, event, n)) AS one
    ORDER BY archives[one.place], one.n;
    outcomes := array_fill('saved'::text, ARRAY[many]);
END $$;

REVOKE EXECUTE ON FUNCTION save_reports(
    bigint[], bigint[], text[], integer[], text[], integer[], text[], text[], text[],
    integer[], integer[], text[], text[], integer[], integer[], integer[], bytea[],
    integer[], text[], text[], text[], bytea[], integer[], integer[], bytea[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION save_reports(
    bigint[], bigint[], text[], integer[], text[], integer[], text[], text[], text[],
    integer[], integer[], text[], text[], integer[], integer[], integer[], bytea[],
    integer[], text[], text[], text[], bytea[], integer[], integer[], bytea[]) TO firstread_machine;

RESET ROLE;
RESET search_path;
