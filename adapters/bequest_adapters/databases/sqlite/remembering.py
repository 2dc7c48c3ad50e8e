"""`Memory` on SQLite: who the database is, from the database; the rest, from the side file.

Attributes may be many, one for each table with a sequence, and few of them change at once. So a
record holds what differs from a base that is written anew only when a quarter of it differs. Two
bases take turns, because a record that was written before the newest base still needs the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Final

from bequest.model import Attributes, Intent, Memory, Selection, Value

from . import journal
from .identity import Identity, Known
from .sidefile import SideFile

MEMORY: Final = "memory"
IDENTITY: Final = "identity"
SELECTION: Final = "selection"
BASES: Final = ("attributes 0", "attributes 1")
FEW_ATTRIBUTES: Final = 16
"""So many may differ from their base whatever its size."""
_IN_DATABASE: Final = frozenset({"installation", "lineage", "epoch", "copied"})
_OF_INTENT: Final = tuple(item.name for item in fields(Intent))
_COLUMNS: Final = tuple(item.name for item in fields(Memory) if item.name not in _IN_DATABASE)


def recall(identity: Identity, side: SideFile) -> Memory:
    """What is remembered of the database that is ``identity``."""
    if not identity.installation:
        return Memory()
    who = Memory(installation=identity.installation, lineage=identity.lineage, epoch=identity.epoch)
    record = side.read(identity.installation, MEMORY)
    copied = _copied(side, record)
    if record is None or copied:
        return replace(who, copied=copied)
    base = _base(side, identity.installation, record["base"])
    found: dict[str, Any] = {name: record[name] for name in _COLUMNS if name in record}
    found["attributes"] = _applied(base, record["attributes"])
    found["intents"] = tuple(_intent(intent, base) for intent in record["intents"])
    return replace(who, **found)


def _intent(plain: dict[str, Any], base: Attributes) -> Intent:
    whole: dict[str, Any] = {**plain, "attributes": _applied(base, plain["attributes"])}
    return Intent(**whole)


def _base(side: SideFile, installation: str, turn: int) -> Attributes:
    found: dict[str, Value] | None = side.read(installation, BASES[turn])
    return found or {}


def _copied(side: SideFile, record: Any) -> str:
    if side.is_own():
        return "" if record is not None else f"the file {side.path} belongs to another database"
    if record is not None:
        return f"the file {side.path} was copied or moved along with it"
    return f"the file {side.path}, in which it remembers what it published, is not there"


def remember(memory: Memory, side: SideFile, *, durable: bool) -> None:
    """Write down all but who the database is. Raises `OSError`."""
    installation = memory.installation
    before = side.read(installation, MEMORY)
    turn = 0 if before is None else before["base"]
    base = _base(side, installation, turn)
    records: dict[str, Any] = {}
    changes = _difference(base, memory.attributes)
    if len(changes) > max(FEW_ATTRIBUTES, len(memory.attributes) // 4):
        turn, base, changes = 1 - turn, memory.attributes, {}
        records[BASES[turn]] = dict(base)
    record = {name: getattr(memory, name) for name in _COLUMNS}
    record["base"] = turn
    record["attributes"] = changes
    record["intents"] = [
        {**_shallow(intent), "attributes": _difference(base, intent.attributes)}
        for intent in memory.intents
    ]
    side.append(installation, {**records, MEMORY: record}, durable=durable)


def _shallow(intent: Intent) -> dict[str, Any]:
    # `asdict` would copy every attribute.
    return {name: getattr(intent, name) for name in _OF_INTENT}


def introduce(identity: Identity, side: SideFile) -> None:
    """Make the side file that of the database ``identity``, before that says so itself.

    Raises `OSError`.
    """
    if not side.is_own():
        side.own(identity.installation)
    side.append("", {IDENTITY: asdict(identity)}, durable=True)
    if side.read(identity.installation, MEMORY) is None:
        remember(Memory(installation=identity.installation), side, durable=True)


def known(side: SideFile) -> Known | None:
    """Whose side file this is, for a database that lost its settings; ``None``: nobody's here."""
    found = side.read("", IDENTITY) if side.is_own() else None
    if found is None:
        return None
    facts: dict[str, Any] = {**found, "earlier": tuple(found["earlier"])}
    identity = Identity(**facts)
    chosen = side.read(identity.installation, SELECTION)
    selection = None if chosen is None else Selection(*map(tuple, chosen))
    return Known(identity, last_seq(identity, side), selection)


def keep_selection(identity: Identity, selection: Selection, side: SideFile) -> None:
    """Keep the choice of tables, for a database that loses its settings. Raises `OSError`."""
    chosen = [list(selection.include), list(selection.exclude)]
    if side.read(identity.installation, SELECTION) != chosen:
        side.append(identity.installation, {SELECTION: chosen}, durable=False)


def last_seq(identity: Identity, side: SideFile) -> int:
    """The last row of the journal that was ever published, or about to be; 0 for none."""
    memory = recall(identity, side)
    positions = [memory.position, *(intent.position for intent in memory.intents)]
    return max(journal.parse(position).seq for position in positions)


def _difference(base: Attributes, now: Attributes) -> dict[str, list[Value]]:
    """Each attribute that differs: its value in a list, which is empty for one that is gone."""
    changed = {
        name: [value]
        for name, value in now.items()
        if name not in base or base[name] != value or type(base[name]) is not type(value)
    }
    return {**changed, **{name: [] for name in base if name not in now}}


def _applied(base: Attributes, changes: Mapping[str, list[Value]]) -> dict[str, Value]:
    found = dict(base)
    for name, value in changes.items():
        if value:
            found[name] = value[0]
        else:
            found.pop(name, None)
    return found


def memory_of(plain: dict[str, Any]) -> Memory:
    """A memory from what `plain_of` made of it."""
    found = dict(plain)
    found["intents"] = tuple(Intent(**intent) for intent in plain["intents"])
    return Memory(**found)


def plain_of(memory: Memory) -> dict[str, Any]:
    """A memory as plain values that msgpack can hold."""
    return {**asdict(memory), "intents": [asdict(intent) for intent in memory.intents]}
