//! Reading: every form of SELECT gives A what a database of A alone would give.

use crate::same::Pair;
use crate::support::fixture::World;

#[test]
fn plain_selects_and_joins_show_own_rows_only() {
    let mut pair = Pair::new();
    pair.assert_same(&[
        "SELECT id, name, secret FROM users ORDER BY id",
        "SELECT id, tenant_id, email, name, secret, credit FROM users",
        "SELECT * FROM orders ORDER BY id DESC",
        "SELECT * FROM public.orders",
        "TABLE currencies",
        "TABLE orders",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT 1 AS one, 'x'::text AS x, NULL AS nothing",
        "SELECT count(*) FROM users",
        "SELECT count(*), sum(credit), max(secret) FROM users",
        "SELECT secret FROM users WHERE id = 101",
        "SELECT secret FROM users WHERE id = 1 OR true ORDER BY 1",
        "SELECT secret FROM users WHERE NOT (id = 1) ORDER BY 1",
        "SELECT id FROM users WHERE tenant_id = 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'",
        "SELECT id FROM users WHERE lower(email) = 'ann@a.example'",
        "SELECT u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id",
        "SELECT u.name, o.total FROM users u LEFT JOIN orders o ON o.user_id = u.id ORDER BY u.id, o.id",
        "SELECT u.name, o.total FROM orders o RIGHT JOIN users u ON o.user_id = u.id ORDER BY u.id, o.id",
        "SELECT u.name, o.total FROM users u FULL JOIN orders o ON o.user_id = u.id AND o.total > 20 ORDER BY u.id, o.id",
        "SELECT c.code, u.name FROM currencies c LEFT JOIN users u ON u.id = 101 ORDER BY 1",
        "SELECT c.code, u.name FROM currencies c CROSS JOIN users u ORDER BY 1, 2",
        "SELECT a.id, b.id FROM users a, users b WHERE a.id < b.id ORDER BY 1, 2",
        "SELECT name, total FROM users JOIN orders USING (tenant_id) ORDER BY 1, 2",
        "SELECT o.id, i.sku FROM orders o JOIN order_items i ON i.order_id = o.id ORDER BY 1",
        "SELECT id, sku, qty FROM order_items ORDER BY id",
        "SELECT i.secret FROM order_items i WHERE i.qty > 0 OR true ORDER BY 1",
        "SELECT id, name FROM user_overview ORDER BY id",
        "SELECT id FROM metrics.samples",
        "SELECT id, payload FROM events ORDER BY id",
        "SELECT u.id, l.n FROM users u, LATERAL (SELECT count(*) AS n FROM orders o WHERE o.user_id = u.id) l ORDER BY 1",
        "SELECT u.id, l.note FROM users u LEFT JOIN LATERAL (SELECT note FROM orders o WHERE o.user_id = u.id ORDER BY o.id LIMIT 1) l ON true ORDER BY 1",
        "SELECT u.* FROM (SELECT id, name FROM users) AS u ORDER BY 1",
        "SELECT x, y FROM (SELECT id, name FROM users) AS u(x, y) ORDER BY 1",
        "SELECT \"u\".\"name\" AS \"Name\" FROM \"users\" AS \"u\" WHERE (\"u\".\"id\" IN (1, 2)) ORDER BY \"u\".\"id\" ASC LIMIT 10 OFFSET 0",
        "SELECT id FROM users ORDER BY id LIMIT ALL OFFSET 1",
        "SELECT count(*) FROM (SELECT id FROM users ORDER BY id LIMIT ALL) u",
    ]);
    pair.world.finish();
}

