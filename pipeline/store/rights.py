"""What the login in use could do beyond its work, whatever it does: the database's promise is worth as much as that."""

from pipeline.store.connections import VIEWER, Connection
from pipeline.store.statements import statement

_ATTRIBUTES = ("a superuser", "may make roles", "may make databases", "may replicate", "passes row security")
_ROLES = {
    "firstread_owner": "may own and change the tables",
    "firstread_signer": "may sign reports",
    "pg_read_server_files": "may read the server's files",
    "pg_write_server_files": "may write the server's files",
    "pg_execute_server_program": "may start programs on the server",
    "pg_read_all_data": "may read every table",
    "pg_write_all_data": "may write every table",
}
_WRITES = {"firstread_machine": "may write drafts"}


def excess_rights(connection: Connection, role: str) -> tuple[str, ...]:
    """In words, what the login of ``connection`` may do and one that works as ``role`` need not."""
    roles = {**_ROLES, **(_WRITES if role == VIEWER else {})}
    row = connection.execute(statement("rights", "held"), {"roles": list(roles)}).fetchone()
    if row is None:
        return ()
    *flags, held = row
    if flags[0]:
        return (_ATTRIBUTES[0],)
    told = [words for words, flag in zip(_ATTRIBUTES, flags, strict=True) if flag]
    return (*told, *(roles[one] for one in held))
