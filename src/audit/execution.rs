//! The record of a statement that ran, as a session hands it over. Layer 2.
//!
//! What a session knows of its caller, and what is known of a statement before it runs, is the same in
//! thousands of records: they share it, and the writer reads it where it lies. An [`Event`] says the
//! same with fields of its own; [`Fields`] is what the form of a record is made from, of either.

use super::personal::Sealed;
use super::record::{
    ClientAddress, Decision, Engine, Event, Gap, Kind, RelationRule, Severity, severity_of,
};
use crate::error::DenialCode;
use crate::ids::{CatalogEpoch, PolicyEpoch, RecordId};
use jiff::Timestamp;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What is known of a statement before it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatementFacts {
    /// The word of the statement's kind (`sql::Kind::word`).
    pub kind: &'static str,
    /// The statement's shape, as a hash; empty: not known.
    pub fingerprint: Arc<str>,
    /// The statement with literals replaced by `$n`; empty: not known. Never the client's text.
    pub normalized: Arc<str>,
    /// Relations and the rule that applied to each.
    pub relations: Arc<[RelationRule]>,
    /// The policy under which it was decided.
    pub policy_epoch: PolicyEpoch,
    /// The catalog under which it was decided.
    pub catalog_epoch: CatalogEpoch,
}

impl StatementFacts {
    /// Writes them into an event.
    pub fn fill(&self, event: &mut Event) {
        let filled = |text: &Arc<str>| (!text.is_empty()).then(|| Arc::clone(text));
        event.statement_kind = Some(self.kind);
        event.fingerprint = filled(&self.fingerprint);
        event.statement = filled(&self.normalized);
        event.relations = Arc::clone(&self.relations);
        event.policy_epoch = Some(self.policy_epoch);
        event.catalog_epoch = Some(self.catalog_epoch);
    }
}

/// A statement that was let through, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// The record's id.
    pub id: RecordId,
    /// When it was sent.
    pub time: Timestamp,
    /// The outcome.
    pub decision: Decision,
    /// Why it would have been denied, were that not only monitored.
    pub code: Option<DenialCode>,
    /// What that is about.
    pub object: Option<Arc<str>>,
    /// What the session knows: the event that all its events are made from.
    pub session: Arc<Event>,
    /// What is known of the statement.
    pub statement: Arc<StatementFacts>,
    /// Rows returned or changed.
    pub rows: Option<u64>,
    /// From the statement's arrival to the end of its reply.
    pub duration: Option<Duration>,
    /// The SQLSTATE of the outcome; `None` while unknown.
    pub result_code: Option<Cow<'static, str>>,
}

impl Execution {
    /// One that begins now, with a fresh id.
    pub fn now(decision: Decision, session: &Arc<Event>, statement: &Arc<StatementFacts>) -> Self {
        Self {
            id: RecordId::fresh(),
            time: Timestamp::now(),
            decision,
            code: None,
            object: None,
            session: Arc::clone(session),
            statement: Arc::clone(statement),
            rows: None,
            duration: None,
            result_code: None,
        }
    }

    fn fields(&self) -> Fields<'_> {
        let (session, statement) = (&*self.session, &*self.statement);
        let filled = |text: &'_ Arc<str>| !text.is_empty();
        Fields {
            id: self.id,
            time: self.time,
            kind: Kind::Statement,
            decision: self.decision,
            severity: severity_of(Kind::Statement, self.decision, self.code),
            code: self.code,
            object: self.object.as_deref(),
            statement_kind: Some(statement.kind),
            fingerprint: Some(&*statement.fingerprint).filter(|_| filled(&statement.fingerprint)),
            statement: Some(&*statement.normalized).filter(|_| filled(&statement.normalized)),
            relations: &statement.relations,
            policy_epoch: Some(statement.policy_epoch),
            catalog_epoch: Some(statement.catalog_epoch),
            rows: self.rows,
            duration: self.duration,
            result_code: self.result_code.as_deref(),
            ..session.fields()
        }
    }
}

impl From<Execution> for Event {
    fn from(execution: Execution) -> Self {
        let mut event = Self {
            id: execution.id,
            time: execution.time,
            kind: Kind::Statement,
            decision: execution.decision,
            code: execution.code,
            object: execution.object,
            severity: None,
            rows: execution.rows,
            duration: execution.duration,
            result_code: execution.result_code.map(|code| Arc::from(&*code)),
            ..(*execution.session).clone()
        };
        execution.statement.fill(&mut event);
        event
    }
}

/// What is recorded.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Anything that happened.
    Event(Box<Event>),
    /// A statement that ran.
    Execution(Execution),
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
        Self::Event(Box::new(event))
    }
}

impl From<Execution> for Entry {
    fn from(execution: Execution) -> Self {
        Self::Execution(execution)
    }
}

impl Entry {
    /// Its id.
    pub(super) fn id(&self) -> RecordId {
        match self {
            Self::Event(event) => event.id,
            Self::Execution(execution) => execution.id,
        }
    }

