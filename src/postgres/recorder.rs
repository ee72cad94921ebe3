//! Turns what happens in a session into audit events. Layer 5.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::facts::Facts;
use super::judge::Refused;
use super::meters::Meters;
use crate::audit::{
    Audit, AuditPermit, AuditUnavailable, ClientAddress, Decision, Engine, Event, Execution, Kind,
    Severity,
};
use crate::error::Denial;
use crate::identity::VerifiedIdentity;
use crate::ids::RecordId;

/// What is known of a client before it signed in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) address: ClientAddress,
    pub(super) user: Arc<str>,
    pub(super) application: Option<Arc<str>>,
    pub(super) database: Arc<str>,
    pub(super) upstream: Arc<str>,
}

/// Records for one session.
pub(super) struct Recorder {
    audit: Audit,
    /// What all its events are made from; a statement's shares it.
    template: Arc<Event>,
    pub(super) meters: Arc<Meters>,
}

/// A statement that runs: its permit, with the event attached, so that a session which dies still
/// leaves a record.
pub(super) struct OpenRecord {
    permit: AuditPermit,
    begun: Instant,
}

impl OpenRecord {
    pub(super) fn permit(&self) -> &AuditPermit {
        &self.permit
    }

    /// The statement never ran: the server discarded it.
    pub(super) fn discard(mut self) {
        drop(self.permit.detach());
    }
}

impl Recorder {
    /// A recorder for a client that has not signed in yet.
    pub(super) fn new(audit: Audit, caller: &Caller, meters: Arc<Meters>) -> Self {
        let mut template = Event::now(Kind::Authentication, Decision::Deny, Engine::Postgres);
        template.client_address = Some(caller.address);
        template.client_user = Some(Arc::clone(&caller.user));
        template.application_name = caller.application.clone();
        template.database = Some(Arc::clone(&caller.database));
        template.upstream = Some(Arc::clone(&caller.upstream));
        template.session = Some(RecordId::fresh().to_string().into());
        Self { audit, template: Arc::new(template), meters }
    }

    /// From now on, events name the caller.
    pub(super) fn identified(&mut self, identity: &VerifiedIdentity) {
        let template = Arc::make_mut(&mut self.template);
        template.tenant = identity.tenant().map(|tenant| tenant.to_string().into());
        template.subject = Some(identity.subject().into());
        template.issuer = Some(identity.issuer().into());
        template.token_id = identity.token_id().map(Into::into);
    }

    fn event(&self, kind: Kind, decision: Decision) -> Event {
        let fresh = Event::now(kind, decision, Engine::Postgres);
        Event { id: fresh.id, time: fresh.time, kind, decision, ..(*self.template).clone() }
    }

    /// Records that the client signed in.
    pub(super) async fn signed_in(&self) -> Result<(), AuditUnavailable> {
        let event = self.event(Kind::Authentication, Decision::Allow);
        self.audit.permit()?.record_as_mode_asks(event).await
    }

    /// Records that the client was refused; durable when this returns.
    pub(super) async fn refused_sign_in(
        &self,
        denial: &Denial,
        state: &str,
    ) -> Result<RecordId, AuditUnavailable> {
        self.meters.denied(denial.code);
        let mut event = self.event(Kind::Authentication, Decision::Deny).denied(denial);
        event.result_code = Some(state.into());
        self.durable(event).await
    }

    /// Records that a statement or message was refused; durable when this returns.
    pub(super) async fn denied(&self, refused: Refused) -> Result<RecordId, AuditUnavailable> {
        self.meters.denied(refused.denial.code);
        let mut event = self.event(Kind::Statement, Decision::Deny).denied(&refused.denial);
        event.fingerprint = text(refused.fingerprint.hash);
        event.statement = text(refused.fingerprint.normalized);
        event.relations = refused.relations;
        event.policy_epoch = Some(refused.policy_epoch);
        event.catalog_epoch = Some(refused.catalog_epoch);
        self.durable(event).await
    }

    /// Reserves a place without saying yet what for: the permission to prepare a statement.
    pub(super) async fn permit(&self) -> Result<AuditPermit, AuditUnavailable> {
        self.audit.room().await;
        self.audit.permit()
    }

    /// Opens the record of a statement that is about to be sent.
    pub(super) async fn open(&self, facts: &Facts) -> Result<OpenRecord, AuditUnavailable> {
        let mut permit = self.permit().await?;
        let decision = match &facts.would_deny {
            Some(_) => Decision::WouldDeny,
            None if facts.rewritten => Decision::Rewrite,
            None => Decision::Allow,
        };
        let mut execution = Execution::now(decision, &self.template, &facts.recorded);
        match &facts.would_deny {
            Some(denial) => {
                self.meters.would_deny(denial.code);
                execution.code = Some(denial.code);
                execution.object = denial.object.as_deref().map(Arc::from);
            }
            None => self.meters.ran(facts.rewritten),
        }
        permit.attach_execution(execution);
        Ok(OpenRecord { permit, begun: Instant::now() })
    }

    /// Records a statement of a caller who sees every tenant, before it is sent: critical, and durable
    /// when this returns, whatever the audit's mode.
    pub(super) async fn breaking_glass(&self, facts: &Facts) -> Result<(), AuditUnavailable> {
        let mut event = self.event(Kind::Statement, Decision::Allow);
        event.severity = Some(Severity::Critical);
        facts.recorded.fill(&mut event);
        event.message = Some("break-glass: a statement over every tenant's rows is sent".into());
        self.durable(event).await.map(|_id| ())
    }

    /// Closes the record of a statement that ended with `state`. In strict mode it is on disk when
    /// this returns.
    pub(super) async fn close(
        &self,
        mut record: OpenRecord,
        state: &str,
        rows: Option<u64>,
    ) -> Result<(), AuditUnavailable> {
        let Some(mut execution) = record.permit.detach_execution() else { return Ok(()) };
        execution.rows = rows;
        execution.duration = Some(record.begun.elapsed());
        execution.result_code = Some(if state == SUCCESS {
            Cow::Borrowed(SUCCESS)
        } else {
            // That it would have been denied says more.
            if execution.decision != Decision::WouldDeny {
                execution.decision = Decision::Error;
            }
            Cow::Owned(state.to_owned())
        });
        record.permit.record_execution(execution).await
    }

    /// Closes the record of a statement that a check of ours stopped while it ran.
    pub(super) async fn close_denied(
        &self,
        mut record: OpenRecord,
        denial: &Denial,
    ) -> Result<RecordId, AuditUnavailable> {
        self.meters.denied(denial.code);
        let event =
            record.permit.detach().unwrap_or_else(|| self.event(Kind::Statement, Decision::Deny));
        let mut event = event.denied(denial);
        event.duration = Some(record.begun.elapsed());
        let id = event.id;
        record.permit.record_durable(event).await?;
        Ok(id)
    }

    /// Records that another tenant's value was stopped on its way out; durable when this returns.
    pub(super) async fn egress(
        &self,
        facts: &Facts,
        message: &'static str,
    ) -> Result<RecordId, AuditUnavailable> {
        self.meters.egress();
        let mut event = self.event(Kind::Egress, Decision::Deny);
        facts.recorded.fill(&mut event);
        event.message = Some(message.into());
        self.durable(event).await
    }

    async fn durable(&self, event: Event) -> Result<RecordId, AuditUnavailable> {
        let id = event.id;
        self.audit.permit()?.record_durable(event).await?;
        Ok(id)
    }
}

/// The SQLSTATE of success.
pub(super) const SUCCESS: &str = "00000";

fn text(text: String) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}
