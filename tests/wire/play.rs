//! A script, and the two sides that it is played to.

use std::time::Duration;

use crate::compare;
use crate::support::TENANT_A;
use crate::support::fixture::{POLICY, World, database_of_a};
use crate::support::hedgerow::Options;
use crate::support::postgres::{APP_USER, SUPERUSER, server};
use crate::support::process::eventually;
use crate::support::token;
use crate::support::wire::{self, Outcome, WireClient};

/// Stands in a text for a relation that cannot be read: PostgreSQL has none of that name, Hedgerow
/// denies it.
pub const DENIED: &str = "{denied}";
/// What the last statement of every script answers.
const END: &str = "the end of the script";

/// One message of a script, as each side is sent it.
#[derive(Clone, Debug)]
pub struct Said {
    /// For people.
    pub what: String,
    direct: Vec<u8>,
    through: Vec<u8>,
    then: Then,
}

/// What comes after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The next one, in the same breath.
    Next,
    /// Long enough a pause that what was sent before may be answered.
    Pause,
    /// When the statement runs, another connection asks to cancel it.
    Cancel,
    /// The same, of one that waits for the client: after a while.
    CancelCopy,
}

/// Stands in a statement that is to be cancelled, and in no other.
pub const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 3000000000)";

impl Said {
    fn both(what: String, bytes: impl Fn(&dyn Fn(&str) -> String) -> Vec<u8>) -> Self {
        // A denial denies its whole message, as an error of PostgreSQL's analysis does.
        let direct = bytes(&|text| {
            if text.contains(DENIED) { "SELECT * FROM nowhere_at_all" } else { text }.to_owned()
        });
        let through = bytes(&|text| text.replace(DENIED, "vault"));
        Self { what, direct, through, then: Then::Next }
    }
}

/// Query
pub fn query(sql: &str) -> Said {
    Said::both(format!("Query {sql:?}"), |text| wire::query(&text(sql)))
}

/// Parse
pub fn parse(name: &str, sql: &str) -> Said {
    Said::both(format!("Parse {name:?} {sql:?}"), |text| wire::parse(name, &text(sql), &[]))
}

/// Bind with text parameters.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Said {
    Said::both(format!("Bind {portal:?} {statement:?} {parameters:?}"), |_| {
        wire::bind(portal, statement, parameters)
    })
}

/// Describe, `b'S'` or `b'P'`.
pub fn describe(kind: u8, name: &str) -> Said {
    Said::both(format!("Describe {} {name:?}", kind as char), |_| wire::describe(kind, name))
}

/// Close, `b'S'` or `b'P'`.
pub fn close(kind: u8, name: &str) -> Said {
    Said::both(format!("Close {} {name:?}", kind as char), |_| wire::close(kind, name))
}

/// Execute
pub fn execute(portal: &str, rows: u32) -> Said {
    Said::both(format!("Execute {portal:?} {rows}"), |_| wire::execute(portal, rows))
}

/// Sync
pub fn sync() -> Said {
    raw("Sync", wire::sync())
}

/// Flush
pub fn flush() -> Said {
    raw("Flush", wire::flush())
}

/// CopyData
pub fn data(text: &str) -> Said {
    raw(&format!("CopyData {text:?}"), wire::copy_data(text))
}

/// CopyDone
pub fn done() -> Said {
    raw("CopyDone", wire::copy_done())
}

/// CopyFail
pub fn fail(reason: &str) -> Said {
    raw(&format!("CopyFail {reason:?}"), wire::frame(b'f', format!("{reason}\0").as_bytes()))
}

/// Terminate
pub fn terminate() -> Said {
    raw("Terminate", wire::frame(b'X', &[]))
}

/// Any bytes.
pub fn raw(what: &str, bytes: Vec<u8>) -> Said {
    Said::both(what.to_owned(), |_| bytes.clone())
}

/// FunctionCall, which Hedgerow denies; PostgreSQL is asked for a function that it does not have.
pub fn function_call() -> Said {
    raw("FunctionCall", wire::function_call(4_000_000_000, &[]))
}

/// A cancel request for what runs: [`ENDLESS`].
pub fn cancel() -> Said {
    Said { then: Then::Cancel, ..raw("(cancel)", Vec::new()) }
}

/// A cancel request for a COPY that waits for rows.
pub fn cancel_copy() -> Said {
    Said { then: Then::CancelCopy, ..raw("(cancel)", Vec::new()) }
}

/// What follows may meet the answers to what went before.
pub fn pause() -> Said {
    Said { then: Then::Pause, ..raw("(pause)", Vec::new()) }
}

/// Waits until the server runs the statement that is to be cancelled: a request that comes before does
/// nothing, on either side.
fn wait_for_endless() {
    let find = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                AND query LIKE '%3000000000%' AND pid <> pg_backend_pid()";
    eventually("the statement that is to be cancelled", Duration::from_secs(20), || {
        (server().run(SUPERUSER, find).value() != "0").then_some(())
    });
}

