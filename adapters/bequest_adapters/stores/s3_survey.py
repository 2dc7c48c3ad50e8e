"""What `bequest doctor` wants to know of a bucket of S3, and how its traces are removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from bequest.errors import BequestError, Denied

from .findings import Finding, now, ok, public, skew, versions_kept, warning
from .s3_client import Client, S3Settings, connect
from .s3_errors import calling

SMALLEST_PART_BYTES: Final = 5 * 1024 * 1024
_ASK: Final = "Grant {} to find out; publishing does not need it."


def survey(
    client: Client, settings: S3Settings, place: Mapping[str, Any], name: str, suffix: str
) -> Iterator[Finding]:
    """Clock, versioning, public access, and what dead publishers left."""
    yield _clock(client, place, name)
    yield _versioning(client, place, name)
    yield _public(settings, place, suffix)
    yield _leftovers(client, place, name)


def _clock(client: Client, place: Mapping[str, Any], name: str) -> Finding:
    with calling(name):
        answer = client.list_objects_v2(Bucket=place["Bucket"], Prefix=place["Key"], MaxKeys=1)
    return skew(answer["ResponseMetadata"]["HTTPHeaders"].get("date"), now())


def _versioning(client: Client, place: Mapping[str, Any], name: str) -> Finding:
    try:
        with calling(name):
            answer = client.get_bucket_versioning(Bucket=place["Bucket"])
    except BequestError:
        text = "It could not be seen whether the bucket keeps what is replaced."
        return warning("versioning", text, _ASK.format("s3:GetBucketVersioning"))
    return versions_kept(answer.get("Status") == "Enabled", "The bucket")


def _public(settings: S3Settings, place: Mapping[str, Any], suffix: str) -> Finding:
    nobody = connect(replace(settings, profile=""), anonymous=True)
    try:
        with calling("the bucket"):
            nobody.head_object(Bucket=place["Bucket"], Key=place["Key"] + suffix)
    except Denied:
        return public(False)
    except BequestError as error:
        text = "It could not be seen whether the bucket is public."
        return warning("public access", text, str(error))
    finally:
        nobody.close()
    return public(True)


def _leftovers(client: Client, place: Mapping[str, Any], name: str) -> Finding:
    try:
        with calling(name):
            answer = client.list_multipart_uploads(Bucket=place["Bucket"], Prefix=place["Key"])
    except BequestError:
        text = "It could not be seen whether dead publishers left unfinished uploads."
        return warning("leftovers", text, _ASK.format("s3:ListBucketMultipartUploads"))
    count = sum(1 for upload in answer.get("Uploads", ()) if upload["Key"] == place["Key"])
    if not count:
        return ok("leftovers", "No unfinished uploads lie about.")
    return warning(
        "leftovers",
        f"{count} unfinished uploads lie about, and are billed.",
        "The next large publish aborts those older than a day; have a lifecycle rule do so too.",
    )


def remove(client: Client, place: Mapping[str, Any], name: str) -> None:
    """Delete an object with all its versions. Raises `AccessError`."""
    try:
        with calling(name):
            listed = client.list_object_versions(Bucket=place["Bucket"], Prefix=place["Key"])
        ids = [
            entry["VersionId"]
            for entry in (*listed.get("Versions", ()), *listed.get("DeleteMarkers", ()))
            if entry["Key"] == place["Key"]
        ]
    except BequestError:
        ids = []  # what may not be listed is deleted plainly
    with calling(name):
        for id in ids:
            client.delete_object(**place, VersionId=id)
        if not ids:
            client.delete_object(**place)
