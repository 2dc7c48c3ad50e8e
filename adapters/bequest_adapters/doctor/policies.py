"""The least rights that Bequest needs in a cloud, ready to be given.

Every right is one that a request of Bequest's asks for: to publish and restore, to tell of earlier
versions, to keep a copy of an object beside it before another history takes its place, and for the
scratch object of `bequest doctor`.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bequest.errors import UsageError


def policy(store: str) -> str:
    """The policy for the store at an address, to be pasted. Raises `UsageError`."""
    parts = urlsplit(store)
    name = parts.path.lstrip("/")
    match parts.scheme.lower():
        case "s3":
            return _aws(parts.netloc, name)
        case "az" | "azure" | "abs":
            account = parse_qs(parts.query).get("account", ["ACCOUNT"])[0]
            return _azure(account, parts.netloc)
        case "gs":
            return _google(parts.netloc, name)
        case _:
            raise UsageError(
                "A file needs no policy: the user that runs Bequest must be able to write its "
                "folder. Policies are there for s3://, az:// and gs://."
            )


def _aws(bucket: str, key: str) -> str:
    place = f"arn:aws:s3:::{bucket}"
    statements = [
        _allow(
            "Publish",
            ["GetObject", "GetObjectVersion", "PutObject", "AbortMultipartUpload"],
            f"{place}/{key}",
        ),
        _allow(
            "Look",
            [
                "ListBucket",
                "ListBucketVersions",
                "ListBucketMultipartUploads",
                "GetBucketVersioning",
            ],
            place,
        ),
        _allow(
            "Keep",
            ["GetObject", "PutObject", "AbortMultipartUpload"],
            f"{place}/{key}.replaced-*",
        ),
        _allow(
            "Examine",
            [
                "GetObject",
                "PutObject",
                "AbortMultipartUpload",
                "DeleteObject",
                "DeleteObjectVersion",
            ],
            f"{place}/{key}.doctor-*",
        ),
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _allow(name: str, actions: list[str], resource: str) -> dict[str, Any]:
    granted = [f"s3:{action}" for action in actions]
    return {"Sid": name, "Effect": "Allow", "Action": granted, "Resource": resource}


def _azure(account: str, container: str) -> str:
    blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
    role = {
        "Name": "Bequest publisher",
        "Description": "Publish, restore and examine one Bequest object",
        "Actions": [],
        "DataActions": [
            f"{blobs}/read",
            f"{blobs}/write",
            f"{blobs}/add/action",
            f"{blobs}/delete",
        ],
        "AssignableScopes": ["/subscriptions/SUBSCRIPTION"],
    }
    return f"""\
# A role of its own (put your subscription in), for the container only:
cat > bequest-role.json <<'JSON'
{json.dumps(role, indent=2)}
JSON
az role definition create --role-definition bequest-role.json
az role assignment create --role "Bequest publisher" --assignee IDENTITY --scope \\
  "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.Storage/storageAccounts/\
{account}/blobServices/default/containers/{container}"

# Or a signature (SAS) for AZURE_STORAGE_SAS_TOKEN: read, create, write, delete, list.
az storage container generate-sas --account-name {account} --name {container} \\
  --permissions rcwdl --https-only --as-user --auth-mode login --expiry YYYY-MM-DDTHH:MMZ"""


def _google(bucket: str, name: str) -> str:
    return f"""\
gcloud iam roles create bequestPublisher --project PROJECT --title "Bequest publisher" \\
  --permissions storage.objects.get,storage.objects.list,storage.objects.create,\
storage.objects.update,storage.objects.delete
gcloud storage buckets add-iam-policy-binding gs://{bucket} \\
  --member serviceAccount:SERVICE_ACCOUNT --role projects/PROJECT/roles/bequestPublisher \\
  --condition '^:^title=bequest:expression=resource.type != "storage.googleapis.com/Object" || \
resource.name.startsWith("projects/_/buckets/{bucket}/objects/{name}")'"""
