"""Every built-in type comes back as it was: PostgreSQL -> object -> PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

import bequest
from bequest_adapters.databases.postgresql.connection import connect as prepared
from bequest_adapters.databases.postgresql.connection import locate
from bequest_adapters.databases.postgresql.reading import lookup, scan
from bequest_adapters.databases.postgresql.shapes import read_shapes
from tests.servers.postgresql import VARIABLE, PostgresqlServer, connect

from .dumps import dump
from .values import NEEDS_LIBXML, NOBODY_STORES, VALUES, WITHOUT_ARRAY

QUOTED = {"char": '"char"'}

TYPES = """
SELECT t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = 'pg_catalog' AND t.typtype IN ('b', 'r', 'm') AND t.typrelid = 0
  AND NOT EXISTS (SELECT 1 FROM pg_type e WHERE e.typarray = t.oid)
"""


def known(database: URL) -> set[str]:
    """The server's own types that a column can have, without arrays."""
    with connect(database) as db:
        return {str(row[0]) for row in db.execute(TYPES)}


def test_every_type_of_the_server_is_on_a_list(postgresql_database: URL) -> None:
    listed = set(VALUES) | set(NEEDS_LIBXML) | NOBODY_STORES
    assert known(postgresql_database) - listed == set()


def fill(database: URL, values: dict[str, tuple[str, ...]]) -> None:
    """A table for each type: the value, an array, a nested array, a domain, a composite value."""
    with connect(database) as db:
        for name, samples in values.items():
            db.execute("\n".join(statements(name, samples)).encode())


def statements(name: str, samples: tuple[str, ...]) -> list[str]:
    """What makes and fills the table of one type."""
    of = QUOTED.get(name, name)
    made = [
        f"CREATE DOMAIN domain_{name} AS {of};",
        f"CREATE TYPE pair_{name} AS (one {of}, two int);",
    ]
    columns = [f"v {of}", f"d domain_{name}", f"p pair_{name}", f"ps pair_{name}[]"]
    rows = [f"{value}::{of}, {value}::{of}, ROW({value}, 1), NULL" for value in samples]
    rows.append(f"NULL, NULL, ROW(NULL, NULL), ARRAY[NULL, ROW({samples[0]}, 2)::pair_{name}]")
    rows.append("NULL, NULL, NULL, '{}'")
    if name not in WITHOUT_ARRAY:
        columns += [f"a {of}[]", f"da domain_{name}[]"]
        arrays = [
            f"ARRAY[[{value}::{of}], [NULL::{of}]], ARRAY[{value}::{of}]" for value in samples
        ]
        arrays += [f"array_fill({samples[0]}::{of}, '{{2,1}}', '{{-3,7}}'), NULL", "'{}', '{NULL}'"]
        rows = [f"{row}, {array}" for row, array in zip(rows, arrays, strict=True)]
    made.append(f"CREATE TABLE of_{name} (id serial PRIMARY KEY, {', '.join(columns)});")
    names = ", ".join(column.split()[0] for column in columns)
    made += [f"INSERT INTO of_{name} ({names}) VALUES ({row});" for row in rows]
    return made


def carry(source: URL, target: URL, folder: Path) -> None:
    """Through an object, which must then be told equal to the new database."""
    bequest.backup(source, str(folder / "object"))
    bequest.restore(str(folder / "object"), target, adopt=True)
    assert bequest.verify(str(folder / "object"), target).differences == ()


def test_every_type_comes_back_as_it_was(
    postgresql: PostgresqlServer, postgresql_database: URL, tmp_path: Path
) -> None:
    there = known(postgresql_database)
    fill(postgresql_database, {name: VALUES[name] for name in VALUES if name in there})
    with postgresql.database() as target:
        carry(postgresql_database, target, tmp_path)
        assert dump(postgresql, target) == dump(postgresql, postgresql_database)


def test_xml_comes_back_where_the_server_knows_it(
    postgresql: PostgresqlServer, postgresql_database: URL, tmp_path: Path
) -> None:
    with connect(postgresql_database) as db:
        try:
            db.execute("SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported as error:
            # The packaged server is built without libxml; a server that is given has it.
            assert "built with libxml" in str(error)  # noqa: PT017
            assert VARIABLE not in os.environ, "give a server that was built with libxml"
            return
    fill(postgresql_database, NEEDS_LIBXML)
    with postgresql.database() as target:
        carry(postgresql_database, target, tmp_path)
        assert dump(postgresql, target) == dump(postgresql, postgresql_database)


def test_rows_are_found_by_a_key_of_any_type(postgresql_database: URL) -> None:
    there, keyed = known(postgresql_database), 0
    with prepared(locate(postgresql_database)) as db:
        for name in there & set(VALUES):
            of = QUOTED.get(name, name)
            try:
                db.execute(f"CREATE TABLE public.key_{name} (k {of} PRIMARY KEY)".encode())
            except psycopg.errors.UndefinedObject:  # values without an order
                continue
            for value in VALUES[name]:
                insert = f"INSERT INTO public.key_{name} VALUES ({value}::{of})"
                db.execute(f"{insert} ON CONFLICT DO NOTHING".encode())
        for at, shape in enumerate(read_shapes(db)):
            table = shape.table(at, "")
            if not table.key:  # floating point: NaN is no key outside the database
                continue
            with db.transaction():
                rows = [row for block in scan(db, table) for row in block]
                found = list(lookup(db, table, rows))
            keyed += 1
            assert sorted(found, key=repr) == sorted(rows, key=repr), table.name
    assert keyed > 40


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("LATIN1", "ÄÖÜ ß"), ("EUC_JP", "日本語"), ("WIN1251", "Привет"), ("UTF8", "🙂")],
)
def test_text_comes_back_from_any_encoding(
    postgresql: PostgresqlServer, tmp_path: Path, encoding: str, text: str
) -> None:
    options = f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with postgresql.database(options) as source, postgresql.database(options) as target:
        with connect(source, client_encoding="UTF8") as db:
            db.execute(f'CREATE TABLE "{text}" ("{text}" text PRIMARY KEY, a text[])'.encode())
            db.execute(f"INSERT INTO \"{text}\" VALUES ('{text}', ARRAY['{text}'])".encode())
        carry(source, target, tmp_path)
        assert dump(postgresql, target) == dump(postgresql, source)


def test_bytes_that_are_no_text_come_back_from_a_database_without_encoding(
    postgresql: PostgresqlServer, tmp_path: Path
) -> None:
    options = "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with postgresql.database(options) as source, postgresql.database(options) as target:
        with connect(source) as db:
            db.execute("CREATE TABLE t (k text PRIMARY KEY, a text[], n int, b bytea)")
            db.execute(
                r"INSERT INTO t VALUES (E'\xff\xfe\t', ARRAY[E'\xe4', E'\xc3\xa9'], 1, '\x00ff')"
            )
        carry(source, target, tmp_path)
        assert dump(postgresql, target) == dump(postgresql, source)
