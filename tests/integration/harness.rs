//! The harness itself: a scanner that sees nothing would make every other test pass.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::canary::{Canary, Relay};
use crate::support::fixture;
use crate::support::postgres::{SUPERUSER, server};

#[test]
fn the_canary_scanner_sees_plain_hexadecimal_base64_and_wide_text() {
    use base64::Engine;
    let canary = Canary::of_b();
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let hex: String = b"B-SECRET-1".iter().map(|byte| format!("{byte:02x}")).collect();
    let wide: Vec<u8> = "B-SECRET-1".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let seen = [
        b"x B-SECRET-1 y".to_vec(),
        b"the bsecretword".to_vec(),
        b"credit 424201".to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
        base64("B-SECRET-1").into_bytes(),
        base64("xB-SECRET-1").into_bytes(),
        base64("xyB-SECRET-1 and more").into_bytes(),
        wide,
    ];
    for bytes in seen {
        assert!(canary.find(&bytes).is_some(), "{}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(canary.find(b"A-SECRET-1 4242 b-sec"), None);
}

#[test]
fn the_relay_sees_a_value_that_is_cut_in_two() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(listener.local_addr().unwrap(), Canary::of_b());
    let mut client = TcpStream::connect(relay.address()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    for part in ["rows: B-SE", "CRET-101 and so on"] {
        server.write_all(part.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "rows: B-SECRET-101 and so on");
    assert!(!relay.findings().is_empty());
}

#[test]
fn the_relay_takes_no_records_id_for_a_value_wherever_its_window_begins() {
    for gap in 180..260 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(listener.local_addr().unwrap(), Canary::of_b());
        let mut client = TcpStream::connect(relay.address()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let denial =
            format!("(audit record 01999999-9999-7999-8424-204242424242){}", " ".repeat(gap));
        for part in [denial.as_bytes(), b"and more"] {
            server.write_all(part).unwrap();
            // What the client has, the relay has looked at.
            client.read_exact(&mut vec![0; part.len()]).unwrap();
        }
        assert_eq!(relay.findings(), Vec::<String>::new(), "{gap}");
    }
}

#[test]
fn both_fixtures_hold_the_same_rows_of_tenant_a() {
    let (both, only_a) = (fixture::database_of_both(), fixture::database_of_a());
    let count = |database: &str, condition: &str| {
        let sql = format!("SELECT count(*) FROM users WHERE {condition}");
        server().run(database, &sql).value()
    };
    assert_eq!((count(&both, "true"), count(&only_a, "true")), ("6".to_owned(), "3".to_owned()));
    assert_eq!(count(&only_a, "secret LIKE 'B-%'"), "0");
    let oid = |database: &str| server().run(database, "SELECT 'users'::regclass::oid").value();
    assert_eq!(oid(&both), oid(&only_a), "names mean the same objects in both");
    server().run(SUPERUSER, "SELECT 1");
}
