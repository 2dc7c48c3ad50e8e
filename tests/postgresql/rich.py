"""A database that uses what PostgreSQL has: made by the tests of definitions and of restore."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL

from tests.servers.postgresql import connect

RICH: Final = r"""
CREATE SCHEMA app;
CREATE SCHEMA "Odd ""schema"" x";
COMMENT ON SCHEMA app IS 'the controller''s own';

CREATE TYPE app.mood AS ENUM ('sad', 'it''s fine', 'Happy %s');
ALTER TYPE app.mood ADD VALUE 'so-so' BEFORE 'Happy %s';
-- commit
CREATE COLLATION app.plain (provider = libc, locale = 'C');
CREATE DOMAIN app.percent AS numeric(5, 2) DEFAULT 0 NOT NULL
    CONSTRAINT low CHECK (VALUE >= 0) CONSTRAINT high CHECK (VALUE <= 100);
CREATE DOMAIN app.word AS text COLLATE app.plain CHECK (VALUE <> '');
ALTER DOMAIN app.word ADD CONSTRAINT short CHECK (length(VALUE) < 1000) NOT VALID;
COMMENT ON CONSTRAINT low ON DOMAIN app.percent IS 'not below';
CREATE TYPE app.address AS (street text COLLATE "C", number int, moods app.mood[]);
COMMENT ON COLUMN app.address.street IS 'as on the door';
CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = float8mi,
    multirange_type_name = app.spans);

CREATE FUNCTION app.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT n * 2';
CREATE FUNCTION app.is_fine(n int) RETURNS bool LANGUAGE plpgsql IMMUTABLE
    AS $f$ BEGIN RETURN n IS NULL OR n < 1000000; END $f$;
CREATE FUNCTION app.next_label() RETURNS text LANGUAGE plpgsql SET search_path = app, pg_temp
    AS $f$ BEGIN RETURN 'label ' || (SELECT count(*) FROM app.device); END $f$;
CREATE FUNCTION app.plus(app.address, app.address) RETURNS int LANGUAGE sql IMMUTABLE
    AS 'SELECT ($1).number + ($2).number';
CREATE OPERATOR app.+ (FUNCTION = app.plus, LEFTARG = app.address, RIGHTARG = app.address,
    COMMUTATOR = OPERATOR(app.+));
CREATE FUNCTION app.mood_number(app.mood) RETURNS int LANGUAGE sql IMMUTABLE
    AS 'SELECT length($1::text)';
CREATE CAST (app.mood AS int) WITH FUNCTION app.mood_number(app.mood) AS ASSIGNMENT;
CREATE AGGREGATE app.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0',
    COMBINEFUNC = int4pl, PARALLEL = SAFE);
CREATE PROCEDURE app.tidy(INOUT n int DEFAULT 1) LANGUAGE plpgsql AS $p$ BEGIN n := n; END $p$;
COMMENT ON FUNCTION app.twice(int) IS 'doubles';
COMMENT ON OPERATOR app.+ (app.address, app.address) IS 'odd';
CREATE TEXT SEARCH DICTIONARY app.simple_words (TEMPLATE = pg_catalog.simple, Accept = false);
CREATE TEXT SEARCH CONFIGURATION app.words (PARSER = pg_catalog."default");
ALTER TEXT SEARCH CONFIGURATION app.words ADD MAPPING FOR asciiword, word
    WITH app.simple_words, pg_catalog.simple;

CREATE SEQUENCE app.tickets AS smallint INCREMENT BY -3 MINVALUE -1000 MAXVALUE 500 START 400
    CACHE 5 CYCLE;
SELECT nextval('app.tickets');
CREATE SEQUENCE app.unused;

