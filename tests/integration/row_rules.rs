//! What a row rule says of rows that are written, and what stands on a cursor: a row that is made or
//! changed satisfies the policy's `where`, as WITH CHECK of row-level security has it.

use crate::support::TENANT_A;
use crate::support::fixture::World;
use crate::support::wire::WireClient;

fn regional(world: &World) -> String {
    world.truth("SELECT string_agg(concat_ws(' ', id, region), ', ' ORDER BY id) FROM regional")
}

fn denied(client: &mut WireClient, sql: &str, code: &str) {
    let outcome = client.query(sql);
    assert_eq!(outcome.denial_code(), code, "{sql}: {outcome:?}");
}

fn runs(client: &mut WireClient, sql: &str, tag: &str) {
    let outcome = client.query(sql);
    assert_eq!(outcome.tags(), [tag], "{sql}: {outcome:?}");
}

#[test]
fn a_row_that_is_written_satisfies_the_row_rule_or_the_statement_fails() {
    let world = World::new();
    let mut a = world.a();
    let before = regional(&world);
    for sql in [
        "INSERT INTO regional (id, region, secret) VALUES (7, 'us', 'A')",
        "INSERT INTO regional (id, region, secret) VALUES (7, 'eu', 'A'), (8, 'us', 'A')",
        "INSERT INTO regional (id, region, secret) VALUES (7, NULL, 'A')",
        "INSERT INTO regional (id, region, secret) VALUES (7, lower('US'), 'A')",
        "INSERT INTO regional (id, region, secret) SELECT 7, name, 'A' FROM users",
        "INSERT INTO regional SELECT id + 6, tenant_id, 'us', secret FROM regional",
        "INSERT INTO regional (id, region, secret) SELECT 7, 'eu', 'A' UNION ALL SELECT 8, 'us', 'A'",
        "INSERT INTO regional (id, secret) VALUES (7, 'A')",
        "INSERT INTO regional (id, region, secret) VALUES (7, DEFAULT, 'A')",
        "INSERT INTO regional DEFAULT VALUES",
        "INSERT INTO regional (id, region, secret) VALUES (1, 'eu', 'A') ON CONFLICT (id) DO UPDATE SET region = 'us'",
        "INSERT INTO regional (id, region, secret) VALUES (1, 'us', 'A') ON CONFLICT (id) DO UPDATE SET region = excluded.region",
        "UPDATE regional SET region = 'us'",
        "UPDATE regional SET region = NULL WHERE id = 1",
        "UPDATE regional SET region = upper(region)",
        "UPDATE regional r SET region = u.name FROM users u WHERE u.id = r.id",
        "UPDATE regional SET (region, secret) = ('us', 'A')",
        "UPDATE regional SET region = DEFAULT",
        "MERGE INTO regional r USING users u ON r.id = u.id WHEN MATCHED THEN UPDATE SET region = 'us'",
        "MERGE INTO regional r USING users u ON r.id = u.id + 6 WHEN NOT MATCHED THEN INSERT (id, region, secret) VALUES (u.id + 6, u.name, 'A')",
        "WITH w AS (UPDATE regional SET region = 'us' RETURNING id) SELECT * FROM w",
    ] {
        denied(&mut a, sql, "HR1011");
        assert_eq!(regional(&world), before, "{sql}");
    }
    let outcome = a.extended(
        "INSERT INTO regional (id, region, secret) VALUES ($1, $2, 'A')",
        &[Some("7"), Some("us")],
    );
    assert_eq!(outcome.denial_code(), "HR1011");
    assert_eq!(regional(&world), before);
    world.finish();
}

