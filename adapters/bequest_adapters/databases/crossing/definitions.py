"""What a CREATE TABLE, ALTER TABLE ADD CONSTRAINT or CREATE INDEX says, in either dialect.

Only forms that the catalogs of Bequest keep are understood. What is not understood is kept aside
as ``unread`` and ends as a named loss; it is never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .sql import END, Reader, Token, split, text_of, tokens

Path = tuple[str, ...]
_STOP = {
    "CONSTRAINT", "PRIMARY", "NOT", "NULL", "UNIQUE", "CHECK", "DEFAULT", "COLLATE", "REFERENCES",
    "GENERATED", "AS", "STORAGE", "COMPRESSION", "DEFERRABLE", "INITIALLY",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key; ``parent`` may be qualified, ``references`` is empty for the primary key."""

    name: str
    columns: tuple[str, ...]
    parent: Path
    references: tuple[str, ...]
    actions: str = ""
    """ON DELETE, ON UPDATE and the time of the check: both dialects write them alike."""


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK constraint."""

    name: str
    expression: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key or a unique constraint."""

    name: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class ColumnText:
    """A column as its definition says; ``default`` and ``generated`` are expressions."""

    name: str
    type: str
    not_null: bool = False
    default: tuple[Token, ...] = ()
    generated: tuple[Token, ...] = ()
    collation: str = ""
    identity: bool = False
    sequence: str = ""
    descending: bool = False


@dataclass(slots=True)
class TableText:
    """A table as its definition says."""

    columns: list[ColumnText] = field(default_factory=list[ColumnText])
    primary: Key | None = None
    unique: list[Key] = field(default_factory=list[Key])
    foreign: list[ForeignKey] = field(default_factory=list[ForeignKey])
    checks: list[Check] = field(default_factory=list[Check])
    autoincrement: bool = False
    without_rowid: bool = False
    unread: list[str] = field(default_factory=list[str])

    def column(self, name: str) -> ColumnText | None:
        """The column of that name, whatever its case."""
        folded = name.lower()
        exact = [each for each in self.columns if each.name == name]
        return next(
            iter(exact or [each for each in self.columns if each.name.lower() == folded]), None
        )


def read_table(sql: str) -> TableText:
    """Read a CREATE TABLE."""
    reader = Reader(tokens(sql))
    while reader.next is not END and reader.next.text != "(":
        reader.take()
    table = TableText()
    for part in split(reader.group()):
        inside = Reader(part)
        if not read_constraint(table, inside):
            _read_column(table, inside)
    while reader.next is not END:
        if reader.accept("WITHOUT"):
            table.without_rowid = True
        reader.take()
    return table


def read_constraint(table: TableText, reader: Reader) -> bool:
    """Add a table constraint to ``table``; False when none is ahead."""
    name = ""
    if reader.next.word == "CONSTRAINT":
        reader.take()
        name = reader.take().name
    if reader.accept("PRIMARY", "KEY"):
        inside = reader.group()
        table.primary = Key(name, tuple(part[0].name for part in split(inside)))
        table.autoincrement |= any(token.word == "AUTOINCREMENT" for token in inside)
    elif reader.accept("UNIQUE"):
        if reader.accept("NULLS", "NOT", "DISTINCT"):
            table.unread.append(f"{name or 'a constraint'}: UNIQUE NULLS NOT DISTINCT")
            return True
        reader.accept("NULLS", "DISTINCT")
        table.unique.append(Key(name, reader.names()))
    elif reader.accept("CHECK"):
        table.checks.append(Check(name, tuple(reader.group())))
    elif reader.accept("FOREIGN", "KEY"):
        columns = reader.names()
        reader.accept("REFERENCES")
        table.foreign.append(_foreign_key(name, columns, reader))
    elif reader.accept("EXCLUDE"):
        table.unread.append(f"{name or 'a constraint'}: EXCLUDE")
    else:
        return bool(name)
    return True


def add_constraint(table: TableText, sql: str) -> bool:
    """Add what an ALTER TABLE ... ADD CONSTRAINT says; False when ``sql`` says something else."""
    reader = Reader(tokens(sql))
    while reader.next is not END and reader.next.word != "ADD":
        reader.take()
    reader.take()
    return reader.next.word == "CONSTRAINT" and read_constraint(table, reader)


def altered_table(sql: str) -> tuple[str, str] | None:
    """Schema and name of the table that an ALTER TABLE names; ``None`` when ``sql`` is none."""
    reader = Reader(tokens(sql))
    if not reader.accept("ALTER", "TABLE"):
        return None
    reader.accept("IF", "EXISTS")
    reader.accept("ONLY")
    *schema, table = reader.path()
    return "".join(schema[-1:]), table


