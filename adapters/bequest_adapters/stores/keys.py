"""Keys that were given by hand, where the provider's own chain shall not be asked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Keys:
    """Whatever opens an account. None of it is ever shown."""

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    account_key: str = field(default="", repr=False)
    sas_token: str = field(default="", repr=False)
    google_file: str = ""
    """Path of a Google service account's JSON."""
