-- The demo's rows: about 100,000, of 20 tenants, the same on every run.

INSERT INTO tenants (id, name, plan, created_at)
SELECT ('00000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid, name,
       (ARRAY['free', 'team', 'enterprise'])[1 + number % 3],
       timestamptz '2023-01-09 08:00+00' + number * interval '19 days'
FROM unnest(ARRAY[
  'Acme Robotics', 'Birch & Sons Logistics', 'Cobalt Health', 'Dune Analytics', 'Elm Street Books',
  'Fjord Shipping', 'Granite Insurance', 'Harbor Foods', 'Iris Optics', 'Juniper Homes',
  'Kestrel Airways', 'Lumen Energy', 'Maple Schools', 'Northwind Traders', 'Opal Hotels',
  'Pioneer Seeds', 'Quartz Mining', 'Riverbank Credit', 'Sable Fashion', 'Tundra Sports'
]) WITH ORDINALITY AS list(name, number);

INSERT INTO currencies VALUES
  ('USD', 'US dollar', 1), ('EUR', 'Euro', 1.08), ('GBP', 'Pound sterling', 1.27),
  ('JPY', 'Yen', 0.0067), ('CHF', 'Swiss franc', 1.13);

INSERT INTO regions VALUES
  ('us-east-1', 'aws', 'N. Virginia'), ('eu-west-1', 'aws', 'Ireland'),
  ('europe-west4', 'gcp', 'Netherlands'), ('us-central1', 'gcp', 'Iowa'),
  ('westeurope', 'azure', 'Netherlands'), ('japaneast', 'azure', 'Tokyo');

-- 50 users each
INSERT INTO users (tenant_id, email, full_name, role, password_hash)
SELECT t.id,
       lower(first || '.' || last) || n || '@' || regexp_replace(lower(t.name), '[^a-z]+', '', 'g')
         || '.example',
       first || ' ' || last,
       CASE WHEN n = 1 THEN 'admin' WHEN n % 7 = 0 THEN 'analyst' ELSE 'member' END,
       'scrypt$' || md5(t.id::text || n)
FROM tenants t
CROSS JOIN generate_series(1, 50) AS n
CROSS JOIN LATERAL (SELECT
  (ARRAY['Ada', 'Bruno', 'Chen', 'Dora', 'Emeka', 'Freya', 'Gita', 'Hugo', 'Ines', 'Jonas'])
    [1 + (n * 7 + get_byte(uuid_send(t.id), 15)) % 10] AS first,
  (ARRAY['Almeida', 'Berg', 'Costa', 'Dahl', 'Eriksen', 'Fischer', 'Gupta', 'Haddad', 'Ito'])
    [1 + (n * 5 + get_byte(uuid_send(t.id), 15)) % 9] AS last) AS names
ORDER BY t.id, n;

-- 5 accounts each
INSERT INTO cloud_accounts (id, tenant_id, provider, account_number, name, currency)
SELECT md5('account' || t.id || n)::uuid, t.id,
       (ARRAY['aws', 'gcp', 'azure'])[1 + (number + n) % 3],
       lpad((100000000000 + number * 7919 * 1000 + n * 104729)::text, 12, '0'),
       (ARRAY['production', 'staging', 'data-platform', 'sandbox', 'shared-services'])[n],
       (ARRAY['USD', 'EUR', 'GBP', 'JPY', 'CHF'])[1 + number % 5]
FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM tenants) AS t
CROSS JOIN generate_series(1, 5) AS n
ORDER BY t.id, n;

-- 200 resources an account
INSERT INTO resources (account_id, kind, name, region, monthly_cost, tags)
SELECT a.id, kind, kind || '-' || lpad(n::text, 4, '0'),
       (SELECT r.code FROM regions r WHERE r.provider = a.provider ORDER BY r.code
        OFFSET n % 2 LIMIT 1),
       round((3 + ((n * 7919 + get_byte(uuid_send(a.id), 0) * 31) % 90000) / 100.0)::numeric, 2),
       jsonb_build_object('team', (ARRAY['core', 'web', 'data', 'ops'])[1 + n % 4], 'env', a.name)
FROM cloud_accounts a
CROSS JOIN generate_series(1, 200) AS n
CROSS JOIN LATERAL (SELECT
  (ARRAY['vm', 'disk', 'bucket', 'database', 'load-balancer'])[1 + n % 5] AS kind) AS k
ORDER BY a.tenant_id, a.id, n;

-- One recommendation for every fourth resource
INSERT INTO recommendations (tenant_id, resource_id, title, monthly_saving, status)
SELECT a.tenant_id, r.id,
       CASE r.kind WHEN 'vm' THEN 'Resize ' WHEN 'disk' THEN 'Delete unattached '
                   WHEN 'bucket' THEN 'Move to cold storage: ' ELSE 'Reserve for a year: ' END
         || r.name,
       round(r.monthly_cost * 0.3, 2),
       (ARRAY['open', 'accepted', 'dismissed'])[1 + (r.id % 3)::int]
FROM resources r JOIN cloud_accounts a ON a.id = r.account_id
WHERE r.id % 4 = 0
ORDER BY r.id;

INSERT INTO policies (tenant_id, name, rule, enabled)
SELECT t.id, list.name, jsonb_build_object('max_monthly_cost', 500 * number), number % 4 <> 0
FROM tenants t
CROSS JOIN unnest(ARRAY[
  'Tag every resource', 'No public buckets', 'Budget alert', 'Stop VMs at night', 'EU regions only',
  'Encrypt disks', 'Expire snapshots', 'Review idle databases', 'Limit GPU use', 'Approve reservations'
]) WITH ORDINALITY AS list(name, number)
ORDER BY t.id, number;

-- Two services a day and account, for the year 2025
INSERT INTO cost_metrics_daily (tenant_id, account_id, day, service, cost)
SELECT a.tenant_id, a.id, day::date, service,
       round((20 + (extract(doy FROM day) * 37 + get_byte(uuid_send(a.id), 1) * 11) % 400 / 7)::numeric, 4)
FROM cloud_accounts a
CROSS JOIN generate_series(timestamp '2025-01-01', timestamp '2025-12-31', interval '1 day') AS day
CROSS JOIN unnest(ARRAY['compute', 'storage']) AS service;

INSERT INTO vendor_margins VALUES ('aws', 11.5), ('gcp', 14), ('azure', 9.25);

INSERT INTO support_tickets (tenant_id, subject)
SELECT id, 'Cannot export the invoice of ' || name FROM tenants;

ANALYZE tenants, users, cloud_accounts, resources, recommendations, policies, cost_metrics_daily;
