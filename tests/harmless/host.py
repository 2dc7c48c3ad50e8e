"""A controller's process that does what it is told, one line of Python at a time.

The test never opens the database itself: it looks at its files from outside. Run as a program, with
the path of the database and its journal mode.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any


def main() -> None:
    """Evaluate each line of stdin with ``db``, ``commit``, ``bequest`` at hand; print as JSON."""
    path, journal = sys.argv[1:]
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    db.execute(f"PRAGMA journal_mode = {journal}")
    # So that the test can count all commits in the log: nobody begins it again.
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("CREATE TABLE device (id INTEGER PRIMARY KEY, state INTEGER)")
    db.execute("INSERT INTO device VALUES (1, 0), (2, 0)")

    def commit(times: int = 1) -> int:
        for _ in range(times):
            db.execute("UPDATE device SET state = state + 1 WHERE id = 1")
        return times

    known: dict[str, Any] = {"db": db, "commit": commit, "url": f"sqlite:///{path}"}
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        exec(f"import bequest; answer = {line.strip()}", known)
        print(json.dumps(known["answer"], default=str), flush=True)


if __name__ == "__main__":
    main()
