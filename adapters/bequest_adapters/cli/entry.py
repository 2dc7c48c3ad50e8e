"""The entry point: finds the verb, runs it, and turns whatever is raised into an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from typing import Any, Final

import click

from bequest.errors import BequestError

from .options import config_option, show_version

VERBS: Final = {
    "demo": "See it at work: a controller is killed and inherited.",
    "run": "Keep the object current while a controller works.",
    "backup": "Publish once, now.",
    "restore": "Make a new controller's database from the object.",
    "follow": "Keep a warm copy of the controller's database.",
    "promote": "Let a warm copy take over.",
    "adopt": "Let a database that was moved, copied or rolled back be the owner.",
    "files": "The configuration files in the object.",
    "verify": "Check the object, and that a database equals it.",
    "drill": "Restore the object into a throw-away database.",
    "diff": "What a restore would change.",
    "inspect": "What the object holds.",
    "log": "The mutations in the object's tail.",
    "history": "The earlier versions that the store keeps.",
    "status": "How a controller's backup stands.",
    "doctor": "Will this store, and this database, work?",
    "key": "Make a key to encrypt the object with.",
    "install": "Put capture into a database.",
    "uninstall": "Take all of Bequest out of a database.",
}
EXIT_UNEXPECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
DEBUG: Final = "BEQUEST_DEBUG"
WIDTH: Final = 100

EPILOG: Final = """\b
Exit codes:
  0  done
  1  unexpected fault (BEQUEST_DEBUG=1 shows where)
  2  wrong usage or configuration
  3  the object is missing, damaged, or cannot be opened
  4  store or database unreachable, or access denied
  5  refused, to protect data
  6  verification found differences

\b
Every option may also stand in bequest.toml (or the file that --config or BEQUEST_CONFIG names)
or in a variable such as BEQUEST_DATABASE. An argument wins over a variable, that over the file.
"""


class ReaderGone(Exception):
    """The pipe behind stdout is closed. click itself would end with a code that says nothing."""


class Verbs(click.Group):
    """Loads a verb's module when it is asked for; the list of verbs loads none."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        verb: click.Command = importlib.import_module(f"bequest_adapters.cli.{cmd_name}").command
        return verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f"There is no verb {args[0]!r}. The verbs are: {', '.join(VERBS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version and exit.",
)
@config_option
def group() -> None:
    """Keep one object equal to a controller's database, and start a new controller from it.

    \b
    A first look, which needs nothing and leaves nothing behind:
      bequest demo

    \b
    Beside a controller, and after it is lost:
      bequest run --database sqlite:////var/lib/ctl/ctl.db --store s3://acme-ha/ctl.bequest
      bequest restore s3://acme-ha/ctl.bequest --database sqlite:////var/lib/ctl/ctl.db
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``bequest`` with ``arguments`` (those of the process by default); the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A name in the database may hold what the terminal cannot show: that is no fault.
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):
        return _broken_pipe()
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        answer: Any = group.main(
            None if arguments is None else list(arguments),
            prog_name="bequest",
            standalone_mode=False,
        )
    except (BrokenPipeError, ReaderGone):
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        return _fail(error.format_message(), EXIT_USAGE, wrap=False)
    except click.ClickException as error:
        return _fail(_usage(error), EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _fail("Interrupted.", EXIT_INTERRUPTED)
    except BequestError as error:
        _trace()
        return _fail(str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  # the last one who can say something useful
        _trace()
        return _fail(_unexpected(error), EXIT_UNEXPECTED)
    return answer if isinstance(answer, int) else 0


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bequest"
    return f"{error.format_message()} Nothing was done. See `{command} --help`."


def _unexpected(error: Exception) -> str:
    return (
        f"Something unexpected happened ({type(error).__name__}: {error}). What is in the store "
        "and in the database is as the last completed step left it. Please report this; "
        f"{DEBUG}=1 shows where it happened."
    )


def _trace() -> None:
    if os.environ.get(DEBUG, "") not in ("", "0"):
        traceback.print_exc()


def _fail(message: str, code: int, *, wrap: bool = True) -> int:
    if wrap:
        message = textwrap.fill(
            "bequest: " + " ".join(message.split()),
            WIDTH,
            break_long_words=False,
            break_on_hyphens=False,
        )
    print(message, file=sys.stderr)
    return code


def _broken_pipe() -> int:
    """Whoever read our output has enough: end quietly, also at the interpreter's last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE
