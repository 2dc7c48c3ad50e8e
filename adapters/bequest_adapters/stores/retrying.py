"""A store that tries again, as a decorator of the store port.

Only `Unreachable` and `Throttled` are tried again, with capped exponential waits and full jitter
(Brooker, "Exponential Backoff And Jitter", 2015), never sooner than a throttling store asked for.

A write whose answer was lost may have happened. Its repetition then meets a `Conflict` with itself.
So on every conflict the object is looked at: bearing the write's own token means success; being
still the one expected means the conflict was a passing one (S3's 409), and the write is tried
again; only else is it a conflict.

`Denied` says that a write has not happened. So when an earlier attempt may have, it is raised as
`Unreachable`, whose outcome the caller finds out later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import BinaryIO, Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from bequest import keeping, versions
from bequest.errors import Conflict, Denied, Throttled, Unreachable
from bequest.model import Mark, Stat, Version
from bequest.ports import Store

ATTEMPTS: Final = 6
FIRST_WAIT_SECONDS: Final = 0.25
LONGEST_WAIT_SECONDS: Final = 20.0
LONGEST_OBEYED_SECONDS: Final = 120.0
"""A store that asks for more is not waited for: the caller comes back with its next publish."""

Result = TypeVar("Result")


def retrying(
    store: Store, *, sleep: Callable[[float], None] = time.sleep, attempts: int = ATTEMPTS
) -> Store:
    """``store``, each call tried up to ``attempts`` times, waiting with ``sleep`` (seconds)."""
    return RetryingStore(store, sleep=sleep, attempts=attempts)


class RetryingStore:
    """See the module. Raises what the inner store raised last."""

    def __init__(
        self, store: Store, *, sleep: Callable[[float], None] = time.sleep, attempts: int = ATTEMPTS
    ) -> None:
        self._store = store
        self._sleep = sleep
        self._attempts = attempts

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def inner(self) -> Store:
        """The store whose calls are tried again."""
        return self._store

    def head(self) -> Stat | None:
        return self._persist(self._store.head)

    def read(self) -> AbstractContextManager[BinaryIO]:
        return self._opening(self._store.read)

    def read_newer(self, version: str) -> AbstractContextManager[tuple[Stat, BinaryIO] | None]:
        return self._opening(lambda: versions.read_newer(self._store, version))

    def history(self, limit: int) -> Sequence[Version]:
        return self._persist(lambda: versions.history(self._store, limit))

    def at(self, version: str) -> Store:
        past = versions.at(self._store, version)
        return retrying(past, sleep=self._sleep, attempts=self._attempts)

    def keep(self, onto: Stat, label: str) -> str:
        # Asked again, a store finds the copy that an attempt without an answer has made.
        return self._persist(lambda: keeping.keep(self._store, onto, label))

    def append(self, data: bytes, *, onto: Stat, mark: Mark) -> Stat:
        def attempt() -> Stat:
            return self._store.append(data, onto=onto, mark=mark)

        return self._write(attempt, onto, mark)

    def rewrite(self, body: BinaryIO, size_bytes: int, *, onto: Stat | None, mark: Mark) -> Stat:
        def attempt() -> Stat:
            body.seek(0)
            return self._store.rewrite(body, size_bytes, onto=onto, mark=mark)

        return self._write(attempt, onto, mark)

    def close(self) -> None:
        self._store.close()

    @contextmanager
    def _opening(
        self, call: Callable[[], AbstractContextManager[Result]]
    ) -> Generator[Result, None, None]:
        # Only opening is tried again: behind the first byte the reader has begun to believe.
        def enter() -> tuple[ExitStack, Result]:
            stack = ExitStack()
            return stack, stack.enter_context(call())

        stack, opened = self._persist(enter)
        with stack:
            yield opened

    def _write(self, attempt: Callable[[], Stat], onto: Stat | None, mark: Mark) -> Stat:
        unsure = False

        def noted() -> Stat:
            nonlocal unsure
            try:
                return attempt()
            except (Conflict, Unreachable):
                unsure = True
                raise

        try:
            return self._persist(lambda: self._settle(noted, onto, mark))
        except Denied as error:
            if not unsure:
                raise
            raise Unreachable(
                f"{error} Whether an earlier attempt of this publish arrived is not known; the "
                "next publish finds out."
            ) from error

    def _settle(self, attempt: Callable[[], Stat], onto: Stat | None, mark: Mark) -> Stat:
        try:
            return attempt()
        except Conflict as conflict:
            found = self._store.head()
            if found is not None and found.mark is not None and found.mark.token == mark.token:
                return found
            if _same(found, onto):
                raise Unreachable(
                    f"{self.name} reported a conflict but the object is unchanged: another write "
                    "was passing through. This publish was not made; it is tried again."
                ) from conflict
            raise

    def _persist(self, call: Callable[[], Result]) -> Result:
        loop = Retrying(
            retry=retry_if_exception_type(Unreachable),
            wait=_wait_seconds,
            stop=_stop(self._attempts),
            sleep=self._sleep,
            reraise=True,
        )
        return loop(call)


def _same(found: Stat | None, onto: Stat | None) -> bool:
    if found is None or onto is None:
        return found is onto
    return found.version == onto.version


_backoff = wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)


def _asked_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, Throttled) and error.retry_after_seconds is not None:
        return error.retry_after_seconds
    return 0.0


def _wait_seconds(state: RetryCallState) -> float:
    return max(_asked_seconds(state), _backoff(state))


def _stop(attempts: int) -> Callable[[RetryCallState], bool]:
    enough = stop_after_attempt(attempts)

    def stop(state: RetryCallState) -> bool:
        return enough(state) or _asked_seconds(state) > LONGEST_OBEYED_SECONDS

    return stop
