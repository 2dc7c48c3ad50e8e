"""Litestream as it is run in practice: one process beside the writer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .peers import litestream_environment, program
from .servers import BUCKET, REGION, S3Server


@contextmanager
def replicating(
    database: Path, replica: str, config: Path, monitor_interval: str = ""
) -> Generator[None]:
    """Replicate ``database`` until the context ends. ``replica``: YAML lines of one replica."""
    monitor = f"    monitor-interval: {monitor_interval}\n" if monitor_interval else ""
    config.write_text(f"dbs:\n  - path: {database}\n{monitor}    replica:\n{replica}")
    log = config.with_suffix(".log").open("wb")
    process = subprocess.Popen(
        [program("litestream"), "replicate", "-config", str(config)],
        env=litestream_environment(),
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"litestream ended: {config.with_suffix('.log').read_text()[-800:]}")
    finally:
        process.terminate()
        process.wait()
        log.close()


def to_file(folder: Path, sync_interval: str = "") -> str:
    """The YAML of a replica in a folder."""
    lines = ["      type: file", f"      path: {folder}"]
    if sync_interval:
        lines.append(f"      sync-interval: {sync_interval}")
    return "\n".join(lines) + "\n"


def to_s3(server: S3Server, prefix: str) -> str:
    """The YAML of a replica on an S3 server."""
    lines = (
        "type: s3",
        f"bucket: {BUCKET}",
        f"path: {prefix}",
        f"endpoint: {server.endpoint}",
        f"region: {REGION}",
        "force-path-style: true",
    )
    return "".join(f"      {line}\n" for line in lines)


def restore(replica: Path, output: Path) -> None:
    """Restore a file replica."""
    subprocess.run(
        [program("litestream"), "restore", "-o", str(output), f"file://{replica}"],
        check=True,
        env=litestream_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def files(replica: Path) -> list[Path]:
    """What lies in a file replica."""
    return [path for path in replica.rglob("*.ltx") if path.is_file()]


def settled(replica: Path, quiet_seconds: float = 1.5, at_most_seconds: float = 30.0) -> None:
    """Wait until the replica's files have not changed for a while."""
    seen, since, begin = None, time.monotonic(), time.monotonic()
    while time.monotonic() - begin < at_most_seconds:
        now = {(path, path.stat().st_size) for path in files(replica)}
        if now != seen or not now:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > quiet_seconds:
            return
        time.sleep(0.1)
