//! Plays an entry: B's part, A's part, and what the database holds before and after.

use std::fmt;
use std::time::Duration;

use crate::entry::{Attacks, Entry, Expect, Message};
use crate::judge::{self, Seen};
use crate::state::{Ownership, State};
use crate::support::hedgerow::Hedgerow;
use crate::support::postgres::{APP_USER, SUPERUSER, server};
use crate::support::token::Token;
use crate::support::wire::{self, Outcome, WireClient};
use crate::support::{TENANT_A, TENANT_B};

/// Longest wait for one answer. Locks that B holds for good must not be waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// Without or with row-level security beneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum World {
    Plain,
    Rls,
}

impl World {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Rls];
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Rls => "rls",
        })
    }
}

/// What came of an entry in a world.
pub struct Verdict {
    pub id: String,
    pub class: String,
    pub title: String,
    pub world: World,
    pub failures: Vec<String>,
}

/// How clients reach the database.
#[derive(Clone, Copy)]
pub enum Door<'a> {
    /// Through the proxy.
    Hedgerow(&'a Hedgerow),
    /// Past it, as the upstream role: what an unprotected application would do. The judge must
    /// condemn what this lets happen, or it would condemn nothing.
    Unprotected,
}

impl Door<'_> {
    fn connect(self) -> WireClient {
        let mut client = match self {
            Door::Hedgerow(hedgerow) => WireClient::connect(hedgerow.address),
            Door::Unprotected => WireClient::connect_unix(&server().socket()),
        };
        client.limit = ANSWER_LIMIT;
        client
    }

    const fn user(self) -> &'static str {
        match self {
            Door::Hedgerow(_) => "application",
            Door::Unprotected => APP_USER,
        }
    }
}

/// A world's template databases.
pub struct Stage {
    world: World,
    template: String,
    /// The same with A's rows only.
    template_without_b: String,
    ownership: Ownership,
    pristine: State,
}

impl Stage {
    pub fn prepare(attacks: &Attacks, world: World) -> Self {
        let template = format!("attacks_{world}");
        let template_without_b = format!("attacks_{world}_only_a");
        let ownership = Ownership::of(&attacks.policy);
        server().template(&template, "template1", |server| {
            server.run(&template, &attacks.schema);
            if world == World::Rls {
                server.run(&template, &attacks.rls_overlay);
            }
        });
        server().template(&template_without_b, &template, |server| {
            server.run(&template_without_b, &ownership.delete_others());
        });
        let pristine = ownership.state(&template);
        Self { world, template, template_without_b, ownership, pristine }
    }

    /// A place to play in, one a worker.
    pub const fn room(&self) -> Room<'_> {
        Room { stage: self, database: None }
    }
}

/// A database that is reused for as long as it is as the template was.
pub struct Room<'a> {
    stage: &'a Stage,
    database: Option<String>,
}

impl Room<'_> {
    /// Plays one entry.
    pub fn play(&mut self, entry: &Entry, door: Door<'_>) -> Verdict {
        let stage = self.stage;
        let database = self.database.take().unwrap_or_else(|| server().clone_of(&stage.template));
        let played = Play { entry, door, database: &database }.run(Some(&stage.ownership));
        let after = stage.ownership.state(&database);
        let changes =
            played.before.as_ref().map(|before| before.changes(&after)).unwrap_or_default();
        if after.everything == stage.pristine.everything && entry.as_b.is_empty() {
            self.database = Some(database);
        } else {
            discard(&database);
            server().restore_role();
        }
        // "Nothing in whether an error occurs": an error that the server raised must come as well
        // where B has no rows.
        let doubtful = entry.expect == Expect::NoLeakInError
            && !entry.oracle
            && !played.seen.server_errors().is_empty();
        let without_b = doubtful.then(|| {
            let database = server().clone_of(&stage.template_without_b);
            let seen = Play { entry, door, database: &database }.run(None).seen;
            discard(&database);
            seen.server_errors()
        });
        Verdict {
            id: entry.id.clone(),
            class: entry.class.clone(),
            title: entry.title.clone(),
            world: stage.world,
            failures: judge::failures(entry, &played.seen, changes, without_b.as_deref()),
        }
    }
}

