"""What a caller may pass, by the name of the argument: told in a sentence before anything is done.

A wrong type would otherwise come to light in the middle of the work, as an error of some library,
or not at all: the text "no" is as true as any other.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Final, ParamSpec, TypeVar, cast

from . import separate
from .compactor import Limits
from .errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
Rule = tuple[Callable[[Any], bool], str]


def _text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _path(value: object) -> bool:
    return value is None or isinstance(value, str | os.PathLike)


def _moment(value: object) -> bool:
    return _text(value) or type(value) is int or isinstance(value, datetime)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _flag_or_none(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _callable(value: object) -> bool:
    return value is None or callable(value)


def _seconds(value: object) -> bool:
    if value is None:
        return True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(cast(float, value)) and cast(float, value) >= 0


def _whole(value: object) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _limits(value: object) -> bool:
    return value is None or isinstance(value, Limits)


def _items(value: object, kinds: tuple[type, ...]) -> bool:
    if not isinstance(value, Collection) or isinstance(value, str | bytes | bytearray):
        return False
    return all(isinstance(item, kinds) for item in cast("Collection[object]", value))


def _globs(value: object) -> bool:
    return _text(value) or _items(value, (str,))


def _folders(value: object) -> bool:
    return _items(value, (str, os.PathLike))


_RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(
        ("schedule", "timezone", "drill_schedule", "version", "into", "replace"), (_text, "a text")
    ),
    **dict.fromkeys(("files_to", "keep", "key_file"), (_path, "a path")),
    **dict.fromkeys(
        (
            *("accept_files", "rewrite", "force", "dry_run", "if_empty", "if_exists"),
            *("files_in_place", "watch_files", "once"),
        ),
        (_flag, "True or False"),
    ),
    "at": (_moment, "a serial, a time with its zone, or either as a text"),
    "adopt": (_flag_or_none, "True, False or None"),
    **dict.fromkeys(("on_event", "on_change", "progress"), (_callable, "a function")),
    **dict.fromkeys(
        ("timeout", "poll", "alive_within_seconds"),
        (_seconds, "a finite number of seconds, at least 0"),
    ),
    **dict.fromkeys(("files_limit", "limit"), (_whole, "a whole number of at least 0")),
    "limits": (_limits, "bequest.Limits"),
    **dict.fromkeys(
        ("include", "exclude", "tables", "files_ignore"), (_globs, "a list of texts, each a glob")
    ),
    "files": (_folders, "a list of folders, each a text or a path"),
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, which raises `UsageError` for an argument of a kind that it cannot take.

    Also for two that lead to one file.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*positional: P.args, **named: P.kwargs) -> R:
        arguments = signature.bind(*positional, **named).arguments
        for name, value in arguments.items():
            check(name, value)
        separate.check(arguments)
        return function(*positional, **named)

    return call


def check(name: str, value: object) -> None:
    """Raise `UsageError` when an argument of that name cannot be ``value``."""
    accepts, wanted = _RULES.get(name, (None, ""))
    if accepts is not None and not accepts(value):
        raise UsageError(
            f"{name} is {_shown(value)}, and must be {wanted}. Nothing was done; correct the call."
        )


def _shown(value: object) -> str:
    if isinstance(value, int | float | str):
        return repr(value)[:80]
    return f"of the type {type(value).__name__}"
