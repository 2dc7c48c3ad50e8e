"""Makes the tests independent of how this machine reaches the world.

The proxies stay (npm may need them to fetch an emulator) but no loopback connection goes through
them; what names AWS accounts or authorities goes.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

LOOPBACK: Final = "127.0.0.1,localhost,::1"
ACCESS_KEY, SECRET_KEY = "bequest-tests", "not-a-secret-of-anybody"


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK)))
