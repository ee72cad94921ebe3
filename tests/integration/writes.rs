//! Writing: A's rows change as they would alone; B's never do.

use crate::same::Pair;
use crate::support::postgres::server;

/// All of A's rows, as text, past the proxy.
const STATE_OF_A: &str = "SELECT jsonb_build_object(\
    'users', (SELECT jsonb_agg(to_jsonb(u) ORDER BY id) FROM users u WHERE tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'),\
    'orders', (SELECT jsonb_agg(to_jsonb(o) ORDER BY id) FROM orders o WHERE tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'),\
    'documents', (SELECT jsonb_agg(to_jsonb(d) ORDER BY id) FROM documents d WHERE tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'),\
    'items', (SELECT jsonb_agg(to_jsonb(i) ORDER BY id) FROM order_items i WHERE order_id < 100))::text";
/// All of B's rows, and the shared ones.
const STATE_OF_OTHERS: &str = "SELECT jsonb_build_object(\
    'users', (SELECT jsonb_agg(to_jsonb(u) ORDER BY id) FROM users u WHERE tenant_id <> 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'),\
    'orders', (SELECT jsonb_agg(to_jsonb(o) ORDER BY id) FROM orders o WHERE tenant_id <> 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'),\
    'documents', (SELECT jsonb_agg(to_jsonb(d) ORDER BY id) FROM documents d WHERE tenant_id <> 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'),\
    'items', (SELECT jsonb_agg(to_jsonb(i) ORDER BY id) FROM order_items i WHERE order_id >= 100),\
    'currencies', (SELECT jsonb_agg(to_jsonb(c) ORDER BY code) FROM currencies c))::text";

/// Statements that must look and work as on a database of A alone.
fn assert_same_and_harmless(statements: &[&str]) {
    let mut pair = Pair::new();
    let before = pair.world.truth(STATE_OF_OTHERS);
    pair.assert_same(statements);
    assert_eq!(pair.world.truth(STATE_OF_OTHERS), before, "B's rows changed");
    let alone = server().run(&pair.only_a, STATE_OF_A).value();
    assert_eq!(pair.world.truth(STATE_OF_A), alone, "A's rows differ");
    pair.world.finish();
}

#[test]
fn inserts_write_rows_of_the_tenant() {
    assert_same_and_harmless(&[
        "INSERT INTO users (id, tenant_id, email, name) VALUES (10, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'x@a', 'X')",
        "INSERT INTO users (id, tenant_id, email, name) VALUES (11, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'y@a', 'Y'), \
         (12, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'z@a', 'Z') RETURNING id, name",
        "INSERT INTO documents (id, tenant_id, title) SELECT id + 20, tenant_id, name FROM users WHERE id < 10 RETURNING id",
        "INSERT INTO documents (id, tenant_id) VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa')",
        "INSERT INTO documents (id, tenant_id, title) VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'new') ON CONFLICT (id) DO NOTHING",
        "INSERT INTO documents (id, tenant_id, title) VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'new') \
         ON CONFLICT (id) DO UPDATE SET title = excluded.title RETURNING id, title",
        "INSERT INTO users (id, tenant_id, email, name, credit) VALUES (13, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'w@a', 'W', -1)",
        "WITH i AS (INSERT INTO documents (id, tenant_id, title) VALUES (40, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'cte') RETURNING id) SELECT id FROM i",
        "INSERT INTO order_items (id, order_id, sku, qty, secret) VALUES (10, 1, 'S', 1, 's')",
    ]);
}

/// An order made in a CTE, and what comes of it.
fn order(id: i32, returning: &str, rest: &str) -> String {
    let order = "INSERT INTO orders (id, tenant_id, user_id, total) VALUES";
    let tenant = crate::support::TENANT_A;
    format!("WITH o AS ({order} ({id}, '{tenant}', 1, 5) {returning}) {rest}")
}

