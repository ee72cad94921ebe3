-- Statements that the oracle (tests/oracle) found different through the proxy, reduced; its schema.
-- The guards of a relation that the ON of an inner join tree cannot name (42P01).
SELECT a14.id FROM ((currencies AS x12 JOIN regional AS a13 ON a13.n >= 0 AND (NULL IS DISTINCT FROM ARRAY['6', '7'])) RIGHT JOIN orders AS a14 ON a14.id = a13.id)
UPDATE orders AS u SET ref = NULL FROM (regional AS a1 JOIN stock AS a2 ON a1.id = a2.id AND (NULL IN (NULL, ARRAY['2', '7'])))
UPDATE accounts AS u SET ratio = 4.5 FROM (notes AS a1 JOIN account_view AS a2(k1, k2, k3, k4, k5, k6) ON true AND (NOT EXISTS (SELECT 1.5 AS c4, ARRAY[NULL] AS c6 FROM public.events AS a3)))
-- The same under an alias of the join tree.
SELECT j8.q1 FROM (orders AS a2 LEFT JOIN ((account_view AS a5 JOIN regional AS a6(k1, k2, k3, k4, k5) ON 1 = a6.k1) LEFT JOIN accounts AS a7 ON a7.id = 1) AS j8(q1) ON a2.id = 1)
UPDATE events AS u SET val = 5 FROM (orders AS a1 RIGHT JOIN regional AS a2 ON 1 = a2.n) AS j3(q1) WHERE q1 > 2
-- A guard of the target where MERGE has none.
MERGE INTO regional AS u USING orders AS s ON u.id = s.id WHEN NOT MATCHED AND (NULL IS DISTINCT FROM ARRAY['0', '7']) THEN INSERT (id, region, secret, n) VALUES (s.id + 1003, 'eu', '5', 4)
-- Guards of a sibling in a derived table that is not LATERAL.
SELECT count(*) FROM accounts AS a, (SELECT 1 AS x FROM currencies WHERE ARRAY['1'] IS DISTINCT FROM ARRAY['2']) AS d
-- A derived table in an aliased join tree was merged, and nobody raised its barrier (the checker denied it: HR1009).
SELECT j.q1 FROM ((SELECT name, id FROM accounts) AS d JOIN currencies AS c ON true) AS j(q1, q2, q3, q4, q5, q6) WHERE trip(q1)
SELECT 1 FROM ((SELECT code, id FROM accounts) AS d JOIN currencies AS c ON (d.code)::int > 1) AS j(q1, q2, q3, q4, q5, q6) WHERE spy(q2) > 1
-- LEAK: a LATERAL sub-query without FROM was merged, and its expression met every row.
SELECT u.n FROM items AS i CROSS JOIN LATERAL (SELECT spy(i.sku) AS n) AS u WHERE u.n > ''
SELECT u.n FROM accounts AS i CROSS JOIN LATERAL (SELECT spy(i.name) AS n) AS u WHERE u.n > ''
SELECT u.n FROM accounts AS i CROSS JOIN LATERAL (SELECT v.n FROM (SELECT spy(i.name) AS n) AS v WHERE v.n > '') AS u
SELECT u.n FROM accounts AS i CROSS JOIN LATERAL (VALUES (spy(i.name))) AS u(n) WHERE u.n > ''
SELECT u.n FROM accounts AS i CROSS JOIN LATERAL (SELECT i.name AS n) AS u WHERE trip(u.n)
SELECT u.n FROM accounts AS i LEFT JOIN LATERAL (SELECT spy(i.name) AS n) AS u ON u.n > '' WHERE u.n < 'zz'
-- Columns of relations without a guard beside one with a guard were denied (HR1009).
SELECT u.n FROM items AS i, regexp_split_to_table(i.sku, '-') AS u(n) WHERE trip(u.n)
SELECT u.n FROM accounts AS i, unnest(i.tags) AS u(n) WHERE trip(u.n)
SELECT a.id FROM accounts AS a, currencies AS c WHERE c.label::int > 1
DELETE FROM events AS u USING currencies AS a1 WHERE ((a1.rate)::int2::int IS NULL)
-- WHEN NOT MATCHED has no target, and its sources are apart: nothing to shield (HR1009).
MERGE INTO notes AS u USING accounts AS s ON u.id = s.id WHEN NOT MATCHED AND (spy(s.credit) > 1) THEN INSERT (id, owner, rank) VALUES (s.id + 1141, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 2)
-- A guard of an outer relation within an aggregate made it an aggregate of another query (42803 without the proxy only).
SELECT a.tenant_id, (SELECT max(abs(3.5)) FILTER (WHERE EXISTS (SELECT 1 FROM currencies AS c JOIN currencies AS d ON c.ord = d.ord AND (ARRAY['5'] >= ARRAY['1'] OR '{"k": 2}'::jsonb >= '{"k": 0}'::jsonb) WHERE c.label < a.name)) FROM stock AS s) FROM accounts AS a
SELECT (SELECT max(abs(3.5)) FILTER (WHERE EXISTS (SELECT 1 FROM currencies AS c JOIN currencies AS d ON c.ord = d.ord AND (ARRAY['5'] >= ARRAY['1'] OR '{"k": 2}'::jsonb >= '{"k": 0}'::jsonb) WHERE c.label < a.name)) FROM stock AS s) FROM accounts AS a
SELECT sum((SELECT s.n FROM stock AS s WHERE s.n = a.parent AND spy(s.id) > 1 AND spy(a.credit) > 0 AND '1'::text::int = 1 LIMIT 1)) FROM accounts AS a
-- A guard of an outer relation in what is computed of groups named a column without a group (42803).
SELECT a.name, (SELECT c.rate FROM currencies AS c WHERE ARRAY['0', '7'] IS NOT NULL ORDER BY 1 LIMIT 1) AS x FROM accounts AS a GROUP BY a.name
SELECT a.name FROM accounts AS a GROUP BY a.name HAVING EXISTS (SELECT 1 FROM currencies AS c WHERE c.ord > 10 / length(a.name))
SELECT count(*), (SELECT 1 FROM orders AS o WHERE spy(o.qty) > 2 AND ARRAY['0', '7'] IS NOT NULL LIMIT 1) AS x FROM accounts AS a
SELECT a.credit, (SELECT count(*) FROM orders AS o WHERE trip(o.note) AND o.qty > 10 / (a.credit + 1)) AS x FROM accounts AS a GROUP BY a.credit
-- WITH RECURSIVE does not keep apart a CTE that does not read itself: a condition met B's rows through it.
WITH RECURSIVE w1 AS (SELECT a2.* FROM accounts AS a2) SELECT 1 AS c10 FROM (w1 AS x8 RIGHT JOIN generate_series(1, 3) AS g9(n) ON true AND trip(x8.name))
WITH RECURSIVE w1 AS (SELECT * FROM w2 WHERE trip(name)), w2 AS (SELECT * FROM accounts) SELECT count(*) FROM w1
-- GROUP BY a primary key under FULL JOIN and USING, and LATERAL beside what it cannot name, were errors behind the proxy only.
SELECT a1.name, count(a2.id) FROM accounts AS a1 FULL JOIN orders AS a2 ON a1.id = a2.account_id GROUP BY a1.id ORDER BY 1, 2
SELECT a1.note, a2.id FROM orders AS a1 RIGHT JOIN notes AS a2 USING (id) GROUP BY a1.id, 2 ORDER BY 1, 2
DELETE FROM regional AS u USING (currencies AS a1 LEFT JOIN LATERAL (SELECT true AS c3 FROM notes AS a2 WHERE (a1.label)::int::bool ORDER BY 1 LIMIT 4) AS d4 ON true) WHERE u.id = 1
