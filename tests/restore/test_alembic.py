"""An object of any release is restored into the newest one, with the data that a live upgrade
would have left."""

from __future__ import annotations

import io
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import bequest
from bequest_adapters.cli import main

from .controller import contents, rows
from .kinds import Kind, Sqlite, definitions, kind

__all__ = ["kind"]
RELEASES = Path(__file__).parent / "releases"
REVISIONS = [f"r{number:02}" for number in range(1, 11)]
HEAD = REVISIONS[-1]


def configuration(database: str, scripts: Path = RELEASES, **attributes: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("sqlalchemy.url", database.replace("%", "%%"))
    config.attributes.update(attributes)
    return config


def work(kind: Kind, url: str, revision: str) -> None:
    """What users did while this release was in use: a site and a router of that release."""
    number = int(revision[1:])
    column = {True: "hostname", False: "name"}[number < 4]
    if number < 7:
        site = (f"Site {number}", f"Street {number}; City {number}")
        kind.run(url, "INSERT INTO site (name, address) VALUES (?, ?)", site)
    else:
        kind.run(url, "INSERT INTO site (name) VALUES (?)", (f"Site {number}",))
        kind.run(url, "INSERT INTO address (site_id, city) VALUES (?, 'Delft')", (number,))
    router = (f"router-{number}", str(number))
    kind.run(url, f"INSERT INTO router (site_id, {column}, ports) VALUES (1, ?, ?)", router)
    if number >= 3:
        table = "tag" if number < 10 else "label"
        kind.run(url, f"INSERT INTO {table} (router_id, word) VALUES (?, 'core')", (number,))
    if number == 5:
        kind.run(url, "DELETE FROM setting WHERE k = 'greeting'")  # the seed must not come back


def live_until(kind: Kind, until: str) -> str:
    """A controller that has lived from the first release to the given one."""
    url = kind.new("live")
    for revision in REVISIONS[: REVISIONS.index(until) + 1]:
        command.upgrade(configuration(url), revision)
        work(kind, url, revision)
    return url


@pytest.fixture
def upgraded(tmp_path: Path) -> Callable[[str], str]:
    """The same on SQLite, as ``live.db``."""
    return lambda until: live_until(Sqlite(tmp_path), until)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_object_of_any_release_comes_into_the_newest(
    kind: Kind, tmp_path: Path, revision: str
) -> None:
    live, new, store = live_until(kind, revision), kind.new("new"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    assert bequest.inspect(store).revisions == (revision,)
    report = bequest.restore(store, new, alembic=configuration(live), adopt=True)
    assert (report.verified, report.adopted) == (True, True)
    command.upgrade(configuration(live), HEAD)  # what a live upgrade would have left
    assert kind.state(new) == kind.state(live)
    assert bequest.backup(new, store).action == "rewrite"
    assert bequest.verify(store, new).ok


@pytest.mark.parametrize("style", ["url", "attribute", "async", "elsewhere", "offline only"])
def test_however_env_py_finds_its_database_only_the_new_one_is_migrated(
    kind: Kind, tmp_path: Path, style: str
) -> None:
    live, new, store = live_until(kind, "r04"), kind.new("new"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    before = kind.state(live)
    # psycopg is a driver of both sorts.
    url = live.replace("sqlite:", "sqlite+aiosqlite:") if style == "async" else live
    config = configuration(url, style=style, elsewhere=live)
    bequest.restore(store, new, alembic=config, adopt=False)
    assert kind.run(new, "SELECT * FROM alembic_version") == [(HEAD,)]
    assert kind.state(live) == before
    assert config.get_main_option("sqlalchemy.url") == url
    assert "connection" not in config.attributes


def test_a_migration_of_data_only_is_known_by_its_revision(
    upgraded: Callable[[str], str], tmp_path: Path
) -> None:
    """It changes no schema, so the object's header still names the revision of its base."""
    live, store = upgraded("r07"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    command.upgrade(configuration(live), "r08")
    assert bequest.backup(live, store).action == "append"
    assert bequest.inspect(store).revisions == ("r08",)
    new = f"sqlite:///{tmp_path / 'new.db'}"
    bequest.restore(store, new, alembic=configuration(live), adopt=False)
    bequest.restore(
        store, f"sqlite:///{tmp_path / 'at.db'}", alembic=configuration(live), at=1, adopt=False
    )
    command.upgrade(configuration(live), HEAD)
    assert contents(tmp_path / "new.db") == contents(tmp_path / "live.db")
    assert contents(tmp_path / "at.db") == contents(tmp_path / "live.db")


def scripts_like(tmp_path: Path, drop: tuple[str, ...] = (), **extra: str) -> Path:
    """The controller's migrations without some, and with others."""
    folder = tmp_path / "scripts"
    shutil.copytree(RELEASES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in drop:
        (folder / "versions" / f"{name}.py").unlink()
    for name, text in extra.items():
        (folder / "versions" / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


BRANCH = "revision = 'b10'\ndown_revision = 'r09'\ndef upgrade(): pass\n"
BROKEN = (
    "from alembic import op\nrevision = 'r11'\ndown_revision = 'r10'\n"
    "def upgrade():\n    op.execute('UPDATE site SET name = 1 / nothing')\n"
)


class TestNamedUpFront:
    """What cannot work is said before anything is touched, with what to do."""

    @pytest.fixture
    def store(self, upgraded: Callable[[str], str], tmp_path: Path) -> str:
        bequest.backup(upgraded("r10"), str(tmp_path / "o.bequest"))
        return str(tmp_path / "o.bequest")

    def refused(self, store: str, tmp_path: Path, config: Config) -> str:
        url = f"sqlite:///{tmp_path / 'new.db'}"
        found = bequest.preflight(store, url, alembic=config, adopt=True)
        assert not found.ok
        with pytest.raises(bequest.BequestError) as caught:
            bequest.restore(store, url, alembic=config, adopt=True)
        assert str(caught.value) == str(found.fault)
        assert not (tmp_path / "new.db").exists()
        return str(caught.value)

    def test_a_snapshot_newer_than_the_code(self, store: str, tmp_path: Path) -> None:
        config = configuration("sqlite://", scripts_like(tmp_path, ("r10", "r09")))
        said = self.refused(store, tmp_path, config)
        assert "r10" in said
        assert "newer release" in said

    def test_several_heads(self, store: str, tmp_path: Path) -> None:
        config = configuration("sqlite://", scripts_like(tmp_path, b10=BRANCH))
        assert "alembic merge" in self.refused(store, tmp_path, config)

    def test_no_revision_recorded(self, tmp_path: Path) -> None:
        plain = tmp_path / "plain.db"
        with closing(sqlite3.connect(plain)) as db:
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        bequest.backup(f"sqlite:///{plain}", str(tmp_path / "p.bequest"))
        config = configuration("sqlite://")
        assert "alembic stamp" in self.refused(str(tmp_path / "p.bequest"), tmp_path, config)

    def test_scripts_that_cannot_be_read(self, store: str, tmp_path: Path) -> None:
        config = configuration("sqlite://", scripts_like(tmp_path, x="import nowhere_to_be_found"))
        assert "nowhere_to_be_found" in self.refused(store, tmp_path, config)

    def test_no_such_file(self, store: str, tmp_path: Path) -> None:
        with pytest.raises(bequest.UsageError, match="no Alembic configuration"):
            bequest.restore(
                store, "sqlite:///x.db", alembic=str(tmp_path / "alembic.ini"), adopt=True
            )

    def test_not_together_with_a_part(self, store: str) -> None:
        with pytest.raises(bequest.UsageError, match="need all of the tables"):
            bequest.restore(store, "sqlite:///x.db", alembic=Config(), tables=["site"])


@pytest.mark.parametrize("failing", ["migration", "nothing run"])
def test_migrations_that_fail_leave_target_and_object_as_they_were(
    kind: Kind, tmp_path: Path, failing: str
) -> None:
    live, target, store = live_until(kind, "r03"), kind.new("target"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    kind.run(target, "CREATE TABLE mine (a integer)")
    object_before, target_before = Path(store).read_bytes(), kind.state(target)
    if failing == "migration":
        config = configuration(live, scripts_like(tmp_path, r11=BROKEN))
    else:
        config = configuration(live, style="none")
    with pytest.raises(bequest.Refused, match="as it was"):
        bequest.restore(store, target, force=True, alembic=config, adopt=True)
    assert (Path(store).read_bytes(), kind.state(target)) == (object_before, target_before)
    assert bequest.backup(live, store).action == "unchanged"
    assert not [path for path in tmp_path.iterdir() if "bequest-restore" in path.name]


def test_a_schema_that_was_changed_by_hand_is_refused(kind: Kind, tmp_path: Path) -> None:
    live, store = live_until(kind, "r03"), str(tmp_path / "o.bequest")
    kind.run(live, "ALTER TABLE site ADD COLUMN by_hand integer")
    bequest.backup(live, store)
    with pytest.raises(bequest.Refused, match="by_hand"):
        bequest.restore(store, kind.new("new"), alembic=configuration(live), adopt=True)


def test_what_no_migration_made_is_restored_as_recorded(
    upgraded: Callable[[str], str], tmp_path: Path
) -> None:
    live, store = upgraded("r09"), str(tmp_path / "o.bequest")
    with closing(sqlite3.connect(tmp_path / "live.db")) as db:
        db.executescript(
            "CREATE TABLE extra (id INTEGER PRIMARY KEY, v); INSERT INTO extra VALUES (1, 'x');"
            "CREATE INDEX extra_v ON extra (v);"
            "CREATE TRIGGER noted AFTER INSERT ON site BEGIN"
            " INSERT INTO setting VALUES ('site ' || new.id, 'noted'); END;"
        )
    bequest.backup(live, store)
    new = tmp_path / "new.db"
    bequest.restore(store, f"sqlite:///{new}", alembic=configuration(live), adopt=False)
    command.upgrade(configuration(live), HEAD)
    assert contents(new) == contents(tmp_path / "live.db")
    assert definitions(new) == definitions(tmp_path / "live.db")


def test_a_migration_written_in_offline_mode_does_not_escape_capture(
    upgraded: Callable[[str], str], tmp_path: Path
) -> None:
    live, store = upgraded("r01"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    script = io.StringIO()
    config = configuration(live)
    config.output_buffer = script
    command.upgrade(config, "r01:r03", sql=True)
    with closing(sqlite3.connect(tmp_path / "live.db")) as db:
        db.executescript(script.getvalue())
    work(Sqlite(tmp_path), live, "r03")
    assert bequest.backup(live, store).action == "rewrite"
    assert bequest.verify(store, live).ok
    assert bequest.inspect(store).revisions == ("r03",)


@pytest.mark.parametrize("hooked", [True, False], ids=["with the hook", "without it"])
@pytest.mark.parametrize("first", ["capture", "migration"])
def test_migrations_and_capture_get_on_in_either_order_of_start(
    upgraded: Callable[[str], str], tmp_path: Path, first: str, hooked: bool
) -> None:
    live, store = upgraded("r01"), str(tmp_path / "o.bequest")
    if first == "capture":
        bequest.install(live)
    engine = create_engine(live)
    with engine.begin() as connection, bequest.migration(connection) if hooked else nullcontext():
        command.upgrade(configuration(live, style="attribute", connection=connection), HEAD)
    engine.dispose()
    with bequest.Backup(live, store) as backup:
        backup.flush()
        work(Sqlite(tmp_path), live, HEAD)
        backup.flush()
    assert bequest.verify(store, live).ok
    assert bequest.inspect(store).revisions == (HEAD,)


def test_the_command_line_takes_an_alembic_ini(
    upgraded: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live, store = upgraded("r02"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    ini = tmp_path / "alembic.ini"
    ini.write_text(
        f"[alembic]\nscript_location = {RELEASES}\nsqlalchemy.url = {live}\n", encoding="utf-8"
    )
    arguments = ["restore", store, "--database", f"sqlite:///{tmp_path / 'new.db'}", "--adopt"]
    assert main([*arguments, "--alembic", str(ini), "--dry-run"]) == 0
    assert "r02 is built, then 8 more lead to r10" in capsys.readouterr().out
    assert main([*arguments, "--alembic", str(ini), "--json"]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert rows(tmp_path / "new.db", "SELECT * FROM alembic_version") == [(HEAD,)]
