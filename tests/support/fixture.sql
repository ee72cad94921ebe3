-- Tenant A = aaaaaaaa-…, tenant B = bbbbbbbb-…; B's values hold B-SECRET or 4242nn, A's hold A-SECRET.
GRANT ALL ON SCHEMA public TO app_owner;
CREATE SCHEMA metrics AUTHORIZATION app_owner;
SET ROLE app_owner;
CREATE TABLE tenants (id uuid PRIMARY KEY, name text NOT NULL, api_key text NOT NULL);
CREATE TABLE users (
  id int PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, email text NOT NULL, name text NOT NULL,
  secret text NOT NULL DEFAULT 'NEW', credit int NOT NULL DEFAULT 0 CHECK (credit >= 0),
  password_hash text, tags text[] NOT NULL DEFAULT '{}', UNIQUE (tenant_id, email), UNIQUE (tenant_id, id));
CREATE INDEX ON users (tenant_id);
CREATE INDEX ON users (lower(email));
CREATE TABLE orders (
  id int PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, user_id int NOT NULL,
  total numeric(12,2) NOT NULL, note text, placed date NOT NULL DEFAULT '2026-06-01',
  FOREIGN KEY (tenant_id, user_id) REFERENCES users (tenant_id, id));
CREATE TABLE order_items (
  id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders ON DELETE CASCADE, sku text NOT NULL,
  qty int NOT NULL, secret text NOT NULL);
CREATE TABLE documents (id int PRIMARY KEY, tenant_id uuid NOT NULL, title text, meta jsonb, parent int);
CREATE TABLE events (tenant_id uuid NOT NULL, id bigint NOT NULL, day date NOT NULL, payload text,
  PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE price_list (id int PRIMARY KEY, tenant_id uuid NOT NULL, price numeric NOT NULL);
CREATE TABLE regional (id int PRIMARY KEY, tenant_id uuid NOT NULL, region text NOT NULL, secret text NOT NULL);
CREATE TABLE metrics.samples (id int PRIMARY KEY, tenant_id uuid NOT NULL, value int NOT NULL);
CREATE TABLE currencies (code text PRIMARY KEY, rate numeric NOT NULL);
CREATE TABLE vault (id int PRIMARY KEY, tenant_id uuid NOT NULL, secret text NOT NULL);
CREATE TABLE internal_keys (id int PRIMARY KEY, secret text NOT NULL);
CREATE VIEW user_overview AS SELECT id, tenant_id, name, secret FROM users;
CREATE VIEW order_totals AS SELECT sum(total) AS total, string_agg(note, ',') AS notes FROM orders;
CREATE FUNCTION slugify(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(replace($1, '' '', ''-''))';
CREATE FUNCTION all_secrets() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
  AS 'SELECT string_agg(secret, '','') FROM public.users';

INSERT INTO tenants VALUES
  ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'Tenant A', 'A-SECRET-APIKEY'),
  ('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'Tenant B', 'B-SECRET-APIKEY');
INSERT INTO users (id, tenant_id, email, name, secret, credit, password_hash, tags) VALUES
  (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'ann@a.example', 'Ann', 'A-SECRET-1', 10, 'A-SECRET-HASH-1', '{x,y}'),
  (2, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'art@a.example', 'Art', 'A-SECRET-2', 20, 'A-SECRET-HASH-2', '{y}'),
  (3, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'ada@a.example', 'Ada', 'A-SECRET-3', 30, 'A-SECRET-HASH-3', '{}'),
  (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'bob@b.example', 'Bob', 'B-SECRET-101', 424201, 'B-SECRET-HASH-1', '{x}'),
  (102, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'bea@b.example', 'Bea', 'B-SECRET-102', 424202, 'B-SECRET-HASH-2', '{z}'),
  (103, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'ann@a.example', 'Ann', 'B-SECRET-103', 424203, 'B-SECRET-HASH-3', '{}');
INSERT INTO orders (id, tenant_id, user_id, total, note, placed) VALUES
  (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 1, 11.00, 'A-SECRET-ORDER-1', '2026-01-15'),
  (2, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 2, 22.00, 'A-SECRET-ORDER-2', '2026-02-15'),
  (3, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 2, 33.00, NULL, '2026-03-15'),
  (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 101, 4242.01, 'B-SECRET-ORDER-101', '2026-01-15'),
  (102, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 102, 4242.02, 'B-SECRET-ORDER-102', '2026-02-15');
INSERT INTO order_items VALUES
  (1, 1, 'SKU-1', 1, 'A-SECRET-ITEM-1'), (2, 2, 'SKU-2', 2, 'A-SECRET-ITEM-2'),
  (101, 101, 'SKU-1', 1, 'B-SECRET-ITEM-101'), (102, 102, 'SKU-9', 9, 'B-SECRET-ITEM-102');
INSERT INTO documents VALUES
  (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'root', '{"k": "A-SECRET-DOC"}', NULL),
  (2, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'leaf', '{"k": 2}', 1),
  (3, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'leaf of leaf', NULL, 2),
  (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'B-SECRET-ROOT', '{"k": "B-SECRET-DOC"}', NULL),
  (102, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'B-SECRET-LEAF', '{"k": 424207}', 1);
INSERT INTO events VALUES
  ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 1, '2025-05-01', 'A-SECRET-EVENT-1'),
  ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 2, '2026-05-01', 'A-SECRET-EVENT-2'),
  ('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 101, '2025-05-01', 'B-SECRET-EVENT-101'),
  ('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 102, '2026-05-01', 'B-SECRET-EVENT-102');
INSERT INTO price_list VALUES
  (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 1.5), (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 424210);
INSERT INTO regional VALUES
  (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'eu', 'A-SECRET-EU'),
  (2, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'us', 'A-SECRET-US'),
  (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'eu', 'B-SECRET-EU');
INSERT INTO metrics.samples VALUES
  (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 5), (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 424211);
INSERT INTO currencies VALUES ('EUR', 1.0), ('USD', 1.1), ('GBP', 0.9);
INSERT INTO vault VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'A-SECRET-VAULT'),
  (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'B-SECRET-VAULT');
INSERT INTO internal_keys VALUES (1, 'B-SECRET-INTERNAL');
GRANT USAGE ON SCHEMA metrics TO app_user;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public, metrics TO app_user;
-- One table answers with the session's variable: what RLS would see.
CREATE TABLE seen_by_rls (id int PRIMARY KEY, tenant_id uuid NOT NULL);
INSERT INTO seen_by_rls VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'), (101, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb');
ALTER TABLE seen_by_rls ENABLE ROW LEVEL SECURITY;
ALTER TABLE seen_by_rls FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON seen_by_rls USING (tenant_id::text = current_setting('app.current_tenant', true));
GRANT SELECT ON seen_by_rls TO app_user;
RESET ROLE;
