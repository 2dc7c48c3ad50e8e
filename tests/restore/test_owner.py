"""Restore is the harmless verb: it takes a living controller's backup away only when asked to."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest import registry
from bequest.errors import OwnerAlive, Refused
from bequest.model import Author, Stat
from bequest.owner import named
from bequest.registry import open_store
from bequest.testing.objects import sample
from bequest_adapters.cli import main
from tests.stores.places import SERVERS, place_on

from .controller import Controller

ME = {"host": socket.gethostname(), "process": os.getpid()}


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path)
    made.publish()
    return made


@pytest.fixture
def new(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new.db'}"


def owner(report: bequest.PreflightReport) -> dict[str, str]:
    (check,) = [check for check in report.checks if check["name"] == "owner"]
    return check


def exists(url: str) -> bool:
    return Path(url.removeprefix("sqlite:///")).exists()


def test_a_living_owner_is_not_silenced_by_a_plain_restore(
    controller: Controller, new: str
) -> None:
    before = Path(controller.store).read_bytes()
    with pytest.raises(OwnerAlive) as refused:
        bequest.restore(controller.store, new)
    told = str(refused.value)
    for word in (repr(ME["host"]), f"process {ME['process']}", "serial 1", " s ago"):
        assert word in told
    assert told.index("--copy") < told.index("stop it") < told.index("--adopt")
    assert refused.value.exit_code == 5
    assert not exists(new)
    assert Path(controller.store).read_bytes() == before
    controller.write("DELETE FROM session")
    assert controller.publish().action == "append"


def test_the_explicit_word_adopts_and_a_copy_never_asks(controller: Controller, new: str) -> None:
    assert not bequest.restore(controller.store, new, adopt=False).adopted
    controller.write("DELETE FROM session")
    assert controller.publish().action == "append"
    assert bequest.restore(controller.store, new, adopt=True, force=True).adopted
    with pytest.raises(bequest.Superseded):
        controller.publish()


def test_a_silent_owner_is_inherited_from_without_a_word(controller: Controller, new: str) -> None:
    controller.fall_silent()
    assert bequest.restore(controller.store, new).adopted


def test_the_limit_can_be_chosen(controller: Controller, new: str) -> None:
    controller.fall_silent(100)
    with pytest.raises(OwnerAlive):
        bequest.restore(controller.store, new)
    with pytest.raises(OwnerAlive, match="120 s"):
        bequest.restore(controller.store, new, alive_within_seconds=120)
    assert bequest.restore(controller.store, new, alive_within_seconds=60).adopted
    with pytest.raises(bequest.UsageError):
        bequest.restore(controller.store, new, alive_within_seconds=float("nan"))


def test_a_time_that_is_still_to_come_makes_nobody_old(controller: Controller, new: str) -> None:
    controller.fall_silent(-7200)
    with pytest.raises(OwnerAlive, match="in the future"):
        bequest.restore(controller.store, new)
    assert bequest.restore(controller.store, new, alive_within_seconds=0).adopted


class Silent:
    """A store that does not say when its object was written; the seal has to."""

    def __init__(self, address: str) -> None:
        self._store = open_store(address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def head(self) -> Stat | None:
        found = self._store.head()
        return None if found is None else Stat(found.version, found.size_bytes, found.mark)


@pytest.mark.parametrize(("offset_seconds", "alive"), [(-7200, False), (0, True), (7200, True)])
def test_without_the_stores_word_the_time_in_the_object_counts(
    controller: Controller,
    new: str,
    monkeypatch: pytest.MonkeyPatch,
    offset_seconds: int,
    alive: bool,
) -> None:
    clock = registry.system_clock()
    now = clock.time() + offset_seconds
    with monkeypatch.context() as skewed:
        skewed.setattr(type(clock), "time", lambda _: now)
        controller.write("DELETE FROM session")
        controller.publish()
    controller.fall_silent()
    report = bequest.preflight(Silent(controller.store), new)
    assert owner(report)["level"] == ("fail" if alive else "ok")
    # The store's own time is worth more than that of a machine whose clock may be wrong.
    assert owner(bequest.preflight(controller.store, new))["level"] == "ok"


def test_the_preflight_names_who_published_last_and_when(controller: Controller, new: str) -> None:
    plain = bequest.preflight(controller.store, new)
    assert owner(plain)["level"] == "fail"
    assert isinstance(plain.fault, OwnerAlive)
    assert plain.published_by == ME
    assert plain.published_at == bequest.inspect(controller.store).published_at
    explicit = bequest.preflight(controller.store, new, adopt=True)
    assert (explicit.ok, owner(explicit)["level"]) == (True, "warn")
    copy = bequest.preflight(controller.store, new, adopt=False)
    assert owner(copy)["level"] == "ok"
    for report in (plain, explicit, copy):
        assert f"process {ME['process']}" in owner(report)["text"]


def test_a_drill_says_whose_publish_it_restored(controller: Controller) -> None:
    report = bequest.drill(controller.store)
    assert report.ok
    assert report.published_by == ME
    assert report.published_at == bequest.inspect(controller.store).published_at


def test_a_name_in_the_object_cannot_steer_a_terminal() -> None:
    told = named(Author("gate\x1b[2J\x07\n\u202e", 7, "\x1b]0;x\x07"))
    assert told.isprintable()


def test_several_obstacles_are_told_together_and_are_not_a_question(
    controller: Controller,
) -> None:
    with pytest.raises(Refused) as refused:
        bequest.restore(controller.store, controller.url)
    assert not isinstance(refused.value, OwnerAlive)
    assert "holds data" in str(refused.value)
    assert "--copy" in str(refused.value)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_store_tells_by_its_own_clock_how_old_its_object_is(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = place_on(kind, request, monkeypatch).url
    with closing(open_store(url)) as store:
        new = sample()
        store.rewrite(new.body(), len(new.data), onto=None, mark=new.mark)
        found = store.head()
    assert found is not None
    assert found.age_seconds is not None
    assert -5 < found.age_seconds < 120


# From the command line


def test_the_command_refuses_with_its_exit_code_and_never_waits_without_a_terminal(
    controller: Controller, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    restore = ["restore", controller.store, "--database", new]
    assert main([*restore, "--if-empty", "--if-exists"]) == 5
    assert "--adopt" in capsys.readouterr().err
    assert main([*restore, "--dry-run"]) == 5
    assert not exists(new)
    capsys.readouterr()
    for copy in ("--copy", "--no-adopt"):
        assert main([*restore, copy, "--force", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["adopted"] is False
    assert main([*restore, "--copy", "--adopt"]) == 2
    assert main([*restore, "--force", "--alive-within", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["adopted"] is True
    capsys.readouterr()
    assert main([*restore, "--force"]) == 5
    assert main([*restore, "--force", "--adopt"]) == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "code"), [("adopt\n", 0), ("yes\n", 5), ("y\n", 5), ("\n", 5), ("", 5)]
)
def test_at_a_terminal_only_the_typed_word_adopts(
    controller: Controller,
    new: str,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    code: int,
) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", shown)
    assert main(["restore", controller.store, "--database", new]) == code
    assert f"process {ME['process']}" in shown.getvalue()
    assert exists(new) is (code == 0)


def test_the_file_may_say_how_long_a_controller_counts_as_alive(
    controller: Controller, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    controller.fall_silent(100)
    restore = ["restore", controller.store, "--database", new]
    assert main(restore) == 5
    Path("bequest.toml").write_text("alive_within = 60\n")
    assert main([*restore, "--dry-run"]) == 0
    for word in ("adopt", "copy"):
        Path("bequest.toml").write_text(f"{word} = true\n")
        assert main([*restore, "--dry-run"]) == 2
