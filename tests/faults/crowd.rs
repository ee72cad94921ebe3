//! Many clients of two tenants that do whatever clients do, and look hard at every answer.
//!
//! Every question holds a word that no other question holds, and its answer must hold that word: so
//! an answer that belongs to another client, or to another question, is seen.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, Told};
use crate::random::Random;
use crate::support::fault_proxy::FaultProxy;
use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::postgres::server;
use crate::support::wire::{self, Outcome, WireClient};
use crate::support::{TENANT_A, TENANT_B, process, token};

const CLIENTS: u64 = 8;
/// How long a client waits for an answer before it gives up.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Backends of the pool in each mode.
const MODES: [(&str, usize); 2] = [("session", 40), ("transaction", 3)];

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Everything that a fault may do something to.
pub struct Stage {
    pub world: World,
    /// Between Hedgerow and PostgreSQL.
    pub upstream: FaultProxy,
    /// Between the clients of A, of B, and Hedgerow.
    pub clients: [FaultProxy; 2],
    pub ledger: Ledger,
    pub seed: u64,
    over: AtomicBool,
    answered: AtomicU64,
    lost: AtomicU64,
}

impl Stage {
    /// Whether the fault's time is over.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits, unless the time is over before.
    pub fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Lets the crowd work while `harm` does its worst, in both pool modes; then looks at what is left.
/// `harm` must end soon after [`Stage::is_over`]; what it gives must have happened at least once.
pub fn under(fault: &str, harm: impl Fn(&Stage) -> u64 + Sync) {
    under_with(fault, |options| options, harm);
}

/// The same with another configuration.
pub fn under_with(
    fault: &str,
    configure: impl Fn(Options) -> Options,
    harm: impl Fn(&Stage) -> u64 + Sync,
) {
    let seed = setting("HEDGEROW_FAULT_SEED", 1);
    let time = Duration::from_secs(setting("HEDGEROW_FAULT_SECONDS", 2));
    for (pool_mode, max_connections) in MODES {
        let upstream = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], server().port)), seed);
        let options = configure(Options {
            pool_mode,
            max_connections,
            upstream_port: Some(upstream.address().port()),
            ..Options::new(POLICY)
        });
        let world = World::with(&options);
        let clients = [
            FaultProxy::start(world.hedgerow.for_a(), seed ^ 0xa),
            FaultProxy::start(world.hedgerow.for_b(), seed ^ 0xb),
        ];
        let stage = Stage {
            world,
            upstream,
            clients,
            ledger: Ledger::new(),
            seed,
            over: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        let harmed = std::thread::scope(|scope| {
            let crowd: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let stage = &stage;
                    scope.spawn(move || Guest::new(stage, number).stay())
                })
                .collect();
            let harming = scope.spawn(|| harm(&stage));
            std::thread::sleep(time);
            stage.over.store(true, Ordering::Relaxed);
            let harmed = harming.join().expect("the harm is done without a fault of its own");
            for guest in crowd {
                if let Err(failure) = guest.join() {
                    std::panic::resume_unwind(failure);
                }
            }
            harmed
        });
        assert!(harmed > 0, "{fault}: no harm was done");
        stage.settle(fault, pool_mode, harmed);
    }
}

impl Stage {
    /// The fault is over: both tenants are served, and the database holds what clients were told.
    fn settle(self, fault: &str, pool_mode: &str, harmed: u64) {
        for (tenant, ids) in [(TENANT_A, "1 2 3"), (TENANT_B, "101 102 103")] {
            process::eventually("service after the fault", Duration::from_secs(15), || {
                let address = self.address_past(tenant);
                let (mut client, started) = self.world.hedgerow.try_sign_in(
                    address,
                    &self.world.database,
                    &token::of(tenant),
                );
                if !started.ready() {
                    return None;
                }
                let outcome = client.query("SELECT id FROM users ORDER BY id");
                (outcome.lines().join(" ") == ids).then_some(())
            });
        }
        // What was under way when a client left comes to its end.
        process::eventually("an end of all transactions", Duration::from_secs(60), || {
            let sql = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid() \
                 AND state <> 'idle'",
                self.world.database
            );
            (self.world.truth(&sql) == "0").then_some(())
        });
        let (written, failed, open) = self.ledger.audit(&self.world);
        let (answered, lost) =
            (self.answered.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed));
        eprintln!(
            "{fault} ({pool_mode}, seed {}): harm {harmed}; {answered} answers, {lost} connections \
             lost; rows: {written} written, {failed} failed, {open} unknown",
            self.seed
        );
        assert!(answered > 0, "{fault}: nobody was ever answered");
        self.world.finish();
    }

    const fn address_past(&self, tenant: &str) -> SocketAddr {
        if tenant.as_bytes()[0] == TENANT_A.as_bytes()[0] {
            self.world.hedgerow.for_a()
        } else {
            self.world.hedgerow.for_b()
        }
    }
}

