"""A copy of a database never replaces its original's object, however far either has gone on."""

from __future__ import annotations

from pathlib import Path

import pytest

import bequest

from .machines import (
    Machine,
    Make,
    PostgresqlMachine,
    SqliteMachine,
    alter,
    backup,
    sites_in,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "sqlite":
        return lambda: SqliteMachine.made(tmp_path)
    server = request.getfixturevalue("postgresql")
    return lambda: PostgresqlMachine.made(server)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "o.bequest")


@pytest.fixture
def original(make: Make, store: str) -> Machine:
    machine = make()
    for name in ("Utrecht", "Delft"):
        machine.write(name)
        backup(machine, store)
    return machine


def still_publishes(machine: Machine, store: str, folder: Path) -> None:
    machine.write("after all")
    assert backup(machine, store).action == "append"
    assert sites_in(store, folder) == machine.sites()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_clone_is_refused_until_it_adopts(
    original: Machine, store: str, tmp_path: Path, busy: bool
) -> None:
    clone = original.clone()
    if busy:
        clone.write("Gouda")
    before = Path(store).read_bytes()
    with pytest.raises(bequest.Refused, match="bequest adopt"):
        backup(clone, store)
    assert bequest.status(clone.url).state == "refused"
    assert Path(store).read_bytes() == before
    still_publishes(original, store, tmp_path)


def test_a_clone_that_published_elsewhere_first_does_not_take_the_object_over(
    original: Machine, store: str, tmp_path: Path
) -> None:
    """FINDINGS B1: it had counted as far as its original, and then replaced the original's."""
    clone = original.clone()
    elsewhere = str(tmp_path / "elsewhere.bequest")
    assert bequest.adopt(clone.url, elsewhere).adopted
    for number in range(4):
        clone.write(f"clone {number}")
        backup(clone, elsewhere)
    original.write("Leiden")
    backup(original, store)
    with pytest.raises(bequest.Refused) as refused:
        backup(clone, store)
    assert "--replace" in str(refused.value)
    still_publishes(original, store, tmp_path)


def test_two_copies_that_both_hold_the_object_do_not_replace_each_other(
    original: Machine, store: str, tmp_path: Path
) -> None:
    first, second = original.clone(), original.clone()
    assert bequest.adopt(first.url, store).epoch == 2
    first.write("first")
    backup(first, store)
    for other in (original, second):
        other.write("other")
        with pytest.raises(bequest.Refused):
            backup(other, store)
    still_publishes(first, store, tmp_path)


def test_adopting_keeps_both_histories_and_names_them(
    original: Machine, store: str, tmp_path: Path
) -> None:
    clone = original.clone()
    original.write("went on here")
    backup(original, store)
    clone.write("and there")
    report = bequest.adopt(clone.url, store)
    assert (report.adopted, report.epoch, report.epoch_before) == (True, 2, 1)
    assert report.kept is not None
    assert sites_in(report.kept, tmp_path) == original.sites()
    assert sites_in(store, tmp_path) == clone.sites()
    with pytest.raises(bequest.Superseded):
        backup(original, store)
    still_publishes(clone, store, tmp_path)


def test_adopting_what_nobody_changed_keeps_no_copy_and_can_be_given_back(
    original: Machine, store: str, tmp_path: Path
) -> None:
    """On PostgreSQL, whose journal is no proof, the way back keeps one."""
    clone = original.clone()
    assert bequest.adopt(clone.url, store).kept is None
    with pytest.raises(bequest.Superseded):
        backup(original, store)
    report = bequest.adopt(original.url)
    assert (report.adopted, report.epoch) == (True, 3)
    assert (report.kept is None) == original.url.startswith("sqlite")
    with pytest.raises(bequest.Superseded):
        backup(clone, store)
    still_publishes(original, store, tmp_path)


def test_a_mistaken_restore_is_given_back(original: Machine, store: str, tmp_path: Path) -> None:
    heir = f"sqlite:///{tmp_path / 'heir.db'}"
    assert bequest.restore(store, heir, adopt=True).epoch == 2
    with pytest.raises(bequest.Superseded):
        backup(original, store)
    report = bequest.adopt(original.url)
    assert (report.adopted, report.epoch) == (True, 3)
    with pytest.raises(bequest.Superseded):
        bequest.backup(heir, store)
    still_publishes(original, store, tmp_path)


