//! What a client is told: errors of our own. Layer 5.
//!
//! Holds client text only: never policy, addresses, another tenant's data.

use crate::error::{Denial, DenialCode, SqlState};
use crate::ids::RecordId;
use crate::wire::error_fields::{ErrorFields, Severity, field};

/// An error for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) state: SqlState,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

impl Answer {
    /// An error without detail and hint. `message` is prefixed with `hedgerow: `.
    pub(super) fn new(state: SqlState, message: &str) -> Self {
        Self { state, message: format!("hedgerow: {message}"), detail: None, hint: None }
    }

    /// As PostgreSQL says it, for errors that a server would raise just so.
    pub(super) fn plain(state: SqlState, message: &str) -> Self {
        Self { state, message: message.to_owned(), detail: None, hint: None }
    }

    pub(super) fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// A denial with the id of its audit record.
    pub(super) fn denial(denial: &Denial, record: RecordId) -> Self {
        Self {
            state: denial.sqlstate(),
            message: denial.message(),
            detail: Some(denial.detail()),
            hint: Some(format!("{} (audit record {record})", denial.code.hint())),
        }
    }

    /// The answer when a record cannot be written: nothing runs that leaves no trace.
    pub(super) fn audit_unavailable() -> Self {
        let denial = Denial::new(DenialCode::AuditUnavailable);
        Self {
            state: denial.sqlstate(),
            message: denial.message(),
            detail: Some(denial.detail()),
            hint: Some(denial.code.hint().to_owned()),
        }
    }

    /// SQLSTATE 08P01.
    pub(super) fn protocol_violation(message: &str) -> Self {
        Self::plain(SqlState::PROTOCOL_VIOLATION, message)
    }

    /// SQLSTATE 22021, as PostgreSQL says it.
    pub(super) fn not_utf8() -> Self {
        Self::plain(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\"")
    }

    /// The fields of the message.
    pub(super) fn fields(&self, severity: Severity) -> ErrorFields<'_> {
        let mut fields = ErrorFields::new(severity, self.state, self.message.as_str());
        if let Some(detail) = &self.detail {
            fields.set(field::DETAIL, detail.as_str());
        }
        if let Some(hint) = &self.hint {
            fields.set(field::HINT, hint.as_str());
        }
        fields
    }
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client said goodbye or hung up.
    ClientLeft,
    /// The client is told, with severity FATAL.
    Farewell(Box<Answer>),
    /// The same, once it was answered what it had asked before.
    Dismissed(Box<Answer>),
    /// The server ended the session and its own words were forwarded.
    ServerSaidSo,
}

impl End {
    /// The end for a client that does not keep to the protocol.
    pub(super) fn dismissed(answer: Answer) -> Self {
        Self::Dismissed(Box::new(answer))
    }
}

impl From<Answer> for End {
    fn from(answer: Answer) -> Self {
        Self::Farewell(Box::new(answer))
    }
}
