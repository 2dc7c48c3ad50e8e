"""How the Google SDK is set up: where it sends to, and with which credentials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from bequest.errors import UsageError

from .address import Address
from .gcs_errors import sdk

TIMEOUT_SECONDS: Final = (5, 60)
"""To connect, and between two bytes of an answer."""
_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"

Client: TypeAlias = Any
"""A client of the SDK."""


def endpoint(address: Address, environment: Mapping[str, str] = os.environ) -> str:
    """Where an address sends to; empty means Google. Raises `UsageError`."""
    found = address.options.get("endpoint", "") or environment.get("STORAGE_EMULATOR_HOST", "")
    if not found:
        return ""
    if "://" not in found:
        found = f"http://{found}"
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UsageError(
            "The Google Cloud option endpoint must be like https://host:port, without a name or "
            "password: credentials come from Application Default Credentials."
        )
    return found.rstrip("/")


def connect(
    endpoint: str, credentials_file: str = "", *, ca_bundle: str = "", proxy: str = ""
) -> Client:
    """A client. May ask for credentials over the network, so call it inside `calling`.

    An endpoint without TLS is an emulator: no credential is ever sent there.
    """
    storage = sdk("google.cloud.storage")
    credentials: object
    project = None
    if endpoint.startswith("http://"):
        credentials = sdk("google.auth.credentials").AnonymousCredentials()
    elif credentials_file:
        # Of the file only the kind is fixed that an operator is told to give.
        accounts = sdk("google.oauth2.service_account").Credentials
        try:
            credentials = accounts.from_service_account_file(credentials_file, scopes=[_SCOPE])
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{credentials_file} is not the key of a Google service account. Nothing was done. "
                "Give the JSON file that Google made for it."
            ) from error
    else:
        credentials, project = sdk("google.auth").default(scopes=[_SCOPE])
    return storage.Client(
        # Needed for making buckets only, but the SDK refuses to go without.
        project=project or "unused",
        credentials=credentials,
        client_options={"api_endpoint": endpoint} if endpoint else None,
        _http=_session(credentials, ca_bundle, proxy) if ca_bundle or proxy else None,
    )


def _session(credentials: object, ca_bundle: str, proxy: str) -> Any:
    """What the SDK sends by, for tokens too, where the machine's own settings do not suit."""
    transport, requests = sdk("google.auth.transport.requests"), sdk("requests")
    tokens = requests.Session()
    session = transport.AuthorizedSession(credentials, auth_request=transport.Request(tokens))
    for each in (tokens, session):
        each.verify = ca_bundle or True
        each.proxies = {"http": proxy, "https": proxy} if proxy else {}
    return session