def test_a_superseded_controller_never_makes_the_object_again_whatever_failed_in_between(
    original: Machine, tmp_path: Path
) -> None:
    store = str(tmp_path / "store" / "o.bequest")
    Path(store).parent.mkdir()
    backup(original, store)
    heir = SqliteMachine(tmp_path / "heir")
    heir.folder.mkdir()
    bequest.restore(store, heir.url, adopt=True)
    with pytest.raises(bequest.Superseded):
        backup(original, store)
    folder = Path(store).parent
    away = folder.with_name("away")
    folder.rename(away)
    with pytest.raises(bequest.AccessError):
        backup(original, store)
    away.rename(folder)
    Path(store).unlink()
    with pytest.raises(bequest.Superseded):
        backup(original, store)
    assert backup(heir, store).action == "create"


def test_the_owner_has_nothing_to_adopt(original: Machine, store: str) -> None:
    report = bequest.adopt(original.url)
    assert (report.adopted, report.epoch, report.epoch_before) == (False, 1, 1)


def test_nothing_is_adopted_of_another_controller(
    original: Machine, store: str, make: Make
) -> None:
    other = make()
    other.write("stranger")
    with pytest.raises(bequest.Refused, match="never been backed up"):
        bequest.adopt(other.url, store)
    backup(other, f"{store}-other")
    with pytest.raises(bequest.Refused, match="another controller"):
        bequest.adopt(other.url, store)
    assert not list(Path(store).parent.glob("*replaced*"))


def test_two_controllers_whose_addresses_are_swapped_are_both_refused(
    make: Make, tmp_path: Path
) -> None:
    one, two = make(), make()
    stores = [str(tmp_path / name) for name in ("one.bequest", "two.bequest")]
    for machine, store in zip((one, two), stores, strict=True):
        machine.write(store)
        backup(machine, store)
    content = [Path(store).read_bytes() for store in stores]
    for machine, store in ((one, stores[1]), (two, stores[0])):
        with pytest.raises(bequest.Refused, match="another controller"):
            backup(machine, store)
    assert [Path(store).read_bytes() for store in stores] == content
    assert backup(one, stores[0]).action == "unchanged"


def test_an_older_object_that_was_put_back_is_brought_up_to_date(
    original: Machine, store: str, tmp_path: Path
) -> None:
    old = Path(store).read_bytes()
    original.write("Leiden")
    backup(original, store)
    Path(store).write_bytes(old)
    assert backup(original, store).action == "rewrite"
    assert sites_in(store, tmp_path) == original.sites()


def test_an_object_put_back_over_a_deleted_one_of_the_predecessor_is_no_ancestor(
    original: Machine, store: str, tmp_path: Path
) -> None:
    """The old controller never heard of its successor, and made the deleted object again."""
    heir = f"sqlite:///{tmp_path / 'heir.db'}"
    bequest.restore(store, heir, adopt=True)
    Path(store).unlink()
    original.write("the old one goes on")
    assert backup(original, store).action == "create"
    with pytest.raises(bequest.Refused, match="forked"):
        bequest.backup(heir, store)
    assert bequest.adopt(heir, store).kept is not None
    with pytest.raises(bequest.Superseded):
        backup(original, store)


