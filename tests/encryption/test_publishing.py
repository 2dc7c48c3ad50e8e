"""Encryption is never silently off: who has no key does not publish, and a new key is used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import bequest
from bequest import registry
from bequest.publisher import Publisher
from bequest_adapters import apart as process_apart
from bequest_adapters import cipher, rewriting
from tests.restore.controller import Controller

CANARY = "the canary that nobody may see"
APART = bequest.Limits(rewrite_apart_bytes=0)


class Keys:
    """Key files in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.ids: dict[str, str] = {}

    def new(self, name: str) -> str:
        path = str(self._folder / name)
        self.ids[name] = cipher.make(path)
        return path

    def together(self, name: str, *parts: str) -> str:
        path = self._folder / name
        path.write_text("".join((self._folder / part).read_text() for part in parts))
        path.chmod(0o600)
        return str(path)

    def secrets(self) -> list[bytes]:
        lines = [path.read_text().strip() for path in self._folder.iterdir()]
        keys = [cipher._key(line, "here") for text in lines for line in text.splitlines()]
        return [
            form for key in keys for form in (key, key.hex().encode(), cipher.encoded(key).encode())
        ]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cipher.TEXT_VARIABLE, raising=False)
    monkeypatch.delenv(cipher.FILE_VARIABLE, raising=False)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "keys")
    made.new("first")
    made.new("second")
    return made


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path)
    made.write(f"INSERT INTO site VALUES (7, '{CANARY}', 'eu')")
    return made


def path_of(keys: Keys, name: str) -> str:
    return str(keys._folder / name)


def publish(
    controller: Controller, keys: Keys, name: str | None, *, replace: str | None = None
) -> bequest.PublishReport:
    store = controller.store
    if name is not None:
        store = bequest.keyed(store, key_file=path_of(keys, name))
    return bequest.backup(controller.url, store, replace=replace)


def body(controller: Controller) -> bytes:
    return Path(controller.store).read_bytes()


def test_what_is_published_under_a_key_shows_nothing(controller: Controller, keys: Keys) -> None:
    report = publish(controller, keys, "first")
    assert (report.action, report.key_id) == ("create", keys.ids["first"])
    controller.write(f"UPDATE site SET name = '{CANARY} again' WHERE id = 7")
    assert publish(controller, keys, "first").action == "append"
    for secret in (CANARY.encode(), b"region", *keys.secrets()):
        assert secret not in body(controller)
    assert bequest.status(controller.url).key_id == keys.ids["first"]
    database = controller.path.read_bytes()
    assert not [secret for secret in keys.secrets() if secret in database]


def test_without_the_key_nothing_is_published(controller: Controller, keys: Keys) -> None:
    publish(controller, keys, "first")
    before = body(controller)
    controller.write("DELETE FROM site WHERE id = 7")
    for name in (None, "second"):
        with pytest.raises(bequest.Refused, match=keys.ids["first"]):
            publish(controller, keys, name)
        assert body(controller) == before
    status = bequest.status(controller.url)
    assert (status.state, status.key_id) == ("refused", keys.ids["first"])
    assert publish(controller, keys, "first").action == "append"


def test_a_lost_object_is_not_made_anew_in_the_clear(controller: Controller, keys: Keys) -> None:
    publish(controller, keys, "first")
    Path(controller.store).unlink()
    with pytest.raises(bequest.Refused):
        publish(controller, keys, None)
    assert not Path(controller.store).exists()
    assert publish(controller, keys, "first").action == "create"


def test_another_address_changes_nothing_about_it(
    controller: Controller, keys: Keys, tmp_path: Path
) -> None:
    publish(controller, keys, "first")
    controller.store = str(tmp_path / "elsewhere.bequest")
    with pytest.raises(bequest.Refused):
        publish(controller, keys, None)
    assert not Path(controller.store).exists()


