//! Metrics of the BigQuery front, with their handles kept. Layer 5.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::audit::crosses_tenants;
use crate::error::DenialCode;

const ENGINE: &str = "bigquery";

/// Kept handles. Made once the recorder is installed.
pub(super) struct Meters {
    allowed: Counter,
    rewritten: Counter,
    cross_tenant: Counter,
    quota: Counter,
    deciding: Histogram,
    own: Histogram,
    verdicts_known: Counter,
    verdicts_made: Counter,
    pub(super) clients: Gauge,
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
            own: histogram!(
                "hedgerow_added_latency_seconds", "engine" => ENGINE, "phase" => "request"
            ),
            verdicts_known: counter!("hedgerow_rewrite_cache_hits"),
            verdicts_made: counter!("hedgerow_rewrite_cache_misses"),
            clients: gauge!("hedgerow_clients", "state" => "active"),
        }
    }

    /// A decision was made, in this time.
    pub(super) fn decided(&self, duration: Duration) {
        self.verdicts_made.increment(1);
        self.deciding.record(duration);
    }

    /// A decision came from the cache.
    pub(super) fn known(&self) {
        self.verdicts_known.increment(1);
    }

    /// From a request's head to the first call to the service.
    pub(super) fn before_upstream(&self, duration: Duration) {
        self.own.record(duration);
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

    /// Let through although a quota is spent: it is only monitored.
    pub(super) fn would_deny(&self, code: DenialCode) {
        counter!(
            "hedgerow_decisions_total",
            "engine" => ENGINE, "decision" => "would_deny", "code" => code.code()
        )
        .increment(1);
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
