-- What storing a study did twice or for nothing (bench_store).
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- They build JSON, which Postgres calls stable: said so, the planner writes them out instead of calling them.
ALTER FUNCTION content_digest(jsonb) STABLE;
ALTER FUNCTION written_entity(jsonb, jsonb) STABLE;

-- As in 0002, and: where the last event ends with its entities or has none, what was written is put behind as it is, instead
-- of reading the whole event and writing it anew.
CREATE OR REPLACE FUNCTION with_written(p_events json, p_written jsonb) RETURNS json
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    events text[];
    last text;
    keys text[];  -- in their order
BEGIN
    IF json_array_length(p_events) = 0 OR jsonb_array_length(p_written) = 0 THEN
        RETURN p_events;
    END IF;
    events := ARRAY(SELECT one.value::text FROM json_array_elements(p_events) WITH ORDINALITY AS one (value, place)
                    ORDER BY one.place);
    last := events[cardinality(events)];
    keys := ARRAY(SELECT json_object_keys(last::json));
    IF last LIKE '%}]}' AND keys[cardinality(keys)] = 'entity' THEN
        last := left(last, -2) || ',' || substr(p_written::text, 2) || '}';
    ELSIF last LIKE '%}' AND NOT 'entity' = ANY (keys) AND cardinality(keys) > 0 THEN
        last := left(last, -1) || ',"entity":' || p_written::text || '}';
    ELSE
        last := last::jsonb || jsonb_build_object('entity', coalesce(last::jsonb -> 'entity', '[]') || p_written);
    END IF;
    events[cardinality(events)] := last;
    RETURN '[' || array_to_string(events, ',') || ']';
END $$;

-- New keys wait in a short list, which a search reads too, and are sorted in together.
ALTER INDEX resource_identifiers SET (fastupdate = on, gin_pending_list_limit = 256);
ALTER INDEX resource_tokens SET (gin_pending_list_limit = 256);

-- As in 0002, and: what only a former draft can have left is looked for where there is one.
CREATE OR REPLACE FUNCTION save_report(
    p_ledger_id bigint, p_token bigint, p_report jsonb, p_resources jsonb, p_audit json,
    p_preview_series text[], p_preview_instances text[], p_preview_frames integer[],
    p_preview_rows integer[], p_preview_columns integer[], p_preview_jpegs bytea[],
    OUT outcome text, OUT version integer
)
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    study ledger;
    elsewhere ledger;
    last_report report_version;
    known resource;
    v_report_id text := p_report ->> 'report_id';
    v_completeness jsonb := p_report -> 'completeness';
    v_manifest text := v_completeness ->> 'manifest_digest';
    v_films integer := coalesce((v_completeness ->> 'films')::integer, 0);
    v_patient text := coalesce(p_report ->> 'patient_key', '');
    former boolean;  -- a draft of this report was stored before
    renewed boolean;
    written jsonb;