@pytest.mark.parametrize("name", [None, "second"])
def test_replacing_by_name_is_how_to_give_a_key_up(
    controller: Controller, keys: Keys, name: str | None
) -> None:
    publish(controller, keys, "first")
    present = bequest.inspect(controller.store)
    named = f"{present.lineage}/{present.serial}"
    report = publish(controller, keys, name, replace=named)
    assert (report.action, report.key_id) == ("rewrite", None if name is None else keys.ids[name])
    assert report.kept is not None
    assert bequest.inspect(report.kept).key_id == keys.ids["first"]
    assert (CANARY.encode() in body(controller)) == (name is None)
    assert publish(controller, keys, name).action == "unchanged"


def test_a_key_given_later_is_used_at_once(controller: Controller, keys: Keys) -> None:
    assert publish(controller, keys, None).key_id is None
    assert CANARY.encode() in body(controller)
    report = publish(controller, keys, "first")
    assert (report.action, report.key_id) == ("rewrite", keys.ids["first"])
    assert CANARY.encode() not in body(controller)
    assert publish(controller, keys, "first").action == "unchanged"


def test_a_new_key_before_the_old_one_is_used_at_once(controller: Controller, keys: Keys) -> None:
    publish(controller, keys, "first")
    keys.together("both", "second", "first")
    report = publish(controller, keys, "both")
    assert (report.action, report.key_id) == ("rewrite", keys.ids["second"])
    assert publish(controller, keys, "both").action == "unchanged"
    assert publish(controller, keys, "second").action == "unchanged"
    with pytest.raises(bequest.KeyMissing):
        bequest.verify(bequest.keyed(controller.store, key_file=path_of(keys, "first")))


def test_the_heir_goes_on_under_the_same_key(
    controller: Controller, keys: Keys, tmp_path: Path
) -> None:
    publish(controller, keys, "first")
    controller.write("DELETE FROM router")
    publish(controller, keys, "first")
    store = bequest.keyed(controller.store, key_file=path_of(keys, "first"))
    heir = Controller(tmp_path, "heir", "SELECT 1;")
    report = bequest.restore(store, heir.url, at=1, adopt=True)
    assert (report.adopted, report.key_id) == (True, keys.ids["first"])
    assert bequest.status(heir.url).key_id == keys.ids["first"]
    with pytest.raises(bequest.Refused, match="encrypted"):
        publish(heir, keys, None)
    heir.write("INSERT INTO site VALUES (8, 'by the heir', 'eu')")
    assert publish(heir, keys, "first").action == "append"
    assert CANARY.encode() not in body(controller)
    assert bequest.verify(store, heir.url).ok
    with pytest.raises(bequest.Superseded):
        publish(controller, keys, "first")


def test_an_heir_with_a_new_key_adopts_under_the_old_one(
    controller: Controller, keys: Keys, tmp_path: Path
) -> None:
    publish(controller, keys, "first")
    keys.together("both", "second", "first")
    heir = Controller(tmp_path, "heir", "SELECT 1;")
    report = bequest.restore(
        bequest.keyed(controller.store, key_file=path_of(keys, "both")), heir.url, adopt=True
    )
    assert report.key_id == keys.ids["first"]
    changed = publish(heir, keys, "both")
    assert (changed.action, changed.key_id) == ("rewrite", keys.ids["second"])


def test_a_plain_object_is_inherited_with_a_key_and_then_encrypted(
    controller: Controller, keys: Keys, tmp_path: Path
) -> None:
    publish(controller, keys, None)
    heir = Controller(tmp_path, "heir", "SELECT 1;")
    store = bequest.keyed(controller.store, key_file=path_of(keys, "first"))
    checks = {
        check["name"]: check for check in bequest.preflight(store, heir.url, adopt=True).checks
    }
    assert (checks["key"]["level"], "not encrypted" in checks["key"]["text"]) == ("warn", True)
    assert bequest.restore(store, heir.url, adopt=True).key_id is None
    assert publish(heir, keys, "first").key_id == keys.ids["first"]
    assert CANARY.encode() not in body(controller)


