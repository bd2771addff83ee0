-- What a person may ask for on the page of a report: that its study be drafted anew. The login of `serve` reads; it may ask
-- this, and cannot say of whom, how or by what it is drafted.
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- p_event says who asked. False where a person has taken the report over, or its study is not at rest.
CREATE FUNCTION draft_anew(p_report_id text, p_event json) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = firstread, pg_temp AS $$
DECLARE
    v_ledger_id bigint;
BEGIN
    SELECT l.ledger_id INTO v_ledger_id
    FROM resource AS d
    JOIN report_version AS v ON v.report_id = d.resource_id AND v.version = d.version_id
    JOIN ledger AS l ON l.study_instance_uid = v.study_instance_uid AND l.archive = v.archive AND l.in_force
    WHERE d.resource_type = 'DiagnosticReport' AND d.resource_id = p_report_id AND d.written_by = 'machine'
      AND d.status IN ('partial', 'preliminary');
    RETURN v_ledger_id IS NOT NULL
       AND EXISTS (SELECT FROM reopen_studies(ARRAY[v_ledger_id], json_build_array(p_event), true));
END $$;

REVOKE EXECUTE ON FUNCTION draft_anew(text, json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION draft_anew(text, json) TO firstread_viewer, firstread_machine;

RESET ROLE;
