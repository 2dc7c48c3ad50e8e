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
* Where the journal is gone, nothing is journalled: the next install makes it again, and a rewrite
  follows. To catch the error of the INSERT instead would cost each statement a transaction number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bequest_schema.tables import JOURNAL, SETTINGS

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

MOST_IMAGES: Final = 20_000
"""The same where whole rows are journalled, for want of a key."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""And the most that the images or keys of one statement may weigh."""
_LIGHT_KEYS: Final = 1000

STATEMENT: Final = "statement"
ROW: Final = "row"

LIMIT: Final = "bequest_keep_small"
LOCK_CLASS: Final = 0x42455155
"""The first half of our advisory locks' names: "BEQU". An application's own are unlike it."""
BYTES_FOR_EACH: Final = 1024
"""What the journal may weigh for each row that it may have."""
_LEAST_BYTES: Final = 60
"""Of a journal row, with its header."""
_DROPPED_ROWS: Final = 200_000

_JOURNAL: Final = qualified(OURS, JOURNAL)
_INSERT: Final = f"INSERT INTO {_JOURNAL}(txid, at, tab, op, keys) VALUES"
# A trigger on the journal cost more than all the rest: its condition is parsed for every statement.
_NOW_AND_THEN: Final = f"""
  IF pg_catalog.get_byte(pg_catalog.xid8send(pg_catalog.pg_current_xact_id()), 7)
      OPERATOR(pg_catalog.=) 0
    AND pg_catalog.get_byte(pg_catalog.xid8send(pg_catalog.pg_current_xact_id()), 6)
      OPERATOR(pg_catalog.%) 4 OPERATOR(pg_catalog.=) 0
  THEN
    PERFORM {qualified(OURS, LIMIT)}();
  END IF;
  RETURN NULL;
END"""
_UNLESS_GONE: Final = f"""
BEGIN
  IF pg_catalog.to_regclass({literal(_JOURNAL)}) IS NULL THEN
    RETURN NULL;
  END IF;"""
_STAMP: Final = "pg_catalog.pg_current_xact_id(), pg_catalog.clock_timestamp()"


