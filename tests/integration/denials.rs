//! Every denial code beside its nearest allowed neighbour; what a denial looks like; what it leaves.

use crate::same::{Look, Pair};
use crate::support::TENANT_B;
use crate::support::fixture::World;
use crate::support::wire;

/// Denied statement, its code, and a near one that is allowed.
const CASES: &[(&str, &str, &str)] = &[
    ("HR1001", "SELEC 1", "SELECT 1"),
    ("HR1001", "SELECT id FROM users WHERE (", "SELECT id FROM users WHERE (true)"),
    ("HR1002", "CREATE TABLE mine (id int)", "SELECT 1"),
    ("HR1002", "TRUNCATE orders", "DELETE FROM order_items WHERE false"),
    ("HR1002", "DO $$ BEGIN END $$", "BEGIN; COMMIT"),
    // Channels are the tenant's own (`notify.rs`); what subscribes to a table's changes is not.
    ("HR1002", "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", "LISTEN x"),
    ("HR1002", "CREATE PUBLICATION p FOR TABLE users", "NOTIFY x, 'y'"),
    ("HR1002", "GRANT SELECT ON users TO public", "SELECT 'GRANT'"),
    ("HR1002", "LOCK TABLE users", "SELECT id FROM users FOR UPDATE"),
    ("HR1002", "VACUUM users", "SELECT count(*) FROM users"),
    ("HR1002", "CALL all_secrets()", "SELECT slugify('x')"),
    ("HR1003", "SELECT * FROM internal_keys", "SELECT * FROM currencies"),
    ("HR1003", "SELECT * FROM nosuchtable", "SELECT * FROM orders"),
    ("HR1003", "SELECT * FROM order_totals", "SELECT sum(total) FROM orders"),
    ("HR1004", "SELECT * FROM vault", "SELECT 'vault'"),
    ("HR1005", "SELECT all_secrets()", "SELECT slugify('A B')"),
    ("HR1005", "SELECT pg_read_file('PG_VERSION')", "SELECT length('PG_VERSION')"),
    ("HR1005", "SELECT pg_sleep(0)", "SELECT now()"),
    ("HR1005", "SELECT query_to_xml('SELECT 1', true, true, '')", "SELECT upper('SELECT 1')"),
    (
        "HR1005",
        "SELECT * FROM dblink('x', 'y') AS t(a int)",
        "SELECT * FROM generate_series(1, 2) AS t(a)",
    ),
    ("HR1005", "SELECT lo_get(1)", "SELECT abs(1)"),
    ("HR1006", "SET app.current_tenant = 'x'", "SET application_name = 'x'"),
    ("HR1006", "SET LOCAL app.current_tenant = 'x'", "SET LOCAL timezone = 'UTC'"),
    ("HR1006", "RESET app.current_tenant", "RESET timezone"),
    ("HR1006", "SET session_authorization = 'postgres'", "SET datestyle = 'ISO'"),
    ("HR1006", "SET row_security = off", "SET statement_timeout = '10s'"),
    ("HR1007", "SELECT * FROM pg_stats", "SELECT relname FROM pg_class WHERE relname = 'users'"),
    ("HR1007", "SELECT * FROM pg_authid", "SELECT rolname FROM pg_roles WHERE false"),
    ("HR1010", "SELECT password_hash FROM users", "SELECT secret FROM users"),
    (
        "HR1010",
        "SELECT id FROM users WHERE password_hash = 'x'",
        "SELECT id FROM users WHERE name = 'x'",
    ),
    (
        "HR1011",
        "INSERT INTO documents (id, tenant_id) VALUES (60, 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb')",
        "INSERT INTO documents (id, tenant_id) VALUES (61, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa')",
    ),
    (
        "HR1012",
        "UPDATE documents SET tenant_id = 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'",
        "UPDATE documents SET title = 'x'",
    ),
    ("HR1013", "INSERT INTO currencies VALUES ('XXX', 1)", "SELECT code FROM currencies"),
    ("HR1013", "UPDATE price_list SET price = 0", "SELECT price FROM price_list"),
    ("HR1013", "DELETE FROM currencies", "SELECT count(*) FROM currencies"),
    ("HR1014", "COPY users TO '/tmp/x'", "COPY (SELECT id FROM users) TO STDOUT"),
    ("HR1014", "COPY users FROM PROGRAM 'id'", "COPY (SELECT 1) TO STDOUT"),
    ("HR1014", "COPY (SELECT 1) TO PROGRAM 'cat'", "COPY (SELECT 1) TO STDOUT WITH (FORMAT csv)"),
];

