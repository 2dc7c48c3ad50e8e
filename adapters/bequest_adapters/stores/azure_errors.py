"""What Azure Blob Storage and its SDK raise, told in Bequest's own errors."""

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

_CHANGED: Final = frozenset(
    # A committed block that is gone, or a staged one: somebody else has committed meanwhile.
    {"BlobAlreadyExists", "ConditionNotMet", "InvalidBlockList", "TargetConditionNotMet"}
)
_SLOW: Final = frozenset({"ServerBusy", "TooManyRequests"})
_PASSING: Final = frozenset({"Md5Mismatch", "Crc64Mismatch", "OperationTimedOut"})
_REMEDIES: Final = {
    "ContainerNotFound": "Create the container, or correct the store's address.",
    "ContainerBeingDeleted": "Create the container again, or correct the store's address.",
    "LeaseIdMissing": "Somebody holds a lease on the blob: break or release it.",
    "InvalidBlobType": "The blob is not a block blob: remove it, or choose another name.",
    "BlobImmutableDueToPolicy": "Choose a container without an immutability policy.",
    "BlobArchived": "Bring the blob back from the archive tier.",
}
_GRANTS: Final = (
    "Give these credentials the role Storage Blob Data Contributor on the container, or a SAS "
    "with read, create and write; and check this machine's clock."
)


def sdk(module: str) -> Any:
    """A module of the Azure SDK, imported when first needed.

    Raises `UsageError` without the extra. Its types are not relied on, hence ``Any``.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            "Azure stores need the Azure SDK, which is not installed, so nothing can be published "
            "to or restored from Azure. Run: pip install 'bequest[azure]'"
        ) from error


@contextmanager
def calling(name: str, *, writing: bool = False) -> Generator[None, None, None]:
    """Turn what the SDK raises inside into Bequest's errors.

    A missing object is `SnapshotMissing` to a reader; to a writer, who expected one, `Conflict`.
    """
    exceptions = sdk("azure.core.exceptions")
    try:
        yield
    except exceptions.HttpResponseError as error:
        if error.response is None:
            raise _unanswered(error, name) from error
        raise _answered(error, name, writing=writing) from error
    except exceptions.AzureError as error:
        raise _unanswered(error, name) from error


def _answered(error: Any, name: str, *, writing: bool) -> BequestError:
    status = int(error.response.status_code)
    code = str(error.response.headers.get("x-ms-error-code", ""))
    if code in _CHANGED or (status == 412 and code not in _REMEDIES):
        return conflict(name)
    if status == 429 or code in _SLOW:
        return Throttled(
            f"{name} asks to slow down ({code}). Nothing was done by this; try again later.",
            retry_after_seconds(error.response.headers.get("retry-after")),
        )
    if status >= 500 or status == 408 or code in _PASSING:
        return Unreachable(
            f"{name} failed at its own side ({status} {code}). The object is as it was or, if a "
            "publish was under way, as that made it. Try again later."
        )
    if status == 404 and code not in _REMEDIES:
        return conflict(name) if writing else missing(name)
    return Denied(
        f"{name} refuses the request ({status} {code}). The backup cannot be made or read until "
        f"that is mended. {_REMEDIES.get(code, _GRANTS)}"
    )


def _unanswered(error: Any, name: str) -> BequestError:
    exceptions = sdk("azure.core.exceptions")
    kind = type(error).__name__
    if isinstance(error, exceptions.ClientAuthenticationError):
        return Denied(
            f"No usable credentials for {name} were found ({kind}), so it cannot be used. Set "
            "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or "
            "give this machine an identity that Azure knows."
        )
    # Only the name tells: the SDK wraps the transport's error, which wraps OpenSSL's.
    if type(error.inner_exception).__name__ == "SSLError":
        return Denied(
            f"No trusted connection to {name}: its certificate is not accepted. Nothing can be "
            "published or read. Name the right authority with ?ca_bundle=FILE."
        )
    return Unreachable(
        f"{name} could not be reached or did not answer ({kind}). The object is as "
        "it was or, if a publish was under way, as that made it. Check the network and "
        "the address if it lasts."
    )


def missing(name: str) -> SnapshotMissing:
    """There is no object."""
    return SnapshotMissing(
        f"There is no object at {name}: nothing can be restored from here. "
        "Check container and blob name; a first publish creates the object."
    )
