-- Roles: who may do what to the tables. They hold rights, never a password: a site's own logins are made
-- members of them. Where the migrating login may not create roles, a database administrator runs this file's
-- CREATE ROLE and GRANT lines once, and migrations go on from there.
--
--   firstread_owner    owns the tables; used by migrations alone
--   firstread_machine  the pipeline: writes drafts, never a final report
--   firstread_signer   an application in which a radiologist signs
--   firstread_reader   consumers: reads the views
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['firstread_owner', 'firstread_machine', 'firstread_signer', 'firstread_reader']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- roles belong to the whole server: another database's migration was faster
            END;
        END IF;
    END LOOP;
    FOREACH role_name IN ARRAY ARRAY['firstread_owner', 'firstread_machine']
    LOOP
        IF NOT pg_has_role(current_user, role_name,
                           CASE WHEN current_setting('server_version_num')::integer < 160000
                                THEN 'MEMBER' ELSE 'SET' END) THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', role_name);
        END IF;
    END LOOP;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO firstread_owner', current_database());
END $$;

ALTER SCHEMA firstread OWNER TO firstread_owner;
SET LOCAL ROLE firstread_owner;
SET LOCAL search_path TO firstread;
