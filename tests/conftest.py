"""Which fixture plugins there are. Each is about one concern, and starts nothing until asked."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("bequest.testing")

settings.register_profile("ci", max_examples=100, deadline=None)
settings.register_profile("nightly", max_examples=2000, deadline=None)
settings.load_profile("ci")

pytest_plugins = [
    "tests.servers.azurite",
    "tests.servers.environment",
    "tests.servers.gcs_server",
    "tests.servers.ministack",
    "tests.servers.postgresql",
    "tests.servers.postgresql_pair",
    "tests.servers.seaweedfs",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run the long profiles")


def pytest_configure(config: pytest.Config) -> None:
    """With --nightly hypothesis takes its long profile as well."""
    if config.getoption("--nightly"):
        settings.load_profile("nightly")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long profiles are chosen, not skipped: without --nightly they are not collected."""
    if config.getoption("--nightly"):
        return
    long = [item for item in items if item.get_closest_marker("nightly")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)
