"""Whether this role may do what capture needs, asked before anything is done.

It must own the tables, or be a member of the roles that do: only an owner may make a trigger fire
under every ``session_replication_role``, and an owner may read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bequest.errors import Denied, UsageError

from .connection import Connection
from .naming import identifier, qualified
from .relations import Relation

_SERVER: Final = "SELECT pg_is_in_recovery(), current_user, current_database()"

_OURS: Final = """
SELECT CASE
    WHEN to_regnamespace('bequest') IS NULL
    THEN has_database_privilege(current_database(), 'CREATE')
    ELSE (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'bequest') END
"""

_TABLES: Final = """
SELECT c.oid, pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'),
    has_schema_privilege(c.relnamespace, 'USAGE'), row_security_active(c.oid)
FROM pg_class c WHERE c.oid = ANY (%s::oid[])
"""

_SEQUENCES: Final = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND c.oid >= 16384
  AND n.nspname <> 'bequest' AND n.nspname !~ '^pg_'
  AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT'))
"""


def check_server(connection: Connection, name: str) -> None:
    """Raise `Denied` where nothing can be written, or our schema cannot be made."""
    row = connection.execute(_SERVER).fetchone()
    assert row is not None
    standby, role, database = row
    if standby:
        raise Denied(
            f"The database {name} is a standby: it can only be read. Nothing is backed up from it. "
            "Give the URL of the primary."
        )
    if connection.execute(_OURS).fetchone() != (True,):
        raise Denied(
            f"The role {role} may not make the schema bequest in {name}, or does not own it. "
            "Nothing is backed up. Run this as a superuser:\n"
            f"GRANT CREATE ON DATABASE {identifier(database)} TO {identifier(role)};"
        )


def check_tables(connection: Connection, relations: Iterable[Relation], name: str) -> None:
    """Raise `Denied` with all statements that would help, `UsageError` for row security."""
    by_oid = {relation.oid: relation for relation in relations}
    role = str((connection.execute("SELECT current_user").fetchone() or [""])[0])
    wanted: dict[str, None] = {}
    filtered: list[str] = []
    for oid, owner, owned, usable, active in connection.execute(_TABLES, [list(by_oid)]):
        relation = by_oid[oid]
        if not owned:
            wanted[f"GRANT {identifier(owner)} TO {identifier(role)};"] = None
        if not usable:
            wanted[
                f"GRANT USAGE ON SCHEMA {identifier(relation.schema)} TO {identifier(role)};"
            ] = None
        if owned and active:
            filtered.append(relation.sql)
    for schema, sequence in connection.execute(_SEQUENCES):
        wanted[f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {identifier(role)};"] = None
        name_ = qualified(schema, sequence)
        wanted[f"GRANT SELECT ON SEQUENCE {name_} TO {identifier(role)};"] = None
    if wanted:
        raise Denied(
            f"The role {role} lacks rights in {name}. Nothing is backed up until it has them: its "
            "triggers must belong to the tables' owners. Run this as a superuser, or leave tables "
            "out with --exclude:\n" + "\n".join(wanted)
        )
    if filtered:
        raise UsageError(
            f"Row-level security filters what the role {role} may read of {', '.join(filtered)}. "
            "Nothing is backed up, for rows would be missing. Run as a superuser: "
            f"ALTER ROLE {identifier(role)} BYPASSRLS;"
        )
