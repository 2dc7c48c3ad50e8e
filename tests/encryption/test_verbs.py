"""Every verb that reads the object works with its key, wherever that comes from, and says so."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest.model import Mark, Mutation, Operation
from bequest.snapshot.extent import extent
from bequest.snapshot.frame import PREAMBLE_BYTES, preamble
from bequest.snapshot.writer import write_tail
from bequest_adapters import accounts, cipher
from bequest_adapters.cli import main
from tests.restore.controller import Controller, contents
from tests.restore.kinds import Kind, Postgresql, Sqlite
from tests.servers.postgresql import PostgresqlServer
from tests.test_cli_run import Sidecar

CANARY = "the canary that nobody may see"
Answer = tuple[int, Any, str]


class Scene:
    """A controller whose object is encrypted, and the command line in an empty folder."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.key_file = str(folder / "object.key")
        self.key_id = cipher.make(self.key_file)
        self.controller = Controller(folder)
        self.url, self.plain = self.controller.url, self.controller.store
        self.store = bequest.keyed(self.plain, key_file=self.key_file)
        files = folder / "files"
        files.mkdir()
        (files / "cert.pem").write_text(CANARY)
        bequest.backup(self.url, self.store, files=[str(files)])
        self.controller.write("INSERT INTO site VALUES (4, 'later', 'eu')")
        bequest.backup(self.url, self.store, files=[str(files)])
        self._capfd = capfd

    def run(self, *arguments: str) -> Answer:
        code = main(arguments)
        out, err = self._capfd.readouterr()
        return code, json.loads(out) if out else None, err

    def new(self, name: str = "new") -> str:
        return f"sqlite:///{self.folder / name}.db"

    def key(self) -> str:
        return Path(self.key_file).read_text().strip()


