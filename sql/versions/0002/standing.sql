-- Which draft stands: a former one made current again, a wrong one retired, a resting study reopened by a person.

ALTER TABLE report_version ADD COLUMN reinstated_from integer;  -- the version whose content this one has again

-- Makes the draft of a row at rest the current version of its report again, with its Observations and Provenance; nothing
-- is drafted. 'reinstated'; 'signed' where a person has taken over; 'stands' where there is nothing to do.
CREATE FUNCTION reinstate_report(p_ledger_id bigint, p_audit json, OUT outcome text, OUT version integer)
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
    INSERT INTO outbox (topic, report_id, version, ledger_id)
    VALUES ('report', study.report_id, reinstate_report.version, p_ledger_id);

    UPDATE ledger SET stands = false WHERE report_id = study.report_id AND ledger_id <> p_ledger_id AND stands;
    UPDATE ledger SET stands = true, report_version = reinstate_report.version WHERE ledger_id = p_ledger_id;
    PERFORM append_audit('archive:' || study.archive, p_ledger_id, with_written(p_audit, written));
    outcome := 'reinstated';
END $$;

-- Withdraws a draft because a person says that it is wrong; the study rests until its images or the recipe change, or a
-- person reopens it. 'retired', 'signed' where a person has taken over, 'none' where nothing stands.
CREATE FUNCTION retire_report(p_ledger_id bigint, p_audit json, OUT outcome text)
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    study ledger;
    known resource;
    written jsonb;
BEGIN
    SELECT * INTO study FROM ledger WHERE ledger_id = p_ledger_id FOR UPDATE;
    IF NOT FOUND OR NOT study.stands THEN
        outcome := 'none';
        RETURN;
    END IF;
    SELECT * INTO known FROM resource
    WHERE resource_type = 'DiagnosticReport' AND resource_id = study.report_id FOR UPDATE;
    IF known.written_by = 'signer' THEN
        outcome := 'signed';
        RETURN;
    END IF;
    written := withdraw_report(p_ledger_id, 'retired', 'a person has retired this draft; who and why is in the audit');
    -- It is the draft of nothing any more: whoever reopens the study has it drafted anew.
    UPDATE ledger SET reported_manifest = '', reported_films = '' WHERE ledger_id = p_ledger_id;
    PERFORM append_audit('archive:' || study.archive, p_ledger_id, with_written(p_audit, written));
    outcome := 'retired';
END $$;

-- Makes rows at rest work again, each with its event; p_again: draft anew even though nothing changed. A row that is being
-- worked on is left alone.
CREATE FUNCTION reopen_studies(p_ledger_ids bigint[], p_events json, p_again boolean) RETURNS SETOF bigint
LANGUAGE plpgsql SET search_path = firstread, pg_temp SET enable_seqscan = off AS $$
DECLARE
    one record;
    opened ledger;
BEGIN
    FOR one IN SELECT id, place FROM unnest(p_ledger_ids) WITH ORDINALITY AS o (id, place) ORDER BY id LOOP
        UPDATE ledger SET state = 'discovered', attempts = 0, next_attempt_at = NULL, again = again OR p_again
        WHERE ledger_id = one.id AND lease_owner IS NULL AND state IN ('reported', 'skipped', 'failed')
        RETURNING * INTO opened;
        IF FOUND THEN
            IF p_events IS NOT NULL THEN
                PERFORM append_audit('archive:' || opened.archive, opened.ledger_id,
                                     json_build_array(p_events -> (one.place - 1)::integer));
            END IF;
            RETURN NEXT opened.ledger_id;
        END IF;
    END LOOP;
END $$;
