"""From SQLite to PostgreSQL: types by declaration and by values, keys, defaults, sequences.

Everything is put into the schema public. Constraints and indexes follow the rows. A foreign key or
check that the rows do not satisfy (SQLite enforces neither unless told to) is added NOT VALID: it
then holds for new rows, and no restore fails for old ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bequest.model import Attributes, Catalog, Column, SchemaObject, Table, Value

from .bonds import Change
from .bridges import Bridge, Rows, SnapshotCrossing, Strand
from .declared import Candidate
from .definitions import ColumnText, IndexText, Key, TableText, read_index, read_table
from .expressions import Side, Uncarried, carried, default_to_postgresql
from .linking import Link, linked, reconcile
from .naming import LONGEST_BYTES, PUBLIC, Names, check_for_postgresql
from .sql import Token, identifier, identifiers, literal, text_of
from .survey import Finding, Survey, look, rowid_alias

_KINDS = {"bool": "bool", "text": "text", "int": "number", "float": "number", "numeric": "number"}
_PLACES = {"schema": -1, "key": 0, "index": 1, "foreign key": 2, "check": 3}
_UNCASED = ("lower", "upper", "length")


@dataclass
class _Work:
    """One table on its way."""

    table: Table
    text: TableText
    findings: list[Finding]
    alias: str
    sequence: str = ""
    target: Table | None = None

    @property
    def stored(self) -> list[tuple[int, Column, Finding]]:
        """The columns that cross: all but the hidden row number."""
        return [
            (index, column, self.findings[index])
            for index, column in enumerate(self.table.columns)
            if not column.role
        ]

    @property
    def side(self) -> Side:
        """What expressions of this table may name."""
        return Side(
            "postgresql",
            {
                column.name.lower(): (column.name, _KINDS.get(found.chosen.bond.form, "other"))
                for _, column, found in self.stored
            },
        )

    def real(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """``names`` as the columns are really called; ``None`` when one is not stored."""
        actual = {column.name.lower(): column.name for _, column, _ in self.stored}
        found = [actual.get(name.lower()) for name in names]
        return tuple(name for name in found if name) if all(found) else None

    def uncased(self, name: str) -> bool:
        """Whether the column compares without case."""
        column = self.text.column(name)
        return column is not None and column.collation.upper() == "NOCASE"


@dataclass
class _Result:
    objects: list[SchemaObject] = field(default_factory=list[SchemaObject])
    losses: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    attributes: dict[str, Value] = field(default_factory=dict[str, Value])

    def lose(self, name: str, why: str) -> None:
        self.losses.append((name, why))


def to_postgresql(catalog: Catalog, attributes: Attributes, rows: Rows | None) -> SnapshotCrossing:
    """The crossing of an SQLite snapshot. Raises `Refused` before anything is touched."""
    for table in catalog.tables:
        check_for_postgresql(table)
    texts = {table.id: read_table(table.sql) for table in catalog.tables}
    survey = look(catalog.tables, texts, rows)
    works = [
        _Work(
            table, texts[table.id], survey.findings[table.id], rowid_alias(table, texts[table.id])
        )
        for table in catalog.tables
    ]
    links, unlinked = linked(catalog.tables, texts, catalog.objects)
    unlinked += reconcile(links, survey)
    names = Names([table.name for table in catalog.tables])
    result = _Result()
    for work in works:
        _make_table(work, names, attributes, result)
    for work in works:
        _make_keys(work, names, result)
    _make_indexes(works, catalog, names, result)
    for link in links:
        if link not in {each.link for each in unlinked}:
            result.objects.append(_foreign_key(link, names))
    for each in unlinked:
        result.lose(each.name, f"a foreign key: {each.why}")
    for work in works:
        _make_checks(work, names, result)
    _name_the_rest(catalog, attributes, result)
    result.objects.sort(key=lambda item: _PLACES[item.type])
    return _crossing(catalog, works, survey, result)


def _crossing(
    catalog: Catalog, works: list[_Work], survey: Survey, result: _Result
) -> SnapshotCrossing:
    bridges: dict[int, Bridge] = {}
    for work in works:
        if work.target is None:
            raise AssertionError(f"table {work.table.name!r} was not made")
        strands = tuple(
            Strand(index, _convert(found.chosen), found.chosen.bond.canonical_sqlite,
                   found.chosen.bond.canonical, form=found.chosen.bond.form)
            for index, _, found in work.stored
        )  # fmt: skip
        bridges[work.table.id] = Bridge(work.table, work.target, strands)
    tables = tuple(bridges[table.id].target for table in catalog.tables)
    return SnapshotCrossing(
        Catalog(tables, tuple(result.objects), catalog.not_covered),
        result.attributes,
        tuple(result.losses),
        bridges,
    )


def _convert(candidate: Candidate) -> Change | None:
    return None if candidate.type == "bigint" else candidate.change


def _make_table(work: _Work, names: Names, attributes: Attributes, result: _Result) -> None:
    table, lines = work.table, list[str]()
    primary = work.real(work.text.primary.columns) if work.text.primary else None
    for _, column, found in work.stored:
        told = work.text.column(column.name) or ColumnText(column.name, column.type)
        full = f"{table.name}.{column.name}"
        if found.step and not found.chosen.wish:
            result.lose(full, f"declared {found.declared or 'without a type'}, converted to "
                        f"{found.chosen.type}, because of a value: {found.why}")  # fmt: skip
        line = f"{identifier(column.name)} {found.chosen.type}"
        if column.name == work.alias:
            line += _identity(work, column, names, attributes, result)
        elif told.default:
            line += _default(full, told, found, result)
        in_key = work.text.without_rowid and primary is not None and column.name in primary
        if (told.not_null or in_key or column.name == work.alias) and not found.nulls:
            line += " NOT NULL"
        lines.append(line)
        if told.collation.upper() not in ("", "BINARY"):
            result.lose(full, f"the collation {told.collation}: PostgreSQL compares with case")
    for told in work.text.columns:
        if told.generated:
            result.lose(
                f"{table.name}.{told.name}", "a generated column: its expression is SQLite's"
            )
    body = ",\n    ".join(lines)
    stored = [column.name for _, column, _ in work.stored]
    key = primary if primary is not None and _usable(work, primary) else ()
    work.target = Table(
        id=table.id,
        name=table.name,
        columns=tuple(Column(column.name, found.chosen.type) for _, column, found in work.stored),
        key=tuple(stored.index(name) for name in key),
        sql=f"CREATE TABLE {_qualified(table.name)} (\n    {body}\n)",
        schema=PUBLIC,
        options={"forms": [found.chosen.bond.form for _, _, found in work.stored]},
    )


def _usable(work: _Work, primary: tuple[str, ...]) -> bool:
    return not any(found.nulls for _, column, found in work.stored if column.name in primary)


def _identity(
    work: _Work, column: Column, names: Names, attributes: Attributes, result: _Result
) -> str:
    """SQLite numbers rows by itself here, and so shall PostgreSQL, from the same number on."""
    found = next(found for _, each, found in work.stored if each.name == column.name)
    work.sequence = names.give(f"{work.table.name}_{column.name}_seq")
    recorded = attributes.get(f"sequence:{work.table.name}")
    last = max(found.largest or 0, recorded if isinstance(recorded, int) else 0)
    result.attributes[f"sequence {PUBLIC}.{work.sequence}"] = (
        f"{last} true" if last > 0 else "1 false"
    )
    return f" GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME {_qualified(work.sequence)})"


def _default(full: str, told: ColumnText, found: Finding, result: _Result) -> str:
    try:
        sql = default_to_postgresql(told.default, found.chosen.bond.form, found.chosen.change)
        return f" DEFAULT {sql}" if sql else ""
    except Uncarried as error:
        result.lose(full, f"its default {text_of(told.default)}: {error}")
        return ""


def _make_keys(work: _Work, names: Names, result: _Result) -> None:
    keys = [("PRIMARY KEY", work.text.primary)] if work.text.primary else []
    for words, key in [*keys, *(("UNIQUE", each) for each in work.text.unique)]:
        columns = work.real(key.columns)
        if columns is None:
            result.lose(_labelled(work, key.name, words), "it is over a generated column")
        elif any(work.uncased(name) for name in columns):
            _uncased_key(work, key, columns, names, result)
        else:
            if words == "PRIMARY KEY" and not _usable(work, columns):
                result.lose(f"{work.table.name}", "its primary key holds NULL: made UNIQUE")
                words = "UNIQUE"
            end = "pkey" if words == "PRIMARY KEY" else f"{'_'.join(columns)}_key"
            name = names.give(key.name or f"{work.table.name}_{end}")
            result.objects.append(
                _constraint(work, "key", name, f"{words} ({identifiers(columns)})")
            )


def _uncased_key(
    work: _Work, key: Key, columns: tuple[str, ...], names: Names, result: _Result
) -> None:
    name = names.give(key.name or f"{work.table.name}_{'_'.join(columns)}_key")
    terms = ", ".join(_uncased_term(work, column) for column in columns)
    sql = f"CREATE UNIQUE INDEX {identifier(name)} ON {_qualified(work.table.name)} ({terms})"
    result.objects.append(SchemaObject("index", name, work.table.name, sql))


def _uncased_term(work: _Work, column: str) -> str:
    # SQLite's NOCASE folds ASCII only, and so does lower() under the collation C.
    quoted = identifier(column)
    return f'lower({quoted} COLLATE "C")' if work.uncased(column) else quoted


def _constraint(work: _Work, kind: str, name: str, what: str) -> SchemaObject:
    sql = f"ALTER TABLE ONLY {_qualified(work.table.name)} ADD CONSTRAINT {identifier(name)} {what}"
    return SchemaObject(kind, f"{identifier(name)} on {_qualified(work.table.name)}",
                        _qualified(work.table.name), sql)  # fmt: skip


def _make_indexes(works: list[_Work], catalog: Catalog, names: Names, result: _Result) -> None:
    by_name = {work.table.name.lower(): work for work in works}
    for item in catalog.objects:
        if item.type != "index":
            continue
        index, work = read_index(item.sql), by_name.get(item.table.lower())
        try:
            if index is None or work is None:
                raise Uncarried("an index of something else")
            result.objects.append(_index(work, index, names))
        except Uncarried as error:
            what = "uniqueness is not enforced" if index and index.unique else "a slower query"
            result.lose(item.name, f"an index with {error}: {what}")


def _index(work: _Work, index: IndexText, names: Names) -> SchemaObject:
    terms = ", ".join(_term(work, term, index.unique) for term in index.terms)
    where = f" WHERE {carried(index.where, work.side)}" if index.where else ""
    wanted = index.name if len(index.name.encode()) <= LONGEST_BYTES else f"{work.table.name}_idx"
    name = names.give(wanted)
    sql = (
        f"CREATE {'UNIQUE ' * index.unique}INDEX {identifier(name)} ON "
        f"{_qualified(work.table.name)} ({terms}){where}"
    )
    return SchemaObject("index", _qualified(name), _qualified(work.table.name), sql)


def _term(work: _Work, term: tuple[Token, ...], unique: bool) -> str:
    words, order = list(term), ""
    if words[-1].word in ("ASC", "DESC"):
        order = " DESC" if words.pop().word == "DESC" else ""
    uncased = False
    if len(words) > 2 and words[-2].word == "COLLATE":
        collation = words[-1].name.upper()
        words = words[:-2]
        if collation not in ("NOCASE", "BINARY"):
            raise Uncarried(f"the collation {collation}")
        uncased = collation == "NOCASE"
    elif len(words) == 1:
        uncased = work.uncased(words[0].name)
    column = work.side.column(words[0]) if len(words) == 1 else None
    if column is not None:
        quoted = identifier(column[0])
        if uncased and column[1] == "text":
            quoted = f'lower({quoted} COLLATE "C")'
        return quoted + order
    return _function_term(work, words, unique) + order


def _function_term(work: _Work, words: list[Token], unique: bool) -> str:
    name = words[0].text.lower()
    column = work.side.column(words[2]) if len(words) == 4 and words[1].text == "(" else None
    if name not in _UNCASED or column is None or column[1] != "text":
        raise Uncarried(f"the expression {text_of(words)}")
    folded = ' COLLATE "C"' if unique and name != "length" else ""
    return f"{name}({identifier(column[0])}{folded})"


def _foreign_key(link: Link, names: Names) -> SchemaObject:
    child, parent = _qualified(link.child.name), _qualified(link.parent.name)
    name = names.give(link.key.name or f"{link.child.name}_{'_'.join(link.columns)}_fkey")
    what = (
        f"ADD CONSTRAINT {identifier(name)} FOREIGN KEY ({identifiers(link.columns)}) REFERENCES "
        f"{parent} ({identifiers(link.references)}) {link.key.actions}"
    ).rstrip()
    sql = _unless(f"ALTER TABLE ONLY {child} {what}", "foreign_key_violation")
    return SchemaObject("foreign key", f"{identifier(name)} on {child}", child, sql)


def _unless(sql: str, condition: str) -> str:
    """``sql``, or the same NOT VALID when the rows do not satisfy it."""
    body = f"BEGIN {sql}; EXCEPTION WHEN {condition} THEN {sql} NOT VALID; END"
    return f"DO {literal(body)}"


def _make_checks(work: _Work, names: Names, result: _Result) -> None:
    for number, check in enumerate(work.text.checks, 1):
        try:
            sql = carried(check.expression, work.side)
        except Uncarried as error:
            result.lose(
                _labelled(work, check.name, "CHECK"),
                f"a condition that is not the same in PostgreSQL ({error}): "
                f"{text_of(check.expression)}",
            )
            continue
        name = names.give(check.name or f"{work.table.name}_check{number}")
        item = _constraint(work, "check", name, f"CHECK ({sql})")
        sql = _unless(item.sql, "check_violation")
        result.objects.append(SchemaObject("check", item.name, item.table, sql))


_REASONS: Mapping[str, str] = {
    "view": "a view: its query is SQLite's",
    "trigger": "a trigger: its program is SQLite's",
    "virtual": "a virtual table: PostgreSQL has none",
}


def _name_the_rest(catalog: Catalog, attributes: Attributes, result: _Result) -> None:
    for item in catalog.objects:
        if item.type in _REASONS:
            result.lose(item.name, _REASONS[item.type])
    for name in ("user_version", "application_id"):
        if number := attributes.get(name):
            result.lose(name, f"{number!r}: a number of SQLite's files")


def _labelled(work: _Work, name: str, kind: str) -> str:
    return f"{work.table.name}: {kind} {name}".rstrip()


def _qualified(name: str) -> str:
    return f"{identifier(PUBLIC)}.{identifier(name)}"