#[test]
fn a_row_within_the_rule_is_written_as_on_a_plain_connection() {
    let world = World::new();
    let mut a = world.a();
    for (sql, tag) in [
        ("INSERT INTO regional (id, region, secret) VALUES (7, 'eu', 'A')", "INSERT 0 1"),
        (
            "INSERT INTO regional (id, region, secret) VALUES (8, lower('EU'), 'A'), (9, 'e' || 'u', 'A')",
            "INSERT 0 2",
        ),
        (
            "INSERT INTO regional SELECT id + 20, tenant_id, region, secret FROM regional",
            "INSERT 0 4",
        ),
        ("UPDATE regional SET secret = 'changed' WHERE id = 7", "UPDATE 1"),
        ("UPDATE regional SET region = 'eu', secret = 'x' WHERE id > 6", "UPDATE 7"),
        ("UPDATE regional SET region = region WHERE id = 1", "UPDATE 1"),
        (
            "INSERT INTO regional (id, region, secret) VALUES (7, 'eu', 'y') ON CONFLICT (id) DO UPDATE SET region = excluded.region, secret = excluded.secret",
            "INSERT 0 1",
        ),
        (
            "MERGE INTO regional r USING (VALUES (7, 'eu'), (10, 'eu')) v(id, region) ON r.id = v.id WHEN MATCHED THEN UPDATE SET region = v.region WHEN NOT MATCHED THEN INSERT (id, region, secret) VALUES (v.id, v.region, 'A')",
            "MERGE 2",
        ),
        ("DELETE FROM regional WHERE id > 6", "DELETE 8"),
    ] {
        runs(&mut a, sql, tag);
    }
    let outcome = a.extended(
        "INSERT INTO regional (id, region, secret) VALUES ($1, $2, $3) RETURNING region",
        &[Some("7"), Some("eu"), Some("A")],
    );
    assert_eq!(outcome.lines(), ["eu"], "{outcome:?}");
    let sql =
        format!("INSERT INTO regional VALUES (8, '{TENANT_A}', 'eu', 'A') ON CONFLICT DO NOTHING");
    runs(&mut a, &sql, "INSERT 0 1");
    a.terminate();
    world.finish();
}

#[test]
fn the_row_under_a_cursor_is_changed_and_no_other() {
    let world = World::new();
    let mut a = world.a();
    a.query("BEGIN");
    runs(
        &mut a,
        "DECLARE c CURSOR FOR SELECT id, name FROM users ORDER BY id FOR UPDATE",
        "DECLARE CURSOR",
    );
    assert_eq!(a.query("FETCH 2 FROM c").rows().len(), 2);
    runs(&mut a, "UPDATE users SET name = 'Arthur' WHERE CURRENT OF c", "UPDATE 1");
    assert_eq!(
        a.query("UPDATE users SET name = name WHERE CURRENT OF c RETURNING name").lines(),
        ["Arthur"]
    );
    a.query("SAVEPOINT s");
    // What the row may become is checked as ever.
    let moved =
        format!("UPDATE users SET tenant_id = '{}' WHERE CURRENT OF c", crate::support::TENANT_B);
    denied(&mut a, &moved, "HR1012");
    a.query("ROLLBACK TO s");
    let joined = "UPDATE users SET name = o.note FROM orders o WHERE CURRENT OF c";
    assert!(!a.query(joined).errors().is_empty());
    a.query("ROLLBACK TO s");
    denied(&mut a, "UPDATE users SET password_hash = 'x' WHERE CURRENT OF c", "HR1010");
    a.query("ROLLBACK TO s");
    denied(&mut a, "DELETE FROM vault WHERE CURRENT OF c", "HR1004");
    a.query("ROLLBACK TO s");
    assert_eq!(a.query("DELETE FROM orders WHERE CURRENT OF c").sqlstate(), "24000");
    a.query("ROLLBACK TO s");
    assert_eq!(a.query("DELETE FROM users WHERE CURRENT OF nobody").sqlstate(), "34000");
    a.query("ROLLBACK TO s");
    a.query("DELETE FROM orders WHERE user_id = 2");
    runs(&mut a, "DELETE FROM users WHERE CURRENT OF c", "DELETE 1");
    a.query("COMMIT");
    assert_eq!(
        world.truth("SELECT string_agg(name, ',' ORDER BY id) FROM users"),
        "Ann,Ada,Bob,Bea,Ann"
    );
    a.terminate();
    world.finish();
}
