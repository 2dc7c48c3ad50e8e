"""Settings come from where the operator put them, and secrets stay where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bequest.errors import UsageError
from bequest_adapters import config


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "bequest.toml"


class TestTheFile:
    def test_without_one_everything_is_at_its_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert config.load(None) == config.Settings()

    def test_one_in_the_present_folder_is_read(
        self, toml: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        toml.write_text('mode = "schedule"\nexclude = "session_*"\nstop-timeout = 5\n')
        monkeypatch.chdir(toml.parent)
        assert config.load(None).options == {
            "mode": "schedule",
            "exclude": ["session_*"],
            "stop_timeout": 5,
        }

    def test_one_that_is_asked_for_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read"):
            config.load(str(tmp_path / "absent.toml"))

    @pytest.mark.parametrize("content", [b"mode = ", b"\xff\xfe"])
    def test_what_is_no_toml_is_named(self, toml: Path, content: bytes) -> None:
        toml.write_bytes(content)
        with pytest.raises(UsageError, match="not valid TOML"):
            config.load(str(toml))

    @pytest.mark.parametrize(
        "content",
        [
            *("stop_timeout = nan", "stop_timeout = inf", "stop_timeout = -1"),
            *("[limits]\nlock_seconds = nan", "[limits]\ntail_share = inf"),
            *("[limits]\nretry_first_seconds = -1", "[accounts.a]\nkeep = -1"),
            *('mode = "x"', 'schedule = "x"', 'drill_schedule = "x"', 'timezone = "Q"'),
            *('cloud_type = "ibm"', 'store = "s3://key:secret@bucket/x"'),
        ],
    )
    def test_what_a_verb_does_not_use_is_looked_at_too(self, toml: Path, content: str) -> None:
        toml.write_text(content)
        with pytest.raises(UsageError):
            config.load(str(toml))

    @pytest.mark.parametrize(
        ("content", "key", "nearest"),
        [
            ('databse = "x"', "databse", "database"),
            ('excludes = "x"', "excludes", "exclude"),
            ('[acounts.a]\nbucket = "b"', "acounts", "accounts"),
            ('[accounts.a]\nbuckt = "b"', "accounts.a.buckt", "accounts.a.bucket"),
            ("[limits]\ntail_shre = 1", "limits.tail_shre", "limits.tail_share"),
        ],
    )
    def test_an_unknown_key_is_named_with_the_nearest_known(
        self, toml: Path, content: str, key: str, nearest: str
    ) -> None:
        toml.write_text(content)
        with pytest.raises(UsageError) as caught:
            config.load(str(toml))
        assert f"'{key}'" in str(caught.value)
        assert f"'{nearest}'" in str(caught.value)

    @pytest.mark.parametrize(
        "content",
        [
            "database = 5",
            "exclude = [1]",
            'stop_timeout = "long"',
            "stop_timeout = true",
            'json = "yes"',
            "accounts = 1",
            "[accounts]\nprod = 1",
            "[accounts.prod]\nbucket = 1",
            "limits = 1",
            "[limits]\ntail_bytes = 1.5",
            "[limits]\ntail_share = -1",
        ],
    )
    def test_a_value_of_the_wrong_kind_is_refused(self, toml: Path, content: str) -> None:
        toml.write_text(content)
        with pytest.raises(UsageError, match="must be"):
            config.load(str(toml))

    @pytest.mark.parametrize("key", ["replace", "accept-files", "force", "dry-run"])
    def test_a_decision_for_one_run_cannot_be_kept_in_a_file(self, toml: Path, key: str) -> None:
        toml.write_text(f"{key} = true")
        with pytest.raises(UsageError, match=f"give --{key} where it is meant"):
            config.load(str(toml))

    def test_named_accounts_are_kept(self, toml: Path) -> None:
        toml.write_text(
            '[accounts.prod-ha]\ncloud_type = "aws"\n'
            'bucket = "acme-ha"\nfile_name = "ctl.bequest"\n'
        )
        assert config.load(str(toml)).accounts == {
            "prod-ha": {"cloud_type": "aws", "bucket": "acme-ha", "file_name": "ctl.bequest"}
        }

    def test_limits_are_kept(self, toml: Path) -> None:
        toml.write_text("[limits]\ntail_share = 0.25\ntail_bytes = 1000\n")
        limits = config.load(str(toml)).limits
        assert (limits.tail_share, limits.tail_bytes) == (0.25, 1000)


class TestVariables:
    def test_a_reference_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BUCKET", "acme-ha")
        assert config.expand("s3://${BUCKET}/ctl${BUCKET}") == "s3://acme-ha/ctlacme-ha"

    def test_two_dollars_mean_the_text_itself(self) -> None:
        assert config.expand("a$${BUCKET}b$c") == "a${BUCKET}b$c"

    def test_what_was_inserted_is_not_looked_at_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("A", "${B}")
        assert config.expand("${A}") == "${B}"

    @pytest.mark.parametrize("text", ["${BEQUEST_ABSENT}", "x${BEQUEST_ABSENT}"])
    def test_one_that_is_not_set_is_named(self, text: str) -> None:
        with pytest.raises(UsageError, match="'BEQUEST_ABSENT'"):
            config.expand(text)

    def test_a_password_may_hold_any_character(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from sqlalchemy.engine import make_url

        monkeypatch.setenv("PASSWORD", "p@ss:w/rd%?#")
        url = make_url(config.expand_database("postgresql://ctl:${PASSWORD}@db.example/ctl"))
        assert (url.password, url.host, url.database) == ("p@ss:w/rd%?#", "db.example", "ctl")


SECRET = "hunter2"


class TestSecrets:
    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://ctl:{SECRET}@db/ctl",
            f"postgresql+psycopg://ctl:{SECRET}/x@db/ctl",
            f"postgresql://db/ctl?user=ctl&password={SECRET}",
        ],
    )
    def test_a_password_in_an_argument_is_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(UsageError) as caught:
            config.check_database_argument(url)
        assert SECRET not in str(caught.value)
        assert "BEQUEST_DATABASE" in str(caught.value)
        assert "${NAME}" in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "sqlite:////var/lib/ctl/ctl.db",
            "sqlite:////var/lib/a:b@c/ctl.db",
            "postgresql://ctl@db/ctl",
            "postgresql://ctl:${PASSWORD}@db/ctl",
            "postgresql://db/ctl?password=${PASSWORD}",
        ],
    )
    def test_a_url_without_one_may_be_an_argument(self, url: str) -> None:
        config.check_database_argument(url)

    @pytest.mark.parametrize(
        "url",
        [
            f"s3://AKIA:{SECRET}@acme-ha/ctl",
            f"s3://acme-ha/ctl?secret_key={SECRET}",
            f"s3://acme-ha/ctl?aws-secret-access-key={SECRET}",
            f"s3://acme-ha/ctl?access_key={SECRET}",
            f"az://acme/ha/ctl?sv=2024&sig={SECRET}",
            f"s3://acme-ha/ctl?session_token={SECRET}",
        ],
    )
    def test_credentials_in_a_stores_address_are_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(UsageError) as caught:
            config.check_store(url)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "s3://acme-ha/ctl.bequest?endpoint=http://127.0.0.1:9000&region=eu-west-1",
            "s3://acme-ha/ctl.bequest?kms_key_id=alias/ha",
            "/mnt/nas/ctl@home.bequest",
            "file:///mnt/nas/ctl@home.bequest",
        ],
    )
    def test_other_addresses_are_taken(self, url: str) -> None:
        config.check_store(url)
