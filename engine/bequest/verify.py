"""Verify and inspect: what an object holds, and whether a database equals it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, BinaryIO, Final

from .encryption import cipher_of, told
from .errors import Different, KeyMissing
from .files import count_files
from .model import (
    Attributes,
    Catalog,
    Key,
    Memory,
    Mutation,
    Operation,
    Row,
    SchemaObject,
    Table,
    TableDigest,
)
from .opening import fetched, opened
from .ports import Cut, Pair, Source, Store
from .recorded import without_attribute, without_table
from .report import InspectReport, LogEntry, VerifyReport, author_facts, iso
from .snapshot.digest import DigestBuilder
from .snapshot.fold import Snapshot, full_name
from .snapshot.outside import outside

Progress = Callable[[str, int, int | None], None]
BATCH_MUTATIONS: Final = 1000
LIFTED: Final = frozenset({"trigger", "rule", "foreign key", "row security"})
"""The kinds of objects that a database which follows has not got yet."""
_OF_LIFTED: Final = ("table constraint ", "trigger ", "rule ")
"""How the names of comments on them begin, and those of their settings."""
OPERATIONS = {
    Operation.INSERT: "insert",
    Operation.UPDATE: "update",
    Operation.DELETE: "delete",
    Operation.TOUCH: "touch",
    Operation.CORRECTION: "correction",
}


def verify(
    store: Store, source: Source | None, progress: Progress | None = None, pair: Pair | None = None
) -> VerifyReport:
    """Check the object; with ``source`` also that its tables equal the object's.

    Configuration files are in no database, and are not compared. ``pair`` says what equal
    means where the two are of different kinds. Raises `Refused` where that is not known.
    """
    with opened(store) as snapshot:
        tables = snapshot.digests()
        differences: list[str] = []
        waiting = 0
        if source is not None:
            waiting = source.pending(source.recall()).mutations
            dialect = str(snapshot.header.get("dialect"))
            if pair is not None and dialect != source.dialect:
                differences = _compare_across(snapshot, dialect, source, pair, progress)
            else:
                differences = _compare(snapshot, tables, source, progress)
        mark = snapshot.mark
        return VerifyReport(
            ok=not differences,
            serial=mark.serial,
            epoch=mark.epoch,
            lineage=mark.lineage,
            tables={
                name: {"rows": found.rows, "digest": found.digest} for name, found in tables.items()
            },
            differences=tuple(differences),
            pending_mutations=waiting,
            unfinished_bytes=snapshot.unfinished_bytes,
            not_covered=snapshot.catalog.not_covered,
            key_id=told(snapshot.key_id),
        )


def inspect(store: Store) -> InspectReport:
    """What the object holds, without a database; without its key what shows from outside."""
    with fetched(store) as stream:
        try:
            snapshot = Snapshot.open(stream, cipher_of(store))
        except KeyMissing:
            stream.seek(0)
            return _from_outside(store, stream)
        header, first, last = snapshot.header, snapshot.publishes[0], snapshot.publishes[-1]
        digests = snapshot.digests()
        return InspectReport(
            store=store.name,
            format=header.get("format", 0),
            lineage=last.mark.lineage,
            epoch=last.mark.epoch,
            serial=last.mark.serial,
            dialect=header.get("dialect", ""),
            server=header.get("server", ""),
            written_by=header.get("written_by", ""),
            revisions=snapshot.revisions(),
            base_serial=first.mark.serial,
            base_at=iso(first.at),
            at=iso(last.at),
            bytes=snapshot.size_bytes,
            base_bytes=snapshot.base_bytes,
            tail_bytes=snapshot.size_bytes - snapshot.base_bytes,
            tail_publishes=len(snapshot.publishes) - 1,
            tail_mutations=sum(len(publish.mutations) for publish in snapshot.publishes),
            unfinished_bytes=snapshot.unfinished_bytes,
            rows=sum(found.rows for found in digests.values()),
            tables=_table_facts(snapshot, digests),
            objects=dict(Counter(item.type for item in snapshot.catalog.objects)),
            not_covered=snapshot.catalog.not_covered,
            files=count_files(snapshot),
            key_id=told(snapshot.key_id),
            published_by=author_facts(last.by),
            published_at=iso(last.at),
        )


def _from_outside(store: Store, stream: BinaryIO) -> InspectReport:
    seen = outside(stream)
    header, first, last = seen.header, seen.seals[0], seen.seals[-1]
    return InspectReport(
        store=store.name,
        format=header.get("format", 0),
        lineage=last.mark.lineage,
        epoch=last.mark.epoch,
        serial=last.mark.serial,
        dialect=header.get("dialect", ""),
        server=header.get("server", ""),
        written_by=header.get("written_by", ""),
        revisions=tuple(header.get("revisions", ())),
        base_serial=first.mark.serial,
        base_at=iso(first.at),
        at=iso(last.at),
        bytes=last.end,
        base_bytes=first.end,
        tail_bytes=last.end - first.end,
        tail_publishes=len(seen.seals) - 1,
        tail_mutations=0,
        unfinished_bytes=seen.unfinished_bytes,
        rows=0,
        tables={},
        objects={},
        not_covered=(),
        key_id=told(seen.key_id),
        locked=True,
        published_by=author_facts(last.by),
        published_at=iso(last.at),
    )


def log(store: Store) -> Iterator[LogEntry]:
    """The tail's mutations, oldest first."""
    with opened(store) as snapshot:
        tables = {table.id: table for table in snapshot.catalog.tables}
        for publish in snapshot.publishes:
            for mutation in publish.mutations:
                entry = _entry(publish.mark.serial, tables[mutation.table], mutation)
                yield replace(entry, published=iso(publish.at))


