//! Limits on clients, statements, time and memory: each with its SQLSTATE, its metric, and the
//! neighbour that is not hit by it.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::{Hedgerow, Options};
use crate::support::wire::{self, WireClient};
use crate::support::{http, process};

const WAIT: Duration = Duration::from_secs(60);

fn world(limits: &str) -> World {
    let mut options = Options::new(POLICY);
    options.limits = limits.to_owned();
    World::with(&options)
}

fn met(hedgerow: &Hedgerow, limit: &str) -> u64 {
    let (_, text) = http::get(hedgerow.admin, "/metrics").expect("metrics");
    let series = format!("hedgerow_limits_total{{limit=\"{limit}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("{series} in {text}")).parse().expect("a number")
}

fn eventually_met(hedgerow: &Hedgerow, limit: &str) {
    process::eventually(limit, WAIT, || (met(hedgerow, limit) > 0).then_some(()));
}

#[test]
fn a_client_too_many_is_told_so_and_one_that_leaves_makes_room() {
    let world = world("max_clients: 2");
    let (first, mut second) = (world.a(), world.b());
    let (_, refused) = world.hedgerow.try_sign_in(
        world.hedgerow.address,
        &world.database,
        &crate::support::token::of(crate::support::TENANT_A),
    );
    assert_eq!(refused.sqlstate(), "53300", "{refused:?}");
    assert!(met(&world.hedgerow, "max_clients") > 0);
    first.terminate();
    process::eventually("there is room again", WAIT, || {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        let parameters = [("user", "application"), ("database", world.database.as_str())];
        let token = crate::support::token::of(crate::support::TENANT_A);
        client.start(&parameters, Some(&token)).ready().then_some(())
    });
    assert_eq!(second.query("SELECT 1").lines(), ["1"]);
    second.terminate();
    world.finish();
}

#[test]
fn a_statement_over_the_limit_is_refused_and_the_session_goes_on() {
    let world = world("max_statement: 64KiB");
    let mut a = world.a();
    let long = |bytes: usize| format!("SELECT length('{}')", "x".repeat(bytes));
    assert_eq!(a.query(&long(60_000)).lines(), ["60000"]);
    for sql in [long(70_000), long(700_000)] {
        let refused = a.query(&sql);
        assert_eq!((refused.sqlstate().as_str(), refused.status()), ("54000", Some('I')));
        let refused = a.extended(&sql, &[]);
        assert_eq!((refused.sqlstate().as_str(), refused.status()), ("54000", Some('I')));
    }
    assert!(met(&world.hedgerow, "max_statement") >= 4);
    a.terminate();
    world.finish();
}

#[test]
fn a_statement_is_stopped_in_time_whatever_the_client_has_set() {
    let world = world("statement_timeout: 1s");
    let mut a = world.a();
    let long = "SELECT count(*) FROM (SELECT generate_series(1, 50000000000)) AS s";
    let stopped = a.query(long);
    assert_eq!(stopped.sqlstate(), "57014", "{stopped:?}");
    assert!(a.query("SET statement_timeout = 0").errors().is_empty());
    let stopped = a.query(long);
    let count = met(&world.hedgerow, "statement_timeout");
    assert_eq!(stopped.sqlstate(), "57014", "{count} {stopped:?}");
    let stopped = a.extended(long, &[]);
    assert_eq!(stopped.sqlstate(), "57014", "{stopped:?}");
    assert!(met(&world.hedgerow, "statement_timeout") >= 3);
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_transaction_that_idles_ends_and_one_at_work_does_not() {
    let world = world("idle_in_transaction_timeout: 2s");
    let (mut idle, mut busy, mut outside) = (world.a(), world.a(), world.a());
    idle.query("BEGIN");
    idle.query("SELECT 1");
    busy.query("BEGIN");
    let slow = "SELECT count(*) FROM generate_series(1, 30000000)";
    assert_eq!(busy.query(slow).lines(), ["30000000"]);
    let last = idle.collect_until(|outcome| outcome.closed);
    assert_eq!((last.sqlstate().as_str(), last.closed), ("25P03", true), "{last:?}");
    assert_eq!(outside.query("SELECT 1").lines(), ["1"]);
    assert!(met(&world.hedgerow, "idle_in_transaction_timeout") > 0);
    outside.terminate();
    world.finish();
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let world = world("startup_timeout: 1s");
    for said in [&b""[..], b"\0\0\0\x50", &wire::startup(196_608, &[("user", "a")])] {
        let mut silent = TcpStream::connect(world.hedgerow.address).unwrap();
        silent.set_read_timeout(Some(WAIT)).unwrap();
        std::io::Write::write_all(&mut silent, said).unwrap();
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).unwrap();
    }
    process::eventually("all are counted", WAIT, || {
        (met(&world.hedgerow, "startup_timeout") >= 3).then_some(())
    });
    let mut a = world.a();
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_client_that_does_not_read_is_waited_for_and_then_left() {
    let world = world("slow_client_timeout: 3s");
    let big = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    let sign_in = || {
        let token = crate::support::token::of(crate::support::TENANT_A);
        world.hedgerow.sign_in(world.hedgerow.address, &world.database, &token)
    };
    // One that pauses gets everything.
    let mut pausing = sign_in();
    pausing.send(&wire::query(big));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(pausing.collect(1).rows().len(), 100_000);
    pausing.terminate();
    let mut silent = sign_in();
    silent.send(&wire::query(big));
    eventually_met(&world.hedgerow, "slow_client_timeout");
    process::eventually("its statement ends", WAIT, || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND usename = 'app_user' AND state <> 'idle'";
        (world.truth(sql) == "0").then_some(())
    });
    drop(silent);
    world.finish();
}

#[test]
fn long_messages_share_a_bounded_memory() {
    let world = world("max_statement: 16MiB, max_buffered: 6MiB");
    let (mut a, mut b) = (world.a(), world.b());
    let long = |bytes: usize| format!("SELECT length('{}')", "x".repeat(bytes));
    assert_eq!(a.query(&long(4 << 20)).lines(), [(4 << 20).to_string()]);
    let refused = a.query(&long(8 << 20));
    assert_eq!((refused.sqlstate().as_str(), refused.status()), ("53200", Some('I')));
    // What one holds is not there for the other, until it is given back.
    let whole = wire::query(&long(4 << 20));
    a.send(&whole[..whole.len() - 10]);
    // Before the other tries: else either may be the one that finds no room.
    process::eventually("the first holds most of it", WAIT, || {
        let (_, text) = http::get(world.hedgerow.admin, "/metrics").expect("metrics");
        let held = text.lines().find_map(|line| line.strip_prefix("hedgerow_buffered_bytes "));
        let held: f64 = held.and_then(|held| held.parse().ok()).unwrap_or_default();
        (held > f64::from(7 << 19)).then_some(())
    });
    assert_eq!(b.query(&long(4 << 20)).sqlstate(), "53200");
    assert_eq!(b.query(&long(1000)).lines(), ["1000"], "short ones go on");
    a.send(&whole[whole.len() - 10..]);
    assert_eq!(a.collect(1).lines(), [(4 << 20).to_string()]);
    process::eventually("it is given back", WAIT, || {
        let outcome = b.query(&long(4 << 20));
        (outcome.lines() == [(4 << 20).to_string()]).then_some(())
    });
    // Parameters count as well.
    let parameter = "y".repeat(8 << 20);
    let refused = a.extended("SELECT length($1::text)", &[Some(&parameter)]);
    assert_eq!((refused.sqlstate().as_str(), refused.status()), ("53200", Some('I')));
    assert!(met(&world.hedgerow, "max_buffered") >= 3);
    a.terminate();
    b.terminate();
    world.finish();
}

#[test]
fn without_file_descriptors_it_says_so_and_recovers() {
    let world = world("max_clients: 500");
    let mut a = world.a();
    a.query("SELECT 1");
    let pid = world.hedgerow.pid().to_string();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let set = |limit: &str| {
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={limit}:")])
            .status()
            .expect("prlimit (util-linux) can be run");
        assert!(status.success());
    };
    set(&(open + 8).to_string());
    let crowd: Vec<_> =
        (0..60).map(|_| TcpStream::connect(world.hedgerow.address).unwrap()).collect();
    // The metrics have no descriptor either, at the time.
    process::eventually("the log says it", WAIT, || {
        world.hedgerow.log().contains("connections cannot be accepted").then_some(())
    });
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    let lines = world.hedgerow.log().matches("cannot be accepted").count();
    assert!(lines < 10, "the log is not flooded: {lines} lines");
    drop(crowd);
    set("1024");
    eventually_met(&world.hedgerow, "file_descriptors");
    let mut fresh = world.a();
    assert_eq!(fresh.query("SELECT 1").lines(), ["1"]);
    a.terminate();
    fresh.terminate();
    world.finish();
}

#[test]
fn many_connects_and_disconnects_leave_no_memory_behind() {
    let world = world("max_clients: 500");
    let token = crate::support::token::of(crate::support::TENANT_A);
    let address = world.hedgerow.address;
    let round = |count: usize| {
        for number in 0..count {
            match number % 4 {
                0 => drop(TcpStream::connect(address).unwrap()),
                1 => {
                    let mut client = WireClient::connect(address);
                    client.start(&[("user", "u"), ("database", &world.database)], Some("no token"));
                }
                _ => {
                    let mut client = world.hedgerow.sign_in(address, &world.database, &token);
                    if number % 40 == 2 {
                        client.query("SELECT 1");
                    }
                    client.terminate();
                }
            }
        }
    };
    let resident = || {
        let statm =
            std::fs::read_to_string(format!("/proc/{}/statm", world.hedgerow.pid())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
    };
    round(800);
    let before = resident();
    round(2400);
    let grown = resident().saturating_sub(before);
    assert!(grown < 6 << 10, "{grown} KiB more after 2,400 connections, of {before} KiB");
    world.finish();
}
