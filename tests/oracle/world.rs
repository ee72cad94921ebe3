//! The two databases: `full` behind the proxy, `alone` without it; what they hold before and after.

use std::collections::BTreeMap;

use crate::corpus::Corpus;
use crate::foreign::Foreign;
use crate::grammar::Tenants;
use crate::support::hedgerow::{self, Hedgerow, Options};
use crate::support::postgres::{APP_USER, SUPERUSER, server};
use crate::support::token::Token;
use crate::support::wire::WireClient;

const SCHEMA: &str = include_str!("schema.sql");
const POLICY: &str = include_str!("policy.yaml");
/// Tables that statements may change, parents first.
const WRITABLE: &[&str] =
    &["accounts", "orders", "items", "notes", "regional", "events", "stock", "currencies"];
/// What the superuser signs in with over TCP, for `hedgerow rls`.
const SUPERUSER_PASSWORD: &str = "superuser-password-of-the-tests";
/// The shared table: what a statement does to it on A's own database, the proxy denies.
const SHARED: &str = "currencies";
/// A session serves this many statements.
const SESSION_STATEMENTS: usize = 120;
/// The longest that a statement may take before it is left out of the comparison.
const STATEMENT_TIMEOUT: &str = "3s";

/// The tenants of a world, by the type of their column.
pub const UUID: Tenants = Tenants {
    sql_type: "uuid",
    a: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
    b: "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
};
pub const INT: Tenants = Tenants { sql_type: "int", a: "7007", b: "9009" };

/// A pair of databases and the proxy before one of them.
#[derive(Clone, Debug)]
pub struct Stage {
    pub name: &'static str,
    pub tenants: Tenants,
    /// `hedgerow rls --apply` was run on the database behind the proxy.
    pub rls: bool,
    pub pool: &'static str,
}

/// Every stage; they share a run's time.
pub const STAGES: [Stage; 4] = [
    Stage { name: "uuid", tenants: UUID, rls: false, pool: "session" },
    Stage { name: "int-rls-transaction", tenants: INT, rls: true, pool: "transaction" },
    Stage { name: "int-transaction", tenants: INT, rls: false, pool: "transaction" },
    Stage { name: "uuid-rls", tenants: UUID, rls: true, pool: "session" },
];

/// What a database holds: table, then the rows that are A's, those that are not, and strays (rows
/// of A's key range under another tenant).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest(BTreeMap<String, [String; 3]>);

/// Both sides.
pub struct World {
    pub tenants: Tenants,
    pub stage: &'static str,
    pub corpus: Corpus,
    pub foreign: Foreign,
    pub hedgerow: Hedgerow,
    full: Side,
    alone: Side,
    token: String,
    used: usize,
    restores: usize,
}

struct Side {
    database: String,
    client: WireClient,
    superuser: WireClient,
    pristine: Digest,
}

impl World {
    pub fn new(stage: &Stage, seed: u64) -> Self {
        let tenants = stage.tenants.clone();
        let kind = tenants.sql_type;
        let (full, alone) = (format!("oracle_full_{kind}"), format!("oracle_alone_{kind}"));
        let fill = |text: &str| {
            text.replace("{T}", kind)
                .replace("{A}", tenants.a)
                .replace("{B}", tenants.b)
                .replace("{TYPE}", kind)
        };
        let keep = |database: &str| {
            for table in WRITABLE {
                server().run(
                    database,
                    &format!("DROP TABLE IF EXISTS pristine.{table}; CREATE TABLE pristine.{table} AS TABLE {table}"),
                );
            }
            server().run(database, "VACUUM ANALYZE");
        };
        server().template(&full, "template1", |server| {
            server.run(&full, &fill(SCHEMA));
            keep(&full);
        });
        server().template(&alone, &full, |server| {
            for table in WRITABLE {
                if *table != SHARED {
                    server
                        .run(&alone, &format!("DELETE FROM {table} WHERE id BETWEEN 100 AND 399"));
                }
            }
            // What the proxy fills in where the client leaves the tenant out.
            for table in ["accounts", "orders", "regional", "events", "stock"] {
                let default =
                    format!("ALTER TABLE {table} ALTER tenant_id SET DEFAULT '{}'", tenants.a);
                server.run(&alone, &default);
            }
            server
                .run(&alone, &format!("ALTER TABLE notes ALTER owner SET DEFAULT '{}'", tenants.a));
            keep(&alone);
        });

        let (full, alone) = (server().clone_of(&full), server().clone_of(&alone));
        for database in [&full, &alone] {
            let limit =
                format!("ALTER DATABASE {database} SET statement_timeout = '{STATEMENT_TIMEOUT}'");
            server().run(database, &limit);
        }
        let options = Options { pool_mode: stage.pool, ..Options::new(&fill(POLICY)) };
        let hedgerow = Hedgerow::start(&options);
        if stage.rls {
            apply_rls(&hedgerow, &full);
            // The grants that go with it: what a tenant only reads, it cannot lock.
            let read_only =
                format!("REVOKE INSERT, UPDATE, DELETE ON {SHARED}, account_view FROM {APP_USER}");
            server().run(&alone, &read_only);
        }
        let foreign = Foreign::start(&alone, seed);
        let token = Token::hs256(tenants.a)
            .claim("exp", (crate::support::token::now() + 80_000).into())
            .sign();
        let full = Side::new(&full, connect(&hedgerow, &full, &token), &tenants);
        let alone = Side::new(&alone, server().connect(APP_USER, &alone), &tenants);
        Self {
            tenants,
            stage: stage.name,
            corpus: Corpus::load(),
            foreign,
            hedgerow,
            full,
            alone,
            token,
            used: 0,
            restores: 0,
        }
    }

