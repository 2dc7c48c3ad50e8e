"""Who publishes: what a refusal says of the last publish, so that an operator finds that process.

Never more than the program's file name: a command line may hold secrets.
"""

from __future__ import annotations

import os
import socket
import sys

from bequest.model import Author


def this_process() -> Author:
    """This process, as it is now: a fork is another one."""
    return Author(socket.gethostname(), os.getpid(), os.path.basename(sys.argv[0] or ""))
