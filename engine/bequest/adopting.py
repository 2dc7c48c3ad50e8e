"""A restored database takes the lineage over: epoch + 1, said in the object before it exists.

When an earlier state was restored, the object goes back by going forward: the adoption appends
what undoes the later publishes, in the same conditional write. So at every moment every reader
finds a defined state, the history stays in the tail, and the new controller goes on appending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from .ancestry import adopted
from .encryption import lock_of
from .errors import Conflict, Unreachable
from .model import Author, Intent, Key, Mark, Memory, Mutation, Operation, Row, Stat, Value
from .ports import Clock, Cut, Source, Store
from .recorded import Known, without_attribute, without_table
from .recorded import note as note_files
from .snapshot.digest import Sum
from .snapshot.fold import Snapshot
from .snapshot.frame import SEAL
from .snapshot.writer import FrameWriter, seal_of, write_changes

SETTLE_SECONDS: Final = 20.0
"""How long a publish from the new database, which somebody has started, is waited for."""


class Adoption:
    """One adoption: what the object will be told, and what the database remembers of it.

    `intended` goes into the new database before `send`, as every publish is written down before it
    is sent. So from the moment in which the database exists it knows what it inherited.
    """

    def __init__(
        self,
        store: Store,
        snapshot: Snapshot,
        clock: Clock,
        token: Callable[[], str],
        rows: int,
        by: Author | None = None,
    ) -> None:
        """``token`` makes random texts: one for the publish, one for the new installation."""
        self._store = store
        self._snapshot = snapshot
        self._rows = rows
        self._before = snapshot.newest
        self._installation = token()
        before = self._before
        same = "" if snapshot.later else before.origin
        origin = adopted(same, self._installation)
        self._mark = Mark(before.lineage, before.epoch + 1, before.serial + 1, token(), origin)
        parts: list[bytes] = []
        # Under the object's own key: where that is not the current one, the next publish rewrites.
        lock = lock_of(store, snapshot.key_id)
        writer = FrameWriter(self._mark.serial, snapshot.chain, parts.append, lock=lock)
        told: dict[str, object] = {"adopted": True}
        if snapshot.later:
            _go_back(writer, snapshot, clock.time())
            told["restored"] = snapshot.mark.serial
        writer.frame(SEAL, told, seal_of(self._mark, clock.time(), by))
        self._data = b"".join(parts)
        self._chain = writer.chain.hex()

    def intended(self) -> Memory:
        """What a database remembers that is about to adopt.

        Its epoch is already the new one: the database comes to be only once `send` has succeeded,
        and must not fall back behind its predecessor should the object be gone by then.
        """
        snapshot, mark = self._snapshot, self._mark
        return Memory(
            installation=self._installation,
            lineage=mark.lineage,
            epoch=mark.epoch,
            serial=self._before.serial,
            token=self._before.token,
            store=self._store.name,
            base_bytes=snapshot.base_bytes,
            rows=self._rows,
            intents=(
                Intent(
                    serial=mark.serial,
                    token=mark.token,
                    position="",
                    chain=self._chain,
                    base_bytes=snapshot.base_bytes,
                    tail_bytes=self._tail_bytes(),
                    rows=self._rows,
                    attributes=snapshot.attributes,
                    rewrite=False,
                    epoch=mark.epoch,
                    key_id=snapshot.key_id,
                ),
            ),
            key_id=snapshot.key_id,
            inherited=self._before.token,
        )

    def send(self) -> Memory:
        """Say it in the object; what to remember then. Raises `Conflict`, `AccessError`."""
        stat = self._store.head()
        if stat is None or stat.mark != self._before:
            raise restless(self._store)
        after = _append(self._store, self._data, stat, self._mark)
        mark, snapshot = self._mark, self._snapshot
        return Memory(
            installation=self._installation,
            lineage=mark.lineage,
            epoch=mark.epoch,
            serial=mark.serial,
            token=mark.token,
            store=self._store.name,
            version=after.version,
            chain=self._chain,
            base_bytes=snapshot.base_bytes,
            tail_bytes=self._tail_bytes(),
            rows=self._rows,
            attributes=snapshot.attributes,
            state="ok",
            last_success=snapshot.at,
            key_id=snapshot.key_id,
            inherited=self._before.token,
        )

    def _tail_bytes(self) -> int:
        return self._snapshot.size_bytes - self._snapshot.base_bytes + len(self._data)


def adopt(
    store: Store,
    snapshot: Snapshot,
    clock: Clock,
    token: Callable[[], str],
    rows: int,
    by: Author | None = None,
) -> Memory:
    """Say in the object that the lineage goes on elsewhere. Raises `Conflict`, `AccessError`."""
    return Adoption(store, snapshot, clock, token, rows, by).send()


def _go_back(writer: FrameWriter, snapshot: Snapshot, at: float) -> None:
    """Append what leads from the object's newest state to that of ``snapshot``."""
    whole = {reset.table for publish in snapshot.later for reset in publish.resets}
    touched: dict[int, dict[Key, None]] = {}
    undone: list[Mutation] = []
    for publish in snapshot.later:
        for mutation in publish.mutations:
            if mutation.table in whole:
                continue
            if mutation.key:
                touched.setdefault(mutation.table, {})[mutation.key] = None
            else:
                undone.append(_undoing(mutation, at))
    for table in snapshot.catalog.tables:
        if table.id in whole:
            writer.rows(table, [], reset=True)
            for _, rows in snapshot.rows({table.id}):
                writer.rows(table, rows)
    undone += [
        Mutation(number, Operation.CORRECTION, key, row, at)
        for number, key, row in _states(snapshot, touched)
    ]
    write_changes(writer, undone, _attributes_back(snapshot))


