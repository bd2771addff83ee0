-- The page lists the studies that failed, and a person may ask there that one be drafted anew. The login of `serve` may not
-- read the ledger: it sees of it what this view shows, which is nothing of a patient that the list of reports does not show too.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

CREATE INDEX ledger_failed ON ledger (failed_at DESC, ledger_id DESC) WHERE state = 'failed' AND in_force;

-- signed: a person has taken a report of the study over. report_id and patient: of the draft that stands, '' where there is none.
CREATE VIEW failed_study AS
SELECT l.ledger_id, l.archive, l.study_instance_uid, l.accession_number, l.study_date, l.code, l.reason, l.attempts,
       l.failed_at, l.next_attempt_at,
       coalesce(r.signed, false) AS signed,
       coalesce(r.standing ->> 0, '') AS report_id,
       coalesce(r.standing ->> 1, '') AS patient
FROM ledger AS l
LEFT JOIN LATERAL (
    SELECT bool_or(d.written_by = 'signer') AS signed,
           (array_agg(jsonb_build_array(d.resource_id, split_part(d.patient, '/', 2)) ORDER BY d.last_updated DESC)
                FILTER (WHERE d.status <> 'entered-in-error'))[1] AS standing
    FROM report_version AS v
    JOIN resource AS d ON d.resource_type = 'DiagnosticReport' AND d.resource_id = v.report_id
    WHERE v.study_instance_uid = l.study_instance_uid AND v.archive = l.archive
) AS r ON true
WHERE l.state = 'failed' AND l.in_force;

-- p_event says who asked. False where the study has not failed, where it is worked on, or where a person has taken it over.
CREATE FUNCTION draft_failed_anew(p_ledger_id bigint, p_event json) RETURNS boolean
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = firstread, pg_temp AS $$
BEGIN
    PERFORM FROM ledger WHERE ledger_id = p_ledger_id FOR UPDATE;  -- what it says now holds until it is reopened
    RETURN EXISTS (SELECT FROM failed_study WHERE ledger_id = p_ledger_id AND NOT signed)
       AND EXISTS (SELECT FROM reopen_studies(ARRAY[p_ledger_id], json_build_array(p_event), true));
END $$;

REVOKE EXECUTE ON FUNCTION draft_failed_anew(bigint, json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION draft_failed_anew(bigint, json) TO firstread_viewer, firstread_machine;
GRANT SELECT ON failed_study TO firstread_viewer;

RESET ROLE;
RESET search_path;
