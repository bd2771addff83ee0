-- firstread_viewer: what `serve` reads with. The machine's role is a member of it, so that a site with one login serves too.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'firstread_viewer') THEN
        BEGIN
            CREATE ROLE firstread_viewer NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the whole server: another database's migration was faster
        END;
    END IF;
    IF NOT pg_has_role('firstread_machine', 'firstread_viewer', 'MEMBER') THEN
        GRANT firstread_viewer TO firstread_machine;
    END IF;
END $$;

SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;

-- Appends to the chain of accesses alone: who may only read cannot write in the name of an archive's run.
CREATE FUNCTION append_access(p_events json) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = firstread, pg_temp AS $$
    SELECT append_audit('access', NULL, p_events)
$$;

REVOKE EXECUTE ON FUNCTION append_access(json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_access(json) TO firstread_viewer, firstread_machine;
GRANT USAGE ON SCHEMA firstread TO firstread_viewer;
GRANT SELECT ON resource, resource_history, report_version, preview, report_row TO firstread_viewer;
GRANT EXECUTE ON FUNCTION as_served(jsonb, integer, timestamptz), search_text(text) TO firstread_viewer;

-- Alembic's own table belongs to the migrating login.
RESET ROLE;
RESET search_path;
GRANT SELECT ON firstread.alembic_version TO firstread_viewer;
