//! Monitor mode: what would be denied is recorded and let through, still bound to the tenant where it
//! can be; what is never let through.

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;

fn world(policy: &str) -> World {
    World::with(&Options::new(policy))
}

#[test]
fn a_file_that_monitors_lets_through_and_records_what_it_would_deny() {
    let world = world(&POLICY.replace("engine: postgres\n", "engine: postgres\nmode: monitor\n"));
    let mut a = world.a();
    for (code, sql, value) in [
        ("HR1003", "SELECT count(*) FROM internal_keys", "1"),
        ("HR1003", "SELECT count(*) FROM users u, internal_keys", "3"),
        ("HR1004", "SELECT count(*) FROM vault", "2"),
        ("HR1005", "SELECT all_secrets() IS NULL", "f"),
        ("HR1010", "SELECT count(password_hash) FROM users", "3"),
        ("HR1010", "SELECT id FROM users WHERE password_hash = 'A-SECRET-HASH-2'", "2"),
    ] {
        assert_eq!(a.query(sql).value(), value, "{sql}");
        assert_eq!(a.extended(sql, &[]).value(), value, "{sql}, extended");
        let word = sql.split_whitespace().last().unwrap();
        let record = world.hedgerow.record_with(&["would_deny", code]);
        assert!(record.to_string().contains("\"severity_id\":3"), "{word}: {record}");
    }
    assert_eq!(a.query("UPDATE price_list SET price = 9").tags(), ["UPDATE 1"], "own rows only");
    assert_eq!(a.query("INSERT INTO currencies VALUES ('CHF', 1)").tags(), ["INSERT 0 1"]);
    // What is allowed is recorded as ever.
    a.query("SELECT id AS allowed_as_ever FROM orders");
    let record = world.hedgerow.record_with(&["allowed_as_ever"]).to_string();
    assert!(!record.contains("would_deny"), "{record}");
    world.hedgerow.kill();
}

#[test]
fn some_things_are_denied_whatever_is_monitored() {
    let world = world(&POLICY.replace("engine: postgres\n", "engine: postgres\nmode: monitor\n"));
    let mut a = world.a();
    for (code, sql) in [
        ("HR1002", "DROP TABLE users"),
        ("HR1002", "DO $$ BEGIN END $$"),
        ("HR1002", "TRUNCATE orders"),
        ("HR1005", "SELECT pg_read_file('PG_VERSION')"),
        ("HR1005", "SELECT set_config('app.current_tenant', 'x', false)"),
        ("HR1006", "SET app.current_tenant = 'x'"),
        ("HR1006", "SET row_security = off"),
        ("HR1007", "SELECT * FROM pg_stats"),
        (
            "HR1011",
            "INSERT INTO documents (id, tenant_id) VALUES (60, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb')",
        ),
        ("HR1012", "UPDATE documents SET tenant_id = 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'"),
        ("HR1014", "COPY users TO '/tmp/x'"),
    ] {
        assert_eq!(a.query(sql).denial_code(), code, "{sql}");
    }
    assert_eq!(a.query("SELECT count(*) FROM users").value(), "3", "guards stay");
    world.finish();
}

#[test]
fn a_table_that_monitors_opens_no_other() {
    let world = world(&POLICY.replace(
        "public.price_list: {tenant: tenant_id, access: [select]}",
        "public.price_list: {tenant: tenant_id, access: [select], mode: monitor}",
    ));
    let mut a = world.a();
    assert_eq!(a.query("UPDATE price_list SET price = 9").tags(), ["UPDATE 1"]);
    world.hedgerow.record_with(&["would_deny", "HR1013"]);
    for (code, sql) in [
        ("HR1003", "SELECT count(*) FROM internal_keys"),
        ("HR1003", "SELECT count(*) FROM price_list, internal_keys"),
        ("HR1004", "UPDATE price_list SET price = (SELECT count(*) FROM vault)"),
        ("HR1005", "SELECT all_secrets()"),
        ("HR1013", "DELETE FROM currencies"),
    ] {
        assert_eq!(a.query(sql).denial_code(), code, "{sql}");
    }
    world.finish();
}
