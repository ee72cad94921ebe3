//! The integration tests' schema: two tenants whose values can be told apart, one table for each
//! kind of policy, and a second template that holds tenant A's rows and the shared tables only.

use super::hedgerow::{Hedgerow, Options};
use super::postgres::{self, Server};
use super::{TENANT_A, TENANT_B};

/// The schema and both tenants' rows.
const SCHEMA: &str = include_str!("fixture.sql");
/// The policy over it.
pub const POLICY: &str = include_str!("fixture.policy.yaml");
/// Template with both tenants.
const BOTH: &str = "fixture_both";
/// Template with tenant A and the shared tables.
const ONLY_A: &str = "fixture_only_a";
/// Tables with a column `tenant_id`, children first.
const TENANT_TABLES: &[&str] = &[
    "events",
    "orders",
    "users",
    "documents",
    "price_list",
    "regional",
    "metrics.samples",
    "vault",
];

/// A test's world: a database of its own and a `hedgerow` before it.
pub struct World {
    /// The proxy.
    pub hedgerow: Hedgerow,
    /// The database with both tenants.
    pub database: String,
}

impl World {
    /// The usual configuration.
    pub fn new() -> Self {
        Self::with(&Options::new(POLICY))
    }

    /// Another configuration.
    pub fn with(options: &Options) -> Self {
        let database = database_of_both();
        Self { hedgerow: Hedgerow::start(options), database }
    }

    /// A session of tenant A.
    pub fn a(&self) -> super::wire::WireClient {
        self.hedgerow.a(&self.database)
    }

    /// A session of tenant B.
    pub fn b(&self) -> super::wire::WireClient {
        self.hedgerow.b(&self.database)
    }

    /// One value, read past the proxy as superuser.
    pub fn truth(&self, sql: &str) -> String {
        postgres::server().run(&self.database, sql).value()
    }

    /// Ends the test: the proxy stops cleanly, its audit files verify, no canary was seen.
    pub fn finish(self) {
        self.hedgerow.finish();
    }
}

/// A fresh database with both tenants' rows.
pub fn database_of_both() -> String {
    let server = postgres::server();
    template_of_both(server);
    server.clone_of(BOTH)
}

/// A fresh database with tenant A's rows and the shared tables: what A's statements must not be
/// able to tell from the other.
pub fn database_of_a() -> String {
    let server = postgres::server();
    template_of_both(server);
    server.template(ONLY_A, BOTH, |server| {
        let mut sql = format!(
            "DELETE FROM order_items WHERE order_id IN (SELECT id FROM orders WHERE tenant_id <> '{TENANT_A}');"
        );
        for table in TENANT_TABLES {
            sql.push_str(&format!("DELETE FROM {table} WHERE tenant_id <> '{TENANT_A}';"));
        }
        sql.push_str(&format!("DELETE FROM tenants WHERE id = '{TENANT_B}'; DELETE FROM internal_keys"));
        server.run(ONLY_A, &sql);
        server.run(ONLY_A, "VACUUM ANALYZE");
    });
    server.clone_of(ONLY_A)
}

fn template_of_both(server: &Server) {
    server.template(BOTH, "template1", |server| {
        server.run(BOTH, SCHEMA);
        server.run(BOTH, "VACUUM ANALYZE");
    });
}
