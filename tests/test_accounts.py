"""A store can be named by cloud type, account, bucket and file name; keys stay out of sight."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bequest
from bequest.errors import UsageError
from bequest.testing.objects import sample
from bequest_adapters import accounts
from bequest_adapters.accounts import Account
from bequest_adapters.cli import main
from bequest_adapters.stores.keys import Keys
from tests.servers.environment import ACCESS_KEY, SECRET_KEY
from tests.servers.s3_server import BUCKET, REGION, S3Server

HUSH = "hush-hush-hush"


@pytest.mark.parametrize(
    ("account", "url"),
    [
        (Account("aws", "b", "f/g"), "s3://b/f/g"),
        (Account("aws", "b", "f", "prod", {"region": "x"}), "s3://b/f?region=x"),
        (Account("gcp", "b", "f"), "gs://b/f"),
        (Account("azure", "c", "f", "acme"), "az://c/f?account=acme"),
        (Account("azure", "c", "f", "label", {"account": "acme"}), "az://c/f?account=acme"),
        (Account("file", "/mnt/my nas", "f"), "file:///mnt/my%20nas/f"),
        (Account("file", "/mnt", "f?g", options={"keep": "3"}), "file:///mnt/f%3Fg?keep=3"),
    ],
)
def test_the_parts_make_an_address(account: Account, url: str) -> None:
    assert account.url == url


@pytest.mark.parametrize(
    ("account", "missing"),
    [
        (Account("amazon", "b", "f"), "aws, azure, gcp, file"),
        (Account("aws", "", "f"), "--bucket"),
        (Account("aws", "b", ""), "--file-name"),
    ],
)
def test_a_part_that_is_missing_is_named(account: Account, missing: str) -> None:
    with pytest.raises(UsageError, match=missing):
        _ = account.url


# Keys


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(f'access_key = "{ACCESS_KEY}"\nsecret_key = "{SECRET_KEY}"\n')
    return path


@pytest.mark.parametrize("content", ["", "access_key =", f"secret = '{HUSH}'", f"{HUSH}", "a = 1"])
def test_a_file_without_keys_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        accounts.read_keys(str(path))
    assert HUSH not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(UsageError):
        accounts.read_keys(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("account", "keys"),
    [
        (Account("aws", "b", "f"), Keys(account_key=HUSH)),
        (Account("azure", "b", "f", "acme"), Keys(access_key=HUSH, secret_key=HUSH)),
        (Account("gcp", "b", "f"), Keys(access_key=HUSH, secret_key=HUSH)),
    ],
)
def test_keys_of_another_cloud_are_refused_and_not_repeated(account: Account, keys: Keys) -> None:
    with pytest.raises(UsageError) as caught:
        accounts.open_account(account, keys)
    assert HUSH not in str(caught.value)


@pytest.mark.parametrize(
    ("account", "keys"),
    [
        (Account("aws", "b", "f"), Keys(access_key=HUSH, secret_key=HUSH, session_token=HUSH)),
        (Account("azure", "b", "f", "acme"), Keys(account_key=HUSH)),
        (Account("azure", "b", "f", "acme"), Keys(sas_token=HUSH)),
    ],
)
def test_keys_are_in_no_name_and_no_repr(account: Account, keys: Keys) -> None:
    with closing(accounts.open_account(account, keys)) as store:
        inner: Any = store.inner  # type: ignore[attr-defined]
        assert HUSH not in f"{store.name}{keys!r}{inner._settings!r}"


def test_a_service_accounts_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "google.json"
    path.write_text(json.dumps({"type": "service_account", "private_key": HUSH}))
    keys = accounts.read_keys(str(path))
    assert keys.google_file == str(path)
    with closing(accounts.open_account(Account("gcp", "b", "f"), keys)) as store:
        with pytest.raises(UsageError) as caught:
            store.head()
    assert HUSH not in str(caught.value)


def test_keys_that_are_given_win_over_the_environment(
    ministack: S3Server, keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    options = {"endpoint": ministack.endpoint, "region": REGION}
    account = Account("aws", BUCKET, ministack.new_key(), options=options)
    with closing(accounts.open_account(account)) as store, pytest.raises(bequest.Denied):
        store.head()
    with closing(accounts.open_account(account, accounts.read_keys(str(keys_file)))) as store:
        new = sample()
        store.rewrite(new.body(), len(new.data), onto=None, mark=new.mark)
        assert store.head() is not None


# From the configuration and the command line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("ctl.db")) as database:
        database.execute("CREATE TABLE site (id INTEGER PRIMARY KEY)")
        database.execute("INSERT INTO site VALUES (1)")
        database.commit()
    return tmp_path


def test_every_verb_takes_the_store_of_an_account_in_the_file(here: Path) -> None:
    (here / "bequest.toml").write_text(
        f'database = "sqlite:///ctl.db"\naccount = "nas"\nfile_name = "ctl.bequest"\n'
        f'[accounts.nas]\ncloud_type = "file"\nbucket = "{here}"\nkeep = 2\n'
    )
    for arguments in (
        ["backup"],
        ["backup", "--rewrite"],
        ["verify"],
        ["inspect"],
        ["log"],
        ["history"],
        ["doctor"],
        ["restore", "--no-adopt", "--database", "sqlite:///new.db"],
    ):
        assert main(arguments) == 0, arguments
    assert (here / "ctl.bequest").exists()
    assert (here / "ctl.bequest.1").exists()
    assert (here / "new.db").exists()


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ('account = "nas"\n[accounts.disk]\nbucket = "b"', [], "disk"),
        ('store = "x"\nbucket = "b"', [], "twice"),
        ('bucket = "b"', ["x", "--cloud-type", "aws"], "twice"),
        ("", [], "STORE"),
        ('[accounts.a]\nkeep = "3"', ["x"], "whole number"),
        (
            'account="a"\nfile_name="f"\n[accounts.a]\ncloud_type="aws"\nbucket="b"\nkeep=1',
            [],
            "keep",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    arguments: list[str],
    said: str,
) -> None:
    (here / "bequest.toml").write_text(content)
    assert main(["restore", *arguments, "--database", "sqlite:///new.db"]) == 2
    assert said in capsys.readouterr().err


def test_an_address_on_the_command_line_wins_over_parts_in_the_file(here: Path) -> None:
    (here / "bequest.toml").write_text(
        'cloud_type = "file"\nbucket = "/nowhere"\nfile_name = "f"\n'
    )
    assert main(["backup", "--database", "sqlite:///ctl.db", "--store", "other"]) == 0
    assert (here / "other").exists()


def test_restore_by_parts_with_the_keys_from_a_file_or_a_prompt(
    here: Path,
    ministack: S3Server,
    keys_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = ministack.new_key()
    bequest.backup("sqlite:///ctl.db", ministack.url(key))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (here / "bequest.toml").write_text(
        f'[accounts.site]\ncloud_type = "aws"\nendpoint = "{ministack.endpoint}"\n'
        f'region = "{REGION}"\n'
    )
    parts = ["restore", "--account", "site", "--bucket", BUCKET, "--file-name", key, "--no-adopt"]
    caplog.set_level(logging.DEBUG)
    assert main([*parts, "--database", "sqlite:///0.db"]) == 4
    assert main([*parts, "--database", "sqlite:///1.db", "--keys-file", str(keys_file)]) == 0
    answers = iter([ACCESS_KEY, SECRET_KEY])
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: next(answers))
    monkeypatch.setattr("bequest_adapters.cli.accounts._has_terminal", lambda: True)
    assert main([*parts, "--database", "sqlite:///2.db", "--ask-keys"]) == 0
    out, err = capsys.readouterr()
    assert SECRET_KEY not in caplog.text + out + err


def test_without_a_terminal_there_is_nobody_to_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bequest_adapters.cli.accounts._has_terminal", lambda: False)
    asked = ["--cloud-type", "aws", "--bucket", "b", "--file-name", "f", "--ask-keys"]
    assert main(["restore", *asked, "--database", "sqlite:///z.db"]) == 2
    assert "needs a terminal" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "a/../../x", ".."])
def test_a_file_name_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="leads out"):
        accounts.open_account(Account("file", str(tmp_path), name))
