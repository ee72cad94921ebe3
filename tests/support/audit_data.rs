//! Audit files of a made-up company, by the real writer: some sidecars, a day of traffic, an incident
//! at night. The same seed gives the same traffic.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hedgerow::audit::{
    Audit, ClientAddress, Decision, Engine, Event, Kind, RelationRule, Settings,
};
use hedgerow::error::{Denial, DenialCode};
use hedgerow::ids::{CatalogEpoch, PolicyEpoch, RecordId};
use jiff::Timestamp;

/// Sidecars: directory, applications.
pub const SIDECARS: &[(&str, &[&str])] = &[
    ("orders-api-7f9c4", &["orders-api", "orders-api-jobs"]),
    ("billing-worker-0", &["billing-worker"]),
    ("reporting-0", &["reporting", "DBeaver 26.1"]),
    ("support-desk-2b81d", &["support-desk"]),
];

/// Tenants, the busiest first.
pub const TENANTS: &[&str] =
    &["northwind", "contoso", "fabrikam", "initech", "tailspin", "wingtip", "adatum", "litware"];

/// What is allowed: kind of statement, relation, text.
const USUAL: &[(&str, &str, &str)] = &[
    (
        "select",
        "public.orders",
        "SELECT id, placed_at, total FROM orders WHERE customer_id = $1 ORDER BY placed_at DESC LIMIT $2",
    ),
    ("select", "public.customers", "SELECT id, name FROM customers WHERE lower(email) = $1"),
    (
        "insert",
        "public.order_items",
        "INSERT INTO order_items (order_id, sku, quantity) VALUES ($1, $2, $3)",
    ),
    ("update", "public.orders", "UPDATE orders SET status = $1 WHERE id = $2"),
    (
        "select",
        "public.invoices",
        "SELECT sum(total) FROM invoices WHERE due_at < $1 AND paid_at IS NULL",
    ),
];

/// What is denied now and then: code, object, kind, text.
const DENIED: &[(DenialCode, &str, &str, &str)] = &[
    (
        DenialCode::UnknownRelation,
        "support_tickets",
        "select",
        "SELECT * FROM support_tickets WHERE opened_at > $1",
    ),
    (DenialCode::Function, "pg_read_file", "select", "SELECT pg_read_file($1)"),
    (DenialCode::CannotParse, "", "", ""),
    (
        DenialCode::ReadOnly,
        "currencies",
        "update",
        "UPDATE currencies SET rate = $1 WHERE code = $2",
    ),
    (
        DenialCode::ColumnDenied,
        "password_hash",
        "select",
        "SELECT id, email, password_hash FROM users WHERE email = $1",
    ),
    (DenialCode::StatementKind, "CREATE TABLE", "ddl", "CREATE TABLE scratch (id int)"),
];

/// Attempts on other tenants.
const CROSSING: &[(DenialCode, &str, &str, &str)] = &[
    (
        DenialCode::WriteOutsideTenant,
        "orders",
        "insert",
        "INSERT INTO orders (tenant_id, customer_id, total) VALUES ($1, $2, $3)",
    ),
    (
        DenialCode::RelationDenied,
        "vendor_margins",
        "select",
        "SELECT v.vendor, v.margin FROM vendor_margins AS v ORDER BY v.margin DESC",
    ),
    (
        DenialCode::TenantColumnChange,
        "orders",
        "update",
        "UPDATE orders SET tenant_id = $1 WHERE id = $2",
    ),
    (
        DenialCode::Catalog,
        "pg_stats",
        "select",
        "SELECT tablename, attname, most_common_vals FROM pg_stats",
    ),
    (DenialCode::ProtectedSetting, "row_security", "set", "SET row_security = off"),
];

/// A small generator of numbers (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of them; the first more often than the last.
    fn leaning<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.below(all.len()).min(self.below(all.len()));
        &all[at]
    }
}

/// An event at a time, with what every session knows.
pub fn event(dice: &mut Dice, at: Timestamp, application: &str, tenant: &str) -> Event {
    let millis = u64::try_from(at.as_millisecond()).unwrap();
    let stamp = uuid::Timestamp::from_unix(
        uuid::NoContext,
        millis / 1000,
        (millis % 1000) as u32 * 1_000_000,
    );
    let id = RecordId(uuid::Uuid::new_v7(stamp));
    let mut event = Event::at(id, at, Kind::Statement, Decision::Rewrite, Engine::Postgres);
    let session = dice.below(40);
    event.tenant = Some(tenant.into());
    event.subject =
        Some(format!("svc-{application}@{tenant}").to_lowercase().replace(' ', "-").into());
    event.issuer = Some("https://auth.example.com/".into());
    event.token_id = Some(format!("t-{:06x}", dice.below(1 << 24)).into());
    event.application_name = Some(application.into());
    event.client_user = Some("app".into());
    event.database = Some("shop".into());
    let address: SocketAddr =
        format!("10.42.{}.{}:{}", session % 4, 10 + session, 40_000 + session).parse().unwrap();
    event.client_address = Some(ClientAddress::Tcp(address));
    event.upstream = Some("db-1.internal:5432".into());
    event.policy_epoch = Some(PolicyEpoch(7));
    event.catalog_epoch = Some(CatalogEpoch(3));
    event.session = Some(format!("{application}-{tenant}-{session}").into());
    event
}

