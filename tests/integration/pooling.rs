//! Transaction pooling: many clients and tenants over few backends. Nobody sees what is another's,
//! nothing stays behind, and every client finds its session as it left it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::wire::{self, WireClient};
use crate::support::{http, process};

/// A proxy that pools by transaction, with at most `backends`.
fn pooled(backends: usize) -> World {
    let mut options = Options::new(POLICY);
    options.pool_mode = "transaction";
    options.max_connections = backends;
    World::with(&options)
}

/// Backends of the proxy at the server.
fn backends(world: &World) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'wire-test'",
        world.database
    );
    world.truth(&sql).parse().unwrap()
}

/// The server's process that serves a session now.
fn pid(client: &mut WireClient) -> String {
    client.query("SELECT pg_backend_pid()").value()
}

fn metric(world: &World, line: &str) -> bool {
    http::get(world.hedgerow.admin, "/metrics").unwrap().1.contains(line)
}

/// A statement by the extended protocol, prepared before.
fn run(client: &mut WireClient, name: &str, parameters: &[Option<&str>]) -> wire::Outcome {
    let mut bytes = wire::bind("", name, parameters);
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::sync());
    client.send(&bytes);
    client.collect(1)
}

fn prepare(client: &mut WireClient, name: &str, sql: &str) -> wire::Outcome {
    let mut bytes = wire::parse(name, sql, &[]);
    bytes.extend(wire::describe(b'S', name));
    bytes.extend(wire::sync());
    client.send(&bytes);
    client.collect(1)
}

