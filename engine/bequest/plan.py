"""What is to be restored, as one value: every verb that replays builds one and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .model import Attributes, Author, Catalog, Row, Selection, Table
from .moment import Moment
from .ports import Crossing, Migrations, Source

if TYPE_CHECKING:
    from .files import Placing

Rows: TypeAlias = Callable[[], Iterable[tuple[Table, Sequence[Row]]]]
"""The state, block by block; may be called more than once."""

Cross: TypeAlias = Callable[[Catalog, Attributes, str, str, Rows], Crossing]
"""Catalog, attributes, source dialect, target dialect, rows. Raises `Refused` for what cannot
be."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What adopting needs besides the target: the new database as a source, and tokens.

    ``by``: who adopts, as the object shall say. When the object was published to within
    ``alive_within_seconds``, its owner is taken for alive, and only ``even_alive`` adopts.
    """

    source: Callable[[], Source]
    token: Callable[[], str]
    by: Author | None = None
    alive_within_seconds: float = 0.0
    even_alive: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One restore.

    ``at``: a serial or time within the tail, the newest state without. ``tables``: a part only.
    ``cross``: how another dialect's snapshot is taken. ``migrations``: the controller's own, which
    then make the tables. ``adoption``: continue the lineage. ``if_empty`` and ``if_exists``: do
    nothing when the target holds data, or when there is no object. ``wait_seconds``: how long
    another restore into the same target may take before this one gives up. ``files``: where the
    recorded files go.
    """

    at: Moment | None = None
    tables: Selection | None = None
    cross: Cross | None = None
    migrations: Migrations | None = None
    adoption: Adoption | None = None
    force: bool = False
    if_empty: bool = False
    if_exists: bool = False
    wait_seconds: float = 0.0
    files: Placing | None = None
