//! The replies that are owed: one typed entry for each message that was sent upstream. Layer 5; pure.
//!
//! A ReadyForQuery owed to a Sync and one owed to a Query are different entries; so are the errors
//! that the server owes to a denied statement. Proxies that counted instead of queueing have given
//! one client another client's rows.

use std::collections::VecDeque;
use std::sync::Arc;

use super::answer::Answer;
use super::copy_in::copy_of;
use super::egress::{Shape, Watch};
use super::facts::Facts;
use super::names::Undo;
use super::recorder::OpenRecord;
use super::staging::{Heard, Staging};
use crate::mutant;

/// The SQLSTATE with which the server refuses what it is sent in place of a denied statement.
pub(super) const SYNTAX_ERROR: &str = "42601";
/// The same, of a denied FunctionCall.
pub(super) const UNDEFINED_FUNCTION: &str = "42883";

/// One statement that runs.
pub(super) struct Running {
    pub(super) record: OpenRecord,
    pub(super) facts: Arc<Facts>,
    pub(super) parameters: Option<Arc<[u8]>>,
    pub(super) watch: Watch,
    pub(super) rows: u64,
    /// Where it is a COPY by way of a temporary table: how far that has come.
    pub(super) staging: Option<Box<Staging>>,
}

/// What is owed to one message.
pub(super) enum Reply {
    /// ParseComplete. Without `undo`, Hedgerow asked, and the client hears nothing of it.
    Parse { undo: Option<Undo>, facts: Arc<Facts>, name: Arc<str> },
    /// BindComplete.
    Bind(Bound),
    /// CloseComplete. Without `undo`, Hedgerow asked, and the client hears nothing of it.
    Close { undo: Option<Undo> },
    /// ParseComplete or CloseComplete that the server was not asked for: given in its turn.
    Made { made: Made, undo: Option<Undo> },
    /// ParameterDescription if of a statement, then RowDescription or NoData.
    Describe(Description),
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute { running: Box<Running>, statement: Option<Arc<str>> },
    /// The error of a denied message of the extended protocol, which is replaced by this answer.
    RefusedExtended(Box<Answer>),
    /// ReadyForQuery of a Sync.
    Sync,
    /// Results of each statement, then ReadyForQuery.
    Query(Box<Batch>),
    /// The error of a denied query, which is replaced by this answer, then ReadyForQuery.
    RefusedQuery(Refusal),
    /// A query of Hedgerow's own, of which the client hears nothing.
    Own(Own),
}

/// A Bind that was sent.
pub(super) struct Bound {
    pub(super) facts: Arc<Facts>,
    pub(super) parameters: Option<Arc<[u8]>>,
    /// The backend's name of the statement.
    pub(super) statement: Arc<str>,
    /// The client's.
    pub(super) asked: Arc<str>,
    /// The portal.
    pub(super) undo: Undo,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskedBy {
    Client,
    Hedgerow,
}

/// What the server was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    ParseComplete,
    CloseComplete,
    /// Nothing that is told: only something to take back where the server skips.
    Silence,
}

/// A query of Hedgerow's own: results, then ReadyForQuery.
pub(super) enum Own {
    /// Settings of the session.
    Settings,
    /// The BEGIN that the client was told of before; `None` once it ran.
    Begin(Option<Box<Running>>),
}

/// A Describe that was sent.
pub(super) struct Description {
    pub(super) awaits: Described,
    /// What learns from the answer which columns hold a tenant.
    pub(super) shape: Shape,
    /// Whose it is.
    pub(super) asked_by: AskedBy,
    /// The client's name of the statement; none of a portal.
    pub(super) statement: Option<Arc<str>>,
}

/// How far a Describe has been answered.
pub(super) enum Described {
    /// ParameterDescription comes first.
    Statement,
    /// RowDescription or NoData comes.
    Rows,
}

