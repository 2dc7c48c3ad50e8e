"""A progress bar for whoever sits at a terminal and has waited for a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

Progress = Callable[[str, int, int | None], None]
PATIENCE_SECONDS: Final = 1.0


@contextmanager
def progress(*, quiet: bool = False) -> Generator[Progress | None]:
    """A listener for the engine's progress, ``None`` where nobody would see it (on stderr)."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bar = _Bar()
    try:
        yield bar.update
    finally:
        bar.close()


class _Bar:
    """Waits until the work has lasted for a second; only then loads rich and draws."""

    def __init__(self) -> None:
        self._due = time.monotonic() + PATIENCE_SECONDS
        self._drawing: _Drawing | None = None

    def update(self, phase: str, done: int, total: int | None) -> None:
        if self._drawing is None:
            if time.monotonic() < self._due:
                return
            self._drawing = _Drawing()
        self._drawing.update(phase, done, total)

    def close(self) -> None:
        if self._drawing is not None:
            self._drawing.close()


class _Drawing:
    """One line on stderr that is gone at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,} rows"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._phase = ""
        self._bar.start()

    def update(self, phase: str, done: int, total: int | None) -> None:
        if self._task is None or phase != self._phase:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._phase, self._task = phase, self._bar.add_task(phase, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        self._bar.stop()
