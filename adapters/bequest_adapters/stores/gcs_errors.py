"""What Google Cloud Storage and its SDK raise, told in Bequest's own errors."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from bequest.errors import (
    BequestError,
    Denied,
    SnapshotMissing,
    Throttled,
    Unreachable,
    UsageError,
)

from .answers import conflict, retry_after_seconds

_GRANTS: Final = (
    "Give these credentials the role Storage Object User on the bucket (objects: get, list, "
    "create, delete, update), and check this machine's clock."
)


def sdk(module: str) -> Any:
    """A module of the Google SDK, imported when first needed.

    Raises `UsageError` without the extra. It carries few types, hence ``Any``.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            "Google Cloud stores need the Google SDK, which is not installed, so nothing can be "
            "published to or restored from there. Run: pip install 'bequest[gcs]'"
        ) from error


@contextmanager
def calling(name: str, *, writing: bool = False) -> Generator[None, None, None]:
    """Turn what the SDK raises inside into Bequest's errors.

    A missing object is `SnapshotMissing` to a reader; to a writer, who expected one, `Conflict`.
    """
    answers = sdk("google.api_core.exceptions")
    auth = sdk("google.auth.exceptions")
    storage = sdk("google.cloud.storage.exceptions")
    transport = sdk("requests.exceptions")
    raw = sdk("urllib3.exceptions")
    try:
        yield
    except answers.GoogleAPICallError as error:
        raise _answered(error, name, writing=writing) from error
    except auth.GoogleAuthError as error:
        raise _unauthorised(error, name) from error
    except transport.SSLError as error:
        raise Denied(
            f"No trusted connection to {name}: its certificate is not accepted. Nothing can be "
            "published or read. Name the right authority with ?ca_bundle=FILE."
        ) from error
    except (
        transport.RequestException,
        raw.HTTPError,
        ConnectionError,
        storage.DataCorruption,
    ) as error:
        raise unreachable(name, type(error).__name__) from error


def _answered(error: Any, name: str, *, writing: bool) -> BequestError:
    status = int(error.code or 0)
    # 409: two conditional writes at once. 304: how a read says that a condition failed.
    if status in (304, 409, 412):
        return conflict(name)
    wait_seconds = _seconds(error)
    if status == 429 or (status == 503 and wait_seconds is not None):
        return Throttled(
            f"{name} asks to slow down ({status}). Nothing was done by this; try again later.",
            wait_seconds,
        )
    if status >= 500 or status == 408:
        return Unreachable(
            f"{name} failed at its own side ({status}). The object is as it was or, if a publish "
            "was under way, as that made it. Try again later."
        )
    if status == 404:
        return conflict(name) if writing else missing(name)
    return Denied(
        f"{name} refuses the request ({status}). The backup cannot be made or read until that is "
        f"mended. {_GRANTS}"
    )


def _unauthorised(error: Any, name: str) -> BequestError:
    kind = type(error).__name__
    if error.retryable or isinstance(error, sdk("google.auth.exceptions").TransportError):
        return unreachable(name, kind)
    return Denied(
        f"No usable credentials for {name} were found ({kind}), so it cannot be used. Set "
        "GOOGLE_APPLICATION_CREDENTIALS, or give this machine a service account."
    )


def unreachable(name: str, kind: str) -> Unreachable:
    """No answer, or half of one."""
    return Unreachable(
        f"{name} could not be reached or did not answer ({kind}). The object is as "
        "it was or, if a publish was under way, as that made it. Check the network and "
        "the endpoint if it lasts."
    )


def missing(name: str) -> SnapshotMissing:
    """There is no object."""
    return SnapshotMissing(
        f"There is no object at {name}: nothing can be restored from here. "
        "Check bucket and object name; a first publish creates the object."
    )


def no_bucket(name: str) -> Denied:
    """There is not even a bucket."""
    return Denied(
        f"The bucket of {name} does not exist, so there is no backup. Create the bucket, or "
        "correct the store's address."
    )


def _seconds(error: Any) -> float | None:
    # An error that the SDK makes up by itself has no response.
    text: Any = None if error.response is None else error.response.headers.get("Retry-After")
    return retry_after_seconds(text)
