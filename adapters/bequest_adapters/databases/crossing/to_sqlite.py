"""From PostgreSQL to SQLite: what SQLAlchemy's sqlite dialect would declare and read back right.

A table outside the schema public bears its schema as a prefix. Keys, checks and foreign keys are
part of CREATE TABLE, because SQLite cannot add them later. A partitioned table is one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bequest.model import Attributes, Catalog, Column, SchemaObject, Table, Value

from .bonds import Bond, Change
from .bridges import Bridge, Rows, SnapshotCrossing, Strand, key_text
from .definitions import Check, ColumnText, ForeignKey, Key, TableText, read_index
from .expressions import Side, Uncarried, carried, default_to_sqlite
from .naming import check_for_sqlite, sqlite_name
from .postgresql_definitions import Definitions, read_definitions
from .postgresql_types import Types, bond_of, plain, read_types
from .sql import Token, identifier, identifiers, literal, text_of

_NUMBERS = ("int", "float", "numeric")


@dataclass
class _Part:
    """One column on its way."""

    column: Column
    bond: Bond
    declared: str
    text: ColumnText
    stray: str = ""
    notes: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def convert(self) -> Change | None:
        """What takes a value over; under the fallback a value stays PostgreSQL's own text."""
        return None if self.stray else self.bond.to_sqlite

    @property
    def kind(self) -> str:
        """The class that expressions know it by."""
        if self.bond.form == "text" and self.bond.declared == "TEXT COLLATE NOCASE":
            return "other"
        if self.bond.form == "numeric" and self.stray:
            return "other"
        if self.bond.form in _NUMBERS:
            return "number"
        return self.bond.form if self.bond.form in ("text", "bool") else "other"


@dataclass
class _Work:
    table: Table
    name: str
    text: TableText
    parts: list[_Part]
    target: Table | None = None

    @property
    def side(self) -> Side:
        """What expressions of this table may name."""
        return Side("sqlite", {p.column.name.lower(): (p.column.name, p.kind) for p in self.parts})

    def part(self, name: str) -> _Part | None:
        """The column of that name."""
        return next((each for each in self.parts if each.column.name == name), None)


@dataclass
class _Result:
    objects: list[SchemaObject] = field(default_factory=list[SchemaObject])
    losses: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])
    used: set[str] = field(default_factory=set[str])

    def lose(self, name: str, why: str) -> None:
        self.losses.append((name, why))


def to_sqlite(catalog: Catalog, attributes: Attributes, rows: Rows | None) -> SnapshotCrossing:
    """The crossing of a PostgreSQL snapshot. Raises `Refused` before anything is touched."""
    check_for_sqlite(catalog)
    types = read_types(catalog.objects)
    definitions = read_definitions(catalog)
    works = [_work(table, definitions, types) for table in catalog.tables]
    _survey(works, rows)
    result = _Result()
    by_name = {(work.table.schema or "", work.table.name): work for work in works}
    for work in works:
        _make_table(work, by_name, definitions, types, attributes, result)
    taken = {work.name.lower() for work in works}
    for item in catalog.objects:
        if item.type == "index":
            _make_index(item, by_name, taken, result)
    _name_the_rest(catalog, definitions, result)
    return _crossing(catalog, works, result)


def _work(table: Table, definitions: Definitions, types: Types) -> _Work:
    text = definitions.tables[table.id]
    forms: Sequence[str] = table.options.get("forms", [""] * len(table.columns))
    parts: list[_Part] = []
    for column, form in zip(table.columns, forms, strict=True):
        bond = bond_of(column.type, types, form)
        told = text.column(column.name) or ColumnText(column.name, column.type)
        parts.append(_Part(column, bond, bond.declared, told))
    return _Work(table, sqlite_name(table.schema, table.name), text, parts)


def _survey(works: list[_Work], rows: Rows | None) -> None:
    """Which columns SQLite would not keep under the type that SQLAlchemy would declare."""
    if rows is None:
        for work in works:
            for part in work.parts:
                if not part.bond.sure:
                    _fall_back(part, "nobody looked at the values")
        return
    by_id = {work.table.id: work for work in works}
    for table, block in rows():
        work = by_id[table.id]
        looks = [(i, p) for i, p in enumerate(work.parts) if p.bond.strays or p.bond.note]
        for index, part in looks:
            for row in block:
                if row[index] is not None:
                    _look(part, work.table, row, row[index])


def _look(part: _Part, table: Table, row: Sequence[Value], value: Value) -> None:
    if part.bond.strays is not None and not part.stray and (why := part.bond.strays(value)):
        _fall_back(part, why)
    if part.bond.note is not None and (note := part.bond.note(value)):
        part.notes.setdefault(note, key_text(table, tuple(row)))