#[test]
fn a_parent_and_its_children_are_made_in_one_statement() {
    let items = "INSERT INTO order_items (id, order_id, sku, qty, secret)";
    let update = "ON CONFLICT (id) DO UPDATE SET note = 'again' RETURNING id";
    let statements = [
        order(
            60,
            "RETURNING id",
            &format!("{items} SELECT 60, id, 'S', 1, 's' FROM o RETURNING order_id"),
        ),
        order(
            61,
            "RETURNING total, id AS key",
            &format!("{items} SELECT 61, o.key, 'S', 1, 's' FROM o"),
        ),
        order(
            62,
            "RETURNING *",
            &format!("{items} VALUES (62, (SELECT id FROM o), 'S', 1, 's'), (63, 1, 'S', 1, 's')"),
        ),
        order(
            60,
            update,
            &format!(
                "{items} SELECT 64, id, 'S', 1, 's' FROM o UNION ALL SELECT 65, 2, 'S', 1, 's'"
            ),
        ),
        order(
            66,
            "RETURNING orders.id",
            &format!(
                "{items} VALUES (66, 66, 'S', 1, 's') ON CONFLICT (id) DO UPDATE SET order_id = 1"
            ),
        ),
        order(
            67,
            "RETURNING id",
            &format!(
                "{items} VALUES (66, 67, 'S', 1, 's') ON CONFLICT (id) DO UPDATE SET order_id = 67, qty = 9"
            ),
        ),
        order(
            68,
            "RETURNING id",
            &format!(
                ", i AS ({items} SELECT 68, id, 'S', 1, 's' FROM o RETURNING id) SELECT o.id, i.id FROM o, i"
            ),
        ),
    ];
    let statements: Vec<String> =
        statements.iter().map(|sql| sql.replace(") , i AS", "), i AS")).collect();
    assert_same_and_harmless(&statements.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_child_of_another_tenants_parent_is_refused_whatever_is_made_beside_it() {
    let mut pair = Pair::new();
    let before = pair.world.truth(STATE_OF_OTHERS);
    let items = "INSERT INTO order_items (id, order_id, sku, qty, secret)";
    let rows = |key: &str, from: &str| format!("{items} SELECT 70, {key}, 'S', 1, 's' FROM {from}");
    let tenant = crate::support::TENANT_A;
    for sql in [
        order(60, "RETURNING id", &rows("101", "o")),
        order(60, "RETURNING id", &rows("id + 41", "o")),
        order(60, "RETURNING id + 41 AS id", &rows("id", "o")),
        order(60, "RETURNING 101 AS id", &rows("id", "o")),
        order(60, "RETURNING id", &format!(", o2 AS (SELECT 101 AS id) {}", rows("id", "o2"))),
        // A CTE of the source's own hides the statement's.
        order(
            60,
            "RETURNING id",
            &format!("{items} WITH o AS (SELECT 101 AS id) SELECT 70, id, 'S', 1, 's' FROM o"),
        ),
        order(
            60,
            "RETURNING id",
            &format!(
                "{items} (WITH o AS (SELECT 101 AS id) SELECT 70, id, 'S', 1, 's' FROM o) UNION ALL SELECT 71, 1, 'S', 1, 's'"
            ),
        ),
        // Other rows are no parents.
        format!(
            "WITH o AS (INSERT INTO documents (id, tenant_id) VALUES (101101, '{tenant}') RETURNING 101 AS id, id AS x) {}",
            rows("id", "o")
        ),
        format!(
            "WITH o AS (INSERT INTO metrics.samples (id, tenant_id, value) VALUES (102, '{tenant}', 1) RETURNING id) {}",
            rows("id", "o")
        ),
        format!("WITH o AS (SELECT 101 AS id) {}", rows("id", "o")),
        format!("WITH o AS (SELECT 101 AS id FROM orders) {}", rows("id", "o")),
    ] {
        let sql = sql.replace(") , o2", "), o2");
        let outcome = pair.proxied.query(&sql);
        assert_eq!(outcome.denial_code(), "HR1011", "{sql} {outcome:?}");
        assert_eq!(pair.world.truth(STATE_OF_OTHERS), before, "{sql}");
    }
    pair.world.finish();
}

#[test]
fn an_insert_without_the_tenant_column_is_filled_with_the_tenant() {
    let pair = Pair::new();
    let (world, mut a) = (pair.world, pair.proxied);
    let outcome = a.query("INSERT INTO documents (id, title) VALUES (50, 'filled')");
    assert_eq!(outcome.tags(), ["INSERT 0 1"], "{outcome:?}");
    let tenant = world.truth("SELECT tenant_id::text FROM documents WHERE id = 50");
    assert_eq!(tenant, crate::support::TENANT_A);
    a.terminate();
    world.finish();
}

#[test]
fn a_child_of_another_tenants_row_cannot_be_inserted() {
    let pair = Pair::new();
    let (world, mut a) = (pair.world, pair.proxied);
    let outcome = a.query(
        "INSERT INTO order_items (id, order_id, sku, qty, secret) VALUES (11, 101, 'S', 1, 's')",
    );
    assert!(outcome.denied() || outcome.tags() == ["INSERT 0 0"], "{outcome:?}");
    assert_eq!(world.truth("SELECT count(*) FROM order_items WHERE id = 11"), "0");
    a.terminate();
    world.finish();
}

#[test]
fn updates_and_deletes_touch_rows_of_the_tenant() {
    assert_same_and_harmless(&[
        "UPDATE users SET name = 'Anna' WHERE id = 1",
        "UPDATE users SET name = 'hit' WHERE id = 101",
        "UPDATE users SET credit = credit + 1",
        "UPDATE users SET credit = credit + 1 WHERE true OR id = 1 RETURNING id, credit",
        "UPDATE orders o SET note = u.name FROM users u WHERE u.id = o.user_id RETURNING o.id, o.note",
        "UPDATE users u SET credit = (SELECT count(*) FROM orders o WHERE o.user_id = u.id)",
        "UPDATE users SET (name, credit) = ('Zed', 7) WHERE id = 3",
        "UPDATE users SET credit = -5 WHERE id = 3",
        "UPDATE order_items SET qty = qty + 1",
        "DELETE FROM order_items WHERE id = 101",
        "DELETE FROM order_items i USING orders o WHERE i.order_id = o.id AND o.total > 20 RETURNING i.id",
        "DELETE FROM documents WHERE true OR id = 1",
        "WITH d AS (DELETE FROM orders WHERE id = 3 RETURNING id) SELECT * FROM d",
        "WITH u AS (UPDATE users SET name = 'cte' RETURNING id) SELECT count(*) FROM u",
        "DELETE FROM order_items",
    ]);
}

#[test]
fn merge_reads_and_writes_rows_of_the_tenant() {
    assert_same_and_harmless(&[
        "MERGE INTO documents d USING users u ON d.id = u.id WHEN MATCHED THEN UPDATE SET title = u.name",
        "MERGE INTO documents d USING (VALUES (1, 'merged'), (101, 'stolen')) v(id, title) ON d.id = v.id \
         WHEN MATCHED THEN UPDATE SET title = v.title",
        "MERGE INTO documents d USING users u ON d.id = u.id AND u.id = 2 WHEN MATCHED THEN DELETE",
    ]);
}

#[test]
fn copy_of_a_query_to_the_client_shows_own_rows_only() {
    let mut pair = Pair::new();
    for sql in [
        "COPY (SELECT id, name FROM users ORDER BY id) TO STDOUT",
        "COPY (SELECT id, name FROM users ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)",
    ] {
        let (through, straight) = (pair.proxied.query(sql), pair.direct.query(sql));
        let data = |outcome: &crate::support::wire::Outcome| {
            outcome
                .messages
                .iter()
                .filter(|message| message.tag == b'd')
                .cloned()
                .collect::<Vec<_>>()
        };
        assert!(!data(&straight).is_empty());
        assert_eq!(data(&through), data(&straight), "{sql}: {through:?}");
        assert_eq!(through.tags(), straight.tags());
    }
    pair.world.finish();
}
