//! What one audit record says: plain data, no I/O, no clock. Layer 2.
//!
//! An [`Event`] is made by whoever decided something; sequence, chain and hash are added by the
//! writer. It holds no token and no literal: `statement` is the normalized text with `$n`.

use super::personal::Sealed;
use crate::error::{Denial, DenialCode};
use crate::ids::{CatalogEpoch, PolicyEpoch, RecordId};
use jiff::Timestamp;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A statement was decided.
    Statement,
    /// A caller signed in, was refused, or changed its identity.
    Authentication,
    /// Policies, keys or limits were loaded, or a reload failed.
    PolicyChange,
    /// Start, stop, drain; retention.
    Lifecycle,
    /// A value of another tenant was seen on its way out, and stopped.
    Egress,
    /// Records were lost, or may have been.
    Gap,
}

impl Kind {
    /// The word in the record.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Authentication => "authentication",
            Self::PolicyChange => "policy_change",
            Self::Lifecycle => "lifecycle",
            Self::Egress => "egress",
            Self::Gap => "gap",
        }
    }
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Let through as it was.
    Allow,
    /// Let through with the tenant bound.
    Rewrite,
    /// Refused.
    Deny,
    /// Let through although the policy says deny: the table is in monitor mode.
    WouldDeny,
    /// Allowed, but it failed (upstream error), or Hedgerow itself failed.
    Error,
}

impl Decision {
    /// The word in the record and in `audit search --decision`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Rewrite => "rewrite",
            Self::Deny => "deny",
            Self::WouldDeny => "would_deny",
            Self::Error => "error",
        }
    }
}

/// How bad, as OCSF counts (`severity_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// 1
    Informational,
    /// 2
    Low,
    /// 3
    Medium,
    /// 4
    High,
    /// 5
    Critical,
}

impl Severity {
    /// OCSF's number.
    pub const fn id(self) -> u64 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
            Self::Critical => 5,
        }
    }

    /// OCSF's caption.
    pub const fn caption(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
}

/// Which front the event came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The PostgreSQL listener.
    Postgres,
    /// The BigQuery listener.
    Bigquery,
    /// None: the sidecar itself (start, reload, gap).
    Hedgerow,
}

impl Engine {
    /// The word in the record.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Bigquery => "bigquery",
            Self::Hedgerow => "hedgerow",
        }
    }
}

/// Where the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix,
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// A relation and the policy rule that applied to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationRule {
    /// `schema.name`
    pub relation: Arc<str>,
    /// The policy entry.
    pub rule: Arc<str>,
}

impl RelationRule {
    /// The rule of a relation that no policy names.
    pub const NO_RULE: &str = "none";
}

/// What is known about lost records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Records known to be lost; 0 when none is known to be (see `message`).
    pub lost: u64,
    /// Statements that were refused meanwhile, because they could not have been recorded.
    pub refused: u64,
    /// Bytes of a torn tail that were moved to `side_file`.
    pub torn_bytes: u64,
    /// The last sequence number that is known to be good.
    pub last_good_sequence: Option<u64>,
    /// Name (without directory) of the file that holds the torn tail.
    pub side_file: Option<String>,
}

