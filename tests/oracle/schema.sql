-- {T}: the tenant column's type; {A}, {B}: the tenants. A's ids are below 100, foreign rows' ids are
-- 101 to 399 (B 101.., no tenant 201.., A outside its region 301..), rows that a test adds 1000 and up.
-- B's texts hold B-SECRET, B's numbers are 4242nn, and each column has its trick (tables.rs): what A's
-- values survive and B's values fail at.
GRANT ALL ON SCHEMA public TO app_owner;
SET ROLE app_owner;
CREATE TABLE accounts (
  id int PRIMARY KEY, tenant_id {T} NOT NULL, name text NOT NULL, code text, credit int CHECK (credit > -1000),
  balance numeric, ratio float8, meta jsonb, tags text[], born timestamptz, parent int, flag bool);
CREATE INDEX ON accounts (tenant_id); CREATE INDEX ON accounts (name); CREATE INDEX ON accounts (lower(name));
CREATE INDEX ON accounts (credit); CREATE INDEX ON accounts USING gin (meta); CREATE INDEX ON accounts USING gin (tags);
CREATE INDEX ON accounts (parent, tenant_id);
CREATE TABLE orders (
  id int PRIMARY KEY, tenant_id {T} NOT NULL, account_id int, total numeric, qty int, note text, ref text,
  placed date, uid uuid);
CREATE INDEX ON orders (account_id); CREATE INDEX ON orders (tenant_id, placed); CREATE INDEX ON orders (qty);
CREATE TABLE items (
  id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders ON DELETE CASCADE, sku text, amount int, price numeric);
