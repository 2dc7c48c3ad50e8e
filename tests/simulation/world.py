"""The world: machines, processes, operators and one bucket, one event at a time, under a seed.

A *step* is one event that the scheduler chose: a thread runs on to its next port call (perhaps
struck by a fault), a transaction of the controller, a late request that arrives, a process killed,
a machine without power, a clock that jumps, an operator's command that begins, time that passes.
The promises are asked after each. The code under test is the code that ships: `Publisher`,
`Watcher`, `replay.restore`, `verify`, `inspect`, and the store's retries.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from greenlet import getcurrent

from bequest import replay
from bequest.backup import read_status
from bequest.compactor import Limits
from bequest.encryption import give
from bequest.errors import AccessError, BequestError
from bequest.model import Mark
from bequest.plan import Adoption, Plan
from bequest.ports import Store
from bequest.publisher import Publisher
from bequest.verify import inspect, verify
from bequest.watcher import Watcher
from bequest_adapters.stores.retrying import retrying

from . import promises
from .bucket import BODY_FAULTS, READ_FAULTS, WRITE_FAULTS, Bucket, Sender, SimulatedStore
from .database import Commit, Database, SimulatedSource, SimulatedTarget
from .process import Clocks, Crash, Lock, Process, Thread, current

LIMITS = Limits(tail_free_bytes=1500, tail_share=0.0, lock_seconds=20.0, retry_last_seconds=8.0)
CHAOS_STEPS = 300
HEAL_STEPS = 3000
MACHINES = 4
OPTIONAL = (
    "kill",
    "power",
    "jump",
    "alter",
    "outage",
    "second",
    "down",
    "backup",
    "overwrite",
    "restore",
    "copy",
    "verify",
    "reinstall",
    "uninstall",
    "delete",
    "older",
    "rollback",
    "clone",
    "busy",
    "late",
)
"""What a seed may do without. `write`, `flush` and the faults of the store are always there."""
WEIGHTS = {
    "write": 60, "flush": 8, "deliver": 10, "boot": 4, "kill": 3, "power": 2, "jump": 3,
    "alter": 3, "outage": 2, "second": 2, "down": 2, "backup": 3, "overwrite": 3, "restore": 4,
    "copy": 2, "verify": 3, "reinstall": 1, "uninstall": 0.4, "delete": 0.7, "older": 0.7,
    "rollback": 0.5, "clone": 0.5,
}  # fmt: skip


class Hundreds:
    """A schedule: due at every full hundred seconds."""

    def next_after(self, time: float) -> float:
        return (time // 100 + 1) * 100


@dataclass(eq=False)
class Machine:
    """A controller's machine: its disk, and the processes on it."""

    name: str
    database: Database
    family: int
    complete: bool = True
    restoring: bool = False
    excused: bool = False
    """An operator made its memory and the object differ: it may need another command."""
    processes: list[Process] = field(default_factory=list)
    uninstalls: int = 0
    old: tuple[dict[str, Any], Commit | None] | None = None

    def __str__(self) -> str:
        return self.name


