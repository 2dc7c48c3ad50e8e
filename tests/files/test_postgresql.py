"""Configuration files take the same road on PostgreSQL, and across to SQLite and back."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import URL

import bequest
from bequest_adapters.cli import main
from tests.servers.postgresql import PostgresqlServer, connect

from .test_recording import folder, store, tree

__all__ = ["folder", "store"]


@pytest.fixture
def urls(postgresql: PostgresqlServer) -> Generator[list[URL], None, None]:
    with ExitStack() as stack:
        made = [stack.enter_context(postgresql.database()) for _ in range(2)]
        with connect(made[0]) as db:
            db.execute("CREATE TABLE t (id integer PRIMARY KEY, v text)")
            db.execute("INSERT INTO t VALUES (1, 'row')")
        yield made


def text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def test_files_are_restored_with_the_tables(
    urls: list[URL], folder: Path, store: str, tmp_path: Path
) -> None:
    (folder / "vast").write_bytes(bytes(range(256)) * 4096)
    (folder / "link").symlink_to("vast")
    # No glob of the selection has to name them.
    bequest.backup(urls[0], store, files=[folder], include=["t"])
    assert bequest.verify(store, urls[0]).ok
    report = bequest.restore(store, urls[1], files_to=tmp_path / "there", adopt=True)
    assert (report.verified, report.files) == (True, 3)
    assert tree(tmp_path / "there" / "etc") == tree(folder)
    assert bequest.backup(urls[1], store).action == "unchanged"


def test_a_change_of_a_file_is_appended_and_a_role_of_its_own_can_record_it(
    urls: list[URL], folder: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(urls[0]) as db:
        db.execute("CREATE ROLE keeper LOGIN")
        db.execute(f"GRANT CREATE ON DATABASE {urls[0].database} TO keeper".encode())
        db.execute("ALTER TABLE t OWNER TO keeper")
    url = urls[0].set(username="keeper", drivername="postgresql+asyncpg", query={"ssl": "prefer"})
    try:
        bequest.backup(url, store, files=[folder])
        (folder / "ctl.yaml").write_text("port: 2\n")
        assert bequest.backup(url, store, files=[folder]).action == "append"
        assert main(["files", store]) == 0
        assert "etc/ctl.yaml" in capsys.readouterr().out
    finally:
        with connect(urls[0]) as db:
            db.execute("DROP OWNED BY keeper CASCADE")
            db.execute("DROP ROLE keeper")


def test_nothing_is_left_after_an_uninstall(urls: list[URL], folder: Path, store: str) -> None:
    bequest.backup(urls[0], store, files=[folder])
    bequest.uninstall(urls[0])
    with connect(urls[0]) as db:
        found = db.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'bequest%'")
        assert found.fetchall() == []


def test_files_cross_to_sqlite_and_back(
    urls: list[URL], folder: Path, store: str, tmp_path: Path
) -> None:
    (folder / "vast").write_bytes(bytes(range(256)) * 4096)
    bequest.backup(urls[0], store, files=[folder])
    there = f"sqlite:///{tmp_path / 'there.db'}"
    report = bequest.restore(store, there, files_to=tmp_path / "one", adopt=True)
    assert report.files == 2
    assert tree(tmp_path / "one" / "etc") == tree(folder)
    bequest.backup(there, store)
    report = bequest.restore(store, urls[1], files_to=tmp_path / "two", adopt=True)
    assert (report.files, report.converted) == (2, ())
    assert tree(tmp_path / "two" / "etc") == tree(folder)
    (folder / "more").write_text("more")
    assert bequest.backup(urls[1], store, files=[folder], accept_files=True).action != "unchanged"
    assert bequest.verify(store, urls[1]).ok