def _foreign_key(name: str, columns: tuple[str, ...], reader: Reader) -> ForeignKey:
    parent = reader.path()
    references = reader.names() if reader.next.text == "(" else ()
    actions: list[str] = []
    while (word := reader.next.word) in ("ON", "MATCH", "NOT", "DEFERRABLE", "INITIALLY"):
        if word == "ON":
            reader.take()
            actions.append(f"ON {reader.take().word} {_action(reader)}")
        elif word == "MATCH":
            reader.take()
            reader.take()
        elif reader.accept("NOT", "DEFERRABLE") or reader.accept("NOT", "VALID"):
            pass
        elif word == "NOT":
            break
        else:
            actions.append(" ".join(reader.take().word for _ in range(1 + (word == "INITIALLY"))))
    return ForeignKey(name, columns, parent, references, " ".join(actions))


def _action(reader: Reader) -> str:
    first = reader.take().word
    if first in ("SET", "NO"):
        second = reader.take().word
        if reader.next.text == "(":
            reader.group()
        return f"{first} {second}"
    return first


def _read_column(table: TableText, reader: Reader) -> None:
    name = reader.take().name
    column = ColumnText(name, text_of(_until_constraint(reader)))
    table.columns.append(column)
    constraint = ""
    while reader.next is not END:
        if reader.accept("CONSTRAINT"):
            constraint = reader.take().name
            continue
        _column_constraint(table, column, constraint, reader)
        constraint = ""


def _column_constraint(
    table: TableText, column: ColumnText, constraint: str, reader: Reader
) -> None:
    if reader.accept("PRIMARY", "KEY"):
        table.primary = Key(constraint, (column.name,))
        column.descending = reader.accept("DESC")
    elif reader.accept("AUTOINCREMENT"):
        table.autoincrement = True
    elif reader.accept("NOT", "NULL"):
        column.not_null = True
    elif reader.accept("UNIQUE"):
        table.unique.append(Key(constraint, (column.name,)))
    elif reader.accept("CHECK"):
        table.checks.append(Check(constraint, tuple(reader.group())))
    elif reader.accept("DEFAULT"):
        column.default = _default(reader)
    elif reader.accept("COLLATE"):
        column.collation = reader.path()[-1]
    elif reader.accept("REFERENCES"):
        table.foreign.append(_foreign_key(constraint, (column.name,), reader))
    elif reader.next.word in ("GENERATED", "AS"):
        _generated(column, reader)
    else:
        reader.take()  # ON CONFLICT, STORED, STORAGE: nothing that the other side has


def _generated(column: ColumnText, reader: Reader) -> None:
    reader.accept("GENERATED")
    _ = reader.accept("ALWAYS") or reader.accept("BY", "DEFAULT")
    reader.accept("AS")
    if reader.accept("IDENTITY"):
        column.identity = True
        options = Reader(reader.group() if reader.next.text == "(" else [])
        while options.next is not END:
            if options.accept("SEQUENCE", "NAME"):
                column.sequence = ".".join(options.path())
            else:
                options.take()
    elif reader.next.text == "(":
        column.generated = tuple(reader.group())


def _until_constraint(reader: Reader) -> list[Token]:
    found: list[Token] = []
    while reader.next is not END and (reader.next.word not in _STOP):
        if reader.next.text == "(":
            found += [Token("mark", "("), *reader.group(), Token("mark", ")")]
        else:
            found.append(reader.take())
    return found


def _default(reader: Reader) -> tuple[Token, ...]:
    """An expression up to the next constraint: PostgreSQL does not put it in parentheses."""
    found: list[Token] = []
    cases = 0
    while reader.next is not END:
        token = reader.next
        if found and not cases and token.word in _STOP:
            break
        cases += (token.word == "CASE") - (token.word == "END")
        if token.text == "(":
            found += [Token("mark", "("), *reader.group(), Token("mark", ")")]
        else:
            found.append(reader.take())
    return tuple(found)


@dataclass(frozen=True, slots=True)
class IndexText:
    """A CREATE INDEX: terms and predicate as tokens. ``method`` is PostgreSQL's USING."""

    name: str
    unique: bool
    schema: str
    table: str
    terms: tuple[tuple[Token, ...], ...]
    where: tuple[Token, ...] = ()
    method: str = ""
    unread: str = ""


def read_index(sql: str) -> IndexText | None:
    """Read a CREATE INDEX; ``None`` when ``sql`` is none."""
    reader = Reader(tokens(sql))
    reader.accept("CREATE")
    unique = reader.accept("UNIQUE")
    if not reader.accept("INDEX"):
        return None
    _ = reader.accept("CONCURRENTLY"), reader.accept("IF", "NOT", "EXISTS")
    name = reader.path()[-1]
    reader.accept("ON")
    reader.accept("ONLY")
    *schema, table = reader.path()
    method = reader.take().name if reader.accept("USING") else ""
    terms = tuple(tuple(part) for part in split(reader.group()))
    found = IndexText(name, unique, "".join(schema[-1:]), table, terms, method=method)
    unread: list[str] = []
    while reader.next is not END:
        if reader.accept("WHERE"):
            rest: list[Token] = []
            while reader.next is not END and reader.next.text != ";":
                rest.append(reader.take())
            found = replace(found, where=tuple(rest))
        elif (word := reader.take().word) in ("INCLUDE", "NULLS"):
            unread.append(word)
    return replace(found, unread=" ".join(unread))
