"""What `bequest doctor` wants to know of a bucket of Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

from bequest.errors import BequestError

from .findings import Finding, now, public, skew, versions_kept, warning
from .gcs_client import TIMEOUT_SECONDS, Client
from .gcs_errors import calling, sdk

GOOGLE = "https://storage.googleapis.com"


def survey(
    client: Client,
    bucket: str,
    scratch: str,
    name: str,
    *,
    endpoint: str,
    ca_bundle: str,
    proxy: str,
) -> Iterator[Finding]:
    """Clock and public access, seen by somebody without credentials; versioning."""
    place = f"{quote(bucket, safe='')}/o/{quote(scratch, safe='')}"
    url = f"{endpoint or GOOGLE}/storage/v1/b/{place}"
    with closing(sdk("requests").Session()) as nobody:
        nobody.verify = ca_bundle or True
        nobody.proxies = {"http": proxy, "https": proxy} if proxy else {}
        with calling(name):
            answer = nobody.get(url, timeout=TIMEOUT_SECONDS)
        yield skew(answer.headers.get("Date"), now())
        yield public(answer.status_code == 200)
    yield _versioning(client, bucket, name)


def _versioning(client: Client, bucket: str, name: str) -> Finding:
    try:
        with calling(name):
            found = client.get_bucket(bucket, timeout=TIMEOUT_SECONDS, retry=None)
    except BequestError:
        return warning(
            "versioning",
            "It could not be seen whether the bucket keeps what is replaced.",
            "Grant storage.buckets.get to find out; publishing does not need it.",
        )
    return versions_kept(bool(found.versioning_enabled), "The bucket")
