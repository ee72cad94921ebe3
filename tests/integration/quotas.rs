//! Quotas: each tenant's own, refused in protocol order, given back on every path, shared by sidecars.

use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::{Hedgerow, Options};
use crate::support::redis::Redis;
use crate::support::wire::{self, WireClient};
use crate::support::{fixture, http, postgres, process};

/// Runs for longer than any test.
const LONG: &str = "SELECT count(*) FROM (SELECT generate_series(1, 50000000000)) AS s";
const WAIT: Duration = Duration::from_secs(30);

fn options(quotas: &str) -> Options {
    Options::new(&format!("{POLICY}quotas: [{quotas}]\n"))
}

fn world(quotas: &str) -> World {
    World::with(&options(quotas))
}

fn metric(hedgerow: &Hedgerow, name: &str) -> f64 {
    let (_, text) = http::get(hedgerow.admin, "/metrics").expect("metrics");
    let line =
        text.lines().find(|line| line.strip_prefix(name).is_some_and(|r| r.starts_with(' ')));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a number")
}

/// How many of `tries` queries pass; the others are refused as over the quota.
fn passed(client: &mut WireClient, tries: usize) -> usize {
    (0..tries)
        .filter(|_| {
            let outcome = client.query("SELECT count(*) FROM users");
            if outcome.errors().is_empty() {
                assert_eq!(outcome.lines(), ["3"]);
                return true;
            }
            assert_eq!(outcome.sqlstate(), "53400", "{outcome:?}");
            assert_eq!(outcome.error().denial_code(), Some("HR3001"));
            assert_eq!(outcome.status(), Some('I'), "the session goes on");
            false
        })
        .count()
}

#[test]
fn each_tenant_has_its_own_bucket_and_every_rule_that_names_it_holds() {
    // So slow a rate that only the burst counts while a test runs.
    let world = world(
        "{statements_per_second: 0.0001, burst: 8}, \
         {tenant: aaaa*, statements_per_second: 0.0001, burst: 5}",
    );
    let (mut a, mut other, mut b) = (world.a(), world.a(), world.b());
    assert_eq!(passed(&mut a, 3), 3);
    assert_eq!(passed(&mut other, 10), 2, "sessions of a tenant share its bucket");
    assert_eq!(passed(&mut a, 3), 0);
    assert_eq!(passed(&mut b, 12), 8, "a neighbour does not pay for it");
    assert!(metric(&world.hedgerow, "hedgerow_quota_rejections_total") >= 15.0);
    let record = world.hedgerow.record_with(&["HR3001", "53400"]);
    assert!(record.to_string().contains("SELECT count(*) FROM users"), "{record}");
    for client in [a, other, b] {
        client.terminate();
    }
    world.finish();
}

#[test]
fn a_refusal_aborts_the_transaction_in_its_place_and_the_transaction_can_be_ended() {
    let world = world("{statements_per_second: 0.0001, burst: 4}");
    let mut a = world.a();
    let insert = "INSERT INTO documents (id, tenant_id) VALUES \
                  (80, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa')";
    let mut bytes = Vec::new();
    for sql in [insert, "SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4", "SELECT 5"] {
        bytes.extend(wire::parse("", sql, &[]));
        bytes.extend(wire::bind("", "", &[]));
        bytes.extend(wire::execute("", 0));
    }
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(1);
    assert_eq!(outcome.sqlstate(), "53400", "{outcome:?}");
    assert_eq!(outcome.rows().len(), 3, "what came before it was answered");
    assert_eq!(outcome.status(), Some('I'));
    assert_eq!(world.truth("SELECT count(*) FROM documents WHERE id = 80"), "0");
    // The beginning and the end of a transaction are not counted.
    assert_eq!(a.query("BEGIN").status(), Some('T'));
    let refused = a.query("SELECT 1");
    assert_eq!((refused.sqlstate().as_str(), refused.status()), ("53400", Some('E')));
    assert_eq!(a.query("SELECT 1").sqlstate(), "25P02");
    assert_eq!(a.query("ROLLBACK").tags(), ["ROLLBACK"]);
    let mut b = world.b();
    assert_eq!(b.query("SELECT 1; SELECT 2; SELECT 3").lines(), ["1", "2", "3"]);
    assert_eq!(b.query("SELECT 1; SELECT 2").sqlstate(), "53400", "all of a text or none");
    assert_eq!(b.query("SELECT 4").lines(), ["4"]);
    a.terminate();
    b.terminate();
    world.finish();
}

