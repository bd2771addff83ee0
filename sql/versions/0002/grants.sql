REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA firstread FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA firstread TO firstread_machine;
GRANT EXECUTE ON FUNCTION says_finished(jsonb) TO firstread_signer;
GRANT SELECT ON report_versions, findings TO firstread_reader, firstread_signer, firstread_machine;
RESET ROLE;
RESET search_path;
