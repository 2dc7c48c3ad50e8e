"""The controller's own Alembic migrations, run against a database that is being restored.

The controller's ``env.py`` is run as it is, so its naming conventions, hooks and version table
hold. Only the connection is seen to: whichever one it configures, the migrations run on the one
that was lent, unless its own leads to the very same database. A URL that ``env.py`` takes from
somewhere else can so never let a restore migrate a database that is in use.

Alembic keeps its context global to the process: nothing else may migrate at the same time.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError

from bequest.check import Check, failed, passed
from bequest.errors import BequestError, Refused, UsageError

NAME: Final = "schema"
URL_OPTION: Final = "sqlalchemy.url"


def open_migrations(config: Any) -> AlembicMigrations:
    """The migrations behind an ``alembic.ini`` (its path) or an Alembic `Config`.

    Raises `UsageError` when there is no such file.
    """
    if isinstance(config, Config):
        return AlembicMigrations(config)
    path = Path(str(config))
    if not path.is_file():
        raise UsageError(
            f"There is no Alembic configuration at {path}. Nothing was done. Give the path of the "
            "controller's alembic.ini."
        )
    return AlembicMigrations(Config(str(path)))


class AlembicMigrations:
    """A `bequest.ports.Migrations`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._name = config.config_file_name or "the Alembic configuration"

    def checks(self, revisions: Sequence[str]) -> Sequence[Check]:
        """Whether these migrations know ``revisions`` and have one head to lead to."""
        try:
            scripts = self._scripts()
            head = self._head(scripts)
            self._check_recorded(scripts, revisions)
            steps = self._steps_between(scripts, revisions, head)
        except BequestError as error:
            return [failed(NAME, error)]
        told = ", ".join(revisions)
        if not steps:
            return [passed(NAME, f"revision {told} is built; it is the newest")]
        return [passed(NAME, f"revision {told} is built, then {steps} more lead to {head}")]

    def build(self, connection: Connection, revisions: Sequence[str]) -> None:
        """Upgrade an empty database to each of ``revisions``."""
        for revision in revisions:
            self._run(connection, revision)
        self._expect(connection, revisions)

    def upgrade(self, connection: Connection) -> None:
        """Upgrade to the one head."""
        head = self._head(self._scripts())
        self._run(connection, head)
        self._expect(connection, (head,))

    def _scripts(self) -> ScriptDirectory:
        with self._said("reading the migrations"):
            scripts = ScriptDirectory.from_config(self._config)
            scripts.get_heads()
            return scripts

    def _head(self, scripts: ScriptDirectory) -> str:
        heads = scripts.get_heads()
        if len(heads) == 1:
            return heads[0]
        if not heads:
            raise UsageError(
                f"{self._name} has no revision at all. Nothing was restored. Name the alembic.ini "
                "of the controller, or restore without --alembic."
            )
        raise Refused(
            f"{self._name} has several heads ({', '.join(sorted(heads))}), so there is no one "
            "newest schema. Nothing was restored. Join them with `alembic merge`, or use the "
            "controller's release in which they are joined."
        )

    def _check_recorded(self, scripts: ScriptDirectory, revisions: Sequence[str]) -> None:
        if not revisions:
            raise Refused(
                "The object records no Alembic revision: its controller had no table "
                "alembic_version, or left it out of the backup. Nothing was restored. Restore "
                "without --alembic, which makes the recorded schema, then use `alembic stamp`."
            )
        unknown = [name for name in revisions if not self._knows(scripts, name)]
        if unknown:
            raise Refused(
                f"The object is at revision {', '.join(unknown)}, which {self._name} does not "
                "know: it comes from a newer release of the controller than this one, or from "
                "another controller. Nothing was restored. Install the release that knows it, or "
                "restore without --alembic, which makes the recorded schema as it was."
            )

    def _knows(self, scripts: ScriptDirectory, revision: str) -> bool:
        with self._said("reading the migrations"):
            try:
                found = scripts.get_revision(revision)
            except CommandError:
                return False
            # Alembic takes an unambiguous beginning of a name for the name.
            return getattr(found, "revision", None) == revision

    def _steps_between(self, scripts: ScriptDirectory, revisions: Sequence[str], head: str) -> int:
        with self._said("reading the migrations"):
            return len(_steps(scripts, head, tuple(revisions)))

    def _run(self, connection: Connection, revision: str) -> None:
        scripts = self._scripts()
        with (
            self._pointed_at(connection),
            _logging_kept(),
            # An answer in JSON is the only thing on stdout.
            contextlib.redirect_stdout(sys.stderr),
            self._said(f"running the migrations up to {revision}"),
            _environment(self._config, scripts, connection, revision),
        ):
            scripts.run_env()

    def _expect(self, connection: Connection, revisions: Sequence[str]) -> None:
        found = _current(connection)
        if set(found) != set(revisions):
            raise Refused(
                f"The migrations of {self._name} ran, but the new database is at revision "
                f"{', '.join(found) or 'none'} in place of {', '.join(revisions)}. The target is "
                "as it was. Its env.py must call context.configure and context.run_migrations, "
                "and keep to the version table alembic_version."
            )

    @contextlib.contextmanager
    def _pointed_at(self, connection: Connection) -> Generator[None]:
        """Let ``env.py`` find the new database in both places where it may look."""
        config, attributes = self._config, self._config.attributes
        before = config.get_main_option(URL_OPTION)
        lent = attributes.get("connection")
        attributes["connection"] = connection
        config.set_main_option(URL_OPTION, _address(connection, before).replace("%", "%%"))
        try:
            yield
        finally:
            attributes.pop("connection")
            if lent is not None:
                attributes["connection"] = lent
            if before is None:
                config.remove_main_option(URL_OPTION)
            else:
                config.set_main_option(URL_OPTION, before.replace("%", "%%"))

    @contextlib.contextmanager
    def _said(self, doing: str) -> Generator[None]:
        try:
            yield
        except BequestError:
            raise
        except (Exception, SystemExit) as error:
            raise Refused(
                f"{doing[:1].upper()}{doing[1:]} of {self._name} failed "
                f"({type(error).__name__}: {error}). The target is as it was. Mend the migrations, "
                "or restore without --alembic, which makes the recorded schema."
            ) from error