/// How far a denied query has been answered.
pub(super) enum Refusal {
    /// The error comes: with this SQLSTATE if it is the one that was asked for.
    Owed { answer: Box<Answer>, planned: &'static str },
    /// ReadyForQuery comes.
    Given,
}

/// The statements of one Query.
pub(super) enum Batch {
    /// These are still to be answered, the first of them now.
    Running(VecDeque<Running>),
    /// All were answered, or one failed: ReadyForQuery comes.
    Over,
}

/// An entry, and the number of the request it is owed to.
pub(super) struct Owed {
    pub(super) reply: Reply,
    pub(super) request: u64,
}

/// What became of the entries behind an error of the extended protocol.
pub(super) enum AfterError {
    /// The server skips up to a Sync that it has been sent already.
    SyncSent,
    /// The server skips until a Sync comes.
    SyncOwed,
}

/// The queue.
#[derive(Default)]
pub(super) struct Replies {
    queue: VecDeque<Owed>,
    requests: u64,
    /// Sync messages so far.
    syncs: u64,
    /// Entries that end a part of the pipeline: what follows them may meet another transaction status
    /// than the client has been told.
    ends: usize,
}

/// Whether a part of the pipeline ends with the message that this is owed to.
const fn is_end(reply: &Reply) -> bool {
    matches!(reply, Reply::Sync | Reply::Query(_) | Reply::RefusedQuery(_))
}

impl Replies {
    /// The number of the next request.
    pub(super) fn next_request(&mut self) -> u64 {
        self.requests = self.requests.saturating_add(1);
        self.requests
    }

    /// Notes what is owed to the request that was numbered last.
    pub(super) fn push(&mut self, reply: Reply) {
        if matches!(reply, Reply::Sync) {
            self.syncs = self.syncs.saturating_add(1);
        }
        self.ends = self.ends.saturating_add(usize::from(is_end(&reply)));
        self.queue.push_back(Owed { reply, request: self.requests });
    }

    /// Whether an earlier part of the pipeline is still to be answered.
    pub(super) const fn await_an_end(&self) -> bool {
        self.ends > 0
    }

    /// The number of the batch of messages that the next Sync ends, from 1.
    pub(super) const fn batch(&self) -> u64 {
        self.syncs.saturating_add(1)
    }