#[test]
fn subqueries_ctes_and_set_operations_show_own_rows_only() {
    let mut pair = Pair::new();
    pair.assert_same(&[
        "SELECT code, (SELECT count(*) FROM users) FROM currencies ORDER BY 1",
        "SELECT name FROM users WHERE id IN (SELECT user_id FROM orders) ORDER BY 1",
        "SELECT name FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id) ORDER BY 1",
        "SELECT name FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id) ORDER BY 1",
        "SELECT name FROM users WHERE credit = (SELECT max(credit) FROM users)",
        "SELECT name FROM users WHERE credit >= ALL (SELECT credit FROM users)",
        "SELECT CASE WHEN EXISTS (SELECT 1 FROM users WHERE id = 101) THEN 'hit' ELSE 'miss' END",
        "SELECT code FROM currencies ORDER BY (SELECT count(*) FROM users), code",
        "SELECT code FROM currencies ORDER BY code LIMIT (SELECT count(*) - 1 FROM users)",
        "SELECT tenant_id, count(*) FROM users GROUP BY tenant_id HAVING count(*) > (SELECT 0 FROM users LIMIT 1)",
        "WITH u AS (SELECT * FROM orders) SELECT id FROM u ORDER BY id",
        "WITH users AS (SELECT 1 AS id) SELECT id FROM users",
        "WITH a AS (SELECT id, name FROM users), b AS (SELECT * FROM a WHERE id > 1) SELECT * FROM b ORDER BY id",
        "WITH t AS MATERIALIZED (SELECT id FROM users) SELECT count(*) FROM t",
        "WITH RECURSIVE tree(id, title, depth) AS (SELECT id, title, 0 FROM documents WHERE parent IS NULL \
         UNION ALL SELECT d.id, d.title, t.depth + 1 FROM documents d JOIN tree t ON d.parent = t.id) SELECT * FROM tree ORDER BY id",
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n ORDER BY 1",
        "SELECT name FROM users UNION SELECT code FROM currencies ORDER BY 1",
        "SELECT id FROM users UNION ALL SELECT id FROM orders ORDER BY 1",
        "SELECT id FROM users INTERSECT VALUES (1), (101)",
        "SELECT id FROM users EXCEPT SELECT user_id FROM orders",
        "(SELECT id FROM users ORDER BY id LIMIT 1) UNION ALL (SELECT id FROM orders ORDER BY id DESC LIMIT 1) ORDER BY 1",
        "SELECT id FROM (SELECT id FROM users UNION SELECT id FROM orders) t ORDER BY 1",
        "SELECT g, u.name FROM generate_series(1, 3) g LEFT JOIN users u ON u.id = g ORDER BY 1",
    ]);
    pair.world.finish();
}

#[test]
fn aggregates_windows_and_locks_show_own_rows_only() {
    let mut pair = Pair::new();
    pair.assert_same(&[
        "SELECT user_id, sum(total) FROM orders GROUP BY user_id ORDER BY 1",
        "SELECT id, name, count(*) FROM users GROUP BY id ORDER BY id",
        "SELECT user_id, sum(total) FROM orders GROUP BY ROLLUP (user_id) ORDER BY 1 NULLS LAST",
        "SELECT count(*) FILTER (WHERE total > 15), avg(total) FROM orders",
        "SELECT string_agg(name, ',' ORDER BY name) FROM users",
        "SELECT DISTINCT user_id FROM orders ORDER BY 1",
        "SELECT DISTINCT ON (user_id) user_id, id FROM orders ORDER BY user_id, id DESC",
        "SELECT id, row_number() OVER (ORDER BY total DESC) FROM orders ORDER BY id",
        "SELECT id, sum(total) OVER w FROM orders WINDOW w AS (PARTITION BY user_id ORDER BY id) ORDER BY id",
        "SELECT id, lag(total, 1, 0) OVER (ORDER BY id) FROM orders ORDER BY id",
        "SELECT id FROM users ORDER BY id FOR UPDATE",
        "SELECT id FROM users WHERE id = 101 FOR UPDATE",
        "SELECT u.id FROM users u JOIN orders o ON o.user_id = u.id ORDER BY u.id, o.id FOR SHARE OF u",
        "SELECT id FROM users ORDER BY id FETCH FIRST 2 ROWS ONLY",
        "SELECT id FROM users WHERE name LIKE 'A%' AND credit BETWEEN 5 AND 25 ORDER BY id",
        "SELECT id FROM users WHERE 'x' = ANY (tags)",
        "SELECT id, meta ->> 'k' FROM documents ORDER BY id",
        "SELECT id FROM documents WHERE meta @> '{\"k\": 2}'",
        "SELECT id, coalesce(note, 'none'), upper(note), length(note) FROM orders ORDER BY id",
        "SELECT id, date_trunc('month', placed), extract(year FROM placed) FROM orders ORDER BY id",
        "SELECT slugify(name) FROM users ORDER BY 1",
        "SELECT id, CASE WHEN credit > 15 THEN 'rich' ELSE 'poor' END FROM users ORDER BY id",
        "SELECT id FROM users WHERE (id, name) = (1, 'Ann')",
        "SELECT current_date IS NOT NULL, now() IS NOT NULL",
        "EXPLAIN (COSTS OFF) SELECT 1",
    ]);
    pair.world.finish();
}

