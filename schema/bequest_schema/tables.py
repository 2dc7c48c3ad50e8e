"""The tables of Bequest in a controller's database.

Every name starts with ``bequest_``; on PostgreSQL they are in a schema of their own, `SCHEMA`. None
of them is ever part of a snapshot. What stands here is the newest shape, which a new installation
gets at once; ``migrations/`` leads every older installation to it.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    event,
)
from sqlalchemy.types import UserDefinedType

HEAD = "0001"
"""The newest revision: what `migrations.upgrade` leads to. Kept here so that nobody has to load
Alembic to see that there is nothing to do."""

SCHEMA = "bequest"
"""Where the tables are on PostgreSQL; SQLite has no schemas."""

VERSION_TABLE = "bequest_version"
"""Alembic's version table for our own migrations; the controller's is not touched."""

JOURNAL = "bequest_journal"
MEMORY = "bequest_memory"
CAPTURE = "bequest_capture"
SETTINGS = "bequest_settings"

FILES = "bequest_files"
"""The table in which an object holds configuration files. No database has it, and the name is kept
free: a table of a controller's that bears it is not captured."""

FOLLOWING = "bequest_following"

LIFTED = "bequest_lifted"
"""A view on SQLite that stands in for our triggers while there are none: it names the
installation."""

TABLES = frozenset({JOURNAL, CAPTURE, SETTINGS, VERSION_TABLE})
"""What every installation has, and what no snapshot ever holds."""

ALL_TABLES = TABLES | {MEMORY, FOLLOWING}
"""All that `bequest uninstall` drops."""


def is_internal(name: str) -> bool:
    """Whether a table's name is Bequest's own, so that no snapshot of a database ever holds it."""
    return name in TABLES or name in (MEMORY, FOLLOWING, LIFTED, FILES)


KEY_COLUMNS = 4
"""Key columns of a new journal (k0 ... k3). A table with a longer key widens it."""


class Native(UserDefinedType[object]):
    """A column of a type by its own name: only PostgreSQL's journal has such."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        """The name."""
        return self.name


class Untyped(UserDefinedType[object]):
    """A column without a type: SQLite then keeps every value as it is, whatever its class."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """No type at all."""
        return ""


metadata = MetaData()

journal = Table(
    JOURNAL,
    metadata,
    # Without AUTOINCREMENT, which would leave the table sqlite_sequence behind for ever.
    Column("seq", Integer, primary_key=True),
    # Julian day: the one clock of SQLite that makes no text. The trigger pays for it on every row.
    Column("at", Float, nullable=False),
    Column("tab", Integer, nullable=False),
    Column("op", Untyped, nullable=False),
    *(Column(f"k{index}", Untyped) for index in range(KEY_COLUMNS)),
)
"""Which row was touched, in the order of the statements (SQLite's journal: keys only)."""

postgresql_metadata = MetaData()

postgresql_journal = Table(
    JOURNAL,
    postgresql_metadata,
    # Of the transaction as a whole, also inside its savepoints. No sequence: the application's
    # lastval() must stay its own.
    Column("txid", Native("xid8"), nullable=False),
    Column("at", Native("timestamptz"), nullable=False),
    Column("tab", Native("int4"), nullable=False),
    Column("op", Native('"char"'), nullable=False),
    Column("keys", Native("text[]")),
)
"""Which rows one statement touched: all values of the key's first column, then all of its second,
and so on. NULL: the whole table. Without an index, for every commit would pay for it."""

memory = Table(
    MEMORY,
    postgresql_metadata,
    Column("id", Integer, primary_key=True),
    Column("lineage", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("serial", Integer, nullable=False),
    Column("token", Text, nullable=False),
    Column("store", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("chain", Text, nullable=False),
    Column("position", Text, nullable=False),
    Column("base_bytes", BigInteger, nullable=False),
    Column("tail_bytes", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("attributes", LargeBinary, nullable=False),
    Column("intents", LargeBinary, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("last_success", Float(53)),
    Column("last_error", Text, nullable=False),
    Column("last_rewrite", Float(53)),
    Column("key_id", Text, nullable=False),
    Column("inherited", Text, nullable=False),
    Column("installation", Text, nullable=False),
    Column("witnesses", Text, nullable=False),
    Column("earlier_installations", Text, nullable=False),
    Column("place", Text, nullable=False),
)
"""`bequest.model.Memory`, one row with id 1, on PostgreSQL only: SQLite's is in a file beside the
database. ``attributes`` is a msgpack map, ``intents`` a list of maps. ``place`` names the server
and the database that ``installation`` was made in, ``witnesses`` the latest publishes."""

capture = Table(
    CAPTURE,
    metadata,
    Column("id", Integer, primary_key=True),
    # On PostgreSQL a JSON list of schema and name.
    Column("name", Text, nullable=False),
    # JSON list of the key's column names, in journal order; empty for an opaque table.
    Column("key", Text, nullable=False),
)
"""The captured tables; ``id`` is what the journal calls them, and is never used twice."""

settings = Table(
    SETTINGS,
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""The selection, the journal's limit, and what the schema looked like at the last install; also who
the database is (``installation``, ``lineage``, ``epoch``)."""

version = Table(
    VERSION_TABLE,
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""As Alembic makes it, one row: the installed revision."""


following_metadata = MetaData()
"""Apart, too: a database either follows an object or publishes one."""

following = Table(
    FOLLOWING,
    following_metadata,
    Column("id", Integer, primary_key=True),
    # While the follower itself writes; in its own transaction only, so nobody else ever sees 1.
    Column("applying", Integer, nullable=False),
    Column("standing", LargeBinary, nullable=False),
    Column("triggers", LargeBinary, nullable=False),
    Column("schema_version", BigInteger, nullable=False),
    Column("promotion", LargeBinary),
)
"""Where a followed database stands (`bequest.model.Standing`, a msgpack map), one row with id 1.
``triggers`` are the controller's, left out until it is promoted. ``promotion`` is the memory that
it takes over then."""

postgresql_following = following.to_metadata(MetaData(), schema=SCHEMA)
"""The same on PostgreSQL, where ``schema_version`` is made from the fingerprint, and ``triggers``
are definitions (kind, name, table, SQL) of all that would fire or refuse."""


for _shared in (capture, settings, version):
    _shared.to_metadata(postgresql_metadata)

KEPT_SMALL = (
    "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,"
    " autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000)"
)
"""For tables of PostgreSQL that are small and often rewritten: vacuumed without waiting for a share
of them to be dead."""

for _busy in (JOURNAL, MEMORY):
    _kept = DDL(KEPT_SMALL.format("%(fullname)s"))  # type: ignore[no-untyped-call]
    event.listen(postgresql_metadata.tables[_busy], "after_create", _kept)


def metadata_for(dialect: str) -> MetaData:
    """The tables as a database of this dialect has them."""
    return postgresql_metadata if dialect == "postgresql" else metadata