#[test]
fn further_rows_of_a_portal_are_no_further_statement() {
    let world = world("{statements_per_second: 0.0001, burst: 2}");
    let mut a = world.a();
    let mut bytes = wire::parse("", "SELECT id FROM users ORDER BY id", &[]);
    bytes.extend(wire::bind("p", "", &[]));
    bytes.extend(wire::describe(b'P', "p"));
    for _ in 0..3 {
        bytes.extend(wire::execute("p", 1));
    }
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(1);
    assert_eq!(outcome.lines(), ["1", "2", "3"], "{outcome:?}");
    assert_eq!(passed(&mut a, 3), 1);
    a.terminate();
    world.finish();
}

#[test]
fn a_place_is_given_back_on_an_error_a_cancel_and_a_client_that_is_gone() {
    let world = world("{concurrent: 2}");
    let mut probe = world.a();
    let free = |probe: &mut WireClient| {
        process::eventually("a place is free", WAIT, || {
            let outcome = probe.query("SELECT 1");
            if outcome.errors().is_empty() {
                return Some(());
            }
            assert_eq!(outcome.sqlstate(), "53400", "{outcome:?}");
            assert_eq!(outcome.error().denial_code(), Some("HR3002"));
            None
        });
    };
    let full = |probe: &mut WireClient| {
        process::eventually("both places are taken", WAIT, || {
            let outcome = probe.query("SELECT 1");
            outcome.errors().iter().any(|error| error.sqlstate() == "53400").then_some(())
        });
    };
    // The probe takes a place for a moment too, which may cost another its place.
    let occupy = |client: &mut WireClient| {
        process::eventually("a place for a long statement", WAIT, || {
            client.send(&wire::query(LONG));
            client.collect_for(Duration::from_millis(500)).errors().is_empty().then_some(())
        });
    };
    let (mut first, mut second) = (world.a(), world.a());
    occupy(&mut first);
    occupy(&mut second);
    full(&mut probe);
    let mut b = world.b();
    assert_eq!(b.query("SELECT 1").lines(), ["1"], "a neighbour has its own");
    // A cancel.
    let (pid, secret) = first.cancel_key.clone().unwrap();
    WireClient::connect(world.hedgerow.address).send(&wire::cancel_request(pid, &secret));
    assert_eq!(first.collect(1).sqlstate(), "57014");
    free(&mut probe);
    // PostgreSQL signals a cancel request twice.
    std::thread::sleep(Duration::from_secs(1));
    // A client that is gone, in the middle of a statement.
    occupy(&mut first);
    full(&mut probe);
    drop(second);
    free(&mut probe);
    // Errors: of the server, of a denial, and many of them.
    for _ in 0..20 {
        assert_eq!(probe.query("SELECT 1/0").sqlstate(), "22012");
        assert_eq!(probe.query("SELECT * FROM vault").denial_code(), "HR1004");
        assert_eq!(probe.extended("SELECT 1/0", &[]).sqlstate(), "22012");
    }
    free(&mut probe);
    // A pipeline of a session is one at work, however long.
    let mut bytes = Vec::new();
    for _ in 0..30 {
        bytes.extend(wire::parse("", "SELECT 1", &[]));
        bytes.extend(wire::bind("", "", &[]));
        bytes.extend(wire::execute("", 0));
    }
    bytes.extend(wire::sync());
    probe.send(&bytes);
    let outcome = probe.collect(1);
    assert_eq!((outcome.errors().len(), outcome.rows().len()), (0, 30), "{outcome:?}");
    for client in [probe, b] {
        client.terminate();
    }
    drop(first);
    world.finish();
}

#[test]
fn a_quota_of_a_monitored_file_is_recorded_and_let_through() {
    let policy =
        format!("mode: monitor\n{POLICY}quotas: [{{statements_per_second: 0.0001, burst: 1}}]\n");
    let world = World::with(&Options::new(&policy));
    let mut a = world.a();
    assert_eq!(passed(&mut a, 3), 3);
    world.hedgerow.record_with(&["HR3001"]);
    assert!(metric(&world.hedgerow, "hedgerow_quota_rejections_total") < 0.5);
    a.terminate();
    world.finish();
}

fn sharing(redis: &Redis) -> [Hedgerow; 2] {
    let mut options = options("{statements_per_second: 0.0001, burst: 12}");
    options.postgres_extra = format!("quota: {{redis: \"{}\"}}\n", redis.url());
    [Hedgerow::start(&options), Hedgerow::start(&options)]
}

