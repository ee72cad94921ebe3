//! A denial leaves the transaction exactly as an error of PostgreSQL's own would.

use crate::support::fixture::World;
use crate::support::postgres::server;
use crate::support::wire;

const DENIED: &str = "SELECT * FROM vault";
const INSERT: &str =
    "INSERT INTO documents (id, tenant_id) VALUES (80, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa')";
const COUNT: &str = "SELECT count(*) FROM documents WHERE id = 80";

#[test]
fn a_denial_in_a_transaction_aborts_it() {
    let world = World::new();
    let mut a = world.a();
    assert_eq!(a.query("BEGIN").status(), Some('T'));
    assert_eq!(a.query(INSERT).tags(), ["INSERT 0 1"]);
    let denied = a.query(DENIED);
    assert_eq!((denied.denial_code().as_str(), denied.status()), ("HR1004", Some('E')));
    assert_eq!(a.query("SELECT 1").sqlstate(), "25P02");
    assert_eq!(a.query("COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!(world.truth(COUNT), "0");
    a.terminate();
    world.finish();
}

#[test]
fn a_savepoint_survives_a_denial_after_it() {
    let world = World::new();
    let mut a = world.a();
    for sql in ["BEGIN", INSERT, "SAVEPOINT s"] {
        assert!(a.query(sql).errors().is_empty(), "{sql}");
    }
    assert!(a.query(DENIED).denied());
    assert_eq!(a.query("ROLLBACK TO SAVEPOINT s").status(), Some('T'));
    assert_eq!(a.query("RELEASE s").tags(), ["RELEASE"]);
    assert_eq!(a.query("COMMIT").tags(), ["COMMIT"]);
    assert_eq!(world.truth(COUNT), "1");
    a.terminate();
    world.finish();
}

#[test]
fn a_denial_in_a_pipeline_commits_nothing_that_came_before_it() {
    let world = World::new();
    let mut a = world.a();
    let mut bytes = Vec::new();
    for sql in [INSERT, DENIED, "SELECT 1"] {
        bytes.extend(wire::parse("", sql, &[]));
        bytes.extend(wire::bind("", "", &[]));
        bytes.extend(wire::execute("", 0));
    }
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(1);
    // The INSERT's own three answers, then the error; what follows is skipped up to the Sync.
    assert_eq!(outcome.shape(), "12CEZ", "{outcome:?}");
    assert_eq!(outcome.denial_code(), "HR1004");
    assert_eq!(outcome.status(), Some('I'));
    assert_eq!(world.truth(COUNT), "0");
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_denial_at_the_end_of_a_pipeline_takes_the_implicit_transaction_back() {
    let world = World::new();
    let mut a = world.a();
    let mut bytes = wire::parse("", INSERT, &[]);
    bytes.extend(wire::bind("", "", &[]));
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::parse("x", DENIED, &[]));
    bytes.extend(wire::sync());
    // A second implicit transaction after the Sync is not affected.
    bytes.extend(wire::parse("", "SELECT count(*) FROM documents WHERE id = 80", &[]));
    bytes.extend(wire::bind("", "", &[]));
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(2);
    assert_eq!(outcome.shape(), "12CEZ12DCZ", "{outcome:?}");
    assert_eq!(outcome.lines(), ["0"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_denied_prepared_statement_does_not_exist() {
    let world = World::new();
    let mut a = world.a();
    let mut bytes = wire::parse("s", DENIED, &[]);
    bytes.extend(wire::sync());
    bytes.extend(wire::bind("", "s", &[]));
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(2);
    assert_eq!(outcome.shape(), "EZEZ", "{outcome:?}");
    assert_eq!(outcome.errors()[1].sqlstate(), "26000", "{outcome:?}");
    a.terminate();
    world.finish();
}

#[test]
fn transaction_commands_answer_as_the_server_does() {
    let world = World::new();
    let mut a = world.a();
    let steps = [
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "BEGIN", 'T'),
        ("SHOW transaction_isolation", "SHOW", 'T'),
        ("ROLLBACK", "ROLLBACK", 'I'),
        ("START TRANSACTION", "START TRANSACTION", 'T'),
        ("SAVEPOINT a", "SAVEPOINT", 'T'),
        ("RELEASE SAVEPOINT a", "RELEASE", 'T'),
        ("COMMIT AND CHAIN", "COMMIT", 'T'),
        ("END", "COMMIT", 'I'),
        ("ABORT", "ROLLBACK", 'I'),
    ];
    for (sql, tag, status) in steps {
        let outcome = a.query(sql);
        assert_eq!(outcome.tags(), [tag], "{sql}: {outcome:?}");
        assert_eq!(outcome.status(), Some(status), "{sql}");
    }
    a.terminate();
    world.finish();
}

/// Django's `SET CONSTRAINTS name IMMEDIATE`, and applications with circular keys.
#[test]
fn named_constraints_are_checked_when_the_client_says_so() {
    let world = World::new();
    let unique =
        "ALTER TABLE documents ADD CONSTRAINT one_title UNIQUE (tenant_id, title) DEFERRABLE";
    server().run(&world.database, unique);
    let mut a = world.a();
    for sql in
        ["BEGIN", "SET CONSTRAINTS one_title DEFERRED", "UPDATE documents SET title = 'the same'"]
    {
        assert!(a.query(sql).errors().is_empty(), "{sql}");
    }
    let failed = a.query("SET CONSTRAINTS public.one_title IMMEDIATE").error();
    assert_eq!((failed.sqlstate(), failed.field('D')), ("23505", ""), "{failed:?}");
    assert_eq!(a.query("ROLLBACK").tags(), ["ROLLBACK"]);
    assert_eq!(a.extended("SET CONSTRAINTS one_title, nowhere IMMEDIATE", &[]).sqlstate(), "42704");
    assert_eq!(a.query("SET CONSTRAINTS ALL IMMEDIATE").tags(), ["SET CONSTRAINTS"]);
    world.finish();
}
