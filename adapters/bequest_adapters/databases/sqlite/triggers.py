"""The text of the triggers: what they journal, and the reasons for their odd shapes.

Invariants:
* A trigger names only key columns and columns of unique indexes. SQLite refuses to drop those
  columns anyway, so every other ``DROP COLUMN`` of the controller works as if we were not there.
* No function that SQLite does not have everywhere: the writer may be the sqlite3 shell.
* A trigger that fires for every row has a plain ``VALUES`` in its body. ``INSERT ... SELECT`` into
  the journal, which has a trigger itself, builds a temporary table for each row (measured: 1.2 us).
* `CREATE TRIGGER` puts the newest first, and SQLite fires the newest first: the order of the list
  is the order of creation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bequest_schema.tables import JOURNAL

from .catalog import ColumnShape, TableShape, Term, UniqueIndex
from .identity import stamp
from .text import fold, generated_from, identifier, literal, named, tokens

NOW = "julianday('now')"
LIMIT_TRIGGER = "bequest_journal_limit"
LIMIT_EVERY = 256
"""The journal is trimmed once in so many rows: a power of two."""
LIMIT_ROWS = 4 * LIMIT_EVERY
"""Rows that go at once at most."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger as it must stand in ``sqlite_schema``."""

    name: str
    table: str
    sql: str


class Inexpressible(Exception):
    """A unique index whose collisions no trigger can name for sure: the table is opaque."""


def limit_trigger(limit: int) -> Trigger:
    """Makes the journal a ring of about ``limit`` rows, in the controller's own transactions.

    `LIMIT_ROWS` at most go at once, so that a lowered limit stalls no writer. The newest row always
    stays, or the sequence would begin again.
    """
    sql = (
        f"CREATE TRIGGER {LIMIT_TRIGGER} AFTER INSERT ON {JOURNAL}"
        f" WHEN NEW.seq & {LIMIT_EVERY - 1} = 0 BEGIN DELETE FROM {JOURNAL} WHERE seq <="
        f" min(NEW.seq - {max(1, limit)}, (SELECT min(seq) FROM {JOURNAL}) + {LIMIT_ROWS - 1});"
        f" END"
    )
    return Trigger(LIMIT_TRIGGER, JOURNAL, sql)


def key_of(shape: TableShape) -> tuple[str, ...]:
    """The journalled key of a table: its own, or empty when silent replacements cannot be named."""
    try:
        list(_collisions(shape))
    except Inexpressible:
        return ()
    return shape.key


def table_triggers(shape: TableShape, number: int, installation: str) -> tuple[Trigger, ...]:
    """All triggers of one table, oldest first."""
    writer = _Writer(shape, number, key_of(shape), stamp(installation))
    found = list(writer.plain())
    if writer.key:
        found += writer.key_change()
        for index, collision in enumerate(_collisions(shape)):
            found += writer.replacement(index, collision)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Collision:
    """Which other row goes when a new one replaces it: a condition on the table's own row.

    ``watched`` are the columns whose change can make an UPDATE collide. ``always`` when an UPDATE
    can change them without naming them (the rowid, generated columns).
    """

    condition: str
    watched: tuple[str, ...]
    always: bool


