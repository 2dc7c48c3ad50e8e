"""``python -m bequest_adapters.cli``: the same as ``bequest``, where no script is installed."""

from __future__ import annotations

import sys

from .entry import main

if __name__ == "__main__":
    sys.exit(main())