def unpublished(source: Source) -> Iterator[LogEntry]:
    """What the database's journal holds and the store does not, oldest first, without a serial.

    ``row`` is the row as it is now, ``None`` when it is gone. Raises `Different` after the last
    one when the journal cannot be whole: it was longer than its limit, or capture was disturbed.
    """
    memory = source.recall()
    with source.cut(memory) as cut:
        tables = {table.id: table for table in cut.catalog().tables}
        mutations = cut.mutations()
        while batch := list(islice(mutations, BATCH_MUTATIONS)):
            # A row that names no table tells only of a repair of capture.
            known = [mutation for mutation in batch if mutation.table in tables]
            yield from _with_rows(cut, known, tables)
        fault = cut.fault if memory.position else ""
    if fault:
        raise Different(
            f"These are all that the journal of {source.name} holds, but there may have been more: "
            f"{fault}. Compare the database with the object: `bequest diff STORE --database URL`."
        )


def _with_rows(
    cut: Cut, batch: Sequence[Mutation], tables: Mapping[int, Table]
) -> Iterator[LogEntry]:
    keys: dict[int, dict[Key, Row | None]] = {}
    for mutation in batch:
        if mutation.key:
            keys.setdefault(mutation.table, {})[mutation.key] = None
    for number, wanted in keys.items():
        for row in cut.lookup(tables[number], list(wanted)):
            wanted[tables[number].key_of(row)] = row
    for mutation in batch:
        now = keys[mutation.table][mutation.key] if mutation.key else mutation.row
        yield _entry(None, tables[mutation.table], replace(mutation, row=now))


def _entry(serial: int | None, table: Table, mutation: Mutation) -> LogEntry:
    names = [table.columns[index].name for index in table.key]
    return LogEntry(
        serial=serial,
        at=iso(mutation.at),
        table=full_name(table),
        operation=OPERATIONS[mutation.operation],
        key=dict(zip(names, mutation.key, strict=False)),
        row=_named(table, mutation.row),
    )