BEGIN
    SELECT * INTO study FROM ledger WHERE ledger_id = p_ledger_id FOR UPDATE;
    IF NOT FOUND OR study.token <> p_token THEN
        outcome := 'lost';
        RETURN;
    END IF;
    IF study.lease_owner IS NULL THEN
        outcome := CASE WHEN study.report_id = v_report_id AND study.reported_manifest = v_manifest
                        THEN 'saved' ELSE 'lost' END;
        version := study.report_version;
        RETURN;
    END IF;
    IF v_patient <> '' THEN
        -- Two runs that draft one study from two archives decide one after the other.
        PERFORM pg_advisory_xact_lock(hashtextextended(study.study_instance_uid, 0));
        SELECT * INTO elsewhere FROM ledger AS l
        WHERE l.study_instance_uid = study.study_instance_uid AND l.archive <> study.archive
          AND l.stands AND l.patient_key = v_patient
        ORDER BY l.films DESC, l.ledger_id LIMIT 1;
        IF FOUND AND elsewhere.films >= v_films THEN
            outcome := 'duplicate';
            RETURN;
        END IF;
    END IF;
    SELECT * INTO known FROM resource
    WHERE resource_type = 'DiagnosticReport' AND resource_id = v_report_id FOR UPDATE;
    IF known.written_by = 'signer' THEN
        outcome := 'signed';
        RETURN;
    END IF;
    former := known.resource_id IS NOT NULL;
    IF former THEN
        SELECT * INTO last_report FROM report_version AS r
        WHERE r.report_id = v_report_id ORDER BY r.version DESC LIMIT 1;
    END IF;
    renewed := last_report.report_id IS NOT NULL
        AND (last_report.manifest_digest, last_report.recipe) IS DISTINCT FROM (v_manifest, study.recipe);

    written := put_resources(study.study_instance_uid, v_report_id, p_resources, renewed, false);
    IF former THEN
        written := written || withdraw_results(v_report_id, ARRAY(
            SELECT one ->> 'id' FROM jsonb_array_elements(p_resources) AS one
            WHERE one ->> 'resourceType' = 'Observation'));
    END IF;
    written := written || put_resources(study.study_instance_uid, v_report_id, p_resources, false, true);

    SELECT version_id INTO STRICT version FROM resource
    WHERE resource_type = 'DiagnosticReport' AND resource_id = v_report_id;

    INSERT INTO report_version AS r (
        report_id, version, ledger_id, archive, study_instance_uid, accession_number, recipe, manifest_digest,
        language, model_id, findings, impression, draft, checks, left_out, completeness)
    VALUES (
        v_report_id, version, p_ledger_id, study.archive, study.study_instance_uid,
        p_report ->> 'accession_number', study.recipe, v_manifest,
        p_report #>> '{draft,language}', p_report #>> '{draft,provenance,model_id}',
        p_report #>> '{draft,findings_text}', p_report #>> '{draft,impression_text}',
        p_report -> 'draft', p_report -> 'checks', p_report -> 'left_out', v_completeness)
    ON CONFLICT ON CONSTRAINT report_version_pkey DO NOTHING;
    IF FOUND THEN
        written := written || written_entity(
            jsonb_build_object('display', 'report_version ' || v_report_id || ' ' || version),
            jsonb_build_array(  -- version_content, from what is at hand instead of the stored row
                v_report_id, version, p_ledger_id, study.archive, study.study_instance_uid,
                p_report -> 'accession_number', study.recipe, v_manifest,
                p_report #> '{draft,language}', p_report #> '{draft,provenance,model_id}',
                p_report #> '{draft,findings_text}', p_report #> '{draft,impression_text}',
                p_report -> 'draft', p_report -> 'checks', p_report -> 'left_out', v_completeness));
        INSERT INTO preview
        SELECT v_report_id, save_report.version, one.ordinal - 1, one.series, one.instance, one.frame,
               one.jpeg, one.row_count, one.column_count
        FROM unnest(p_preview_series, p_preview_instances, p_preview_frames, p_preview_rows, p_preview_columns,
                    p_preview_jpegs)
             WITH ORDINALITY AS one (series, instance, frame, row_count, column_count, jpeg, ordinal);
        INSERT INTO outbox (topic, report_id, version, ledger_id)
        VALUES ('report', v_report_id, save_report.version, p_ledger_id);
    END IF;

    IF former THEN
        UPDATE ledger SET stands = false WHERE report_id = v_report_id AND ledger_id <> p_ledger_id AND stands;
    END IF;
    IF elsewhere.ledger_id IS NOT NULL THEN
        written := written || withdraw_report(elsewhere.ledger_id, 'duplicate-study',
            'archive ' || study.archive || ' has more films of the same study: reported from there (ledger row '
            || p_ledger_id || ')');
    END IF;
    UPDATE ledger SET
        state = 'reported', lease_owner = NULL, lease_process = NULL, lease_expires_at = NULL,
        attempts = 0, code = '', reason = '', next_attempt_at = NULL, first_short_at = NULL,
        accession_number = p_report ->> 'accession_number',
        announced = (v_completeness ->> 'announced')::integer,
        held = (v_completeness ->> 'held')::integer,
        missing = ARRAY(SELECT jsonb_array_elements_text(v_completeness -> 'missing')),
        damaged = v_completeness -> 'damaged',
        left_out = p_report -> 'left_out',
        manifest_digest = v_manifest, reported_manifest = v_manifest,
        films = v_films, reported_films = coalesce(v_completeness ->> 'films_digest', ''),
        announced_digest = v_completeness ->> 'announced_digest',
        report_id = v_report_id, report_version = save_report.version,
        stands = true, again = false, patient_key = v_patient, failed_program = '', failed_settings = ''
    WHERE ledger_id = p_ledger_id;
    PERFORM settle_received(p_ledger_id, study.archive, study.study_instance_uid, p_report -> 'received', 'reported')
    WHERE jsonb_array_length(p_report -> 'received') > 0;
    PERFORM release_rested(p_ledger_id) WHERE study.rediscovered;
    PERFORM append_audit('archive:' || study.archive, p_ledger_id, with_written(p_audit, written));
    outcome := 'saved';
END $$;

RESET ROLE;
RESET search_path;