#[test]
fn many_clients_of_two_tenants_share_few_backends_and_see_their_own_rows_alone() {
    let world = pooled(3);
    let (done, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..10)
            .map(|number| {
                let world = &world;
                scope.spawn(move || {
                    let is_a = number % 2 == 0;
                    let mut client = if is_a { world.a() } else { world.b() };
                    let own: &[&str] = if is_a { &["1", "2", "3"] } else { &["101", "102", "103"] };
                    prepare(
                        &mut client,
                        "ids",
                        "SELECT id FROM users WHERE id > $1::int ORDER BY 1",
                    );
                    for round in 0..30 {
                        let simple = client.query("SELECT id FROM users ORDER BY id");
                        assert_eq!(simple.lines(), own, "round {round}");
                        assert_eq!(
                            client.query("SELECT id FROM seen_by_rls").lines(),
                            [if is_a { "1" } else { "101" }]
                        );
                        assert_eq!(run(&mut client, "ids", &[Some("0")]).lines(), own);
                        client.query("BEGIN");
                        assert_eq!(client.query("SELECT id FROM users ORDER BY id").lines(), own);
                        assert_eq!(run(&mut client, "ids", &[Some("0")]).lines(), own);
                        client.query(if round % 3 == 0 { "ROLLBACK" } else { "COMMIT" });
                    }
                    client.terminate();
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(backends(&world), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let ended: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    let most = most.load(Ordering::Relaxed);
    assert!((1..=3).contains(&most), "{most} backends at a time");
    world.finish();
}

#[test]
fn a_statement_prepared_by_protocol_runs_on_whichever_backend() {
    let world = pooled(2);
    let (mut a, mut other) = (world.a(), world.a());
    let described = prepare(&mut a, "s", "SELECT id + $1::int FROM users ORDER BY id");
    assert_eq!(described.shape(), "1tTZ");
    // Another client holds the backend on which it was prepared.
    other.query("BEGIN");
    other.query("SELECT 1");
    assert_eq!(run(&mut a, "s", &[Some("0")]).lines(), ["1", "2", "3"]);
    let first = pid(&mut a);
    a.query("BEGIN");
    let second = pid(&mut a);
    assert_eq!(run(&mut a, "s", &[Some("10")]).lines(), ["11", "12", "13"]);
    a.query("COMMIT");
    other.query("COMMIT");
    let mut seen = vec![first, second, pid(&mut other)];
    seen.sort();
    seen.dedup();
    assert_eq!(run(&mut a, "s", &[Some("0")]).shape(), "2DDDCZ");
    // The same name means another statement to another client, and nothing to a third.
    prepare(&mut other, "s", "SELECT 'other'");
    assert_eq!(run(&mut other, "s", &[]).lines(), ["other"]);
    assert_eq!(run(&mut a, "s", &[Some("0")]).lines(), ["1", "2", "3"]);
    let mut third = world.a();
    assert_eq!(run(&mut third, "s", &[]).sqlstate(), "26000");
    assert_eq!(prepare(&mut a, "s", "SELECT 2").sqlstate(), "42P05");
    // Closed, and prepared anew as something else.
    let mut bytes = wire::close(b'S', "s");
    bytes.extend(wire::parse("s", "SELECT 'new'", &[]));
    bytes.extend(wire::sync());
    a.send(&bytes);
    assert_eq!(a.collect(1).shape(), "31Z");
    assert_eq!(run(&mut a, "s", &[]).lines(), ["new"]);
    assert!(seen.len() <= 2);
    world.finish();
}

#[test]
fn answers_of_a_pipeline_come_in_order_whether_the_backend_knows_a_statement_or_not() {
    let world = pooled(1);
    let pipeline = |client: &mut WireClient| {
        let mut bytes = Vec::new();
        for name in ["p", "q"] {
            bytes.extend(wire::parse(name, &format!("SELECT '{name}', $1::text"), &[]));
            bytes.extend(wire::describe(b'S', name));
            bytes.extend(wire::bind("", name, &[Some("x")]));
            bytes.extend(wire::execute("", 0));
            bytes.extend(wire::close(b'S', name));
        }
        bytes.extend(wire::sync());
        client.send(&bytes);
        let outcome = client.collect(1);
        assert_eq!(outcome.lines(), ["p|x", "q|x"]);
        outcome.shape()
    };
    for _round in 0..3 {
        let mut client = world.a();
        assert_eq!(pipeline(&mut client), "1tT2DC31tT2DC3Z");
        assert_eq!(pipeline(&mut client), "1tT2DC31tT2DC3Z");
        client.terminate();
    }
    world.finish();
}

#[test]
fn an_error_in_a_pipeline_leaves_no_doubt_of_what_is_prepared() {
    let world = pooled(1);
    let mut a = world.a();
    // The Parse behind the error is skipped; the next part of the pipeline, which was sent with it,
    // prepares and runs the same text.
    let mut bytes = wire::parse("", "SELECT 1/0", &[]);
    bytes.extend(wire::bind("", "", &[]));
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::parse("s", "SELECT 'here'", &[]));
    bytes.extend(wire::sync());
    bytes.extend(wire::parse("s", "SELECT 'here'", &[]));
    bytes.extend(wire::bind("", "s", &[]));
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(2);
    assert_eq!(outcome.lines(), ["here"], "{outcome:?}");
    assert_eq!(run(&mut a, "s", &[]).lines(), ["here"]);
    world.finish();
}

#[test]
fn settings_stay_with_the_client_that_made_them() {
    let world = pooled(1);
    let (mut one, mut two) = (world.a(), world.a());
    let fresh = two.query("SHOW timezone").value();
    assert_eq!(one.query("SET timezone = 'Asia/Tokyo'").tags(), ["SET"]);
    one.query("SELECT set_config('DateStyle', 'German', false)");
    for _round in 0..3 {
        assert_eq!(one.query("SHOW timezone").value(), "Asia/Tokyo");
        assert_eq!(one.query("SELECT '2026-02-01'::date").value(), "01.02.2026");
        assert_eq!(two.query("SHOW timezone").value(), fresh);
        assert_eq!(two.query("SELECT '2026-02-01'::date").value(), "2026-02-01");
    }
    // Taken back, in a transaction that fails and in one that does not.
    one.query("BEGIN");
    one.query("SET timezone = 'Europe/Paris'");
    one.query("ROLLBACK");
    assert_eq!(one.query("SHOW timezone").value(), "Asia/Tokyo");
    one.query("BEGIN");
    one.query("SET timezone = 'Europe/Paris'");
    one.query("COMMIT");
    two.query("SELECT 1");
    assert_eq!(one.query("SHOW timezone").value(), "Europe/Paris");
    assert_eq!(one.query("RESET ALL").tags(), ["RESET"]);
    assert_eq!(one.query("SHOW timezone").value(), fresh);
    world.finish();
}

#[test]
fn start_up_parameters_are_each_clients_own() {
    let world = pooled(1);
    let token = crate::support::token::of(crate::support::TENANT_A);
    let connect = |zone: &str| {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        let parameters = [("user", "x"), ("database", world.database.as_str()), ("TimeZone", zone)];
        assert!(client.start(&parameters, Some(&token)).ready());
        client
    };
    let (mut one, mut two) = (connect("Asia/Tokyo"), connect("Europe/Paris"));
    for _round in 0..2 {
        assert_eq!(one.query("SHOW timezone").value(), "Asia/Tokyo");
        assert_eq!(two.query("SHOW timezone").value(), "Europe/Paris");
    }
    world.finish();
}

#[test]
fn what_only_one_backend_has_pins_it_until_it_is_gone() {
    let world = pooled(2);
    let mut one = world.a();
    one.query("PREPARE p AS SELECT 'prepared by SQL'");
    let kept = pid(&mut one);
    let mut two = world.a();
    two.query("BEGIN");
    assert_ne!(pid(&mut two), kept, "a pinned backend is lent to nobody");
    assert_eq!(two.query("EXECUTE p").sqlstate(), "26000");
    two.query("ROLLBACK");
    assert_eq!(one.query("EXECUTE p").lines(), ["prepared by SQL"]);
    assert!(metric(&world, "hedgerow_pinned_sessions_total{reason=\"prepared\"} 1"));
    assert_eq!(one.query("DISCARD ALL").tags(), ["DISCARD ALL"]);
    assert_eq!(one.query("EXECUTE p").sqlstate(), "26000");

    one.query("BEGIN");
    one.query("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM users ORDER BY id");
    one.query("COMMIT");
    two.query("SELECT 1");
    assert_eq!(one.query("FETCH 1 FROM c").lines(), ["1"]);
    assert_eq!(two.query("FETCH 1 FROM c").sqlstate(), "34000");
    assert!(metric(&world, "hedgerow_pinned_sessions_total{reason=\"cursor\"} 1"));
    one.terminate();
    let mut three = world.a();
    for _round in 0..3 {
        assert_eq!(three.query("FETCH 1 FROM c").sqlstate(), "34000");
    }
    world.finish();
}

#[test]
fn what_pools_send_on_release_takes_no_backend_and_pins_none() {
    let world = pooled(1);
    let (mut one, mut two) = (world.a(), world.a());
    prepare(&mut one, "s", "SELECT 1");
    two.query("BEGIN");
    two.query("SELECT 1");
    for (sql, tag) in [
        ("DISCARD ALL", "DISCARD ALL"),
        ("RESET ALL", "RESET"),
        ("DEALLOCATE ALL", "DEALLOCATE ALL"),
        ("UNLISTEN *", "UNLISTEN"),
        ("CLOSE ALL", "CLOSE CURSOR ALL"),
    ] {
        let outcome = one.query(sql);
        assert_eq!((outcome.tags(), outcome.status()), (vec![tag.to_owned()], Some('I')));
    }
    two.query("COMMIT");
    assert_eq!(run(&mut one, "s", &[]).sqlstate(), "26000");
    let reset = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL";
    assert_eq!(one.query(reset).tags().len(), 4);
    assert_eq!(pid(&mut one), pid(&mut two));
    world.finish();
}

#[test]
fn deallocate_of_a_statement_prepared_by_protocol_forgets_it() {
    let world = pooled(1);
    let mut a = world.a();
    prepare(&mut a, "_pg3_0", "SELECT 'x'");
    assert_eq!(a.query("DEALLOCATE _pg3_0").tags(), ["DEALLOCATE"]);
    assert_eq!(run(&mut a, "_pg3_0", &[]).sqlstate(), "26000");
    for extended in [false, true] {
        prepare(&mut a, "_pg3_0", "SELECT 'x'");
        a.query("BEGIN");
        assert_eq!(run(&mut a, "_pg3_0", &[]).lines(), ["x"]);
        let outcome = if extended {
            a.extended("DEALLOCATE _pg3_0", &[])
        } else {
            a.query("DEALLOCATE _pg3_0")
        };
        assert_eq!((outcome.tags(), outcome.status()), (vec!["DEALLOCATE".to_owned()], Some('T')));
        a.query("COMMIT");
        assert_eq!(run(&mut a, "_pg3_0", &[]).sqlstate(), "26000");
    }
    assert_eq!(a.query("DEALLOCATE nothing").sqlstate(), "26000");
    world.finish();
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_to_the_next() {
    let world = pooled(1);
    for round in 0..6 {
        let mut b = world.b();
        match round % 3 {
            0 => {
                b.query("BEGIN");
                b.query("SELECT secret FROM users");
            }
            1 => {
                // The reply is never read.
                b.send(&wire::query(
                    "SELECT repeat(secret, 100) FROM users, generate_series(1, 50000)",
                ));
            }
            _ => {
                // Half a pipeline.
                let mut bytes = wire::parse("left", "SELECT secret FROM users", &[]);
                bytes.extend(wire::bind("", "left", &[]));
                b.send(&bytes);
            }
        }
        drop(b);
        let mut a = world.a();
        assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
        assert_eq!(run(&mut a, "left", &[]).sqlstate(), "26000");
        a.terminate();
    }
    world.finish();
}

#[test]
fn a_backend_that_is_killed_costs_its_transaction_and_nothing_else() {
    let world = pooled(2);
    let mut a = world.a();
    let kill = |pid: &str| world.truth(&format!("SELECT pg_terminate_backend({pid})"));
    let idle = pid(&mut a);
    kill(&idle);
    process::eventually("the backend is gone", Duration::from_secs(5), || {
        let left =
            world.truth(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {idle}"));
        (left == "0").then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    a.query("BEGIN");
    let busy = pid(&mut a);
    kill(&busy);
    let last = a.collect_until(|outcome| !outcome.errors().is_empty());
    assert!(last.error().is_fatal(), "{last:?}");
    let mut again = world.a();
    assert_eq!(again.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    world.finish();
}

#[test]
fn a_client_waits_for_a_backend_and_is_told_when_there_is_none() {
    let world = pooled(1);
    let (mut a, mut b) = (world.a(), world.b());
    b.query("BEGIN");
    b.query("SELECT 1");
    a.send(&wire::query("SELECT id FROM users ORDER BY id"));
    std::thread::sleep(Duration::from_millis(300));
    b.query("COMMIT");
    assert_eq!(a.collect(1).lines(), ["1", "2", "3"]);
    b.query("BEGIN");
    b.query("SELECT 1");
    let refused = a.query("SELECT 1");
    assert_eq!((refused.sqlstate().as_str(), refused.status()), ("53300", Some('I')));
    b.query("COMMIT");
    assert_eq!(a.query("SELECT 1").lines(), ["1"], "the session goes on");
    world.finish();
}

#[test]
fn a_transaction_in_which_nothing_ran_takes_no_backend() {
    let world = pooled(1);
    let (mut a, mut b) = (world.a(), world.b());
    b.query("BEGIN");
    b.query("SELECT 1");
    for (sql, tag, status) in [
        ("BEGIN", "BEGIN", 'T'),
        ("COMMIT", "COMMIT", 'I'),
        ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION", 'T'),
        ("ROLLBACK", "ROLLBACK", 'I'),
    ] {
        let outcome = a.query(sql);
        assert_eq!(
            (outcome.tags(), outcome.status()),
            (vec![tag.to_owned()], Some(status)),
            "{sql}"
        );
    }
    a.query("BEGIN");
    let denied = a.query("SELECT * FROM vault");
    assert_eq!((denied.denied(), denied.status()), (true, Some('E')));
    assert_eq!(a.query("SELECT 1").sqlstate(), "25P02");
    assert_eq!(a.query("COMMIT").tags(), ["ROLLBACK"]);
    b.query("COMMIT");
    a.query("START TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(a.query("SHOW transaction_isolation").value(), "repeatable read");
    assert_eq!(a.query("COMMIT").status(), Some('I'));
    world.finish();
}

#[test]
fn a_cancel_request_never_meets_the_next_clients_statement() {
    let world = pooled(1);
    let mut noise = world.a();
    let key = noise.cancel_key.clone().unwrap();
    let (stop, cancelled) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut canceller = WireClient::connect(world.hedgerow.address);
                canceller.send(&wire::cancel_request(key.0, &key.1));
                canceller.forget();
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let outcome = noise.query("SELECT count(*) FROM generate_series(1, 20000)");
                if outcome.sqlstate() == "57014" {
                    cancelled.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut b = world.b();
        for _ in 0..300 {
            let outcome = b.query("SELECT count(*) FROM generate_series(1, 20000)");
            assert_eq!(outcome.lines(), ["20000"], "{outcome:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(
        cancelled.load(Ordering::Relaxed) > 0,
        "no cancel request arrived: the test shows nothing"
    );
    world.finish();
}

#[test]
fn idle_backends_are_closed() {
    let mut options = Options::new(POLICY);
    options.pool_mode = "transaction";
    options.pool_extra = ", idle_timeout: 1s";
    let world = World::with(&options);
    let mut a = world.a();
    a.query("SELECT 1");
    assert_eq!(backends(&world), 1);
    process::eventually("the idle backend is closed", Duration::from_secs(10), || {
        (backends(&world) == 0).then_some(())
    });
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    world.finish();
}