/// Drops a database, prepared transactions first: they would keep it.
fn discard(database: &str) {
    let list = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
    for gid in server().run(database, list).lines() {
        server().run(database, &format!("ROLLBACK PREPARED '{}'", gid.replace('\'', "''")));
    }
    server().drop_database(database);
}

struct Play<'a> {
    entry: &'a Entry,
    door: Door<'a>,
    database: &'a str,
}

struct Played {
    seen: Seen,
    before: Option<State>,
}

impl Play<'_> {
    fn run(&self, ownership: Option<&Ownership>) -> Played {
        let entry = self.entry;
        if !entry.setup.is_empty() {
            // The catalog is loaded before the change: what A meets is a schema that moved on.
            let mut earlier = self.sign_in_as(TENANT_A);
            earlier.query("SELECT 1");
            earlier.terminate();
        }
        for sql in &entry.setup {
            server().run(self.database, &self.text(sql));
        }
        if !entry.same_backend_b.is_empty() {
            let mut b = self.sign_in_as(TENANT_B);
            for sql in &entry.same_backend_b {
                b.query(&self.text(sql));
            }
            b.terminate();
        }
        let b = self.play_b();
        let before = ownership.map(|ownership| ownership.state(self.database));
        let seen = self.play_a();
        drop(b);
        Played { seen, before }
    }

    /// B's open connection. What Hedgerow denies B is done past it: the attack must not work
    /// merely because B could not play.
    fn play_b(&self) -> Vec<WireClient> {
        if self.entry.as_b.is_empty() {
            return Vec::new();
        }
        let mut b = self.sign_in_as(TENANT_B);
        let denied = self
            .entry
            .as_b
            .iter()
            .map(|sql| b.query(&self.text(sql)))
            .any(|outcome| outcome.denied());
        if !denied {
            return vec![b];
        }
        b.terminate();
        let mut direct = server().connect(APP_USER, self.database);
        direct.query(&format!("SET app.current_tenant = '{TENANT_B}'"));
        for sql in &self.entry.as_b {
            direct.query(&self.text(sql));
        }
        vec![direct]
    }

    fn play_a(&self) -> Seen {
        let entry = self.entry;
        let mut seen = Seen::default();
        let token = match &entry.claims {
            None => Token::hs256(TENANT_A),
            Some(claims) => claims.iter().fold(Token::hs256(TENANT_A), |token, (name, value)| {
                token.claim(name, value.clone())
            }),
        };
        let mut parameters = vec![
            ("user".to_owned(), self.door.user().to_owned()),
            ("database".to_owned(), self.database.to_owned()),
        ];
        if let Some(wire) = &entry.wire {
            for (name, value) in &wire.startup {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                parameters.retain(|(known, _)| known != name);
                parameters.push((name.clone(), value));
            }
        }
        let parameters: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut a = self.door.connect();
        seen.sign_in = a.start(&parameters, Some(&token.sign()));
        if !seen.sign_in.ready() {
            return seen;
        }
        if let Some(wire) = &entry.wire {
            seen.sent.extend(wire.messages.iter().map(|message| format!("{message:?}")));
            self.send_messages(wire, &mut a, &mut seen);
        }
        for (number, sql) in entry.sql.iter().enumerate() {
            seen.sent.push(self.text(sql));
            seen.outcomes.push(self.statement(&mut a, sql));
            if number == 0 && !entry.b_after.is_empty() {
                self.after_the_first(&mut a, &mut seen);
            }
        }
        if let Some(follow) = &entry.follow {
            seen.sent.push(self.text(follow));
            seen.outcomes.push(self.statement(&mut a, follow));
        }
        a.terminate();
        seen
    }

    fn after_the_first(&self, a: &mut WireClient, seen: &mut Seen) {
        let mut b = self.sign_in_as(TENANT_B);
        let denied = self
            .entry
            .b_after
            .iter()
            .map(|sql| b.query(&self.text(sql)))
            .any(|outcome| outcome.denied());
        if denied {
            let mut direct = server().connect(APP_USER, self.database);
            for sql in &self.entry.b_after {
                direct.query(&self.text(sql));
            }
        }
        seen.outcomes.push(a.collect_for(Duration::from_millis(200)));
        // Asynchronous messages may wait for the next statement.
        seen.outcomes.push(a.query("SELECT 1"));
    }

    fn statement(&self, a: &mut WireClient, sql: &str) -> Outcome {
        a.send(&wire::query(&self.text(sql)));
        let outcome = a.collect_until(|outcome| {
            outcome.ready() || outcome.messages.last().is_some_and(|message| message.tag == b'G')
        });
        if outcome.ready() || outcome.closed || outcome.timed_out {
            return outcome;
        }
        match &self.entry.copy_data {
            Some(data) => {
                a.send(&wire::copy_data(data));
                a.send(&wire::copy_done());
            }
            None => a.send(&wire::frame(b'f', b"no data\0")),
        }
        let end = a.collect(1);
        outcome.then(end)
    }

    fn send_messages(&self, wire: &crate::entry::Wire, a: &mut WireClient, seen: &mut Seen) {
        let mut segment = Vec::new();
        let mut answers = 0;
        for message in &wire.messages {
            segment.extend(self.bytes(message));
            let answered =
                matches!(message, Message::Query(_) | Message::Sync | Message::FunctionCall { .. });
            answers += usize::from(answered);
            if answered && !wire.coalesce {
                seen.outcomes.push(exchange(a, &std::mem::take(&mut segment), wire.split, answers));
                answers = 0;
            }
        }
        if answers > 0 {
            seen.outcomes.push(exchange(a, &segment, wire.split, answers));
        } else if !segment.is_empty() {
            a.send(&segment);
            seen.outcomes.push(a.collect_for(Duration::from_millis(500)));
        }
    }

    fn bytes(&self, message: &Message) -> Vec<u8> {
        match message {
            Message::Query(sql) => wire::query(&self.text(sql)),
            Message::Parse { name, sql, types } => wire::parse(name, &self.text(sql), types),
            Message::Bind { portal, statement, parameters } => {
                wire::bind(portal, statement, &borrowed(parameters))
            }
            Message::Execute { portal, rows } => wire::execute(portal, *rows),
            Message::Describe { kind, name } => wire::describe(*kind, name),
            Message::Sync => wire::sync(),
            Message::Flush => wire::flush(),
            Message::FunctionCall { signature, arguments } => {
                let find = format!("SELECT '{signature}'::regprocedure::oid");
                let oid = server().run(SUPERUSER, &find).value().parse().expect("an OID");
                wire::function_call(oid, &borrowed(arguments))
            }
            Message::CopyData(text) => wire::copy_data(text),
            Message::Raw { tag, body } => wire::frame(*tag, body.as_bytes()),
        }
    }

    fn sign_in_as(&self, tenant: &str) -> WireClient {
        let token = Token::hs256(tenant).sign();
        let mut client = self.door.connect();
        let parameters = [("user", self.door.user()), ("database", self.database)];
        let outcome = client.start(&parameters, Some(&token));
        assert!(outcome.ready(), "{}: {tenant} cannot sign in: {outcome:?}", self.entry.id);
        client
    }

    fn text(&self, sql: &str) -> String {
        sql.replace("{DB}", self.database)
    }
}

fn exchange(a: &mut WireClient, bytes: &[u8], split: Option<usize>, answers: usize) -> Outcome {
    match split {
        Some(size) => a.send_split(bytes, size),
        None => a.send(bytes),
    }
    a.collect(answers)
}

fn borrowed(values: &[Option<String>]) -> Vec<Option<&str>> {
    values.iter().map(Option::as_deref).collect()
}
