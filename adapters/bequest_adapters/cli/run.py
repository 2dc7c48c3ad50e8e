"""``bequest run``: the sidecar that keeps the object current while a controller works."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from queue import SimpleQueue
from types import FrameType
from typing import Any, Final

import click

from .accounts import key_file_option
from .options import (
    ExpandedChoice,
    Seconds,
    config_option,
    database_option,
    files_options,
    json_option,
    recorded,
    selection,
    selection_options,
    settings,
    store_option,
    text_option,
)
from .output import as_json as to_json
from .output import seconds, size

ENDING: Final = ("superseded", "refused")
STOP_SECONDS: Final = 10.0
SIGNAL_SECONDS: Final = 0.5


@click.command("run")
@database_option()
@store_option()
@click.option(
    "--mode",
    type=ExpandedChoice(["per-change", "schedule"]),
    default="per-change",
    show_default=True,
    envvar="BEQUEST_MODE",
    help="Publish after every change, or at set times only.  [variable: BEQUEST_MODE]",
)
@text_option(
    "schedule",
    default="0 0 * * *",
    metavar="CRON",
    help="When to publish in mode schedule, and when to fold the tail into a new base in mode "
    "per-change: minute, hour, day, month, weekday. Every midnight by default.",
)
@text_option(
    "timezone",
    metavar="NAME",
    help="The time zone of --schedule, such as Europe/Amsterdam. The machine's own by default.",
)
@text_option(
    "drill-schedule",
    metavar="CRON",
    help="When to restore the stored object into a throw-away database and verify it. Never by "
    "default.",
)
@selection_options
@files_options
@click.option(
    "--stop-timeout",
    type=Seconds(min=0),
    default=STOP_SECONDS,
    show_default=True,
    metavar="SECONDS",
    envvar="BEQUEST_STOP_TIMEOUT",
    help="How long the last publish may take when it is told to stop.  "
    "[variable: BEQUEST_STOP_TIMEOUT]",
)
@key_file_option
@json_option
@config_option
@click.pass_context
def command(
    context: click.Context,
    database: str,
    store: str,
    mode: Any,
    schedule: str,
    timezone: str | None,
    drill_schedule: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    files: tuple[str, ...],
    files_ignore: tuple[str, ...],
    files_limit: int | None,
    stop_timeout: float,
    as_json: bool,
) -> None:
    """Keep the object current while a controller works, from beside it, until told to stop.

    The first start publishes at once. Events are written to stderr, or with --json to stdout as one
    document per line. SIGTERM and SIGINT stop it after a last publish. The exit code is then 0 if
    everything is stored and 4 if it is not; 5 if another controller has taken over or the object is
    not an earlier state of this database, as soon as that is known.

    \b
    Examples:
      bequest run --database sqlite:////var/lib/ctl/ctl.db --store s3://acme-ha/ctl.bequest
      bequest run --database postgresql+psycopg://bequest@db/ctl --store s3://acme-ha/ctl.bequest
      bequest run --database sqlite:///ctl.db --store /mnt/nas/ctl.bequest \\
          --mode schedule --schedule '30 2 * * *' --timezone Europe/Amsterdam
    """
    import bequest
    from bequest import registry

    with closing(registry.open_source(database)) as source:
        source.installed()  # a database that is not there ends this now, not after a day of trying
        name = source.name
    ended = _Ended(as_json)
    backup = bequest.Backup(
        database,
        store,
        mode=mode,
        schedule=schedule,
        timezone=timezone,
        drill_schedule=drill_schedule,
        **selection(include, exclude),
        **recorded(files, files_ignore, files_limit),
        on_event=ended.hear,
        limits=settings(context).limits,
    )
    logging.getLogger("bequest").addHandler(logging.NullHandler())
    ended.say("started", {"database": name, "store": getattr(store, "name", store), "mode": mode})
    with told_to_stop(ended.set, stop_timeout):
        backup.start()
        ended.wait()
        stored = backup.stop(stop_timeout)
    if ended.refusal is not None:
        raise ended.refusal
    if not stored:
        raise bequest.Unreachable(
            "Stopped, but the newest changes are not in the store. They are safe in the "
            "database's journal and are published at the next start; `bequest status` tells how "
            "many there are."
        )


class _Ended:
    """Writes events down, and knows when to end and why."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.refusal: Exception | None = None

    def set(self) -> None:
        self._ended.set()

    def wait(self) -> None:
        # A signal that comes in the moment before a wait begins does not end it (Python's handlers
        # run between two steps of this thread), so none is for ever.
        while not self._ended.wait(SIGNAL_SECONDS):
            pass

    def hear(self, name: str, facts: dict[str, Any]) -> None:
        """The engine's events, from any of its threads."""
        import bequest

        if name == "failed" and self.refusal is not None:
            return
        self.say(name, facts)
        if name in ENDING and self.refusal is None:
            kind = bequest.Superseded if name == "superseded" else bequest.Refused
            self.refusal = kind(str(facts.get("error", name)))
            self._ended.set()

    def say(self, name: str, facts: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = to_json({"event": name, "at": at, **facts}) if self._as_json else _line(name, facts)
        with self._lock:
            if self._as_json:
                print(line, flush=True)
            else:
                print(f"{at}  {name:<10}  {line}".rstrip(), file=sys.stderr, flush=True)


def _line(name: str, facts: dict[str, Any]) -> str:
    if name == "published":
        return (
            f"{facts['action']}, serial {facts['serial']}, {size(facts['bytes_sent'])} sent, "
            f"object {size(facts['bytes'])}, {seconds(facts['duration_s'])}"
        )
    if name == "drilled":
        return (
            f"serial {facts['serial']}: {facts['rows']} rows restored and verified in "
            f"{seconds(facts['duration_s'])}"
        )
    if name == "stopped":
        return "everything is stored" if facts.get("stored") else "not everything is stored"
    if "why" in facts:
        return str(facts["why"])
    if "error" in facts:
        retry = facts.get("retry_seconds")
        again = "" if retry is None or name in ENDING else f" (next try in {seconds(retry)})"
        return f"{' '.join(str(facts['error']).split())}{again}"
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())


@contextmanager
def told_to_stop(
    stop: Callable[[], None], patience_seconds: float = STOP_SECONDS
) -> Generator[None]:
    """SIGTERM and SIGINT call ``stop``; others within ``patience_seconds`` change nothing.

    A supervisor may send several at once. One that comes later interrupts.
    """
    told: list[float] = []
    heard: SimpleQueue[bool] = SimpleQueue()

    def pass_on() -> None:
        if heard.get():
            stop()

    def hear(_: int, __: FrameType | None) -> None:
        if not told:
            told.append(time.monotonic())
            # `stop` may take a lock that the interrupted code holds; this queue takes none.
            heard.put(True)
        elif time.monotonic() > told[0] + patience_seconds:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, hear)
    threading.Thread(target=pass_on, name="bequest-signals", daemon=True).start()
    try:
        yield
    finally:
        heard.put(False)
        for number, handler in before.items():
            usual = handler in (signal.SIG_DFL, signal.default_int_handler)
            # One that comes while the process ends must not take its exit code away.
            signal.signal(number, signal.SIG_IGN if told and usual else handler)
