"""`bequest doctor` tells before it matters, and touches nothing but its scratch object."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest.errors import Refused
from bequest.registry import open_store
from bequest.testing.objects import sample
from bequest_adapters.cli import main
from bequest_adapters.doctor import examine_store, policy
from bequest_adapters.stores import s3
from bequest_adapters.stores.findings import Finding, Level, skew
from tests.servers.azurite import CONTAINER, KEY, AzureServer
from tests.servers.gcs_server import BUCKET as GCS_BUCKET
from tests.servers.gcs_server import GcsServer
from tests.servers.heedless import heedless
from tests.servers.proxy import Answer, Fault, FaultProxy, fault_proxy
from tests.servers.s3_server import BUCKET, S3Server

ROOT = Path(__file__).parents[2]
CONDITIONS = {"conditional create", "conditional replace", "conditional replace, large"}
# What an emulator, which asks nobody who he is, is rightly accused of.
OF_EMULATORS = {"public access"}

Names = Callable[[], list[str]]
"""The names of all objects that stand there."""


def _examined(url: str) -> dict[str, Finding]:
    with closing(open_store(url)) as store:
        return {found.check: found for found in examine_store(store)}


def _errors(findings: dict[str, Finding]) -> set[str]:
    return {name for name, found in findings.items() if found.level is Level.ERROR}


@pytest.fixture(params=["file", "ministack", "seaweedfs", "azurite", "gcs"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[tuple[str, Names], None, None]:
    kind = request.param
    if kind == "file":
        yield str(tmp_path / "ctl"), lambda: os.listdir(tmp_path)
    elif kind == "azurite":
        azure: AzureServer = request.getfixturevalue("azurite")
        monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
        blob = azure.new_blob()
        with closing(azure.client().get_container_client(CONTAINER)) as container:
            yield azure.url(blob), lambda: list(container.list_blob_names(name_starts_with=blob))
    elif kind == "gcs":
        gcs: GcsServer = request.getfixturevalue("gcs_server")
        key = gcs.new_key()
        with closing(gcs.client()) as client:
            yield (
                gcs.url(key),
                lambda: [each.name for each in client.list_blobs(GCS_BUCKET, prefix=key)],
            )
    else:
        server: S3Server = request.getfixturevalue(kind)
        key = server.new_key()
        yield server.url(key), lambda: _keys(server, key)


def _keys(server: S3Server, key: str) -> list[str]:
    with closing(server.client()) as client:
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=key)
    return [each["Key"] for each in found.get("Contents", [])]


def test_a_store_that_enforces_conditions_passes_and_nothing_is_left(
    place: tuple[str, Names],
) -> None:
    url, names = place
    findings = _examined(url)
    assert _errors(findings) <= OF_EMULATORS
    for check in ("reach", "round trip", "conditional create", "conditional replace", "append"):
        assert findings[check].level is Level.OK
    assert findings["permission"].level is Level.OK
    assert findings["scratch"].level is Level.OK
    assert [name for name in names() if "doctor" in name] == []
    assert all(found.remedy for found in findings.values() if found.level is Level.WARNING)


def test_the_object_itself_is_not_touched(place: tuple[str, Names]) -> None:
    url, names = place
    with closing(open_store(url)) as store:
        new = sample()
        before = store.rewrite(new.body(), len(new.data), onto=None, mark=new.mark)
        stood = [name for name in names() if not name.endswith(".lock")]
        assert _errors(_examined(url)) <= OF_EMULATORS
        assert store.head() == before
        assert [name for name in names() if not name.endswith(".lock")] == stood


@pytest.mark.parametrize(
    ("only", "ignored"),
    [
        ("", CONDITIONS),
        ("POST", {"conditional replace, large"}),
    ],
    ids=["ignores all", "ignores those of multipart uploads"],
)
def test_an_endpoint_that_ignores_conditions_is_told_from_one_that_enforces_them(
    ministack: S3Server, only: str, ignored: set[str]
) -> None:
    with heedless(ministack.port, only=only) as proxy:
        findings = _examined(ministack.through(proxy.port).url(ministack.new_key()))
    assert _errors(findings) - OF_EMULATORS == ignored
    assert all(findings[check].kind is Refused for check in ignored)
    assert "accept_unconditional" in findings["conditional replace, large"].remedy


def test_nothing_is_said_of_a_danger_that_nobody_accepted(
    ministack: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    findings = _examined(ministack.url(ministack.new_key()))
    assert findings["conditional create"].level is Level.OK
    assert "accept_unconditional" not in caplog.text


def test_a_danger_that_was_accepted_is_still_told(ministack: S3Server) -> None:
    with heedless(ministack.port) as proxy:
        url = ministack.through(proxy.port).url(ministack.new_key(), accept_unconditional="true")
        findings = _examined(url)
    assert _errors(findings) <= OF_EMULATORS
    assert {findings[check].level for check in CONDITIONS} == {Level.WARNING}


# The first publish asks too


def _published(url: str) -> None:
    with closing(s3.open_store(url)) as store:
        new = sample()
        store.rewrite(new.body(), len(new.data), onto=None, mark=new.mark)


def test_the_first_publish_to_an_endpoint_that_ignores_conditions_is_refused(
    ministack: S3Server,
) -> None:
    key = ministack.new_key()
    with heedless(ministack.port) as proxy:
        with pytest.raises(Refused, match="accept_unconditional"):
            _published(ministack.through(proxy.port).url(key))
    assert _keys(ministack, key) == []


def test_an_operator_can_accept_it_and_is_told_at_every_creation(
    ministack: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    key = ministack.new_key()
    with heedless(ministack.port) as proxy:
        _published(ministack.through(proxy.port).url(key, accept_unconditional="true"))
    assert _keys(ministack, key) == [key]
    assert "stale controller may overwrite" in caplog.text


# What is missing is said


def _denying(server: S3Server, *fragments: str) -> Generator[FaultProxy, None, None]:
    with fault_proxy(server.port) as proxy:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        denial = Answer(403, [("Content-Type", "application/xml")], body)
        for fragment in fragments:
            proxy.plan(
                lambda request, fragment=fragment: fragment in f"{request.method} {request.path}",
                Fault(executed=False, answer=denial),
                times=100,
            )
        yield proxy


@pytest.mark.parametrize(
    ("fragment", "check", "level"),
    [
        ("HEAD ", "reach", Level.ERROR),
        ("PUT ", "permission", Level.ERROR),
        ("POST ", "append", Level.ERROR),
        ("DELETE ", "scratch", Level.WARNING),
        ("versioning", "versioning", Level.WARNING),
        ("uploads&", "leftovers", Level.WARNING),
    ],
)
def test_a_right_that_is_missing_is_named_with_its_remedy(
    ministack: S3Server, fragment: str, check: str, level: Level
) -> None:
    for proxy in _denying(ministack, fragment):
        findings = _examined(ministack.through(proxy.port).url(ministack.new_key()))
    assert findings[check].level is level
    assert findings[check].remedy or "Grant" in findings[check].text


def test_a_clock_that_is_wrong_is_told() -> None:
    date = "Mon, 23 Nov 2026 12:00:00 GMT"
    noon = 1795435200.0
    assert skew(date, noon + 2).level is Level.OK
    assert "900 s ahead" in skew(date, noon + 900).text
    assert "900 s behind" in skew(date, noon - 900).text
    assert skew(date, noon + 900).level is Level.WARNING
    assert skew(None, noon).level is Level.WARNING


def test_unfinished_uploads_are_counted(ministack: S3Server) -> None:
    key = ministack.new_key()
    with closing(ministack.client()) as client:
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    assert _examined(ministack.url(key))["leftovers"].level is Level.WARNING


def test_versioning_is_told_with_what_it_costs(ministack: S3Server) -> None:
    ministack.version_bucket()
    key = ministack.new_key()
    findings = _examined(ministack.url(key, bucket=ministack.versioned_bucket))
    assert "billed" in findings["versioning"].text
    assert findings["scratch"].level is Level.OK
    with closing(ministack.client()) as client:
        left = client.list_object_versions(Bucket=ministack.versioned_bucket, Prefix=key)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


# The command line


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_the_exit_code_is_that_of_the_first_error(
    tmp_path: Path,
    ministack: S3Server,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--store", str(tmp_path / "ctl"), "--json"]) == 0
    assert _json(capsys)["ok"] is True
    assert main(["doctor", "--store", str(tmp_path / "absent" / "ctl"), "--json"]) == 4
    assert _json(capsys)["ok"] is False
    with heedless(ministack.port) as proxy:
        url = ministack.through(proxy.port).url(ministack.new_key())
        assert main(["doctor", "--store", url]) == 5
    assert "ignores the condition" in " ".join(capsys.readouterr().out.split())
    assert main(["doctor"]) == 2


def test_a_database_is_examined_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("ctl.db")) as database:
        database.execute("CREATE TABLE site (id INTEGER PRIMARY KEY)")
    url = "sqlite:///ctl.db"
    assert main(["doctor", "--database", url, "--json"]) == 0
    assert _levels(capsys)["capture"] == "warning"
    bequest.backup(url, "ctl")
    assert main(["doctor", "--database", url, "--json"]) == 0
    assert _levels(capsys)["capture"] == "ok"


def test_a_table_whose_content_is_not_covered_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'ctl.db'}"
    with closing(sqlite3.connect(tmp_path / "ctl.db")) as database:
        database.execute("CREATE TABLE site (id INTEGER PRIMARY KEY)")
        database.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
        database.execute("CREATE VIRTUAL TABLE places USING rtree(id, west, east)")
    store = str(tmp_path / "o")
    for arguments in (
        ["doctor", "--database", url],
        ["backup", "--database", url, "--store", store],
        ["doctor", "--database", url],
        ["verify", store, "--database", url],
    ):
        assert main(arguments) == 0
        told = "".join(capsys.readouterr())
        for table in ("words", "places"):
            assert re.search(rf"warning.*not covered: {table} \(a virtual table", told)
        assert "words_data" not in told


def _levels(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {each["check"]: each["level"] for each in _json(capsys)["findings"]}


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("s3://acme-ha/controller.bequest", "s3.md"),
        ("az://acme-ha/controller.bequest?account=acme", "azure-and-gcs.md"),
        ("gs://acme-ha/controller.bequest", "azure-and-gcs.md"),
    ],
)
def test_the_policies_that_are_printed_are_those_that_are_documented(url: str, page: str) -> None:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    assert re.sub(r"\s+", " ", policy(url)) in re.sub(r"\s+", " ", text)


def test_a_policy_is_printed_without_asking_anybody(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--store", "s3://acme-ha/ctl", "--print-policy"]) == 0
    statements = _json(capsys)["Statement"]
    assert {each["Resource"] for each in statements} == {
        "arn:aws:s3:::acme-ha",
        "arn:aws:s3:::acme-ha/ctl",
        "arn:aws:s3:::acme-ha/ctl.replaced-*",
        "arn:aws:s3:::acme-ha/ctl.doctor-*",
    }
    assert main(["doctor", "--store", "/tmp/ctl", "--print-policy"]) == 2
