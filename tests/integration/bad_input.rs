//! Bad input of any kind gets a clear error and costs nothing else.

use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::wire::{self, WireClient};

fn still_serves(world: &World) {
    let mut a = world.a();
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    a.terminate();
}

#[test]
fn a_statement_over_the_limit_is_refused_and_the_session_goes_on() {
    let options = Options { limits: "max_statement: 64KiB".to_owned(), ..Options::new(POLICY) };
    let world = World::with(&options);
    let mut a = world.a();
    let large = format!("SELECT '{}'", "x".repeat(100_000));
    assert_eq!(a.query(&large).sqlstate(), "54000");
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    assert_eq!(a.extended(&large, &[]).sqlstate(), "54000");
    assert_eq!(a.query("SELECT 2").lines(), ["2"]);
    a.terminate();
    world.finish();
}

#[test]
fn deep_nesting_is_refused_or_answered_but_never_fatal() {
    let world = World::new();
    let mut a = world.a();
    a.limit = Duration::from_secs(60);
    let parentheses = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let terms = format!("SELECT {}", vec!["1"; 30_000].join(" + "));
    let ors = format!("SELECT id FROM users WHERE {}", vec!["id = 1"; 20_000].join(" OR "));
    let unions = vec!["SELECT 1"; 10_000].join(" UNION ALL ");
    let nots = format!("SELECT {} true", "NOT ".repeat(50_000));
    let cases = format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(5_000), " END".repeat(5_000));
    let subqueries = format!("{}SELECT 1{}", "SELECT (".repeat(5_000), ")".repeat(5_000));
    let joins = format!(
        "SELECT 1 FROM {} users {}",
        "(".repeat(2_000),
        " JOIN users u ON true)".repeat(2_000)
    );
    let arrays = format!("SELECT {}1{}", "ARRAY[".repeat(10_000), "]".repeat(10_000));
    let casts = format!("SELECT 1{}", "::int".repeat(50_000));
    let minus = format!("SELECT {}1", "- ".repeat(50_000));
    let statements = "SELECT 1;".repeat(50_000);
    for sql in [
        parentheses,
        terms,
        ors,
        unions,
        nots,
        cases,
        subqueries,
        joins,
        arrays,
        casts,
        minus,
        statements,
    ] {
        let outcome = a.query(&sql);
        let what = &sql[..40];
        assert!(
            outcome.ready(),
            "{what}…: {:?} closed {} late {}",
            outcome.errors(),
            outcome.closed,
            outcome.timed_out
        );
        assert_eq!(a.query("SELECT 1").lines(), ["1"], "after {what}…");
        assert!(world.hedgerow.runs());
    }
    a.terminate();
    world.finish();
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let world = World::new();
    let mut a = world.a();
    a.send(&wire::frame(b'Q', b"SELECT '\xff\xfe'\0"));
    let outcome = a.collect(1);
    assert!(!outcome.errors().is_empty() && outcome.ready(), "{outcome:?}");
    assert_eq!(a.query("SELECT 'ä€𝄞'").lines(), ["ä€𝄞"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_query_with_bytes_behind_its_end_is_refused() {
    let world = World::new();
    let mut a = world.a();
    a.send(&wire::frame(b'Q', b"SELECT 1\0SELECT * FROM vault\0"));
    let outcome = a.collect(1);
    assert!(outcome.rows().is_empty(), "{outcome:?}");
    assert!(!outcome.errors().is_empty() || outcome.closed, "{outcome:?}");
    still_serves(&world);
    world.finish();
}

#[test]
fn malformed_startup_packets_close_the_connection_and_nothing_else() {
    let world = World::new();
    let mut packets: Vec<Vec<u8>> = vec![
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 4],
        vec![0, 0, 0, 7, 0, 3, 0],
        vec![0xff; 8],
        vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        wire::startup(131_072, &[("user", "x")]),
        wire::startup(196_608, &[]),
        wire::frame(b'Q', b"SELECT 1\0"),
        [0, 0, 0, 12, 0, 3, 0, 0, b'u', b's', b'e', b'r'].to_vec(),
        [0, 0, 0, 9, 0x04, 0xd2, 0x16, 0x2f, 0].to_vec(),
    ];
    // A fixed sequence of pseudo-random packets, so that a failure can be repeated.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for length in 0..60 {
        let bytes = (0..length * 3)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        packets.push(bytes);
    }
    for packet in &packets {
        let mut client = WireClient::connect(world.hedgerow.address);
        client.send(packet);
        client.close_write();
        client.limit = Duration::from_secs(5);
        let outcome = client.collect_until(|_| false);
        assert!(outcome.closed, "{packet:02x?} left the connection open: {outcome:?}");
    }
    still_serves(&world);
    world.finish();
}