def _environment(
    config: Config, scripts: ScriptDirectory, lent: Connection, revision: str
) -> EnvironmentContext:
    """What ``alembic.context`` is in ``env.py``: migrations run on ``lent``, whatever it says."""

    def steps(current: Any, _: Any) -> list[Any]:
        return _steps(scripts, revision, current)

    context = EnvironmentContext(config, scripts, fn=steps, destination_rev=revision)
    # Alembic's proxy knows no subclass of its context, but asks the instance.
    configure = context.configure

    def configured(connection: Connection | None = None, *_: Any, **options: Any) -> None:
        for name in ("url", "dialect_name", "literal_binds", "output_buffer"):
            options.pop(name, None)
        own = connection is not None and _leads_to(connection, lent)
        configure(connection=connection if own else lent, **options)

    context.configure = configured  # type: ignore[method-assign]  # pyright: ignore[reportAttributeAccessIssue]
    return context


def _leads_to(connection: Connection, lent: Connection) -> bool:
    """Whether both are connections to one SQLite file, which then may be taken as it is.

    A server's connections differ by their transaction, so there the lent one is always taken.
    """
    if lent.dialect.name != "sqlite" or connection.dialect.name != "sqlite":
        return False
    ours, theirs = lent.engine.url.database, connection.engine.url.database
    return bool(ours and theirs) and Path(str(ours)).resolve() == Path(str(theirs)).resolve()


def _current(connection: Connection) -> tuple[str, ...]:
    within = connection.in_transaction()
    found = MigrationContext.configure(connection).get_current_heads()
    if not within:
        connection.rollback()  # else Alembic takes what this began for the caller's transaction
    return found


def _steps(scripts: ScriptDirectory, revision: str, current: Any) -> list[Any]:
    return list(scripts._upgrade_revs(revision, current))  # pyright: ignore[reportPrivateUsage]


def _address(connection: Connection, configured: str | None) -> str:
    """The new database's URL, with the driver that ``env.py`` is made for."""
    url = connection.engine.url
    with contextlib.suppress(ArgumentError):
        if configured and make_url(configured).get_backend_name() == url.get_backend_name():
            url = url.set(drivername=make_url(configured).drivername)
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def _logging_kept() -> Generator[None]:
    """``fileConfig`` in an ``env.py`` silences every logger that it does not name."""
    root = logging.getLogger()
    loggers = [
        logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)
    ]
    silent = {logger for logger in loggers if logger.disabled}
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for logger in loggers:
            logger.disabled = logger in silent
        root.handlers[:] = handlers
        root.setLevel(level)