    /// What the record says.
    pub(super) fn fields(&self) -> Fields<'_> {
        match self {
            Self::Event(event) => event.fields(),
            Self::Execution(execution) => execution.fields(),
        }
    }

    /// The same with fields of its own.
    pub(super) fn into_event(self) -> Event {
        match self {
            Self::Event(event) => *event,
            Self::Execution(execution) => execution.into(),
        }
    }
}

/// What a record says, where it lies. The fields are those of [`Event`].
pub(super) struct Fields<'a> {
    pub(super) id: RecordId,
    pub(super) time: Timestamp,
    pub(super) kind: Kind,
    pub(super) decision: Decision,
    pub(super) engine: Engine,
    pub(super) severity: Severity,
    pub(super) code: Option<DenialCode>,
    pub(super) object: Option<&'a str>,
    pub(super) tenant: Option<&'a str>,
    pub(super) subject: Option<&'a str>,
    pub(super) issuer: Option<&'a str>,
    pub(super) token_id: Option<&'a str>,
    pub(super) application_name: Option<&'a str>,
    pub(super) client_user: Option<&'a str>,
    pub(super) database: Option<&'a str>,
    pub(super) client_address: Option<ClientAddress>,
    pub(super) upstream: Option<&'a str>,
    pub(super) statement_kind: Option<&'static str>,
    pub(super) fingerprint: Option<&'a str>,
    pub(super) statement: Option<&'a str>,
    pub(super) relations: &'a [RelationRule],
    pub(super) policy_epoch: Option<PolicyEpoch>,
    pub(super) catalog_epoch: Option<CatalogEpoch>,
    pub(super) rows: Option<u64>,
    pub(super) bytes_billed: Option<u64>,
    pub(super) duration: Option<Duration>,
    pub(super) result_code: Option<&'a str>,
    pub(super) session: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    pub(super) gap: Option<&'a Gap>,
    pub(super) personal: Option<&'a Sealed>,
}

impl Event {
    /// What the record says.
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            id: self.id,
            time: self.time,
            kind: self.kind,
            decision: self.decision,
            engine: self.engine,
            severity: self.effective_severity(),
            code: self.code,
            object: self.object.as_deref(),
            tenant: self.tenant.as_deref(),
            subject: self.subject.as_deref(),
            issuer: self.issuer.as_deref(),
            token_id: self.token_id.as_deref(),
            application_name: self.application_name.as_deref(),
            client_user: self.client_user.as_deref(),
            database: self.database.as_deref(),
            client_address: self.client_address,
            upstream: self.upstream.as_deref(),
            statement_kind: self.statement_kind,
            fingerprint: self.fingerprint.as_deref(),
            statement: self.statement.as_deref(),
            relations: &self.relations,
            policy_epoch: self.policy_epoch,
            catalog_epoch: self.catalog_epoch,
            rows: self.rows,
            bytes_billed: self.bytes_billed,
            duration: self.duration,
            result_code: self.result_code.as_deref(),
            session: self.session.as_deref(),
            message: self.message.as_deref(),
            gap: self.gap.as_ref(),
            personal: self.personal.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ocsf::{Extra, render_into};
    use super::*;

    fn line(fields: &Fields<'_>) -> Vec<u8> {
        let (mut line, mut body) = (Vec::new(), b"of another record".to_vec());
        render_into(&mut line, &mut body, fields, &Extra::None, "chain", None, |_| String::new());
        line
    }

    #[test]
    fn an_executions_record_is_its_events_byte_for_byte() {
        let known = super::super::tests::statement();
        let session = Arc::new(Event { kind: Kind::Authentication, ..known.clone() });
        let facts = StatementFacts {
            kind: "select",
            fingerprint: known.fingerprint.clone().unwrap(),
            normalized: known.statement.clone().unwrap(),
            relations: Arc::clone(&known.relations),
            policy_epoch: known.policy_epoch.unwrap(),
            catalog_epoch: known.catalog_epoch.unwrap(),
        };
        let unknown = StatementFacts { kind: "cursor", ..StatementFacts::default() };
        for (statement, decision) in [
            (facts.clone(), Decision::Rewrite),
            (facts, Decision::WouldDeny),
            (unknown, Decision::Error),
        ] {
            let mut execution = Execution::now(decision, &session, &Arc::new(statement));
            if decision == Decision::WouldDeny {
                execution.code = Some(DenialCode::LeakPossible);
                execution.object = Some("f".into());
            }
            for outcome in [None, Some(Cow::Borrowed("00000")), Some(Cow::Owned("57014".into()))] {
                execution.rows = outcome.is_some().then_some(3);
                execution.duration = outcome.is_some().then_some(Duration::from_micros(7));
                execution.result_code = outcome;
                let event = Event::from(execution.clone());
                assert_eq!(line(&execution.fields()), line(&event.fields()));
            }
        }
    }
}
