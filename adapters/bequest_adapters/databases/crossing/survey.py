"""A pass over an SQLite snapshot's rows before anything is touched: which type holds each column.

A column that does not fit its first candidate is looked at again from the beginning with the next,
so that the rows are read once when all is as declared, and a few times more where it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bequest.errors import Refused
from bequest.model import Row, Table

from .bonds import Unstorable
from .bridges import Rows, key_text
from .declared import BIGINT, TEXT, Candidate, affinity, candidates, misfit
from .definitions import TableText


@dataclass(slots=True)
class Finding:
    """What is known of one column. ``why`` says why it is not what was declared."""

    declared: str
    ladder: tuple[Candidate, ...]
    step: int = 0
    why: str = ""
    nulls: bool = False
    values: bool = False
    largest: int | None = None
    again: bool = False
    numbered: bool = False

    @property
    def chosen(self) -> Candidate:
        """The type that holds all values. A column without type and values is text."""
        if not self.values and not self.declared and not self.numbered:
            return TEXT
        return self.ladder[self.step]


@dataclass(slots=True)
class Survey:
    """Findings by table id, one per column of the source."""

    findings: dict[int, list[Finding]] = field(default_factory=dict[int, list[Finding]])

    def of(self, table: Table, name: str) -> Finding | None:
        """The finding of a column, whatever its case."""
        for column, finding in zip(table.columns, self.findings[table.id], strict=True):
            if column.name.lower() == name.lower() and not column.role:
                return finding
        return None


def look(tables: Sequence[Table], texts: Mapping[int, TableText], rows: Rows | None) -> Survey:
    """Survey all tables. Raises `Refused` for what no type of PostgreSQL can hold."""
    survey = Survey()
    for table in tables:
        alias = rowid_alias(table, texts[table.id])
        survey.findings[table.id] = [
            Finding(
                column.type,
                (BIGINT,) if column.role or column.name == alias else candidates(column.type),
                numbered=bool(column.role) or column.name == alias,
            )
            for column in table.columns
        ]
    if rows is None:
        return survey
    first = True
    while first or any(each.again for found in survey.findings.values() for each in found):
        wanted = {
            number: [first or each.again for each in found]
            for number, found in survey.findings.items()
        }
        for found in survey.findings.values():
            for each in found:
                each.again = False
        for table, block in rows():
            if any(wanted[table.id]):
                _look_at(table, survey.findings[table.id], wanted[table.id], block)
        first = False
    return survey


def rowid_alias(table: Table, text: TableText) -> str:
    """The column that is SQLite's rowid itself, empty when there is none."""
    if text.without_rowid or text.primary is None or len(text.primary.columns) != 1:
        return ""
    column = text.column(text.primary.columns[0])
    if column is None or column.descending or column.type.upper() != "INTEGER":
        return ""
    return next((each.name for each in table.columns if each.name == column.name), "")


def _look_at(
    table: Table, findings: list[Finding], wanted: list[bool], block: Sequence[Row]
) -> None:
    if not block:
        return
    for index, column in enumerate(zip(*block, strict=True)):
        if wanted[index]:
            _look_at_column(table, index, findings[index], column, block)


def _look_at_column(
    table: Table, index: int, finding: Finding, column: Sequence[Any], block: Sequence[Row]
) -> None:
    finding.nulls = finding.nulls or None in column
    finding.values = finding.values or any(value is not None for value in column)
    if finding.numbered:
        largest: int = max(value for value in column if value is not None)
        finding.largest = largest if finding.largest is None else max(largest, finding.largest)
        return
    while (found := misfit(finding.ladder[finding.step], column)) is not None:
        at, error = found
        if isinstance(error, Unstorable) and affinity(finding.declared) != "BLOB":
            raise _unstorable(table, index, block[at], str(error))
        finding.why = finding.why or str(error)
        finding.step += 1
        finding.again = True


def _unstorable(table: Table, index: int, row: Row, why: str) -> Refused:
    return Refused(
        f"Table {table.name!r}, column {table.columns[index].name!r}, {key_text(table, row)}: "
        f"{why}, which PostgreSQL's text cannot hold. Nothing was changed, and the backup is "
        "whole. Restore it into SQLite, mend this value, and cross over then."
    )