def test_a_lost_answer_to_a_change_of_keys_is_remembered(
    controller: Controller, keys: Keys
) -> None:
    """The rewrite under the key arrived, its answer did not, and the next start has no key."""
    publish(controller, keys, None)
    store = registry.open_store(controller.store, cipher.keys(path_of(keys, "first")))
    rewrite = store.rewrite

    def lost(*arguments: object, **named: object) -> object:
        rewrite(*arguments, **named)  # type: ignore[arg-type]
        raise bequest.Unreachable("the answer was lost")

    store.rewrite = lost  # type: ignore[assignment,method-assign]
    source = registry.open_source(controller.url)
    with closing(source), closing(store):
        with pytest.raises(bequest.Unreachable):
            Publisher(source, store, registry.system_clock()).publish(check=True)
        assert source.recall().key_id == ""
    with pytest.raises(bequest.Refused, match=keys.ids["first"]):
        publish(controller, keys, None)
    assert publish(controller, keys, "first").action == "unchanged"
    assert CANARY.encode() not in body(controller)


class TestEmbedded:
    @pytest.fixture
    def told(self) -> Iterator[list[str]]:
        records: list[str] = []

        class Listening(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                records.append(record.getMessage())

        handler = Listening()
        logger = logging.getLogger("bequest")
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        yield records
        logger.removeHandler(handler)
        logger.setLevel(level)

    @pytest.mark.parametrize("apart", [False, True], ids=["here", "in another process"])
    def test_it_publishes_under_the_key(
        self, controller: Controller, keys: Keys, told: list[str], apart: bool
    ) -> None:
        engine = create_engine(controller.url)
        store = bequest.keyed(controller.store, key_file=path_of(keys, "first"))
        limits = APART if apart else None
        with bequest.Backup(engine, store, limits=limits) as backup:
            assert backup.flush().key_id == keys.ids["first"]
            # What the running process goes by is what it was started with.
            Path(path_of(keys, "first")).rename(path_of(keys, "moved"))
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO site VALUES (9, 'more', 'eu')"))
            assert backup.flush().action in ("append", "unchanged")
            assert backup.backup_now(rewrite=True).key_id == keys.ids["first"]
            assert backup.status().key_id == keys.ids["first"]
        engine.dispose()
        assert CANARY.encode() not in body(controller)
        assert not [
            secret for secret in keys.secrets() if secret.decode("latin-1") in "".join(told)
        ]

    def test_without_the_key_it_is_refused_loudly(
        self, controller: Controller, keys: Keys, told: list[str]
    ) -> None:
        publish(controller, keys, "first")
        before = body(controller)
        controller.write("DELETE FROM router")
        events: list[str] = []
        backup = bequest.Backup(
            controller.url, controller.store, on_event=lambda name, facts: events.append(name)
        )
        with pytest.raises(bequest.Refused):
            backup.flush()
        with pytest.raises(bequest.Refused):
            backup.backup_now()
        assert backup.status().state == "refused"
        assert not backup.stop() or body(controller) == before
        assert body(controller) == before

    def test_the_other_process_gets_the_key_through_a_pipe(
        self, controller: Controller, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[tuple[object, object]] = []
        popen = process_apart.subprocess.Popen

        def watched(command: list[str], **options: object) -> object:
            started.append((command, options.get("env")))
            return popen(command, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(process_apart.subprocess, "Popen", watched)
        store = bequest.keyed(controller.store, key_file=path_of(keys, "first"))
        engine = create_engine(controller.url)
        with bequest.Backup(engine, store, limits=APART) as backup:
            backup.flush()
        engine.dispose()
        assert started
        for command, environment in started:
            assert not [
                secret for secret in keys.secrets() if secret.decode("latin-1") in str(command)
            ]
            assert environment is None

    def test_a_cipher_of_somebody_elses_stays_in_the_process(self, controller: Controller) -> None:
        class Foreign:
            current = "0" * 16

        apart = rewriting.RewriteApart(controller.url, controller.store, "", APART, Foreign())  # type: ignore[arg-type]
        assert apart() is None