/// One client.
struct Guest<'s> {
    stage: &'s Stage,
    random: Random,
    number: u64,
    round: u64,
    tenant: &'static str,
    own: &'static [&'static str],
    other: &'static str,
}

/// What became of a question.
enum Answer {
    /// All of it came.
    Whole(Outcome),
    /// The connection is of no use any more.
    Lost,
}

impl<'s> Guest<'s> {
    fn new(stage: &'s Stage, number: u64) -> Self {
        let is_a = number.is_multiple_of(2);
        Self {
            stage,
            random: Random::new(stage.seed.wrapping_mul(7919).wrapping_add(number)),
            number,
            round: 0,
            tenant: if is_a { TENANT_A } else { TENANT_B },
            own: if is_a { &["1", "2", "3"] } else { &["101", "102", "103"] },
            other: if is_a { "B-SECRET" } else { "A-SECRET" },
        }
    }

    fn stay(&mut self) {
        while !self.stage.is_over() {
            let address = self.stage.clients[(self.number % 2) as usize].address();
            let Some(mut client) = connect(address) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            client.limit = PATIENCE;
            let token = token::of(self.tenant);
            let parameters = [
                ("user", "application"),
                ("database", self.stage.world.database.as_str()),
                ("application_name", "guest"),
            ];
            let started = client.start(&parameters, Some(&token));
            self.inspect(&started);
            if !started.ready() {
                self.stage.lost.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            for _ in 0..self.random.between(1, 40) {
                if self.stage.is_over() || !self.ask(&mut client) {
                    break;
                }
            }
            match self.random.below(4) {
                // Some leave politely, some in the middle of a question.
                0 => client.send(&wire::query("SELECT secret FROM users, generate_series(1, 500)")),
                1 => client.send(&wire::query("BEGIN; SELECT 1")[..7]),
                _ => client.terminate(),
            }
        }
    }

    /// A word of this question alone.
    fn word(&mut self) -> String {
        self.round += 1;
        format!("q{}x{}e", self.number, self.round)
    }

    /// Nothing of the other tenant's is in it. (The relays look at every byte too.)
    fn inspect(&self, outcome: &Outcome) {
        let bytes: Vec<u8> = outcome.messages.iter().flat_map(|m| m.body.clone()).collect();
        assert!(
            !String::from_utf8_lossy(&bytes).contains(self.other),
            "a value of another tenant reached client {}: {outcome:?}",
            self.number
        );
    }

    fn hear(&self, client: &mut WireClient, ready: usize) -> Answer {
        let outcome = client.collect(ready);
        client.forget();
        self.inspect(&outcome);
        let came = outcome.messages.iter().filter(|message| message.tag == b'Z').count();
        if came == ready {
            self.stage.answered.fetch_add(1, Ordering::Relaxed);
            Answer::Whole(outcome)
        } else {
            self.stage.lost.fetch_add(1, Ordering::Relaxed);
            Answer::Lost
        }
    }

    /// Asks something; whether the connection is still good.
    fn ask(&mut self, client: &mut WireClient) -> bool {
        match self.random.below(100) {
            0..25 => self.rows(client),
            25..45 => self.pipeline(client),
            45..60 => self.write(client),
            60..75 => self.transaction(client),
            75..82 => self.portions(client),
            82..88 => self.copy(client),
            88..94 => self.cancelled(client),
            _ => self.denied(client),
        }
    }

    /// Rows of a question: each must hold its word and a key of one's own, all keys in order.
    fn expect_rows(&self, outcome: &Outcome, word: &str) {
        if !outcome.errors().is_empty() {
            return;
        }
        let expected: Vec<String> = self.own.iter().map(|id| format!("{word}|{id}")).collect();
        assert_eq!(outcome.lines(), expected, "an answer to another question: {outcome:?}");
    }

    fn rows(&mut self, client: &mut WireClient) -> bool {
        let word = self.word();
        client.send(&wire::query(&format!("SELECT '{word}', id FROM users ORDER BY id")));
        match self.hear(client, 1) {
            Answer::Whole(outcome) => {
                self.expect_rows(&outcome, &word);
                true
            }
            Answer::Lost => false,
        }
    }

    /// Several statements, each with its own Sync, sent at once; some fail.
    fn pipeline(&mut self, client: &mut WireClient) -> bool {
        let count = self.random.between(2, 5);
        let (mut bytes, mut words) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let word = self.word();
            let fails = self.random.chance(20);
            let sql = if fails {
                format!("SELECT '{word}', 1 / (id - id) FROM users")
            } else {
                format!("SELECT '{word}', id FROM users WHERE id > $1::int ORDER BY id")
            };
            bytes.extend(wire::parse("", &sql, &[]));
            bytes.extend(wire::bind("", "", if fails { &[] } else { &[Some("0")] }));
            bytes.extend(wire::execute("", 0));
            bytes.extend(wire::sync());
            words.push((word, fails));
        }
        client.send(&bytes);
        for (word, fails) in words {
            match self.hear(client, 1) {
                Answer::Whole(outcome) if fails => assert!(
                    outcome.rows().is_empty() && !outcome.errors().is_empty(),
                    "an answer to another question: {outcome:?}"
                ),
                Answer::Whole(outcome) => self.expect_rows(&outcome, &word),
                Answer::Lost => return false,
            }
        }
        true
    }