CREATE TABLE app.device (
    id int GENERATED ALWAYS AS IDENTITY (START WITH 10 INCREMENT BY 5) PRIMARY KEY,
    name varchar(40) NOT NULL COLLATE "C",
    mood app.mood DEFAULT 'so-so',
    share app.percent,
    label text DEFAULT app.next_label(),
    doubled int GENERATED ALWAYS AS (app.twice(length(name))) STORED,
    place app.address,
    seen timestamptz DEFAULT now(),
    ticket int DEFAULT nextval('app.tickets'),
    code "char" DEFAULT 'x',
    big text,
    search tsvector,
    area app.span,
    CONSTRAINT named_check CHECK (app.is_fine(ticket)) NO INHERIT,
    CONSTRAINT name_unique UNIQUE (name) INCLUDE (mood) WITH (fillfactor = 70)
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT apart EXCLUDE USING gist (area WITH &&) WHERE (ticket > 0)
) WITH (fillfactor = 80, autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE app.device ALTER COLUMN big SET STORAGE EXTERNAL;
ALTER TABLE app.device ALTER COLUMN seen SET STATISTICS 500;
ALTER TABLE app.device ALTER COLUMN name SET (n_distinct = -0.5);
ALTER TABLE app.device ADD CONSTRAINT not_checked CHECK (name <> 'forbidden') NOT VALID;
CREATE TABLE app.gap (a int, gone text, b int);
ALTER TABLE app.gap DROP COLUMN gone;
ALTER TABLE app.gap ADD COLUMN c serial;
INSERT INTO app.gap (a, b) VALUES (1, 2), (1, 2);
INSERT INTO app.device (name, mood, share, place, area, search, big)
    SELECT 'device ' || i, 'Happy %s', i % 100, ROW('a, "b"', i, ARRAY['sad', NULL]::app.mood[])
        ::app.address, app.span(i, i + 1), to_tsvector('simple', 'word ' || i), repeat('x', i)
    FROM generate_series(1, 50) i;
COMMENT ON TABLE app.device IS 'what is controlled';
COMMENT ON COLUMN app.device.name IS E'by hand\nin two lines';
COMMENT ON CONSTRAINT name_unique ON app.device IS 'only one';

CREATE TABLE app."Port (x)" (
    device int NOT NULL, "select" int NOT NULL, "a""b" text,
    PRIMARY KEY (device, "select"),
    FOREIGN KEY (device) REFERENCES app.device ON DELETE CASCADE DEFERRABLE
);
INSERT INTO app."Port (x)" SELECT 10 + 5 * (i % 50), i, 'p' || i FROM generate_series(1, 200) i;
CREATE TABLE app.tree (id int PRIMARY KEY, parent int REFERENCES app.tree ON DELETE SET NULL);
INSERT INTO app.tree VALUES (1, 2), (2, 1);
ALTER TABLE app.tree ADD CONSTRAINT later FOREIGN KEY (id) REFERENCES app.device NOT VALID;
CREATE TABLE app.hen (id int PRIMARY KEY, egg int);
CREATE TABLE app.egg (id int PRIMARY KEY, hen int REFERENCES app.hen);
ALTER TABLE app.hen ADD FOREIGN KEY (egg) REFERENCES app.egg DEFERRABLE INITIALLY DEFERRED;

CREATE INDEX by_mood ON app.device USING hash (mood);
CREATE INDEX by_search ON app.device USING gin (search);
CREATE UNIQUE INDEX by_expression ON app.device (lower(name), (ticket + 1) DESC NULLS LAST)
    INCLUDE (share) WHERE ticket < 1000;
CREATE INDEX by_seen ON app.device USING brin (seen) WITH (pages_per_range = 4);
ALTER INDEX app.by_expression ALTER COLUMN 1 SET STATISTICS 300;
ALTER TABLE app.device CLUSTER ON device_pkey;
COMMENT ON INDEX app.by_mood IS 'hash';
ALTER TABLE app.gap REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX port_identity ON app."Port (x)" ("select", device);
ALTER TABLE app."Port (x)" REPLICA IDENTITY USING INDEX port_identity;
CREATE STATISTICS app.related (dependencies, ndistinct) ON name, mood FROM app.device;
CREATE STATISTICS app.related_words ON (lower(name)), mood FROM app.device;

CREATE UNLOGGED TABLE app.scratch (id bigserial PRIMARY KEY, note text);
INSERT INTO app.scratch (note) VALUES ('unlogged');
CREATE TABLE app.typed OF app.address (number WITH OPTIONS DEFAULT 7 NOT NULL);
INSERT INTO app.typed (street) VALUES ('typed');
CREATE TABLE "Odd ""schema"" x"."Odd.table" ("Key" uuid PRIMARY KEY, "v%s" jsonb DEFAULT '{}');
INSERT INTO "Odd ""schema"" x"."Odd.table" VALUES (gen_random_uuid(), '{"a": [1, null]}');
CREATE TABLE public.plain (id serial PRIMARY KEY, at date DEFAULT CURRENT_DATE);
INSERT INTO public.plain (at) VALUES ('infinity'), ('0044-03-15 BC'), (NULL);
CREATE TABLE public.no_columns ();

CREATE TABLE app.animal (id int, name text DEFAULT 'an animal' CHECK (name <> ''), legs int);
CREATE TABLE app.dog (id int NOT NULL, barks bool DEFAULT true, CHECK (legs <= 4))
    INHERITS (app.animal);
ALTER TABLE app.dog ALTER COLUMN name SET DEFAULT 'a dog';
ALTER TABLE app.dog ALTER COLUMN legs SET NOT NULL;
CREATE TABLE app.puppy () INHERITS (app.dog);
ALTER TABLE app.puppy ALTER COLUMN name DROP DEFAULT;
INSERT INTO app.animal VALUES (1, 'cat', 4);
INSERT INTO app.dog VALUES (2, 'rex', 4, true);
INSERT INTO app.puppy VALUES (3, 'rexi', 4, false);

CREATE TABLE app.measure (at timestamptz NOT NULL, place text, kind int DEFAULT 1, value float8)
    PARTITION BY RANGE (at);
CREATE TABLE app.measure_2024 PARTITION OF app.measure
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE app.measure_2024_north PARTITION OF app.measure_2024 FOR VALUES IN (2, 5);
CREATE TABLE app.measure_2024_rest (value float8, extra int, kind int, place text,
    at timestamptz NOT NULL);
ALTER TABLE app.measure_2024_rest DROP COLUMN extra;
ALTER TABLE app.measure_2024 ATTACH PARTITION app.measure_2024_rest DEFAULT;
CREATE TABLE app.measure_2025 PARTITION OF app.measure
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.measure_other PARTITION OF app.measure DEFAULT WITH (fillfactor = 50);
ALTER TABLE app.measure_2025 ALTER COLUMN kind SET DEFAULT 5;
ALTER TABLE app.measure ADD CONSTRAINT positive CHECK (kind > 0);
ALTER TABLE app.measure_2025 ADD CONSTRAINT only_here CHECK (kind < 100);
ALTER TABLE app.measure ADD PRIMARY KEY (at, kind);
CREATE INDEX measure_value ON app.measure (value);
CREATE INDEX own_index ON app.measure_2025 (place);
INSERT INTO app.measure SELECT timestamptz '2024-01-01' + i * interval '7 days',
    CASE i % 3 WHEN 0 THEN 'n' WHEN 1 THEN 's' END, 1 + i % 3, i FROM generate_series(0, 150) i;
CREATE TABLE app.hashed (k text PRIMARY KEY, v int) PARTITION BY HASH (k);
CREATE TABLE app.hashed_0 PARTITION OF app.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.hashed_1 PARTITION OF app.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO app.hashed SELECT 'k' || i, i FROM generate_series(1, 100) i;
CREATE TABLE app.log (at timestamptz, kind int, text text,
    FOREIGN KEY (at, kind) REFERENCES app.measure);

CREATE VIEW app.happy WITH (security_barrier = true) AS
    SELECT d.id, d.name AS "Name", (d.place).number FROM app.device d WHERE d.mood > 'sad'
    WITH LOCAL CHECK OPTION;
CREATE VIEW app.ahappier AS SELECT * FROM app.happy WHERE id > 10;
CREATE VIEW app.grouped AS SELECT d.*, count(*) FROM app.device d JOIN app."Port (x)" p
    ON p.device = d.id GROUP BY d.id;
ALTER VIEW app.ahappier ALTER COLUMN id SET DEFAULT 3;
COMMENT ON VIEW app.happy IS 'view';
CREATE MATERIALIZED VIEW app.z_counts AS SELECT mood, count(*) AS n FROM app.device GROUP BY mood;
CREATE UNIQUE INDEX z_counts_mood ON app.z_counts (mood);
CREATE MATERIALIZED VIEW app.a_counts AS SELECT sum(n) AS n FROM app.z_counts;
CREATE MATERIALIZED VIEW app.empty AS SELECT 1 AS one WITH NO DATA;
CREATE FUNCTION app.all_devices() RETURNS SETOF app.happy LANGUAGE sql STABLE
    BEGIN ATOMIC SELECT * FROM app.happy; END;
CREATE FUNCTION app.device_name(app.device) RETURNS text LANGUAGE sql STABLE AS 'SELECT ($1).name';

CREATE RULE shout AS ON UPDATE TO app.ahappier DO INSTEAD
    UPDATE app.device SET name = upper(NEW."Name") WHERE id = OLD.id;
CREATE RULE silent AS ON DELETE TO app.tree DO ALSO NOTHING;
ALTER TABLE app.tree DISABLE RULE silent;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql
    AS $f$ BEGIN NEW.seen := 'epoch'; RETURN NEW; END $f$;
CREATE FUNCTION app.nothing() RETURNS trigger LANGUAGE plpgsql
    AS $f$ BEGIN RETURN NULL; END $f$;
CREATE TRIGGER touched BEFORE INSERT OR UPDATE OF name ON app.device
    FOR EACH ROW WHEN (NEW.ticket > 0) EXECUTE FUNCTION app.touch();
CREATE TRIGGER "Never" AFTER DELETE ON app.device REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION app.nothing();
ALTER TABLE app.device DISABLE TRIGGER "Never";
CREATE TRIGGER always AFTER INSERT ON app.tree FOR EACH ROW EXECUTE FUNCTION app.nothing();
ALTER TABLE app.tree ENABLE ALWAYS TRIGGER always;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.tree DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.nothing();
CREATE TRIGGER per_part AFTER INSERT ON app.measure FOR EACH ROW EXECUTE FUNCTION app.nothing();
ALTER TABLE app.measure_2025 DISABLE TRIGGER per_part;
COMMENT ON TRIGGER touched ON app.device IS 'trigger';

ALTER TABLE app.device ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.tree ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.tree FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.device USING (name = CURRENT_USER::text) WITH CHECK (true);
CREATE POLICY "Only read" ON app.device AS RESTRICTIVE FOR SELECT TO pg_monitor USING (id > 0);

GRANT USAGE ON SCHEMA app TO PUBLIC;
GRANT SELECT, INSERT ON app.device TO pg_monitor WITH GRANT OPTION;
GRANT UPDATE (name, mood) ON app.device TO PUBLIC;
GRANT USAGE ON SEQUENCE app.tickets TO pg_monitor;
GRANT SELECT ON app.happy TO PUBLIC;
REVOKE EXECUTE ON FUNCTION app.twice(int) FROM PUBLIC;
REVOKE USAGE ON TYPE app.mood FROM PUBLIC;
REVOKE DELETE ON app.gap FROM CURRENT_USER;
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO pg_monitor;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
"""
"""All kinds of objects that need no superuser; in transactions that end at the marks."""


def make(database: URL) -> None:
    """Make it all in an empty ``database``."""
    with connect(database) as db:
        for part in RICH.split("-- commit\n"):
            db.execute(part.encode())
