"""The text by which an object says which history it came from, and how a database checks it.

An *origin* is a list of alternatives, any of which proves descent, separated by spaces. Each names
one installation of capture, by a hash of its random id, and what that database's journal contained
last: ``HASH`` alone means that its journal was empty, ``HASH:ROWS`` describes its newest rows in
the database adapter's own words. An adoption changes nothing of the state, so its seal bears the
origin that the object had as well as that of the new, empty journal: a controller whose object was
adopted by mistake can still prove that nothing was added.

The id itself is in no object. Whoever can read a bucket can neither forge an origin nor guess keys
from the rows' digest, which the adapters key with the id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

LIMIT: Final = 400
"""Characters of an origin: it has to fit into an object's metadata, beside the rest of the mark."""
ALTERNATIVES: Final = 3


def name_of(installation: str) -> str:
    """What an origin calls an installation: 16 hexadecimal digits that reveal nothing of its id."""
    hashed = hashlib.blake2b(installation.encode(), digest_size=8, person=b"bequest-origin")
    return hashed.hexdigest()


def origin_of(installations: Sequence[str], rows_of: Callable[[str], str]) -> str:
    """The origin of a state: what ``rows_of`` says under the present installation, and the last.

    With the last one the database that an adoption was taken from can prove that nothing was added
    since. Empty rows stand for an empty journal.
    """
    found: list[str] = []
    for installation in installations[:2]:
        rows = rows_of(installation)
        found.append(f"{name_of(installation)}:{rows}" if rows else name_of(installation))
    return " ".join(found)


def adopted(origin: str, installation: str) -> str:
    """The origin of an unchanged state that ``installation`` takes over from ``origin``."""
    kept = [name_of(installation), *origin.split()][:ALTERNATIVES]
    while len(" ".join(kept)) > LIMIT:
        kept.pop()
    return " ".join(kept)


def descends(
    origin: str, installations: Sequence[str], holds: Callable[[str, str], bool | None]
) -> bool | None:
    """Whether a database with these ``installations``, present and past, proves ``origin``.

    ``holds`` is asked for an installation and rows: True when the journal contains them, False when
    it certainly does not, ``None`` when it no longer reaches back.
    """
    known = {name_of(installation): installation for installation in installations}
    answers: list[bool | None] = []
    for alternative in origin.split():
        name, _, rows = alternative.partition(":")
        installation = known.get(name)
        if installation is None:
            answers.append(None)
        else:
            answers.append(holds(installation, rows) if rows else True)
    if True in answers:
        return True
    return False if answers and None not in answers else None
