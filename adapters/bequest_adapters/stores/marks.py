"""The mark in an object's metadata, so that one small request tells whose publish it is.

Names have underscores, which every store takes; Azure takes no dashes.
"""

from __future__ import annotations

from collections.abc import Mapping

from bequest.model import Mark


def to_metadata(mark: Mark) -> dict[str, str]:
    """``mark`` as user metadata."""
    return {
        "bequest_lineage": mark.lineage,
        "bequest_epoch": str(mark.epoch),
        "bequest_serial": str(mark.serial),
        "bequest_token": mark.token,
    }


def from_metadata(metadata: Mapping[str, str] | None) -> Mark | None:
    """The mark in user metadata; ``None`` when there is none that can be read."""
    if metadata is None:
        return None
    try:
        return Mark(
            metadata["bequest_lineage"],
            int(metadata["bequest_epoch"]),
            int(metadata["bequest_serial"]),
            metadata["bequest_token"],
        )
    except (KeyError, ValueError):
        return None
