"""The choice of tables on PostgreSQL: what is left out is named, and none is never published."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

import bequest


@pytest.fixture
def database(postgresql_database: URL) -> URL:
    engine = create_engine(postgresql_database, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sites(id int PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE session_a(id int PRIMARY KEY)"))
    return postgresql_database


def test_tables_that_are_left_out_are_named(database: URL, tmp_path: Path) -> None:
    report = bequest.backup(database, str(tmp_path / "o"), exclude=("session_*",))
    assert report.not_covered == (("public.session_a", "left out by the choice of tables"),)


def test_a_choice_that_leaves_no_table_is_refused(database: URL, tmp_path: Path) -> None:
    store = str(tmp_path / "o")
    bequest.backup(database, store)
    with pytest.raises(bequest.Refused, match="leaves none"):
        bequest.backup(database, store, include=("sitess",))
    assert bequest.inspect(store).serial == 1
