"""Named accounts: a store by cloud type, account, bucket and file name, as an operator knows it.

    store = accounts.open_account(
        accounts.Account("aws", "acme-ha", "ctl.bequest", options={"region": "eu-central-1"}),
        accounts.read_keys("/run/secrets/ha.toml"),
    )
    bequest.restore(store, "sqlite:///new.db")

Invariant: keys travel beside the address, never in it; neither ``repr`` nor a message shows them.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from bequest import registry
from bequest.errors import UsageError
from bequest.ports import Store
from bequest_adapters.stores.keys import Keys
from bequest_adapters.stores.retrying import retrying

_WITH_KEYS: Final = {"s3": "s3", "az": "azure", "azure": "azure", "abs": "azure", "gs": "gcs"}
CLOUDS: Final = {"aws": "s3", "azure": "az", "gcp": "gs", "file": "file"}


@dataclass(frozen=True, slots=True)
class Account:
    """Where one object is. ``bucket`` is Azure's container, or a folder for ``"file"``.

    ``account`` is Azure's storage account; elsewhere it is a name for people. ``options`` are those
    of the store's address, such as ``region`` or ``endpoint``.
    """

    cloud_type: str
    bucket: str
    file_name: str
    account: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def url(self) -> str:
        """The store's address. Raises `UsageError`."""
        scheme = CLOUDS.get(self.cloud_type)
        if scheme is None:
            raise UsageError(
                f"There is no cloud type {self.cloud_type!r}. Nothing was done. Known are: "
                f"{', '.join(CLOUDS)}."
            )
        for name in ("bucket", "file_name"):
            if not getattr(self, name):
                raise UsageError(
                    f"The account does not say which {name.replace('_', ' ')}, so no backup can be "
                    f"made or read. Give {name} in bequest.toml, or --{name.replace('_', '-')}."
                )
        if scheme == "file" and ".." in self.file_name.split("/"):
            raise UsageError(
                f"The file name {self.file_name!r} leads out of the folder {self.bucket}. Nothing "
                "was done. Give the folder that is meant as the bucket."
            )
        options = dict(self.options)
        if scheme == "az" and self.account:
            options.setdefault("account", self.account)
        bucket = quote(self.bucket, safe="/~.") if scheme == "file" else self.bucket
        query = f"?{urlencode(options)}" if options else ""
        return f"{scheme}://{bucket}/{quote(self.file_name, safe='/')}{query}"


def open_account(account: Account, keys: Keys | None = None, *, key_file: str = "") -> Store:
    """The store of an account; without ``keys`` the provider's own chain finds credentials.

    ``key_file`` holds the keys with which the object is encrypted. Raises `UsageError`.
    """
    return open_url(account.url, keys, key_file=key_file)


def open_url(url: str, keys: Keys | None, *, key_file: str = "") -> Store:
    """The store at an address, opened with ``keys``. Raises `UsageError`."""
    cipher = registry.keys(key_file) if key_file else None
    scheme = url.partition("://")[0].lower()
    if keys is None or scheme not in _WITH_KEYS:
        return registry.open_store(url, cipher)
    module = importlib.import_module(f"bequest_adapters.stores.{_WITH_KEYS[scheme]}")
    return registry.open_store(retrying(module.open_store(url, keys)), cipher)


def read_keys(path: str) -> Keys:
    """Keys from a file: lines such as ``access_key = "..."``, or a Google service account's JSON.

    Raises `UsageError`, which never repeats the file's content.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The keys in {path} cannot be read ({type(error).__name__}). Nothing was done. "
            "Correct the path, or let this user read the file."
        ) from error
    if text.lstrip().startswith("{"):
        return Keys(google_file=str(Path(path).expanduser()))
    try:
        found: Mapping[str, Any] = tomllib.loads(text)
    except ValueError:
        raise _no_keys(path) from None  # its text repeats the file's
    known = {item.name for item in fields(Keys)} - {"google_file"}
    if not found or found.keys() - known or not all(isinstance(v, str) for v in found.values()):
        raise _no_keys(path)
    return Keys(**found)


def _no_keys(path: str) -> UsageError:
    return UsageError(
        f"{path} does not hold keys. Nothing was done. Write lines such as access_key and "
        'secret_key (AWS), account_key or sas_token (Azure), each as name = "value"; for Google '
        "give the service account's JSON file itself."
    )
