-- Studies that an archive lists under two patients or takes back, and what a sweep or a listener turned away.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- How many patients the archive's listing names for the study: more than one, and nobody knows whose it is.
ALTER TABLE ledger ADD COLUMN patients smallint NOT NULL DEFAULT 1;

ALTER TABLE sweep
    ADD COLUMN passed_over jsonb NOT NULL DEFAULT '{}',     -- files, folders and rows that became no study, by reason
    ADD COLUMN undated boolean NOT NULL DEFAULT false;      -- it asked for studies without a date

-- Digests of what was received before are over other bytes (the data set as it was written); they are taken again.
ALTER TABLE instance ADD COLUMN by_content boolean NOT NULL DEFAULT false;
ALTER TABLE instance ALTER COLUMN by_content SET DEFAULT true;

-- What the listener refused, by sender and reason; a sender is an AE title and an address.
CREATE TABLE refusal (
    archive text NOT NULL,
    sender text NOT NULL,
    reason text NOT NULL,
    refused bigint NOT NULL CHECK (refused > 0),
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (archive, sender, reason)
);
GRANT SELECT, INSERT, UPDATE ON refusal TO firstread_machine;

-- As in 0002, and: a study that the archive has no more, or that is of two patients, leaves no draft that stands.
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
    IF (p_state = 'skipped' AND (v_manifest IS NOT NULL OR p_code = 'study-gone'))
       OR p_code IN ('two-patients', 'mixed-patients') THEN
        -- What is in the archive now is not what a draft was made from, or nobody knows whose it is: none must stand.
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

RESET ROLE;
RESET search_path;
