"""How the AWS SDK is set up: one attempt per call, time-outs, and nothing secret in its logs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from bequest.errors import UsageError

from .address import Address
from .keys import Keys
from .s3_errors import sdk

CONNECT_TIMEOUT_SECONDS: Final = 5
READ_TIMEOUT_SECONDS: Final = 30

Client: TypeAlias = Any
"""An S3 client of the SDK, which makes its classes at run time and has no types for them."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach a bucket, and how new objects are stored. Empty: the SDK's own choice."""

    endpoint: str = ""
    region: str = ""
    profile: str = ""
    addressing: str = ""
    storage_class: str = ""
    sse: str = ""
    sse_kms_key_id: str = ""
    ca_bundle: str = ""
    proxy: str = ""
    keys: Keys = field(default_factory=Keys, repr=False)

    def to_read(self) -> dict[str, str]:
        """The options of an address under which the same bucket is read."""
        names = ("endpoint", "region", "profile", "addressing", "ca_bundle", "proxy")
        return {name: getattr(self, name) for name in names}

    def for_new_objects(self) -> dict[str, str]:
        """Request parameters for PutObject and CreateMultipartUpload."""
        wanted = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.sse or ("aws:kms" if self.sse_kms_key_id else ""),
            "SSEKMSKeyId": self.sse_kms_key_id,
        }
        return {name: value for name, value in wanted.items() if value}


def settings(address: Address, keys: Keys | None = None) -> S3Settings:
    """The settings an address asks for. Raises `UsageError`."""
    options = {
        name: value
        for name, value in address.options.items()
        if name in S3Settings.__dataclass_fields__
    }
    found = S3Settings(**options, keys=keys or Keys())
    if keys is not None and not (keys.access_key and keys.secret_key):
        raise UsageError(
            "The keys that were given are not those of AWS: access_key and secret_key. Nothing "
            "was done. Correct the keys or the cloud type."
        )
    if found.addressing not in ("", "auto", "path", "virtual"):
        raise UsageError("The S3 option addressing must be path, virtual or auto.")
    if found.endpoint:
        _check_endpoint(found.endpoint)
    return found


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UsageError(
            "The S3 option endpoint must be like https://host:port, without a name or password: "
            "credentials come from the AWS SDK's usual places."
        )


def connect(settings: S3Settings, *, anonymous: bool = False) -> Client:
    """A client for ``settings``. Sends nothing. Raises `UsageError` without the extra."""
    boto3, config = sdk("boto3"), sdk("botocore.config")
    signature = {"signature_version": sdk("botocore").UNSIGNED} if anonymous else {}
    _hush()
    session = boto3.session.Session(
        aws_access_key_id=settings.keys.access_key or None,
        aws_secret_access_key=settings.keys.secret_key or None,
        aws_session_token=settings.keys.session_token or None,
        profile_name=settings.profile or None,
        region_name=settings.region or None,
    )
    return session.client(
        "s3",
        endpoint_url=settings.endpoint or None,
        region_name=session.region_name or ("us-east-1" if settings.endpoint else None),
        verify=settings.ca_bundle or None,
        config=config.Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
            proxies=_proxies(settings.proxy),
            s3={"addressing_style": settings.addressing or _addressing(settings.endpoint)},
            # Every body goes with its Content-MD5, which all servers know; newer checksums only
            # where an operation cannot do without.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra="bequest",
            tcp_keepalive=True,
            **signature,
        ),
    )


def _proxies(proxy: str) -> dict[str, str] | None:
    return {"http": proxy, "https": proxy} if proxy else None


def _addressing(endpoint: str) -> str:
    # Few servers other than AWS have a host name per bucket.
    return "path" if endpoint else "auto"


def _hush() -> None:
    """Keep the SDK's debug lines, which show session tokens, out of a controller's debug log."""
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
