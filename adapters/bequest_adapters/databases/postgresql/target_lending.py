"""The restore's own connection, lent to SQLAlchemy without the right to end the transaction.

A controller's migrations commit, some after each step. Here a commit only releases a savepoint and
a rollback goes back to it, so that all of it is part of the restore's one transaction.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import URL, Connection, StaticPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from bequest.errors import Refused

_SAVEPOINT: Final = "bequest_lent"
# What migrations may depend on and our pins have changed: as the controller has them.
_THE_CONTROLLERS: Final = (
    "search_path",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "lc_monetary",
    "xmloption",
    "row_security",
    "array_nulls",
    "transform_null_equals",
    "check_function_bodies",
    "default_tablespace",
    "default_table_access_method",
)


class _Lent:
    """A psycopg connection whose transactions are savepoints; everything else is passed on."""

    def __init__(self, connection: psycopg.Connection[Any], name: str) -> None:
        self._lender = connection
        self._address = name
        self._begun = False

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._lender, attribute)

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        if not self._begun:
            self._lender.execute(f"SAVEPOINT {_SAVEPOINT}")
            self._begun = True
        return self._lender.cursor(*arguments, **options)

    def commit(self) -> None:
        if self._begun:
            self._lender.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")
            self._begun = False

    def rollback(self) -> None:
        if self._begun and not self._lender.closed:
            self._lender.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            self.commit()

    def close(self) -> None:
        """It goes back to whom it belongs."""

    @property
    def autocommit(self) -> bool:
        return False

    @autocommit.setter
    def autocommit(self, wanted: bool) -> None:
        if wanted:
            raise Refused(
                "A migration wants to run outside of a transaction (autocommit_block, such as for "
                "CREATE INDEX CONCURRENTLY), and a restore is one transaction. "
                f"{self._address} is as it was. Let the migration do without CONCURRENTLY when it "
                "is run by a restore, or restore without --alembic, which makes the recorded "
                "schema, and upgrade that."
            )


@contextmanager
def lent(connection: psycopg.Connection[Any], url: URL, name: str) -> Generator[Connection]:
    """An SQLAlchemy connection over ``connection``; its session is as the controller's would be.

    Raises `Refused` when what is done with it fails.
    """
    pins: dict[str, str] = {}
    for setting in _THE_CONTROLLERS:
        (pins[setting],) = connection.execute(
            "SELECT pg_catalog.current_setting(%s)", [setting]
        ).fetchone() or ("",)
        connection.execute(f"SET LOCAL {setting} TO DEFAULT".encode())
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        creator=lambda: _Lent(connection, name),
        poolclass=StaticPool,
        use_native_hstore=False,
    )
    try:
        with engine.connect() as lending:
            yield lending
            lending.commit()
    except SQLAlchemyError as error:
        raise Refused(
            f"The migrations failed on the new database ({error}). {name} is as it was. Mend the "
            "migrations, or restore without --alembic."
        ) from error
    finally:
        engine.dispose()
    for setting, value in pins.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [setting, value])
