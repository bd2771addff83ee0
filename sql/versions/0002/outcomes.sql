-- The functions that write a study's outcome, as in 0001, and now in the same transaction: what the new version no longer
-- has is withdrawn, Provenance names versions, the audit names digests, the inbox is settled, one study of several archives
-- stays one. Plans are kept for a session: made while the tables are small they would scan them for ever, so no scan is
-- allowed (enable_seqscan).

-- A reference to the version that is current.
CREATE FUNCTION versioned(p_reference text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT p_reference || coalesce(
        '/_history/' || (SELECT version_id FROM firstread.resource
                         WHERE resource_type = split_part(p_reference, '/', 1)
                           AND resource_id = split_part(p_reference, '/', 2)), '')
$$;

-- A Provenance whose targets name the versions that are current.
CREATE FUNCTION with_versions(p_provenance jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT p_provenance || jsonb_build_object('target', (
        SELECT jsonb_agg(one.value || jsonb_build_object('reference', firstread.versioned(
                   split_part(one.value ->> 'reference', '/_history/', 1))) ORDER BY one.place)
        FROM jsonb_array_elements(p_provenance -> 'target') WITH ORDINALITY AS one (value, place)))
$$;

-- Puts resources in the order of their key, so that two studies that share a Patient never wait for each other in a ring;
-- p_renewed makes a new version of the DiagnosticReport even of the same body. The Provenance comes by a second call
-- (p_provenance), when the versions that it names are there. Gives the entities of what was written.
CREATE FUNCTION put_resources(
    p_study text, p_report_id text, p_resources jsonb, p_renewed boolean, p_provenance boolean
) RETURNS jsonb
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    written jsonb;
BEGIN
    WITH put AS (
        INSERT INTO resource AS r (resource_type, resource_id, version_id, last_updated, body, study_instance_uid,
                                   written_by, report_id)
        SELECT one ->> 'resourceType', one ->> 'id', 1, now(),
               CASE WHEN p_provenance THEN with_versions(one) ELSE one END,
               CASE WHEN one ->> 'resourceType' IN ('DiagnosticReport', 'Observation', 'ImagingStudy', 'Provenance')
                    THEN p_study END,
               'machine',
               CASE WHEN one ->> 'resourceType' IN ('DiagnosticReport', 'Observation', 'Provenance') THEN p_report_id END
        FROM jsonb_array_elements(p_resources) AS one
        WHERE (one ->> 'resourceType' = 'Provenance') = p_provenance
        ORDER BY 1, 2
        ON CONFLICT (resource_type, resource_id) DO UPDATE
            SET body = EXCLUDED.body, study_instance_uid = EXCLUDED.study_instance_uid, report_id = EXCLUDED.report_id
            WHERE r.body IS DISTINCT FROM EXCLUDED.body OR (p_renewed AND r.resource_type = 'DiagnosticReport')
        RETURNING r.resource_type, r.resource_id, r.version_id, r.body
    )
    SELECT coalesce(jsonb_agg(written_entity(jsonb_build_object(
               'reference', resource_type || '/' || resource_id || '/_history/' || version_id), body)), '[]')
    INTO written FROM put;
    RETURN written;
END $$;

-- Withdraws what the machine wrote for a report, but for the Observations of p_keep (and the report itself, where that is
-- not null): history keeps the former versions. A person's versions are left alone. Gives the entities of what was written.
CREATE FUNCTION withdraw_results(p_report_id text, p_keep text[]) RETURNS jsonb
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    written jsonb;
BEGIN
    WITH put AS (
        UPDATE resource AS r SET body = jsonb_set(r.body, '{status}', '"entered-in-error"')
        WHERE r.report_id = p_report_id AND r.written_by = 'machine'
          AND r.status NOT IN ('entered-in-error', 'cancelled')
          AND (r.resource_type = 'Observation' OR (r.resource_type = 'DiagnosticReport' AND p_keep IS NULL))
          AND NOT r.resource_id = ANY (coalesce(p_keep, '{}'))
        RETURNING r.resource_type, r.resource_id, r.version_id, r.body
    )
    SELECT coalesce(jsonb_agg(written_entity(jsonb_build_object(
               'reference', resource_type || '/' || resource_id || '/_history/' || version_id), body)), '[]')
    INTO written FROM put;
    RETURN written;
END $$;

-- Withdraws the whole report of a row that stands; the row itself comes to rest as skipped where it had been reported.
CREATE FUNCTION withdraw_report(p_ledger_id bigint, p_code text, p_reason text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    study ledger;
BEGIN
    UPDATE ledger SET
        stands = false,
        state = CASE WHEN state = 'reported' THEN 'skipped' ELSE state END,
        code = CASE WHEN state = 'reported' THEN p_code ELSE code END,
        reason = CASE WHEN state = 'reported' THEN p_reason ELSE reason END
    WHERE ledger_id = p_ledger_id RETURNING * INTO study;
    RETURN withdraw_results(study.report_id, NULL);
END $$;

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
    SELECT * INTO last_report FROM report_version AS r
    WHERE r.report_id = v_report_id ORDER BY r.version DESC LIMIT 1;
    renewed := last_report.report_id IS NOT NULL
        AND (last_report.manifest_digest, last_report.recipe) IS DISTINCT FROM (v_manifest, study.recipe);

    written := put_resources(study.study_instance_uid, v_report_id, p_resources, renewed, false);
    written := written || withdraw_results(v_report_id, ARRAY(
        SELECT one ->> 'id' FROM jsonb_array_elements(p_resources) AS one WHERE one ->> 'resourceType' = 'Observation'));
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

    UPDATE ledger SET stands = false WHERE report_id = v_report_id AND ledger_id <> p_ledger_id AND stands;
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

CREATE OR REPLACE FUNCTION rest_study(
    p_ledger_id bigint, p_token bigint, p_state ledger_state, p_code text, p_reason text,
    p_next_attempt_at timestamptz, p_completeness jsonb, p_left_out jsonb, p_audit json,
    OUT outcome text
)
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    study ledger;
    v_missing text[];
    v_manifest text := p_completeness ->> 'manifest_digest';
    v_report_id text;
    written jsonb := '[]';
BEGIN
    SELECT * INTO study FROM ledger WHERE ledger_id = p_ledger_id FOR UPDATE;
    IF NOT FOUND OR study.token <> p_token THEN
        outcome := 'lost';
        RETURN;
    END IF;
    IF study.lease_owner IS NULL THEN
        outcome := CASE WHEN study.code = p_code AND study.reason = p_reason THEN 'saved' ELSE 'lost' END;
        RETURN;
    END IF;
    v_missing := CASE WHEN p_completeness ? 'missing'
                      THEN ARRAY(SELECT jsonb_array_elements_text(p_completeness -> 'missing')) END;
    UPDATE ledger SET
        state = p_state, lease_owner = NULL, lease_process = NULL, lease_expires_at = NULL,
        attempts = CASE WHEN p_state = 'failed' THEN attempts ELSE 0 END,
        code = p_code, reason = p_reason, next_attempt_at = p_next_attempt_at,
        announced = coalesce((p_completeness ->> 'announced')::integer, announced),
        held = coalesce((p_completeness ->> 'held')::integer, held),
        missing = coalesce(v_missing, missing),
        damaged = coalesce(p_completeness -> 'damaged', damaged),
        left_out = p_left_out,
        manifest_digest = coalesce(v_manifest, manifest_digest),
        -- the same draft rests on the new manifest, whose films are those of the old
        reported_manifest = CASE WHEN p_state = 'reported' THEN coalesce(v_manifest, reported_manifest)
                                 ELSE reported_manifest END,
        announced_digest = coalesce(nullif(p_completeness ->> 'announced_digest', ''), announced_digest),
        first_short_at = CASE
            WHEN v_missing IS NULL THEN first_short_at
            WHEN cardinality(v_missing) > 0 THEN coalesce(first_short_at, clock_timestamp())
        END,
        again = again AND p_next_attempt_at IS NOT NULL,
        failed_program = coalesce(p_completeness ->> 'program', ''),
        failed_settings = coalesce(p_completeness ->> 'settings', '')
    WHERE ledger_id = p_ledger_id;
    IF p_state = 'skipped' AND v_manifest IS NOT NULL THEN
        -- The images that are here now are not for the recipe in force: a draft of this study must not stand.
        UPDATE ledger SET stands = false
        WHERE archive = study.archive AND study_instance_uid = study.study_instance_uid AND stands
          AND EXISTS (SELECT FROM resource AS d WHERE d.resource_type = 'DiagnosticReport'
                      AND d.resource_id = ledger.report_id AND d.written_by = 'machine')
        RETURNING report_id INTO v_report_id;
        IF FOUND THEN
            written := withdraw_results(v_report_id, NULL);
        END IF;
    END IF;
    PERFORM settle_received(p_ledger_id, study.archive, study.study_instance_uid, p_completeness -> 'received', p_code)
    WHERE p_state <> 'failed' AND jsonb_array_length(p_completeness -> 'received') > 0;
    PERFORM release_rested(p_ledger_id) WHERE study.rediscovered;
    PERFORM append_audit('archive:' || study.archive, p_ledger_id, with_written(p_audit, written));
    outcome := 'saved';
END $$;
