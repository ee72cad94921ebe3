//! Metrics of the PostgreSQL front, with their handles kept: looking one up by its labels costs more
//! than counting. Layer 5.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::audit::crosses_tenants;
use crate::error::DenialCode;

const ENGINE: &str = "postgres";

/// Kept handles. Made once the recorder is installed.
pub(super) struct Meters {
    allowed: Counter,
    rewritten: Counter,
    cross_tenant: Counter,
    quota: Counter,
    deciding: Histogram,
    verdicts_known: Counter,
    verdicts_made: Counter,
    verdict_bytes: Gauge,
    pub(super) clients_signing_in: Gauge,
    pub(super) clients_active: Gauge,
    pub(super) upstream_connecting: Gauge,
    pub(super) upstream_open: Gauge,
    pub(super) upstream_idle: Gauge,
}

impl Meters {
    pub(super) fn new() -> Self {
        let decisions = |decision: &'static str| counter!("hedgerow_decisions_total", "engine" => ENGINE, "decision" => decision, "code" => "");
        Self {
            allowed: decisions("allow"),
            rewritten: decisions("rewrite"),
            cross_tenant: counter!("hedgerow_cross_tenant_attempts_total", "engine" => ENGINE),
            quota: counter!("hedgerow_quota_rejections_total"),
            deciding: histogram!(
                "hedgerow_added_latency_seconds", "engine" => ENGINE, "phase" => "decide"
            ),
            verdicts_known: counter!("hedgerow_rewrite_cache_hits"),
            verdicts_made: counter!("hedgerow_rewrite_cache_misses"),
            verdict_bytes: gauge!("hedgerow_rewrite_cache_bytes"),
            clients_signing_in: gauge!("hedgerow_clients", "state" => "signing_in"),
            clients_active: gauge!("hedgerow_clients", "state" => "active"),
            upstream_connecting: gauge!("hedgerow_upstream_connections", "state" => "connecting"),
            upstream_open: gauge!("hedgerow_upstream_connections", "state" => "open"),
            upstream_idle: gauge!("hedgerow_upstream_connections", "state" => "idle"),
        }
    }

    pub(super) fn decided(&self, duration: Duration) {
        self.deciding.record(duration);
    }

    /// A decision came from the cache.
    pub(super) fn verdict_known(&self) {
        self.verdicts_known.increment(1);
    }

    /// A decision was made; those that are kept take that many bytes.
    pub(super) fn verdict_made(&self, bytes: u64) {
        self.verdicts_made.increment(1);
        // Exact up to 2^53 bytes.
        self.verdict_bytes.set(bytes as f64);
    }

    pub(super) fn ran(&self, rewritten: bool) {
        if rewritten { self.rewritten.increment(1) } else { self.allowed.increment(1) }
    }

    pub(super) fn denied(&self, code: DenialCode) {
        counter!(
            "hedgerow_decisions_total", "engine" => ENGINE, "decision" => "deny", "code" => code.code()
        )
        .increment(1);
        if crosses_tenants(code) {
            self.cross_tenant.increment(1);
        }
        if code.is_quota() {
            self.quota.increment(1);
        }
    }

    /// Let through although the policy denies it: only monitored.
    pub(super) fn would_deny(&self, code: DenialCode) {
        counter!(
            "hedgerow_decisions_total",
            "engine" => ENGINE, "decision" => "would_deny", "code" => code.code()
        )
        .increment(1);
        if crosses_tenants(code) {
            self.cross_tenant.increment(1);
        }
    }

    /// A client keeps its backend for itself.
    pub(super) fn pinned(&self, reason: &'static str) {
        counter!("hedgerow_pinned_sessions_total", "reason" => reason).increment(1);
    }

    pub(super) fn egress(&self) {
        self.cross_tenant.increment(1);
    }
}

/// Counts one in a gauge as long as it lives.
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
