"""Work in a process of its own: one question on its standard input, one answer on its output.

For what would disturb the controller in its own process. Invariants:

* the interpreter starts isolated (``-I``) and takes the modules of this process from where this one
  took them; the working folder comes last, so that no file which lies there by chance is imported
  in place of a module;
* it ends with its answer: taking an interpreter down takes longer than some answers;
* a forked child holds neither end of the pipes (`bequest.forking`): the process at the other end
  would wait for a word from it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any, Final

from bequest import forking

_BOOT: Final = (
    "import json, os, sys; request = json.loads(sys.stdin.read()); sys.path[:] = request['path']; "
    "import importlib; answer = importlib.import_module(request['module']).answer(request); "
    "print(json.dumps(answer), flush=True); os._exit(0)"
)


class Apart:
    """Runs one such process at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        forking.enrol(self)

    def ask(self, module: str, request: dict[str, Any]) -> tuple[str, int] | None:
        """What ``module.answer(request)`` printed there, and the process's exit code.

        Both are JSON. ``None`` where no process can be started.
        """
        if getattr(sys, "frozen", False) or not sys.executable:
            return None
        asked = json.dumps({**request, "module": module, "path": _path()})
        try:
            process = self._started()
            printed, _ = process.communicate(asked)
        except OSError:
            return None
        finally:
            with self._lock:
                self._process = None
        return printed, process.returncode

    def kill(self) -> None:
        """End the process, if one runs."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def before_fork(self) -> None:
        """`bequest.forking.Forkable.before_fork`: it goes on working for the parent."""

    def forget(self) -> None:
        """`bequest.forking.Forkable.forget`."""
        process, self._process = self._process, None
        self._lock = threading.Lock()
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None and not pipe.closed:
                    forking.detach(pipe.fileno())

    def _started(self) -> subprocess.Popen[str]:
        with forking.guard(), self._lock:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            return self._process


def _path() -> list[str]:
    here = os.path.realpath(os.getcwd())
    absolute = [os.path.abspath(entry) for entry in sys.path]
    return sorted(dict.fromkeys(absolute), key=lambda entry: os.path.realpath(entry) == here)
