"""What a trigger costs on SQLite, by what it does: the figures behind docs/decisions/0001.

    python -m benchmarks.capture_forms

Rounds in turns on one table of 100,000 rows in memory, one raw statement each; ratios of CPU time
to no trigger at all, as median (minimum - maximum). The first form shows the floor: a trigger that
never does anything keeps SQLite from updating rows while it walks over them.
"""

from __future__ import annotations

import sqlite3
import statistics
import time

ROWS = 100_000
ROUNDS = 7
STAMP = "julianday('now')"
COLUMNS = ("a", "b", "c", "d", "e")

SCHEMA = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c INT, d REAL, e TEXT);
CREATE TABLE j (seq INTEGER PRIMARY KEY, at REAL, tab INT, op, k0, k1, k2, k3, c0, c1, c2, c3, c4);
"""
STATEMENTS = {
    "INSERT": (
        "INSERT INTO t (a, b, c, d, e)"
        f" WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS})"
        " SELECT 'name' || i, 'some text value here', i, i * 1.5, 'u' || i FROM s"
    ),
    "UPDATE of three": "UPDATE t SET a = a || 'x', b = b || 'y', d = d * 2",
    "UPDATE of one": "UPDATE t SET c = c + 1",
}
LIMIT = (
    "CREATE TRIGGER j_limit AFTER INSERT ON j WHEN NEW.seq & 1023 = 0 BEGIN"
    " DELETE FROM j WHERE seq <= min(NEW.seq - 1000000, (SELECT min(seq) FROM j) + 4096); END"
)
KEY_CHANGE = (
    "CREATE TRIGGER t_key AFTER UPDATE ON t WHEN OLD.id IS NOT NEW.id BEGIN"
    f" INSERT INTO j (at, tab, op, k0) VALUES ({STAMP}, 1, 'd', OLD.id); END"
)


def forms() -> dict[str, list[str]]:
    """The triggers of each form."""
    images = ", ".join(f"NEW.{name}" for name in COLUMNS)
    scoped = ", ".join(f"(SELECT {name} FROM t WHERE id = NEW.id)" for name in COLUMNS)
    nulls = ", ".join(f"NULL AS {name}" for name in COLUMNS)
    into = "INSERT INTO j (at, tab, op, k0, c0, c1, c2, c3, c4)"
    keys = _both(f"INSERT INTO j (at, tab, op, k0) VALUES ({STAMP}, 1, 'u', NEW.id)")
    marker = "(SELECT 1 FROM j WHERE seq = -1)"
    return {
        "none": [],
        "never fires": _both("SELECT 1", "WHEN 0"),
        "looks for a mark that says enough": _both("SELECT 1", f"WHEN EXISTS {marker}"),
        "key, nothing else": _both("INSERT INTO j (k0) VALUES (NEW.id)"),
        "key, table, operation": _both("INSERT INTO j (tab, op, k0) VALUES (1, 'u', NEW.id)"),
        "and time": keys,
        "and limit": [*keys, LIMIT],
        "and change of key (as shipped)": [*keys, LIMIT, KEY_CHANGE],
        "images": _both(f"{into} VALUES ({STAMP}, 1, 'u', NEW.id, {images})"),
        "images by scoped subqueries": _both(
            f"{into} SELECT {STAMP}, 1, 'u', NEW.id, {scoped} FROM (SELECT {nulls})"
        ),
    }


def _both(body: str, condition: str = "") -> list[str]:
    return [
        f"CREATE TRIGGER t_{when} AFTER {when} ON t {condition} BEGIN {body}; END"
        for when in ("INSERT", "UPDATE")
    ]


def measure(triggers: list[str]) -> tuple[list[float], bool]:
    """CPU seconds of each statement, and whether DROP COLUMN still works."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    for text in triggers:
        db.execute(text)
    seconds: list[float] = []
    for statement in STATEMENTS.values():
        begin = time.process_time()
        db.execute(statement)
        seconds.append(time.process_time() - begin)
    try:
        db.execute("ALTER TABLE t DROP COLUMN b")
        drops = True
    except sqlite3.OperationalError:
        drops = False
    db.close()
    return seconds, drops


def main() -> None:
    """Measure and print."""
    taken: dict[str, list[tuple[list[float], bool]]] = {form: [] for form in forms()}
    for _ in range(ROUNDS):
        for form, triggers in forms().items():
            taken[form].append(measure(triggers))
    print(f"{'form':36}" + "".join(f"{name:>22}" for name in STATEMENTS) + "  DROP COLUMN")
    for form, takes in taken.items():
        cells: list[str] = []
        for index in range(len(STATEMENTS)):
            pairs = zip(takes, taken["none"], strict=True)
            ratios = [mine[0][index] / base[0][index] for mine, base in pairs]
            median = statistics.median(ratios)
            cells.append(f"{median:.2f}x ({min(ratios):.2f} - {max(ratios):.2f})")
        works = "works" if takes[0][1] else "fails"
        print(f"{form:36}" + "".join(f"{cell:>22}" for cell in cells) + f"  {works}")


if __name__ == "__main__":
    main()