    fn insert(&self, key: u32) -> Vec<u8> {
        let tenant = self.tenant;
        wire::query(&format!(
            "INSERT INTO documents (id, tenant_id, title) VALUES ({key}, '{tenant}', 'k{key}')"
        ))
    }

    fn write(&mut self, client: &mut WireClient) -> bool {
        let key = self.stage.ledger.key();
        self.stage.ledger.note(key, self.tenant, Told::Unknown);
        client.send(&self.insert(key));
        let answer = self.hear(client, 1);
        let told = match &answer {
            Answer::Whole(outcome) if outcome.tags() == ["INSERT 0 1"] => Told::Written,
            Answer::Whole(outcome) if !outcome.errors().is_empty() => Told::Failed,
            Answer::Whole(outcome) => panic!("an answer to another question: {outcome:?}"),
            Answer::Lost => Told::Unknown,
        };
        self.stage.ledger.note(key, self.tenant, told);
        matches!(answer, Answer::Whole(_))
    }

    fn transaction(&mut self, client: &mut WireClient) -> bool {
        let key = self.stage.ledger.key();
        let commits = self.random.chance(70);
        self.stage.ledger.note(
            key,
            self.tenant,
            if commits { Told::Unknown } else { Told::Failed },
        );
        let word = self.word();
        let last = if commits { "COMMIT" } else { "ROLLBACK" };
        let mut said = vec![
            wire::query("BEGIN"),
            self.insert(key),
            wire::query(&format!("SELECT '{word}', id FROM users ORDER BY id")),
            wire::query(last),
        ];
        let at_once = self.random.chance(30);
        if at_once {
            said = vec![said.concat()];
        }
        let mut outcomes = Vec::new();
        for bytes in said {
            client.send(&bytes);
            for _ in 0..if at_once { 4 } else { 1 } {
                match self.hear(client, 1) {
                    Answer::Whole(outcome) => outcomes.push(outcome),
                    Answer::Lost => return false,
                }
            }
        }
        self.expect_rows(&outcomes[2], &word);
        let end = outcomes[3].tags();
        let told = match end.first().map(String::as_str) {
            Some("COMMIT") => {
                assert!(commits, "nobody said COMMIT: {outcomes:?}");
                assert_eq!(
                    outcomes[1].tags(),
                    ["INSERT 0 1"],
                    "committed without its row: {outcomes:?}"
                );
                Told::Written
            }
            Some("ROLLBACK") => Told::Failed,
            _ if !outcomes[3].errors().is_empty() => Told::Unknown,
            _ => panic!("an answer to another question: {outcomes:?}"),
        };
        self.stage.ledger.note(key, self.tenant, told);
        true
    }

