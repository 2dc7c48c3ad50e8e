"""Store addresses: what is the place, and what is an option.

Invariants: an option nobody knows is an error, never ignored (a misspelt ``keep`` must not mean
"keep nothing"); no part of an address that may hold a secret appears in a message.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from bequest.errors import UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL: ``host`` as written, ``path`` percent-decoded, options by name."""

    scheme: str
    host: str
    path: str
    options: Mapping[str, str]

    def integer(self, option: str, default: int, *, least: int = 0) -> int:
        """The option as a whole number. Raises `UsageError`."""
        text = self.options.get(option)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise UsageError(
                f"The store's option {option} must be a whole number of at least {least}. "
                "No backup can be made or read until it is; correct the address."
            )
        return int(text)

    def flag(self, option: str) -> bool:
        """The option as true or false; false when it is not given. Raises `UsageError`."""
        text = self.options.get(option, "false")
        if text not in ("true", "false"):
            raise UsageError(
                f"The store's option {option} must be true or false. No backup can be made or "
                "read until it is; correct the address."
            )
        return text == "true"


def written(scheme: str, host: str, path: str, options: Mapping[str, str]) -> str:
    """The address that `parse` takes apart like that.

    Options without a value are left out, and so is a proxy with a password.
    """
    chosen = {
        name: value
        for name, value in options.items()
        if value and not (name == "proxy" and "@" in value)
    }
    query = urlencode(chosen, safe=":/")
    return f"{scheme}://{host}/{quote(path)}" + (f"?{query}" if query else "")


def parse(url: str, known: Collection[str]) -> Address:
    """Take ``url`` apart. Raises `UsageError` for credentials in it and for unknown options."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise UsageError(
            "The store's address cannot be read. Write it as scheme://place/name?option=value."
        ) from error
    if "@" in parts.netloc:
        raise UsageError(
            "The store's address seems to hold a name or password. Take it out: credentials come "
            "from the provider's usual places (environment, profile, role)."
        )
    if parts.fragment:
        raise UsageError("The store's address holds a '#'. Write it as %23.")
    options = dict(pairs)
    unknown = sorted(options.keys() - set(known))
    if unknown or len(options) != len(pairs):
        wrong = f"does not know {', '.join(unknown)}" if unknown else "was given one option twice"
        raise UsageError(f"A {parts.scheme} store {wrong}. It takes: {', '.join(sorted(known))}.")
    return Address(parts.scheme, parts.netloc, unquote(parts.path), options)
