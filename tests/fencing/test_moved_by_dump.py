"""A database that was moved by a dump brings journal rows of another server's transactions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bequest
from tests.servers.postgresql import PostgresqlServer, connect, new_folder, started

from .machines import PostgresqlMachine, backup

AHEAD = 600
"""So many more transactions than the new server the old one has counted."""


def moved(machine: PostgresqlMachine, to: PostgresqlServer) -> PostgresqlMachine:
    other = PostgresqlMachine.made(to, "template0")
    dump = machine.server.program("pg_dump"), "-d", plain(machine)
    made = subprocess.run(dump, check=True, capture_output=True).stdout
    load = [to.program("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", plain(other)]
    subprocess.run(load, input=made, check=True, stdout=subprocess.DEVNULL)
    return other


def plain(machine: PostgresqlMachine) -> str:
    return machine.url.replace("postgresql+psycopg", "postgresql")


def count_on(machine: PostgresqlMachine) -> None:
    with connect(machine.address) as db:
        for _ in range(AHEAD):
            db.execute("SELECT pg_current_xact_id()")


def test_a_database_moved_to_a_server_that_counts_from_the_beginning_publishes_what_it_holds(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    store = str(tmp_path / "o.bequest")
    machine = PostgresqlMachine.made(postgresql)
    with connect(machine.address) as db:
        db.execute("CREATE TABLE keyless (v int)")
    count_on(machine)
    backup(machine, store)
    for number in range(3):
        with connect(machine.address) as db:
            db.execute("INSERT INTO keyless VALUES (%s)", [number])
    backup(machine, store)
    with new_folder() as folder, started(folder) as server:
        other = moved(machine, server)
        bequest.adopt(other.url, store)
        assert backup(other, store).action == "unchanged"
        assert bequest.status(other.url).state == "ok"
        assert bequest.verify(store, other.url).ok
        count_on(other)
        other.write("Delft")
        assert backup(other, store).action == "append"
        assert bequest.verify(store, other.url).ok
