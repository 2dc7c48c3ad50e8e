"""The text of the triggers and of their functions. Pure: shapes in, SQL out.

One function per table and event writes one journal row per statement: the keys of all rows that it
touched. What each choice is for:

* A trigger must never fail a statement. The keys are put together inside a block of their own: a
  key column that was renamed or dropped since is an error only there, and then the row says that
  the whole table changed. The block writes nothing, so it costs no transaction number.
* Every name is qualified and every relation is ours or the statement's, so nobody's search path or
  temporary table matters, and no SET clause is needed, which would cost more than the rest. Only a
  key whose text depends on settings has its function pin them.
* `pg_catalog.format` takes a type's output function; a cast could be somebody's own.
* SECURITY DEFINER: the application needs no right on the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bequest_schema.tables import JOURNAL

from .naming import identifier, literal, qualified
from .shapes import OURS, TableShape

MOST_ROWS: Final = 50_000
"""A statement that touches more is journalled as "the whole table"."""
_PINNED: Final = (
    "DateStyle=ISO, YMD",
    "IntervalStyle=postgres",
    "TimeZone=UTC",
    "extra_float_digits=3",
    "bytea_output=hex",
    "lc_monetary=C",
)
"""As `pg_proc.proconfig` says them."""
_STEADY: Final = frozenset({"int", "text", "uuid", "bool", "numeric", "json"})
"""Forms whose text does not depend on settings."""

STATEMENT: Final = "statement"
ROW: Final = "row"

_JOURNAL: Final = qualified(OURS, JOURNAL)
_INSERT: Final = f"INSERT INTO {_JOURNAL}(txid, at, tab, op, keys) VALUES"
_STAMP: Final = "pg_catalog.pg_current_xact_id(), pg_catalog.clock_timestamp()"


@dataclass(frozen=True, slots=True)
class Function:
    """One trigger function in our schema."""

    name: str
    body: str
    settings: tuple[str, ...]

    @property
    def sql(self) -> str:
        """Makes it, or replaces the one of that name."""
        told = (setting.split("=", 1) for setting in self.settings)
        pins = "".join(f" SET {name} = {literal(value)}" for name, value in told)
        name = qualified(OURS, self.name)
        return (
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql"
            f" SECURITY DEFINER{pins} AS $bequest${self.body}$bequest$"
        )


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger on one relation. ``kind`` is `pg_trigger.tgtype`."""

    name: str
    function: str
    event: str
    kind: int
    tables: tuple[str, str]
    """Names of the transition tables: of new rows, of old rows."""

    def sql(self, relation: str) -> str:
        """Makes it on ``relation`` (qualified), or replaces the one of that name."""
        new, old = self.tables
        named = (f" NEW TABLE AS {new}" if new else "") + (f" OLD TABLE AS {old}" if old else "")
        each = "ROW" if self.kind & 1 else "STATEMENT"
        referencing = f" REFERENCING{named}" if named else ""
        return (
            f"CREATE OR REPLACE TRIGGER {self.name} AFTER {self.event} ON {relation}{referencing}"
            f" FOR EACH {each} EXECUTE FUNCTION {qualified(OURS, self.function)}()"
        )


def functions(shape: TableShape, number: int, modes: frozenset[str]) -> tuple[Function, ...]:
    """The functions of one table, for the kinds of triggers that its relations need."""
    made = [Function(_name(number, "t"), _whole_body(number), ())]
    columns = key_columns(shape)
    forms = {column.number: column.form for column in shape.columns}
    steady = all(forms[part.number] in _STEADY for part in shape.key)
    settings = () if steady else _PINNED
    if STATEMENT in modes:
        bodies = {
            "i": _one_body(number, columns, "n", "i"),
            "u": _two_body(number, columns),
            "d": _one_body(number, columns, "o", "d"),
        }
        made += [Function(_name(number, kind), body, settings) for kind, body in bodies.items()]
    if ROW in modes:
        made.append(Function(_name(number, "r"), _row_body(number, columns), settings))
    return tuple(made)


# Bits of pg_trigger.tgtype (catalog/pg_trigger.h).
_ROW, _INSERT_BIT, _DELETE_BIT, _UPDATE_BIT, _TRUNCATE_BIT = 1, 4, 8, 16, 32


