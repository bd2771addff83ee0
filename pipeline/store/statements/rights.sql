-- name: held
SELECT r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication, r.rolbypassrls,
       ARRAY(SELECT held.rolname::text FROM pg_roles AS held
             WHERE held.rolname = ANY (%(roles)s) AND pg_has_role(session_user, held.oid, 'MEMBER') ORDER BY 1)
FROM pg_roles AS r
WHERE r.rolname = session_user;