@dataclass(frozen=True, slots=True)
class _Writer:
    shape: TableShape
    number: int
    key: tuple[str, ...]
    stamp: str

    def plain(self) -> Iterator[Trigger]:
        """One row in the journal for each row inserted, updated or deleted."""
        if not self.key:
            for suffix, event in (("ai", "INSERT"), ("au", "UPDATE"), ("ad", "DELETE")):
                said = self.stamp if event == "INSERT" else ""
                yield self._trigger(suffix, f"AFTER {event}", "", said + self._values("t", ""))
            return
        yield self._trigger("ai", "AFTER INSERT", "", self.stamp + self._values("i", "NEW"))
        yield self._trigger("au", "AFTER UPDATE", "", self._values("u", "NEW"))
        yield self._trigger("ad", "AFTER DELETE", "", self._values("d", "OLD"))

    def key_change(self) -> Iterator[Trigger]:
        """An update of the key also removes the old key. ``UPDATE OF`` would miss ``SET rowid``."""
        changed = " OR ".join(self._changed(name) for name in self.key)
        yield self._trigger("ak", "AFTER UPDATE", changed, self._values("d", "OLD"))

    def replacement(self, index: int, collision: _Collision) -> Iterator[Trigger]:
        """REPLACE deletes the rows in its way and fires no trigger for them: name them before."""
        where = f"FROM {self._own()} WHERE {collision.condition}"
        exists = f"EXISTS (SELECT 1 {where})"
        body = (
            f"INSERT INTO {JOURNAL}({self._columns()})"
            f" SELECT {self._fields('t', [identifier(name) for name in self.key])} {where}"
        )
        yield self._trigger(f"bi{index}", "BEFORE INSERT", exists, body)
        if collision.always:
            moved = " OR ".join(self._changed(name) for name in collision.watched)
            yield self._trigger(f"bu{index}", "BEFORE UPDATE", f"({moved}) AND {exists}", body)
        else:
            of = ", ".join(identifier(name) for name in collision.watched)
            yield self._trigger(f"bu{index}", f"BEFORE UPDATE OF {of}", exists, body)

    def _trigger(self, suffix: str, event: str, condition: str, body: str) -> Trigger:
        name = f"bequest_{self.number}_{suffix}"
        when = f" WHEN {condition}" if condition else ""
        table = identifier(self.shape.name)
        sql = f"CREATE TRIGGER {name} {event} ON {table}{when} BEGIN {body}; END"
        return Trigger(name, self.shape.name, sql)

    def _values(self, operation: str, row: str) -> str:
        key = [f"{row}.{identifier(name)}" for name in self.key]
        return f"INSERT INTO {JOURNAL}({self._columns()}) VALUES ({self._fields(operation, key)})"

    def _columns(self) -> str:
        return ", ".join(["at", "tab", "op", *(f"k{index}" for index in range(len(self.key)))])

    def _fields(self, operation: str, key: list[str]) -> str:
        return ", ".join([NOW, str(self.number), f"'{operation}'", *key])

    def _own(self) -> str:
        """The table in a FROM clause. One named new or old would hide the row of that name."""
        alias = " AS bequest_own" if fold(self.shape.name) in ("new", "old") else ""
        return identifier(self.shape.name) + alias

    def _changed(self, name: str) -> str:
        old, new = f"OLD.{identifier(name)}", f"NEW.{identifier(name)}"
        column = self.shape.by_name.get(fold(name))
        if column is None or column is self.shape.rowid_column:
            return f"{old} IS NOT {new}"
        changed = f"{old} IS NOT {new} COLLATE BINARY"
        if column.affinity == "BLOB":  # only there can 1 and 1.0 be two values
            changed += f" OR typeof({old}) <> typeof({new})"
        return changed


def _collisions(shape: TableShape) -> Iterator[_Collision]:
    """What a REPLACE can delete under another key than the new row's. Raises `Inexpressible`."""
    if not shape.key:
        return
    for index in shape.unique:
        if not _implies_same_key(shape, index):
            yield _index_collision(shape, index)
    if shape.rowid_alias and not shape.keyed_by_hidden_rowid and shape.rowid_column is None:
        # The key is the primary key, but whoever names the rowid can replace by that as well.
        alias = shape.rowid_alias
        yield _Collision(f"{identifier(alias)} = NEW.{identifier(alias)}", (alias,), True)


def _implies_same_key(shape: TableShape, index: UniqueIndex) -> bool:
    """Whether two rows that collide in ``index`` have the same key to the last byte."""
    if shape.keyed_by_hidden_rowid:
        return False
    exact = {fold(term.column) for term in index.terms if _is_exact(shape, term)}
    return all(fold(name) in exact for name in shape.key)


def _is_exact(shape: TableShape, term: Term) -> bool:
    column = shape.by_name.get(fold(term.column))
    return column is not None and (
        column is shape.rowid_column or (term.collation == "BINARY" and column.affinity != "BLOB")
    )


def _index_collision(shape: TableShape, index: UniqueIndex) -> _Collision:
    conditions = [_term_condition(shape, term) for term in index.terms]
    if index.predicate:
        conditions.append(f"({index.predicate})")
    watched = _watched(shape, index)
    always = any(not shape.by_name[fold(name)].stored for name in watched)
    if shape.rowid_column is not None and shape.rowid_column.name in watched:
        always = True
    return _Collision(" AND ".join(conditions), watched, always)


