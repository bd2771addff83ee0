-- Rights, least first. Nobody but the owner may delete; audit and history take rows and never change them.
REVOKE ALL ON SCHEMA firstread FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA firstread FROM PUBLIC;
GRANT USAGE ON SCHEMA firstread TO firstread_machine, firstread_signer, firstread_reader;

GRANT SELECT ON reports, studies TO firstread_reader, firstread_signer, firstread_machine;
GRANT SELECT ON report_row TO firstread_machine, firstread_signer;

GRANT SELECT ON ledger, resource, resource_history, report_version, preview, outbox, instance, audit_event, audit_chain
    TO firstread_machine;
GRANT INSERT, UPDATE ON ledger, resource, outbox, instance TO firstread_machine;
GRANT INSERT ON report_version, preview, audit_event TO firstread_machine;
GRANT USAGE ON SEQUENCE process_number TO firstread_machine;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA firstread TO firstread_machine;

GRANT SELECT ON resource, resource_history, report_version, preview, audit_event, audit_chain TO firstread_signer;
GRANT INSERT, UPDATE ON resource TO firstread_signer;
GRANT INSERT ON audit_event TO firstread_signer;
GRANT EXECUTE ON FUNCTION writing_as(), status_allowed(text, text, text), first_instant(text), identifier_tokens(jsonb),
    append_audit(text, bigint, json), as_served(jsonb, integer, timestamptz) TO firstread_signer;
GRANT EXECUTE ON FUNCTION as_served(jsonb, integer, timestamptz) TO firstread_reader;

-- Alembic's own table belongs to the migrating login; the pipeline reads it to know whether it fits.
RESET ROLE;
RESET search_path;
GRANT SELECT ON firstread.alembic_version TO firstread_machine;