CREATE INDEX ON items (order_id); CREATE INDEX ON items (sku);
CREATE TABLE notes (id int PRIMARY KEY, owner text, body text, rank int, doc jsonb);
CREATE INDEX ON notes (owner); CREATE INDEX ON notes USING gin (doc);
CREATE TABLE regional (id int PRIMARY KEY, tenant_id {T} NOT NULL, region text NOT NULL, secret text, n int);
CREATE INDEX ON regional (region); CREATE INDEX ON regional (n);
CREATE TABLE events (id int NOT NULL, tenant_id {T} NOT NULL, day date NOT NULL, kind text, payload text, val int,
  PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON events (val); CREATE INDEX ON events (tenant_id);
CREATE TABLE stock (id int NOT NULL UNIQUE, tenant_id {T} NOT NULL, sku text NOT NULL, label text, n int,
  PRIMARY KEY (tenant_id, sku));
CREATE VIEW account_view AS SELECT id, tenant_id, name, code, credit, meta FROM accounts;
CREATE TABLE currencies (code text PRIMARY KEY, rate numeric NOT NULL, label text, ord int);
-- Spies tell of every foreign value that they are evaluated on, and cost so little that the planner
-- likes to evaluate them first.
CREATE FUNCTION spy(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$
  BEGIN IF value ~ 'B-SECRET|4242' THEN RAISE NOTICE 'spy saw a text: %', value; END IF; RETURN value; END $$;
CREATE FUNCTION spy(value int) RETURNS int LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$
  BEGIN IF value BETWEEN 100 AND 399 OR value BETWEEN 424200 AND 424299 THEN
    RAISE NOTICE 'spy saw an integer: %', value; END IF; RETURN value; END $$;
CREATE FUNCTION spy(value numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$
  BEGIN IF value BETWEEN 424200 AND 424299 THEN RAISE NOTICE 'spy saw a numeric: %', value; END IF; RETURN value; END $$;
CREATE FUNCTION trip(value text) RETURNS bool LANGUAGE plpgsql STABLE COST 0.0001 AS $$
  BEGIN IF value ~ 'B-SECRET|4242' THEN RAISE EXCEPTION 'tripped over %', value; END IF; RETURN true; END $$;

INSERT INTO accounts SELECT i, '{A}', 'ann-' || i % 5, (i % 7)::text, i % 6, i % 4 + 0.5, i % 3 + 0.25,
  jsonb_build_object('k', i % 4, 'tag', 'a' || i % 3), ARRAY[(i % 3)::text, '7'], '2026-01-01Z'::timestamptz + i * interval '1 day',
  CASE WHEN i > 3 THEN i / 3 END, i % 2 = 0 FROM generate_series(1, 10) i;
INSERT INTO accounts SELECT 100 + i, '{B}', CASE WHEN i < 3 THEN 'ann-' || i ELSE 'B-SECRET-' || i END, 'B-SECRET-CODE-' || i, 424200 + i, 424200.5 + i, 424200.5 + i,
  jsonb_build_object('k', 'B-SECRET-META-' || i, 'tag', 'a1'), ARRAY['B-SECRET-TAG-' || i], '4242-01-01Z'::timestamptz + i * interval '1 day',
  CASE WHEN i > 3 THEN 100 + i / 3 ELSE i END, i % 2 = 0 FROM generate_series(1, 12) i;
INSERT INTO orders SELECT i, '{A}', i % 10 + 1, i * 1.5, i % 5, CASE WHEN i % 4 > 0 THEN 'pat' || i % 4 || '%' END,
  format('00000000-0000-4000-8000-%s', lpad(i::text, 12, '0')), date '2026-01-01' + i, format('00000000-0000-4000-8000-%s', lpad((i % 4)::text, 12, '0'))::uuid
  FROM generate_series(1, 12) i;
INSERT INTO orders SELECT 100 + i, '{B}', CASE WHEN i < 4 THEN i ELSE 100 + i END, 424200 + i, 424200 + i, 'B-SECRET-NOTE-' || i || '\',
  'B-SECRET-REF-' || i, date '4242-01-01' + i, 'b5ec7e70-0000-4000-8000-000000000001' FROM generate_series(1, 12) i;
INSERT INTO items SELECT i, i % 12 + 1, (i % 5)::text, i % 6, i % 4 + 0.5 FROM generate_series(1, 14) i;
INSERT INTO items SELECT 100 + i, 100 + i, 'B-SECRET-SKU-' || i, 424200 + i, 424200.5 + i FROM generate_series(1, 12) i;
INSERT INTO notes SELECT i, '{A}', format('{"k": %s}', i % 3), i % 4, jsonb_build_object('k', i % 3) FROM generate_series(1, 8) i;
INSERT INTO notes SELECT 100 + i, '{B}', 'B-SECRET-BODY-' || i, 424200 + i, jsonb_build_object('k', 'B-SECRET-DOC-' || i) FROM generate_series(1, 8) i;
INSERT INTO notes SELECT 200 + i, NULL, 'B-SECRET-NOBODY-' || i, 424220 + i, NULL FROM generate_series(1, 4) i;
INSERT INTO regional SELECT i, '{A}', 'eu', (i % 5)::text, i % 4 FROM generate_series(1, 6) i;
INSERT INTO regional SELECT 100 + i, '{B}', 'eu', 'B-SECRET-EU-' || i, 424200 + i FROM generate_series(1, 6) i;
INSERT INTO regional SELECT 300 + i, '{A}', 'us', 'B-SECRET-US-' || i, 424230 + i FROM generate_series(1, 4) i;
INSERT INTO events SELECT i, '{A}', CASE WHEN i % 2 = 0 THEN date '2025-03-01' ELSE date '2026-03-01' END + i, 'pg_class', '2026-02-0' || i % 8 + 1, i % 5
  FROM generate_series(1, 10) i;
INSERT INTO events SELECT 100 + i, '{B}', CASE WHEN i % 2 = 0 THEN date '2025-03-01' ELSE date '2026-03-01' END + i, 'b-secret-kind-' || i, 'B-SECRET-PAYLOAD-' || i, 424200 + i
  FROM generate_series(1, 10) i;
INSERT INTO stock SELECT i, '{A}', 'sku-' || i, (i % 5)::text, i % 4 FROM generate_series(1, 6) i;
INSERT INTO stock SELECT 100 + i, '{B}', CASE WHEN i < 4 THEN 'sku-' || i ELSE 'B-SECRET-' || i END, 'B-SECRET-LABEL-' || i, 424200 + i FROM generate_series(1, 6) i;
INSERT INTO currencies VALUES ('EUR', 1, '1', 1), ('USD', 1.1, '2', 2), ('GBP', 0.9, '3', 3);
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_user;
RESET ROLE;
CREATE SCHEMA pristine;
