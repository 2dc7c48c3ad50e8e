"""The few rules of the house that matter and that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Context, Option

import bequest
from bequest import errors
from bequest_adapters.cli.entry import VERBS, group

ROOT = Path(__file__).parents[1]
SOURCES = {"schema": "bequest_schema", "engine": "bequest", "adapters": "bequest_adapters"}
REFERENCE = ROOT / "docs" / "reference" / "command-line.md"
HEAVY = ("boto3", "botocore", "azure", "google", "sqlite3", "psycopg", "apsw", "alembic", "click",
         "rich", "watchdog", "bequest_adapters")  # fmt: skip


def modules() -> Iterator[Path]:
    for top, package in SOURCES.items():
        yield from sorted((ROOT / top / package).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_import_bequest_loads_no_driver_no_sdk_and_no_command_line() -> None:
    code = "import bequest, sys; print('\\n'.join(sys.modules))"
    paths = os.pathsep.join(path for path in sys.path if path)
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(answer.stdout.split())
    assert "bequest" in loaded
    heavy = {name for name in loaded if name.split(".")[0] in HEAVY}
    drivers = {name for name in loaded if re.fullmatch(r"sqlalchemy\.dialects\.\w+(\..*)?", name)}
    assert not heavy | drivers


def test_the_engine_reads_no_wall_clock() -> None:
    wall = {"time.time", "time.time_ns", "time.localtime", "datetime.now", "datetime.utcnow",
            "datetime.today", "date.today"}  # fmt: skip
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"
        for path in modules()
        if path.is_relative_to(ROOT / "engine")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ".".join(ast.unparse(node.func).split(".")[-2:]) in wall
    ]
    assert not found


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
    assert not [path for path in modules() if {path.stem, path.parent.name} & empty]


def test_no_except_is_bare() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*modules(), *sorted((ROOT / "tests").rglob("*.py"))]
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not found


def test_every_module_says_why_it_exists() -> None:
    silent = [
        path
        for path in modules()
        if not ast.get_docstring(parsed(path)) and path.read_text(encoding="utf-8").strip()
    ]
    assert not silent


@pytest.mark.parametrize("top", SOURCES)
def test_every_package_is_typed(top: str) -> None:
    package = ROOT / top / SOURCES[top]
    assert (package / "py.typed").is_file()
    folders = {path.parent for path in modules() if path.is_relative_to(package)}
    folders = {folder for folder in folders if folder.name != "versions"}  # Alembic loads by path
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert project["version"] == bequest.__version__ == newest[1]


def test_nothing_names_a_package_registry() -> None:
    words = re.compile(r"index[-_]url|https?://[^\s\"']*(simple/|/packages/|pypi|registry)")
    files = ["pyproject.toml", "Makefile", ".ci/run", ".ci/lint", "README.md", "CONTRIBUTING.md"]
    assert not [name for name in files if words.search((ROOT / name).read_text(encoding="utf-8"))]


def error_classes() -> list[type[errors.BequestError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.BequestError)
    ]


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_every_error_has_an_exit_code_that_the_reference_states(
    error: type[errors.BequestError],
) -> None:
    assert error.exit_code in range(1, 7)
    line = re.search(rf"^\| {error.exit_code} \|.*$", REFERENCE.read_text(encoding="utf-8"), re.M)
    assert line is not None
    assert f"`{error.__name__}`" in line[0]
    assert hasattr(bequest, error.__name__)


def test_the_reference_has_the_verbs_in_their_order() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert re.findall(r"^### `bequest (\w+)`", text, re.M) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_reference_states_every_option(verb: str) -> None:
    command = group.get_command(Context(group), verb)
    assert command is not None
    options = {
        option
        for parameter in command.params
        if isinstance(parameter, Option)
        for option in parameter.opts
        if option.startswith("--")
    }
    text = REFERENCE.read_text(encoding="utf-8")
    section = re.search(rf"^### `bequest {verb}`$(.*?)(?=^### |\Z)", text, re.M | re.S)
    assert section is not None
    documented = set(re.findall(r"--[a-z][a-z-]*", section[1]))
    assert options <= documented, "an option is missing in the reference"
    known = {flag for name in VERBS for flag in flags(name)}
    assert documented <= known, "the reference names an option that no verb has"


def flags(verb: str) -> set[str]:
    command = group.get_command(Context(group), verb)
    assert command is not None
    return {flag for item in command.params for flag in item.opts if flag.startswith("--")}