def _fall_back(part: _Part, why: str) -> None:
    part.stray, part.declared = why, part.bond.fallback


def _make_table(
    work: _Work,
    others: dict[tuple[str, str], _Work],
    definitions: Definitions,
    types: Types,
    attributes: Attributes,
    result: _Result,
) -> None:
    text, lines = work.text, list[str]()
    alone = text.primary.columns[0] if text.primary and len(text.primary.columns) == 1 else ""
    sequence = definitions.sequence_of(work.table, alone) if alone else ""
    number = work.part(alone) if sequence else None
    numbered = number is not None and number.bond.form == "int"
    for part in work.parts:
        if numbered and part.column.name == alone:
            lines.append(f"{identifier(alone)} INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT")
            _set_sequence(work, sequence, attributes, result)
        else:
            lines.append(_column_line(work, part, types, definitions, result))
        _name_changes(work, part, types, result)
    if text.primary is not None and not numbered:
        lines += _key_line(work, text.primary, "PRIMARY KEY", result)
    for key in text.unique:
        lines += _key_line(work, key, "UNIQUE", result)
    lines += _checks(work, result)
    for foreign in text.foreign:
        lines += _foreign_key(work, foreign, others, result)
    for what in text.unread:
        result.lose(work.name, f"{what}: SQLite has none")
    for column in text.columns:
        if column.generated:
            result.lose(f"{work.name}.{column.name}", "a generated column: its expression is "
                        "PostgreSQL's")  # fmt: skip
    body = ",\n    ".join(lines)
    work.target = Table(
        id=work.table.id,
        name=work.name,
        columns=tuple(
            Column(p.column.name, "INTEGER" if numbered and p.column.name == alone else p.declared)
            for p in work.parts
        ),
        key=work.table.key,
        sql=f"CREATE TABLE {identifier(work.name)} (\n    {body}\n)",
    )


def _key_line(work: _Work, key: Key, words: str, result: _Result) -> list[str]:
    if not all(map(work.part, key.columns)):
        result.lose(f"{work.name}: {words} {key.name}".rstrip(), "it is over a generated column")
        return []
    return [f"{_named(key.name)}{words} ({identifiers(key.columns)})"]


def _named(name: str) -> str:
    return f"CONSTRAINT {identifier(name)} " if name else ""


def _column_line(
    work: _Work, part: _Part, types: Types, definitions: Definitions, result: _Result
) -> str:
    line = f"{identifier(part.column.name)} {part.declared}"
    if part.text.not_null:
        line += " NOT NULL"
    default = definitions.defaults.get((work.table.id, part.column.name), part.text.default)
    if part.text.identity or any(token.text.lower() == "nextval" for token in default):
        result.lose(f"{work.name}.{part.column.name}", "its sequence: SQLite numbers only a "
                    "primary key of one integer")  # fmt: skip
    elif default:
        line += _default(f"{work.name}.{part.column.name}", default, part, result)
    labels = types.enums.get(plain(types.base(part.column.type)))
    if labels is not None:
        listed = ", ".join(literal(label) for label in labels)
        line += f" CHECK ({identifier(part.column.name)} IN ({listed}))"
    return line


def _default(full: str, default: tuple[Token, ...], part: _Part, result: _Result) -> str:
    try:
        sql = default_to_sqlite(default, part.bond.form)
        return f" DEFAULT {sql}" if sql else ""
    except Uncarried as error:
        result.lose(full, f"its default {text_of(default)}: {error}")
        return ""


def _name_changes(work: _Work, part: _Part, types: Types, result: _Result) -> None:
    full = f"{work.name}.{part.column.name}"
    if part.stray:
        result.lose(full, f"converted to {part.declared}, the digits as PostgreSQL writes them: "
                    f"{part.stray}")  # fmt: skip
    elif part.bond.form == "output":
        how = "JSON text" if part.bond.declared == "JSON" else "text"
        result.lose(full, f"{part.column.type} converted to {how}")
    elif part.bond.form == "timestamptz":
        result.lose(full, f"{part.column.type} converted to text in UTC without an offset")
    if types.base(part.column.type) != part.column.type:
        result.lose(full, f"the checks and the default of the domain {part.column.type}")
    for note, key in part.notes.items():
        result.lose(full, f"{note} (the first in {key})")


def _set_sequence(work: _Work, sequence: str, attributes: Attributes, result: _Result) -> None:
    result.used.add(sequence)
    recorded = str(attributes.get(f"sequence {sequence}") or "").split()
    if len(recorded) == 2 and recorded[0].lstrip("-").isdigit():
        last = int(recorded[0]) - (recorded[1].lower() not in ("true", "t", "1"))
        result.attributes[f"sequence:{work.name}"] = max(last, 0)


