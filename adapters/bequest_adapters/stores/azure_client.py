"""How the Azure SDK is set up: where the account is, which credentials, one attempt per call."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from bequest.errors import UsageError

from .address import Address
from .azure_errors import sdk
from .keys import Keys

CONNECT_TIMEOUT_SECONDS: Final = 5
READ_TIMEOUT_SECONDS: Final = 30

Client: TypeAlias = Any
"""A client of the SDK for one blob."""


@dataclass(frozen=True, slots=True)
class AzureSettings:
    """Where the account is and what opens it. Without a secret, the machine's identity does."""

    account: str = ""
    endpoint: str = ""
    ca_bundle: str = ""
    proxy: str = ""
    connection_string: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    sas_token: str = field(default="", repr=False)


def settings(
    address: Address,
    environment: Mapping[str, str] = os.environ,
    keys: Keys | None = None,
) -> AzureSettings:
    """The settings an address asks for, with the environment's secrets. Raises `UsageError`.

    ``endpoint`` and ``account`` win over ``AZURE_STORAGE_CONNECTION_STRING``, and that wins over
    ``AZURE_STORAGE_ACCOUNT``: what the operator wrote down decides where the backup goes.
    """
    if keys is not None:
        if not (keys.account_key or keys.sas_token):
            raise UsageError(
                "The keys that were given are not those of Azure: account_key or sas_token. "
                "Nothing was done. Correct the keys or the cloud type."
            )
        environment = {
            "AZURE_STORAGE_KEY": keys.account_key,
            "AZURE_STORAGE_SAS_TOKEN": keys.sas_token,
        }
    endpoint = address.options.get("endpoint", "").rstrip("/")
    account = address.options.get("account", "") or (_account_in(endpoint) if endpoint else "")
    connection_string = environment.get("AZURE_STORAGE_CONNECTION_STRING", "")
    if endpoint or (account and account != _account_of(connection_string)):
        connection_string = ""
    if not connection_string:
        account = account or environment.get("AZURE_STORAGE_ACCOUNT", "")
    if not (account or endpoint or connection_string):
        raise UsageError(
            "An Azure store's address does not say which account, so nothing can be published or "
            "read. Add ?account=NAME, or set AZURE_STORAGE_ACCOUNT."
        )
    return AzureSettings(
        account,
        endpoint,
        address.options.get("ca_bundle", ""),
        address.options.get("proxy", ""),
        connection_string,
        environment.get("AZURE_STORAGE_KEY", ""),
        environment.get("AZURE_STORAGE_SAS_TOKEN", ""),
    )


def connect(
    settings: AzureSettings,
    container: str,
    blob: str,
    which: Mapping[str, str | None] | None = None,
    *,
    anonymous: bool = False,
) -> Client:
    """A client for one blob, or ``which`` version or snapshot of it. Sends nothing.

    Raises `UsageError` without the extra.
    """
    place = {"container_name": container, "blob_name": blob, **(which or {})}
    if anonymous:
        settings = replace(settings, endpoint=_endpoint(settings), connection_string="")
    return _connect("BlobClient", settings, place, anonymous=anonymous)


def connect_container(settings: AzureSettings, container: str) -> Client:
    """A client for a container, as a context. Sends nothing."""
    return _connect("ContainerClient", settings, {"container_name": container})


def source_url(client: Client, settings: AzureSettings) -> str:
    """Where the service itself finds ``client``'s blob: with the SAS, if that is what opens it.

    Not to be shown: it may hold a secret.
    """
    url = str(client.url)
    sas = "" if settings.key or settings.connection_string else settings.sas_token.lstrip("?")
    return f"{url}{'&' if '?' in url else '?'}{sas}" if sas else url


def _connect(
    kind: str, settings: AzureSettings, place: Mapping[str, str | None], *, anonymous: bool = False
) -> Client:
    client = getattr(sdk("azure.storage.blob"), kind)
    _hush()
    options = {
        **place,
        "retry_total": 0,
        "connection_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
        "connection_verify": settings.ca_bundle or True,
        "proxies": {scheme: settings.proxy for scheme in ("http", "https") if settings.proxy},
    }
    try:
        if settings.connection_string:
            return client.from_connection_string(settings.connection_string, **options)
        credential = None if anonymous else _credential(settings)
        return client(_endpoint(settings), credential=credential, **options)
    except ValueError as error:
        # Its text may repeat a part of the connection string.
        raise UsageError(
            "The Azure SDK cannot use the store's address or credentials as they are. Nothing can "
            "be published or read until the address, AZURE_STORAGE_CONNECTION_STRING or "
            "AZURE_STORAGE_KEY is corrected."
        ) from error


def _endpoint(settings: AzureSettings) -> str:
    """Where the account answers, also when only a connection string says so."""
    if settings.endpoint:
        return settings.endpoint
    named = _in_connection_string(settings.connection_string).get("blobendpoint", "")
    account = settings.account or _account_of(settings.connection_string)
    return named.partition("?")[0] or f"https://{account}.blob.core.windows.net"


def _credential(settings: AzureSettings) -> object:
    credentials = sdk("azure.core.credentials")
    if settings.key:
        return credentials.AzureNamedKeyCredential(settings.account, settings.key)
    if settings.sas_token:
        return credentials.AzureSasCredential(settings.sas_token)
    if settings.endpoint.startswith("http://"):
        raise UsageError(
            "An Azure endpoint without TLS takes no identity's token, so nothing can be published "
            "or read. Set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or use https."
        )
    return sdk("azure.identity").DefaultAzureCredential()


def _account_in(endpoint: str) -> str:
    """The account that an endpoint names: first label of its host, or its path (an emulator)."""
    parts = urlsplit(endpoint)
    wrong = parts.scheme not in ("http", "https") or not parts.hostname
    if wrong or "@" in parts.netloc or parts.query:
        raise UsageError(
            "The Azure option endpoint must be like https://account.blob.core.windows.net, without "
            "a key or signature: credentials come from the environment."
        )
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]


def _account_of(connection_string: str) -> str:
    found = _in_connection_string(connection_string)
    endpoint = found.get("blobendpoint", "").partition("?")[0].rstrip("/")
    return found.get("accountname", "") or (_account_in(endpoint) if endpoint else "")


def _in_connection_string(connection_string: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in connection_string.split(";"))
    return {name.strip().lower(): value for name, _, value in pairs}


def _hush() -> None:
    """Keep urllib3's debug lines, which show a SAS whole, out of a controller's debug log."""
    logger = logging.getLogger("urllib3.connectionpool")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
