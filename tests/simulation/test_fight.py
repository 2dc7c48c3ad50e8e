"""Controllers that fight over one object: who has adopted it never loses what was acknowledged.

Each controller writes and publishes as it likes, is restored from, crashes, and comes back without
knowing that it was superseded; requests are lost, answered into the void, or arrive late.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import pytest

from bequest.check import Check
from bequest.compactor import Limits
from bequest.encryption import give
from bequest.errors import BequestError, Conflict, Refused, Superseded, Unreachable
from bequest.model import Attributes, Catalog, Row, Table
from bequest.plan import Adoption, Plan
from bequest.publisher import Publisher
from bequest.replay import restore
from tests.simulation.small_world import (
    KEYS,
    Bucket,
    Clock,
    Crash,
    Database,
    SimulatedSource,
    SimulatedStore,
    state_of,
)

LIMITS = Limits(tail_free_bytes=1500, collapse_from_rows=10_000)


class SimulatedTarget:
    """The target port: a database that is there whole, or not at all."""

    name = "sim://new"
    dialect = "sim"

    def __init__(self) -> None:
        self.database: Database | None = None

    def check(self, *, force: bool) -> None:
        pass

    def problems(
        self, *, force: bool, needed_bytes: int, catalog: Catalog | None = None
    ) -> Sequence[Check]:
        return ()

    def vacant(self) -> bool:
        return self.database is None

    def alone(self, timeout_seconds: float) -> nullcontext[None]:
        return nullcontext()

    @contextmanager
    def replace(self, *, force: bool) -> Iterator[SimulatedTarget]:
        self._rows: dict[int, str] = {}
        yield self
        self.database = Database(rows=dict(self._rows), commits=[dict(self._rows)])

    def create(self, catalog: Catalog, attributes: Attributes) -> None:
        pass

    def load(self, table: Table, rows: Iterable[Row]) -> None:
        self._rows |= dict(rows)  # type: ignore[arg-type]

    def finish(self) -> None:
        pass

    def scan(self, table: Table) -> Iterator[Sequence[Row]]:
        yield list(self._rows.items())

    def close(self) -> None:
        pass


@dataclass
class Controller:
    """One that lives, and the commit that was last acknowledged as stored."""

    database: Database
    acknowledged: int = -1
    publisher: Publisher | None = None

    @property
    def epoch(self) -> int:
        return self.database.memory.epoch


@dataclass
class Fight:
    """All that happens under one seed."""

    seed: int
    clock: Clock = field(default_factory=Clock)
    bucket: Bucket = field(default_factory=Bucket)
    trace: list[str] = field(default_factory=list)
    faulty: bool = True

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.controllers = [Controller(Database())]
        self.nested = False

    def token(self) -> str:
        return self.random.randbytes(16).hex()

    def store(self) -> SimulatedStore:
        store = SimulatedStore(self.bucket, self.fault)
        give(store, KEYS if self.seed % 2 else None)
        return store

    def fault(self, request: str) -> str:
        if not self.nested and self.random.random() < 0.2:
            self.nested = True  # somebody else comes in between, also in the middle of a restore
            self.act()
            self.nested = False
        if not self.faulty:
            return ""
        kinds = ["request", "answer", "late", "crash", "crash after"]
        return self.random.choices(["", *kinds], [20, 1, 2, 1, 1, 1])[0]

    def step(self) -> None:
        self.clock.sleep(1)
        if self.bucket.late and self.random.random() < 0.2:
            self.bucket.late.pop(0)()
        elif self.random.random() < 0.12:
            self.restore()
        else:
            self.act()
        self.check()

    def act(self) -> None:
        controller = self.random.choice(self.controllers)
        step = self.random.choice([self.write, self.publish, self.publish])
        step(controller)

    def write(self, controller: Controller) -> None:
        changes: dict[int, str | None] = {}
        for _ in range(self.random.randint(1, 3)):
            gone = self.random.random() < 0.3
            changes[self.random.randint(1, 9)] = None if gone else f"v{self.random.random()}"
        controller.database.write(changes, self.clock.time())

    def publish(self, controller: Controller) -> None:
        if controller.publisher is None:
            source = SimulatedSource(controller.database)
            controller.publisher = Publisher(
                source, self.store(), self.clock, limits=LIMITS, token=self.token
            )
        newest = len(controller.database.commits) - 1
        try:
            report = controller.publisher.publish(check=self.random.random() < 0.3)
        except (Unreachable, Conflict) as error:
            self.trace.append(f"epoch {controller.epoch}: {type(error).__name__}")
        except Superseded:
            self.trace.append(f"epoch {controller.epoch}: superseded")
            assert self.bucket.mark is not None
            assert self.bucket.mark.epoch > controller.epoch
        except Refused as error:
            self.trace.append(f"epoch {controller.epoch}: refused: {error}")
        except Crash:
            controller.publisher = None
        else:
            self.trace.append(f"epoch {controller.epoch}: {report.action} {report.serial}")
            controller.acknowledged = max(controller.acknowledged, newest)

    def restore(self) -> None:
        target, store = SimulatedTarget(), self.store()
        at: int | None = None
        if self.bucket.mark is not None and self.random.random() < 0.3:
            at = self.bucket.mark.serial - self.random.randint(0, 2)
        source = lambda: SimulatedSource(target.database)  # type: ignore[arg-type]  # noqa: E731
        plan = Plan(at=at, adoption=Adoption(source, self.token))
        try:
            report = restore(store, target, self.clock, plan)
        except BequestError as error:
            self.trace.append(f"restore at {at}: {type(error).__name__}")
            assert target.database is None
        except Crash:
            self.trace.append(f"restore at {at}: crash")
        else:
            assert target.database is not None
            self.trace.append(f"restore at {at}: epoch {report.epoch}")
            self.controllers.append(Controller(target.database, acknowledged=0))

    def check(self) -> None:
        """The object holds a commit of its owner that is not older than the acknowledged one."""
        mark = self.bucket.mark
        if mark is None or self.bucket.body is None:
            return
        epochs = [known.epoch for known, _ in self.bucket.history]
        assert epochs == sorted(epochs), "an older epoch wrote over a newer one"
        owners = [each for each in self.controllers if each.epoch == mark.epoch]
        assert len(owners) <= 1, "two controllers own one epoch"
        for owner in owners:
            allowed = owner.database.commits[max(0, owner.acknowledged) :]
            assert state_of(self.bucket.body) in allowed, "an acknowledged transaction is lost"

    def heal(self) -> None:
        """Faults end: the owner publishes all, everybody else is superseded."""
        self.faulty = False
        self.nested = True
        late, self.bucket.late = self.bucket.late, []
        for deliver in late:
            deliver()
        self.check()
        for controller in self.controllers:
            self.publish(controller)
            self.publish(controller)
        self.check()
        mark = self.bucket.mark
        for controller in self.controllers:
            if mark is not None and controller.epoch == mark.epoch and self.bucket.body:
                assert state_of(self.bucket.body) == controller.database.rows


def fight(seed: int) -> Fight:
    world = Fight(seed)
    try:
        for _ in range(30):
            world.step()
        world.heal()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(world.trace)) from error
    return world


@pytest.mark.parametrize("block", range(10))
def test_an_adopted_controller_never_loses_what_was_acknowledged(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        fight(seed)


def test_the_fights_are_not_all_alike() -> None:
    """Restores succeed, go back, fail, and controllers are superseded: or nothing was shown."""
    told = [line for seed in range(60) for line in fight(seed).trace]
    for part in ("superseded", "restore at None: epoch", "restore at None: Unreach", "append"):
        assert sum(part in line for line in told) > 5, part
    assert sum("restore at" in line and "None" not in line and "epoch" in line for line in told) > 5
