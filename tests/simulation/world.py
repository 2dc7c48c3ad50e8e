"""The world: machines, processes, operators and two buckets, one event at a time, under a seed.

A *step* is one event that the scheduler chose: a thread runs on to its next port call (perhaps
struck by a fault), a transaction of the controller, a late request that arrives, a process killed,
a machine without power, a clock that jumps, an operator's command that begins, time that passes.
The promises are asked after each. The code under test is the code that ships: `Publisher`,
`Watcher`, `replay.restore`, `takeover`, `verify`, `inspect`, and the store's retries.

Events that only an operator can answer (copies, roll-backs, lost side files, exchanged objects and
addresses) do not happen in every world: the others must become current by themselves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count

from greenlet import getcurrent

from bequest import replay, takeover
from bequest.backup import read_status
from bequest.compactor import Limits
from bequest.encryption import give
from bequest.errors import AccessError, BequestError, Unreachable
from bequest.fence import replacement_of
from bequest.model import Mark
from bequest.plan import Adoption, Plan
from bequest.ports import Store
from bequest.publisher import Publisher
from bequest.verify import inspect, verify
from bequest.watcher import Watcher
from bequest_adapters.stores.retrying import retrying

from . import promises
from .bucket import BODY_FAULTS, READ_FAULTS, WRITE_FAULTS, Bucket, Sender, SimulatedStore, Version
from .database import Commit, Database, SimulatedSource, SimulatedTarget
from .machine import Machine
from .process import Clocks, Crash, Lock, Process, Thread, current

LIMITS = Limits(tail_free_bytes=1500, tail_share=0.0, lock_seconds=20.0, retry_last_seconds=8.0)
CHAOS_STEPS = 300
HEAL_STEPS = 3000
COMMANDS = 5
"""So often does an operator repeat a command that met a lock."""
MACHINES = 4
ADDRESSES = ("sim://one", "sim://two")
TROUBLE = (
    "delete",
    "older",
    "across",
    "rollback",
    "failover",
    "clone",
    "move",
    "forget",
    "readdress",
    "swap",
    "uninstall",
    "replace",
)
"""After these an operator may be needed. Quiet worlds have none of them."""
OPTIONAL = (
    "kill",
    "power",
    "jump",
    "alter",
    "outage",
    "second",
    "down",
    "backup",
    "adopt",
    "restore",
    "copy",
    "verify",
    "reinstall",
    "busy",
    "late",
    *TROUBLE,
)
"""What a seed may do without. `write`, `flush` and the faults of the store are always there."""
WEIGHTS = {
    "write": 60, "flush": 8, "deliver": 10, "boot": 4, "kill": 3, "power": 2, "jump": 3,
    "alter": 3, "outage": 2, "second": 2, "down": 2, "backup": 3, "adopt": 2, "restore": 4,
    "copy": 2, "verify": 3, "reinstall": 1, "uninstall": 0.4, "delete": 0.7, "older": 0.7,
    "across": 0.5, "rollback": 1.5, "failover": 1.5, "clone": 1.5, "move": 0.7, "forget": 0.7,
    "readdress": 1, "swap": 0.7, "replace": 2,
}  # fmt: skip


class Hundreds:
    """A schedule: due at every full hundred seconds."""

    def next_after(self, time: float) -> float:
        return (time // 100 + 1) * 100


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
        self.stamps = count(1)
        self.buckets = [Bucket(self._landed, name) for name in ADDRESSES]
        self.threads: list[Thread] = []
        self.healing = False
        self.away_until = 0.0
        self.crashes = 0
        chance = self.chance
        self.server = chance.random() < 0.3
        quiet = frozenset(TROUBLE) if chance.random() < 0.3 else frozenset[str]()
        self.enabled = {name for name in OPTIONAL if chance.random() < 0.5} - without - quiet
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
        self.machines: list[Machine] = []
        for bucket in self.buckets[: 1 + (chance.random() < 0.3)]:
            self.boot(self._machine(bucket))

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
        store = step in ("head", "read", "append", "rewrite", "keep")
        if store and self.clock.now < self.away_until:
            return "request"
        if self.healing or self.chance.random() >= self.fault_rate:
            return ""
        kinds: list[str] = []
        if store:
            kinds = self.write_faults
            if step in ("head", "read", "keep"):
                kinds = self.body_faults if step == "read" else self.read_faults
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

    def _machine(self, bucket: Bucket) -> Machine:
        root = Commit(None, 0, {}, (), 1, 0)
        number = len(self.machines) + 1
        database = Database(root, self.chance, self.stamps, self.server, self.fragile, number)
        database.durable()
        machine = Machine(f"m{number}", database, bucket)
        self.machines.append(machine)
        return machine

    def _process(self, machine: Machine, name: str) -> Process:
        self.crashes += 1
        process = Process(f"{machine.name}.{name}{self.crashes}", machine)
        machine.processes.append(process)
        return process

    def _thread(self, process: Process, name: str, work: Callable[[], object]) -> Thread:
        thread = Thread(process, self.clock, f"{process.name}/{name}", work, self.hub)
        self.threads.append(thread)
        return thread

    def _store(self, machine: Machine, *, adopting: bool = False) -> Store:
        bucket = machine.bucket

        def sender() -> Sender:
            thread = current()
            if adopting and bucket.present is not None:
                return Sender(machine, bucket.present.commit, thread, adopting)
            return Sender(machine, thread.cut_commit, thread.cut_proof)

        store: Store = SimulatedStore(bucket, sender, self.chance)
        if self.patient:
            store = retrying(store, sleep=self.clock.sleep, attempts=3)
        return give(store, promises.KEYS if self.seed % 2 else None)

    def _publisher(self, machine: Machine, store: Store | None = None) -> Publisher:
        publisher = Publisher(
            SimulatedSource(machine.database, machine.name),
            store or self._store(machine),
            self.clock,
            limits=LIMITS,
            mode=self.mode if store is None else "",
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

    def _landed(
        self, bucket: Bucket, sender: Sender, how: str, body: bytes, mark: Mark, sent: int
    ) -> Commit:
        before, commit = bucket.present, sender.commit
        snapshot = promises.promise_3_one_whole_object(body, mark)
        promises.promise_9_encrypted(snapshot, wanted=bool(self.seed % 2))
        if sender.adopting and before is not None:
            commit = before.commit
        promises.promise_2_consistent(commit, snapshot)
        if before is not None and not sender.adopting:
            promises.promise_4_costs_the_change(how, sent, before.commit, commit)
        promises.promise_5_descends(bucket, sender, mark, commit)
        machine: Machine = sender.machine
        machine.sent_to[bucket.name] = commit
        newer = machine.sent is None or commit.holds(machine.sent)
        if newer and not sender.adopting and machine.database.commit.holds(commit):
            machine.sent = commit
        if self.tell is not None:
            self.tell(
                f"    the object {bucket.name} is now {how} {mark.epoch}.{mark.serial} of "
                f"{machine}, commit {commit.number}"
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
        if not machine.usable or not machine.processes:
            return
        if self.enabled & {"rollback", "failover"} and self.chance.random() < 0.15:
            machine.saved.append((machine.database.save(), machine.database.side.content))
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
        commit, bucket = machine.database.commit, machine.bucket
        exchanges = bucket.exchanges
        report = process.publisher.publish()
        promises.promise_5_acknowledged(machine, commit, bucket, exchanges)
        return report.action

    def do_deliver(self) -> None:
        bucket = self.chance.choice(self.buckets)
        if bucket.late:
            self._note("a late request arrives")
            bucket.late.pop(int(self.chance.random() * len(bucket.late)))()

    def do_boot(self) -> None:
        machine = self._any()
        if machine.usable and not machine.processes:
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
        promises.promise_5_durable(machine)

    def do_jump(self) -> None:
        by = self.chance.choice([-400_000.0, -5000.0, -30.0, 30.0, 5000.0, 400_000.0])
        self._note(f"the wall clock jumps by {by:g} s")
        self.clock.offset += by

    def do_alter(self) -> None:
        machine = self._any()
        if machine.usable:
            self.commits += 1
            machine.database.alter(self.commits)
            self._note(f"{machine} changes its schema")

    def do_outage(self) -> None:
        self.away_until = self.clock.now + self.chance.choice([5.0, 100.0, 5000.0])
        self._note(f"the store is away until {self.away_until:.0f}")

    def do_delete(self) -> None:
        bucket = self.chance.choice(self.buckets)
        if bucket.present is not None:
            self._note(f"somebody deletes {bucket.name}")
            bucket.exchange(None)

    def do_older(self) -> None:
        bucket = self.chance.choice(self.buckets)
        if bucket.older:
            version = self.chance.choice(bucket.older)
            if version.mark is not None:
                self._note(f"somebody puts back {version.mark.epoch}.{version.mark.serial}")
                bucket.exchange(version)

    def do_across(self) -> None:
        bucket, other = self.chance.sample(self.buckets, 2)
        if other.present is not None:
            self._note(f"somebody copies {other.name} to {bucket.name}")
            bucket.exchange(other.present)

    def do_rollback(self) -> None:
        """Somebody puts an older file in the database's place, perhaps under a running process."""
        if not self.server:
            self._roll_back(live=self.chance.random() < 0.5, side=self.chance.random() < 0.5)

    def do_failover(self) -> None:
        """A replica takes over that lacks the last transactions; with them goes the memory."""
        if self.server:
            self._roll_back(live=self.chance.random() < 0.5, side=False)

    def _roll_back(self, *, live: bool, side: bool) -> None:
        machine = self._any()
        if not machine.usable or not machine.saved:
            return
        self._note(f"{machine} is rolled back{', live' * live}{', with its side file' * side}")
        saved, content = self.chance.choice(machine.saved)
        if not live:
            self._stop(machine)
        database = machine.database
        database.load(saved)
        database.durable()
        if self.server:
            database.fail_over()
        if side:
            database.side.show(content)
            if self.chance.random() < 0.3:
                database.side.show(database.side.copy())
        machine.sent = None
        machine.troubles += 1
        machine.rolled_back_to = database.last

    def do_clone(self) -> None:
        """A copy of a database starts beside it: alone, with its side file, or as a whole volume.

        On a server it is dumped and restored, or its files are copied.
        """
        machine = self._any()
        if len(self.machines) == MACHINES or not machine.usable:
            return
        twin = self._machine(self.chance.choice(self.buckets))
        twin.troubles = 1
        machine.troubles += 1
        twin.database.load(machine.database.save())
        twin.database.durable()
        twin.rolled_back_to = machine.rolled_back_to
        how = self.chance.choice(["alone", "with its side file", "as a volume"])
        if how == "as a volume":
            twin.database.place = machine.database.place
            twin.database.side.show(machine.database.side.content)
        elif how == "with its side file":
            twin.database.side.show(machine.database.side.copy())
        self._note(f"{twin} at {twin.bucket.name} is a copy of {machine}, {how}")
        self.boot(twin)

    def do_move(self) -> None:
        """The file is moved and its side file left behind; or a server is dumped and restored."""
        machine = self._any()
        if machine.usable:
            self._note(f"{machine} is moved")
            self._stop(machine)
            machine.troubles += 1
            machine.database.place += MACHINES
            machine.database.side.show(None)

    def do_forget(self) -> None:
        machine = self._any()
        if machine.usable and not self.server:
            self._note(f"somebody deletes the side file of {machine}")
            machine.troubles += 1
            machine.database.side.show(None)

    def do_readdress(self) -> None:
        machine = self._any()
        if machine.usable:
            self._point(machine, self.buckets[machine.bucket is self.buckets[0]])

    def do_swap(self) -> None:
        if len(self.machines) > 1:
            one, other = self.chance.sample(self.machines, 2)
            if one.usable and other.usable and one.bucket is not other.bucket:
                first = one.bucket
                self._point(one, other.bucket)
                self._point(other, first)

    def _point(self, machine: Machine, bucket: Bucket) -> None:
        self._note(f"{machine} is to publish to {bucket.name}")
        self._stop(machine)
        machine.bucket = bucket
        machine.troubles += 1
        self.boot(machine)

    def _stop(self, machine: Machine) -> None:
        for process in list(machine.processes):
            self._kill(process)

    # -- operators' commands ----------------------------------------------------------------

    def _operate(self, machine: Machine, name: str, work: Callable[[], object]) -> Thread:
        process = self._process(machine, name)
        self._note(f"operator: {name} on {machine}")

        def run() -> object:
            try:
                return work()
            finally:
                if process in machine.processes:
                    machine.processes.remove(process)

        return self._thread(process, name, run)

    def do_backup(self) -> None:
        machine = self._any()
        rewrite = self.chance.random() < 0.3

        def publish(source: SimulatedSource, store: Store, publisher: Publisher) -> object:
            return publisher.publish(rewrite=rewrite, check=True, exact=True).action

        if machine.usable:
            self._publish(machine, "backup", "", publish)

    def do_adopt(self) -> None:
        machine = self._any()
        held = ("superseded", "refused")
        behind = [each for each in self.machines if each.database.recall().state in held]
        if behind and self.chance.random() < 0.5:
            machine = self.chance.choice(behind)  # whose status tells an operator to do it
        # An operator who is not in trouble may do it too, seldom.
        if machine.usable and (machine.troubles or behind or self.chance.random() < 0.2):
            self._adopt(machine)

    def _adopt(self, machine: Machine) -> Thread:
        def adopt(source: SimulatedSource, store: Store, publisher: Publisher) -> object:
            return takeover.adopt(source, store, publisher, LIMITS).adopted

        return self._publish(machine, "adopt", "adopt", adopt)

    def do_replace(self) -> None:
        """By the name of what is there, or what was there, or is somewhere else."""
        machine = self._any()
        bucket = machine.bucket
        if not machine.usable or bucket.present is None:
            return
        version = bucket.present
        if self.chance.random() < 0.4:
            seen = [*bucket.older, *(each.present for each in self.buckets if each.present)]
            version = self.chance.choice(seen)
        self._replace(machine, version)

    def _replace(self, machine: Machine, version: Version) -> Thread:
        assert version.mark is not None
        named = replacement_of(version.mark)

        def replacing(source: SimulatedSource, store: Store, publisher: Publisher) -> object:
            report = takeover.replace_named(source, store, publisher, LIMITS, named)
            assert report.replaced is not None
            if f"{report.replaced['lineage']}/{report.replaced['serial']}" != named:
                raise promises.Broken("5 fenced", f"{named} was to be replaced: {report.replaced}")
            return report.action

        machine.troubles += 1  # its lineage may become another one
        return self._publish(machine, "replace", named, replacing)

    def _publish(
        self,
        machine: Machine,
        name: str,
        order: str,
        publish: Callable[[SimulatedSource, Store, Publisher], object],
    ) -> Thread:
        bucket = machine.bucket

        def work() -> object:
            thread = current()
            commit = machine.database.commit
            exchanges, troubles = bucket.exchanges, machine.troubles
            store = self._store(machine)
            source = SimulatedSource(machine.database, machine.name)
            source.install(None)
            thread.order = order
            answer = publish(source, store, self._publisher(machine, store))
            promises.promise_5_acknowledged(machine, commit, bucket, exchanges)
            if order and (exchanges, troubles) == (bucket.exchanges, machine.troubles):
                machine.troubles, bucket.excused = 0, False
            return answer

        return self._operate(machine, name, work)

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
                machine.troubles += 1
                machine.saved.clear()

        self._operate(machine, "uninstall", work)

    def do_copy(self) -> None:
        self.do_restore(adopt=False)

    def do_restore(self, *, adopt: bool = True) -> None:
        """A replacement inherits the object; or its state is only copied."""
        machine = next((each for each in self.machines if not each.complete), None)
        if machine is None and len(self.machines) < MACHINES:
            machine = self._machine(self.chance.choice(self.buckets))
            machine.complete = False
        elif machine is None:
            idle = [each for each in self.machines if not each.processes]
            machine = self.chance.choice(idle) if idle else None
        if machine is None or machine.restoring or machine.processes:
            return
        self._restore(machine, adopt)

    def _restore(self, machine: Machine, adopt: bool) -> Thread:
        machine.restoring, machine.complete, machine.troubles = True, False, 0
        machine.saved.clear()
        database, bucket = machine.database, machine.bucket
        exchanges = bucket.exchanges

        def work() -> object:
            thread = current()
            before = Commit(None, 0, dict(database.rows), database.notes, database.generation, 0)

            def born(heir: bool) -> None:
                promises.promise_8_replaced(database, thread.read_commit)
                machine.sent = machine.rolled_back_to = None
                machine.birth = thread
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
                alive = self.healing or self.chance.random() < 0.8
                adoption = Adoption(new, self.token, even_alive=alive)
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
            if adopt:
                if bucket.exchanges == exchanges:
                    bucket.excused = False
                if machine.processes == [thread.process]:
                    self.boot(machine)
            return report.serial

        return self._operate(machine, "restore" if adopt else "copy", work)

    # -- healing ------------------------------------------------------------------------------

    def heal(self) -> None:
        """No faults any more: every object must become current.

        By itself; or after one command of an operator, where somebody did what only an operator
        can answer.
        """
        self.healing, self.away_until = True, 0.0
        for bucket in self.buckets:
            while bucket.late:
                bucket.late.pop()()
        self._run_until(self._no_operator, "the operators' commands end")
        self._start_all()
        if "older" in self.enabled and self.chance.random() < 0.5:
            self.do_older()
        for bucket in self.buckets:
            if any(each.complete and each.bucket is bucket for each in self.machines):
                self._heal(bucket)
            promises.promise_5_kept(bucket)

    def _heal(self, bucket: Bucket) -> None:
        if not self._heals_by_itself(bucket):
            self._operator_decides(bucket)
        self._run_until(partial(self._current, bucket), f"{bucket.name} is its owner's state")
        assert bucket.present is not None
        owner: Machine = bucket.present.owner
        self.commits += 1
        owner.database.write(self.clock.time(), self.commits)
        self._note(f"{owner} commits {self.commits}: {owner.database.rows}")
        self._run_until(partial(self._current, bucket), f"{bucket.name} goes on")

    def _run_until(self, done: Callable[[], bool], what: str) -> None:
        for _ in range(HEAL_STEPS):
            if done():
                return
            self.step()
        raise promises.Broken("convergence", f"after {HEAL_STEPS} steps not yet: {what}")

    def _no_operator(self) -> bool:
        return all(thread.name.endswith("watch") for thread in self.threads)

    def _start_all(self) -> None:
        for machine in self.machines:
            if machine.complete and not machine.processes:
                self.boot(machine)

    def _heals_by_itself(self, bucket: Bucket) -> bool:
        here = [each for each in self.machines if each.complete and each.bucket is bucket]
        present = bucket.present
        if present is not None and any(each.proves(present) for each in here):
            return True
        if bucket.excused:
            return False
        if present is not None:
            return present.owner in here and not present.owner.troubles
        return not any(each.troubles for each in here)

    def _operator_decides(self, bucket: Bucket) -> None:
        """Stop the others, and say which controller is the one."""
        here = [each for each in self.machines if each.complete and each.bucket is bucket]
        machine = self.chance.choice(here)
        for other in here:
            if other is not machine:
                self._stop(other)
        self._run_until(self._no_operator, "the flushes end")
        for _ in range(COMMANDS):
            command = self._command(bucket, machine)
            self._run_until(self._no_operator, "the operator's command ends")
            if not isinstance(command.error, Unreachable):
                break
        self._start_all()

    def _command(self, bucket: Bucket, machine: Machine) -> Thread:
        """The one command that such a case takes."""
        present = bucket.present
        mark = None if present is None else present.mark
        unfinished = [each for each in self.machines if not each.complete and each.bucket is bucket]
        if unfinished and present is not None and self.chance.random() < 0.5:
            self._stop(machine)
            return self._restore(unfinished[0], adopt=True)
        lineage = machine.database.identity.lineage
        if present is not None and mark is not None and mark.lineage != lineage:
            return self._replace(machine, present)
        return self._adopt(machine)

    def _current(self, bucket: Bucket) -> bool:
        present = bucket.present
        if present is None or present.owner.bucket is not bucket:
            return False
        database = present.owner.database
        return (
            database.recall().state == "ok"
            and bucket.name in database.commit.stored
            and present.commit.same(database.rows, Counter(database.notes), database.generation)
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