@dataclass(frozen=True, slots=True)
class Function:
    """One trigger function in our schema."""

    name: str
    body: str
    settings: tuple[str, ...]
    returns: str = "trigger"

    @property
    def sql(self) -> str:
        """Makes it, or replaces the one of that name."""
        told = (setting.split("=", 1) for setting in self.settings)
        pins = "".join(f" SET {name} = {literal(value)}" for name, value in told)
        name = qualified(OURS, self.name)
        return (
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS {self.returns} LANGUAGE plpgsql"
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
    what = _Journalled(
        key_columns(shape) or tuple(column.name for column in shape.stored), not shape.key
    )
    forms = {column.name: column.form for column in shape.columns}
    steady = all(forms[column] in _STEADY for column in what.columns)
    settings = () if steady else _PINNED
    if STATEMENT in modes:
        bodies = {
            "i": _one_body(number, what, "n", "i"),
            "u": _two_body(number, what),
            "d": _one_body(number, what, "o", "d"),
        }
        made += [Function(_name(number, kind), body, settings) for kind, body in bodies.items()]
    if ROW in modes:
        made.append(Function(_name(number, "r"), _row_body(number, what), settings))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class _Journalled:
    """What of each row is journalled: its key, or where it has none all of it (``images``)."""

    columns: tuple[str, ...]
    images: bool

    @property
    def most(self) -> int:
        """Rows of one statement."""
        return MOST_IMAGES if self.images else MOST_ROWS

    @property
    def old(self) -> str:
        """What an UPDATE says of the rows as they were."""
        return "d" if self.images else "t"

    @property
    def new(self) -> str:
        """What an UPDATE says of the rows as they are."""
        return "i" if self.images else "u"

    def changed(self, number: int) -> str:
        """Statements that journal an UPDATE from ``before`` to ``touched``.

        An image that did not change says nothing; a key that did not change says that the rest
        may have.
        """
        differ = "touched OPERATOR(pg_catalog.<>) before"
        old = f"{_INSERT} ({_STAMP}, {number}, '{self.old}', before);"
        new = f"{_INSERT} ({_STAMP}, {number}, '{self.new}', touched);"
        if self.images:
            return f"IF {differ} THEN {old} {new} END IF;"
        return f"IF {differ} THEN {old} END IF; {new}"

    def fits(self, array: str) -> str:
        """SQL: whether a journal row may hold the array; NULL, or true, when no row was touched."""
        few = (
            f"pg_catalog.cardinality({array})"
            f" OPERATOR(pg_catalog.<=) {self.most * len(self.columns)}"
        )
        light = f"pg_catalog.pg_column_size({array}) OPERATOR(pg_catalog.<=) {MOST_BYTES}"
        if self.images:
            return f"{few} AND {light}"
        # A key is in an index, so few of them are light.
        least = f"pg_catalog.cardinality({array}) OPERATOR(pg_catalog.<=) {_LIGHT_KEYS}"
        return f"{least} OR {few} AND {light}"


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


def limit_function(limit: int) -> Function:
    """Drops the oldest history when nobody publishes and the journal outgrows its limits.

    Those are ``limit`` rows, or `BYTES_FOR_EACH` times as many bytes. It does nothing where it
    could make the controller's transaction fail: rows that another one took away are an error under
    the stricter isolation levels.
    """
    few = limit * _LEAST_BYTES
    much = limit * BYTES_FOR_EACH
    return Function(
        LIMIT,
        f"""
DECLARE
  journal CONSTANT pg_catalog.regclass := pg_catalog.to_regclass({literal(_JOURNAL)});
  outgrown pg_catalog.bool := false;
BEGIN
  IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read committed'
  THEN
    RETURN;
  END IF;
  IF pg_catalog.pg_relation_size(journal) OPERATOR(pg_catalog.>=) {few} THEN
    outgrown := EXISTS (SELECT FROM {_JOURNAL} LIMIT 1 OFFSET {limit});
  END IF;
  IF NOT outgrown AND pg_catalog.pg_table_size(journal) OPERATOR(pg_catalog.>=) {much} THEN
    -- What was dropped weighs until VACUUM was there.
    outgrown := (SELECT pg_catalog.sum(pg_catalog.pg_column_size(keys)) FROM {_JOURNAL})
      OPERATOR(pg_catalog.>=) {much};
  END IF;
  IF outgrown AND pg_catalog.pg_try_advisory_xact_lock({LOCK_CLASS}, 3) THEN
    DELETE FROM {_JOURNAL} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
      SELECT j.ctid FROM {_JOURNAL} j LIMIT {_DROPPED_ROWS} FOR UPDATE SKIP LOCKED));
    UPDATE {qualified(OURS, SETTINGS)}
      SET value = pg_catalog.md5(pg_catalog.format('%s', pg_catalog.pg_current_xact_id()))
      WHERE name OPERATOR(pg_catalog.=) 'generation';
  END IF;
EXCEPTION WHEN OTHERS THEN
  NULL;
END""",
        (),
        "void",
    )


def _name(number: int, kind: str) -> str:
    return f"bequest_{number}_{kind}"


def _whole_body(number: int) -> str:
    return f"""{_UNLESS_GONE}
  {_INSERT} ({_STAMP}, {number}, 't', NULL);
  RETURN NULL;
END"""


def _text(row: str, column: str, nullable: bool) -> str:
    value = f"{row}.{identifier(column)}"
    text = f"pg_catalog.format('%s', {value})"
    # IS NULL would also hold for a composite value whose fields are all NULL.
    return f"CASE WHEN {value} IS DISTINCT FROM NULL THEN {text} END" if nullable else text


def _gathered(table: str, what: _Journalled) -> str:
    """An array of texts: one column after another."""
    if len(what.columns) == 1 and not what.images:
        # Cheaper than an aggregate, and for one row that is what counts.
        text = _text(table, what.columns[0], nullable=False)
        return f"ARRAY(SELECT {text} FROM {table} LIMIT {what.most + 1})"
    arrays = [f"pg_catalog.array_agg({_text('r', column, what.images)})" for column in what.columns]
    gathered = arrays[0]
    for array in arrays[1:]:
        gathered = f"pg_catalog.array_cat({gathered}, {array})"
    names = ", ".join(f"{table}.{identifier(column)}" for column in what.columns)
    return f"(SELECT {gathered} FROM (SELECT {names} FROM {table} LIMIT {what.most + 1}) r)"


def _one_body(number: int, what: _Journalled, table: str, operation: str) -> str:
    return f"""
DECLARE
  touched pg_catalog.text[];{_UNLESS_GONE}
  BEGIN
    touched := {_gathered(table, what)};
  EXCEPTION WHEN OTHERS THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
    RETURN NULL;
  END;
  IF {what.fits("touched")} THEN
    IF touched OPERATOR(pg_catalog.<>) '{{}}' THEN
      {_INSERT} ({_STAMP}, {number}, '{operation}', touched);
    END IF;
  ELSIF touched IS NOT NULL THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
  END IF;{_NOW_AND_THEN}"""


def _two_body(number: int, what: _Journalled) -> str:
    """Of an UPDATE. Both tables are in the same order, so equal arrays mean that no key changed."""
    return f"""
DECLARE
  touched pg_catalog.text[];
  before pg_catalog.text[];{_UNLESS_GONE}
  BEGIN
    SELECT {_gathered("n", what)}, {_gathered("o", what)} INTO touched, before;
  EXCEPTION WHEN OTHERS THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
    RETURN NULL;
  END;
  IF {what.fits("touched")} THEN
    IF touched OPERATOR(pg_catalog.<>) '{{}}' THEN
      {what.changed(number)}
    END IF;
  ELSIF touched IS NOT NULL THEN
    {_INSERT} ({_STAMP}, {number}, 't', NULL);
  END IF;{_NOW_AND_THEN}"""


def _row_body(number: int, what: _Journalled) -> str:
    new, old = (
        ", ".join(_text(row, column, what.images) for column in what.columns)
        for row in ("NEW", "OLD")
    )
    return f"""
DECLARE
  touched pg_catalog.text[];
  before pg_catalog.text[];{_UNLESS_GONE}
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
  ELSIF before IS NULL THEN
    {_INSERT} ({_STAMP}, {number}, 'i', touched);
  ELSE
    {what.changed(number)}
  END IF;{_NOW_AND_THEN}"""
