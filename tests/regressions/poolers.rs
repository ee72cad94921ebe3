//! CVEs of PgBouncer and of the way to TLS, by name.

use std::time::Duration;

use hedgerow::wire::ErrorFields;
use hedgerow::wire::error_fields::field;

use crate::support::TENANT_A;
use crate::support::fixture::World;
use crate::support::token::{Token, now};
use crate::support::wire::{self, WireClient};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The pooler ran its own query under the client's search_path. Here a start packet's parameters are an
/// allow-list, and the session's names resolve by the path that the server gives.
#[test]
fn cve_2025_12819_search_path_in_the_start_packet_is_refused() {
    let world = World::new();
    for parameter in [
        ("search_path", "evil"),
        ("options", "-c search_path=evil"),
        ("options", "-csearch_path=evil"),
        ("SEARCH_PATH", "evil"),
        ("session_authorization", "postgres"),
        ("role", "postgres"),
    ] {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        let start = [("user", "x"), ("database", world.database.as_str()), parameter];
        let outcome = client.start(&start, Some(&Token::hs256(TENANT_A).sign()));
        assert!(
            !outcome.ready() && outcome.denial_code() == "HR1006",
            "{parameter:?}: {outcome:?}"
        );
    }
    world.finish();
}

/// A length in the authentication exchange overflowed. Lengths here are checked before anything is read.
#[test]
fn cve_2026_6664_and_6665_broken_sasl_messages_end_the_connection_and_nothing_else() {
    let world = World::new();
    let start = wire::startup(196_608, &[("user", "x"), ("database", &world.database)]);
    let mut sasl = b"SCRAM-SHA-256\0".to_vec();
    sasl.extend(i32::MAX.to_be_bytes());
    sasl.extend(b"n,,n=x,r=nonce");
    let mut negative = b"SCRAM-SHA-256\0".to_vec();
    negative.extend((-5_i32).to_be_bytes());
    for body in [
        sasl,
        negative,
        b"n,,\x01auth=Bearer ".to_vec(),
        vec![0; 70_000],
        Vec::new(),
        b"\xff\xfe\0".to_vec(),
    ] {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        client.send(&start);
        client.collect_until(|outcome| outcome.shape().contains('R'));
        client.send(&wire::frame(b'p', &body));
        let outcome = client.collect_for(Duration::from_secs(2));
        assert!(!outcome.ready(), "{outcome:?}");
        assert!(world.hedgerow.runs());
    }
    let mut lengths = start;
    lengths.extend([b'p', 0xff, 0xff, 0xff, 0xff]);
    let mut client = WireClient::connect(world.hedgerow.for_a());
    client.send(&lengths);
    assert!(!client.collect_for(Duration::from_secs(2)).ready());
    assert_eq!(world.a().query("SELECT 1").lines(), ["1"]);
    world.finish();
}

/// An ErrorResponse without SQLSTATE crashed the pooler. The upstream is input like any other.
#[test]
fn cve_2026_6666_an_error_without_sqlstate_is_read() {
    for body in [&b"SERROR\0Mboom\0\0"[..], b"Mboom\0\0", b"\0"] {
        let fields = ErrorFields::decode(body).expect("an error");
        assert_eq!(fields.text(field::CODE), "");
    }
    for body in [&b""[..], b"S", b"SERROR", b"SERROR\0", b"\xff\xff\0\0"] {
        let read = ErrorFields::decode(body).map(|fields| fields.text(field::CODE).to_owned());
        assert!(read.is_err() || read == Ok(String::new()), "{body:?}: {read:?}");
    }
}

/// Any user of the admin console could kill clients. There is no console in the wire protocol.
#[test]
fn cve_2026_6667_no_admin_command_is_taken_from_a_client() {
    let world = World::new();
    let mut a = world.a();
    for sql in [
        "KILL_CLIENT 1",
        "KILL",
        "SHOW CLIENTS",
        "PAUSE",
        "SHUTDOWN",
        "RELOAD",
        "SET max_client_conn = 1",
    ] {
        let outcome = a.query(sql);
        assert!(outcome.rows().is_empty() && !outcome.errors().is_empty(), "{sql}: {outcome:?}");
        assert!(world.hedgerow.runs());
    }
    let mut console = WireClient::connect(world.hedgerow.for_a());
    let start = [("user", "pgbouncer"), ("database", "pgbouncer")];
    let outcome = console.start(&start, Some(&Token::hs256(TENANT_A).sign()));
    assert!(!outcome.ready(), "there is no database of that name: {outcome:?}");
    world.finish();
}

/// VALID UNTIL was not looked at. A token's expiry is checked at every statement, not only at sign-in.
#[test]
fn cve_2025_2291_a_session_does_not_outlive_its_token() {
    let world = World::new();
    let token = Token::hs256(TENANT_A).claim("exp", (now() + 1).into()).sign();
    let mut a = world.hedgerow.sign_in(world.hedgerow.for_a(), &world.database, &token);
    assert_eq!(a.query("SELECT count(*) FROM users").lines(), ["3"]);
    // exp + leeway (2 s) of the fixture.
    std::thread::sleep(Duration::from_millis(4_500));
    let outcome = a.query("SELECT count(*) FROM users");
    assert!(outcome.rows().is_empty() && outcome.sqlstate() == "57P01", "{outcome:?}");
    world.finish();
}

/// What lay in the buffer behind the request for TLS was taken for what came encrypted.
#[test]
fn cve_2021_3935_cve_2021_23214_cve_2021_23222_early_data_closes_the_connection() {
    let world = World::new();
    let mut early = SSL_REQUEST.to_vec();
    early.extend(wire::startup(196_608, &[("user", "x"), ("database", &world.database)]));
    early.extend(wire::query("SELECT 1"));
    let mut gss = vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    gss.extend(wire::startup(196_608, &[("user", "x"), ("database", &world.database)]));
    for packet in [early, gss] {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        client.send(&packet);
        let outcome = client.collect_for(Duration::from_secs(2));
        assert!(outcome.closed && client.received.is_empty(), "{outcome:?} {:?}", client.received);
    }
    world.finish();
}

/// libpq took an error message that came before TLS for the server's. Towards clients: a second request
/// for encryption, or one behind a refused one, is answered with one error and the end (also
/// CVE-2026-6479, startup that calls itself without end).
#[test]
fn cve_2024_10977_cve_2026_6479_encryption_is_asked_for_once() {
    let world = World::new();
    let mut client = WireClient::connect(world.hedgerow.for_a());
    client.send(&SSL_REQUEST);
    client.collect_for(Duration::from_millis(300));
    for _again in 0..3 {
        client.send(&SSL_REQUEST);
    }
    let outcome = client.collect_for(Duration::from_secs(2));
    assert!(outcome.closed && !outcome.ready(), "{outcome:?}");
    assert_eq!(client.received.first(), Some(&b'N'));
    assert_eq!(world.a().query("SELECT 1").lines(), ["1"]);
    world.finish();
}
