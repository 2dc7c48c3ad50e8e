"""What the documents show works: Python blocks run, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click import Context

import bequest
from bequest import registry
from bequest_adapters import config
from bequest_adapters.cli.entry import VERBS, group

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BUCKET = "s3://acme-ha/"


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, body in found]


def having(language: str) -> list[Any]:
    return [
        pytest.param(page, id=page.relative_to(ROOT).as_posix())
        for page in PAGES
        if blocks(page, language)
    ]


@pytest.mark.parametrize("page", having("python"))
def test_the_python_in_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for number, block in enumerate(blocks(page, "python"), 1):
            code = block.replace(BUCKET, f"{tmp_path}/")
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)
    finally:
        for value in names.values():
            if isinstance(value, bequest.Backup):
                value.stop()
        if "engine" in names:
            names["engine"].dispose()


def test_the_readme_shows_how_to_embed_in_ten_lines() -> None:
    first = blocks(ROOT / "README.md", "python")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 10


def test_the_readme_has_the_two_commands_that_ci_runs() -> None:
    lines = "\n".join(blocks(ROOT / "README.md", "sh"))
    install = r"^python3 -m venv \.venv && \.venv/bin/pip install "
    assert len(re.findall(rf"{install}\. && \.venv/bin/bequest demo$", lines, re.M)) == 1
    assert len(re.findall(rf"{install}'\.\[test\]' && \.venv/bin/pytest -n 2$", lines, re.M)) == 1


@pytest.mark.parametrize("page", having("sh"))
def test_the_commands_in_a_page_are_understood(page: Path) -> None:
    for line in "\n".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] != "bequest":
            continue
        command = group.get_command(Context(group), words[1])
        assert command is not None, line
        command.make_context(words[1], words[2:])  # raises for what it does not know


@pytest.mark.parametrize("page", having("toml"))
def test_the_settings_in_a_page_are_known(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        file = tmp_path / "bequest.toml"
        file.write_text(block, encoding="utf-8")
        config.load(str(file))


def test_the_reference_states_every_setting_and_its_default() -> None:
    page = ROOT / "docs" / "reference" / "configuration.md"
    document = tomllib.loads(blocks(page, "toml")[0])
    limits = document.pop("limits")
    assert set(document) == set(config.OPTIONS)
    assert limits == {item.name: item.default for item in fields(bequest.Limits)}


def test_the_reference_states_every_variable() -> None:
    variables = {"BEQUEST_DEBUG", "BEQUEST_CONFIG", *registry.KEY_VARIABLES}
    for verb in VERBS:
        command = group.get_command(Context(group), verb)
        assert command is not None
        variables |= {str(item.envvar) for item in command.params if item.envvar}
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(BEQUEST_\w+)`", text, re.M)) == variables


REPORTS = {
    "backup": bequest.PublishReport,
    "restore": bequest.RestoreReport,
    "follow": bequest.FollowReport,
    "promote": bequest.PromoteReport,
    "files": bequest.FilesReport,
    "verify": bequest.VerifyReport,
    "inspect": bequest.InspectReport,
    "drill": bequest.DrillReport,
    "diff": bequest.DiffReport,
    "log": bequest.LogEntry,
    "history": bequest.HistoryEntry,
    "status": bequest.Status,
}


@pytest.mark.parametrize("verb", REPORTS)
def test_the_reference_states_every_key_of_an_answer(verb: str) -> None:
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    section = text.split(f"### `bequest {verb}`")[1].split("\n### ")[0]
    stated = {item.name for item in fields(REPORTS[verb]) if item.compare}  # not the error itself
    missing = stated - set(re.findall(r"`(\w+)`", section))
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]
