-- What a database administrator runs once where the login of `firstread db upgrade` may not make roles:
--
--   psql -v login=THE_LOGIN -v migrator=LOGIN_OF_UPGRADES -v viewer=LOGIN_OF_SERVE -f sql/roles.sql THE_DATABASE
--
-- It makes the roles, gives each login its own, and lets that of upgrades make the schema. Without migrator one login does
-- both, and could then become the owner of what it writes; without viewer `serve` uses the first. It may be run again,
-- and has to be after an upgrade that brings a role (docs/running.md). Then `firstread db upgrade` suffices.
\set ON_ERROR_STOP on
SET client_min_messages TO warning;
\if :{?migrator}
\else
    \set migrator :login
\endif
\if :{?viewer}
\else
    \set viewer :login
\endif

SELECT format('CREATE ROLE %I NOLOGIN', role_name)
FROM unnest(ARRAY['firstread_owner', 'firstread_machine', 'firstread_signer', 'firstread_reader', 'firstread_viewer'])
    AS role_name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name)
\gexec

GRANT firstread_viewer TO firstread_machine;
GRANT firstread_owner, firstread_machine TO :"migrator";
SELECT format('GRANT firstread_machine TO %I', :'login') WHERE :'login' <> :'migrator'
\gexec
GRANT firstread_viewer TO :"viewer";
SELECT format('GRANT CREATE ON DATABASE %I TO firstread_owner, %I', current_database(), :'migrator')
\gexec
