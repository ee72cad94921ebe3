//! What audit costs, measured on the trail itself: no PostgreSQL, no network, a real disk.
//!
//! `bench/audit.sh` runs it. Prints Markdown: the hot path's share of a statement, what a permit and
//! a record add to a statement at a steady rate in `balanced` and in `strict`, and how fast what was
//! written is verified.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hedgerow::audit::{
    Audit, ClientAddress, Decision, Engine, Event, Kind, Mode, PUBLIC_KEY_FILE, RelationRule,
    Settings, TrustedKeys, Verification, verify,
};
use hedgerow::ids::{CatalogEpoch, PolicyEpoch};

/// What a session knows, as the PostgreSQL side fills it in.
fn template() -> Event {
    let mut event = Event::now(Kind::Statement, Decision::Rewrite, Engine::Postgres);
    event.tenant = Some("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa".into());
    event.subject = Some("user-1".into());
    event.issuer = Some("https://auth.example.com/".into());
    event.token_id = Some("01934f5e-0000-7000-8000-000000000000".into());
    event.application_name = Some("orders-api".into());
    event.client_user = Some("app".into());
    event.database = Some("orders".into());
    event.client_address = Some(ClientAddress::Tcp("127.0.0.1:55001".parse().unwrap()));
    event.upstream = Some("10.0.0.7:5432".into());
    event.session = Some("01934f5e-0000-7000-8000-000000000001".into());
    event.statement_kind = Some("select");
    event.fingerprint = Some("0123456789abcdef".into());
    event.statement = Some("SELECT id, total, state FROM orders WHERE id = $1".into());
    event.relations =
        [RelationRule { relation: "public.orders".into(), rule: "public.orders".into() }].into();
    event.policy_epoch = Some(PolicyEpoch(3));
    event.catalog_epoch = Some(CatalogEpoch(2));
    event.result_code = Some("00000".into());
    event
}

/// A statement's event, as the session makes it.
fn event(template: &Event) -> Event {
    let fresh = Event::now(Kind::Statement, Decision::Rewrite, Engine::Postgres);
    Event { id: fresh.id, time: fresh.time, ..template.clone() }
}

fn settings(directory: &Path, mode: Mode) -> Settings {
    Settings { mode, ..Settings::new(directory) }
}

/// Nanoseconds of a statement's event: made, attached to its permit, taken back, dropped.
fn hot_path(directory: &Path) {
    const ROUNDS: u32 = 200_000;
    let audit = Audit::open(settings(&directory.join("hot"), Mode::Balanced)).unwrap();
    let template = template();
    let nanoseconds = |run: &dyn Fn()| {
        (0..5)
            .map(|_| {
                let begun = Instant::now();
                (0..ROUNDS).for_each(|_| run());
                begun.elapsed().as_nanos() / u128::from(ROUNDS)
            })
            .min()
            .unwrap_or(0)
    };
    println!("| share of a statement | ns |\n|---|---|");
    let id_and_time = || {
        drop(std::hint::black_box(Event::now(Kind::Statement, Decision::Rewrite, Engine::Postgres)))
    };
    println!("| id and time | {} |", nanoseconds(&id_and_time));
    println!(
        "| event of the session | {} |",
        nanoseconds(&|| drop(std::hint::black_box(event(&template))))
    );
    println!(
        "| permit, taken and given back | {} |",
        nanoseconds(&|| drop(audit.permit().unwrap()))
    );
    let whole = || {
        let mut permit = audit.permit().unwrap();
        permit.attach(event(&template));
        let _event = std::hint::black_box(permit.detach());
    };
    println!("| permit, event attached and taken back | {} |", nanoseconds(&whole));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(audit.close());
}

/// What was measured of one mode.
struct Load {
    mode: Mode,
    rate: f64,
    latencies: Vec<u64>,
    refused: u64,
}

/// Records at a steady rate; each one's time from the permit to the end of the recording.
fn load(directory: &Path, mode: Mode, rate: u64, seconds: u64) -> Load {
    const SESSIONS: u64 = 32;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let audit = Audit::open(settings(directory, mode)).unwrap();
        let template = Arc::new(template());
        let begun = Instant::now();
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let (audit, template) = (audit.clone(), template.clone());
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    let mut refused = 0_u64;
                    let each = Duration::from_nanos(1_000_000_000 * SESSIONS / rate);
                    // What is late is made up for: the rate is that of the clients, not ours.
                    let mut next = begun + each.mul_f64(session as f64 / SESSIONS as f64);
                    while begun.elapsed().as_secs() < seconds {
                        tokio::time::sleep_until(next.into()).await;
                        next += each;
                        let from = Instant::now();
                        audit.room().await;
                        let Ok(mut permit) = audit.permit() else {
                            refused += 1;
                            continue;
                        };
                        permit.attach(event(&template));
                        let mut event = permit.detach().unwrap();
                        event.rows = Some(1);
                        event.duration = Some(from.elapsed());
                        refused += u64::from(permit.record_as_mode_asks(event).await.is_err());
                        latencies.push(u64::try_from(from.elapsed().as_nanos()).unwrap());
                    }
                    (latencies, refused)
                })
            })
            .collect();
        let mut load = Load { mode, rate: 0.0, latencies: Vec::new(), refused: 0 };
        for session in sessions {
            let (latencies, refused) = session.await.unwrap();
            load.latencies.extend(latencies);
            load.refused += refused;
        }
        load.rate = load.latencies.len() as f64 / begun.elapsed().as_secs_f64();
        audit.close().await;
        load.latencies.sort_unstable();
        load
    })
}

fn verified(directory: &Path) -> (u64, Duration) {
    let keys = TrustedKeys::read(&directory.join(PUBLIC_KEY_FILE)).unwrap();
    let paths = [directory.to_owned()];
    let begun = Instant::now();
    let intact = verify(&Verification { paths: &paths, keys: &keys, open: false }, |_| {}).unwrap();
    (intact.chains.iter().map(|chain| chain.records).sum(), begun.elapsed())
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    let (seconds, rate) = (number("SECONDS_EACH", 10), number("RATE", 10_000));
    let root = match std::env::var_os("DIRECTORY") {
        Some(directory) => tempfile::tempdir_in(directory).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    hot_path(root.path());
    println!(
        "\n| mode | records a second | records | p50 µs | p99 µs | p99.9 µs | max µs | refused |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let mut verifications = Vec::new();
    for mode in [Mode::Balanced, Mode::Strict] {
        let directory = root.path().join(format!("{mode:?}"));
        let Load { mode, rate, latencies, refused } = load(&directory, mode, rate, seconds);
        let at = |share: f64| {
            latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1_000.0
        };
        println!(
            "| {mode:?} | {rate:.0} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {refused} |",
            latencies.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
        let (records, took) = verified(&directory);
        assert!(records >= latencies.len() as u64, "every record is there");
        verifications.push((records, took));
    }
    println!("\n| verified | records | seconds | records a second |\n|---|---|---|---|");
    for (records, took) in verifications {
        let each_second = records as f64 / took.as_secs_f64();
        println!("| intact | {records} | {:.2} | {each_second:.0} |", took.as_secs_f64());
    }
}
