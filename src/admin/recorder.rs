//! The one Prometheus recorder of the process, and the list of every metric. Layer 5.
//!
//! Other layers name a metric by its string, through the macros of `metrics`, and know nothing of
//! Prometheus. [`METRICS`] is public interface: `tests/docs.rs` holds that no other name is used
//! anywhere, and renders `docs/metrics.md` from it.

use std::sync::{Mutex, PoisonError};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::error::DenialCode;
use crate::ids::PolicyEpoch;

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric, as documentation and `/metrics` tell it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Every metric, in the order of the documentation.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "hedgerow_decisions_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["engine", "decision", "code"],
        help: "Decisions, by verdict (allow, rewrite, deny, would_deny, error) and denial code.",
    },
    Metric {
        name: "hedgerow_cross_tenant_attempts_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["engine"],
        help: "Statements that were refused because they reached for another tenant's rows.",
    },
    Metric {
        name: "hedgerow_added_latency_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &["engine", "phase"],
        help: "Time that Hedgerow adds to a statement, by phase.",
    },
    Metric {
        name: "hedgerow_clients",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["state"],
        help: "Client connections, by state.",
    },
    Metric {
        name: "hedgerow_upstream_connections",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["state"],
        help: "Connections to the upstream: connecting, open, and of those the idle ones.",
    },
    Metric {
        name: "hedgerow_bigquery_bytes_billed_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        labels: &["tenant"],
        help: "Bytes that BigQuery billed for queries, by tenant; the tenants after the two hundredth share `other`.",
    },
    Metric {
        name: "hedgerow_pinned_sessions_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["reason"],
        help: "Clients that kept their connection to the upstream beyond a transaction, by what is left on it.",
    },
    Metric {
        name: "hedgerow_rewrite_cache_hits",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Decisions that came from the cache.",
    },
    Metric {
        name: "hedgerow_rewrite_cache_misses",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Decisions that had to be made anew.",
    },
    Metric {
        name: "hedgerow_rewrite_cache_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Memory that cached decisions take.",
    },
    Metric {
        name: "hedgerow_audit_records",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Audit records that were written.",
    },
    Metric {
        name: "hedgerow_audit_lost",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Audit records that could not be written; each gap is a record of its own.",
    },
    Metric {
        name: "hedgerow_audit_pending",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "Audit records that wait to be written.",
    },
    Metric {
        name: "hedgerow_audit_write_seconds",
        kind: Kind::Histogram,
        unit: Unit::Seconds,
        labels: &[],
        help: "Time to write a batch of audit records to disk.",
    },
    Metric {
        name: "hedgerow_audit_sink_records_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["sink"],
        help: "Audit records that a sink delivered; a repeat after a failure counts once.",
    },
    Metric {
        name: "hedgerow_audit_sink_failures_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["sink"],
        help: "Deliveries of a sink that failed and are tried again.",
    },
    Metric {
        name: "hedgerow_audit_sink_lag_records",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["sink"],
        help: "Audit records that are on disk and that a sink has not delivered yet.",
    },
    Metric {
        name: "hedgerow_audit_sink_stuck",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["sink"],
        help: "1 while a sink has not been able to deliver for 30 s; readiness is false then, unless the sink is not required.",
    },
    Metric {
        name: "hedgerow_audit_sink_lost_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["sink"],
        help: "Audit records that retention deleted before a sink had delivered them; each gap is a record of its own.",
    },
    Metric {
        name: "hedgerow_token_verifications_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["result"],
        help: "Token verifications: ok, or the denial code.",
    },
    Metric {
        name: "hedgerow_jwks_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        help: "Age of the oldest key set in use, since its last successful fetch.",
    },
    Metric {
        name: "hedgerow_policy_epoch",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        help: "Version of the policy in force; grows with each successful load.",
    },
    Metric {
        name: "hedgerow_reload_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["result"],
        help: "Reloads of policies or certificate: ok, or error, which left them as they were.",
    },
    Metric {
        name: "hedgerow_notifications_dropped_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Notifications on a channel that is not the session's tenant's, which nobody heard.",
    },
    Metric {
        name: "hedgerow_quota_rejections_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        help: "Statements that were refused because a tenant's quota was spent.",
    },
    Metric {
        name: "hedgerow_redis_up",
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["use"],
        help: "Whether Redis answers (1) or not (0), by what it is used for: quotas, revocation.",
    },
    Metric {
        name: "hedgerow_buffered_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        labels: &[],
        help: "Long messages that are held in memory, of all clients together.",
    },
    Metric {
        name: "hedgerow_limits_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["limit"],
        help: "How often a limit on clients and statements was met, by limit (docs/limits.md).",
    },
];

