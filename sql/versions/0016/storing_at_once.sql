-- What storing a study did by detours (bench_store), and a table that nobody read.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- Every row of it is a row of report_version with the same id and version; nothing ever read or delivered one.
DROP TABLE outbox;

-- As in 0012, and: where the last event ends with its entities, which its text tells, what was written is put behind them
-- without taking the event apart.
CREATE OR REPLACE FUNCTION with_written(p_events json, p_written jsonb) RETURNS json
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    events text := p_events::text;
    entities text := p_events #> '{-1,entity}';
    last jsonb;
BEGIN
    IF jsonb_array_length(p_written) = 0 OR json_array_length(p_events) = 0 THEN
        RETURN p_events;
    END IF;
    IF entities LIKE '[{%}]' AND right(events, length(entities) + 2) = entities || '}]' THEN
        RETURN left(events, -3) || ',' || substr(p_written::text, 2) || '}]';
    END IF;
    last := p_events -> -1;
    last := last || jsonb_build_object('entity', coalesce(last -> 'entity', '[]') || p_written);
    RETURN (SELECT '[' || string_agg(CASE WHEN one.place < json_array_length(p_events) THEN one.value::text
                                          ELSE last::text END, ',' ORDER BY one.place) || ']'
            FROM json_array_elements(p_events) WITH ORDINALITY AS one (value, place));
END $$;

