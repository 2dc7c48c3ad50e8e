"""What S3 and its SDK raise, told in Bequest's own errors."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping
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

_CHANGED: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_SLOW: Final = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
)
_PASSING: Final = frozenset(
    {"RequestTimeout", "OperationAborted", "NoSuchUpload", "BadDigest", "InternalError"}
)
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchVersion", "NotFound", "404"})
_REMEDIES: Final = {
    "NoSuchBucket": "Create the bucket, or correct the store's address.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "ExpiredToken": "Renew the session credentials.",
    "EntityTooSmall": "Set multipart_threshold and part_size to 5 MiB (5242880) or more.",
    "PermanentRedirect": "The bucket is in another region: add ?region= to the store's address.",
    "InvalidAccessKeyId": "Check which credentials the AWS SDK finds on this machine.",
    "SignatureDoesNotMatch": "Check which credentials the AWS SDK finds on this machine.",
}
_GRANTS: Final = (
    "Grant these credentials s3:GetObject, s3:PutObject, s3:AbortMultipartUpload and s3:ListBucket."
)


def sdk(module: str) -> Any:
    """A module of the AWS SDK, imported when first needed. Raises `UsageError` without the extra.

    The SDK carries no types, hence ``Any``.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            "S3 stores need the AWS SDK, which is not installed, so nothing can be published to "
            "or restored from S3. Run: pip install 'bequest[s3]'"
        ) from error


@contextmanager
def calling(name: str, *, writing: bool = False) -> Generator[None, None, None]:
    """Turn what the SDK raises inside into Bequest's errors.

    A missing object is `SnapshotMissing` to a reader; to a writer, who expected one, `Conflict`.
    """
    exceptions = sdk("botocore.exceptions")
    try:
        yield
    except exceptions.ClientError as error:
        raise _answered(error.response, name, writing=writing) from error
    except exceptions.BotoCoreError as error:
        raise _unanswered(error, name) from error


def _answered(response: Mapping[str, Any], name: str, *, writing: bool) -> BequestError:
    code = str(response.get("Error", {}).get("Code", ""))
    facts: Mapping[str, Any] = response.get("ResponseMetadata", {})
    status = int(facts.get("HTTPStatusCode", 0))
    if code in _CHANGED or status == 412:
        return conflict(name)
    if code in _SLOW or status == 429:
        return Throttled(
            f"{name} asks to slow down ({code}). Nothing was done by this; try again later.",
            retry_after_seconds(facts.get("HTTPHeaders", {}).get("retry-after")),
        )
    if code in _PASSING or status >= 500:
        return Unreachable(
            f"{name} failed at its own side ({status} {code}). The object is as it was or, if a "
            "publish was under way, as that made it. Try again later."
        )
    if code in _MISSING:
        return conflict(name) if writing else missing(name)
    return Denied(
        f"{name} refuses the request ({status} {code}). The backup cannot be made or read until "
        f"that is mended. {_REMEDIES.get(code, _GRANTS)}"
    )


def _unanswered(error: Exception, name: str) -> BequestError:
    exceptions = sdk("botocore.exceptions")
    kind = type(error).__name__
    if isinstance(error, exceptions.SSLError):
        return Denied(
            f"No trusted connection to {name}: its certificate is not accepted ({kind}). Nothing "
            "can be published or read. Name the right authority with ?ca_bundle=FILE."
        )
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return Denied(
            f"No complete credentials for {name} were found, so it cannot be used. Set a profile, "
            "a role or the environment variables of the AWS SDK."
        )
    passing = (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        exceptions.CredentialRetrievalError,
        exceptions.MetadataRetrievalError,
    )
    if isinstance(error, passing):
        return Unreachable(
            f"{name} could not be reached or did not answer ({kind}). The object is as "
            "it was or, if a publish was under way, as that made it. Check the network and "
            "the endpoint if it lasts."
        )
    return UsageError(
        f"The AWS SDK cannot use {name} as configured ({kind}). Nothing can be published or read "
        "until the store's address or the SDK's profile is corrected."
    )


def missing(name: str) -> SnapshotMissing:
    """There is no object."""
    return SnapshotMissing(
        f"There is no object at {name}: nothing can be restored from here. "
        "Check bucket and key; a first publish creates the object."
    )


def no_bucket(name: str) -> Denied:
    """There is not even a bucket."""
    return Denied(
        f"The bucket of {name} does not exist, so there is no backup. {_REMEDIES['NoSuchBucket']}"
    )
