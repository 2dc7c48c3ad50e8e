"""Which fixture plugins there are. Each is about one concern, and starts nothing until asked."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("bequest.testing")

pytest_plugins = [
    "tests.servers.environment",
    "tests.servers.ministack",
    "tests.servers.seaweedfs",
]
