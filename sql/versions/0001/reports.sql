-- What a drafted study leaves beside its FHIR resources, and the functions that write a study's outcome: one call is
-- one transaction, so a study is there with all it brought or not at all.

CREATE TABLE report_version (
    report_id text NOT NULL,               -- id of the DiagnosticReport
    version integer NOT NULL,              -- its version
    ledger_id bigint NOT NULL REFERENCES ledger,
    archive text NOT NULL,
    study_instance_uid text NOT NULL,
    accession_number text NOT NULL,
    recipe text NOT NULL,
    manifest_digest text NOT NULL,
    language text NOT NULL,
    model_id text NOT NULL,
    findings text NOT NULL,
    impression text NOT NULL,
    draft jsonb NOT NULL,
    checks jsonb NOT NULL,
    left_out jsonb NOT NULL,
    completeness jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (report_id, version)
);
CREATE INDEX report_version_study ON report_version (study_instance_uid);
CREATE UNIQUE INDEX report_version_sequence ON report_version (sequence);

CREATE TABLE preview (
    report_id text NOT NULL,
    version integer NOT NULL,
    ordinal integer NOT NULL,
    series_instance_uid text NOT NULL,
    sop_instance_uid text NOT NULL,
    frame integer NOT NULL,
    jpeg bytea NOT NULL,
    original_rows integer NOT NULL,
    original_columns integer NOT NULL,
    PRIMARY KEY (report_id, version, ordinal),
    FOREIGN KEY (report_id, version) REFERENCES report_version
);
ALTER TABLE preview ALTER COLUMN jpeg SET STORAGE EXTERNAL;  -- a JPEG does not compress again

CREATE TABLE outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    report_id text NOT NULL,
    version integer NOT NULL,
    ledger_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (topic, report_id, version)
);
CREATE INDEX outbox_open ON outbox (next_attempt_at) WHERE delivered_at IS NULL;

-- Appends AuditEvents to a chain in their order.
CREATE FUNCTION append_audit(p_chain text, p_ledger_id bigint, p_events json) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO firstread.audit_event (chain, ledger_id, event, place, recorded, previous_hash, row_hash)
    SELECT p_chain, p_ledger_id, one.value, 0, now(), '', ''
    FROM json_array_elements(p_events) WITH ORDINALITY AS one (value, place)
    ORDER BY one.place
$$;

-- Frees a row that comes to rest; what changed in the archive meanwhile makes it work again.
CREATE FUNCTION release_rested(p_ledger_id bigint) RETURNS void
LANGUAGE sql AS $$
    UPDATE firstread.ledger
    SET state = 'discovered', rediscovered = false, attempts = 0, next_attempt_at = NULL
    WHERE ledger_id = p_ledger_id AND rediscovered
$$;

-- Stores one drafted study. Gives 'saved' and the DiagnosticReport's version; 'lost' where another claim is newer;
-- 'signed' where a person has taken over the report. Called again after an answer got lost, it gives the same version.
CREATE FUNCTION save_report(
    p_ledger_id bigint, p_token bigint, p_report jsonb, p_resources jsonb, p_audit json,
    p_preview_series text[], p_preview_instances text[], p_preview_frames integer[],
    p_preview_rows integer[], p_preview_columns integer[], p_preview_jpegs bytea[],
    OUT outcome text, OUT version integer
)
LANGUAGE plpgsql SET search_path = firstread, pg_temp AS $$
DECLARE
    study ledger;
    last_report report_version;
    known resource;
    v_report_id text := p_report ->> 'report_id';
    v_completeness jsonb := p_report -> 'completeness';
    v_manifest text := v_completeness ->> 'manifest_digest';
    renewed boolean;
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

    -- In the order of the key, so that two studies that share a Patient never wait for each other in a ring.
    INSERT INTO resource AS r (resource_type, resource_id, version_id, last_updated, body, study_instance_uid, written_by)
    SELECT one ->> 'resourceType', one ->> 'id', 1, now(), one,
           CASE WHEN one ->> 'resourceType' IN ('DiagnosticReport', 'Observation', 'ImagingStudy', 'Provenance')
                THEN study.study_instance_uid END,
           'machine'
    FROM jsonb_array_elements(p_resources) AS one
    ORDER BY 1, 2
    ON CONFLICT (resource_type, resource_id) DO UPDATE
        SET body = EXCLUDED.body, study_instance_uid = EXCLUDED.study_instance_uid
        WHERE r.body IS DISTINCT FROM EXCLUDED.body OR (renewed AND r.resource_type = 'DiagnosticReport');

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
        INSERT INTO preview
        SELECT v_report_id, save_report.version, one.ordinal - 1, one.series, one.instance, one.frame,
               one.jpeg, one.row_count, one.column_count
        FROM unnest(p_preview_series, p_preview_instances, p_preview_frames, p_preview_rows, p_preview_columns,
                    p_preview_jpegs)
             WITH ORDINALITY AS one (series, instance, frame, row_count, column_count, jpeg, ordinal);
        INSERT INTO outbox (topic, report_id, version, ledger_id)
        VALUES ('report', v_report_id, save_report.version, p_ledger_id);
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
        announced_digest = v_completeness ->> 'announced_digest',
        report_id = v_report_id, report_version = save_report.version
    WHERE ledger_id = p_ledger_id;
    PERFORM release_rested(p_ledger_id) WHERE study.rediscovered;
    PERFORM append_audit('archive:' || study.archive, p_ledger_id, p_audit);
    outcome := 'saved';
END $$;

-- Lays one claimed study to rest without a new report: 'saved', or 'lost' where another claim is newer.
CREATE FUNCTION rest_study(
    p_ledger_id bigint, p_token bigint, p_state ledger_state, p_code text, p_reason text,
    p_next_attempt_at timestamptz, p_completeness jsonb, p_left_out jsonb, p_audit json,
    OUT outcome text
)
LANGUAGE plpgsql SET search_path = firstread, pg_temp AS $$
DECLARE
    study ledger;
    v_missing text[];
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
    v_missing := CASE WHEN p_completeness IS NOT NULL
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
        manifest_digest = coalesce(p_completeness ->> 'manifest_digest', manifest_digest),
        announced_digest = coalesce(nullif(p_completeness ->> 'announced_digest', ''), announced_digest),
        first_short_at = CASE
            WHEN v_missing IS NULL THEN first_short_at
            WHEN cardinality(v_missing) > 0 THEN coalesce(first_short_at, clock_timestamp())
        END
    WHERE ledger_id = p_ledger_id;
    PERFORM release_rested(p_ledger_id) WHERE study.rediscovered;
    PERFORM append_audit('archive:' || study.archive, p_ledger_id, p_audit);
    outcome := 'saved';
END $$;