/// What one sidecar let through, the other knows of within moments.
fn assert_shared([one, two]: &[Hedgerow; 2], database: &str) {
    let (mut a1, mut a2) = (one.a(database), two.a(database));
    assert_eq!(passed(&mut a1, 10), 10);
    let mut count = 0;
    process::eventually("the second sidecar knows what the first let through", WAIT, || {
        std::thread::sleep(Duration::from_millis(300));
        let more = passed(&mut a2, 1);
        count += more;
        (more == 0).then_some(())
    });
    assert!(count <= 6, "{count} more passed there, of two that were left");
    process::eventually("and the first what the second let through", WAIT, || {
        std::thread::sleep(Duration::from_millis(300));
        (passed(&mut a1, 1) == 0).then_some(())
    });
    // The neighbour's bucket is another one.
    let mut b = two.b(database);
    assert_eq!(passed(&mut b, 1), 1);
    for client in [a1, a2, b] {
        client.terminate();
    }
}

#[test]
fn sidecars_share_a_tenants_quota_and_go_on_without_redis() {
    let Some(redis) = Redis::start() else { return };
    let database = fixture::database_of_both();
    let pair = sharing(&redis);
    assert_shared(&pair, &database);
    let [one, _two] = &pair;
    let up = |wanted: f64| {
        process::eventually("the metric tells whether Redis answers", WAIT, || {
            let up = metric(one, "hedgerow_redis_up{use=\"quotas\"}");
            ((up - wanted).abs() < 0.1).then_some(())
        });
    };
    up(1.0);
    redis.stop();
    up(0.0);
    let mut a = one.a(&database);
    assert_eq!(passed(&mut a, 3), 0, "what is known stays in force");
    let mut b = one.b(&database);
    assert!(passed(&mut b, 14) >= 11, "and nobody else is stopped");
    assert_eq!(http::get(one.admin, "/readyz").map(|(status, _)| status), Some(200));
    assert!(one.log().contains("Redis cannot be used"), "{}", one.log());
    redis.run();
    up(1.0);
    a.terminate();
    b.terminate();
    pair.iter().for_each(Hedgerow::finish);
}

#[test]
fn a_cluster_of_redis_serves_as_well() {
    let Some(redis) = Redis::start_cluster() else { return };
    let database = fixture::database_of_both();
    let pair = sharing(&redis);
    assert_shared(&pair, &database);
    pair.iter().for_each(Hedgerow::finish);
}

#[test]
fn sidecars_share_a_tenants_places_and_a_crashed_ones_come_free() {
    let Some(redis) = Redis::start() else { return };
    let database = fixture::database_of_both();
    let mut options = options("{concurrent: 3}");
    options.postgres_extra = format!("quota: {{redis: \"{}\"}}\n", redis.url());
    let [one, two] = [Hedgerow::start(&options), Hedgerow::start(&options)];
    // Two of three places are taken at the first sidecar.
    let mut held = [one.a(&database), one.a(&database)];
    for client in &mut held {
        client.send(&wire::query(LONG));
    }
    let (mut probe, mut other) = (two.a(&database), two.a(&database));
    let mut b = two.b(&database);
    // The third is there, for one at a time.
    let occupied = process::eventually("the last place", WAIT, || {
        other.send(&wire::query(LONG));
        let taken = other.collect_for(Duration::from_millis(500));
        taken.errors().is_empty().then_some(true)
    });
    assert!(occupied);
    process::eventually("no place is left at the second sidecar", WAIT, || {
        let outcome = probe.query("SELECT 1");
        let refused = outcome.errors().iter().any(|e| e.denial_code() == Some("HR3002"));
        refused.then_some(())
    });
    let mut third = one.a(&database);
    process::eventually("nor at the first", WAIT, || {
        let outcome = third.query("SELECT 1");
        (!outcome.errors().is_empty()).then_some(())
    });
    assert_eq!(b.query("SELECT 1").lines(), ["1"], "a neighbour has its own");
    // Nothing at the first sidecar gives its places back: it is killed, and its statements with it.
    one.kill();
    postgres::server().run(
        postgres::SUPERUSER,
        &format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = \
             '{database}' AND query LIKE '%50000000000%' AND backend_start < \
             (SELECT max(backend_start) FROM pg_stat_activity WHERE datname = '{database}' AND \
             query LIKE '%50000000000%')"
        ),
    );
    process::eventually("the places of the crashed one come free", WAIT, || {
        probe.query("SELECT 1").errors().is_empty().then_some(())
    });
    drop(other);
    for client in [probe, b] {
        client.terminate();
    }
    two.finish();
}
