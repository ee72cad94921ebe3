//! Load, loss, drain, health.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::fixture::World;
use crate::support::postgres::server;
use crate::support::{http, process, wire};

#[test]
fn a_hundred_clients_of_two_tenants_each_see_their_own() {
    let world = World::new();
    std::thread::scope(|scope| {
        for number in 0..100 {
            let world = &world;
            scope.spawn(move || {
                let of_a = number % 2 == 0;
                let mut client = if of_a { world.a() } else { world.b() };
                let wanted = if of_a { ["1", "2", "3"] } else { ["101", "102", "103"] };
                for round in 0..10 {
                    let sql = "SELECT id FROM users WHERE id > $1 ORDER BY id";
                    let outcome = if round % 2 == 0 {
                        client.query(&sql.replace("$1", "0"))
                    } else {
                        client.extended(sql, &[Some("0")])
                    };
                    assert_eq!(outcome.lines(), wanted, "client {number}: {outcome:?}");
                    assert!(client.query("SELECT * FROM vault").denied());
                }
                client.terminate();
            });
        }
    });
    world.finish();
}

#[test]
fn sigterm_lets_a_transaction_finish_and_closes_idle_sessions() {
    let world = World::new();
    let (mut idle, mut busy) = (world.a(), world.a());
    busy.query("BEGIN");
    busy.query("UPDATE documents SET title = 'finished' WHERE id = 1");
    process::signal(world.hedgerow.pid(), "TERM");
    let outcome = idle.collect_until(|_| false);
    assert_eq!(outcome.sqlstate(), "57P01", "{outcome:?}");
    assert!(outcome.closed);
    process::eventually("readiness is false or gone", Duration::from_secs(30), || {
        http::get(world.hedgerow.admin, "/readyz")
            .is_none_or(|(status, _)| status != 200)
            .then_some(())
    });
    assert_eq!(busy.query("SELECT 1").lines(), ["1"]);
    assert_eq!(busy.query("COMMIT").tags(), ["COMMIT"]);
    world.hedgerow.terminate();
    assert_eq!(world.truth("SELECT title FROM documents WHERE id = 1"), "finished");
    world.finish();
}

#[test]
fn a_backend_that_dies_mid_query_ends_in_an_error_and_no_hang() {
    let world = World::new();
    let mut a = world.a();
    a.send(&wire::query("SELECT count(*) FROM generate_series(1, 500000000)"));
    std::thread::sleep(Duration::from_millis(400));
    let begun = Instant::now();
    world.truth(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND usename = 'app_user'",
    );
    let outcome = a.collect_until(|outcome| !outcome.errors().is_empty());
    assert!(["57P01", "08006", "08007"].contains(&outcome.sqlstate().as_str()), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let mut fresh = world.a();
    assert_eq!(fresh.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    fresh.terminate();
    world.finish();
}

#[test]
fn a_backend_that_dies_while_idle_is_replaced_or_reported() {
    let world = World::new();
    let mut first = world.a();
    first.query("SELECT 1");
    first.terminate();
    std::thread::sleep(Duration::from_millis(100));
    world.truth(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND usename = 'app_user'",
    );
    let mut a = world.a();
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    a.terminate();
    world.finish();
}

#[test]
fn health_and_metrics_answer() {
    let world = World::new();
    let mut a = world.a();
    a.query("SELECT * FROM vault");
    a.query("SELECT id FROM users");
    for path in ["/startup", "/livez", "/readyz"] {
        assert_eq!(
            http::get(world.hedgerow.admin, path).map(|(status, _)| status),
            Some(200),
            "{path}"
        );
    }
    let (status, metrics) = http::get(world.hedgerow.admin, "/metrics").expect("metrics");
    assert_eq!(status, 200);
    for name in [
        "hedgerow_decisions_total",
        "hedgerow_clients",
        "hedgerow_token_verifications_total",
        "hedgerow_policy_epoch",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    assert!(metrics.contains("HR1004"), "{metrics}");
    let log = world.hedgerow.log();
    assert!(log.contains("serving") && !log.contains("Some(") && !log.contains("None"), "{log}");
    assert!(!metrics.contains(crate::support::TENANT_A), "a tenant is no label");
    assert_eq!(http::get(world.hedgerow.admin, "/nothing").map(|(status, _)| status), Some(404));
    a.terminate();
    world.finish();
}

#[test]
fn clients_come_and_go_during_work_without_a_leak() {
    let world = World::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut b = world.b();
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(
                    b.query("SELECT id FROM users ORDER BY id").lines(),
                    ["101", "102", "103"]
                );
            }
            b.terminate();
        });
        for round in 0..40 {
            let mut a = world.a();
            assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
            if round % 3 == 0 { drop(a) } else { a.terminate() }
        }
        stop.store(true, Ordering::Relaxed);
    });
    process::eventually("upstream connections are given back", Duration::from_secs(10), || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app_user' AND state <> 'idle'";
        (server().run(&world.database, sql).value() == "0").then_some(())
    });
    world.finish();
}
