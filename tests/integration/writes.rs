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
