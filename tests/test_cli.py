"""The command line keeps its contract: help, answers on stdout, faults as one paragraph and a code.

What the verbs do is tested elsewhere; here the library's answers are mostly given.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest.report import LogEntry, PublishReport, RestoreReport, Status, VerifyReport
from bequest_adapters.cli import main
from bequest_adapters.cli.entry import VERBS
from bequest_adapters.cli.output import abbreviated, as_json, seconds, size

VERIFIED = VerifyReport(
    ok=True,
    serial=7,
    epoch=1,
    lineage="c0ffee",
    tables={"site": {"rows": 2, "digest": "ab" * 32}},
    differences=(),
)
PUBLISHED = PublishReport("append", "c0ffee", 1, 8, 1204, 5, 182_000, 312, 0.004)
RESTORED = RestoreReport(1204, 5, 8, 2, "c0ffee", True, True, 0.08)
STATUS = Status(
    "behind", "per-change", "c0ffee", 1, 8, 3, 5, 1.5, "2026-11-22T10:00:00.000+00:00", None, "/s"
)
ENTRIES = [
    LogEntry(8, "2026-11-22T10:00:00", "site", "insert", {"id": 1}, {"id": 1, "k": b"\0"}),
    LogEntry(8, "2026-11-22T10:00:01", "site", "delete", {"id": 2}, None),
]
DATABASE = "sqlite:///controller.db"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``bequest`` in an empty folder, without any variable; code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BEQUEST_")]:
        monkeypatch.delenv(name)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


class Calls:
    """Stands in for a function of the library: answers, and remembers how it was called."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.positional: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *positional: Any, **named: Any) -> Any:
        self.positional, self.named = positional, named
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], Calls]:
    def give(name: str, answer: Any) -> Calls:
        calls = Calls(answer)
        monkeypatch.setattr(bequest, name, calls)
        return calls

    return give


Library = Callable[[str, Any], Calls]


class TestHelp:
    def test_the_first_help_names_every_verb_and_every_exit_code(self, run: Run) -> None:
        code, out, err = run("--help")
        assert (code, err) == (0, "")
        for word in (*VERBS, "bequest.toml", "BEQUEST_DATABASE", "6  verification"):
            assert word in out

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_explains_itself_with_an_example(self, run: Run, verb: str) -> None:
        code, out, _ = run(verb, "--help")
        assert code == 0
        assert "Example" in out
        assert f"  bequest {verb}" in out
        assert "--json" in out
        assert "--config" in out

    def test_it_needs_no_sdk_and_no_drawing(self) -> None:
        script = (
            "import sys; from bequest_adapters.cli import main; main(['--help']);"
            "heavy = {'sqlalchemy', 'rich', 'boto3', 'google', 'azure', 'alembic', 'watchdog'};"
            "sys.exit(f'loaded {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
        )
        done = subprocess.run([sys.executable, "-c", script], env=environment(), check=False)
        assert done.returncode == 0

    def test_the_version_is_the_librarys(self, run: Run) -> None:
        assert run("--version") == (0, f"bequest {bequest.__version__}\n", "")

    def test_without_a_verb_it_helps_and_says_that_it_was_wrong_usage(self, run: Run) -> None:
        code, out, err = run()
        assert (code, out) == (2, "")
        assert "Verbs:" in err