class TestOnSqlite:
    """What lies beside the file."""

    @pytest.fixture
    def machine(self, tmp_path: Path, store: str) -> SqliteMachine:
        machine = SqliteMachine.made(tmp_path)
        machine.write("Utrecht")
        backup(machine, store)
        return machine

    def test_a_clone_with_its_side_file_is_a_clone(
        self, machine: SqliteMachine, store: str, tmp_path: Path
    ) -> None:
        clone = machine.clone(with_side_file=True)
        with pytest.raises(bequest.Refused, match="copied or moved"):
            backup(clone, store)
        still_publishes(machine, store, tmp_path)

    def test_a_clone_of_the_whole_volume_is_caught_as_soon_as_the_histories_differ(
        self, machine: SqliteMachine, store: str, tmp_path: Path
    ) -> None:
        """Its side file has the inode number of the original's: rename stands in for that."""
        twin = machine.clone()
        parked = tmp_path / "parked"
        Path(f"{machine.path}-bequest").rename(parked)
        for mine in (machine, twin):
            mine.write(f"of {mine.folder.name}")
        side = Path(f"{machine.path}-bequest")
        parked.rename(side)
        backup(machine, store)
        side.rename(f"{twin.path}-bequest")
        with pytest.raises(bequest.Refused, match="forked"):
            backup(twin, store)

    def test_a_database_that_was_rolled_back_is_refused_then_and_later(
        self, machine: SqliteMachine, store: str, tmp_path: Path
    ) -> None:
        roll_back = machine.save()
        for name in ("Delft", "Gouda", "Leiden"):
            machine.write(name)
        backup(machine, store)
        roll_back()
        good = Path(store).read_bytes()
        with pytest.raises(bequest.Refused, match="rolled back"):
            backup(machine, store)
        for number in range(8):
            machine.write(f"again {number}")
        with pytest.raises(bequest.Refused, match="rolled back"):
            backup(machine, store)
        assert Path(store).read_bytes() == good
        report = bequest.adopt(machine.url)
        assert report.kept is not None
        assert sites_in(report.kept, tmp_path) == ["Utrecht", "Delft", "Gouda", "Leiden"]
        assert sites_in(store, tmp_path) == machine.sites()

    def test_a_roll_back_under_a_running_publisher_is_noticed(
        self, machine: SqliteMachine, store: str
    ) -> None:
        with bequest.Backup(machine.url, store) as backup_:
            roll_back = machine.save()
            machine.write("Delft")
            backup_.flush()
            good = Path(store).read_bytes()
            roll_back()
            machine.write("instead")
            with pytest.raises(bequest.Refused, match="rolled back"):
                backup_.flush()
            assert Path(store).read_bytes() == good

    def test_a_moved_file_without_its_side_file_asks_once(
        self, machine: SqliteMachine, store: str, tmp_path: Path
    ) -> None:
        moved = SqliteMachine(tmp_path / "moved")
        moved.folder.mkdir()
        for end in ("", "-wal", "-shm"):
            if Path(f"{machine.path}{end}").exists():
                Path(f"{machine.path}{end}").rename(f"{moved.path}{end}")
        with pytest.raises(bequest.Refused, match="bequest adopt"):
            backup(moved, store)
        assert bequest.adopt(moved.url, store).epoch == 2
        still_publishes(moved, store, tmp_path)

    def test_a_ring_that_turned_over_does_not_disown_its_object(
        self, machine: SqliteMachine, store: str, tmp_path: Path
    ) -> None:
        from sqlalchemy import make_url

        from bequest_adapters.databases.sqlite import open_source

        small = open_source(make_url(machine.url), journal_limit=64)
        small.install()
        small.close()
        for number in range(1500):
            machine.write(str(number))
        report = backup(machine, store)
        assert report.action == "rewrite"
        assert sites_in(store, tmp_path) == machine.sites()


def test_what_was_written_while_capture_was_broken_tells_a_copy_from_its_original(
    make: Make, tmp_path: Path
) -> None:
    """No journal row holds it, so on SQLite a repair writes one of its own."""
    store = str(tmp_path / "o.bequest")
    original = make()
    original.write("Utrecht")
    backup(original, store)
    original.write("Delft")
    clone = original.clone()
    alter(original, "DROP TABLE site")
    alter(original, "CREATE TABLE site (id INTEGER PRIMARY KEY, name TEXT, region TEXT)")
    alter(original, "INSERT INTO site (id, name) VALUES (1, 'Breda')")
    bequest.install(original.url)
    backup(original, store)
    report = bequest.adopt(clone.url, store)
    assert report.kept is not None
    assert sites_in(report.kept, tmp_path) == ["Breda"]