def triggers(number: int, mode: str) -> tuple[Trigger, ...]:
    """The triggers of one relation of a table."""
    truncate = Trigger("bequest_t", _name(number, "t"), "TRUNCATE", _TRUNCATE_BIT, ("", ""))
    if mode == ROW:
        kind = _ROW | _INSERT_BIT | _DELETE_BIT | _UPDATE_BIT
        every = "INSERT OR UPDATE OR DELETE"
        return (Trigger("bequest_r", _name(number, "r"), every, kind, ("", "")), truncate)
    return (
        Trigger("bequest_i", _name(number, "i"), "INSERT", _INSERT_BIT, ("n", "")),
        Trigger("bequest_u", _name(number, "u"), "UPDATE", _UPDATE_BIT, ("n", "o")),
        Trigger("bequest_d", _name(number, "d"), "DELETE", _DELETE_BIT, ("", "o")),
        truncate,
    )


def key_columns(shape: TableShape) -> tuple[str, ...]:
    """The names of the key's columns, in the key's order."""
    names = {column.number: column.name for column in shape.columns}
    return tuple(names[part.number] for part in shape.key)


def _name(number: int, kind: str) -> str:
    return f"bequest_{number}_{kind}"


def _whole_body(number: int) -> str:
    return f"""
BEGIN
  {_INSERT} ({_STAMP}, {number}, 't', NULL);
  RETURN NULL;
END"""


def _text(row: str, column: str) -> str:
    return f"pg_catalog.format('%s', {row}.{identifier(column)})"


def _gathered(table: str, columns: Sequence[str]) -> str:
    """An array of texts: one column of the key after another."""
    arrays = [f"pg_catalog.array_agg({_text('r', column)})" for column in columns]
    gathered = arrays[0]
    for array in arrays[1:]:
        gathered = f"pg_catalog.array_cat({gathered}, {array})"
    names = ", ".join(f"{table}.{identifier(column)}" for column in columns)
    return f"SELECT {gathered} FROM (SELECT {names} FROM {table} LIMIT {MOST_ROWS + 1}) r"


def _one_body(number: int, columns: Sequence[str], table: str, operation: str) -> str:
    if not columns:
        return _keyless_body(number, table)
    most = MOST_ROWS * len(columns)
    return f"""
DECLARE
  touched pg_catalog.text[];
BEGIN
  BEGIN
    touched := ({_gathered(table, columns)});
  EXCEPTION WHEN OTHERS THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
    RETURN NULL;
  END;
  IF pg_catalog.cardinality(touched) OPERATOR(pg_catalog.<=) {most} THEN
    {_INSERT} ({_STAMP}, {number}, '{operation}', touched);
  ELSIF touched IS NOT NULL THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
  END IF;
  RETURN NULL;
END"""


def _two_body(number: int, columns: Sequence[str]) -> str:
    """Of an UPDATE. Both tables are in the same order, so equal arrays mean that no key changed."""
    if not columns:
        return _keyless_body(number, "n")
    most = MOST_ROWS * len(columns)
    return f"""
DECLARE
  touched pg_catalog.text[];
  before pg_catalog.text[];
BEGIN
  BEGIN
    touched := ({_gathered("n", columns)});
    before := ({_gathered("o", columns)});
  EXCEPTION WHEN OTHERS THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
    RETURN NULL;
  END;
  IF pg_catalog.cardinality(touched) OPERATOR(pg_catalog.<=) {most} THEN
    IF touched OPERATOR(pg_catalog.<>) before THEN
      {_INSERT} ({_STAMP}, {number}, 't', before);
    END IF;
    {_INSERT} ({_STAMP}, {number}, 'u', touched);
  ELSIF touched IS NOT NULL THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
  END IF;
  RETURN NULL;
END"""


def _keyless_body(number: int, table: str) -> str:
    return f"""
BEGIN
  IF EXISTS (SELECT FROM {table}) THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
  END IF;
  RETURN NULL;
END"""


def _row_body(number: int, columns: Sequence[str]) -> str:
    if not columns:
        return _whole_body(number)
    new, old = (", ".join(_text(row, column) for column in columns) for row in ("NEW", "OLD"))
    return f"""
DECLARE
  touched pg_catalog.text[];
  before pg_catalog.text[];
BEGIN
  BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
      before := ARRAY[{old}];
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
      touched := ARRAY[{new}];
    END IF;
  EXCEPTION WHEN OTHERS THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
    RETURN NULL;
  END;
  IF touched IS NULL THEN
    {_INSERT} ({_STAMP}, {number}, 'd', before);
    RETURN NULL;
  END IF;
  IF before IS NOT NULL AND touched OPERATOR(pg_catalog.<>) before THEN
    {_INSERT} ({_STAMP}, {number}, 't', before);
  END IF;
  {_INSERT} ({_STAMP}, {number},
    pg_catalog.lower(pg_catalog.substr(TG_OP, 1, 1))::pg_catalog."char", touched);
  RETURN NULL;
END"""