#[test]
fn malformed_messages_end_one_session_only() {
    let world = World::new();
    let mut neighbour = world.b();
    let frames: Vec<Vec<u8>> = vec![
        vec![b'Q', 0, 0, 0, 0],
        vec![b'Q', 0, 0, 0, 3],
        vec![b'Q', 0xff, 0xff, 0xff, 0xff],
        vec![b'P', 0x7f, 0xff, 0xff, 0xff],
        wire::frame(b'Q', b"SELECT 1"),
        wire::frame(b'P', b""),
        wire::frame(b'P', b"a"),
        wire::frame(b'P', b"\0SELECT 1\0\xff\xff"),
        wire::frame(b'B', b"\0"),
        wire::frame(b'B', b"\0\0\x7f\xff"),
        wire::frame(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
        wire::frame(b'B', b"\0\0\0\0\0\x01\x80\0\0\0\0\0"),
        wire::frame(b'E', b"\0"),
        wire::frame(b'D', b"Xname\0"),
        wire::frame(b'C', b""),
        wire::frame(b'F', b"\0\0"),
        wire::frame(b'p', b"another password\0"),
        wire::frame(0, b""),
        wire::frame(0xff, b"\0\0\0\0"),
    ];
    for frame in &frames {
        let mut a = world.a();
        a.send(frame);
        a.send(&wire::sync());
        a.limit = Duration::from_secs(5);
        a.close_write();
        let outcome = a.collect_until(|_| false);
        assert!(outcome.closed, "{frame:02x?}: {outcome:?}");
        assert!(!outcome.messages.iter().any(|message| message.tag == b'D'), "{outcome:?}");
        assert_eq!(neighbour.query("SELECT count(*) FROM users").lines(), ["3"]);
    }
    neighbour.terminate();
    still_serves(&world);
    world.finish();
}

#[test]
fn a_client_that_vanishes_mid_statement_costs_nothing_else() {
    let world = World::new();
    for _round in 0..5 {
        let mut a = world.a();
        a.query("BEGIN");
        a.query("UPDATE documents SET title = 'half' WHERE id = 1");
        a.send(&wire::query("SELECT count(*) FROM generate_series(1, 2000000)"));
        drop(a);
    }
    let mut a = world.a();
    let update =
        a.query("SET lock_timeout = '10s'; UPDATE documents SET title = 'whole' WHERE id = 1");
    assert_eq!(update.tags(), ["SET", "UPDATE 1"], "{update:?}");
    a.terminate();
    world.finish();
}

#[test]
fn a_half_open_client_does_not_hold_up_the_rest() {
    let world = World::new();
    let idle: Vec<WireClient> =
        (0..30).map(|_| WireClient::connect(world.hedgerow.address)).collect();
    let mut silent: Vec<WireClient> =
        (0..10).map(|_| WireClient::connect(world.hedgerow.address)).collect();
    for client in &mut silent {
        // The packet says more than ever comes.
        client.send(&[0, 0, 1, 0, 0, 3, 0, 0, b'u']);
    }
    still_serves(&world);
    drop(idle);
    drop(silent);
    still_serves(&world);
    world.finish();
}
