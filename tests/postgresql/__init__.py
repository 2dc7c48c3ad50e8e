"""PostgreSQL as a source and as a target, on a real server."""
