"""A plugin that Alembic (1.18 and newer) loads where Bequest is installed; see `autogenerate`.

Every ``import alembic`` loads this, so it imports nothing that Alembic does not. Its name is one of
``alembic.autogenerate.*``, for only those are used unless an ``env.py`` says otherwise.
"""

from __future__ import annotations

from typing import Any, Final

from .autogenerate import alembic_filter

NAME: Final = "alembic.autogenerate.bequest"


def setup(plugin: Any) -> None:
    """Called by Alembic once, with its ``Plugin``."""
    from alembic.util import DispatchPriority

    plugin.add_autogenerate_comparator(_hide, "autogenerate", priority=DispatchPriority.FIRST)


def _hide(autogenerate: Any, _: Any) -> Any:
    """Runs before anything is compared, and filters what the comparison asks for."""
    from alembic.util import PriorityDispatchResult

    autogenerate.run_name_filters = alembic_filter(autogenerate.run_name_filters)
    return PriorityDispatchResult.CONTINUE
