"""Settings: ``bequest.toml``, ``${ENV}``, and what must never be written where others can read it.

An argument wins over a ``BEQUEST_*`` variable, that over the file, that over the default; the
command line applies this order through click. Invariants: an unknown key is an error, because a
misspelt ``exclude`` would back up what must not be; no message repeats a value that may be secret.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qsl, quote, urlsplit

from bequest.compactor import Limits
from bequest.errors import UsageError

DEFAULT_FILE: Final = "bequest.toml"
PREFIX: Final = "BEQUEST_"

TEXT: Final = "a text"
TEXTS: Final = "a text or a list of texts"
SECONDS: Final = "a finite number of seconds, at least 0"
BYTES: Final = "a whole number of bytes"
FLAG: Final = "true or false"
NUMBER: Final = "a whole number of at least 0"

OPTIONS: Final[Mapping[str, str]] = {
    "database": TEXT,
    "store": TEXT,
    "cloud_type": TEXT,
    "account": TEXT,
    "bucket": TEXT,
    "file_name": TEXT,
    "key_file": TEXT,
    "mode": TEXT,
    "schedule": TEXT,
    "timezone": TEXT,
    "drill_schedule": TEXT,
    "include": TEXTS,
    "exclude": TEXTS,
    "files": TEXTS,
    "files_ignore": TEXTS,
    "files_limit": BYTES,
    "stop_timeout": SECONDS,
    "alive_within": SECONDS,
    "json": FLAG,
}
"""What a file may set, and of which kind; the command's option has the same name."""

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": ("per-change", "schedule"),
    "cloud_type": ("aws", "azure", "gcp", "file"),
}
"""The texts of which a file may only name one."""

ONCE: Final = frozenset(
    {
        *("replace", "force", "dry_run", "rewrite", "adopt", "copy", "no_adopt"),
        *("accept_files", "files_to", "files_in_place"),
    }
)
"""Decisions for one run: kept in a file they would switch a protection off for good."""

ACCOUNT_TEXTS: Final = frozenset(
    {
        *("cloud_type", "account", "bucket", "file_name", "keys_file", "key_file"),
        *("endpoint", "region", "profile", "addressing", "ca_bundle", "proxy"),
        *("storage_class", "sse", "sse_kms_key_id"),
    }
)
ACCOUNT_NUMBERS: Final = frozenset(
    {"multipart_threshold", "part_size", "block_size", "compose_threshold", "keep"}
)
ACCOUNT_FLAGS: Final = frozenset({"accept_unconditional"})
ACCOUNT_KEYS: Final = ACCOUNT_TEXTS | ACCOUNT_NUMBERS | ACCOUNT_FLAGS
"""What an account may say: where the object is, and the options of its store's address."""

