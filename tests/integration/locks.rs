//! Advisory locks: the sessions of one tenant meet, those of two never.

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::wire::WireClient;

fn got(client: &mut WireClient, sql: &str) -> bool {
    let outcome = client.query(sql);
    assert_eq!(outcome.errors().len(), 0, "{sql}: {outcome:?}");
    outcome.value() == "t"
}

#[test]
fn a_lock_is_held_against_the_same_tenant_and_not_against_another() {
    let world = World::new();
    let (mut a, mut a_too, mut b) = (world.a(), world.a(), world.b());
    for key in ["5", "-9223372036854775808", "1, 2", "hashtext('job')", "'7'", "-1, -2"] {
        let outcome = a.query(&format!("SELECT pg_advisory_lock({key})"));
        assert_eq!(outcome.tags(), ["SELECT 1"], "{key}: {outcome:?}");
        let tried = format!("SELECT pg_try_advisory_lock({key})");
        assert!(!got(&mut a_too, &tried), "{key}");
        assert!(!got(&mut a_too, &format!("SELECT pg_try_advisory_lock_shared({key})")), "{key}");
        assert!(got(&mut b, &tried), "{key}: two tenants meet");
        assert!(got(&mut a, &format!("SELECT pg_advisory_unlock({key})")), "{key}");
        assert!(got(&mut a_too, &tried), "{key}");
        assert!(got(&mut a_too, &format!("SELECT pg_catalog.pg_advisory_unlock({key})")), "{key}");
    }
    // One number and a pair of the same value are two locks, as PostgreSQL has it.
    assert!(got(&mut a, "SELECT pg_try_advisory_lock(4294967298)"));
    assert!(got(&mut a_too, "SELECT pg_try_advisory_lock(1, 2)"));
    assert_eq!(a.query("SELECT pg_advisory_unlock_all()").tags(), ["SELECT 1"]);
    assert!(got(&mut a_too, "SELECT pg_try_advisory_lock(4294967298)"));
    // Of the transaction, by parameter, and on own rows only.
    a.query("BEGIN");
    let locked = a.extended("SELECT pg_advisory_xact_lock($1)", &[Some("77")]);
    assert_eq!(locked.tags(), ["SELECT 1"], "{locked:?}");
    let outcome = a_too.extended("SELECT pg_try_advisory_xact_lock($1) AS got", &[Some("77")]);
    assert_eq!((outcome.value().as_str(), outcome.columns()[0][0].0.as_str()), ("f", "got"));
    assert!(got(&mut b, "SELECT pg_try_advisory_xact_lock(77)"));
    a.query("COMMIT");
    assert!(got(&mut a_too, "SELECT pg_try_advisory_xact_lock(77)"));
    let jobs = "SELECT id FROM users WHERE pg_try_advisory_lock(id) ORDER BY id";
    assert_eq!(a.query(jobs).lines(), ["1", "2", "3"]);
    assert!(a_too.query(jobs).lines().is_empty());
    assert_eq!(b.query(jobs).lines(), ["101", "102", "103"]);
    assert_eq!(a.extended("SELECT pg_advisory_lock($1)", &[None]).tags(), ["SELECT 1"]);
    let prepared = "PREPARE p AS SELECT pg_try_advisory_lock($1, 3)";
    assert_eq!(a.query(prepared).tags(), ["PREPARE"]);
    assert!(got(&mut a, "EXECUTE p(9)"));
    assert!(!got(&mut a_too, "SELECT pg_try_advisory_lock(9, 3)"));
    for client in [a, a_too, b] {
        client.terminate();
    }
    world.finish();
}

#[test]
fn nobody_sees_the_locks_of_others() {
    let world = World::new();
    let (mut a, mut b) = (world.a(), world.b());
    b.query("SELECT pg_advisory_lock(424207)");
    for (sql, code) in [
        ("SELECT * FROM pg_locks", "HR1007"),
        ("SELECT count(*) FROM pg_catalog.pg_locks", "HR1007"),
        ("SELECT * FROM pg_lock_status()", "HR1005"),
        ("SELECT pg_blocking_pids(pg_backend_pid())", "HR1005"),
        ("SELECT public.pg_advisory_lock(1)", "HR1005"),
        ("CREATE TEMP TABLE t (a int DEFAULT pg_advisory_lock(1))", "HR1009"),
        ("SELECT * FROM pg_advisory_lock(1)", "HR1009"),
    ] {
        let outcome = a.query(sql);
        assert!(outcome.denied(), "{sql}: {outcome:?}");
        assert_eq!(outcome.denial_code(), code, "{sql}");
    }
    a.terminate();
    b.terminate();
    world.finish();
}

#[test]
fn in_transaction_pooling_a_session_lock_keeps_its_backend() {
    let mut options = Options::new(POLICY);
    options.pool_mode = "transaction";
    options.max_connections = 3;
    let world = World::with(&options);
    let (mut one, mut two) = (world.a(), world.a());
    let pid = |client: &mut WireClient| client.query("SELECT pg_backend_pid()").value();
    one.query("SELECT pg_advisory_xact_lock(1)");
    assert_eq!(pid(&mut one), pid(&mut two), "a lock of the transaction is gone with it");
    one.query("SELECT pg_advisory_lock(1)");
    let own = pid(&mut one);
    for round in 0..3 {
        assert!(!got(&mut two, "SELECT pg_try_advisory_lock(1)"), "{round}");
        assert_ne!(pid(&mut two), own, "{round}");
    }
    assert!(
        got(&mut one, "SELECT pg_advisory_unlock(1)"),
        "it is held by the session that took it"
    );
    one.query("SELECT pg_advisory_lock(2)");
    one.terminate();
    let free = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        got(&mut two, "SELECT pg_try_advisory_lock(2)")
    });
    assert!(free, "a client's locks go with it");
    two.query("SELECT pg_advisory_unlock_all()");
    two.terminate();
    world.finish();
}
