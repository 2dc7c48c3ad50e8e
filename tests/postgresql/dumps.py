"""What pg_dump says of a database, without Bequest's own: the judge that is not ours."""

from __future__ import annotations

import os
import subprocess

from sqlalchemy import URL

from tests.servers.postgresql import PostgresqlServer


def dump(server: PostgresqlServer, database: URL, *options: str) -> list[bytes]:
    """Schema and data as lines; raw, for not every encoding can be decoded."""
    command = [
        server.program("pg_dump"),
        f"--host={database.host}",
        f"--port={database.port}",
        f"--username={database.username}",
        f"--dbname={database.database}",
        "--exclude-schema=bequest",
        "--exclude-schema=bequest_kept_*",
        *options,
    ]
    environment = dict(os.environ) | (
        {"PGPASSWORD": str(database.password)} if database.password else {}
    )
    answer = subprocess.run(
        command, env=environment, capture_output=True, check=True, stdin=subprocess.DEVNULL
    )
    # Each dump bears a random word of its own.
    return [
        line
        for line in answer.stdout.splitlines()
        if not line.startswith((b"\\restrict", b"\\unrestrict"))
    ]