/// How the bytes reach Hedgerow.
#[derive(Clone, Copy, Debug)]
pub enum Split {
    Whole,
    /// In pieces of that many bytes.
    Pieces(usize),
}

/// Both sides.
pub struct Pair {
    world: World,
    only_a: String,
}

impl Pair {
    pub fn new(pool_mode: &'static str) -> Self {
        let max_connections = if pool_mode == "session" { 20 } else { 3 };
        let options = Options { pool_mode, max_connections, ..Options::new(POLICY) };
        Self { world: World::with(&options), only_a: database_of_a() }
    }

    /// Where Hedgerow is.
    pub const fn world(&self) -> &World {
        &self.world
    }

    fn through(&self) -> WireClient {
        self.world.a()
    }

    fn direct(&self) -> WireClient {
        let mut client = WireClient::connect_unix(&server().socket());
        let options = format!("-c app.current_tenant={TENANT_A}");
        let started = client.start(
            &[
                ("user", APP_USER),
                ("database", &self.only_a),
                ("application_name", "wire-test"),
                ("options", &options),
            ],
            None,
        );
        assert!(started.ready(), "{started:?}");
        client
    }

    /// How the welcomes differ.
    pub fn welcomes(&self) -> (Outcome, Outcome) {
        let mut client = WireClient::connect_unix(&server().socket());
        let direct = client.start(
            &[("user", APP_USER), ("database", &self.only_a), ("application_name", "wire-test")],
            None,
        );
        let token = token::of(TENANT_A);
        let (_client, through) = self.world.hedgerow.try_sign_in(
            self.world.hedgerow.for_a(),
            &self.world.database,
            &token,
        );
        (direct, through)
    }

    /// Plays the script to both sides; the difference in words, if any.
    pub fn difference(&self, messages: &[Said], split: Split) -> Option<String> {
        let direct = play(self.direct(), messages, |said| &said.direct, Split::Whole, |_, _| ());
        let through = play(
            self.through(),
            messages,
            |said| &said.through,
            split,
            |pid, secret| {
                let mut request = WireClient::connect(self.world.hedgerow.for_a());
                request.send(&wire::cancel_request(pid, secret));
                let closed = request.collect_until(|_| false);
                assert!(closed.closed, "a cancel request's connection is closed");
            },
        );
        compare::difference(&direct, &through)
    }

    /// Leaves messages out as long as the sides differ.
    pub fn shorten(&self, mut messages: Vec<Said>, split: Split) -> (Vec<Said>, String) {
        let mut found = self.difference(&messages, split).unwrap_or_else(|| "not again".to_owned());
        let mut position = messages.len();
        while position > 0 {
            position -= 1;
            let mut fewer = messages.clone();
            fewer.remove(position);
            if let Some(difference) = self.difference(&fewer, split) {
                (messages, found) = (fewer, difference);
            }
        }
        (messages, found)
    }

    pub fn finish(self) {
        self.world.finish();
    }
}

fn play(
    mut client: WireClient,
    messages: &[Said],
    bytes: impl Fn(&Said) -> &Vec<u8>,
    split: Split,
    cancel: impl Fn(i32, &[u8]),
) -> Outcome {
    // Longer than anything takes: what has not come by then does not come.
    client.limit = Duration::from_secs(20);
    let mut end = wire::frame(b'f', b"end\0");
    end.extend(wire::sync());
    end.extend(wire::query("ROLLBACK"));
    end.extend(wire::query(&format!("SELECT '{END}'")));
    let mut all = Vec::new();
    for said in messages {
        if said.then == Then::Pause {
            send(&mut client, &std::mem::take(&mut all), split);
            std::thread::sleep(Duration::from_millis(100));
        } else if matches!(said.then, Then::Cancel | Then::CancelCopy) {
            send(&mut client, &std::mem::take(&mut all), split);
            if said.then == Then::Cancel {
                wait_for_endless();
            } else {
                std::thread::sleep(Duration::from_millis(400));
            }
            let (pid, secret) = client.cancel_key.clone().expect("a cancel key");
            if bytes(said).is_empty() && std::ptr::eq(bytes(said), &raw const said.through) {
                cancel(pid, &secret);
            } else {
                let mut request = WireClient::connect_unix(&server().socket());
                request.send(&wire::cancel_request(pid, &secret));
                request.collect_until(|_| false);
            }
        } else {
            all.extend_from_slice(bytes(said));
        }
    }
    all.extend(end);
    send(&mut client, &all, split);
    client.collect_until(|outcome| match outcome.messages.as_slice() {
        [.., row, _, ready] => {
            ready.tag == b'Z' && row.tag == b'D' && row.body.ends_with(END.as_bytes())
        }
        _ => false,
    })
}

fn send(client: &mut WireClient, bytes: &[u8], split: Split) {
    match split {
        Split::Whole => client.send(bytes),
        Split::Pieces(size) => bytes.chunks(size).for_each(|piece| client.send(piece)),
    }
}
