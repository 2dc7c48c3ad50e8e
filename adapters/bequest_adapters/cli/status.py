"""``bequest status``: how a controller's backup stands."""

from __future__ import annotations

from typing import Any

import click

from .options import checked_store, config_option, database_option, json_option
from .output import encrypted, number, print_facts, print_json, seconds

STATES = {
    "ok": "ok: the store has everything",
    "behind": "behind: changes are not in the store yet",
    "failing": "failing: the last attempt failed; it is tried again",
    "superseded": "superseded: another controller has inherited the backup; this one must not "
    "publish any more",
    "following": "following: a warm copy, read-only until `bequest promote`",
    "refused": "refused: the object is not an earlier state of this database",
}


@click.command("status")
@database_option()
@click.option(
    "--store",
    "asked",  # under a name of its own: a store in the configuration is not asked unbidden
    metavar="URL",
    callback=checked_store,
    help="Also ask this object whether it is still this database's to write.",
)
@json_option
@config_option
def command(database: str, asked: str | None, as_json: bool) -> None:
    """Show how a controller's backup stands, and what is not in the store yet.

    Reads the controller's database only, so it answers also while the store is away. With --store
    it also asks whether the object is still this database's to write. Writes nothing. The exit code
    is 0 whenever it could tell, whatever the state: to watch it, use --json and look at `state` and
    `pending_seconds`.

    \b
    Example:
      bequest status --database sqlite:////var/lib/ctl/ctl.db
    """
    import bequest

    report = dict(bequest.status(database, asked))
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    waiting = "nothing" if report["serial"] else "everything: it was never published"
    if report["pending_transactions"]:
        waiting = f"{number(report['pending_transactions'], 'transaction')}, "
        waiting += f"the oldest {seconds(report['pending_seconds'])} old"
    print_facts(
        {
            "state": _state(report),
            "not stored": waiting,
            "last publish": report["last_success"] or "never",
            "last error": report["last_error"],
            "last drill": _drill(report["last_drill"]),
            "mode": report["mode"] or None,
            "object": report["store"] or None,
            "serial": report["serial"],
            "epoch": report["epoch"],
            "lineage": report["lineage"] or None,
            "encrypted": encrypted(report)
            if report["serial"] and report["state"] != "following"
            else None,
            "files": number(report["files"], "file") if report["files"] else None,
        }
    )


def _state(report: dict[str, Any]) -> str:
    if report["state"] == "ok" and report["pending_transactions"]:
        return "ok: what is not stored yet goes with the next scheduled backup"
    return STATES.get(report["state"], str(report["state"]))


def _drill(facts: dict[str, Any] | None) -> str | None:
    if facts is None:
        return None
    if not facts["ok"]:
        return f"{facts['at']} FAILED: {facts['error']}"
    return f"{facts['at']} serial {facts['serial']} restored in {seconds(facts['duration_s'])}"