    /// Both clients: through the proxy, and past it.
    pub const fn clients(&mut self) -> (&mut WireClient, &mut WireClient) {
        (&mut self.full.client, &mut self.alone.client)
    }

    /// Whether PostgreSQL can plan a statement on A's own database.
    pub fn plans(&mut self, sql: &str) -> bool {
        let outcome = self.alone.superuser.query(&format!("EXPLAIN (COSTS OFF) {sql}"));
        self.alone.superuser.forget();
        outcome.errors().is_empty() && outcome.ready()
    }

    /// New sessions now and then, so that state does not pile up; true when they are new.
    pub fn renew(&mut self, force: bool) -> bool {
        self.used += 1;
        if !force && !self.used.is_multiple_of(SESSION_STATEMENTS) {
            return false;
        }
        self.full.client = connect(&self.hedgerow, &self.full.database, &self.token);
        self.alone.client = server().connect(APP_USER, &self.alone.database);
        true
    }

    /// After a write: what is wrong, if anything, with the rows; then both as they were.
    pub fn settle(&mut self, compare: bool) -> Vec<String> {
        let tenants = &self.tenants;
        let (full, alone) = (&mut self.full.superuser, &mut self.alone.superuser);
        let (full, alone) = std::thread::scope(|scope| {
            let full = scope.spawn(|| digest(full, tenants));
            let alone = digest(alone, tenants);
            (full.join().expect("a digest"), alone)
        });
        let mut wrong = Vec::new();
        for (table, [mine, others, strays]) in &full.0 {
            let [before_mine, before_others, _] = &self.full.pristine.0[table];
            if others != before_others {
                wrong.push(format!("{table}: rows of others changed"));
            }
            if strays != "0" {
                wrong.push(format!("{table}: {strays} rows of A went to another tenant"));
            }
            if *table == SHARED && mine != before_mine {
                wrong.push(format!("{table}: a shared row changed"));
            }
            if compare && *mine != alone.0[table][0] {
                let changed = if mine == before_mine {
                    "not changed behind the proxy"
                } else {
                    "changed in another way"
                };
                wrong.push(format!("{table}: A's rows {changed}"));
            }
        }
        self.full.restore(&full);
        self.alone.restore(&alone);
        self.restores += 1;
        if self.restores.is_multiple_of(400) {
            for side in [&mut self.full, &mut self.alone] {
                for table in WRITABLE {
                    side.run(&format!("VACUUM ANALYZE {table}"));
                }
            }
        }
        wrong
    }
}

impl Side {
    fn new(database: &str, client: WireClient, tenants: &Tenants) -> Self {
        let mut superuser = server().connect("postgres", database);
        superuser.query("SET session_replication_role = replica");
        let pristine = digest(&mut superuser, tenants);
        Self { database: database.to_owned(), client, superuser, pristine }
    }

    fn run(&mut self, sql: &str) {
        let outcome = self.superuser.query(sql);
        assert!(outcome.errors().is_empty() && outcome.ready(), "{sql}: {outcome:?}");
        self.superuser.forget();
    }

    fn restore(&mut self, now: &Digest) {
        for table in WRITABLE {
            if now.0[*table] != self.pristine.0[*table] {
                self.run(&format!("BEGIN; DELETE FROM {table}; INSERT INTO {table} SELECT * FROM pristine.{table}; COMMIT"));
            }
        }
    }
}

/// Row-level security as `hedgerow rls --apply` makes it. The shared table stays as it is.
fn apply_rls(hedgerow: &Hedgerow, database: &str) {
    server().run(SUPERUSER, &format!("ALTER ROLE {SUPERUSER} PASSWORD '{SUPERUSER_PASSWORD}'"));
    let url = format!(
        "postgres://{SUPERUSER}:{SUPERUSER_PASSWORD}@127.0.0.1:{}/{database}",
        server().port
    );
    let arguments = [
        "rls",
        "--config",
        "hedgerow.yaml",
        "--apply",
        "--database",
        database,
        "--admin-url",
        &url,
    ];
    let applied = hedgerow::command(&arguments, hedgerow.directory());
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let forced = "SELECT count(*) FROM pg_class WHERE relforcerowsecurity";
    assert!(server().run(database, forced).value() != "0", "row-level security is on");
}

fn connect(hedgerow: &Hedgerow, database: &str, token: &str) -> WireClient {
    // Not through the relay: a statement may name B's values, and the comparison sees every byte.
    hedgerow.sign_in(hedgerow.address, database, token)
}

fn digest(superuser: &mut WireClient, tenants: &Tenants) -> Digest {
    let parts: Vec<String> = WRITABLE
        .iter()
        .map(|table| {
            let owned = match *table {
                "items" => "order_id NOT BETWEEN 100 AND 399".to_owned(),
                SHARED => "true".to_owned(),
                "notes" => format!("owner IS NOT DISTINCT FROM '{}'", tenants.a),
                _ => format!("tenant_id = '{}'", tenants.a),
            };
            let foreign = if *table == SHARED { "false" } else { "id BETWEEN 101 AND 399" };
            let rows = "md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text)";
            format!(
                "SELECT '{table}', {rows} FILTER (WHERE NOT {foreign}), '')), {rows} FILTER (WHERE {foreign}), '')), \
                 count(*) FILTER (WHERE NOT {foreign} AND NOT {owned}) FROM {table} t"
            )
        })
        .collect();
    let outcome = superuser.query(&parts.join(" UNION ALL "));
    assert!(outcome.errors().is_empty() && outcome.ready(), "digest: {outcome:?}");
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let rows = outcome
        .rows()
        .into_iter()
        .map(|row| (text(&row[0]), [text(&row[1]), text(&row[2]), text(&row[3])]));
    let digest = Digest(rows.collect());
    superuser.forget();
    digest
}