class World:
    """One seed."""

    def __init__(
        self,
        seed: int,
        *,
        without: frozenset[str] = frozenset(),
        masked: frozenset[int] = frozenset(),
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        random.seed(seed)  # tenacity's jitter
        self.tell = tell
        self.masked = masked
        self.hub = getcurrent()
        self.steps = 0
        self.marked: list[int] = []
        """The steps at which something irregular was chosen; `masked` ones became nothing."""
        self.clock = Clocks()
        self.commits = 0
        self.families = 0
        self.bucket = Bucket(self._landed)
        self.threads: list[Thread] = []
        self.healing = False
        self.away_until = 0.0
        self.crashes = 0
        self.rewound = self.twins = False
        chance = self.chance
        self.enabled = {name for name in OPTIONAL if chance.random() < 0.5} - without
        self.events = [name for name in WEIGHTS if name not in OPTIONAL or name in self.enabled]
        self.weights = [WEIGHTS[name] for name in self.events]
        self.fault_rate = chance.choice([0.0, 0.03, 0.1, 0.3])
        allowed = [kind for kind in WRITE_FAULTS if chance.random() < 0.6 and kind not in without]
        if "late" not in self.enabled:
            allowed = [kind for kind in allowed if "late" not in kind]
        self.write_faults = allowed
        bodies = [kind for kind in BODY_FAULTS if kind not in without]
        self.body_faults = [kind for kind in bodies if kind in allowed or kind not in READ_FAULTS]
        self.read_faults = [kind for kind in READ_FAULTS if kind in allowed]
        self.mode = chance.choice(["per-change"] * 5 + ["schedule"])
        self.patient = chance.random() < 0.2
        self.event_rate = chance.choice([0.1, 0.25, 0.5])
        self.fragile = "power" in self.enabled
        self.machines = [self._machine("m1")]
        self.boot(self.machines[0])

    # -- the loop -------------------------------------------------------------------------

    def step(self) -> None:
        """One event, then the promises that it concerns."""
        self.steps += 1
        chance = self.chance.random
        event = not self.healing and chance() < self.event_rate
        if event:
            name = self.chance.choices(self.events, self.weights)[0]
            self.marked.append(self.steps)
            if self.steps not in self.masked:
                getattr(self, f"do_{name}")()
        else:
            self._run_a_thread()
        for machine in self.machines:
            promises.promise_6_bounded(machine.database)
            promises.promise_9_honest(machine)

    def _run_a_thread(self) -> None:
        now = self.clock.now
        ready = [thread for thread in self.threads if thread.ready(now)]
        if not ready:
            self._let_time_pass()
            return
        self.clock.now = now + 0.01
        thread = ready[int(self.chance.random() * len(ready))]
        fault = self._fault(thread)
        if self.tell is not None:
            self.tell(f"{thread.name}: {thread.at}{f' <- {fault}' if fault else ''}")
        if fault == "killed":
            self._kill(thread.process)
            return
        thread.switch(fault)
        if thread.dead:
            self._ended(thread)

    def _let_time_pass(self) -> None:
        if not self.threads:
            self.clock.now += 1.0
            return
        until = min(thread.until for thread in self.threads)
        self.clock.now = max(self.clock.now + 0.001, until)
        if self.tell is not None:
            self.tell(f"time passes to {self.clock.now:.3f}")

    def _fault(self, thread: Thread) -> str:
        step = thread.at
        store = step in ("head", "read", "append", "rewrite")
        if store and self.clock.now < self.away_until:
            return "request"
        if self.healing or self.chance.random() >= self.fault_rate:
            return ""
        kinds: list[str] = []
        if store:
            kinds = self.write_faults
            if step in ("head", "read"):
                kinds = self.read_faults if step == "head" else self.body_faults
        elif "busy" in self.enabled and self.chance.random() < 0.1:
            kinds = ["busy"]
        if "kill" in self.enabled and self.chance.random() < 0.15:
            kinds = ["killed"]
        kind = self.chance.choice(kinds) if kinds else ""
        if kind and self.steps in self.masked:
            return ""
        if kind:
            self.marked.append(self.steps)
        return kind

    def _ended(self, thread: Thread) -> None:
        self.threads.remove(thread)
        if thread.error is not None and self.tell is not None:
            self.tell(f"{thread.name} ended: {type(thread.error).__name__}: {thread.error}")
        elif self.tell is not None:
            self.tell(f"{thread.name} ended: {thread.result}")

    # -- machines and processes -----------------------------------------------------------

    def _machine(self, name: str) -> Machine:
        self.families += 1
        root = Commit(None, 0, {}, (), 1, 0)
        database = Database(root, self.chance, self.fragile)
        database.durable()
        return Machine(name, database, self.families)

    def _process(self, machine: Machine, name: str) -> Process:
        self.crashes += 1
        process = Process(f"{machine.name}.{name}{self.crashes}", machine)
        machine.processes.append(process)
        return process

    def _thread(self, process: Process, name: str, work: Callable[[], object]) -> Thread:
        thread = Thread(process, self.clock, f"{process.name}/{name}", work, self.hub)
        self.threads.append(thread)
        return thread

    def _store(self, machine: Machine, *, overwrite: bool = False, adopting: bool = False) -> Store:
        def sender() -> Sender:
            head = machine.database.commit
            if adopting and self.bucket.present is not None:
                head = self.bucket.present.commit
            return Sender(machine, machine.family, head, overwrite, adopting)

        store: Store = SimulatedStore(self.bucket, sender, self.chance)
        if self.patient:
            store = retrying(store, sleep=self.clock.sleep, attempts=3)
        return give(store, promises.KEYS if self.seed % 2 else None)

    def _publisher(self, machine: Machine, *, overwrite: bool = False) -> Publisher:
        publisher = Publisher(
            SimulatedSource(machine.database, machine.name),
            self._store(machine, overwrite=overwrite),
            self.clock,
            limits=LIMITS,
            overwrite=overwrite,
            mode="" if overwrite else self.mode,
            token=self.token,
        )
        publisher._lock = Lock()  # type: ignore[assignment]  # its threads are simulated too
        return publisher

    def token(self) -> str:
        return f"{self.chance.getrandbits(128):032x}"

    def boot(self, machine: Machine) -> None:
        """Start a controller's process; its watcher is the one that ships."""
        process = self._process(machine, "p")
        process.publisher = self._publisher(machine)
        source = SimulatedSource(machine.database, machine.name)
        watcher = Watcher(
            source,
            process.publisher,
            self.clock,
            lambda name, facts: None,
            mode=self.mode,
            schedule=Hundreds(),
            limits=LIMITS,
        )
        self._thread(process, "watch", partial(self._watch, source, watcher))

    def _watch(self, source: SimulatedSource, watcher: Watcher) -> None:
        thread = current()
        ready = woken = False
        while True:
            try:
                if not ready:
                    source.install(None)
                    ready = True
                wait = watcher.tick(woken=woken)
            except AccessError:
                wait = 1.0
            woken = thread.sleep(wait)

    def _kill(self, process: Process) -> None:
        if self.tell is not None:
            self.tell(f"{process.name} is killed")
        process.alive = False
        process.machine.processes.remove(process)
        for thread in process.threads:
            if thread in self.threads:
                self.threads.remove(thread)
            if thread:
                thread.throw(Crash)
            thread.error = None
            process.machine.database.publishing.bury(thread)
            if process.publisher is not None:
                process.publisher._lock.bury(thread)
        if process.machine.database.leader is process:
            process.machine.database.leader = None

    # -- what the bucket tells --------------------------------------------------------------

    def _landed(self, sender: Sender, how: str, body: bytes, mark: Mark, sent: int) -> Commit:
        before = self.bucket.present
        snapshot = promises.promise_3_one_whole_object(body, mark)
        promises.promise_9_encrypted(snapshot, wanted=bool(self.seed % 2))
        commit = promises.promise_2_consistent(sender, snapshot)
        if before is not None and not sender.adopting:
            promises.promise_4_costs_the_change(how, sent, before.commit, commit)
        promises.promise_5_fenced(
            sender, before, mark, commit, undone=self.rewound, twins=self.twins
        )
        foreign = before is not None and before.mark and before.mark.lineage != mark.lineage
        self.rewound |= bool(foreign)  # what the object told of its lineage is gone
        if sender.adopting:
            commit = before.commit if before is not None else commit
        for machine in self.machines:
            database = machine.database
            landed = database.landed
            ours = machine.family == sender.family and database.commit.holds(commit)
            if ours and (landed is None or commit.holds(landed)):
                database.landed = commit
        if self.tell is not None:
            self.tell(
                f"    the object is now {how} {mark.epoch}.{mark.serial} of {sender.machine}"
                f", commit {commit.number}"
            )
        return commit

    # -- events -----------------------------------------------------------------------------

    def _any(self) -> Machine:
        return self.chance.choice(self.machines)

    def _note(self, text: str) -> None:
        if self.tell is not None:
            self.tell(text)

    def do_write(self) -> None:
        machine = self._any()
        if not machine.complete or machine.restoring or not machine.processes:
            return
        self.commits += 1
        machine.database.write(self.clock.time(), self.commits)
        self._note(f"{machine} commits {self.commits}: {machine.database.rows}")
        if self.chance.random() < 0.7:
            for process in machine.processes:
                process.threads[0].wake()

    def do_flush(self) -> None:
        """The controller's own thread wants to know that all is stored."""
        machine = self._any()
        for process in machine.processes[:1]:
            if process.publisher is not None:
                self._note(f"{process.name} flushes commit {machine.database.commit.number}")
                self._thread(process, "flush", partial(self._flush, process))

    def _flush(self, process: Process) -> object:
        machine: Machine = process.machine
        commit = machine.database.commit
        report = process.publisher.publish()
        promises.promise_5_acknowledged(machine, commit)
        return report.action

    def do_deliver(self) -> None:
        if self.bucket.late:
            self._note("a late request arrives")
            self.bucket.late.pop(int(self.chance.random() * len(self.bucket.late)))()

    def do_boot(self) -> None:
        machine = self._any()
        if machine.complete and not machine.processes and not machine.restoring:
            self._note(f"{machine} starts again")
            self.boot(machine)

    def do_second(self) -> None:
        machine = self._any()
        if machine.complete and len(machine.processes) == 1:
            self._note(f"a second process on {machine}")
            self.boot(machine)

    def do_kill(self) -> None:
        machine = self._any()
        if machine.processes:
            self._kill(self.chance.choice(machine.processes))

    def do_down(self) -> None:
        for process in list(self._any().processes):
            self._kill(process)

    def do_power(self) -> None:
        machine = self._any()
        self._note(f"{machine} loses its power")
        for process in list(machine.processes):
            self._kill(process)
        machine.database.power_cut()
        promises.promise_5_durable(machine, twins=self.twins)

    def do_jump(self) -> None:
        by = self.chance.choice([-400_000.0, -5000.0, -30.0, 30.0, 5000.0, 400_000.0])
        self._note(f"the wall clock jumps by {by:g} s")
        self.clock.offset += by

    def do_alter(self) -> None:
        machine = self._any()
        if machine.complete and not machine.restoring:
            self.commits += 1
            machine.database.alter(self.commits)
            self._note(f"{machine} changes its schema")

    def do_outage(self) -> None:
        self.away_until = self.clock.now + self.chance.choice([5.0, 100.0, 5000.0])
        self._note(f"the store is away until {self.away_until:.0f}")

    def do_delete(self) -> None:
        self._note("somebody deletes the object")
        self.rewound = True
        self.bucket.show(None)

    def do_older(self) -> None:
        present = self.bucket.present
        if present is None or present.mark is None:
            return
        for version in self.bucket.older:
            mark = version.mark
            same = mark and (mark.lineage, mark.epoch) == (present.mark.lineage, present.mark.epoch)
            if mark and same and mark.serial < present.mark.serial:
                self._note(f"somebody puts back {mark.epoch}.{mark.serial}")
                self.rewound = True
                self.bucket.show(version)
                return

    def do_rollback(self) -> None:
        """Somebody brings back an older copy of the database's file."""
        machine = self._any()
        if not machine.complete or machine.restoring:
            return
        if machine.old is None:
            machine.old = machine.database.save(), machine.database.landed
            return
        self._note(f"{machine} is rolled back")
        for process in list(machine.processes):
            self._kill(process)
        saved, landed = machine.old
        machine.database.load(saved)
        present = self.bucket.present
        if (
            present is not None
            and present.family == machine.family
            and machine.database.commit.holds(present.commit)
            and (landed is None or present.commit.holds(landed))
        ):
            landed = present.commit
        machine.database.landed = landed
        machine.database.durable()
        machine.old, machine.excused, self.twins = None, True, True

    def do_clone(self) -> None:
        machine = self._any()
        if len(self.machines) == MACHINES or not machine.complete or machine.restoring:
            return
        twin = self._machine(f"m{len(self.machines) + 1}")
        twin.family = machine.family
        twin.excused = machine.excused = self.twins = True
        twin.database.load(machine.database.save())
        twin.database.landed = machine.database.landed
        twin.database.durable()
        self.machines.append(twin)
        self._note(f"{twin} is a copy of {machine}")
        self.boot(twin)

    # -- operators' commands ----------------------------------------------------------------

    def _operate(self, machine: Machine, name: str, work: Callable[[], object]) -> None:
        process = self._process(machine, name)
        self._note(f"operator: {name} on {machine}")

        def run() -> object:
            try:
                return work()
            finally:
                if process in machine.processes:
                    machine.processes.remove(process)

        self._thread(process, name, run)

    def do_backup(self, *, overwrite: bool = False) -> None:
        machine = self._any()
        behind = [each for each in self.machines if each.database.memory.state == "superseded"]
        if overwrite and behind and self.chance.random() < 0.5:
            machine = self.chance.choice(behind)  # whose status tells an operator to do it
        if machine.complete and not machine.restoring:
            self._backup(machine, rewrite=self.chance.random() < 0.3, overwrite=overwrite)

    def _backup(self, machine: Machine, *, rewrite: bool, overwrite: bool) -> None:
        def work() -> object:
            commit, uninstalls = machine.database.commit, machine.uninstalls
            source = SimulatedSource(machine.database, machine.name)
            source.install(None)
            publisher = self._publisher(machine, overwrite=overwrite)
            report = publisher.publish(rewrite=rewrite, check=True, exact=True)
            promises.promise_5_acknowledged(machine, commit)
            if overwrite and uninstalls == machine.uninstalls:
                machine.excused, machine.complete = False, True
            return report.action

        self._operate(machine, "overwrite" if overwrite else "backup", work)

    def do_overwrite(self) -> None:
        self.do_backup(overwrite=True)

    def do_verify(self) -> None:
        machine = self._any()
        source = SimulatedSource(machine.database, machine.name)
        compare = self.chance.random() < 0.6

        def work() -> object:
            thread = current()
            try:
                if not compare:
                    return inspect(self._store(machine)).serial
                report = verify(self._store(machine), source)
            except BequestError as error:
                thread.error = error
                raise
            finally:
                if thread.process.alive:
                    promises.promise_7_verified(thread)
            read_status(source, self.clock)
            cut = thread.cut_commit
            if report.ok and not thread.read_commit.same(
                cut.rows, Counter(cut.notes), cut.generation
            ):
                raise promises.Broken("7 verified", "verify took two states for the same")
            return report.ok

        self._operate(machine, "verify", work)

    def do_reinstall(self) -> None:
        machine = self._any()
        source = SimulatedSource(machine.database, machine.name)
        self._operate(machine, "install", lambda: source.install(None))

    def do_uninstall(self) -> None:
        machine = self._any()
        source = SimulatedSource(machine.database, machine.name)

        def work() -> None:
            try:
                source.uninstall()
            finally:
                machine.excused = True
                machine.uninstalls += 1

        self._operate(machine, "uninstall", work)

    def do_copy(self) -> None:
        self.do_restore(adopt=False)

    def do_restore(self, *, adopt: bool = True) -> None:
        """A replacement inherits the object; or its state is only copied."""
        machine = next((each for each in self.machines if not each.complete), None)
        if machine is None and len(self.machines) < MACHINES:
            machine = self._machine(f"m{len(self.machines) + 1}")
            machine.complete = False
            self.machines.append(machine)
        elif machine is None:
            idle = [each for each in self.machines if not each.processes]
            machine = self.chance.choice(idle) if idle else None
        if machine is None or machine.restoring or machine.processes:
            return
        self._restore(machine, adopt)

    def _restore(self, machine: Machine, adopt: bool) -> None:
        self.families += 1
        machine.restoring, machine.complete, machine.family = True, False, self.families
        machine.excused, machine.old = False, None
        database = machine.database

        def work() -> object:
            thread = current()
            before = Commit(None, 0, dict(database.rows), database.notes, database.generation, 0)

            def born(heir: bool) -> None:
                promises.promise_8_replaced(database, thread.read_commit)
                if heir:
                    # From now on it is a controller's database: somebody may start it at once, and
                    # whatever becomes of the restore, nobody has to restore it again.
                    machine.complete, machine.restoring = True, False
                    if self.chance.random() < 0.3:
                        self.boot(machine)

            target = SimulatedTarget(database, machine.name, born)
            adoption = None
            if adopt:
                new = partial(SimulatedSource, database, machine.name)
                adoption = Adoption(new, self.token)
            replaced = database.commit
            try:
                report = replay.restore(
                    self._store(machine, adopting=adopt),
                    target,
                    self.clock,
                    Plan(adoption=adoption, force=True),
                )
            except (BequestError, Crash) as error:
                if isinstance(error, BequestError):
                    thread.error = error
                    promises.promise_7_verified(thread)
                if database.commit is replaced:
                    promises.promise_8_untouched(before, database)
                raise
            finally:
                machine.restoring = False
            promises.promise_7_verified(thread)
            if adopt and machine.processes == [thread.process]:
                self.boot(machine)
            return report.serial

        self._operate(machine, "restore" if adopt else "copy", work)

    # -- healing ------------------------------------------------------------------------------

    def heal(self) -> None:
        """No faults any more: the object must become current, by itself or after one command."""
        self.healing, self.away_until = True, 0.0
        while self.bucket.late:
            self.bucket.late.pop()()
        self._run_until(self._no_operator, "the operators' commands end")
        self._start_all()
        machine = None
        if self.bucket.present is not None or not self._all_superseded():
            self._run_until(lambda: self.bucket.present is not None, "there is an object")
            machine = self._heir()
        if machine is None:
            self._operator_decides()
            self._run_until(self._no_operator, "the operator's command ends")
            self._start_all()
            machine = self._heir()
        if machine is None:
            raise promises.Broken("convergence", "the operator's command did not help")
        self._run_until(self._current, "the object is its owner's state")

    def _run_until(self, done: Callable[[], bool], what: str) -> None:
        for _ in range(HEAL_STEPS):
            if done():
                return
            self.step()
        raise promises.Broken("convergence", f"after {HEAL_STEPS} steps not yet: {what}")

    def _no_operator(self) -> bool:
        return all(thread.name.endswith("watch") for thread in self.threads)

    def _all_superseded(self) -> bool:
        """A restore adopted the object and died, and then somebody deleted it."""
        return all(
            machine.database.memory.state == "superseded"
            for machine in self.machines
            if machine.complete
        )

    def _start_all(self) -> None:
        for machine in self.machines:
            if machine.complete and not machine.processes:
                self.boot(machine)

    def _heir(self) -> Machine | None:
        """Whoever must bring the object up to date without anybody's help."""
        present = self.bucket.present
        assert present is not None
        assert present.mark is not None
        owner: Machine = present.owner
        for machine in self.machines:
            memory = machine.database.memory
            newer = memory.epoch > present.mark.epoch and memory.lineage == present.mark.lineage
            if newer and machine.complete and not machine.excused and memory.state != "superseded":
                owner = machine  # somebody deleted its object, and a superseded one made it anew
        fit = owner.complete and not owner.excused
        return owner if fit else None

    def _operator_decides(self) -> None:
        unfinished = [machine for machine in self.machines if not machine.complete]
        if unfinished and self.bucket.present is not None and self.chance.random() < 0.5:
            self._restore(unfinished[0], adopt=True)
        else:
            self._backup(self.chance.choice(self.machines[:1]), rewrite=False, overwrite=True)

    def _current(self) -> bool:
        present = self.bucket.present
        if present is None:
            return False
        database = present.owner.database
        return (
            present.family == present.owner.family
            and present.commit.same(database.rows, Counter(database.notes), database.generation)
            and database.memory.state == "ok"
        )

    def end(self) -> None:
        """Give the threads back."""
        for machine in self.machines:
            for process in list(machine.processes):
                self._kill(process)


def live(world: World) -> int:
    """A life with faults, then healing; returns the number of steps. Raises `promises.Broken`."""
    try:
        for _ in range(CHAOS_STEPS):
            world.step()
        world.heal()
    finally:
        world.end()
    return world.steps
