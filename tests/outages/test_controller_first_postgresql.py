"""The controller comes first on PostgreSQL: Bequest loses connections or rights, it goes on.

The status says what is wrong and what to do, and when that is over nobody has to do anything.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest import registry
from bequest.backup import read_status
from bequest.errors import AccessError
from bequest.publisher import Publisher
from bequest.watcher import Watcher
from tests.servers.postgresql import PostgresqlServer, connect
from tests.simulation.small_world import Clock
from tests.simulation.test_publish import Daily

APP, KEEPER = f"bequest_app_{os.getpid()}", f"bequest_keeper_{os.getpid()}"
TERMINATE = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    " WHERE application_name = 'bequest' AND datname = current_database()"
)
LOSSES = {
    "the membership": (
        "REVOKE {app} FROM {keeper}",
        "GRANT {app} TO {keeper}",
        "denied a right",
    ),
    "the login": (
        "ALTER ROLE {keeper} NOLOGIN",
        "ALTER ROLE {keeper} LOGIN",
        "refused the login",
    ),
    "the right to connect": (
        "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {database} TO PUBLIC",
        "denied a right",
    ),
}
"""What is taken away, what gives it back, and what the status says meanwhile."""


class Scene:
    """A controller's database; Bequest beside it, with a role of its own."""

    def __init__(self, server: PostgresqlServer, url: URL, folder: Path) -> None:
        self.server, self.url, self.place = server, url, str(folder / "object")
        self.names = {"app": APP, "keeper": KEEPER, "database": str(url.database)}
        self.admin(
            "GRANT {app} TO {keeper}; GRANT CREATE ON DATABASE {database} TO {app}, {keeper};"
            "CREATE SCHEMA configuration AUTHORIZATION {app}"
        )
        self.controller = connect(url.set(username=APP))
        self.controller.execute(
            "CREATE TABLE configuration.devices (id int PRIMARY KEY, name text)"
        )
        self.kept = url.set(username=KEEPER)
        self.source, self.store = registry.open_source(self.kept), registry.open_store(self.place)
        self.source.install()
        self.clock, self.events = Clock(), list[str]()
        self.publisher = Publisher(self.source, self.store, self.clock, mode="per-change")
        self.watcher = Watcher(
            self.source,
            self.publisher,
            self.clock,
            lambda name, facts: self.events.append(f"{name} {facts.get('error', '')}"),
            mode="per-change",
            schedule=Daily(),
        )
        self.written = 0

    def admin(self, statements: str) -> None:
        with self.server.connect(self.url.database) as db:
            for statement in statements.format(**self.names).split(";"):
                db.execute(statement.encode())

    def write(self) -> None:
        self.written += 1
        self.controller.execute(
            "INSERT INTO configuration.devices VALUES (%s, 'x')", (self.written,)
        )
        self.controller.execute("UPDATE configuration.devices SET name = %s", (str(self.written),))

    def tick(self) -> str:
        self.clock.now += 120
        self.watcher.tick(woken=True)
        return self.events[-1]

    def told(self) -> str:
        """What the status says is wrong; one that cannot be had says so itself."""
        try:
            status = read_status(self.source, self.clock, self.publisher.last_error)
        except AccessError as error:
            return str(error)
        assert status.state == "failing"
        return str(status.last_error)

    def is_current(self) -> bool:
        report = bequest.verify(self.place, self.url)
        tables = report.tables.values()
        return report.ok and sum(table["rows"] for table in tables) == self.written

    def close(self) -> None:
        self.controller.close()
        self.source.close()
        self.store.close()


@pytest.fixture
def scene(
    postgresql: PostgresqlServer, postgresql_database: URL, tmp_path: Path
) -> Generator[Scene]:
    with postgresql.connect() as db:
        for role in (APP, KEEPER):
            db.execute(f"CREATE ROLE {role} LOGIN".encode())
    found = Scene(postgresql, postgresql_database, tmp_path)
    found.write()
    assert found.tick().startswith("published")
    yield found
    found.close()
    with postgresql.connect(postgresql_database.database) as db:
        for role in (KEEPER, APP):
            db.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}".encode())


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "reconnecting"])
@pytest.mark.parametrize("loss", LOSSES)
def test_without_its_rights_bequest_fails_and_the_controller_does_not(
    loss: str, connected: bool, scene: Scene
) -> None:
    take, give_back, said = LOSSES[loss]
    scene.admin(take)
    if not connected:
        scene.admin(TERMINATE)
        scene.tick()  # finds the connection closed
    for _ in range(5):
        scene.write()
    failure = scene.tick()
    if failure.startswith("failed"):
        assert said in failure
        assert said in scene.told()
    else:  # a session that stands may need none of it
        assert connected
        assert scene.is_current()
    scene.admin(give_back)
    scene.write()
    scene.tick()
    assert scene.is_current()
    assert bequest.status(scene.kept).state == "ok"


def test_a_lost_connection_is_made_anew(scene: Scene) -> None:
    scene.write()
    scene.admin(TERMINATE)
    scene.write()
    scene.tick()
    scene.write()
    scene.tick()
    assert scene.is_current()
    assert bequest.status(scene.kept).state == "ok"


def test_a_connection_lost_in_the_middle_of_a_publish_is_made_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment in ("append", "head"):
        done = getattr(scene.store, moment)

        def cut_off(*arguments: object, done: object = done, **named: object) -> object:
            scene.admin(TERMINATE)
            return done(*arguments, **named)  # type: ignore[operator]

        scene.write()
        with monkeypatch.context() as patch:
            patch.setattr(scene.store, moment, cut_off)
            failure = scene.tick()
        scene.write()
        if failure.startswith("failed"):
            assert "could not be used" in failure
        scene.tick()
        assert scene.is_current()
        assert bequest.status(scene.kept).state == "ok"


def test_a_database_that_takes_no_connections_for_a_while(scene: Scene) -> None:
    with scene.server.connect() as db:
        db.execute(f"ALTER DATABASE {scene.url.database} ALLOW_CONNECTIONS false".encode())
        db.execute(
            b"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            b" WHERE application_name = 'bequest'"
        )
        scene.write()
        scene.tick()
        failure = scene.tick()
        assert failure.startswith("failed")
        assert "not currently accepting connections" in failure
        assert "It will be tried again" in failure
        db.execute(f"ALTER DATABASE {scene.url.database} ALLOW_CONNECTIONS true".encode())
    scene.tick()
    assert scene.is_current()


def test_the_controllers_own_transaction_that_is_killed_is_not_published(scene: Scene) -> None:
    scene.controller.execute("BEGIN; INSERT INTO configuration.devices VALUES (99, 'never')")
    scene.admin(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        f" WHERE usename = '{APP}' AND datname = current_database()"
    )
    with pytest.raises(psycopg.OperationalError):
        scene.controller.execute("COMMIT")
    scene.controller = connect(scene.url.set(username=APP))
    scene.write()
    scene.tick()
    assert scene.is_current()
