"""As an operator does it: SQLite, an object in S3, PostgreSQL, and back, by the command line."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import URL

import bequest
from bequest_adapters.cli import main
from tests.servers.postgresql import connect
from tests.servers.s3_server import S3Server

from .test_servers import fill

Operator = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def operator(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Runs ``bequest VERB ...``; exit code, the JSON answer, stderr.

    The database is told by the variable, as one with a password must be.
    """
    for name in [name for name in os.environ if name.startswith("BEQUEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def call(*arguments: str, database: URL | None = None) -> tuple[int, Any, str]:
        with monkeypatch.context() as variables:
            if database is not None:
                shown = database.render_as_string(hide_password=False)
                variables.setenv("BEQUEST_DATABASE", shown)
            code = main([*arguments, "--json"])
        captured = capfd.readouterr()
        return code, json.loads(captured.out or "null"), captured.err

    return call


@pytest.fixture
def store(ministack: S3Server) -> str:
    return ministack.url(ministack.new_key())


@pytest.fixture
def old(tmp_path: Path) -> URL:
    """The first controller's SQLite database."""
    fill(tmp_path / "old.db")
    return URL.create("sqlite", database=str(tmp_path / "old.db"))


def tables(database: URL) -> list[Any]:
    """What a PostgreSQL database holds of anybody's."""
    with closing(connect(database)) as db:
        return db.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.oid >= 16384 AND n.nspname !~ '^pg_'"
        ).fetchall()


def test_a_controller_moves_to_postgresql_and_back(
    operator: Operator, store: str, old: URL, postgresql_database: URL, tmp_path: Path
) -> None:
    new = postgresql_database
    code, published, _ = operator("backup", "--store", store, database=old)
    assert (code, published["action"]) == (0, "create")
    assert operator("inspect", store)[1]["dialect"] == "sqlite"

    code, restored, error = operator("restore", store, "--adopt", database=new)
    assert (code, restored["verified"], restored["adopted"]) == (0, True, True), error
    code, verified, _ = operator("verify", store, database=new)
    assert (code, verified["differences"]) == (0, [])
    code, _, error = operator("diff", store, database=new)
    assert code == 5, error
    assert "verify" in error
    assert operator("status", database=new)[1]["epoch"] == 2

    # The first publish says everything in the new dialect; the next ones append.
    code, published, error = operator("backup", "--store", store, database=new)
    assert (code, published["action"], published["epoch"]) == (0, "rewrite", 2), error
    inspected = operator("inspect", store)[1]
    assert (inspected["dialect"], inspected["epoch"]) == ("postgresql", 2)
    with closing(connect(new)) as db:
        db.execute("UPDATE tenant SET budget = 7.25 WHERE id = 3")
    code, compared, _ = operator("diff", store, database=new)
    assert (code, compared["tables"]["public.tenant"]["changed"]) == (6, 1)
    code, published, _ = operator("backup", "--store", store, database=new)
    assert (code, published["action"]) == (0, "append")
    assert operator("diff", store, database=new)[0] == 0
    code, logged, _ = operator("log", store)
    assert (code, [entry["key"] for entry in logged]) == (0, [{"id": 3}])
    assert operator("verify", store, database=new)[1]["differences"] == []

    back = URL.create("sqlite", database=str(tmp_path / "back.db"))
    code, restored, error = operator("restore", store, "--adopt", database=back)
    assert (code, restored["adopted"], restored["epoch"]) == (0, True, 3), error
    assert operator("verify", store, database=back)[1]["differences"] == []
    with closing(sqlite3.connect(tmp_path / "back.db")) as db:
        assert db.execute("SELECT budget FROM tenant WHERE id = 3").fetchone() == (7.25,)
    # Both that published before are refused from now on.
    for former in (old, new):
        code, _, error = operator("backup", "--store", store, database=former)
        assert code == 5, error


def test_a_value_that_changed_is_found_across_engines(
    operator: Operator, store: str, old: URL, postgresql_database: URL
) -> None:
    operator("backup", "--store", store, database=old)
    operator("restore", store, "--adopt", database=postgresql_database)
    with closing(connect(postgresql_database)) as db:
        db.execute("UPDATE tenant SET ratio = ratio + 1e-15 WHERE id = 1")
    code, verified, _ = operator("verify", store, database=postgresql_database)
    assert code == 6
    assert verified["differences"] == ["table tenant: as many rows, but not the same"]
    with closing(connect(postgresql_database)) as db:
        db.execute('DELETE FROM "Device" WHERE tenant = 9')
    code, verified, _ = operator("verify", store, database=postgresql_database)
    assert verified["differences"][0] == "table Device: 29 rows in the object, 28 in the database"


def test_losses_are_named_before_the_target_is_touched(
    operator: Operator, store: str, old: URL, postgresql_database: URL
) -> None:
    operator("backup", "--store", store, database=old)
    code, preflight, _ = operator(
        "restore", store, "--dry-run", "--adopt", database=postgresql_database
    )
    told = [check["text"] for check in preflight["checks"] if check["name"] == "conversion"]
    assert code == 0
    assert told[0] == "from sqlite to postgresql"
    assert {text.split(":")[0] for text in told[1:]} == {"loose.a", "loose.b", "loose.c", "v"}
    assert tables(postgresql_database) == []


def test_what_cannot_be_carried_is_refused_and_the_target_untouched(
    operator: Operator, store: str, old: URL, postgresql_database: URL
) -> None:
    with closing(sqlite3.connect(str(old.database))) as db, db:
        db.execute("UPDATE tenant SET name = 'a' || char(0) || 'b' WHERE id = 5")
    operator("backup", "--store", store, database=old)
    for dry in (["--dry-run"], []):
        code, _, error = operator("restore", store, "--adopt", *dry, database=postgresql_database)
        assert code == 5
        assert all(word in error for word in ("tenant", "name", "5"))
        assert tables(postgresql_database) == []
    # Nothing was adopted: the first controller publishes on.
    assert operator("backup", "--store", store, database=old)[0] == 0


def test_an_embedded_backup_goes_on_in_the_new_dialect(
    operator: Operator, store: str, old: URL, postgresql_database: URL
) -> None:
    operator("backup", "--store", store, database=old)
    operator("restore", store, "--adopt", database=postgresql_database)
    engine = sa.create_engine(postgresql_database)
    try:
        with bequest.Backup(engine, store) as backup:
            with engine.begin() as connection:
                connection.execute(sa.text("UPDATE tenant SET active = NOT active"))
            backup.flush(timeout=60)
        assert bequest.status(engine)["epoch"] == 2
    finally:
        engine.dispose()
    assert operator("inspect", store)[1]["dialect"] == "postgresql"
    assert operator("verify", store, database=postgresql_database)[1]["differences"] == []


def test_the_doctor_knows_a_postgresql_database(
    operator: Operator, store: str, postgresql_database: URL
) -> None:
    def findings() -> dict[str, str]:
        code, found, error = operator("doctor", database=postgresql_database)
        assert code == 0, (found, error)
        return {each["check"]: each["text"] for each in found["findings"]}

    assert findings()["capture"] == "Capture is not installed."
    operator("backup", "--store", store, database=postgresql_database)
    assert findings()["capture"] == "Capture is installed, and covers the schema."


def test_a_foreign_key_that_the_rows_break_is_named(
    postgresql_database: URL, tmp_path: Path
) -> None:
    source, store = f"sqlite:///{tmp_path / 'a.db'}", str(tmp_path / "o")
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.executescript(
            "CREATE TABLE t(id INTEGER PRIMARY KEY);"
            "CREATE TABLE c(id INTEGER PRIMARY KEY, t INTEGER REFERENCES t(id));"
            "INSERT INTO c VALUES (1, 99);"
        )
    bequest.backup(source, store)
    report = bequest.restore(store, postgresql_database, adopt=True)
    assert [name for name, why in report.not_covered if "NOT VALID" in why] == ["public.c.c_t_fkey"]
