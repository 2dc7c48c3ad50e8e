"""What a forked child inherits of watchdog: inotify instances, and no thread that reads them.

The child must not stop such an observer, which would change what its parent watches, nor keep the
instance open after its parent has closed it: a user may have few. In some releases all observers of
a process share one instance; the child's first observer then has to make another one, or it would
never hear of an event. watchdog has no call for any of this, so its attributes are looked up, and
where they have other names the child keeps an open descriptor, which harms nobody at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

from bequest import forking

_HOLDERS: Final = ("_inotify_fd", "_inotify")
_DESCRIPTORS: Final = ("_inotify_fd", "_kill_r", "_kill_w")


def let_go(observer: Any) -> None:
    """In a forked child: close what ``observer`` of the parent holds open here."""
    for holder in _holders(observer):
        for name in _DESCRIPTORS:
            descriptor = getattr(holder, name, None)
            if isinstance(descriptor, int):
                forking.detach(descriptor)
    kind = _kind()
    if getattr(kind, "_instance", None) is not None:
        kind._instance, kind._global_lock = None, threading.Lock()


def _holders(observer: Any) -> Iterator[Any]:
    """Whatever may have an inotify instance."""
    owners = [observer, *getattr(observer, "_emitters", ())]
    for owner in owners:
        for name in _HOLDERS:
            found = getattr(owner, name, None)
            if found is not None:
                yield found
                yield getattr(found, "_inotify", None)


def _kind() -> Any:
    """The class that may hold a shared instance; ``None`` where there is no inotify."""
    try:
        from watchdog.observers import inotify_c
    except (ImportError, OSError):
        return None
    return getattr(inotify_c, "InotifyFD", None)