-- As in 0003, but text that has neither accents nor composed characters is compared as it is.
CREATE OR REPLACE FUNCTION search_text(value text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN octet_length(value) = length(value) THEN lower(value)
                ELSE lower(regexp_replace(normalize(value, NFD), '[\u0300-\u036F]', '', 'g')) END
$$;

-- As in 0012, and: of one identifier the tokens are in order and none is there twice.
CREATE OR REPLACE FUNCTION identifier_tokens(identifiers jsonb) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    many jsonb := CASE jsonb_typeof(identifiers) WHEN 'array' THEN identifiers
                                                 WHEN 'object' THEN jsonb_build_array(identifiers)
                                                 ELSE '[]' END;
    found text[] := '{}';
    system text;
    value text;
BEGIN
    FOR n IN 0 .. jsonb_array_length(many) - 1 LOOP
        system := coalesce(many -> n ->> 'system', '');
        value := many -> n ->> 'value';
        IF value IS NOT NULL THEN
            found := found || ARRAY['s=' || system || '|' || value, 'v=' || value];
        END IF;
        found := found || ('y=' || system);
    END LOOP;
    IF jsonb_array_length(many) <= 1 THEN
        RETURN found;
    END IF;
    RETURN ARRAY(SELECT DISTINCT one FROM unnest(found) AS one ORDER BY one);
END $$;

-- As in 0012, and: the login of most writes is known by its name.
CREATE OR REPLACE FUNCTION guard_resource() RETURNS trigger
LANGUAGE plpgsql SET search_path = firstread, pg_temp AS $$
DECLARE
    writer text := CASE WHEN current_user = 'firstread_machine' THEN 'machine' ELSE writing_as() END;
    status_from text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'resources are not deleted' USING ERRCODE = 'FR004';
    END IF;
    IF TG_OP = 'UPDATE' AND current_user = 'firstread_owner' AND pg_trigger_depth() > 1 THEN
        RETURN NEW;
    END IF;
    IF NEW.body ->> 'resourceType' IS DISTINCT FROM NEW.resource_type
       OR NEW.body ->> 'id' IS DISTINCT FROM NEW.resource_id THEN
        RAISE EXCEPTION 'a resource''s body names another type or id' USING ERRCODE = 'FR005';
    END IF;
    NEW.status := NEW.body ->> 'status';
    IF TG_OP = 'UPDATE' THEN
        IF NEW.resource_type <> OLD.resource_type OR NEW.resource_id <> OLD.resource_id THEN
            RAISE EXCEPTION 'a resource keeps its type and id' USING ERRCODE = 'FR005';
        END IF;
        IF OLD.written_by = 'signer' AND writer = 'machine' THEN
            RAISE EXCEPTION 'a person has written this version; the machine does not overwrite it'
                USING ERRCODE = 'FR001';
        END IF;
        status_from := OLD.status;
        NEW.version_id := OLD.version_id + 1;
        NEW.report_id := coalesce(NEW.report_id, OLD.report_id);
    ELSE
        NEW.version_id := 1;
    END IF;
    IF NEW.resource_type IN ('DiagnosticReport', 'Observation')
       AND NOT coalesce(status_allowed(writer, status_from, NEW.status), false) THEN
        RAISE EXCEPTION 'status % after % is not for the % to write',
            coalesce(NEW.status, 'none'), coalesce(status_from, 'none'), writer USING ERRCODE = 'FR002';
    END IF;
    IF writer = 'machine' AND says_finished(NEW.body) THEN
        RAISE EXCEPTION 'a machine finishes nothing' USING ERRCODE = 'FR002';
    END IF;
    IF NEW.resource_type = 'DiagnosticReport' THEN
        NEW.report_id := NEW.resource_id;
    END IF;
    NEW.written_by := writer;
    NEW.last_updated := coalesce(taken_change_time(false), change_time(false));
    NEW.patient := coalesce(NEW.body #>> '{subject,reference}', NEW.body #>> '{patient,reference}');
    NEW.effective_at := first_instant(coalesce(NEW.body ->> 'effectiveDateTime', NEW.body ->> 'started'));
    NEW.identifiers := CASE WHEN NEW.body ? 'identifier'
                            THEN identifier_tokens(NEW.body -> 'identifier') ELSE '{}' END;
    RETURN NEW;
END $$;

-- As in 0008, and: what has no date, and what its date is, is told without asking element by element.
CREATE OR REPLACE FUNCTION index_resource() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    body jsonb := NEW.body;
    said text := coalesce(body ->> 'effectiveDateTime', body ->> 'effectiveInstant', body ->> 'started',
                          body ->> 'birthDate', body ->> 'recorded');
    element text;
    tz_code text;
    period jsonb := body -> 'effectivePeriod';
    named record;
    begins timestamptz;
    ends timestamptz;
    local_begins timestamp;
    local_ends timestamp;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.last_updated <> OLD.last_updated AND body = OLD.body THEN
        RETURN NEW;  -- its time is settled, nothing else
    END IF;
    NEW.tokens := firstread.search_tokens(body);
    IF period IS NOT NULL THEN  -- open at an end that it does not name
        SELECT r.begins, r.local_begins INTO begins, local_begins
        FROM firstread.named_range(coalesce(period ->> 'start', '0001-01-01'), NULL) AS r;
        SELECT r.ends, r.local_ends INTO ends, local_ends
        FROM firstread.named_range(coalesce(period ->> 'end', '9999-12-30'), NULL) AS r;
    ELSIF said IS NOT NULL THEN
        IF body ?| ARRAY['_effectiveDateTime', '_effectiveInstant', '_started', '_birthDate', '_recorded'] THEN
            element := CASE WHEN body ->> 'effectiveDateTime' IS NOT NULL THEN '_effectiveDateTime'
                            WHEN body ->> 'effectiveInstant' IS NOT NULL THEN '_effectiveInstant'
                            WHEN body ->> 'started' IS NOT NULL THEN '_started'
                            WHEN body ->> 'birthDate' IS NOT NULL THEN '_birthDate'
                            ELSE '_recorded' END;
            tz_code := jsonb_path_query_first(body -> element,
                '$.extension[*] ? (@.url == "http://hl7.org/fhir/StructureDefinition/tz-code").valueCode') #>> '{}';
        END IF;
        named := firstread.named_range(said, tz_code);
        begins := named.begins;
        ends := named.ends;
        local_begins := named.local_begins;
        local_ends := named.local_ends;
    END IF;
    IF begins IS NULL OR ends IS NULL THEN  -- it names no date, or none that is one
        NEW.dated_from := '-infinity';
        NEW.dated_until := '-infinity';
        NEW.local_from := '-infinity';
        NEW.local_until := '-infinity';
    ELSE
        NEW.dated_from := least(begins, '9999-12-31 00:00+00');  -- as far as clients can read
        NEW.dated_until := least(ends, begins + interval '366 days');  -- a search counts on it
        NEW.local_from := least(local_begins, '9999-12-31 00:00');
        NEW.local_until := least(local_ends, local_begins + interval '366 days');
    END IF;
    RETURN NEW;
END $$;

-- Compressed and opened in a third of the time, where the server was built with it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        ALTER TABLE resource ALTER COLUMN body SET COMPRESSION lz4;
        ALTER TABLE resource_history ALTER COLUMN body SET COMPRESSION lz4;
        ALTER TABLE report_version ALTER COLUMN draft SET COMPRESSION lz4;
    END IF;
END $$;

-- As in 0011, without the outbox, and without a look for a Provenance where there is none.
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
    IF p_resources @> '[{"resourceType": "Provenance"}]' THEN
        written := written || put_resources(study.study_instance_uid, v_report_id, p_resources, false, true);
    END IF;

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

-- As in 0002, without the outbox, and with the outlines that a segmentation drew on the pictures.
CREATE OR REPLACE FUNCTION reinstate_report(p_ledger_id bigint, p_audit json, OUT outcome text, OUT version integer)
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    study ledger;
    known resource;
    former report_version;
    stored report_version;
    report jsonb;
    results jsonb;
    provenances jsonb;
    written jsonb;
BEGIN
    SELECT * INTO study FROM ledger WHERE ledger_id = p_ledger_id FOR UPDATE;
    IF NOT FOUND OR study.state <> 'reported' OR study.stands OR NOT study.in_force THEN
        outcome := 'stands';
        version := study.report_version;
        RETURN;
    END IF;
    SELECT * INTO known FROM resource
    WHERE resource_type = 'DiagnosticReport' AND resource_id = study.report_id FOR UPDATE;
    IF known.written_by = 'signer' THEN
        outcome := 'signed';
        RETURN;
    END IF;
    SELECT * INTO STRICT former FROM report_version AS r
    WHERE r.report_id = study.report_id AND r.version = study.report_version;
    SELECT body INTO STRICT report FROM resource_history
    WHERE resource_type = 'DiagnosticReport' AND resource_id = study.report_id AND version_id = former.version;
    SELECT coalesce(jsonb_agg(h.body), '[]') INTO results
    FROM jsonb_array_elements(report -> 'result') AS one,
         LATERAL (SELECT body FROM resource_history
                  WHERE resource_type = 'Observation' AND resource_id = split_part(one ->> 'reference', '/', 2)
                    AND body ->> 'status' NOT IN ('entered-in-error', 'cancelled')
                  ORDER BY version_id DESC LIMIT 1) AS h;

    written := put_resources(study.study_instance_uid, study.report_id, results || jsonb_build_array(report), true, false);
    written := written || withdraw_results(study.report_id, ARRAY(SELECT one ->> 'id' FROM jsonb_array_elements(results) AS one));
    SELECT coalesce(jsonb_agg(p.body), '[]') INTO provenances
    FROM resource AS p
    WHERE p.resource_type = 'Provenance' AND p.report_id = study.report_id
      AND EXISTS (SELECT FROM jsonb_array_elements(p.body -> 'target') AS t
                  JOIN jsonb_array_elements(report -> 'result') AS o
                    ON split_part(t ->> 'reference', '/_history/', 1) = o ->> 'reference');
    written := written || put_resources(study.study_instance_uid, study.report_id, provenances, false, true);

    SELECT version_id INTO STRICT version FROM resource
    WHERE resource_type = 'DiagnosticReport' AND resource_id = study.report_id;
    INSERT INTO report_version AS r (
        report_id, version, ledger_id, archive, study_instance_uid, accession_number, recipe, manifest_digest,
        language, model_id, findings, impression, draft, checks, left_out, completeness, reinstated_from)
    VALUES (former.report_id, reinstate_report.version, former.ledger_id, former.archive, former.study_instance_uid,
            former.accession_number, former.recipe, former.manifest_digest, former.language, former.model_id,
            former.findings, former.impression, former.draft, former.checks, former.left_out, former.completeness,
            former.version)
    RETURNING r.* INTO stored;
    written := written || written_entity(
        jsonb_build_object('display', 'report_version ' || study.report_id || ' ' || version), version_content(stored));
    INSERT INTO preview (report_id, version, ordinal, series_instance_uid, sop_instance_uid, frame, jpeg,
                         original_rows, original_columns)
    SELECT report_id, reinstate_report.version, ordinal, series_instance_uid, sop_instance_uid, frame, jpeg,
           original_rows, original_columns
    FROM preview AS p WHERE p.report_id = former.report_id AND p.version = former.version;
    INSERT INTO preview_overlay (report_id, version, ordinal, png)
    SELECT report_id, reinstate_report.version, ordinal, png
    FROM preview_overlay AS o WHERE o.report_id = former.report_id AND o.version = former.version;

    UPDATE ledger SET stands = false WHERE report_id = study.report_id AND ledger_id <> p_ledger_id AND stands;
    UPDATE ledger SET stands = true, report_version = reinstate_report.version WHERE ledger_id = p_ledger_id;
    PERFORM append_audit('archive:' || study.archive, p_ledger_id, with_written(p_audit, written));
    outcome := 'reinstated';
END $$;

RESET ROLE;
RESET search_path;
