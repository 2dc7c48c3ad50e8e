"""What the tests know of an S3 server: where it is, and how to get a fresh place in it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

import boto3
from botocore.config import Config

REGION: Final = "us-east-1"
BUCKET: Final = "bequest-tests"


@dataclass(frozen=True, slots=True)
class S3Server:
    """One running server with one bucket. ``port`` may be that of a proxy before it."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def through(self, port: int) -> S3Server:
        """The same server, reached by another port."""
        return replace(self, port=port)

    def new_key(self) -> str:
        return f"{uuid.uuid4().hex}/snapshot"

    def url(self, key: str, *, bucket: str = BUCKET, **options: object) -> str:
        """The store address of an object, with options of the S3 store."""
        query = urlencode({"endpoint": self.endpoint, "region": REGION, **options})
        return f"s3://{bucket}/{key}?{query}"

    def client(self) -> Any:
        """A bare client, to look behind the store's back. The caller closes it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    @property
    def versioned_bucket(self) -> str:
        return f"{BUCKET}-versioned"

    def version_bucket(self) -> None:
        """Make the bucket that keeps every version, if it is not there."""
        client = self.client()
        if self.versioned_bucket not in [each["Name"] for each in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=self.versioned_bucket)
        client.put_bucket_versioning(
            Bucket=self.versioned_bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        client.close()

    def make_bucket(self) -> None:
        client = self.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
