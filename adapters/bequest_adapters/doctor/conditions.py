"""The live probe: does this endpoint refuse what a stale controller would send?

It runs the code that publishes, on a scratch object: what must be accepted, and what must not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from bequest.errors import BequestError, Conflict, Denied, Refused, Throttled
from bequest.model import Stat
from bequest.testing.objects import Sample, sample, whole
from bequest_adapters.stores.findings import Finding, Scratch, failure, ok

CREATE: Final = "conditional create"
REPLACE: Final = "conditional replace"
LARGE: Final = "conditional replace, large"
APPEND: Final = "append"
REFUSED_CONDITIONS: Final = frozenset({CREATE, REPLACE, LARGE})
_DANGER: Final = (
    "Do not publish there: a stale controller would overwrite the backup. Take a server that "
    "enforces conditional writes; or accept the danger with accept_unconditional=true in the "
    "store's address."
)
_WHOLE: Final = (
    "Set multipart_threshold (S3) or compose_threshold (Google) above the size of the "
    "configuration: the object is then sent whole at every publish."
)


def probe(scratch: Scratch) -> Iterator[Finding]:
    """Try it. Raises nothing; the scratch object is left for others to look at."""
    try:
        first = sample()
        stat = scratch.store.rewrite(first.body(), len(first.data), onto=None, mark=first.mark)
    except BequestError as error:
        text = f"A scratch object beside the object cannot be made. {error}"
        yield failure("permission", text, "See --print-policy.", type(error))
        return
    yield _refuses(CREATE, "one that exists already", lambda: _rewrite(scratch, None))
    # Whoever ignores the condition has replaced the object by now.
    now = _present(scratch) or stat
    with suppress(BequestError):
        now = _rewrite(scratch, now)
    stale = Stat(stat.version, stat.size_bytes, stat.mark)
    yield _refuses(REPLACE, "one that was replaced", lambda: _rewrite(scratch, stale))
    yield from _large(scratch)


def _large(scratch: Scratch) -> Iterator[Finding]:
    try:
        base, onto = _base(scratch)
        frame, mark, chain = base.next_frame()
        after = scratch.store.append(frame, onto=onto, mark=mark)
        with scratch.store.read() as stream:
            intact = whole(stream).chain == chain
    except BequestError as error:
        text = f"The object cannot be added to inside the store. {error}"
        yield failure(APPEND, text, _WHOLE, type(error))
        return
    if not intact or after.mark != mark:
        text = "An object that was added to inside the store does not read back as written."
        yield failure(APPEND, text, _WHOLE, Denied)
        return
    yield ok(APPEND, "A change to a large object costs the change: it is added inside the store.")
    if scratch.large_bytes:
        size = scratch.large_bytes
        yield _refuses(LARGE, "a large one that was", lambda: _rewrite(scratch, onto, size))


def _base(scratch: Scratch) -> tuple[Sample, Stat]:
    base = sample(size_bytes=scratch.large_bytes)
    onto = _present(scratch)
    return base, scratch.store.rewrite(base.body(), len(base.data), onto=onto, mark=base.mark)


def _rewrite(scratch: Scratch, onto: Stat | None, size_bytes: int = 0) -> Stat:
    new = sample(size_bytes=size_bytes)
    return scratch.store.rewrite(new.body(), len(new.data), onto=onto, mark=new.mark)


def _present(scratch: Scratch) -> Stat | None:
    return scratch.store.head()


def _refuses(check: str, what: str, write: Callable[[], Stat]) -> Finding:
    try:
        write()
    except Conflict:
        return ok(check, f"A write that takes {what} for its own is refused.")
    except Throttled as error:
        return failure(check, str(error), "Try again later.", Throttled)
    except BequestError as error:
        text = f"Whether it is enforced could not be found out. {error}"
        return failure(check, text, "See --print-policy.", type(error))
    text = f"The endpoint ignores the condition: a write that takes {what} for its own passed."
    return failure(check, text, _DANGER, Refused)
