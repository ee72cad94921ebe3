//! Turns what happens to a request into audit events. Layer 5.

use std::sync::Arc;
use std::time::Instant;

use super::meters::Meters;
use crate::audit::{
    Audit, AuditPermit, AuditUnavailable, ClientAddress, Decision, Engine, Event, Kind,
    RelationRule,
};
use crate::error::Denial;
use crate::identity::VerifiedIdentity;
use crate::ids::{PolicyEpoch, RecordId};

/// The result of success, as in every record.
pub(super) const SUCCESS: &str = "00000";

/// What a record says of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The statement's kind, or the method's id.
    pub(super) kind: &'static str,
    /// The statement's shape, as a hash; empty for none.
    pub(super) fingerprint: Arc<str>,
    /// The statement with its literals replaced; empty for none.
    pub(super) normalized: Arc<str>,
    /// Tables and rules.
    pub(super) relations: Arc<[RelationRule]>,
    /// Whether what is sent is bound to the tenant.
    pub(super) rewritten: bool,
}

/// What a reply counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Rows of the whole result.
    pub(super) rows: Option<u64>,
    /// Bytes that the service bills.
    pub(super) bytes_billed: Option<u64>,
}

/// Records of one request.
pub(super) struct Recorder {
    audit: Audit,
    meters: Arc<Meters>,
    template: Event,
}

/// A call that runs: its permit, with the event attached.
pub(super) struct OpenRecord {
    permit: AuditPermit,
    begun: Instant,
}

impl OpenRecord {
    /// The permission to send.
    pub(super) fn permit(&self) -> &AuditPermit {
        &self.permit
    }
}

impl Recorder {
    /// A recorder for a caller who is not known yet.
    pub(super) fn new(
        audit: Audit,
        meters: Arc<Meters>,
        peer: std::net::SocketAddr,
        upstream: Arc<str>,
        application: Option<&str>,
    ) -> Self {
        let mut template = Event::now(Kind::Authentication, Decision::Deny, Engine::Bigquery);
        template.client_address = Some(ClientAddress::Tcp(peer));
        template.upstream = Some(upstream);
        template.application_name =
            application.map(|name| name.chars().take(128).collect::<String>().into());
        Self { audit, meters, template }
    }

    /// From now on, events name the caller and the project.
    pub(super) fn identified(&mut self, identity: &VerifiedIdentity) {
        self.template.tenant = identity.tenant().map(|tenant| tenant.to_string().into());
        self.template.subject = Some(identity.subject().into());
        self.template.issuer = Some(identity.issuer().into());
        self.template.token_id = identity.token_id().map(Into::into);
        self.template.kind = Kind::Statement;
    }

    /// From now on, events name the project, the method and the policy.
    pub(super) fn routed(
        &mut self,
        method: &'static str,
        project: Option<&str>,
        epoch: PolicyEpoch,
    ) {
        self.template.statement_kind = Some(method);
        self.template.database = project.map(Into::into);
        self.template.policy_epoch = Some(epoch);
    }

    fn event(&self, decision: Decision) -> Event {
        let fresh = Event::now(self.template.kind, decision, Engine::Bigquery);
        Event { id: fresh.id, time: fresh.time, decision, ..self.template.clone() }
    }

    /// Records that a request was refused; durable when this returns.
    pub(super) async fn denied(&self, denial: &Denial) -> Result<RecordId, AuditUnavailable> {
        self.meters.denied(denial.code);
        let event = self.event(Decision::Deny).denied(denial);
        let id = event.id;
        self.audit.permit()?.record_durable(event).await?;
        Ok(id)
    }

    /// Opens the record of a call that is about to be sent. `would_deny`: the quota that would have
    /// refused it, were it more than monitored.
    pub(super) async fn open(
        &self,
        facts: &Facts,
        would_deny: Option<&Denial>,
    ) -> Result<OpenRecord, AuditUnavailable> {
        self.audit.room().await;
        let mut permit = self.audit.permit()?;
        let decision = match would_deny {
            Some(_) => Decision::WouldDeny,
            None if facts.rewritten => Decision::Rewrite,
            None => Decision::Allow,
        };
        let filled = |text: &Arc<str>| (!text.is_empty()).then(|| Arc::clone(text));
        let mut event = self.event(decision);
        match would_deny {
            Some(denial) => {
                self.meters.would_deny(denial.code);
                event.code = Some(denial.code);
                event.object = denial.object.as_deref().map(Arc::from);
            }
            None => self.meters.ran(facts.rewritten),
        }
        event.statement_kind = Some(facts.kind);
        event.fingerprint = filled(&facts.fingerprint);
        event.statement = filled(&facts.normalized);
        event.relations = Arc::clone(&facts.relations);
        permit.attach(event);
        Ok(OpenRecord { permit, begun: Instant::now() })
    }

    /// Closes the record of a call that ended with `result`. In strict mode it is on disk when this
    /// returns.
    pub(super) async fn close(
        &self,
        mut record: OpenRecord,
        result: &str,
        counts: Counts,
    ) -> Result<(), AuditUnavailable> {
        let Some(mut event) = record.permit.detach() else { return Ok(()) };
        event.rows = counts.rows;
        event.bytes_billed = counts.bytes_billed;
        event.duration = Some(record.begun.elapsed());
        event.result_code = Some(result.into());
        if result != SUCCESS && event.decision != Decision::WouldDeny {
            event.decision = Decision::Error;
        }
        record.permit.record_as_mode_asks(event).await
    }
}