_VARIABLE: Final = re.compile(r"\$(\$)?\{([^}]*)\}")
_USERINFO: Final = re.compile(
    r"(?P<scheme>[\w+.-]+://)(?P<userinfo>[^:/@]*(?::[^@]*)?)@(?P<rest>.*)", re.DOTALL
)
_SECRET_WORDS: Final = ("secret", "password", "passwd", "token", "credential", "signature")
_SECRET_NAMES: Final = frozenset(
    {"sig", "sas", "pwd", "access_key", "access_key_id", "aws_access_key_id", "account_key"}
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration file's content, checked but not yet expanded. ``path`` is where it stands."""

    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    accounts: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    limits: Limits = field(default_factory=Limits)


def load(path: str | None) -> Settings:
    """Read the file at ``path``, or ``bequest.toml`` here if there is one.

    Raises `UsageError` for a file that is missing, is not TOML, or holds what nobody knows.
    """
    chosen = Path(path) if path else Path(DEFAULT_FILE)
    if not path and not chosen.exists():
        return Settings()
    try:
        with chosen.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UsageError(
            f"The configuration {chosen} cannot be read ({error.strerror}). Nothing was done. "
            "Correct --config or BEQUEST_CONFIG, or give the options as arguments."
        ) from error
    except ValueError as error:  # also what is not UTF-8
        raise UsageError(
            f"The configuration {chosen} is not valid TOML: {error}. Nothing was done. "
            'Write lines such as database = "sqlite:////var/lib/controller/controller.db".'
        ) from error
    return _settings(chosen, document)


def expand(text: str) -> str:
    """``text`` with every ``${NAME}`` replaced by that variable; ``$${NAME}`` stays ``${NAME}``.

    Raises `UsageError` that names a variable which is not set.
    """
    return _VARIABLE.sub(lambda match: match[0][1:] if match[1] else _variable(match[2]), text)


def expand_database(text: str) -> str:
    """Like `expand`, for a URL: a password may hold any character."""
    match = _USERINFO.fullmatch(text)
    if match is None:
        return expand(text)
    userinfo = _VARIABLE.sub(
        lambda found: found[0][1:] if found[1] else quote(_variable(found[2]), safe=""),
        match["userinfo"],
    )
    return f"{expand(match['scheme'])}{userinfo}@{expand(match['rest'])}"


def check_database_argument(text: str) -> None:
    """Refuse a password that other users of the machine could read in the list of processes.

    ``text`` is not expanded yet. Raises `UsageError`.
    """
    match = _USERINFO.fullmatch(text)
    password = match["userinfo"].partition(":")[2] if match else ""
    query = text.partition("?")[2]
    secrets = [value for name, value in parse_qsl(query) if _is_secret(name)]
    for secret in (password, *secrets):
        if secret and not _VARIABLE.fullmatch(secret):
            raise UsageError(
                "The database's URL holds a password, and arguments can be read by every user of "
                "this machine. Nothing was done. Put the URL into the variable BEQUEST_DATABASE or "
                "into bequest.toml, or write ${NAME} in the password's place, in single quotes, to "
                "take it from the variable NAME."
            )


def check_store(text: str) -> None:
    """Refuse a store's address with credentials in it, wherever it comes from.

    Raises `UsageError`.
    """
    if "://" not in text:
        return
    parts = urlsplit(text)
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if "@" not in parts.netloc and not any(_is_secret(name) for name in names):
        return
    raise UsageError(
        "The store's address holds a name, password or key. An address ends up in logs and in the "
        "database, so nothing was done. Take it out: credentials come from the provider's own "
        "places (its environment variables, profile, or role of the machine)."
    )


def _settings(path: Path, document: Mapping[str, Any]) -> Settings:
    options: dict[str, Any] = {}
    for key, value in document.items():
        if key not in ("accounts", "limits"):
            name = key.replace("-", "_")
            options[name] = _checked(path, key, name, value)
    _check_meanings(path, options)
    accounts = _tables(path, "accounts", document.get("accounts", {}))
    return Settings(path, options, accounts, _limits(path, document.get("limits", {})))


def _check_meanings(path: Path, options: Mapping[str, Any]) -> None:
    """Look at what this call may not need: a slip must not wait for the night it is needed."""
    plain = {name: value for name, value in options.items() if "${" not in str(value)}
    check_store(str(plain.get("store", "")))
    for name, known in WORDS.items():
        if name in plain and plain[name] not in known:
            raise UsageError(
                f"{path}: {name!r} is {plain[name]!r}; it can be {', '.join(known)}. Nothing was "
                "done; correct that line."
            )
    schedules = [plain[name] for name in ("schedule", "drill_schedule") if name in plain]
    zone = plain.get("timezone")
    if not schedules and zone is None:
        return
    from .cron import CronSchedule, named_zone

    try:
        for expression in schedules:
            CronSchedule(expression, "UTC")
        if zone is not None:
            named_zone(zone)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _checked(path: Path, key: str, name: str, value: Any) -> Any:
    if name in ONCE:
        raise UsageError(
            f"{path} sets {key!r}, which is a decision for one run: kept in a file it would switch "
            f"a protection off for good. Nothing was done. Remove it, and give --{_dashed(name)} "
            "where it is meant."
        )
    if name not in OPTIONS:
        raise _unknown(path, key, [*OPTIONS, "accounts", "limits"])
    kind = OPTIONS[name]
    if kind is TEXTS and isinstance(value, str):
        return [value]
    if not _fits(kind, value):
        raise UsageError(f"{path}: {key!r} must be {kind}. Nothing was done; correct that line.")
    return value


def _fits(kind: str, value: Any) -> bool:
    if kind is TEXTS:
        items: Any = value
        return isinstance(value, list) and all(isinstance(item, str) for item in items)
    if kind is SECONDS:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and value >= 0
    if kind is BYTES:
        return type(value) is int and value >= 0
    if kind is NUMBER:
        return type(value) is int and value >= 0
    return isinstance(value, bool if kind is FLAG else str)


def _tables(path: Path, key: str, value: Any) -> dict[str, Mapping[str, str]]:
    accounts: dict[str, Mapping[str, str]] = {}
    for name, account in _table(path, key, value).items():
        facts = _table(path, f"{key}.{name}", account)
        for fact, content in facts.items():
            if fact not in ACCOUNT_KEYS:
                raise _unknown(path, f"{key}.{name}.{fact}", ACCOUNT_KEYS)
            kind = _account_kind(fact)
            if not _fits(kind, content):
                raise UsageError(
                    f"{path}: '{key}.{name}.{fact}' must be {kind}; correct that line."
                )
        accounts[name] = {fact: _as_option(content) for fact, content in facts.items()}
    return accounts


def _account_kind(fact: str) -> str:
    if fact in ACCOUNT_NUMBERS:
        return NUMBER
    return FLAG if fact in ACCOUNT_FLAGS else TEXT


def _as_option(content: object) -> str:
    return str(content).lower() if isinstance(content, bool) else str(content)


def _limits(path: Path, value: Any) -> Limits:
    known = asdict(Limits())
    chosen = _table(path, "limits", value)
    for name, number in chosen.items():
        if name not in known:
            raise _unknown(path, f"limits.{name}", known)
        counted = isinstance(known[name], int)
        allowed = int if counted else int | float
        if (
            isinstance(number, bool)
            or not isinstance(number, allowed)
            or not 0 <= number < math.inf
        ):
            whole = "whole " if counted else ""
            raise UsageError(
                f"{path}: 'limits.{name}' must be a {whole}number of at least 0. Nothing was done; "
                "correct that line."
            )
    return Limits(**chosen)


def _table(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {key!r} must be a table, written [{key}]; correct that line.")
    return cast("dict[str, Any]", value)


def _unknown(path: Path, key: str, known: Iterable[str]) -> UsageError:
    place, _, name = key.rpartition(".")
    names = sorted(known)
    near = difflib.get_close_matches(name.replace("-", "_"), names, 1, 0.0)
    return UsageError(
        f"{path} sets {key!r}, which Bequest does not know; the nearest that it knows is "
        f"{'.'.join(filter(None, (place, *near)))!r}. Nothing was done. Known are: "
        f"{', '.join(names)}."
    )


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise UsageError(
            f"The configuration refers to ${{{name}}}, and there is no variable {name!r} in the "
            f"environment. Nothing was done. Set it, or write $${{{name}}} if the text itself is "
            "meant."
        )
    return value


def _is_secret(name: str) -> bool:
    lowered = name.lower().replace("-", "_")
    return lowered in _SECRET_NAMES or any(word in lowered for word in _SECRET_WORDS)


def _dashed(name: str) -> str:
    return name.replace("_", "-")