def _checks(work: _Work, result: _Result) -> list[str]:
    lines: list[str] = []
    for check in work.text.checks:
        try:
            lines.append(f"{_named(check.name)}CHECK ({_check(work, check)})")
        except Uncarried as error:
            result.lose(f"{work.name}: CHECK {check.name}".rstrip(), "a condition that is not the "
                        f"same in SQLite ({error}): {text_of(check.expression)}")  # fmt: skip
    return lines


def _check(work: _Work, check: Check) -> str:
    return carried(check.expression, work.side)


def _foreign_key(
    work: _Work, key: ForeignKey, others: dict[tuple[str, str], _Work], result: _Result
) -> list[str]:
    *schemas, name = key.parent
    parent = others.get(("".join(schemas[-1:]) or work.table.schema or "", name))
    if parent is None or not all(map(work.part, key.columns)):
        full = f"{work.name}: foreign key {key.name}".rstrip()
        result.lose(full, f"{'.'.join(key.parent)} or a column is not in the snapshot")
        return []
    references = f" ({identifiers(key.references)})" if key.references else ""
    return [
        f"{_named(key.name)}FOREIGN KEY ({identifiers(key.columns)}) REFERENCES "
        f"{identifier(parent.name)}{references} {key.actions}".rstrip()
    ]


def _make_index(
    item: SchemaObject, others: dict[tuple[str, str], _Work], taken: set[str], result: _Result
) -> None:
    index = read_index(item.sql)
    work = others.get((index.schema, index.table)) if index is not None else None
    if index is None or work is None:
        return  # of a partition or a materialized view
    try:
        if index.method not in ("", "btree") or index.unread:
            raise Uncarried(index.unread or index.method)
        terms = ", ".join(_term(work, term) for term in index.terms)
        where = f" WHERE {carried(index.where, work.side)}" if index.where else ""
    except Uncarried as error:
        what = "uniqueness is not enforced" if index.unique else "a slower query"
        result.lose(item.name, f"an index with {error}: {what}")
        return
    name = index.name
    while name.lower() in taken:
        name = f"{work.name}_{name}"
    taken.add(name.lower())
    sql = (
        f"CREATE {'UNIQUE ' * index.unique}INDEX {identifier(name)} ON "
        f"{identifier(work.name)} ({terms}){where}"
    )
    result.objects.append(SchemaObject("index", name, work.name, sql))


def _term(work: _Work, term: Sequence[Token]) -> str:
    words = list(term)
    order = ""
    while words and words[-1].word in ("ASC", "DESC", "FIRST", "LAST", "NULLS"):
        order = " DESC" if words.pop().word == "DESC" else order
    part = work.part(words[0].name) if len(words) == 1 else None
    if part is not None:
        return identifier(part.column.name) + order
    name, words = words[0].text.lower(), [token for token in words if token.text not in "()"]
    part = work.part(words[1].name) if len(words) > 1 else None
    if part is not None and [token.text for token in words[2:]] == ["COLLATE", '"C"']:
        # What a key without case became on its way from SQLite.
        if name == "lower" and part.kind == "text":
            return f"{identifier(part.column.name)} COLLATE NOCASE{order}"
    elif len(words) != 2:
        part = None
    if part is None or name not in ("lower", "upper", "length") or part.kind != "text":
        raise Uncarried(f"the expression {text_of(words)}")
    return f"{name}({identifier(part.column.name)}){order}"


_CARRIED = frozenset({"schema", "table", "type", "domain", "key", "index", "foreign key", "check",
                      "default", "sequence owner", "partition", "index partition", "constraint",
                      "index option", "table option", "statistics"})  # fmt: skip


def _name_the_rest(catalog: Catalog, definitions: Definitions, result: _Result) -> None:
    for item in catalog.objects:
        if item.type in ("sequence",):
            if definitions.sequence_name(item) not in result.used:
                result.lose(item.name, "a sequence: SQLite has none")
        elif item.type == "extension":
            result.lose(item.name, "an extension of PostgreSQL")
        elif item.type not in _CARRIED:
            result.lose(item.name, f"{item.type}: PostgreSQL's own")


def _crossing(catalog: Catalog, works: list[_Work], result: _Result) -> SnapshotCrossing:
    bridges: dict[int, Bridge] = {}
    for work in works:
        if work.target is None:
            raise AssertionError(f"table {work.name!r} was not made")
        strands = tuple(
            Strand(index, part.convert, part.bond.canonical, part.bond.canonical_sqlite)
            for index, part in enumerate(work.parts)
        )
        bridges[work.table.id] = Bridge(work.table, work.target, strands)
    tables = tuple(bridges[table.id].target for table in catalog.tables)
    return SnapshotCrossing(
        Catalog(tables, tuple(result.objects), catalog.not_covered),
        result.attributes,
        tuple(result.losses),
        bridges,
    )
