"""Keys come from where they are said to be, and are in no message, whatever goes wrong."""

from __future__ import annotations

import base64
import os
import stat
import sys
from pathlib import Path

import pytest

import bequest
from bequest import registry
from bequest.encryption import cipher_of
from bequest_adapters import cipher
from bequest_adapters.cli import main

KEY = bytes(range(32))
OTHER = bytes(range(32, 64))
KEY_ID = "e68756f1cb26efa1"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cipher.TEXT_VARIABLE, raising=False)
    monkeypatch.delenv(cipher.FILE_VARIABLE, raising=False)


def key_file(folder: Path, *lines: str, mode: int = 0o600, name: str = "key") -> str:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)
    return str(path)


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_a_key_has_the_id_that_the_format_says() -> None:
    assert cipher.key_id(KEY) == KEY_ID


@pytest.mark.parametrize(
    "line",
    [
        text(OTHER),
        text(OTHER).replace("+", "-").replace("/", "_"),
        OTHER.hex(),
        OTHER.hex().upper(),
    ],
    ids=["base64", "base64 for addresses", "hexadecimal", "capitals"],
)
def test_a_key_is_written_in_any_usual_way(tmp_path: Path, line: str) -> None:
    assert cipher.keys(key_file(tmp_path, line)).current == cipher.key_id(OTHER)


def test_the_first_line_writes_and_all_lines_read(tmp_path: Path) -> None:
    ring = cipher.keys(key_file(tmp_path, "# of May", text(KEY), "", "# of April", text(OTHER)))
    assert list(ring.ids) == [KEY_ID, cipher.key_id(OTHER)]
    old = ring.encrypt(cipher.key_id(OTHER), b"data", b"place")
    assert ring.decrypt(cipher.key_id(OTHER), old, b"place") == b"data"
    assert ring.current == KEY_ID


def test_the_same_text_is_never_encrypted_alike() -> None:
    ring = cipher.KeyRing([KEY])
    assert len({ring.encrypt(KEY_ID, b"data", b"") for _ in range(100)}) == 100


def test_the_verb_makes_a_key_that_nobody_else_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.key"
    before = os.umask(0)
    try:
        assert main(["key", str(path), "--json"]) == 0
    finally:
        os.umask(before)
    answer = capsys.readouterr().out
    ring = cipher.keys(str(path))
    assert f'"key_id": "{ring.current}"' in answer
    assert path.read_text().strip() not in answer
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = path.read_bytes()
    assert main(["key", str(path)]) == 2
    assert path.read_bytes() == kept
    assert main(["key", str(tmp_path / "none" / "new.key")]) == 2


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(bequest.UsageError, match="chmod 600"):
        cipher.keys(key_file(tmp_path, text(KEY), mode=mode))


def test_a_group_may_read_it(tmp_path: Path) -> None:
    assert cipher.keys(key_file(tmp_path, text(KEY), mode=0o440)).current == KEY_ID


@pytest.mark.parametrize(
    "content",
    ["", "# nothing", text(KEY)[:-8], text(KEY) + "AAAA", "not a key: " + text(KEY), "é" * 44],
    ids=["empty", "a comment", "too short", "too long", "more than a key", "not ASCII"],
)
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    with pytest.raises(bequest.UsageError) as caught:
        cipher.keys(key_file(tmp_path, content))
    assert content[:12] not in str(caught.value) or not content
    assert caught.value.__cause__ is None


def test_no_repr_shows_a_key() -> None:
    shown = repr(cipher.KeyRing([KEY]))
    assert KEY_ID in shown
    assert text(KEY) not in shown
    assert KEY.hex() not in shown


class TestWhereKeysComeFrom:
    def test_an_address_with_a_key_file_goes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BEQUEST_KEY", text(OTHER))
        address = bequest.keyed(tmp_path / "o", key_file=key_file(tmp_path, text(KEY)))
        assert address == str(tmp_path / "o")
        found = cipher_of(registry.open_store(address))
        assert found is not None
        assert found.current == KEY_ID

    @pytest.mark.parametrize("variable", ["BEQUEST_KEY", "BEQUEST_KEY_FILE"])
    def test_a_variable_is_enough(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        value = text(KEY) if variable == "BEQUEST_KEY" else key_file(tmp_path, text(KEY))
        monkeypatch.setenv(variable, value)
        found = cipher_of(registry.open_store(tmp_path / "o"))
        assert found is not None
        assert found.current == KEY_ID

    def test_without_any_nothing_is_encrypted(self, tmp_path: Path) -> None:
        assert cipher_of(registry.open_store(tmp_path / "o")) is None

    def test_an_open_store_keeps_its_keys(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = registry.open_store(tmp_path / "o", cipher.KeyRing([KEY]))
        monkeypatch.setenv("BEQUEST_KEY", text(OTHER))
        assert registry.open_store(store) is store
        found = cipher_of(store)
        assert found is not None
        assert found.current == KEY_ID

    @pytest.mark.parametrize(
        "variables",
        [
            {"BEQUEST_KEY": ""},
            {"BEQUEST_KEY_FILE": ""},
            {"BEQUEST_KEY_FILE": "/nonexistent/key"},
            {"BEQUEST_KEY": "a slip"},
            {"BEQUEST_KEY": text(KEY), "BEQUEST_KEY_FILE": "/etc/key"},
        ],
        ids=["empty", "empty path", "no file", "no key", "both"],
    )
    def test_a_slip_does_not_switch_encryption_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(bequest.UsageError, match=r"(?i)nothing was done"):
            registry.open_store(tmp_path / "o")
        with pytest.raises(bequest.UsageError):
            bequest.Backup(f"sqlite:///{tmp_path}/c.db", str(tmp_path / "o"))
        assert not (tmp_path / "o").exists()

    def test_a_store_that_takes_no_key_is_refused(self) -> None:
        class Narrow:
            __slots__ = ()
            name = "narrow"
            head = read = close = lambda self: None

        with pytest.raises(bequest.UsageError, match="cannot be given a key"):
            registry.open_store(Narrow(), cipher.KeyRing([KEY]))  # type: ignore[arg-type]

    def test_a_library_that_is_missing_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
        with pytest.raises(bequest.UsageError, match=r"bequest\[encryption\]"):
            cipher.keys(key_file(tmp_path, text(KEY)))