/// Sets the statement of an event.
pub fn with_statement(event: &mut Event, kind: &'static str, text: &str) {
    if text.is_empty() {
        return;
    }
    let digest = hedgerow::identity::crypto::sha256(text.as_bytes());
    let fingerprint: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    event.statement = Some(text.into());
    event.statement_kind = Some(kind);
    event.fingerprint = Some(fingerprint.into());
}

/// The sidecar's traffic: `count` records over the time before `end`.
fn traffic(
    dice: &mut Dice,
    sidecar: usize,
    count: usize,
    span: Duration,
    end: Timestamp,
) -> Vec<Event> {
    let applications = SIDECARS[sidecar].1;
    let span = i64::try_from(span.as_secs()).unwrap();
    let mut times: Vec<i64> = (0..count)
        .map(|_| {
            // More by day than by night.
            let tries = [dice.below(span as usize), dice.below(span as usize)];
            let noon = |second: usize| ((second * 24 / span as usize) as i64 - 12).abs();
            tries.into_iter().min_by_key(|second| noon(*second)).unwrap() as i64
        })
        .collect();
    times.sort_unstable();
    let mut events = Vec::with_capacity(count);
    for time in times {
        let at = end - jiff::SignedDuration::new(span - time, -(dice.below(999_999_999) as i32));
        let application = dice.leaning(applications);
        let tenant = dice.leaning(TENANTS);
        let mut one = event(dice, at, application, tenant);
        let night = time * 24 / span == 15 && sidecar == 3;
        let denied = dice.below(if night { 12 } else { 300 }) == 0;
        if denied {
            let crossing = night || dice.below(9) == 0;
            let (code, object, kind, text) =
                *dice.leaning(if crossing { CROSSING } else { DENIED });
            if night {
                one.tenant = Some("litware".into());
                one.subject = Some("m.reyes@litware.example".into());
                one.session = Some("support-desk-litware-night".into());
                one.client_address =
                    Some(ClientAddress::Tcp("203.0.113.77:51544".parse().unwrap()));
            }
            let denial =
                if object.is_empty() { Denial::new(code) } else { Denial::of(code, object) };
            one = one.denied(&denial);
            with_statement(&mut one, kind, text);
            if dice.below(14) == 0 && !crossing {
                one.decision = Decision::WouldDeny;
                one.result_code = Some("00000".into());
            }
        } else if dice.below(40) == 0 {
            one.kind = Kind::Authentication;
            one.decision = Decision::Allow;
            if dice.below(12) == 0 {
                one = one.denied(&Denial::new(DenialCode::TokenExpired));
            }
        } else {
            let (kind, relation, text) = *dice.leaning(USUAL);
            with_statement(&mut one, kind, text);
            one.relations =
                Arc::from([RelationRule { relation: relation.into(), rule: relation.into() }]);
            one.rows = Some(dice.below(50) as u64);
            one.duration = Some(Duration::from_micros(400 + dice.below(6_000) as u64));
            one.result_code = Some("00000".into());
        }
        events.push(one);
    }
    events
}

/// Writes `records` records of `span` before `end` below a directory, one directory a sidecar.
/// Segments are closed, but for a sidecar's last when `open` answers that its audit is to be kept.
pub async fn write(root: &Path, records: usize, span: Duration, end: Timestamp, max_size: u64) {
    for (sidecar, (name, _)) in SIDECARS.iter().enumerate() {
        let mut dice = Dice(sidecar as u64 + 1);
        let directory = root.join(name);
        let audit = Audit::open(Settings { max_size, ..Settings::new(&directory) }).unwrap();
        let count = records / SIDECARS.len();
        // In parts, so that millions do not have to be held at once.
        let parts = count.div_ceil(200_000).max(1);
        for part in 0..parts {
            let slice = span / u32::try_from(parts).unwrap();
            let left = slice * u32::try_from(parts - 1 - part).unwrap();
            let until = end - jiff::SignedDuration::try_from(left).unwrap();
            for event in traffic(&mut dice, sidecar, count / parts, slice, until) {
                // A slow disk is waited for.
                let permit = loop {
                    audit.room().await;
                    if let Ok(permit) = audit.permit() {
                        break permit;
                    }
                };
                permit.record(event);
            }
        }
        audit.close().await;
    }
}
