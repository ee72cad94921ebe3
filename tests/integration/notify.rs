//! LISTEN and NOTIFY: a channel belongs to its tenant, and the client does not see how.

use std::time::Duration;

use crate::support::fixture::World;
use crate::support::wire::{self, Outcome, WireClient};

/// Channel and payload of each notification.
fn notifications(outcome: &Outcome) -> Vec<(String, String)> {
    let found = outcome.messages.iter().filter(|message| message.tag == b'A');
    found
        .map(|message| {
            let mut texts = message.body[4..].split(|byte| *byte == 0);
            let mut text = || String::from_utf8(texts.next().unwrap().to_vec()).unwrap();
            (text(), text())
        })
        .collect()
}

fn heard(client: &mut WireClient) -> Vec<(String, String)> {
    notifications(&client.collect_for(Duration::from_millis(400)))
}

fn pair(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

#[test]
fn notifications_reach_the_sessions_of_the_same_tenant_and_no_other() {
    let world = World::new();
    let (mut a, mut a_too, mut b) = (world.a(), world.a(), world.b());
    let long = "l".repeat(63);
    for client in [&mut a, &mut b] {
        assert_eq!(client.query("LISTEN news").tags(), ["LISTEN"]);
        assert_eq!(client.query("LISTEN \"Q\"\"uoted ü\"").tags(), ["LISTEN"]);
        assert_eq!(client.query(&format!("LISTEN {long}")).tags(), ["LISTEN"]);
    }
    assert_eq!(a_too.query("NOTIFY news, 'it''s \\ A-SECRET'").tags(), ["NOTIFY"]);
    assert_eq!(a_too.query("NOTIFY \"Q\"\"uoted ü\"").tags(), ["NOTIFY"]);
    assert_eq!(a_too.query(&format!("NOTIFY {long}, 'x'")).tags(), ["NOTIFY"]);
    let outcome = a_too.query("SELECT pg_notify('news', 'by function')");
    assert_eq!(outcome.tags(), ["SELECT 1"], "{outcome:?}");
    assert_eq!(outcome.columns()[0][0].0, "pg_notify");
    for (name, payload) in [("news", "by parameter"), (long.as_str(), "long"), ("other", "unheard")]
    {
        let outcome = a_too.extended("SELECT pg_notify($1, $2)", &[Some(name), Some(payload)]);
        assert_eq!(outcome.tags(), ["SELECT 1"], "{outcome:?}");
    }
    assert_eq!(
        heard(&mut a),
        [
            pair("news", "it's \\ A-SECRET"),
            pair("Q\"uoted ü", ""),
            pair(&long, "x"),
            pair("news", "by function"),
            pair("news", "by parameter"),
            pair(&long, "long"),
        ]
    );
    assert_eq!(heard(&mut b), []);
    // A session's own notification comes before the answer's end, or just behind it.
    let outcome = b.query("NOTIFY news, 'B-own'");
    let mut own = notifications(&outcome);
    own.extend(heard(&mut b));
    assert_eq!((outcome.tags(), own), (vec!["NOTIFY".to_owned()], vec![pair("news", "B-own")]));
    assert_eq!(heard(&mut a), []);
    for client in [a, a_too, b] {
        client.terminate();
    }
    world.finish();
}

#[test]
fn the_names_that_the_server_knows_are_nobodys_to_use() {
    let world = World::new();
    let (mut a, mut b) = (world.a(), world.b());
    a.query("LISTEN news");
    // B would have to know the name upstream; even so it is only a name of B's own.
    let digest = {
        use sha2::Digest;
        let tenant = format!("hedgerow channel\0text\0{}", crate::support::TENANT_A);
        sha2::Sha256::digest(tenant)
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    for sql in [
        format!("NOTIFY hr{digest}nnews, 'B-forged'"),
        format!("SELECT pg_notify('hr{digest}nnews', 'B-forged')"),
    ] {
        assert_eq!(b.query(&sql).errors().len(), 0);
    }
    b.extended("SELECT pg_notify($1, 'B-forged')", &[Some(&format!("hr{digest}nnews"))]);
    assert_eq!(heard(&mut a), []);
    for sql in [
        "SELECT pg_notify(name, 'x') FROM users",
        "SELECT pg_notify('a' || 'b', 'x')",
        "SELECT pg_notify('a', secret) FROM users",
        "SELECT 1, pg_notify('a', 'b')",
        "SELECT pg_notify('a', 'b') UNION SELECT pg_notify('a', 'c')",
        "SELECT (SELECT pg_notify('a', 'b'))",
        "SELECT pg_listening_channels()",
    ] {
        assert_eq!(b.query(sql).denial_code(), "HR1005", "{sql}");
    }
    a.terminate();
    b.terminate();
    world.finish();
}

#[test]
fn unlisten_transactions_and_empty_names_behave_as_on_a_plain_connection() {
    let world = World::new();
    let (mut a, mut a_too) = (world.a(), world.a());
    a.query("LISTEN one");
    a.query("LISTEN two");
    assert_eq!(a.query("UNLISTEN one").tags(), ["UNLISTEN"]);
    a_too.query("NOTIFY one");
    a_too.query("NOTIFY two");
    assert_eq!(heard(&mut a), [pair("two", "")]);
    a.query("BEGIN");
    a.query("NOTIFY two, 'rolled back'");
    a.query("ROLLBACK");
    a.query("BEGIN");
    a.query("NOTIFY two, 'committed'");
    let commit = a.query("COMMIT");
    assert_eq!(notifications(&commit), [pair("two", "committed")], "{commit:?}");
    assert_eq!(a.query("UNLISTEN *").tags(), ["UNLISTEN"]);
    a_too.query("NOTIFY two");
    assert_eq!(heard(&mut a), []);
    for (name, message) in
        [("", "channel name cannot be empty"), (&*"x".repeat(64), "channel name too long")]
    {
        let outcome = a.extended("SELECT pg_notify($1, '')", &[Some(name)]);
        assert_eq!(outcome.error().message(), message);
        let outcome = a.query(&format!("SELECT pg_notify('{name}', '')"));
        assert_eq!(outcome.error().message(), message);
    }
    let mut bytes = wire::parse("", "LISTEN three", &[]);
    bytes.extend(wire::bind("", "", &[]));
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::parse("", "NOTIFY three, 'p'", &[]));
    bytes.extend(wire::bind("", "", &[]));
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::sync());
    a.send(&bytes);
    let outcome = a.collect(1);
    assert_eq!(outcome.tags(), ["LISTEN", "NOTIFY"], "{outcome:?}");
    let mut found = notifications(&outcome);
    found.extend(heard(&mut a));
    assert_eq!(found, [pair("three", "p")]);
    a.terminate();
    a_too.terminate();
    world.finish();
}
