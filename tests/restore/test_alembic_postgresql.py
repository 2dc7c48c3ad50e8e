"""What only PostgreSQL's migrations make is there after a restore, and fired at no recorded row."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command

import bequest

from .kinds import Kind, kind
from .test_alembic import configuration, live_until, scripts_like

__all__ = ["kind"]

RICH = '''
from alembic import op
revision = "r11"
down_revision = "r10"
def upgrade():
    op.execute("""
        CREATE TABLE noted (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO noted (what) VALUES (new.name); RETURN new; END';
        CREATE TRIGGER noting AFTER INSERT ON site FOR EACH ROW EXECUTE FUNCTION note();
        COMMENT ON TRIGGER noting ON site IS 'tells';
        ALTER TABLE site ENABLE ALWAYS TRIGGER noting;
        ALTER TABLE address DROP CONSTRAINT address_site_id_fkey, ADD CONSTRAINT later
            FOREIGN KEY (site_id) REFERENCES site DEFERRABLE INITIALLY DEFERRED;
        COMMENT ON CONSTRAINT later ON address IS 'checked at the end';
        ALTER TABLE setting ADD CONSTRAINT known CHECK (k LIKE 'count%') NOT VALID;
        ALTER TABLE setting ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE MATERIALIZED VIEW names AS SELECT name FROM site;
        INSERT INTO site (name) VALUES ('of the migration');
        INSERT INTO address (site_id, city) SELECT max(id), 'Delft' FROM site;
    """)
'''
LATER = """
from alembic import op
revision = "r12"
down_revision = "r11"
def upgrade():
    op.execute("INSERT INTO site (name) VALUES ('later')")
    op.execute("REFRESH MATERIALIZED VIEW names")
"""
CONCURRENT = """
from alembic import op
revision = "r11"
down_revision = "r10"
def upgrade():
    with op.get_context().autocommit_block():
        op.create_index("vast", "site", ["name"], postgresql_concurrently=True)
"""
HAND_MADE = (
    "CREATE TABLE extra (id integer PRIMARY KEY, site integer REFERENCES site)",
    "INSERT INTO extra VALUES (1, 1)",
    "CREATE VIEW extras AS SELECT site.name FROM extra JOIN site ON site.id = extra.site",
    "CREATE INDEX site_name ON site (name)",
    "COMMENT ON TABLE site IS 'a place'",
)


@pytest.fixture
def live(kind: Kind) -> str:
    return live_until(kind, "r10")


pytestmark = pytest.mark.parametrize("kind", ["postgresql"], indirect=True)


def test_what_would_fire_or_refuse_comes_back_when_the_rows_are_in(
    kind: Kind, live: str, tmp_path: Path
) -> None:
    config = configuration(live, scripts_like(tmp_path, r11=RICH, r12=LATER))
    command.upgrade(config, "r11")
    kind.run(live, "INSERT INTO site (name) VALUES ('of a user')")
    kind.run(live, "REFRESH MATERIALIZED VIEW names")
    new, store = kind.new("new"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    bequest.restore(store, new, alembic=config, adopt=False)
    command.upgrade(config, "r12")
    assert kind.state(new) == kind.state(live)


def test_what_no_migration_made_is_restored_as_recorded(
    kind: Kind, live: str, tmp_path: Path
) -> None:
    for statement in HAND_MADE:
        kind.run(live, statement)
    new, store = kind.new("new"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    bequest.restore(store, new, alembic=configuration(live), adopt=False)
    assert kind.state(new) == kind.state(live)


def test_a_migration_outside_of_a_transaction_is_refused(
    kind: Kind, live: str, tmp_path: Path
) -> None:
    new, store = kind.new("new"), str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    config = configuration(live, scripts_like(tmp_path, r11=CONCURRENT))
    with pytest.raises(bequest.Refused, match=r"outside of a transaction.*as it was"):
        bequest.restore(store, new, alembic=config, adopt=True)
    assert kind.state(new) == kind.state(kind.new("another"))


def test_the_replaced_data_is_kept_and_the_controller_goes_on(
    kind: Kind, live: str, tmp_path: Path
) -> None:
    store = str(tmp_path / "o.bequest")
    bequest.backup(live, store)
    report = bequest.restore(store, live, force=True, alembic=configuration(live), adopt=True)
    assert report.kept is not None
    kind.run(live, "INSERT INTO site (name) VALUES ('after')")
    bequest.backup(live, store)
    assert bequest.verify(store, live).ok
