"""What `bequest doctor` wants to know of a container of Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from bequest.errors import BequestError, Denied, SnapshotMissing

from .azure_client import AzureSettings, Client, connect
from .azure_errors import calling
from .findings import Finding, now, public, skew, versions_kept, warning


def survey(
    client: Client, settings: AzureSettings, container: str, scratch: str, name: str
) -> Iterator[Finding]:
    """Clock, versioning, public access."""
    yield _clock(client, name)
    yield _versioning(settings, container, scratch)
    yield _public(settings, container, scratch)


def _clock(client: Client, name: str) -> Finding:
    dates: list[str] = []

    def hook(response: Any) -> None:
        dates.append(response.http_response.headers.get("Date", ""))

    with suppress(SnapshotMissing), calling(name):
        client.get_blob_properties(raw_response_hook=hook)
    return skew(dates[-1] if dates else None, now())


def _versioning(settings: AzureSettings, container: str, scratch: str) -> Finding:
    """An account with versioning gives every blob a version."""
    client = connect(settings, container, scratch)
    try:
        with calling("the container"):
            return versions_kept(bool(client.get_blob_properties().version_id), "The account")
    finally:
        client.close()


def _public(settings: AzureSettings, container: str, scratch: str) -> Finding:
    nobody = connect(settings, container, scratch, anonymous=True)
    try:
        with calling("the container"):
            nobody.get_blob_properties()
    except (Denied, SnapshotMissing):  # it answers 404 to whom it does not know
        return public(False)
    except BequestError as error:
        text = "It could not be seen whether the container is public."
        return warning("public access", text, str(error))
    finally:
        nobody.close()
    return public(True)
