"""Bequest's side of an own write, in a process of its own, a step at each line of its input.

python writer.py PATH door|any      (lines: enter, write, commit, leave; it says what came of it)
"""

from __future__ import annotations

import sqlite3
import sys

from bequest_adapters.databases.sqlite.turns import Door, Turn


def main() -> None:
    """Take turns until the input ends."""
    path, kind = sys.argv[1:]
    db = sqlite3.connect(path, isolation_level=None, timeout=0)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.execute("SELECT 1 FROM sqlite_schema").fetchone()
    turn = Door(path, 1_000) if kind == "door" else Turn()
    for line in sys.stdin:
        said: object = None
        if line == "enter\n":
            said = turn.enter(db)
        elif line == "write\n":
            db.execute("INSERT INTO device VALUES (NULL, 'ours')")
            said = turn.may_commit()
        elif line == "commit\n":
            db.execute("COMMIT")
        else:
            if db.in_transaction:
                db.execute("ROLLBACK")
            turn.leave()
        print(said, flush=True)


if __name__ == "__main__":
    main()