def _undoing(mutation: Mutation, at: float) -> Mutation:
    """What takes back the coming or going of a row that no key identifies."""
    came = mutation.operation is Operation.INSERT
    return replace(mutation, operation=Operation.DELETE if came else Operation.INSERT, at=at)


def _states(
    snapshot: Snapshot, touched: dict[int, dict[Key, None]]
) -> Iterator[tuple[int, Key, Row | None]]:
    """What every touched key was at the chosen moment."""
    for table, rows in snapshot.rows(touched):
        left = touched[table.id]
        for row in rows:
            key = table.key_of(row)
            if key in left:
                del left[key]
                yield table.id, key, row
    for number, keys in touched.items():
        for key in keys:
            yield number, key, None


def _attributes_back(snapshot: Snapshot) -> dict[str, Value]:
    names = {name for publish in snapshot.later for name in publish.attributes}
    return {name: snapshot.attributes.get(name) for name in sorted(names)}


def _append(store: Store, data: bytes, stat: Stat, mark: Mark) -> Stat:
    try:
        return store.append(data, onto=stat, mark=mark)
    except (Conflict, Unreachable) as error:
        after = store.head()
        if after is not None and after.mark == mark:
            return after
        if isinstance(error, Conflict):
            raise restless(store) from error
        raise


def restless(store: Store) -> Conflict:
    """The error for an object that was published to since it was read."""
    return Conflict(
        f"The backup at {store.name} changes while it is being restored: the old controller is "
        "still publishing. The target is as it was. Stop the old controller and restore again, or "
        "take a copy with --copy."
    )


def settle_in(
    source: Source,
    snapshot: Snapshot,
    memory: Memory,
    *,
    loaded: Mapping[int, Sum] | None = None,
    unwritten: bool = False,
    recorded: Known | None = None,
) -> None:
    """Install capture in the new database and let it remember its inheritance.

    The object's tail goes on when the tables are the same and nothing was written since they were
    filled. Capture tells that when it came with them (`bequest.ports.Heir`), else their rows are
    compared with the sums ``loaded``; without these the next publish is a rewrite. ``unwritten``:
    nobody else had a right to write yet. ``recorded``: the files in the object, as far as known.
    Raises `AccessError`.
    """
    try:
        mended = source.install()
        with source.exclusive(SETTLE_SECONDS):
            if _has_gone_on(source.recall(), memory):
                return
            with source.cut(Memory()) as cut:
                attributes = without_attribute(snapshot.attributes)
                same = cut.attributes() == attributes and _same_tables(cut, snapshot)
                if not unwritten:
                    same = same and loaded is not None and (not mended or _holds(cut, loaded))
                position = cut.position if same else ""
            # Somebody may have started the controller already.
            if source.pending(Memory()).mutations:
                position = ""
            source.remember(replace(memory, position=position), durable=True)
            if recorded is not None and recorded.id:
                note_files(source, recorded)
    finally:
        source.close()


def _holds(cut: Cut, loaded: Mapping[int, Sum]) -> bool:
    """Whether the tables' rows are those that were loaded."""
    for table in cut.catalog().tables:
        expected = loaded.get(table.id)
        if expected is None:
            return False
        found = expected.blank()
        for block in cut.scan(table):
            found.add(block)
        if found != expected:
            return False
    return True


def _has_gone_on(found: Memory, inherited: Memory) -> bool:
    """Whether somebody has published from the new database already."""
    same = (found.lineage, found.epoch) == (inherited.lineage, inherited.epoch)
    return same and found.serial >= inherited.serial


def _same_tables(cut: Cut, snapshot: Snapshot) -> bool:
    """Whether the tail can go on: the same tables under the same numbers."""
    found, stored = (
        {table.id: (table.name, table.columns, table.key) for table in catalog.tables}
        for catalog in (cut.catalog(), without_table(snapshot.catalog))
    )
    return found == stored
