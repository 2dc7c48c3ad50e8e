"""What a run leaves behind: the printed table, a JSON file, and plots."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .measure import Figure
from .reasons import why


@dataclass(slots=True)
class Results:
    """Figures by row, in the order measured."""

    facts: dict[str, Any]
    rows: dict[str, list[Figure]] = field(default_factory=dict[str, list[Figure]])
    titles: dict[str, str] = field(default_factory=dict[str, str])
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def begin(self, name: str, title: str) -> None:
        self.rows[name], self.titles[name] = [], title
        print(f"\n{title}", flush=True)

    def add(self, name: str, figure: Figure) -> None:
        self.rows[name].append(figure)
        what = figure.what if figure.peer == "-" else f"{figure.what}, of {figure.peer}"
        line = f"  {what:62} {figure.shown:26} {figure.goal:11} {figure.verdict:7}"
        print(f"{line} {figure.note}".rstrip(), flush=True)
        if figure.verdict == "MISSED":
            print(f"      why: {why(name, figure)}", flush=True)

    def missed(self) -> list[str]:
        return [
            f"{self.titles[name]}: {figure.what} {figure.shown}, goal {figure.goal}"
            for name, figures in self.rows.items()
            for figure in figures
            if figure.verdict == "MISSED"
        ]

    def write(self, folder: Path) -> None:
        """``results.json`` and one plot per row."""
        folder.mkdir(parents=True, exist_ok=True)
        plain = {
            "facts": self.facts,
            "rows": {
                name: {
                    "title": self.titles[name],
                    "seconds": round(self.seconds.get(name, 0.0), 1),
                    "figures": [
                        asdict(figure)
                        | {"median": figure.median if figure.values else None}
                        | {"goal": figure.goal, "verdict": figure.verdict}
                        | {"why": why(name, figure) if figure.verdict == "MISSED" else ""}
                        for figure in figures
                    ],
                }
                for name, figures in self.rows.items()
            },
        }
        (folder / "results.json").write_text(json.dumps(plain, indent=1) + "\n")
        for name, figures in self.rows.items():
            if measured := [figure for figure in figures if figure.values]:
                _plot(folder / f"{name}.png", self.titles[name], measured)


def facts(sizes: tuple[int, int, int], peers: dict[str, str]) -> dict[str, Any]:
    """The machine and the versions, without which a figure says little."""
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rows": sizes,
        "peers": peers,
    }


def _plot(path: Path, title: str, figures: list[Figure]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.45 * len(figures)))
    for line, each in enumerate(reversed(figures)):
        colour = {"met": "tab:green", "MISSED": "tab:red"}.get(each.verdict, "tab:gray")
        axes.barh(line, each.median, color=colour, height=0.6)
        axes.plot([min(each.values), max(each.values)], [line, line], color="black")
        if each.limit is not None:
            axes.plot([each.limit] * 2, [line - 0.4, line + 0.4], color="black", linestyle=":")
    names = [f"{each.what} [{each.unit or 'n'}]" for each in reversed(figures)]
    axes.set_yticks(range(len(figures)), names)
    axes.set_title(title, fontsize=10)
    if max(each.median for each in figures) > 50 * min(each.median or 1 for each in figures):
        axes.set_xscale("symlog")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
