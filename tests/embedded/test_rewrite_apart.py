"""A large rewrite does not run in the controller's process, and killing it harms nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

import bequest
from bequest import registry
from bequest.publisher import Publisher
from bequest_adapters import apart as process_apart
from bequest_adapters import rewriting

APART = bequest.Limits(rewrite_apart_bytes=0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'controller.db'}")
    with engine.begin() as connection:
        connection.execute(text("PRAGMA journal_mode = WAL"))
        connection.execute(text("CREATE TABLE sites(id INTEGER PRIMARY KEY, name TEXT)"))
        connection.execute(text("INSERT INTO sites VALUES (1, 'a'), (2, 'b')"))
    yield engine
    engine.dispose()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "controller.bequest")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that were started, in order."""
    processes: list[Any] = []
    popen = process_apart.subprocess.Popen

    def watched(*arguments: Any, **options: Any) -> Any:
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(process_apart.subprocess, "Popen", watched)
    return processes


def test_a_rewrite_runs_in_a_process_of_its_own(
    engine: Engine, store: str, started: list[Any]
) -> None:
    with bequest.Backup(engine, store, limits=APART) as backup:
        assert backup.flush().rows == 2
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO sites VALUES (3, 'c')"))
        assert backup.flush().rows == 3
        assert backup.backup_now(rewrite=True).action == "rewrite"
        assert len(started) == 2, "an append was sent from the controller's process"
    assert bequest.verify(store, engine).ok


def test_a_controller_that_gives_its_address_is_spared_too(
    engine: Engine, store: str, started: list[Any]
) -> None:
    with bequest.Backup(str(engine.url), store, limits=APART) as backup:
        assert backup.backup_now(rewrite=True).rows == 2
    assert started


def test_addresses_are_not_in_its_argument_list(
    engine: Engine, store: str, started: list[Any]
) -> None:
    with bequest.Backup(engine, store, limits=APART) as backup:
        backup.flush()
    assert not any("controller" in argument for process in started for argument in process.args)


def test_its_refusal_is_ours(engine: Engine, store: str, tmp_path: Path) -> None:
    bequest.backup(engine, store)
    fresh = create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    with fresh.begin() as connection:
        connection.execute(text("CREATE TABLE sites(id INTEGER PRIMARY KEY)"))
    backup = bequest.Backup(fresh, store, limits=APART)
    with pytest.raises(bequest.Refused):
        backup.backup_now()
    fresh.dispose()


def test_an_error_there_keeps_its_class(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("in the way")
    apart = rewriting.RewriteApart(str(engine.url), f"{tmp_path}/a-file/o.bequest", "", APART)
    with pytest.raises(bequest.AccessError):
        apart()


def test_killed_in_the_middle_it_is_tried_again(
    engine: Engine, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = threading.Event()
    popen = process_apart.subprocess.Popen

    def slow(command: list[str], **options: Any) -> Any:
        process = popen(
            [command[0], "-c", "import time; print(flush=True); time.sleep(600)"], **options
        )
        running.set()
        return process

    monkeypatch.setattr(process_apart.subprocess, "Popen", slow)
    apart = rewriting.RewriteApart(str(engine.url), store, "", APART)
    publisher = Publisher(
        registry.open_source(engine),
        registry.open_store(store),
        registry.system_clock(),
        limits=APART,
        apart=apart,
    )
    bequest.install(engine)

    def kill() -> None:
        running.wait()
        while apart._apart._process is not None:
            apart.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(bequest.Unreachable, match="ended before it was done"):
        publisher.publish()
    killer.join()
    monkeypatch.undo()
    assert publisher.publish().action == "create"
    assert bequest.verify(store, engine).ok


def test_where_no_process_can_be_started_it_is_done_here(
    engine: Engine, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_apart.sys, "executable", "/nonexistent/python")
    with bequest.Backup(engine, store, limits=APART) as backup:
        assert backup.flush().rows == 2
    monkeypatch.setattr(process_apart.sys, "executable", "/bin/false")
    with bequest.Backup(engine, store, limits=APART) as backup:
        assert backup.backup_now(rewrite=True).action == "rewrite"


def test_it_imports_nothing_that_lies_in_the_working_folder(
    engine: Engine, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in ("json", "bequest_adapters", "sqlalchemy", "sitecustomize"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'was-run')!r}, 'w').close()")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    with bequest.Backup(engine, store, limits=APART) as backup:
        assert backup.backup_now(rewrite=True).rows == 2
    assert not (folder / "was-run").exists()