#[test]
fn each_denial_has_its_code_and_its_neighbour_is_allowed() {
    let world = World::new();
    let mut a = world.a();
    let mut faults = Vec::new();
    for (code, denied, allowed) in CASES {
        let outcome = a.query(denied);
        if outcome.denial_code() != *code || outcome.status() != Some('I') {
            faults.push(format!("{denied}: {code} expected, came {outcome:?}"));
        }
        let outcome = a.query(allowed);
        if !outcome.errors().is_empty() || outcome.status() != Some('I') {
            faults.push(format!("{allowed}: should be allowed, came {:?}", outcome.errors()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    a.terminate();
    world.finish();
}

#[test]
fn each_denial_is_the_same_in_the_extended_protocol() {
    let world = World::new();
    let mut a = world.a();
    let mut faults = Vec::new();
    for (code, denied, _) in CASES {
        let outcome = a.extended(denied, &[]);
        if outcome.denial_code() != *code
            || outcome.shape() != "EZ"
            || outcome.status() != Some('I')
        {
            faults.push(format!("{denied}: {code} expected, came {outcome:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(a.extended("SELECT 1", &[]).lines(), ["1"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_denial_says_why_what_to_do_and_where_the_record_is() {
    let world = World::new();
    let mut a = world.a();
    let error = a.query("SELECT * FROM internal_keys").error();
    assert_eq!(error.sqlstate(), "42501");
    assert_eq!(error.field('S'), "ERROR");
    assert!(error.message().starts_with("hedgerow: "), "{error:?}");
    assert!(error.field('D').starts_with("HR1003"), "{error:?}");
    assert!(error.field('D').contains("internal_keys"), "{error:?}");
    assert!(!error.field('H').is_empty(), "{error:?}");
    let everything = format!("{error:?}");
    let record =
        regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    let id = record.find(&everything).expect("the audit record's id").as_str();
    assert!(
        world.hedgerow.records().iter().any(|record| record.to_string().contains(id)),
        "the record {id} is on disk"
    );
    a.terminate();
    world.finish();
}

#[test]
fn texts_that_fool_a_parser_are_denied_or_work_as_for_a_alone() {
    let mut pair = Pair::new();
    let faults: Vec<String> = [
        "SELECT 1 end; DELETE FROM documents",
        "SELECT id end FROM users",
        "SELECT '\\' || (SELECT string_agg(secret, $$,$$) FROM users) --'",
        "SELECT id FROM ONLY users",
        "SELECT - -1",
        "SELECT U&\"\\0069d\" FROM users",
        "SELECT id FROM users WHERE credit &> 1 OR 'x' = 'FROM vault'",
        "SELECT id FROM users WHERE id=@id",
        "/* SELECT 1; */ SELECT id FROM users -- ; DELETE FROM users",
    ]
    .into_iter()
    .filter_map(|sql| {
        let through = pair.proxied.query(sql);
        let straight = pair.direct.query(sql);
        let same = Look::of(sql, &through) == Look::of(sql, &straight);
        (!same && !through.denied()).then(|| format!("{sql}: {through:?} but alone {straight:?}"))
    })
    .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(pair.world.truth("SELECT count(*) FROM users"), "6");
    assert_eq!(pair.world.truth("SELECT count(*) FROM documents WHERE id > 100"), "2");
    pair.world.finish();
}

#[test]
fn a_function_call_message_is_denied() {
    let world = World::new();
    let mut a = world.a();
    let oid: u32 =
        world.truth("SELECT 'set_config(text,text,boolean)'::regprocedure::oid").parse().unwrap();
    a.send(&wire::function_call(oid, &[Some("app.current_tenant"), Some(TENANT_B), Some("f")]));
    let outcome = a.collect(1);
    assert_eq!(outcome.denial_code(), "HR1015", "{outcome:?}");
    if outcome.ready() {
        assert_eq!(a.query("SELECT id FROM seen_by_rls").lines(), ["1"]);
    }
    world.finish();
}

#[test]
fn an_unknown_message_is_denied_and_ends_the_session() {
    let world = World::new();
    let mut a = world.a();
    a.send(&wire::frame(b'z', b"what is this"));
    let outcome = a.collect_until(|outcome| !outcome.errors().is_empty());
    let error = outcome.errors().into_iter().next().unwrap();
    assert!(error.is_fatal() && error.sqlstate() == "08P01", "{outcome:?}");
    assert_eq!(outcome.denial_code(), "HR1015", "{outcome:?}");
    world.hedgerow.record_with(&["HR1015", "message type 122"]);
    let mut other = world.a();
    assert_eq!(other.query("SELECT 1").lines(), ["1"]);
    other.terminate();
    world.finish();
}

#[test]
fn no_text_of_a_batch_runs_when_one_statement_of_it_is_denied() {
    let world = World::new();
    let mut a = world.a();
    let outcome = a.query("INSERT INTO documents (id, tenant_id) VALUES (70, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'); SELECT * FROM vault");
    assert_eq!(outcome.denial_code(), "HR1004", "{outcome:?}");
    assert_eq!(outcome.status(), Some('I'));
    assert_eq!(world.truth("SELECT count(*) FROM documents WHERE id = 70"), "0");
    a.terminate();
    world.finish();
}
