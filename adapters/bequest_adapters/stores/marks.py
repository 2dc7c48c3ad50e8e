"""The mark in an object's metadata, so that one small request tells whose publish it is.

Names have underscores, which every store takes (Azure takes no dashes), but for S3, where dashes
are the custom. A space or a percent sign of an origin travels as ``%XX``: of spaces, headers lose
some. An origin of `bequest.snapshot.soundness.ORIGIN_CHARACTERS` then stays below the 2 KB that S3
has for all of it.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from bequest.model import Mark
from bequest.snapshot.soundness import origin

_AS_IT_IS: Final = string.punctuation.replace("%", "")


def to_metadata(mark: Mark, joint: str = "_") -> dict[str, str]:
    """``mark`` as user metadata; ``joint`` is what holds a name's two words together."""
    facts = {
        "lineage": mark.lineage,
        "epoch": str(mark.epoch),
        "serial": str(mark.serial),
        "token": mark.token,
    }
    if mark.origin:
        facts["origin"] = quote(origin(mark.origin), safe=_AS_IT_IS)
    return {f"bequest{joint}{name}": value for name, value in facts.items()}


def from_metadata(metadata: Mapping[str, str] | None, joint: str = "_") -> Mark | None:
    """The mark in user metadata; ``None`` when there is none that can be read."""
    if metadata is None:
        return None

    def fact(name: str) -> str:
        return metadata[f"bequest{joint}{name}"]

    try:
        source = origin(unquote(metadata.get(f"bequest{joint}origin", "")))
        return Mark(fact("lineage"), int(fact("epoch")), int(fact("serial")), fact("token"), source)
    except (KeyError, ValueError):
        return None
