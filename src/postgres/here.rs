//! What Hedgerow answers without the server, as long as that is at rest: the beginning and end of a
//! transaction in which nothing ran, a new token, and resets of what no backend holds. Layer 5.
//!
//! So a session without a tenant gets along without a backend, a transaction's tenant can be named
//! after its BEGIN, and a pool's reset query takes no connection.

use std::sync::Arc;

use bytes::BytesMut;

use super::answer::{Answer, End};
use super::egress::Watch;
use super::engage::Block;
use super::facts::Facts;
use super::recorder::SUCCESS;
use super::replies::Running;
use super::requests::Form;
use super::session::{Link, Pipeline};
use crate::error::SqlState;
use crate::sql::{self, Begin, Kind};
use crate::wire::backend::{TransactionStatus, command_complete, ready_for_query};

/// As many bytes of answers PostgreSQL keeps back before it sends them unasked.
const SERVERS_BUFFER: usize = 8 << 10;

impl Link {
    /// Whether a statement that stands alone is Hedgerow's to answer.
    pub(super) fn is_answered_here(&self, facts: &Facts) -> bool {
        if !self.at_rest() {
            return false;
        }
        match (&facts.kind, &self.block) {
            _ if facts.token.is_some() => true,
            (Kind::Begin(Begin::CannotFail), Block::None)
            | (Kind::End(sql::End::Plain), Block::Begun(_) | Block::Failed) => true,
            (Kind::Deallocate(Some(name)), Block::None) => {
                self.shares_names() && self.names.by_protocol(name)
            }
            (
                Kind::Discard | Kind::Setting | Kind::Deallocate(None) | Kind::Cursor,
                Block::None,
            ) => self.has_no_backend() && reset_tag(facts).is_some(),
            _ => false,
        }
    }

