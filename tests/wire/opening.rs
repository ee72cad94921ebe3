//! How a connection begins: requests for encryption, versions, the welcome.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::play::Pair;
use crate::support::postgres::server;
use crate::support::wire::{self, Outcome};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

fn request(code: u32) -> Vec<u8> {
    let mut bytes = 8_u32.to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes
}

/// What a server says to these bytes, each sent when the one before was answered or left unanswered.
fn said(address: SocketAddr, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut answers = Vec::new();
    for piece in pieces {
        stream.write_all(piece).ok();
        let mut buffer = [0; 4096];
        answers.push(match stream.read(&mut buffer) {
            Ok(count) => buffer[..count].to_vec(),
            Err(_) => b"(nothing)".to_vec(),
        });
    }
    stream.shutdown(Shutdown::Both).ok();
    answers
}

/// The type, severity and SQLSTATE of each message, or the bytes as they are.
fn gist(answer: &[u8]) -> String {
    match answer.first() {
        Some(b'E') if answer.len() > 5 => {
            let text = String::from_utf8_lossy(&answer[5..]);
            let fields: Vec<&str> =
                text.split('\0').filter(|f| f.starts_with(['V', 'C'])).collect();
            format!("E {fields:?}")
        }
        // What is asked for authentication differs.
        Some(b'R') => "R".to_owned(),
        Some(b'v') => format!("{:?} and R", &answer[..answer.len().min(13)]),
        _ => String::from_utf8_lossy(answer).into_owned(),
    }
}

/// A name, what is sent, and what Hedgerow says where that is not what PostgreSQL says.
type Case<'a> = (&'a str, Vec<Vec<u8>>, Option<Vec<String>>);

#[test]
fn first_packets_are_answered_as_postgresql_answers_them() {
    let pair = Pair::new("session");
    let database = &pair.world().database;
    let parameters = [("user", "app_user"), ("database", database.as_str())];
    let started = |version| wire::startup(version, &parameters);
    let fatal = |state: &str| format!("E [\"VFATAL\", \"C{state}\"]");
    let (n, r, bad) = ("N".to_owned(), "R".to_owned(), fatal("08P01"));
    // With what Hedgerow says where it is not what PostgreSQL says: that offers GSSAPI if it was built
    // with it, answers protocol 2 in protocol 2, and hangs up on bad lengths without a word.
    let cases: Vec<Case<'_>> = vec![
        ("SSLRequest, then a session in clear", vec![request(SSL_REQUEST), started(196_608)], None),
        (
            "GSSENCRequest, then SSLRequest, then a session",
            vec![request(GSS_REQUEST), request(SSL_REQUEST), started(196_608)],
            Some(vec![n.clone(), n.clone(), r.clone()]),
        ),
        (
            "GSSENCRequest, then a session",
            vec![request(GSS_REQUEST), started(196_608)],
            Some(vec![n, r]),
        ),
        ("protocol 2.0", vec![started(131_072)], Some(vec![fatal("0A000")])),
        ("protocol 4.0", vec![started(262_144)], None),
        ("no user", vec![wire::startup(196_608, &[("database", database)])], None),
        ("a length of 7", vec![vec![0, 0, 0, 7, 0, 3, 0]], Some(vec![bad.clone()])),
        ("a length of 0", vec![vec![0, 0, 0, 0, 0, 3, 0, 0]], Some(vec![bad.clone()])),
        (
            "a length beyond 10,000",
            vec![vec![0, 0, 0x27, 0x20, 0, 3, 0, 0]],
            Some(vec![bad.clone()]),
        ),
        (
            "half a cancel request",
            vec![vec![0, 0, 0, 12, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 1]],
            Some(vec![bad]),
        ),
        ("a cancel request for nobody", vec![wire::cancel_request(1, &[1, 2, 3, 4])], None),
        (
            "a startup packet without its end",
            vec![[&[0, 0, 0, 14, 0, 3, 0, 0][..], b"user\0x"].concat()],
            None,
        ),
    ];
    let direct = SocketAddr::from(([127, 0, 0, 1], server().port));
    let mut differences = Vec::new();
    for (name, pieces, differs) in cases {
        let gists = |address| said(address, &pieces).iter().map(|a| gist(a)).collect::<Vec<_>>();
        let expected = differs.unwrap_or_else(|| gists(direct));
        let got = gists(pair.world().hedgerow.for_a());
        if expected != got {
            differences.push(format!("{name}: {expected:?} expected, {got:?} through Hedgerow"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    pair.finish();
}

#[test]
fn the_welcome_is_postgresqls_but_for_key_and_user() {
    let pair = Pair::new("session");
    let (direct, through) = pair.welcomes();
    let statuses = |outcome: &Outcome| -> BTreeMap<String, String> {
        outcome
            .messages
            .iter()
            .filter(|message| message.tag == b'S')
            .map(|message| {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                let (name, value) =
                    text.trim_end_matches('\0').split_once('\0').unwrap_or((&text, ""));
                (name.to_owned(), value.to_owned())
            })
            .collect()
    };
    assert_eq!(statuses(&direct), statuses(&through));
    let without_password = |shape: String| shape.replacen("RR", "R", 1);
    assert_eq!(direct.shape(), without_password(through.shape()));
    pair.finish();
}