    pub(super) fn front(&mut self) -> Option<&mut Owed> {
        self.queue.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Owed> {
        let owed = self.queue.pop_front()?;
        self.ends = self.ends.saturating_sub(usize::from(is_end(&owed.reply)));
        Some(owed)
    }

    /// Takes the entry at the head if the server owes nothing to it.
    pub(super) fn pop_made(&mut self) -> Option<(Made, Option<Undo>)> {
        let made = |owed: &mut Owed| matches!(owed.reply, Reply::Made { .. });
        match self.queue.pop_front_if(made)?.reply {
            Reply::Made { made, undo } => Some((made, undo)),
            _ => None,
        }
    }

    /// The client's name of the prepared statement that the server speaks of now.
    pub(super) fn statement_spoken_of(&self) -> Option<&str> {
        self.queue.iter().find_map(|owed| match &owed.reply {
            Reply::Parse { undo, .. } => undo.as_ref().map(|undo| &*undo.name),
            Reply::Bind(bound) => Some(&*bound.asked),
            Reply::Describe(description) => description.statement.as_deref(),
            Reply::Close { .. }
            | Reply::Made { .. }
            | Reply::Execute { .. }
            | Reply::RefusedExtended(_)
            | Reply::Sync
            | Reply::Query(_)
            | Reply::RefusedQuery(_)
            | Reply::Own(_) => None,
        })
    }

    /// Whether the server answers a query of Hedgerow's own now.
    pub(super) fn serves_itself(&self) -> bool {
        self.queue.front().is_some_and(|owed| matches!(owed.reply, Reply::Own(_)))
    }

    /// Whether the server works for the client now, and not for Hedgerow itself.
    pub(super) fn client_is_served(&self) -> bool {
        self.queue.front().is_some_and(|owed| !matches!(owed.reply, Reply::Own(_)))
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Which statement the server runs for the client, another pair for each, and how many it may have
    /// run already without having said so: it keeps answers of a pipeline back until there are many.
    pub(super) fn statement_at_work(&self) -> Option<((u64, usize), u32)> {
        let mut executes = 0_u32;
        let mut first = None;
        for owed in &self.queue {
            match &owed.reply {
                Reply::Execute { .. } => {
                    executes = executes.saturating_add(1);
                    first = first.or(Some((owed.request, 0)));
                }
                Reply::Query(batch) => {
                    if let Batch::Running(statements) = batch.as_ref() {
                        executes = executes.saturating_add(1);
                        first = first.or(Some((owed.request, statements.len())));
                    }
                }
                Reply::Parse { .. }
                | Reply::Bind(_)
                | Reply::Close { .. }
                | Reply::Made { .. }
                | Reply::Describe(_)
                | Reply::RefusedExtended(_)
                | Reply::Sync
                | Reply::RefusedQuery(_)
                | Reply::Own(_) => {}
            }
        }
        first.map(|statement| (statement, executes))
    }

    /// The statement whose rows come now.
    pub(super) fn running(&mut self) -> Option<&mut Running> {
        match &mut self.queue.front_mut()?.reply {
            Reply::Execute { running, .. } => Some(running),
            Reply::Query(batch) => match batch.as_mut() {
                Batch::Running(statements) => statements.front_mut(),
                Batch::Over => None,
            },
            Reply::Parse { .. }
            | Reply::Bind(_)
            | Reply::Close { .. }
            | Reply::Made { .. }
            | Reply::Describe(_)
            | Reply::RefusedExtended(_)
            | Reply::Sync
            | Reply::RefusedQuery(_)
            | Reply::Own(_) => None,
        }
    }

    /// What an answer of the server's means where a COPY goes by way of a temporary table.
    pub(super) fn staged(&mut self, tag: u8, body: &[u8]) -> Option<Heard> {
        self.running()?.staging.as_mut()?.hear(tag, body)
    }

    /// Whether what was sent last takes rows: until the server says so, or the statement is over, it
    /// cannot be told what the client's next message belongs to.
    /// `over` is the request whose rows are over.
    pub(super) fn awaits_copy(&self, over: Option<u64>) -> bool {
        let takes_rows = |running: &Running| copy_of(&running.facts.kind).is_some();
        match self.queue.back().filter(|owed| Some(owed.request) != over).map(|owed| &owed.reply) {
            Some(Reply::Execute { running, .. }) => takes_rows(running),
            Some(Reply::Query(batch)) => match batch.as_ref() {
                Batch::Running(statements) => statements.iter().any(takes_rows),
                Batch::Over => false,
            },
            Some(
                Reply::Parse { .. }
                | Reply::Bind(_)
                | Reply::Close { .. }
                | Reply::Made { .. }
                | Reply::Describe(_)
                | Reply::RefusedExtended(_)
                | Reply::Sync
                | Reply::RefusedQuery(_)
                | Reply::Own(_),
            )
            | None => false,
        }
    }

    /// Whether the rows that come now must be looked at.
    pub(super) fn is_watched(&mut self) -> bool {
        self.running().is_some_and(|running| {
            running.watch.is_active() || running.facts.protected && !running.watch.is_described()
        })
    }

    /// Takes out what the server skips after an error of the extended protocol, newest first: all
    /// entries up to the next Sync, Queries included, for the server discards those too.
    pub(super) fn skip_to_sync(&mut self) -> (Vec<Reply>, AfterError) {
        let sync = self.queue.iter().position(|owed| {
            matches!(owed.reply, Reply::Sync)
                || matches!(owed.reply, Reply::Query(_)) && mutant::on("sync-or-query")
        });
        let after = if sync.is_some() { AfterError::SyncSent } else { AfterError::SyncOwed };
        let skipped: Vec<Reply> = self
            .queue
            .drain(..sync.unwrap_or(self.queue.len()))
            .rev()
            .map(|owed| owed.reply)
            .collect();
        let ends = skipped.iter().filter(|reply| is_end(reply)).count();
        self.ends = self.ends.saturating_sub(ends);
        (skipped, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(awaits: Described) -> Reply {
        let shape = Shape::default();
        Reply::Describe(Description { awaits, shape, asked_by: AskedBy::Client, statement: None })
    }

    fn sync_free(reply: Reply, replies: &mut Replies) {
        replies.next_request();
        replies.push(reply);
    }

    #[test]
    fn a_query_before_the_next_sync_is_skipped_and_owes_nothing() {
        let mut replies = Replies::default();
        for reply in [
            description(Described::Rows),
            Reply::Query(Box::new(Batch::Over)),
            Reply::Sync,
            description(Described::Statement),
            Reply::Sync,
        ] {
            sync_free(reply, &mut replies);
        }
        let (skipped, after) = replies.skip_to_sync();
        assert_eq!(skipped.len(), 2);
        assert!(matches!(skipped[0], Reply::Query(_)), "newest first");
        assert!(matches!(after, AfterError::SyncSent));
        assert!(matches!(replies.pop().unwrap().reply, Reply::Sync));
        assert_eq!(replies.len(), 2);
        assert!(replies.await_an_end());
        replies.skip_to_sync();
        assert!(replies.await_an_end());
        replies.pop();
        assert!(!replies.await_an_end());
    }

    #[test]
    fn without_a_sync_everything_is_skipped() {
        let mut replies = Replies::default();
        sync_free(Reply::Query(Box::new(Batch::Over)), &mut replies);
        let (skipped, after) = replies.skip_to_sync();
        assert_eq!(skipped.len(), 1);
        assert!(matches!(after, AfterError::SyncOwed));
        assert!(replies.is_empty());
    }
}