    /// Whether there is no backend of the present identity.
    fn has_no_backend(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.key != self.current().key)
    }

    /// Runs such a statement, by Query or Execute; the answer up to CommandComplete.
    pub(super) async fn answer_here(&mut self, form: Form, facts: &Arc<Facts>) -> Result<(), End> {
        if let Some(change) = &facts.token {
            return self.change_identity(form, facts, Arc::clone(change)).await;
        }
        let Ok(record) = self.recorder.open(facts).await else {
            self.refuse(form, Answer::audit_unavailable());
            return Ok(());
        };
        let running = Running {
            record,
            facts: Arc::clone(facts),
            parameters: None,
            watch: Watch::default(),
            rows: 0,
            staging: None,
        };
        let text = facts.guarded.as_ref().map_or("", |guarded| guarded.text()).trim_start();
        let starts = |word: &str| {
            text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        let tag = match &facts.kind {
            Kind::Begin(_) => {
                self.block = Block::Begun(Box::new(running));
                self.status = TransactionStatus::InTransaction;
                self.complete(form, if starts("START") { "START TRANSACTION" } else { "BEGIN" });
                return Ok(());
            }
            Kind::End(_) => {
                let failed = matches!(self.block, Block::Failed);
                if let Block::Begun(begun) = std::mem::replace(&mut self.block, Block::None) {
                    self.close_here(*begun).await?;
                }
                self.status = TransactionStatus::Idle;
                self.end_local_identity();
                if failed || starts("ROLLBACK") || starts("ABORT") { "ROLLBACK" } else { "COMMIT" }
            }
            Kind::Deallocate(Some(name)) => {
                self.names.deallocate(name);
                "DEALLOCATE"
            }
            _ => {
                let reset = reset_tag(facts).unwrap_or(Reset::Nothing("RESET"));
                // One of another identity's, if any.
                self.leave_backend();
                match reset {
                    Reset::All(_) => {
                        self.names.deallocate_all();
                        self.overlay.clear();
                        self.restore_identity();
                    }
                    Reset::Settings(_) => {
                        self.overlay.clear();
                        self.restore_identity();
                    }
                    Reset::Statements(_) => self.names.deallocate_all(),
                    Reset::Nothing(_) => {}
                }
                reset.tag()
            }
        };
        self.close_here(running).await?;
        self.complete(form, tag);
        Ok(())
    }

    async fn close_here(&mut self, running: Running) -> Result<(), End> {
        self.recorder
            .close(running.record, SUCCESS, None)
            .await
            .map_err(|_unavailable| End::from(Answer::audit_unavailable()))
    }

    /// CommandComplete, and for a Query ReadyForQuery.
    pub(super) fn complete(&mut self, form: Form, tag: &str) {
        self.say_here(|out| command_complete(out, tag));
        if matches!(form, Form::Query) {
            ready_for_query(&mut self.to_client, self.status);
            self.pipeline = Pipeline::Synced;
        }
        // The pause within a transaction begins now.
        self.settle();
    }

    /// Tells the client what the server was not asked for.
    pub(super) fn say_here(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.to_client.len();
        write(&mut self.to_client);
        let said = self.to_client.len().saturating_sub(before);
        let unflushed = self.withheld().saturating_add(said);
        let waits = self.at_rest() && self.pipeline == Pipeline::Open;
        self.unflushed = if waits && unflushed <= SERVERS_BUFFER { unflushed } else { 0 };
    }

    /// How many of the last bytes for the client wait for a Sync or a Flush. Like PostgreSQL's: what it
    /// has answered in a pipeline goes out with the end of that, or never, if the client leaves first.
    pub(super) fn withheld(&self) -> usize {
        if self.at_rest() && self.pipeline == Pipeline::Open { self.unflushed } else { 0 }
    }

    /// The client leaves without having asked for what is withheld.
    pub(super) fn swallow_withheld(&mut self) {
        let asked_for = self.to_client.len().saturating_sub(self.withheld());
        self.to_client.truncate(asked_for);
    }

    /// A statement was refused in a transaction of which the server does not know.
    pub(super) fn fail_block(&mut self) {
        if let Block::Begun(begun) = std::mem::replace(&mut self.block, Block::None) {
            self.block = Block::Failed;
            self.status = TransactionStatus::Failed;
            // Its record is written as the session's last word on it, without a result.
            drop(begun);
        } else if self.status == TransactionStatus::Failed {
            self.block = Block::Failed;
        }
    }
}

/// What PostgreSQL says of statements in a failed transaction.
pub(super) fn in_failed_transaction() -> Answer {
    Answer::plain(
        SqlState("25P02"),
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// A statement that takes away what a session left on its backend, with its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    All(&'static str),
    Settings(&'static str),
    Statements(&'static str),
    /// Something that a session without a backend of its own has none of.
    Nothing(&'static str),
}

impl Reset {
    const fn tag(self) -> &'static str {
        match self {
            Self::All(tag) | Self::Settings(tag) | Self::Statements(tag) | Self::Nothing(tag) => {
                tag
            }
        }
    }
}

fn reset_tag(facts: &Facts) -> Option<Reset> {
    let text = facts.guarded.as_ref()?.text().trim();
    let known = [
        ("DISCARD ALL", Reset::All("DISCARD ALL")),
        ("RESET ALL", Reset::Settings("RESET")),
        ("DEALLOCATE ALL", Reset::Statements("DEALLOCATE ALL")),
        ("UNLISTEN *", Reset::Nothing("UNLISTEN")),
        ("CLOSE ALL", Reset::Nothing("CLOSE CURSOR ALL")),
        ("DISCARD PLANS", Reset::Nothing("DISCARD PLANS")),
        ("DISCARD SEQUENCES", Reset::Nothing("DISCARD SEQUENCES")),
        ("DISCARD TEMP", Reset::Nothing("DISCARD TEMP")),
    ];
    known.iter().find(|(spelled, _)| text.eq_ignore_ascii_case(spelled)).map(|(_, reset)| *reset)
}