/// Upper bounds of the added latency's buckets: a cached decision takes well under a microsecond,
/// a large cold one some hundred, and what waits for a disk some ten milliseconds.
const LATENCY_BUCKETS: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
];
/// Upper bounds of the audit write's buckets: an fdatasync takes between 0.1 and 100 ms.
const WRITE_BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// The recorder could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The exporter refused its settings, or another recorder is installed in this process.
    #[error("the metrics recorder cannot be installed: {0}")]
    Exporter(#[from] BuildError),
}

/// A handle on the installed recorder; cheap to clone.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

impl Recorder {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Drains the histograms; to be called every few seconds ([`super::Server::run`] does).
    pub fn run_upkeep(&self) {
        self.0.run_upkeep();
    }
}

static INSTALLED: Mutex<Option<Recorder>> = Mutex::new(None);

/// Installs the process's recorder, describes every metric and puts counters at zero; further calls
/// hand out the same recorder. Call it before anything counts: what is counted earlier is lost.
///
/// # Errors
/// Another recorder is installed in this process.
pub fn install_recorder() -> Result<Recorder, InstallError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(recorder) = installed.as_ref() {
        return Ok(recorder.clone());
    }
    let exporter = exporter()?;
    let recorder = Recorder(exporter.handle());
    metrics::set_global_recorder(exporter).map_err(BuildError::from)?;
    describe();
    start_at_zero();
    *installed = Some(recorder.clone());
    Ok(recorder)
}

/// The recorder with the buckets of our histograms (without them it would make summaries).
pub(super) fn exporter() -> Result<PrometheusRecorder, BuildError> {
    let latency = Matcher::Full("hedgerow_added_latency_seconds".to_owned());
    let write = Matcher::Full("hedgerow_audit_write_seconds".to_owned());
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(latency, LATENCY_BUCKETS)?
        .set_buckets_for_metric(write, WRITE_BUCKETS)?
        .build_recorder())
}

/// Tells the current recorder name, unit and meaning of every metric.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// Makes the series whose labels are known appear with zero: an alert on `increase()` misses the
/// first event of a series that was not there before.
pub(super) fn start_at_zero() {
    for decision in ["allow", "rewrite"] {
        counter!("hedgerow_decisions_total",
            "engine" => "postgres", "decision" => decision, "code" => "")
        .increment(0);
    }
    for code in DenialCode::ALL {
        counter!("hedgerow_decisions_total",
            "engine" => "postgres", "decision" => "deny", "code" => code.code())
        .increment(0);
    }
    counter!("hedgerow_cross_tenant_attempts_total", "engine" => "postgres").increment(0);
    counter!("hedgerow_token_verifications_total", "result" => "ok").increment(0);
    for code in DenialCode::ALL.iter().filter(|code| code.code().starts_with("HR2")) {
        counter!("hedgerow_token_verifications_total", "result" => code.code()).increment(0);
    }
    for result in ["ok", "error"] {
        counter!("hedgerow_reload_total", "result" => result).increment(0);
    }
    for limit in [
        "max_clients",
        "max_statement",
        "statement_timeout",
        "idle_in_transaction_timeout",
        "slow_client_timeout",
        "startup_timeout",
        "max_buffered",
        "file_descriptors",
    ] {
        counter!("hedgerow_limits_total", "limit" => limit).increment(0);
    }
    for metric in METRICS.iter().filter(|metric| metric.labels.is_empty()) {
        match metric.kind {
            Kind::Counter => counter!(metric.name).increment(0),
            // A gauge without a reading would be a lie; its owner sets it.
            Kind::Gauge | Kind::Histogram => {}
        }
    }
}

/// Sets the gauge from the policy that is in force at the time of the scrape.
#[expect(clippy::cast_precision_loss, reason = "epochs stay far below 2^52")]
pub(super) fn publish_policy_epoch(epoch: PolicyEpoch) {
    gauge!("hedgerow_policy_epoch").set(epoch.0 as f64);
}
