"""What keeps a followed database as it was applied: no other writer, and nothing that fires.

A guard trigger on every table and partition refuses what anybody else writes. It asks for a flag
that the follower sets inside its own transaction only. The controller's triggers, rules and foreign
keys are left out: what they did is in the object already. They come back with the promotion.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import psycopg

from bequest.model import Catalog, SchemaObject

from .relations import read_relations
from .shapes import read_shapes
from .standing import TABLE

_NAME: Final = "bequest_guard"
_FUNCTION: Final = f"""
CREATE FUNCTION bequest.{_NAME}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = '' AS $body$
BEGIN
  IF NOT EXISTS (SELECT FROM {TABLE} WHERE applying = 1) THEN
    RAISE EXCEPTION
      'this database follows a Bequest snapshot and is read-only until it is promoted'
      USING ERRCODE = 'read_only_sql_transaction';
  END IF;
  RETURN NULL;
END $body$
"""
_ASIDE: Final = ("trigger", "rule", "foreign key")
_WITH_THEM: Final = ("table constraint ", "trigger ", "rule ")
_FORCE: Final = "FORCE ROW LEVEL SECURITY"


def quiet(catalog: Catalog) -> Catalog:
    """``catalog`` without what fires or refuses while rows are applied."""
    objects = [_unforced(item) for item in catalog.objects if not _is_aside(item)]
    return replace(catalog, objects=tuple(item for item in objects if item.sql))


def aside(catalog: Catalog) -> list[SchemaObject]:
    """What `quiet` left out, and what is to be computed again, in the order to make it in."""
    return [
        item
        for item in catalog.objects
        if _is_aside(item) or item.type == "refresh" or _FORCE in _forces(item)
    ]


def _is_aside(item: SchemaObject) -> bool:
    named = item.type in ("comment", "table option") and item.name.startswith(_WITH_THEM)
    return item.type in _ASIDE or named


def _forces(item: SchemaObject) -> str:
    return item.sql if item.type == "row security" else ""


def _unforced(item: SchemaObject) -> SchemaObject:
    """Forced upon the owner, row security would hide rows from the follower."""
    if _FORCE not in _forces(item):
        return item
    lines = [line for line in item.sql.split(";\n") if _FORCE not in line]
    return replace(item, sql=";\n".join(lines))


def put_guards(connection: psycopg.Connection[Any]) -> None:
    """Refuse other writers from the end of the caller's transaction on."""
    connection.execute(_FUNCTION.encode())
    connection.execute(f"REVOKE ALL ON FUNCTION bequest.{_NAME}() FROM PUBLIC".encode())
    for name in _guarded(connection):
        connection.execute(
            f"CREATE TRIGGER {_NAME} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {name}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION bequest.{_NAME}()".encode()
        )
        # Also for sessions that apply changes of elsewhere.
        connection.execute(f"ALTER TABLE ONLY {name} ENABLE ALWAYS TRIGGER {_NAME}".encode())


def take_guards(connection: psycopg.Connection[Any]) -> None:
    """Let others write from the end of the caller's transaction on."""
    connection.execute(f"DROP FUNCTION IF EXISTS bequest.{_NAME}() CASCADE".encode())


def _guarded(connection: psycopg.Connection[Any]) -> Iterable[str]:
    relations = read_relations(connection, read_shapes(connection))
    return dict.fromkeys(relation.sql for relation in relations)