def _watched(shape: TableShape, index: UniqueIndex) -> tuple[str, ...]:
    names = named(index.predicate)
    for term in index.terms:
        names |= {fold(term.column)} if term.column else named(term.expression)
    return tuple(column.name for column in shape.columns if fold(column.name) in names)


def _term_condition(shape: TableShape, term: Term) -> str:
    if term.column:
        column = shape.by_name[fold(term.column)]
        if not column.stored:
            _check_generated(shape)
        own, new = identifier(column.name), _new_value(column)
    else:
        own, new = f"({term.expression})", _new_expression(shape, term.expression)
    return f"{own} = {new} COLLATE {identifier(term.collation)}"


def _new_value(column: ColumnShape) -> str:
    """NEW's value; REPLACE puts the default where a NOT NULL column is given NULL."""
    new = f"NEW.{identifier(column.name)}"
    default = _default(column)
    return f"coalesce({new}, {_converted(column, default)})" if default else new


def _converted(column: ColumnShape, default: str) -> str:
    """The default as the column would keep it: a DEFAULT 1 is '1' in a column of text."""
    text = default.strip("()'")
    if column.affinity == "TEXT" and not default.lower().lstrip("(").startswith("x'"):
        return f"CAST({default} AS TEXT)"
    if column.affinity in ("INTEGER", "NUMERIC", "REAL") and _NUMBER.fullmatch(text):
        return f"CAST({default} AS {'REAL' if column.affinity == 'REAL' else 'NUMERIC'})"
    return default


_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)


def _default(column: ColumnShape) -> str:
    """The default of a NOT NULL column as an expression, empty when there is none."""
    if not column.not_null or column.default is None or column.default.upper() == "NULL":
        return ""
    found = tokens(column.default)
    words = ("true", "false", "current_time", "current_date", "current_timestamp")
    # A bare or double-quoted word is text in a DEFAULT, but would be a column in a trigger.
    if len(found) == 1 and found[0].name and not found[0].text[0].isdigit():
        text = found[0].text if found[0].kind == "word" else found[0].text[1:-1]
        return found[0].text if found[0].name in words else literal(text)
    return f"({column.default})"


def _check_generated(shape: TableShape) -> None:
    """Generated columns are computed from NEW before defaults and a new rowid are filled in."""
    sources = generated_from(shape.sql)
    for column in shape.columns:
        late = _default(column) or column is shape.rowid_column
        if late and fold(column.name) in sources:
            raise Inexpressible


_COMPARES = re.compile(r"[=<>!]|\b(IN|IS|BETWEEN|CASE|NULLIF|NOTNULL)\b", re.IGNORECASE)


def _new_expression(shape: TableShape, expression: str) -> str:
    """The index's expression over the new row, under the names that the table's columns have."""
    columns = [shape.by_name[name] for name in sorted(named(expression) & shape.by_name.keys())]
    if any(column is shape.rowid_column for column in columns):
        raise Inexpressible
    if any(not column.stored for column in columns):
        _check_generated(shape)
    comparing = _has_comparison(expression)
    if comparing and _mixes_affinities(columns, expression):
        raise Inexpressible
    row = ", ".join(
        f"{_new_typed(column, comparing)} AS {identifier(column.name)}" for column in columns
    )
    table = identifier(shape.name)
    return f"(SELECT {expression} FROM (SELECT {row or 'NULL'}) AS {table})"


def _has_comparison(expression: str) -> bool:
    kept = (found for found in tokens(expression) if found.kind in ("word", "mark"))
    return any(_COMPARES.search(found.text) for found in kept if found.text not in ("->", "->>"))


def _mixes_affinities(columns: list[ColumnShape], expression: str) -> bool:
    """Whether a comparison may convert a value. NEW has no affinity, so ours would not."""
    text = {column.affinity == "TEXT" for column in columns if column.affinity != "BLOB"}
    quoted = {found.name for found in tokens(expression) if found.kind == "quoted"}
    only_columns = quoted <= {fold(column.name) for column in columns}
    has_string = any(found.kind == "string" for found in tokens(expression)) or not only_columns
    return len(text) > 1 or (False in text and has_string)


def _new_typed(column: ColumnShape, comparing: bool) -> str:
    value = _new_value(column)
    return f"CAST({value} AS TEXT)" if comparing and column.affinity == "TEXT" else value