/// One thing that happened. Only `id`, `time`, `kind`, `decision` and `engine` are required; begin
/// with [`Event::at`] or [`Event::now`] and set fields, or use struct update syntax.
///
/// Texts are `Arc<str>`: what a session knows is cloned into each of its events for nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Quoted to the client in a denial's HINT.
    pub id: RecordId,
    /// When.
    pub time: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// The outcome.
    pub decision: Decision,
    /// Which front.
    pub engine: Engine,
    /// Why it was denied, or would have been.
    pub code: Option<DenialCode>,
    /// The client's own name for what the denial is about.
    pub object: Option<Arc<str>>,
    /// How bad; `None`: follows from kind, decision and code (see [`Event::effective_severity`]).
    pub severity: Option<Severity>,
    /// The tenant.
    pub tenant: Option<Arc<str>>,
    /// The token's `sub`.
    pub subject: Option<Arc<str>>,
    /// The token's `iss`.
    pub issuer: Option<Arc<str>>,
    /// The token's `jti`.
    pub token_id: Option<Arc<str>>,
    /// What the client calls itself.
    pub application_name: Option<Arc<str>>,
    /// The user name of the startup message: recorded, otherwise ignored.
    pub client_user: Option<Arc<str>>,
    /// Database (PostgreSQL) or project (BigQuery).
    pub database: Option<Arc<str>>,
    /// Where the client is.
    pub client_address: Option<ClientAddress>,
    /// The upstream as `host:port`, for the operator's own records.
    pub upstream: Option<Arc<str>>,
    /// The word of the statement's kind (`sql::Kind::word`).
    pub statement_kind: Option<&'static str>,
    /// The statement's shape, as a hash.
    pub fingerprint: Option<Arc<str>>,
    /// The statement with literals replaced by `$n`. Never the client's text.
    pub statement: Option<Arc<str>>,
    /// Relations and the rule that applied to each.
    pub relations: Arc<[RelationRule]>,
    /// The policy under which it was decided.
    pub policy_epoch: Option<PolicyEpoch>,
    /// The catalog under which it was decided.
    pub catalog_epoch: Option<CatalogEpoch>,
    /// Rows returned or changed.
    pub rows: Option<u64>,
    /// Bytes that the service bills for it, where it says so.
    pub bytes_billed: Option<u64>,
    /// From the statement's arrival to the end of its reply.
    pub duration: Option<Duration>,
    /// The SQLSTATE of the outcome; `00000` for success; `None` while unknown.
    pub result_code: Option<Arc<str>>,
    /// The session.
    pub session: Option<Arc<str>>,
    /// A sentence for people.
    pub message: Option<Arc<str>>,
    /// For [`Kind::Gap`].
    pub gap: Option<Gap>,
    /// The personal fields once they are sealed, which the writer does: then subject, client user,
    /// client address and token id are absent.
    pub personal: Option<Sealed>,
}

impl Event {
    /// An event with nothing but what is required.
    pub fn at(
        id: RecordId,
        time: Timestamp,
        kind: Kind,
        decision: Decision,
        engine: Engine,
    ) -> Self {
        Self {
            id,
            time,
            kind,
            decision,
            engine,
            code: None,
            object: None,
            severity: None,
            tenant: None,
            subject: None,
            issuer: None,
            token_id: None,
            application_name: None,
            client_user: None,
            database: None,
            client_address: None,
            upstream: None,
            statement_kind: None,
            fingerprint: None,
            statement: None,
            relations: Arc::default(),
            policy_epoch: None,
            catalog_epoch: None,
            rows: None,
            bytes_billed: None,
            duration: None,
            result_code: None,
            session: None,
            message: None,
            gap: None,
            personal: None,
        }
    }

    /// [`Event::at`] with a fresh id and the present time: the one place here that reads a clock.
    pub fn now(kind: Kind, decision: Decision, engine: Engine) -> Self {
        Self::at(RecordId::fresh(), Timestamp::now(), kind, decision, engine)
    }

    /// Marks the event as denied: decision, code, object, SQLSTATE.
    #[must_use]
    pub fn denied(mut self, denial: &Denial) -> Self {
        self.decision = Decision::Deny;
        self.code = Some(denial.code);
        self.object = denial.object.as_deref().map(Arc::from);
        self.result_code = Some(Arc::from(denial.sqlstate().0));
        self
    }

    /// The severity that was set, or the one that follows from kind, decision and code.
    pub fn effective_severity(&self) -> Severity {
        self.severity.unwrap_or_else(|| severity_of(self.kind, self.decision, self.code))
    }
}

/// The severity that follows from kind, decision and code.
pub(super) fn severity_of(kind: Kind, decision: Decision, code: Option<DenialCode>) -> Severity {
    match (kind, decision) {
        (Kind::Egress, _) => Severity::Critical,
        (Kind::Gap, _) => Severity::High,
        (_, Decision::Allow | Decision::Rewrite) => Severity::Informational,
        (_, Decision::Error) => Severity::Low,
        (_, Decision::WouldDeny) => Severity::Medium,
        (_, Decision::Deny) => match code {
            Some(code) if crosses_tenants(code) => Severity::High,
            Some(_) | None => Severity::Medium,
        },
    }
}

/// Whether a denial stands for an attempt on other tenants' data.
pub const fn crosses_tenants(code: DenialCode) -> bool {
    matches!(
        code,
        DenialCode::RelationDenied
            | DenialCode::Catalog
            | DenialCode::LeakPossible
            | DenialCode::WriteOutsideTenant
            | DenialCode::TenantColumnChange
            | DenialCode::ProtectedSetting
            | DenialCode::ParsersDisagree
            | DenialCode::ApiProject
            | DenialCode::Destination
            | DenialCode::ForeignObject
    )
}
