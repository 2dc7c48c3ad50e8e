"""The database before a replay: what is in it, who uses it, and where its old content is put.

Invariants: what was there before is either untouched or, after a forced restore, whole in schemas
of another name (``bequest_kept_<UTC time>_<schema>``); both happen in the restore's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from bequest.errors import Denied, Refused
from bequest.model import Catalog

from .definitions_types import NOT_OF_AN_EXTENSION
from .naming import identifier, qualified
from .shapes import NOT_OURS, OURS

NAME_BYTES: Final = 63
RESTORING: Final = "bequest restoring"
"""The application name of the session that holds the right to restore; it uses nothing else."""
_CONTENT: Final = f"""
SELECT DISTINCT n.nspname FROM (
    SELECT c.tableoid, c.oid, c.relnamespace AS space FROM pg_class c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
    UNION ALL SELECT t.tableoid, t.oid, t.typnamespace FROM pg_type t
    WHERE t.typtype IN ('e', 'd', 'r')
    UNION ALL SELECT p.tableoid, p.oid, p.pronamespace FROM pg_proc p
) o JOIN pg_namespace n ON n.oid = o.space
WHERE {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("o")}
ORDER BY 1
"""
_RIGHTS: Final = """
SELECT pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'), current_user
"""
_OTHERS: Final = """
SELECT DISTINCT coalesce(nullif(application_name, ''), usename, 'unknown') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type IN ('client backend', 'parallel worker') AND application_name <> %s
ORDER BY 1 LIMIT 5
"""
_AVAILABLE: Final = (
    "SELECT name FROM pg_available_extensions UNION SELECT extname FROM pg_extension"
)
_EXTENSIONS_IN: Final = """
SELECT e.extname, n.nspname, e.extrelocatable FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace WHERE n.nspname = ANY (%s) ORDER BY 1
"""
_LIKE: Final = """
WITH kept AS (SELECT * FROM pg_namespace WHERE nspname = %s)
SELECT statement FROM (
    SELECT 1 AS turn, format('ALTER SCHEMA public OWNER TO %%I', pg_get_userbyid(nspowner))
        AS statement FROM kept
    UNION ALL SELECT 2, format('COMMENT ON SCHEMA public IS %%L', obj_description(oid,
        'pg_namespace')) FROM kept
    UNION ALL SELECT 3, format('REVOKE ALL ON SCHEMA public FROM %%I', pg_get_userbyid(nspowner))
        FROM kept WHERE nspacl IS NOT NULL
    UNION ALL
    SELECT 4, format('GRANT %%s ON SCHEMA public TO %%s%%s', x.privilege_type,
        CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
        CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' END)
    FROM kept CROSS JOIN LATERAL aclexplode(nspacl) x
) s ORDER BY turn
"""
# What cannot be looked into, or not whole, counts as data.
_WITH_ROWS_MAYBE: Final = f"""
SELECT n.nspname, c.relname,
    has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    AND NOT row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relname <> 'alembic_version'
  AND {NOT_OURS} AND {NOT_OF_AN_EXTENSION.format("c")}
ORDER BY 1, 2
"""
_TABLES_IN: Final = """
SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (%s) ORDER BY c.oid
"""


def check_place(connection: psycopg.Connection[Any], name: str, *, force: bool) -> None:
    """Raise `Denied` or `Refused` when nothing can or must be restored here."""
    check_rights(connection, name)
    if not content(connection):
        return
    check_content(connection, name, force=force)
    check_others(connection, name)


def check_rights(connection: psycopg.Connection[Any], name: str) -> None:
    """Raise `Denied` on a standby, or for a role that may not create schemas."""
    standby, may_create, role = connection.execute(_RIGHTS).fetchone() or (False, True, "")
    if standby:
        raise Denied(
            f"{name} is a standby, which nobody can write to. Nothing was changed. Give the URL of "
            "the primary."
        )
    if not may_create:
        raise Denied(
            f"The role {role} may not create schemas in {name}. Nothing was changed. Run as its "
            f"owner: GRANT CREATE ON DATABASE ... TO {identifier(role)}; or restore as its owner."
        )


def check_content(connection: psycopg.Connection[Any], name: str, *, force: bool) -> None:
    """Raise `Refused` when there is data and it must not be replaced."""
    if force:
        return
    found = holding_rows(connection)
    if found:
        raise Refused(
            f"{name} holds data (in {', '.join(found)}). Nothing was changed. A restore replaces "
            "everything: give a database whose tables have no rows, or --force to replace this one "
            "(the old tables are kept in schemas of another name)."
        )


def check_others(connection: psycopg.Connection[Any], name: str) -> None:
    """Raise `Refused` when others are connected: they would go on with the old tables."""
    others = [str(row[0]) for row in connection.execute(_OTHERS, [RESTORING])]
    if others:
        raise Refused(
            f"{name} is in use ({', '.join(others)}). Replacing its tables now would leave others "
            "with the old ones. Nothing was changed. Stop the controller and all else that is "
            "connected, then restore again."
        )


def check_extensions(connection: psycopg.Connection[Any], name: str, catalog: Catalog) -> None:
    """Raise `Refused` when the server lacks an extension that ``catalog`` needs."""
    wanted = {item.name for item in catalog.objects if item.type == "extension"}
    missing = sorted(wanted - {row[0] for row in connection.execute(_AVAILABLE)})
    if missing:
        raise Refused(
            f"The server of {name} lacks the extension {', '.join(missing)}, which the snapshot "
            "needs. Nothing was changed. Install it on the server, then restore again."
        )


def content(connection: psycopg.Connection[Any]) -> list[str]:
    """The schemas that hold something of the application's."""
    return [str(row[0]) for row in connection.execute(_CONTENT.encode())]


def holding_rows(connection: psycopg.Connection[Any]) -> list[str]:
    """The schemas of which a table has a row, or cannot be looked into."""
    found: list[str] = []
    for schema, table, visible in connection.execute(_WITH_ROWS_MAYBE.encode()).fetchall():
        if schema not in found and (not visible or _has_row(connection, schema, table)):
            found.append(schema)
    return found


def _has_row(connection: psycopg.Connection[Any], schema: str, table: str) -> bool:
    asked = f"SELECT EXISTS (SELECT 1 FROM ONLY {qualified(schema, table)})"
    return connection.execute(asked.encode()).fetchone() == (True,)


def put_aside(connection: psycopg.Connection[Any], name: str, *, force: bool) -> str | None:
    """Move all content away within the caller's transaction; what it is called now, if any.

    Raises `Refused` for rows that came since `check_content`, unless ``force``.
    """
    schemas = content(connection)
    if not schemas:
        return None
    stamp = _stamp(connection)
    for (table,) in connection.execute(_TABLES_IN, [schemas]).fetchall():
        # Whoever comes now waits, and then finds the new table under the name.
        _execute(connection, f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
    check_content(connection, name, force=force)
    moved = connection.execute(_EXTENSIONS_IN, [schemas]).fetchall()
    for extension, schema, relocatable in moved:
        if not relocatable:
            raise Refused(
                f"The extension {extension} in schema {schema} of {name} cannot be moved, so the "
                "old data cannot be kept. Nothing was changed. Restore into a new database."
            )
    for schema, kept in _kept_names(stamp, schemas).items():
        _execute(connection, f"ALTER SCHEMA {identifier(schema)} RENAME TO {identifier(kept)}")
        if schema == "public":
            _make_public_like(connection, kept)
    for extension, schema, _ in moved:
        _execute(connection, f"CREATE SCHEMA IF NOT EXISTS {identifier(schema)}")
        _execute(
            connection,
            f"ALTER EXTENSION {identifier(extension)} SET SCHEMA {identifier(schema)}",
        )
    return f"schemas bequest_kept_{stamp}_*"


def drop_ours(connection: psycopg.Connection[Any]) -> None:
    """Forget the capture of what was here: its journal and memory are not the new database's."""
    _execute(connection, f"DROP SCHEMA IF EXISTS {OURS} CASCADE")


def _make_public_like(connection: psycopg.Connection[Any], kept: str) -> None:
    """A new schema of that name, with the owner, the rights and the comment of the one kept."""
    told = connection.execute(_LIKE, [kept]).fetchall()
    _execute(connection, "CREATE SCHEMA public")
    for (statement,) in told:
        # A role that is not a member of the owner goes without.
        with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            _execute(connection, statement)


def _stamp(connection: psycopg.Connection[Any]) -> str:
    """The time, and a number where another restore was made in the same second."""
    second = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    taken = connection.execute(
        "SELECT count(DISTINCT substring(nspname FROM '^bequest_kept_[^_]+'))"
        " FROM pg_catalog.pg_namespace WHERE pg_catalog.starts_with(nspname, %s)",
        [f"bequest_kept_{second}"],
    ).fetchone()
    number = int(taken[0]) if taken else 0
    return f"{second}{number}" if number else second


def _kept_names(stamp: str, schemas: Sequence[str]) -> dict[str, str]:
    """What each schema is called when it is put aside: cut, and numbered where two are equal."""
    found: dict[str, str] = {}
    for schema in schemas:
        number, end = 1, ""
        while (name := _cut(f"bequest_kept_{stamp}_{schema}", end)) in found.values():
            number += 1
            end = f"_{number}"
        found[schema] = name
    return found


def _cut(name: str, end: str) -> str:
    return name.encode()[: NAME_BYTES - len(end)].decode("utf-8", "ignore") + end


def _execute(connection: psycopg.Connection[Any], statement: str) -> None:
    connection.execute(statement.encode())
