"""A PostgreSQL database that follows an object: `bequest.ports.Following`.

Invariants: every publish is one transaction, together with where it leads; whoever reads sees cuts
only. Rows are deleted by key and copied in anew. What goes round the guards (`target_guards`)
changes the schema's fingerprint, which is remembered with the standing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

import psycopg
from psycopg import errors as server_errors
from sqlalchemy import URL
from sqlalchemy.schema import CreateTable

from bequest.errors import Refused, Unreachable
from bequest.model import Attributes, Catalog, Memory, Row, SchemaObject, Standing, Step, Table
from bequest.snapshot.frame import pack, unpack
from bequest_schema.tables import SCHEMA, postgresql_following

from .connection import Address, Connection, connect, locate
from .deleting import delete_keys, delete_rows
from .installation import installed, read_fingerprint
from .naming import identifier
from .reading import source
from .remembering import memory_of, plain_of
from .standing import TABLE, standing_row
from .target_faults import said
from .target_guards import aside, put_guards, quiet, take_guards
from .target_loading import PostgresLoading
from .target_place import check_rights, holding_rows

_KEPT: Final = "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname LIKE %s"
_SEARCHED: Final = 'SET LOCAL search_path = "$user", public'
_DIALECT: Final = URL.create("postgresql+psycopg").get_dialect()
_PATIENT: Final = "SET LOCAL lock_timeout = '10s'"


class PostgresFollowing:
    """One followed database. For one thread at a time.

    ``kept`` names the schemas that the first load put aside.
    """

    dialect = "postgresql"
    counts = True

    def __init__(self, address: Address, url: URL) -> None:
        self.kept: str | None = None
        self._address = address
        self._url = url
        self._open: Connection | None = None
        self._loading: tuple[Catalog, _InPlace] | None = None

    @property
    def name(self) -> str:
        """`Following.name`."""
        return self._address.name

    def standing(self) -> Standing | None:
        """`Following.standing`. Raises `Refused` when a promotion was begun and not ended."""
        row = self._row("standing, promotion")
        if row is None:
            return None
        if row[1] is not None:
            raise Refused(
                f"{self.name} is being promoted, or a promotion was interrupted. It follows no "
                "more. Run `bequest promote` to complete it."
            )
        return Standing(**unpack(row[0]))

    def address(self) -> str:
        """`Following.address`."""
        row = self._row("standing")
        return "" if row is None else str(unpack(row[0])["address"])

    def altered(self) -> str:
        """`Following.altered`: whatever gets round the guards changes the fingerprint."""
        row = self._row("schema_version")
        with self._using("looking at the schema") as connection:
            if row is not None and row[0] != _version(connection):
                return "its schema changed"
        return ""

    def reload(
        self, catalog: Catalog, rows: Iterable[tuple[Table, Iterable[Row]]], standing: Standing
    ) -> None:
        """`Following.reload`. What was followed is dropped, what was there before is kept."""
        with self._using("loading the object") as connection, _writing(connection):
            follows = self._check_vacant(connection)
            loading = _InPlace(connection, self._url, self.name, force=follows)
            loading.create(quiet(catalog), standing.attributes)
            self.kept = None if follows else loading.kept
            if follows:
                _drop_kept(connection, loading.kept)
            for table, block in rows:
                loading.copy(table, block)
            loading.finish()
            loading.secure()
            self._mark(connection, catalog, standing)
        self._loading = None

    def apply(self, catalog: Catalog, step: Step, before: Standing, after: Standing) -> None:
        """`Following.apply`."""
        with self._using("applying a publish") as connection:
            loading = self._prepared(connection, catalog)
            tables = {table.id: table for table in catalog.tables}
            with _writing(connection):
                self._begin(connection, before)
                for number, block in step.resets.items():
                    connection.execute(f"DELETE FROM {source(tables[number])}".encode())
                    loading.copy(tables[number], block)
                # All keys go before the first row comes: two may have exchanged a unique value.
                for number, changed in step.rows.items():
                    delete_keys(connection, tables[number], list(changed))
                for number, changed in step.rows.items():
                    rows = [row for row in changed.values() if row is not None]
                    loading.copy(tables[number], rows)
                for number, counts in step.counts.items():
                    delete_rows(connection, tables[number], counts, self.name)
                    loading.copy(
                        tables[number], [row for row, count in counts for _ in range(count)]
                    )
                loading.set_sequences(step.attributes)
                connection.execute(
                    f"UPDATE {TABLE} SET applying = 0, standing = %s".encode(),
                    [pack(asdict(after))],
                )

    def _begin(self, connection: Connection, before: Standing) -> None:
        found = connection.execute(
            f"UPDATE {TABLE} SET applying = 1 WHERE promotion IS NULL RETURNING standing".encode()
        ).fetchone()
        if found is None or unpack(found[0]) != asdict(before):
            raise Unreachable(
                f"{self.name} does not stand where it stood a moment ago: another process "
                "follows into it. Nothing was changed. End one of them."
            )

    def release(self, memory: Memory) -> None:
        """`Following.release`. Foreign keys are checked again, materialized views computed."""
        with self._using("making it an ordinary database") as connection, _writing(connection):
            (packed,) = standing_row(connection, "triggers") or (pack([]),)
            take_guards(connection)
            loading = _InPlace(connection, self._url, self.name, force=False)
            loading.come_alive([SchemaObject(*item) for item in unpack(packed)])
            connection.execute(
                f"UPDATE {TABLE} SET promotion = %s, schema_version = %s".encode(),
                [pack(plain_of(memory)), _version(connection)],
            )

    def promotion(self) -> Memory | None:
        """`Following.promotion`."""
        row = self._row("promotion")
        return None if row is None or row[0] is None else memory_of(unpack(row[0]))

    def released(self) -> None:
        """`Following.released`."""
        with self._using("ending the following") as connection:
            connection.execute(f"DROP TABLE {TABLE}".encode())

    def close(self) -> None:
        """`Following.close`."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _row(self, columns: str) -> tuple[Any, ...] | None:
        with self._using("looking at where it stands") as connection:
            return standing_row(connection, columns)

    @contextmanager
    def _using(self, doing: str) -> Generator[Connection]:
        if self._open is None or self._open.closed:
            self._open, self._loading = connect(self._address), None
        with said(self.name, doing):
            yield self._open

    def _check_vacant(self, connection: Connection) -> bool:
        """Whether it follows already. Raises `Refused` for data of somebody else's."""
        check_rights(connection, self.name)
        if standing_row(connection, "id") is not None:
            return True
        if holding_rows(connection) or installed(connection):
            raise Refused(
                f"{self.name} holds data, or is captured itself, and does not follow anything. "
                "Nothing was changed. Follow into a database whose tables have no rows."
            )
        return False

    def _prepared(self, connection: Connection, catalog: Catalog) -> _InPlace:
        if self._loading is None or self._loading[0] is not catalog:
            loading = _InPlace(connection, self._url, self.name, force=False)
            loading.be_ready(catalog)
            self._loading = (catalog, loading)
        return self._loading[1]

    def _mark(self, connection: Connection, catalog: Catalog, standing: Standing) -> None:
        connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
        table = CreateTable(postgresql_following).compile(dialect=_DIALECT())
        connection.execute(str(table).encode())
        put_guards(connection)
        left_out = [[item.type, item.name, item.table, item.sql] for item in aside(catalog)]
        connection.execute(
            f"INSERT INTO {TABLE} VALUES (1, 0, %s, %s, %s, NULL)".encode(),
            [pack(asdict(standing)), pack(left_out), _version(connection)],
        )