#[test]
fn errors_of_own_statements_are_the_servers_own() {
    let mut pair = Pair::new();
    pair.assert_same(&[
        "SELECT 1/0",
        "SELECT nosuchcolumn FROM users",
        "SELECT id FROM users WHERE id = 'x'",
        "SELECT count(*) FROM users GROUP BY nosuch",
        "SELECT id FROM users WHERE 1/(credit - 10) = 1",
        "SELECT 'abc'::int",
    ]);
    pair.world.finish();
}

#[test]
fn the_extended_protocol_shows_own_rows_only() {
    let mut pair = Pair::new();
    let cases: &[(&str, &[Option<&str>])] = &[
        ("SELECT id, name FROM users WHERE id = $1", &[Some("1")]),
        ("SELECT id, name FROM users WHERE id = $1", &[Some("101")]),
        ("SELECT id, name FROM users WHERE id >= $1 ORDER BY id", &[Some("1")]),
        ("SELECT $1::text, count(*) FROM users", &[Some("x")]),
        ("SELECT id FROM users WHERE name = $1 OR $1 IS NULL ORDER BY id", &[None]),
        ("SELECT id FROM orders WHERE user_id = ANY ($1) ORDER BY id", &[Some("{1,2,101}")]),
        ("SELECT id FROM users ORDER BY id LIMIT $1 OFFSET $2", &[Some("2"), Some("1")]),
        ("SELECT 1/$1::int", &[Some("0")]),
    ];
    let differences: Vec<String> = cases
        .iter()
        .filter_map(|(sql, parameters)| pair.difference_extended(sql, parameters))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    pair.world.finish();
}

#[test]
fn a_policys_own_condition_narrows_what_the_tenant_sees() {
    let world = World::new();
    let mut a = world.a();
    assert_eq!(a.query("SELECT id FROM regional").lines(), ["1"]);
    assert_eq!(a.query("SELECT id FROM regional WHERE true OR region = 'us'").lines(), ["1"]);
    a.terminate();
    world.finish();
}

#[test]
fn two_tenants_see_different_rows_by_the_same_text() {
    let world = World::new();
    let (mut a, mut b) = (world.a(), world.b());
    let sql = "SELECT id FROM users ORDER BY id";
    for _round in 0..3 {
        assert_eq!(a.query(sql).lines(), ["1", "2", "3"]);
        assert_eq!(b.query(sql).lines(), ["101", "102", "103"]);
    }
    a.terminate();
    b.terminate();
    world.finish();
}

#[test]
fn row_level_security_beneath_sees_the_verified_tenant() {
    let world = World::new();
    let (mut a, mut b) = (world.a(), world.b());
    assert_eq!(a.query("SELECT id FROM seen_by_rls").lines(), ["1"]);
    assert_eq!(b.query("SELECT id FROM seen_by_rls").lines(), ["101"]);
    a.terminate();
    b.terminate();
    world.finish();
}
