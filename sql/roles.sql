-- What a database administrator runs once where the login of `firstread db upgrade` may not make roles:
--
--   psql -v login=THE_LOGIN -f sql/roles.sql THE_DATABASE
--
-- It makes the roles, gives the login those that it migrates and works with, and lets it make the schema.
-- It may be run again. Then `firstread db upgrade` suffices.
\set ON_ERROR_STOP on
SET client_min_messages TO warning;

SELECT format('CREATE ROLE %I NOLOGIN', role_name)
FROM unnest(ARRAY['firstread_owner', 'firstread_machine', 'firstread_signer', 'firstread_reader']) AS role_name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name)
\gexec

GRANT firstread_owner, firstread_machine TO :"login";
SELECT format('GRANT CREATE ON DATABASE %I TO firstread_owner, %I', current_database(), :'login')
\gexec
