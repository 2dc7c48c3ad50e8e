"""A store that is named by account instead of by address, in the file or as options."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from bequest import registry
from bequest.encryption import keyed
from bequest.errors import UsageError
from bequest.ports import Store
from bequest_adapters import accounts, config
from bequest_adapters.stores.keys import Keys

PARTS: Final = ("cloud_type", "account", "bucket", "file_name")
F = TypeVar("F", bound=Callable[..., Any])


def account_options(function: F) -> F:
    """``--cloud-type --account --bucket --file-name --keys-file --ask-keys``.

    Eager, so that they are there when the argument STORE turns out to be missing.
    """
    texts = {
        "--cloud-type": "Instead of STORE: aws, azure, gcp or file.",
        "--account": "Instead of STORE: an account of bequest.toml, or Azure's storage account.",
        "--bucket": "Instead of STORE: the bucket, container or folder.",
        "--file-name": "Instead of STORE: the object's name.",
        "--keys-file": "Take access key and secret key from this file instead of the environment.",
    }
    function = click.option(
        "--ask-keys",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_note,
        help="Ask for access key and secret key.",
    )(function)
    for name, text in reversed(texts.items()):
        option = click.option(
            name, is_eager=True, expose_value=False, metavar="NAME", callback=_note, help=text
        )
        function = option(function)
    return function


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        context.meta[f"bequest.{parameter.name}"] = value


def given(context: click.Context) -> bool:
    """Whether the command line names a store by its parts."""
    return any(f"bequest.{part}" in context.meta for part in PARTS)


def store_of(context: click.Context, settings: config.Settings) -> str | Store | None:
    """The store that options and file name by its parts; ``None`` when they name none.

    A text where the provider's own chain finds the credentials. Raises `UsageError`.
    """
    parts = {name: str(settings.options[name]) for name in PARTS if name in settings.options}
    parts |= {
        name: context.meta[key] for name in PARTS if (key := f"bequest.{name}") in context.meta
    }
    if not parts:
        return None
    facts = _facts(settings, {name: config.expand(value) for name, value in parts.items()})
    keys_file, key_file = facts.pop("keys_file", ""), facts.pop("key_file", "")
    account = accounts.Account(
        facts.pop("cloud_type", ""),
        facts.pop("bucket", ""),
        facts.pop("file_name", ""),
        facts.pop("account", ""),
        facts,
    )
    config.check_store(account.url)
    return with_keys(context, account.url, keys_file, key_file_of(context, settings, key_file))


def with_keys(
    context: click.Context, url: str, keys_file: str = "", key_file: str = ""
) -> str | Store:
    """The address, or the store behind it, opened with keys that were given by hand."""
    if context.meta.get("bequest.ask_keys"):
        return accounts.open_url(url, _asked(url.partition("://")[0].lower()), key_file=key_file)
    keys_file = context.meta.get("bequest.keys_file") or keys_file
    if keys_file:
        keys = accounts.read_keys(config.expand(keys_file))
        return accounts.open_url(url, keys, key_file=key_file)
    return keyed(url, key_file=key_file) if key_file else url


def key_file_option(function: F) -> F:
    """``--key-file FILE``: what encrypts the object. Eager, as the parts of a store are."""
    return click.option(
        "--key-file",
        is_eager=True,
        expose_value=False,
        metavar="FILE",
        callback=_note,
        help="The keys with which the object is encrypted, as `bequest key` makes them.  "
        "[variable: BEQUEST_KEY_FILE]",
    )(function)


def key_file_of(context: click.Context, settings: config.Settings, of_account: str = "") -> str:
    """Where the keys are by argument, else by the file; empty when the environment tells, or none.

    The library itself knows the variables, so that it goes by them in any program.
    """
    given = str(context.meta.get("bequest.key_file", ""))
    if given or os.environ.keys() & registry.KEY_VARIABLES:
        return config.expand(given)
    return config.expand(of_account or str(settings.options.get("key_file", "")))


def _facts(settings: config.Settings, parts: Mapping[str, str]) -> dict[str, str]:
    """What is known of the account, with what was given on top."""
    name = parts.get("account", "")
    table = settings.accounts.get(name)
    if table is None:
        if settings.accounts and name and parts.get("cloud_type") != "azure":
            raise UsageError(
                f"There is no account {name!r} in {settings.path}. Nothing was done. Known are: "
                f"{', '.join(sorted(settings.accounts))}."
            )
        return dict(parts)
    known = {key: config.expand(value) for key, value in table.items()}
    given = {key: value for key, value in parts.items() if key != "account"}
    return {"account": name, **known, **given}


def _asked(scheme: str) -> Keys:
    """Ask at the terminal, on stderr; nothing that is typed is shown."""

    if not _has_terminal():
        raise UsageError(
            "--ask-keys needs a terminal to ask at, and there is none. Nothing was done. Give the "
            "keys with --keys-file or in the environment."
        )

    def ask(text: str) -> str:
        return str(click.prompt(text, hide_input=True, err=True))

    if scheme == "s3":
        return Keys(access_key=ask("Access key"), secret_key=ask("Secret key"))
    if scheme in ("az", "azure", "abs"):
        return Keys(account_key=ask("Account key"))
    raise UsageError(
        "There are no keys to ask for with this kind of store. Nothing was done. For Google give "
        "the service account's file with --keys-file."
    )


def _has_terminal() -> bool:
    try:
        os.close(os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return sys.stdin.isatty()
    return True
