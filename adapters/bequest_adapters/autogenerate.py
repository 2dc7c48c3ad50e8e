"""Keep Alembic's autogenerate from dropping Bequest's tables, which no controller's models know.

A migration that drops the journal makes every write fail that fires a trigger. Three ways lead
here: `alembic_filter`, which a controller gives to ``context.configure``; `hidden`, which
`bequest.migration` uses for the run it is part of; and `bequest_adapters.alembic_plugin`, which
Alembic 1.18 and newer loads by itself. They may be used together.

Alembic is never loaded from here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from bequest_schema import ALL_TABLES
from bequest_schema.tables import SCHEMA

_SCHEMAS = frozenset({SCHEMA})

Filter = Callable[..., bool]
"""As Alembic calls its ``include_name`` (name, type, names of the parents) and ``include_object``
(object, name, type, whether it was reflected, what it is compared to)."""


def is_ours(name: str | None, kind: str, schema: str | None, table: str | None) -> bool:
    """Whether the name of a schema, a table or a part of a table is Bequest's.

    ``kind`` as Alembic has it: "schema", "table", "index" and so on; ``table`` is of a part.
    """
    if kind == "schema":
        return name in _SCHEMAS
    return schema in _SCHEMAS or (name if kind == "table" else table) in ALL_TABLES


def alembic_filter(own: Filter | None = None) -> Filter:
    """An ``include_name`` or ``include_object`` for Alembic that leaves Bequest's tables out.

    ``own`` is the controller's filter of the same kind, asked about everything else.
    """

    def keep(*facts: Any) -> bool:
        ours = _is_name_ours(*facts) if len(facts) == 3 else _is_object_ours(*facts)
        return not ours and (own is None or bool(own(*facts)))

    return keep


def _is_name_ours(name: str | None, kind: str, parents: dict[str, str | None]) -> bool:
    return is_ours(name, kind, parents.get("schema_name"), parents.get("table_name"))


def _is_object_ours(found: Any, name: str | None, kind: str, *_: Any) -> bool:
    table = found if kind == "table" else getattr(found, "table", None)
    return is_ours(name, kind, getattr(table, "schema", None), getattr(table, "name", None))


@contextmanager
def hidden() -> Generator[None]:
    """Hide Bequest's tables from the autogenerate of the ``env.py`` that runs now, if one does."""
    # The run's own context, as `alembic.context` has it; asking that raises where there is none.
    environment = getattr(sys.modules.get("alembic.context"), "_proxy", None)
    options = getattr(getattr(environment, "_migration_context", None), "opts", None)
    if options is None:
        yield
        return
    before = options.get("include_name")
    options["include_name"] = alembic_filter(before)
    try:
        yield
    finally:
        options["include_name"] = before
