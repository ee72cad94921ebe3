//! How long the check of a tenant's quota takes with 100,000 tenants at work: by criterion, and each
//! call on its own for the percentiles (the contract's bound is 10 µs at the 99th).
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "it reports")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hedgerow::ids::PolicyEpoch;
use hedgerow::limiter::{Demand, Limiter, Rules};
use hedgerow::policy::{Mode, Quota};

const TENANTS: usize = 100_000;
const CALLS: usize = 2_000_000;

fn quotas() -> Vec<Quota> {
    let quota = |tenant: Option<&str>, rate| Quota {
        tenant: tenant.map(str::to_owned),
        statements_per_second: Some(rate),
        burst: Some(400),
        concurrent: Some(20),
        mode: Mode::Enforce,
    };
    vec![quota(None, 200.0), quota(Some("free-*"), 50.0), quota(Some("*-eu"), 100.0)]
}

/// Tenants in an order without locality: the multiplier has no factor in common with their number.
fn scattered(tenants: &[String], number: usize) -> &str {
    let at = number.wrapping_mul(7_919) % tenants.len().max(1);
    tenants.get(at).map_or("", String::as_str)
}

fn check(limiter: &Limiter, quotas: &[Quota], tenant: &str) -> bool {
    let rules = Rules { epoch: PolicyEpoch(1), quotas };
    limiter.admit(rules, tenant, Demand { statements: 1, place: true }).is_ok()
}

fn percentiles(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        let position = (times.len() as f64 * share) as usize;
        times.get(position.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    println!(
        "{name}: p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn quota(criterion: &mut Criterion) {
    let quotas = quotas();
    let tenants: Vec<String> = (0..TENANTS).map(|number| format!("free-{number}-eu")).collect();
    let limiter = Limiter::default();
    for tenant in &tenants {
        check(&limiter, &quotas, tenant);
    }
    let measured = |from: usize| {
        (from..from.saturating_add(CALLS))
            .map(|number| {
                let tenant = scattered(&tenants, number);
                let begun = Instant::now();
                black_box(check(&limiter, &quotas, tenant));
                begun.elapsed()
            })
            .collect::<Vec<_>>()
    };
    percentiles("quota check, 100,000 tenants, 1 thread", measured(0));
    let all = std::thread::scope(|scope| {
        let measured = &measured;
        let runs: Vec<_> =
            (0..2_usize).map(|half| scope.spawn(move || measured(half * 31))).collect();
        runs.into_iter().filter_map(|run| run.join().ok()).flatten().collect()
    });
    percentiles("quota check, 100,000 tenants, 2 threads", all);
    let mut number = 0_usize;
    criterion.bench_function("quota check, 100,000 tenants", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            check(&limiter, &quotas, black_box(scattered(&tenants, number)))
        });
    });
}

criterion_group!(benches, quota);
criterion_main!(benches);