    /// A portal in portions, within a transaction.
    fn portions(&mut self, client: &mut WireClient) -> bool {
        let word = self.word();
        let sql = format!("SELECT '{word}', id FROM users ORDER BY id");
        let mut bytes = wire::query("BEGIN");
        bytes.extend(wire::parse("", &sql, &[]));
        bytes.extend(wire::bind("p", "", &[]));
        for _ in 0..3 {
            bytes.extend(wire::execute("p", 2));
        }
        bytes.extend(wire::sync());
        bytes.extend(wire::query("COMMIT"));
        client.send(&bytes);
        match self.hear(client, 3) {
            Answer::Whole(outcome) => {
                self.expect_rows(&outcome, &word);
                true
            }
            Answer::Lost => false,
        }
    }

    /// COPY in, of one row; now and then one leaves in the middle.
    fn copy(&mut self, client: &mut WireClient) -> bool {
        let key = self.stage.ledger.key();
        self.stage.ledger.note(key, self.tenant, Told::Unknown);
        let tenant = self.tenant;
        let mut bytes = wire::query("COPY documents (id, tenant_id, title) FROM STDIN");
        bytes.extend(wire::copy_data(&format!("{key}\t{tenant}\tcopied\n")));
        if self.random.chance(20) {
            self.stage.ledger.note(key, self.tenant, Told::Failed);
            client.send(&bytes);
            return false;
        }
        bytes.extend(wire::copy_done());
        client.send(&bytes);
        let answer = self.hear(client, 1);
        let told = match &answer {
            Answer::Whole(outcome) if outcome.tags() == ["COPY 1"] => Told::Written,
            Answer::Whole(outcome) if !outcome.errors().is_empty() => Told::Failed,
            Answer::Whole(outcome) => panic!("an answer to another question: {outcome:?}"),
            Answer::Lost => Told::Unknown,
        };
        self.stage.ledger.note(key, self.tenant, told);
        matches!(answer, Answer::Whole(_))
    }

    /// A slow statement and a cancel request for it; the next statement is nobody's to cancel.
    fn cancelled(&mut self, client: &mut WireClient) -> bool {
        let Some((pid, secret)) = client.cancel_key.clone() else { return true };
        let word = self.word();
        let slow =
            format!("SELECT '{word}', count(*) FROM generate_series(1, 8000000) AS g WHERE g < 0");
        client.send(&wire::query(&slow));
        std::thread::sleep(Duration::from_millis(self.random.between(1, 40) as u64));
        let address = self.stage.clients[(self.number % 2) as usize].address();
        if let Some(mut request) = connect(address) {
            request.limit = PATIENCE;
            request.send(&wire::cancel_request(pid, &secret));
            request.collect_until(|_| false);
        }
        match self.hear(client, 1) {
            Answer::Whole(outcome) if outcome.errors().is_empty() => {
                assert_eq!(outcome.lines(), [format!("{word}|0")], "another answer: {outcome:?}");
                true
            }
            Answer::Whole(_) => true,
            Answer::Lost => false,
        }
    }

    fn denied(&mut self, client: &mut WireClient) -> bool {
        client.send(&wire::query("SELECT secret FROM vault"));
        match self.hear(client, 1) {
            Answer::Whole(outcome) => {
                assert!(outcome.rows().is_empty() && !outcome.errors().is_empty(), "{outcome:?}");
                true
            }
            Answer::Lost => false,
        }
    }
}

/// A connection, if there is one to be had.
fn connect(address: SocketAddr) -> Option<WireClient> {
    WireClient::try_connect(address)
}
