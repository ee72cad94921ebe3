//! Relations that are no plain tables, and statements that are no plain queries: partitions by their own
//! names, materialized views, foreign tables, sequences, large objects, TRUNCATE and LOCK.

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::postgres::server;

const VAULT: &str = "  public.vault: deny";
const MORE: &str = "  public.vault: deny
  public.user_copies: {tenant: tenant_id}
  public.remote_users: {tenant: tenant_id}";

#[test]
fn partitions_views_with_rows_and_foreign_tables_are_bound_to_the_tenant() {
    assert!(POLICY.contains(VAULT));
    let mut options = Options::new(&POLICY.replace(VAULT, MORE));
    options.pool_mode = "session";
    let world = World::with(&options);
    for sql in [
        "CREATE MATERIALIZED VIEW user_copies AS SELECT id, tenant_id, secret FROM users",
        "GRANT SELECT ON user_copies TO app_user",
        "CREATE MATERIALIZED VIEW unlisted_copies AS SELECT id, tenant_id, secret FROM users",
        "GRANT SELECT ON unlisted_copies TO app_user",
        "CREATE FOREIGN DATA WRAPPER nothing",
        "CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing",
        "CREATE FOREIGN TABLE remote_users (id int, tenant_id uuid) SERVER nowhere",
        "CREATE FOREIGN TABLE unlisted_remote (id int, tenant_id uuid) SERVER nowhere",
        "GRANT ALL ON remote_users, unlisted_remote TO app_user",
    ] {
        server().run(&world.database, sql);
    }
    let mut a = world.a();
    assert_eq!(a.query("SELECT id FROM user_copies ORDER BY id").lines(), ["1", "2", "3"]);
    assert_eq!(
        a.query("SELECT count(*) FROM user_copies WHERE secret LIKE 'B%' OR true").value(),
        "3"
    );
    assert_eq!(a.query("SELECT * FROM unlisted_copies").denial_code(), "HR1003");
    assert_eq!(a.query("REFRESH MATERIALIZED VIEW user_copies").denial_code(), "HR1002");
    // The server has no handler for it: that it says so shows that the guarded text arrived.
    assert_eq!(a.query("SELECT id FROM remote_users").sqlstate(), "55000");
    assert_eq!(a.query("SELECT id FROM unlisted_remote").denial_code(), "HR1003");
    assert_eq!(a.query("COPY remote_users FROM STDIN").denial_code(), "HR1014");
    assert_eq!(
        a.query("IMPORT FOREIGN SCHEMA x FROM SERVER nowhere INTO public").denial_code(),
        "HR1002"
    );
    assert_eq!(a.query("SELECT id FROM events_2025").lines(), ["1"]);
    assert_eq!(a.query("UPDATE events_2026 SET payload = 'x'").tags(), ["UPDATE 1"]);
    assert_eq!(a.query("DELETE FROM events_2025 WHERE id = 101").tags(), ["DELETE 0"]);
    let foreign = format!(
        "INSERT INTO events_2025 VALUES ('{}', 7, '2025-02-02', 'x')",
        crate::support::TENANT_B
    );
    assert_eq!(a.query(&foreign).denial_code(), "HR1011");
    assert_eq!(
        a.query("INSERT INTO events_2025 (id, day) VALUES (7, '2025-02-02') RETURNING tenant_id")
            .value(),
        crate::support::TENANT_A
    );
    a.terminate();
    world.finish();
}

#[test]
fn numbers_come_from_sequences_and_nothing_is_told_or_set() {
    let world = World::new();
    server().run(&world.database, "CREATE SEQUENCE numbers START 7");
    server().run(&world.database, "GRANT ALL ON SEQUENCE numbers TO app_user");
    let mut a = world.a();
    assert_eq!(a.query("SELECT nextval('numbers')").value(), "7");
    assert_eq!(a.query("SELECT currval('numbers')").value(), "7");
    for (sql, code) in [
        ("SELECT lastval()", "HR1005"),
        ("SELECT setval('numbers', 1)", "HR1005"),
        ("SELECT pg_sequence_last_value('numbers')", "HR1005"),
        ("SELECT last_value FROM numbers", "HR1003"),
        ("SELECT * FROM pg_sequences", "HR1007"),
        ("ALTER SEQUENCE numbers RESTART", "HR1002"),
    ] {
        let outcome = a.query(sql);
        assert!(outcome.denied(), "{sql}: {outcome:?}");
        assert_eq!(outcome.denial_code(), code, "{sql}");
    }
    a.terminate();
    world.finish();
}

#[test]
fn large_objects_truncate_and_table_locks_are_denied() {
    let world = World::new();
    let mut a = world.a();
    for (sql, code) in [
        ("SELECT lo_create(0)", "HR1005"),
        ("SELECT lo_creat(-1)", "HR1005"),
        ("SELECT lo_import('/etc/passwd')", "HR1005"),
        ("SELECT lo_export(1, '/tmp/x')", "HR1005"),
        ("SELECT lo_open(1, 262144)", "HR1005"),
        ("SELECT loread(0, 10)", "HR1005"),
        ("SELECT lo_put(1, 0, 'x')", "HR1005"),
        ("SELECT lo_unlink(1)", "HR1005"),
        ("SELECT * FROM pg_largeobject", "HR1007"),
        ("SELECT * FROM pg_largeobject_metadata", "HR1007"),
        ("TRUNCATE users", "HR1002"),
        ("TRUNCATE events_2025, currencies", "HR1002"),
        ("LOCK TABLE users", "HR1002"),
        ("LOCK TABLE users IN ACCESS EXCLUSIVE MODE NOWAIT", "HR1002"),
        ("VACUUM users", "HR1002"),
        ("ANALYZE users", "HR1002"),
        ("CLUSTER users", "HR1002"),
        ("REINDEX TABLE users", "HR1002"),
    ] {
        let outcome = a.query(sql);
        assert!(outcome.denied(), "{sql}: {outcome:?}");
        assert_eq!(outcome.denial_code(), code, "{sql}");
    }
    assert_eq!(a.query("SELECT id FROM users ORDER BY id FOR UPDATE").lines(), ["1", "2", "3"]);
    a.terminate();
    world.finish();
}

/// Reading a table reads its children's children too, whatever stands between.
#[test]
fn a_shared_table_over_tenants_rows_is_denied_however_deep_they_lie() {
    let options = Options::new(&POLICY.replace(
        VAULT,
        "  public.vault: deny\n  public.readings: shared\n  public.readings_of_tenants: {tenant: tenant_id}",
    ));
    let world = World::with(&options);
    for sql in [
        "CREATE TABLE readings (tenant_id uuid, value text)",
        "CREATE TABLE readings_between () INHERITS (readings)",
        "INSERT INTO readings_between VALUES (NULL, 'of all')",
        "GRANT SELECT ON readings, readings_between TO app_user",
    ] {
        server().run(&world.database, sql);
    }
    assert_eq!(world.a().query("SELECT value FROM readings").value(), "of all");
    for sql in [
        "CREATE TABLE readings_of_tenants () INHERITS (readings_between)",
        "INSERT INTO readings_of_tenants VALUES ('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb', 'B-SECRET-READING')",
        "GRANT SELECT ON readings_of_tenants TO app_user",
    ] {
        server().run(&world.database, sql);
    }
    // Sidecars notice a change that went past them within two seconds.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut denied = world.a().query("SELECT value FROM readings WHERE value = 'of all'");
    while denied.errors().is_empty() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(100));
        denied = world.a().query("SELECT value FROM readings WHERE value = 'of all'");
    }
    assert_eq!(denied.denial_code(), "HR1009");
    world.finish();
}
