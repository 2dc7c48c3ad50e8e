"""What a trigger costs, by what it writes down: the figures behind docs/decisions/0001.

    python -m benchmarks.capture_forms

Interleaved rounds on one table of 100,000 rows, one raw statement each; ratios of CPU time to no
capture at all, as median (minimum - maximum).
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

ROWS = 100_000
ROUNDS = 5
STAMP = "julianday('now')"
COLUMNS = ("a", "b", "c", "d", "e")

SCHEMA = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c INT, d REAL, e TEXT UNIQUE);
CREATE TABLE j (seq INTEGER PRIMARY KEY, at REAL, tab INT, op, k0, k1, k2, k3, c0, c1, c2, c3, c4);
"""
INSERT = f"""
INSERT INTO t (a, b, c, d, e)
WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS})
SELECT 'name' || i, 'some text value here', i, i * 1.5, 'u' || i FROM s
"""
UPDATE = "UPDATE t SET c = c + 1"


def triggers(form: str) -> list[str]:
    """The trigger bodies of one form of capture."""
    images = ", ".join(f"NEW.{name}" for name in COLUMNS)
    scoped = ", ".join(f"(SELECT {name} FROM t WHERE id = NEW.id)" for name in COLUMNS)
    nulls = ", ".join(f"NULL AS {name}" for name in COLUMNS)
    into = "INSERT INTO j (at, tab, op, k0, c0, c1, c2, c3, c4)"
    body = {
        "none": "",
        "keys": f"INSERT INTO j (at, tab, op, k0) VALUES ({STAMP}, 1, 'u', NEW.id)",
        "images": f"{into} VALUES ({STAMP}, 1, 'u', NEW.id, {images})",
        "images by scoped subqueries": (
            f"{into} SELECT {STAMP}, 1, 'u', NEW.id, {scoped} FROM (SELECT {nulls})"
        ),
    }[form]
    if not body:
        return []
    return [
        f"CREATE TRIGGER t_{when} AFTER {when} ON t BEGIN {body}; END"
        for when in ("INSERT", "UPDATE")
    ]


def measure(form: str, folder: Path) -> tuple[float, float, bool]:
    """CPU seconds of the insert and the update, and whether DROP COLUMN still works."""
    path = folder / f"{time.monotonic_ns()}.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(SCHEMA)
    for text in triggers(form):
        db.execute(text)
    seconds: list[float] = []
    for statement in (INSERT, UPDATE):
        begin = time.process_time()
        db.execute(statement)
        seconds.append(time.process_time() - begin)
    try:
        db.execute("ALTER TABLE t DROP COLUMN b")
        drops = True
    except sqlite3.OperationalError:
        drops = False
    db.close()
    return seconds[0], seconds[1], drops


def main() -> None:
    """Measure and print."""
    forms = ("none", "keys", "images", "images by scoped subqueries")
    taken: dict[str, list[tuple[float, float, bool]]] = {form: [] for form in forms}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for form in forms:
                taken[form].append(measure(form, Path(folder)))
    print(f"{'form':30} {'insert':>20} {'update':>20}  DROP COLUMN")
    for form in forms:
        cells: list[str] = []
        for index in (0, 1):
            pairs = zip(taken[form], taken["none"], strict=True)
            ratios = [mine[index] / base[index] for mine, base in pairs]
            median = statistics.median(ratios)
            cells.append(f"{median:.2f}x ({min(ratios):.2f} - {max(ratios):.2f})")
        works = "works" if taken[form][0][2] else "fails"
        print(f"{form:30} {cells[0]:>20} {cells[1]:>20}  {works}")


if __name__ == "__main__":
    main()
