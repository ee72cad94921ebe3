//! The wire: prepared statements, portals, cursors, pipelines, cancel, large results.

use std::time::{Duration, Instant};

use crate::support::fixture::World;
use crate::support::wire::{self, WireClient};

#[test]
fn a_portal_gives_its_rows_in_portions() {
    let world = World::new();
    let mut a = world.a();
    let mut bytes = wire::query("BEGIN");
    bytes.extend(wire::parse("s", "SELECT id FROM users ORDER BY id", &[]));
    bytes.extend(wire::bind("p", "s", &[]));
    bytes.extend(wire::execute("p", 2));
    bytes.extend(wire::execute("p", 2));
    bytes.extend(wire::close(b'P', "p"));
    bytes.extend(wire::sync());
    bytes.extend(wire::query("COMMIT"));
    a.send(&bytes);
    let outcome = a.collect(3);
    assert_eq!(outcome.shape(), "CZ12DDsDC3ZCZ", "{outcome:?}");
    assert_eq!(outcome.lines(), ["1", "2", "3"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_flush_delivers_what_is_owed_without_a_sync() {
    let world = World::new();
    let mut a = world.a();
    let mut bytes = wire::parse("s", "SELECT id FROM users ORDER BY id", &[]);
    bytes.extend(wire::describe(b'S', "s"));
    bytes.extend(wire::flush());
    a.send(&bytes);
    let outcome = a.collect_until(|outcome| outcome.shape() == "1tT");
    assert_eq!(outcome.shape(), "1tT", "{outcome:?}");
    a.send(&wire::sync());
    assert_eq!(a.collect(1).shape(), "Z");
    a.terminate();
    world.finish();
}

#[test]
fn statements_are_prepared_and_executed_in_both_ways() {
    let world = World::new();
    let mut a = world.a();
    assert_eq!(
        a.query("PREPARE q (int) AS SELECT name FROM users WHERE id = $1").tags(),
        ["PREPARE"]
    );
    assert_eq!(a.query("EXECUTE q (1)").lines(), ["Ann"]);
    assert_eq!(a.query("EXECUTE q (101)").lines(), Vec::<String>::new());
    // SQL's PREPARE and the protocol's Parse share one space of names.
    let mut bytes = wire::bind("", "q", &[Some("2")]);
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::sync());
    a.send(&bytes);
    assert_eq!(a.collect(1).lines(), ["Art"]);
    assert_eq!(a.query("DEALLOCATE q").tags(), ["DEALLOCATE"]);
    assert_eq!(a.query("EXECUTE q (1)").sqlstate(), "26000");
    for _round in 0..3 {
        let outcome = a.extended("SELECT name FROM users WHERE id = $1", &[Some("3")]);
        assert_eq!(outcome.lines(), ["Ada"], "{outcome:?}");
    }
    assert_eq!(a.query("DEALLOCATE ALL").tags(), ["DEALLOCATE ALL"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_named_statement_serves_many_binds() {
    let world = World::new();
    let mut a = world.a();
    let mut bytes = wire::parse("named", "SELECT id FROM users WHERE id = $1", &[23]);
    for id in ["1", "2", "101"] {
        bytes.extend(wire::bind("", "named", &[Some(id)]));
        bytes.extend(wire::execute("", 0));
    }
    bytes.extend(wire::close(b'S', "named"));
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(1);
    assert_eq!(outcome.shape(), "12DC2DC2C3Z", "{outcome:?}");
    assert_eq!(outcome.lines(), ["1", "2"]);
    a.terminate();
    world.finish();
}

#[test]
fn cursors_show_own_rows_only() {
    let world = World::new();
    let mut a = world.a();
    a.query("BEGIN");
    assert_eq!(
        a.query("DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id").tags(),
        ["DECLARE CURSOR"]
    );
    assert_eq!(a.query("FETCH 2 FROM c").lines(), ["1", "2"]);
    assert_eq!(a.query("FETCH ALL FROM c").lines(), ["3"]);
    assert_eq!(a.query("CLOSE c").tags(), ["CLOSE CURSOR"]);
    assert_eq!(a.query("COMMIT").tags(), ["COMMIT"]);
    a.terminate();
    world.finish();
}

#[test]
fn pipelined_queries_are_answered_in_order() {
    let world = World::new();
    let mut a = world.a();
    let mut bytes = Vec::new();
    let statements = ["SELECT 1", "SELECT * FROM vault", "SELECT 2", "SELECT 1/0", "", "SELECT 3"];
    for sql in statements {
        bytes.extend(wire::query(sql));
    }
    a.send(&bytes);
    let outcome = a.collect(statements.len());
    assert_eq!(outcome.shape(), "TDCZEZTDCZEZIZTDCZ", "{outcome:?}");
    assert_eq!(outcome.lines(), ["1", "2", "3"]);
    let errors: Vec<String> = outcome.errors().iter().map(|e| e.sqlstate().to_owned()).collect();
    assert_eq!(errors, ["42501", "22012"]);
    a.terminate();
    world.finish();
}

#[test]
fn messages_may_arrive_in_any_pieces() {
    let world = World::new();
    let mut a = world.a();
    for size in [1, 2, 3, 5, 7] {
        a.send_split(&wire::query("SELECT id FROM users ORDER BY id"), size);
        assert_eq!(a.collect(1).lines(), ["1", "2", "3"]);
    }
    a.terminate();
    world.finish();
}

#[test]
fn a_large_result_comes_whole() {
    let world = World::new();
    let mut a = world.a();
    a.limit = Duration::from_secs(60);
    let outcome = a.query("SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g");
    assert_eq!(outcome.tags(), ["SELECT 20000"]);
    assert_eq!(outcome.rows().len(), 20_000);
    a.terminate();
    world.finish();
}

/// The most memory that the proxy ever held, in KiB.
fn peak_memory(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.hedgerow.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 256 MiB in rows, and a field of 128 MiB; of the client's own and of a tenant's table.
#[test]
fn large_results_and_fields_pass_in_constant_memory() {
    let world = World::new();
    let token = crate::support::token::of(crate::support::TENANT_A);
    // Past the canary scanner, which would look at every byte for minutes.
    let mut a = world.hedgerow.sign_in(world.hedgerow.address, &world.database, &token);
    a.limit = Duration::from_secs(120);
    a.query("SELECT id FROM users");
    let before = peak_memory(&world);
    for (sql, rows, bytes) in [
        ("SELECT repeat('x', 1048576) FROM generate_series(1, 256)", 256, 256 << 20),
        ("SELECT repeat(left(title, 1), 134217728) FROM documents WHERE id = 1", 1, 128 << 20),
        ("SELECT repeat('x', 134217728)", 1, 128 << 20),
    ] {
        a.send(&wire::query(sql));
        // Count of columns and length of the field.
        assert_eq!(a.drain(), (rows, bytes + 6 * rows), "{sql}");
    }
    let grown = peak_memory(&world) - before;
    assert!(grown < 16 << 10, "{grown} KiB more than before");
    a.terminate();
    world.finish();
}

#[test]
fn cancel_ends_the_running_statement_and_nothing_else() {
    let world = World::new();
    let (mut a, mut b) = (world.a(), world.b());
    let (pid, secret) = a.cancel_key.clone().expect("a cancel key");
    let slow = "SELECT count(*) FROM generate_series(1, 300000000)";
    a.send(&wire::query(slow));
    b.send(&wire::query("SELECT count(*) FROM generate_series(1, 3000000)"));
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    // A wrong secret cancels nothing and says nothing.
    let mut wrong = WireClient::connect(world.hedgerow.for_a());
    wrong.send(&wire::cancel_request(pid, &vec![0x5a; secret.len()]));
    wrong.collect_for(Duration::from_millis(300));
    let mut cancel = WireClient::connect(world.hedgerow.for_a());
    cancel.send(&wire::cancel_request(pid, &secret));
    let outcome = a.collect(1);
    assert_eq!(outcome.sqlstate(), "57014", "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(b.collect(1).lines(), ["3000000"]);
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    a.terminate();
    b.terminate();
    world.finish();
}

#[test]
fn notices_and_parameter_status_pass() {
    let world = World::new();
    let mut client = WireClient::connect(world.hedgerow.for_a());
    let token = crate::support::token::of(crate::support::TENANT_A);
    let parameters =
        [("user", "x"), ("database", world.database.as_str()), ("application_name", "named")];
    let start = client.start(&parameters, Some(&token));
    let statuses: Vec<String> = start
        .messages
        .iter()
        .filter(|message| message.tag == b'S')
        .map(|message| String::from_utf8_lossy(&message.body).replace('\0', "="))
        .collect();
    for wanted in ["server_version=", "client_encoding=UTF8=", "standard_conforming_strings=on="] {
        assert!(
            statuses.iter().any(|status| status.starts_with(wanted)),
            "{wanted} in {statuses:?}"
        );
    }
    let outcome = client.query("SET TimeZone = 'Europe/Berlin'");
    let status = outcome
        .messages
        .iter()
        .any(|message| message.tag == b'S' && message.body.starts_with(b"TimeZone\0Europe/Berlin"));
    assert!(status, "{outcome:?}");
    let outcome = client.query("COMMIT");
    assert_eq!(
        outcome.notices().first().map(|notice| notice.sqlstate().to_owned()).as_deref(),
        Some("25P01")
    );
    client.terminate();
    world.finish();
}

#[test]
fn an_ssl_request_is_answered_and_a_newer_protocol_is_negotiated() {
    let world = World::new();
    let mut client = WireClient::connect(world.hedgerow.for_a());
    client.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    std::thread::sleep(Duration::from_millis(200));
    client.collect_for(Duration::from_millis(200));
    assert_eq!(client.received, b"N", "without a certificate the answer to SSLRequest is N");
    // 3.9999 is what PostgreSQL 19's libpq asks for to see whether a server negotiates.
    let mut newer = WireClient::connect(world.hedgerow.for_a());
    newer.send(&wire::startup(
        0x0003_270f,
        &[("user", "x"), ("database", &world.database), ("_pq_.strange", "1")],
    ));
    let outcome = newer.collect_until(|outcome| outcome.shape().contains('R'));
    assert_eq!(outcome.shape(), "vR", "NegotiateProtocolVersion comes first: {outcome:?}");
    world.finish();
}
