"""Coverage-guided fuzzing of the reader: `python -m tests.fuzz [seconds]`.

Needs `pip install atheris` (libFuzzer for Python, wheels for Linux). The input is taken twice: as
an object, and as the payload of a frame whose digests are right, which is what gets past the chain.
Whatever is not `SnapshotDamaged` is a finding; libFuzzer then writes the input to a crash file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("", "schema", "engine", "adapters")]

SECONDS = 60


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("Fuzzing needs atheris: pip install atheris. Nothing was run.")
    with atheris.instrument_imports(include=["bequest"]):
        from tests.fuzz.reader import read, seeds
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=1024", folder]
        atheris.Setup([sys.argv[0], *options], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