@pytest.fixture
def scene(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Scene:
    for name in [name for name in os.environ if name.startswith("BEQUEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Scene(tmp_path, capfd)


READING: dict[str, Callable[[Scene], list[str]]] = {
    "restore": lambda s: ["restore", s.plain, "--database", s.new(), "--adopt"],
    "restore --dry-run": lambda s: [
        "restore",
        s.plain,
        "--database",
        s.new(),
        "--dry-run",
        "--adopt",
    ],
    "verify": lambda s: ["verify", s.plain],
    "verify --database": lambda s: ["verify", s.plain, "--database", s.url],
    "diff --database": lambda s: ["diff", s.plain, "--database", s.url],
    "diff": lambda s: ["diff", s.plain, s.plain],
    "drill": lambda s: ["drill", s.plain],
    "follow": lambda s: ["follow", s.plain, "--database", s.new(), "--once"],
    "files": lambda s: ["files", s.plain, "--files-to", str(s.folder / "placed")],
    "log": lambda s: ["log", s.plain],
}


@pytest.mark.parametrize("verb", READING)
def test_a_verb_without_the_key_names_it_and_touches_nothing(scene: Scene, verb: str) -> None:
    before = Path(scene.plain).read_bytes()
    other = str(scene.folder / "other.key")
    cipher.make(other)
    for more in ([], ["--key-file", other]):
        code, _, err = scene.run(*READING[verb](scene), "--json", *more)
        assert code == bequest.KeyMissing.exit_code == 3
        assert scene.key_id in " ".join(err.split())
    assert Path(scene.plain).read_bytes() == before
    assert not (scene.folder / "new.db").exists()
    assert not (scene.folder / "placed").exists()


@pytest.mark.parametrize("verb", READING)
def test_a_verb_with_the_key_works(scene: Scene, verb: str) -> None:
    code, answer, err = scene.run(*READING[verb](scene), "--json", "--key-file", scene.key_file)
    assert (code, bool(answer)) == (0, True), err
    assert scene.key() not in err


PLACES = ["argument", "variable of the path", "variable", "file", "account", "nowhere"]


@pytest.mark.parametrize("place", PLACES)
def test_a_key_comes_from_any_place(
    scene: Scene, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["verify", scene.plain]
    if place == "argument":
        arguments += ["--key-file", scene.key_file]
    elif place == "variable of the path":
        monkeypatch.setenv("BEQUEST_KEY_FILE", scene.key_file)
    elif place == "variable":
        monkeypatch.setenv("BEQUEST_KEY", scene.key())
    elif place == "file":
        Path("bequest.toml").write_text('key_file = "object.key"\n')
    elif place == "account":
        folder, name = os.path.split(scene.plain)
        Path("bequest.toml").write_text(
            f'account = "nas"\nfile_name = "{name}"\nkey_file = "/nonexistent"\n[accounts.nas]\n'
            f'cloud_type = "file"\nbucket = "{folder}"\nkey_file = "${{FOLDER}}/object.key"\n'
        )
        monkeypatch.setenv("FOLDER", str(scene.folder))
        arguments = ["verify"]
    code, answer, _ = scene.run(*arguments, "--json")
    if place == "nowhere":
        assert code == 3
    else:
        assert (code, answer["key_id"]) == (0, scene.key_id)


def test_an_argument_goes_before_a_variable_and_that_before_the_file(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bequest.toml").write_text('key_file = "/nonexistent/of-the-file"\n')
    code, _, err = scene.run("verify", scene.plain)
    assert (code, "of-the-file" in err) == (2, True)
    monkeypatch.setenv("BEQUEST_KEY", scene.key())
    assert scene.run("verify", scene.plain, "--json")[0] == 0
    monkeypatch.setenv("BEQUEST_KEY", "no key")
    assert scene.run("verify", scene.plain)[0] == 2
    assert scene.run("verify", scene.plain, "--json", "--key-file", scene.key_file)[0] == 0


def test_a_key_is_no_argument(scene: Scene) -> None:
    code, _, err = scene.run("verify", scene.plain, "--key", scene.key())
    assert code == 2
    assert "--key" in err


def test_inspect_without_the_key_tells_what_shows_from_outside(scene: Scene) -> None:
    code, seen, _ = scene.run("inspect", scene.plain, "--json")
    _, whole, _ = scene.run("inspect", scene.plain, "--json", "--key-file", scene.key_file)
    assert (code, seen["locked"], whole["locked"]) == (0, True, False)
    assert seen["key_id"] == whole["key_id"] == scene.key_id
    hidden = {"locked", "rows", "tables", "objects", "tail_mutations", "files", "not_covered"}
    assert {name: seen[name] for name in seen if name not in hidden} == {
        name: whole[name] for name in whole if name not in hidden
    }
    assert (whole["rows"], whole["files"]) != (0, 0)
    assert not any(seen[name] for name in hidden - {"locked"})


def test_the_preflight_says_whether_the_key_is_right(scene: Scene) -> None:
    right = bequest.preflight(scene.store, scene.new(), adopt=True)
    checks = {check["name"]: check for check in right.checks}
    assert (checks["key"]["level"], right.key_id) == ("ok", scene.key_id)
    assert "right" in checks["key"]["text"]
    wrong = bequest.preflight(scene.plain, scene.new(), adopt=True)
    checks = {check["name"]: check for check in wrong.checks}
    assert (wrong.ok, checks["key"]["level"]) == (False, "fail")
    assert scene.key_id in checks["key"]["text"]
    assert isinstance(wrong.fault, bequest.KeyMissing)


def test_a_plain_object_says_so(tmp_path: Path, scene: Scene) -> None:
    other = Controller(tmp_path, "plain")
    other.store = str(tmp_path / "plain.bequest")
    other.publish()
    assert bequest.inspect(other.store).key_id is None
    assert bequest.verify(other.store).key_id is None
    assert bequest.diff(scene.store, other.store).before == bequest.inspect(scene.store).store


def test_a_warm_copy_follows_and_takes_over_under_the_key(scene: Scene) -> None:
    warm = scene.new("warm")
    assert bequest.follow(scene.store, warm, once=True).action == "reloaded"  # type: ignore[union-attr]
    scene.controller.write("INSERT INTO site VALUES (5, 'followed', 'eu')")
    bequest.backup(scene.url, scene.store)
    assert bequest.follow(scene.store, warm, once=True).action == "applied"  # type: ignore[union-attr]
    code, _, err = scene.run("promote", "--database", warm)
    assert (code, scene.key_id in err) == (3, True)
    assert scene.run("promote", "--database", warm, "--json", "--key-file", scene.key_file)[0] == 0
    assert bequest.status(warm).key_id == scene.key_id
    assert bequest.verify(scene.store, warm).ok
    with pytest.raises(bequest.Refused, match="encrypted"):
        bequest.backup(warm, scene.plain)
    assert bequest.backup(warm, scene.store).key_id == scene.key_id


def test_a_warm_copy_does_not_apply_what_was_made_without_the_key(scene: Scene) -> None:
    """Whoever may write to the store, but has no key, adds a publish of his own."""
    warm = scene.new("warm")
    bequest.follow(scene.store, warm, once=True)
    before = contents(scene.folder / "warm.db")
    data = Path(scene.plain).read_bytes()
    found = extent(io.BytesIO(data))
    assert found is not None
    mark = Mark(found.mark.lineage, found.mark.epoch, found.mark.serial + 1, "66" * 16)
    gone = [Mutation(2, Operation.DELETE, (1,), None, 5.0)]
    more, _ = write_tail(gone, {}, [], mark, 5.0, found.chain, 1 << 20)
    Path(scene.plain).write_bytes(preamble(len(data) + len(more)) + data[PREAMBLE_BYTES:] + more)
    with pytest.raises(bequest.SnapshotDamaged):
        bequest.follow(scene.store, warm, once=True)
    assert contents(scene.folder / "warm.db") == before
    with pytest.raises(bequest.SnapshotDamaged):
        bequest.restore(scene.store, scene.new(), adopt=True)
    assert not (scene.folder / "new.db").exists()


def test_an_earlier_version_opens_with_the_same_key(scene: Scene) -> None:
    kept = bequest.keyed(f"{scene.plain}?keep=2", key_file=scene.key_file)
    bequest.backup(scene.url, kept, rewrite=True)
    older = bequest.history(kept)[-1]
    assert not older.current
    assert bequest.verify(kept, version=older.version).key_id == scene.key_id
    with pytest.raises(bequest.KeyMissing):
        bequest.verify(f"{scene.plain}?keep=2", version=older.version)


def test_an_account_takes_a_key_file_in_python(scene: Scene) -> None:
    folder, name = os.path.split(scene.plain)
    account = accounts.Account("file", folder, name)
    with pytest.raises(bequest.KeyMissing):
        bequest.verify(accounts.open_account(account))
    opened = accounts.open_account(account, key_file=scene.key_file)
    assert bequest.verify(opened).key_id == scene.key_id


def test_the_sidecar_publishes_under_the_key_and_ends_without_it(scene: Scene) -> None:
    arguments = ("--database", scene.url, "--store", scene.plain)
    scene.controller.write("INSERT INTO site VALUES (6, 'by the sidecar', 'eu')")
    refused = Sidecar(scene.folder, *arguments)
    code, events, err = refused.end()
    assert (code, "refused" in [event["event"] for event in events]) == (5, True)
    assert scene.key_id in " ".join(err.split())
    running = Sidecar(scene.folder, *arguments, "--key-file", scene.key_file)
    try:
        published = running.until("published")
        assert (published["action"], published["key_id"]) == ("append", scene.key_id)
    finally:
        running.close()
    assert bequest.verify(scene.store, scene.url).ok


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        yield Sqlite(tmp_path)
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    with ExitStack() as stack:
        yield Postgresql(server, stack)


def test_either_kind_of_database_is_inherited_under_a_key(kind: Kind, tmp_path: Path) -> None:
    key_file = str(tmp_path / "object.key")
    key_id = cipher.make(key_file)
    store = bequest.keyed(tmp_path / "o.bequest", key_file=key_file)
    first, second = kind.new("first"), kind.new("second")
    kind.run(first, "CREATE TABLE site (id INTEGER PRIMARY KEY, name TEXT)")
    kind.run(first, "INSERT INTO site VALUES (1, ?)", (CANARY,))
    assert bequest.backup(first, store).key_id == key_id
    kind.run(first, "INSERT INTO site VALUES (2, ?)", (CANARY,))
    assert bequest.backup(first, store).action == "append"
    assert bequest.restore(store, second, adopt=True).adopted
    assert kind.state(second) == kind.state(first)
    assert bequest.status(second).key_id == key_id
    with pytest.raises(bequest.Refused):
        bequest.backup(second, str(store))
    kind.run(second, "DELETE FROM site WHERE id = 1")
    assert bequest.backup(second, store).action == "append"
    assert CANARY.encode() not in Path(store).read_bytes()