def environment(**variables: str) -> dict[str, str]:
    """For a child process: this one's packages, and no setting of the machine's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BEQUEST_")}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables


EXIT_CODES = [
    (bequest.BequestError("Odd."), 1),
    (ValueError("odd"), 1),
    (bequest.UsageError("Wrong."), 2),
    (bequest.SnapshotMissing("Absent."), 3),
    (bequest.SnapshotDamaged("Damaged."), 3),
    (bequest.Unreachable("Away."), 4),
    (bequest.Throttled("Slow down.", 2.0), 4),
    (bequest.Denied("Denied."), 4),
    (bequest.Refused("Refused."), 5),
    (bequest.Superseded("Superseded."), 5),
    (bequest.Conflict("Conflict."), 5),
    (bequest.Different("Different."), 6),
    (KeyboardInterrupt(), 130),
]


class TestFaults:
    @pytest.mark.parametrize(("error", "code"), EXIT_CODES, ids=lambda value: str(value))
    @pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
    def test_each_kind_has_its_code_and_one_paragraph_on_stderr(
        self, run: Run, library: Library, error: Exception, code: int, as_json: tuple[str, ...]
    ) -> None:
        library("inspect", error)
        found, out, err = run("inspect", "/store", *as_json)
        assert (found, out) == (code, "")
        assert err.lstrip().startswith("bequest: ")  # a ^C may stand on the line before it
        assert err.endswith("\n")
        assert "\n\n" not in err
        assert "Traceback" not in err

    def test_a_long_message_stays_one_paragraph_of_readable_lines(
        self, run: Run, library: Library
    ) -> None:
        library("inspect", bequest.Refused("word " * 100 + "\n\n" + "word " * 100))
        _, _, err = run("inspect", "/store")
        assert "\n\n" not in err
        assert max(map(len, err.splitlines())) <= 100

    def test_the_unexpected_says_how_to_see_more(self, run: Run, library: Library) -> None:
        library("inspect", ValueError("odd"))
        _, _, err = run("inspect", "/store")
        assert "ValueError: odd" in err
        assert "BEQUEST_DEBUG=1" in err.replace("\n", " ")

    def test_and_with_that_it_shows_more(
        self, run: Run, library: Library, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library("inspect", ValueError("odd"))
        monkeypatch.setenv("BEQUEST_DEBUG", "1")
        assert "Traceback" in run("inspect", "/store")[2]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("nonsense",),
            ("backup",),
            ("backup", "--database", DATABASE),
            ("restore", "/store"),
            ("verify",),
            ("inspect", "/store", "more"),
            ("status", "--nonsense"),
            ("run", "--database", DATABASE, "--store", "/s", "--mode", "sometimes"),
            ("run", "--database", DATABASE, "--store", "/s", "--stop-timeout", "-1"),
            ("demo", "--seconds", "0"),
            ("status", "--database", "postgresql://u:hunter2@h/d"),
            ("inspect", "s3://key:hunter2@bucket/name"),
            ("inspect", "s3://bucket/name?secret=hunter2"),
            ("inspect", "nowhere://bucket/name"),
            ("inspect", "${ABSENT_VARIABLE}/name"),
            ("status", "--database", DATABASE, "--config", "absent.toml"),
            ("--config", "absent.toml", "status", "--database", DATABASE),
        ],
        ids=" ".join,
    )
    def test_wrong_usage_is_2_and_says_so_without_repeating_a_secret(
        self, run: Run, arguments: tuple[str, ...]
    ) -> None:
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("bequest: ")
        assert "hunter2" not in err

    def test_a_misspelt_verb_is_answered_with_the_verbs(self, run: Run) -> None:
        assert "restore" in run("restor")[2]

    def test_a_reader_who_has_enough_is_left_in_peace(self) -> None:
        """As in ``bequest log STORE | head``."""
        script = (
            "import sys, bequest; from bequest.report import LogEntry;"
            "entry = LogEntry(1, '', 'site', 'insert', {'id': 1}, None);"
            "bequest.log = lambda *a, **k: (entry for _ in range(200000));"
            "from bequest_adapters.cli import main; sys.exit(main(['log', '/store']))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait() == 141


class TestAnswers:
    def test_backup(self, run: Run, library: Library) -> None:
        calls = library("backup", PUBLISHED)
        code, out, err = run("backup", "--database", DATABASE, "--store", "/s", "--json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert document == {**dict(PUBLISHED), "not_covered": []}
        assert set(document) >= {
            *("action", "lineage", "epoch", "serial", "rows", "tables"),
            *("bytes", "bytes_sent", "duration_s"),
        }
        assert calls.positional == (DATABASE, "/s")
        assert (calls.named["include"], calls.named["exclude"]) == (None, None)
        _, out, _ = run(
            "backup", "--database", DATABASE, "--store", "/s", "--exclude", "a", "--rewrite"
        )
        assert (calls.named["exclude"], calls.named["rewrite"]) == (("a",), True)
        assert "1,204 rows in 5 tables" in out
        assert "182.0 kB, 312 B sent" in out

    def test_restore(self, run: Run, library: Library) -> None:
        calls = library("restore", RESTORED)
        code, out, _ = run("restore", "/s", "--database", DATABASE, "--json", "--no-adopt")
        lists = {name: [] for name in ("not_covered", "added", "left_out", "converted", "files_in")}
        assert (code, json.loads(out)) == (0, dict(RESTORED) | lists)
        assert calls.positional == ("/s", DATABASE)
        assert calls.named["adopt"] is False
        _, out, _ = run("restore", "/s", "--database", DATABASE, "--force")
        assert (calls.named["force"], calls.named["adopt"]) == (True, None)
        assert "every row" in out

    def test_a_dry_run_tells_all_that_is_in_the_way(self, run: Run, library: Library) -> None:
        refusal = bequest.Refused("It holds data.")
        checks = (
            {"name": "object", "level": "ok", "text": "whole"},
            {"name": "data", "level": "fail", "text": "It holds data."},
        )
        calls = library(
            "preflight", bequest.PreflightReport(ok=False, checks=checks, fault=refusal)
        )
        code, out, err = run("restore", "/s", "--database", DATABASE, "--dry-run")
        assert (code, calls.positional) == (5, ("/s", DATABASE))
        assert [line.split() for line in out.splitlines()][1:] == [
            ["ok", "object", "whole"],
            ["fail", "data", "It", "holds", "data."],
        ]
        assert "It holds data." in err
        code, out, _ = run("restore", "/s", "--database", DATABASE, "--dry-run", "--json")
        assert (code, json.loads(out)["checks"][1]["level"]) == (5, "fail")

    def test_verify_equal(self, run: Run, library: Library) -> None:
        library("verify", VERIFIED)
        code, out, err = run("verify", "/s", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["tables"] == {"site": {"rows": 2, "digest": "ab" * 32}}
        assert "database" not in run("verify", "/s")[1]

    @pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
    def test_verify_different_is_6_and_still_answers(
        self, run: Run, library: Library, as_json: tuple[str, ...]
    ) -> None:
        difference = "table site: in the object only"
        library("verify", VerifyReport(False, 7, 1, "c0ffee", {}, (difference,)))
        code, out, err = run("verify", "/s", "--database", DATABASE, *as_json)
        assert code == 6
        assert difference in out
        assert "differ in 1 place" in err

    @pytest.mark.parametrize("state", ["ok", "behind", "failing", "superseded", "refused"])
    def test_status_is_0_whatever_the_state(self, run: Run, library: Library, state: str) -> None:
        library("status", Status(state, *list(dict(STATUS).values())[1:]))
        code, out, _ = run("status", "--database", DATABASE, "--json")
        assert (code, json.loads(out)["state"]) == (0, state)
        code, out, _ = run("status", "--database", DATABASE)
        assert code == 0
        assert out.startswith(f"state         {state}: ")
        assert "3 transactions, the oldest 1.5 s old" in out

    def test_log_as_one_array(self, run: Run, library: Library) -> None:
        library("log", iter(ENTRIES))
        code, out, _ = run("log", "/s", "--json")
        assert code == 0
        assert [entry["operation"] for entry in json.loads(out)] == ["insert", "delete"]
        assert json.loads(out)[0]["row"]["k"] == {"hex": "00"}

    def test_an_empty_log_is_an_empty_array(self, run: Run, library: Library) -> None:
        library("log", iter(()))
        assert run("log", "/s", "--json")[:2] == (0, "[]\n")

    def test_log_as_lines(self, run: Run, library: Library) -> None:
        library("log", iter(ENTRIES))
        first, second = run("log", "/s")[1].splitlines()
        assert first.endswith("site  insert      id=1  k=x'00'")
        assert second.endswith("site  delete      id=2")

    def test_a_log_that_breaks_at_once_leaves_stdout_empty(
        self, run: Run, library: Library
    ) -> None:
        def broken() -> Iterator[LogEntry]:
            raise bequest.SnapshotMissing("There is none.")
            yield

        library("log", broken())
        assert run("log", "/s", "--json")[:2] == (3, "")

    def test_install_and_uninstall(self, run: Run, library: Library) -> None:
        calls = library("install", True)
        code, out, _ = run("install", "--database", DATABASE, "--json", "--exclude", "session_*")
        assert (code, json.loads(out)) == (0, {"changed": True})
        assert calls.named["exclude"] == ("session_*",)
        library("uninstall", None)
        assert run("uninstall", "--database", DATABASE)[0] == 0


class TestWhereOptionsComeFrom:
    @pytest.fixture
    def calls(self, library: Library) -> Calls:
        return library("backup", PUBLISHED)

    @pytest.fixture
    def toml(self, tmp_path: Path) -> Path:
        path = tmp_path / "bequest.toml"
        path.write_text(
            'database = "sqlite:///file.db"\nstore = "/file"\nexclude = ["f1", "f2"]\njson = true\n'
        )
        return path

    def test_the_file_is_enough(self, run: Run, calls: Calls, toml: Path) -> None:
        code, out, _ = run("backup")
        assert code == 0
        assert json.loads(out)["action"] == "append"
        assert calls.positional == ("sqlite:///file.db", "/file")
        assert calls.named["exclude"] == ("f1", "f2")

    def test_a_variable_wins_over_the_file(
        self, run: Run, calls: Calls, toml: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BEQUEST_STORE", "/variable")
        monkeypatch.setenv("BEQUEST_EXCLUDE", "v1 v2")
        run("backup")
        assert calls.positional == ("sqlite:///file.db", "/variable")
        assert calls.named["exclude"] == ("v1", "v2")

    def test_an_argument_wins_over_a_variable(
        self, run: Run, calls: Calls, toml: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BEQUEST_STORE", "/variable")
        run("backup", "--store", "/argument", "--exclude", "a1")
        assert calls.positional == ("sqlite:///file.db", "/argument")
        assert calls.named["exclude"] == ("a1",)

    @pytest.mark.parametrize("how", ["before the verb", "behind the verb", "variable"])
    def test_the_file_may_be_named_anywhere(
        self, run: Run, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        (tmp_path / "other.toml").write_text('database = "sqlite:///o.db"\nstore = "/other"\n')
        if how == "variable":
            monkeypatch.setenv("BEQUEST_CONFIG", "other.toml")
        config = ("--config", "other.toml")
        before, behind = how == "before the verb", how == "behind the verb"
        run(*(config if before else ()), "backup", *(config if behind else ()))
        assert calls.positional == ("sqlite:///o.db", "/other")

    def test_a_positional_store_may_come_from_the_file(
        self, run: Run, library: Library, toml: Path
    ) -> None:
        calls = library("verify", VERIFIED)
        assert run("verify")[0] == 0
        assert calls.positional == ("/file", "sqlite:///file.db")

    def test_references_are_expanded_wherever_they_stand(
        self, run: Run, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PLACE", "here")
        (tmp_path / "bequest.toml").write_text('database = "sqlite:///${PLACE}.db"')
        monkeypatch.setenv("BEQUEST_EXCLUDE", "${PLACE}_*")
        run("backup", "--store", "/${PLACE}/store")
        assert calls.positional == ("sqlite:///here.db", "/here/store")
        assert calls.named["exclude"] == ("here_*",)

    def test_a_password_may_come_from_a_variable_and_from_the_file(
        self, run: Run, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = library("status", STATUS)
        (tmp_path / "bequest.toml").write_text('database = "postgresql://u:from-file@h/d"')
        assert run("status")[0] == 0
        assert calls.positional == ("postgresql://u:from-file@h/d", None)
        monkeypatch.setenv("BEQUEST_DATABASE", "postgresql://u:from-variable@h/d")
        assert run("status")[0] == 0
        assert calls.positional == ("postgresql://u:from-variable@h/d", None)
        monkeypatch.setenv("PASSWORD", "s@cret")
        assert run("status", "--database", "postgresql://u:${PASSWORD}@h/d")[0] == 0
        assert calls.positional == ("postgresql://u:s%40cret@h/d", None)

    def test_a_store_with_credentials_is_refused_from_the_file_too(
        self, run: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "bequest.toml").write_text('store = "s3://key:hunter2@bucket/name"')
        code, _, err = run("inspect")
        assert code == 2
        assert "hunter2" not in err

    def test_a_broken_file_does_not_keep_help_away(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "bequest.toml").write_text("nonsense")
        assert run("backup", "--help")[0] == 0
        assert run("backup")[0] == 2

    def test_limits_reach_the_library(self, run: Run, calls: Calls, toml: Path) -> None:
        toml.write_text(toml.read_text() + "[limits]\ntail_share = 0.125\n")
        run("backup")
        assert calls.named["limits"].tail_share == 0.125


class TestValues:
    def test_json_holds_what_json_cannot(self) -> None:
        odd = {
            "b": b"\xff\x00",
            "f": [math.inf, -math.inf, math.nan],
            "s": "\udc80",
            "n": 2**63 - 1,
        }
        assert json.loads(as_json(odd)) == {
            "b": {"hex": "ff00"},
            "f": [{"float": "inf"}, {"float": "-inf"}, {"float": "nan"}],
            "s": "\udc80",
            "n": 2**63 - 1,
        }

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "NULL"),
            (5, "5"),
            ("O'Brien", '"O\'Brien"'),
            ("two\nlines", "'two\\nlines'"),
            (b"\x00\xff", "x'00ff'"),
            (b"\0" * 100, f"x'{'00' * 20}…' (100 bytes)"),
            ("x" * 100, "'" + "x" * 38 + "…"),
        ],
    )
    def test_a_value_fits_on_a_line(self, value: object, text: str) -> None:
        assert abbreviated(value) == text

    @pytest.mark.parametrize(
        ("amount", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_999, "1.0 MB")]
    )
    def test_sizes(self, amount: int, text: str) -> None:
        assert size(amount) == text

    @pytest.mark.parametrize(
        ("amount", "text"),
        [(0.0042, "0.004 s"), (12.34, "12.3 s"), (200, "3 min 20 s"), (180000, "2 d 2 h")],
    )
    def test_durations(self, amount: float, text: str) -> None:
        assert seconds(amount) == text