class _InPlace(PostgresLoading):
    """Loads in the caller's transaction."""

    def be_ready(self, catalog: Catalog) -> None:
        """Be ready to load into the tables that are there."""
        self._catalog, self._fresh = catalog, False
        self._be_ready()

    def secure(self) -> None:
        """Row security, which waits for the rows."""
        self._secure()

    def set_sequences(self, attributes: Attributes) -> None:
        """Bring those that changed to their new values."""
        self._set_sequences({name: v for name, v in attributes.items() if v is not None})

    def come_alive(self, objects: Iterable[SchemaObject]) -> None:
        """Make what was left out."""
        for item in objects:
            with said(self._name, f"making {item.type} {item.name!r}"):
                try:
                    self._make(item)
                except server_errors.ForeignKeyViolation:
                    # The source holds such rows, too: nothing must keep a promotion from its end.
                    self._execute(f"{item.sql} NOT VALID")


@contextmanager
def _writing(connection: Connection) -> Generator[None]:
    connection.execute("BEGIN")
    try:
        connection.execute(_PATIENT)
        connection.execute(_SEARCHED)
        yield
        connection.execute("COMMIT")
    except BaseException:
        if not connection.closed and connection.info.transaction_status:
            _roll_back(connection)
        raise


def _roll_back(connection: Connection) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def _drop_kept(connection: Connection, kept: str | None) -> None:
    """What was followed before; a restore would keep it."""
    if kept is None:
        return
    pattern = kept.removeprefix("schemas ").removesuffix("*").replace("_", r"\_") + "%"
    for (schema,) in connection.execute(_KEPT, [pattern]).fetchall():
        connection.execute(f"DROP SCHEMA {identifier(schema)} CASCADE".encode())


def _version(connection: Connection) -> int:
    connection.execute("SELECT pg_catalog.set_config('search_path', '', false)")
    return int(read_fingerprint(connection)[:15], 16)


def open_following(url: URL) -> PostgresFollowing:
    """The followed database at an SQLAlchemy URL."""
    return PostgresFollowing(locate(url), url)