def _named(table: Table, row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {column.name: value for column, value in zip(table.columns, row, strict=True)}


def _table_facts(
    snapshot: Snapshot, digests: Mapping[str, TableDigest]
) -> dict[str, dict[str, Any]]:
    stored = snapshot.stored_bytes
    return {
        full_name(table): {
            "rows": digests[full_name(table)].rows,
            "bytes": stored.get(table.id, 0),
            "columns": len(table.columns),
        }
        for table in snapshot.catalog.tables
    }


def _compare(
    snapshot: Snapshot,
    tables: Mapping[str, TableDigest],
    source: Source,
    progress: Progress | None,
) -> list[str]:
    with source.cut(Memory()) as cut:
        catalog = cut.catalog()
        found: dict[str, TableDigest] = {}
        done = 0
        for table in catalog.tables:
            builder = DigestBuilder()
            for rows in cut.scan(table):
                builder.add(rows)
                done += len(rows)
                if progress is not None:
                    progress("comparing", done, None)
            found[full_name(table)] = builder.result()
        attributes = cut.attributes()
    recorded = without_table(snapshot.catalog)
    stored = {name: tables[name] for name in map(full_name, recorded.tables)}
    if getattr(source, "followed", lambda: None)() is not None:
        recorded, catalog = as_followed(recorded), as_followed(catalog)
    differences = schema_differences(recorded, catalog) + _row_differences(stored, found)
    sides = ("in the object", "in the database")
    differences += attribute_differences(without_attribute(snapshot.attributes), attributes, sides)
    return differences


def as_followed(catalog: Catalog) -> Catalog:
    """A warm copy gets what could fire or refuse a row only when it is promoted."""
    objects = tuple(item for item in catalog.objects if not _is_lifted(item))
    return replace(catalog, objects=objects)


def _is_lifted(item: SchemaObject) -> bool:
    if item.type in ("comment", "table option"):
        return item.name.startswith(_OF_LIFTED)
    return item.type in LIFTED


def _compare_across(
    snapshot: Snapshot, dialect: str, source: Source, pair: Pair, progress: Progress | None
) -> list[str]:
    """Row by row under the canonical form; definitions and sequences are each kind's own."""
    found: dict[str, TableDigest] = {}
    done = 0
    with source.cut(Memory()) as cut:
        recorded = without_table(snapshot.catalog)
        pairing = pair(recorded, dialect, cut.catalog(), source.dialect)
        for bridge in pairing.bridges:
            builder, canonical = DigestBuilder(), bridge.canonical_target()
            for rows in cut.scan(bridge.target):
                builder.add(map(canonical, rows))
                done += len(rows)
                if progress is not None:
                    progress("comparing", done, None)
            found[full_name(bridge.source)] = builder.result()
    turned = {bridge.source.id: bridge.canonical_source() for bridge in pairing.bridges}
    builders = {number: DigestBuilder() for number in turned}
    for table, rows in snapshot.rows(turned.keys()):
        builders[table.id].add(map(turned[table.id], rows))
    stored = {full_name(each.source): builders[each.source.id].result() for each in pairing.bridges}
    return [*pairing.differences, *_row_differences(stored, found)]


def _row_differences(
    stored: Mapping[str, TableDigest], found: Mapping[str, TableDigest]
) -> list[str]:
    lines: list[str] = []
    for name in sorted(stored.keys() | found.keys()):
        if name not in found:
            lines.append(f"table {name}: in the object only")
        elif name not in stored:
            lines.append(f"table {name}: in the database only")
        elif stored[name].rows != found[name].rows:
            lines.append(
                f"table {name}: {stored[name].rows} rows in the object, "
                f"{found[name].rows} in the database"
            )
        elif stored[name].digest != found[name].digest:
            lines.append(f"table {name}: as many rows, but not the same")
    return lines


def schema_differences(before: Catalog, after: Catalog) -> list[str]:
    """Tables and objects whose definitions differ, or that only one side has (but for tables)."""

    def parts(side: Catalog) -> dict[tuple[str, str], str]:
        tables = {("table", full_name(table)): table.sql for table in side.tables}
        return tables | {(item.type, item.name): item.sql for item in side.objects}

    old, new = parts(before), parts(after)
    return [
        f"{kind} {name}: its definition differs"
        for (kind, name) in sorted(old.keys() | new.keys())
        if old.get((kind, name)) != new.get((kind, name))
        and (kind != "table" or ((kind, name) in old and (kind, name) in new))
    ]


def attribute_differences(
    before: Attributes, after: Attributes, sides: tuple[str, str] = ("before", "after")
) -> list[str]:
    """Attributes whose values differ, said with the names of the two ``sides``."""
    return [
        f"{name}: {before.get(name)!r} {sides[0]}, {after.get(name)!r} {sides[1]}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def pending_status(source: Source, memory: Memory, now: float) -> tuple[int, int, float]:
    """Transactions, mutations and seconds that are not in the store yet."""
    pending = source.pending(memory)
    seconds = 0.0 if pending.since is None else max(0.0, now - pending.since)
    return pending.transactions, pending.mutations, seconds
