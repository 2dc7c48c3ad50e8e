"""``bequest demo``: see it at work."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .options import Seconds, config_option, json_option
from .output import print_json


@click.command("demo")
@click.option(
    "--seconds",
    type=Seconds(min=1),
    default=6.0,
    show_default=True,
    help="How long the first controller works before it is killed.",
)
@click.option("--keep", is_flag=True, help="Do not remove the folder at the end.")
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work in this folder, which must be empty or absent, and keep it.",
)
@json_option
@config_option
def command(seconds: float, keep: bool, folder: Path | None, as_json: bool) -> None:
    """Kill a controller in mid-work, inherit it, and prove that nothing stored was lost.

    Takes about ten seconds, needs no network, and works in a temporary folder. The exit code is 6
    if anything that was reported as stored is missing, or any other claim does not hold.

    \b
    Example:
      bequest demo --keep
    """
    import bequest

    with _folder(folder, keep) as name:
        place = Path(name)
        if not as_json:
            click.echo(f"Bequest {bequest.__version__}, in {place}")
        outcome = _play(place, seconds, as_json)
    if as_json:
        print_json(_document(outcome, place))
    else:
        _conclude(outcome, place)
    if not outcome.ok:
        raise bequest.Different(
            "The demonstration did not show what it should. Nothing of yours was touched. Please "
            "report this, with the output above and the folder that `bequest demo --keep` leaves."
        )


def _folder(folder: Path | None, keep: bool) -> Any:
    import bequest

    if folder is None and not keep:
        return tempfile.TemporaryDirectory(prefix="bequest-demo-", ignore_cleanup_errors=True)
    if folder is None:
        return nullcontext(tempfile.mkdtemp(prefix="bequest-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise bequest.UsageError(
                f"The folder {folder} is not empty. Nothing was done: the demonstration overwrites "
                "nothing. Name another one."
            )
    except OSError as error:
        raise bequest.Denied(
            f"The folder {folder} cannot be used ({error.strerror}), so the demonstration has no "
            "place to work in. Name another one."
        ) from error
    return nullcontext(str(folder.resolve()))


def _play(place: Path, seconds: float, as_json: bool) -> Any:
    from bequest_adapters.demo.story import tell_story

    steps = 0

    def tell(kind: str, text: str) -> None:
        nonlocal steps
        if as_json:
            return
        if kind == "step":
            steps += 1
            click.secho(f"\n{steps}. {text}", bold=True)
        else:
            click.echo(f"   {text}")

    return tell_story(place, seconds, tell)


def _conclude(outcome: Any, place: Path) -> None:
    if outcome.ok:
        click.secho("\nNothing that had been reported as stored was lost.", bold=True)
    if place.exists():
        click.echo(f"Look around in {place}")


def _document(outcome: Any, place: Path) -> dict[str, Any]:
    document = asdict(outcome)
    lags = document.pop("lags")
    return {
        "ok": outcome.ok,
        **document,
        "lag_p50_s": lags[len(lags) // 2] if lags else None,
        "lag_max_s": lags[-1] if lags else None,
        "folder": str(place) if place.exists() else None,
    }
