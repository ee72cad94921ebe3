//! COPY … FROM STDIN in a session: the client's data is read, judged row by row and written anew.
//! Layer 5.
//!
//! Nothing of the client's is read between a COPY that was sent and the server's answer to it, nor
//! between its end and the outcome: so a message of copy data never meets another statement than its
//! own. A row that may not pass ends the COPY with CopyFail; the server's error is replaced by ours, and
//! the transaction ends up as if the server had refused the row.

use std::sync::Arc;

use super::answer::{Answer, End};
use super::copy_flow::{Flow, Stop};
use super::recorder::OpenRecord;
use super::replies::{Owed, Reply};
use super::requests::malformed;
use super::session::Link;
use super::staging::staged_of;
use crate::sql::Kind;
use crate::sql::copy::CopyIn;
use crate::wire::backend;
use crate::wire::error_fields::Severity;
use crate::wire::frontend::{self, tag};
use crate::wire::{Frame, FrameFault, Header, Piece, Plan, frame::HEADER_BYTES};

/// The SQLSTATE of a COPY that CopyFail ended.
const QUERY_CANCELED: &str = "57014";
/// What the server is told when Hedgerow ends a COPY; its error is replaced.
const STOPPED: &str = "stopped";
/// Longest reason in a CopyFail, in bytes (PostgreSQL's own limit).
const MAX_REASON: usize = 10_000;

/// Where the session stands with copy data.
#[derive(Default)]
pub(super) enum Copying {
    /// None is expected; what comes is ignored, as PostgreSQL does.
    #[default]
    No,
    /// The server takes rows.
    Flowing(Box<Flow>),
    /// The rows of the Execute with this number are over. Its outcome may wait for a Sync.
    Over(u64),
    /// Ended by us: the server's error is to come.
    Stopped(Stop),
}

impl Copying {
    /// Whether copy data is taken now.
    pub(super) const fn is_flowing(&self) -> bool {
        matches!(self, Self::Flowing(_))
    }
}

/// The rows that a statement takes, if it takes any.
pub(super) fn copy_of(kind: &Kind) -> Option<&Arc<CopyIn>> {
    match kind {
        Kind::CopyIn(copy) => Some(copy),
        _ => None,
    }
}

/// What to do with a message of copy data.
pub(super) fn plan(header: Header) -> Result<Plan, FrameFault> {
    match header.tag {
        tag::COPY_FAIL if header.total > MAX_REASON => Err(FrameFault::Length),
        tag::COPY_FAIL | tag::COPY_DONE => Ok(Plan::Whole),
        _ => Ok(Plan::Stream),
    }
}

impl Link {
    /// CopyInResponse: the client learns of its own columns.
    pub(super) fn copy_begins(&mut self) -> Result<(), End> {
        let running = self.replies.running().map(|running| Arc::clone(&running.facts));
        let Some(copy) = running.as_ref().and_then(|facts| copy_of(&facts.kind)) else {
            return Err(self.out_of_order());
        };
        if self.copying.is_flowing() {
            return Err(self.out_of_order());
        }
        let flow = Flow::new(Arc::clone(copy));
        backend::copy_in_response(&mut self.to_client, flow.is_binary(), copy.columns.len());
        if flow.is_binary() {
            self.outbox.copy_header();
        }
        self.copying = Copying::Flowing(Box::new(flow));
        Ok(())
    }

    /// Handles one piece of what the client sends while a COPY takes rows.
    pub(super) async fn copy_request(&mut self, piece: Piece<'_>) -> Result<(), End> {
        match piece {
            Piece::Frame(Frame { tag: tag::COPY_DATA, bytes }) => {
                self.copy_data(bytes.get(HEADER_BYTES..).unwrap_or_default());
                Ok(())
            }
            Piece::Part { tag: tag::COPY_DATA, bytes, first, last: _ } => {
                let header = if first { HEADER_BYTES } else { 0 };
                self.copy_data(bytes.get(header..).unwrap_or_default());
                Ok(())
            }
            Piece::Frame(frame @ Frame { tag: tag::COPY_DONE, .. }) => {
                frontend::empty(frame.body()).map_err(malformed)?;
                self.copy_done();
                Ok(())
            }
            Piece::Frame(frame @ Frame { tag: tag::COPY_FAIL, .. }) => {
                let reason = frontend::copy_fail(frame.body()).map_err(malformed)?;
                self.outbox.copy_fail(reason);
                self.copying = Copying::No;
                Ok(())
            }
            // "Ignore Flush/Sync for the convenience of client libraries that may send those without
            // noticing that the command they just sent was COPY" (PostgreSQL, copyfromparse.c).
            Piece::Frame(Frame { tag: tag::FLUSH | tag::SYNC, .. }) => Ok(()),
            Piece::Frame(Frame { tag: tag::TERMINATE, .. }) => Err(End::ClientLeft),
            Piece::Frame(Frame { tag: other, .. })
            | Piece::Part { tag: other, .. }
            | Piece::Skipped(Header { tag: other, .. }) => {
                let message =
                    format!("unexpected message type 0x{other:02X} during COPY from stdin");
                // PostgreSQL says both, and so knows where the next message begins no better.
                Answer::protocol_violation(&message)
                    .fields(Severity::Error)
                    .encode_error(&mut self.to_client);
                let lost = "terminating connection because protocol synchronization was lost";
                Err(Answer::protocol_violation(lost).into())
            }
        }
    }

    fn copy_data(&mut self, mut data: &[u8]) {
        let Copying::Flowing(flow) = &mut self.copying else { return };
        let stop = self.outbox.copy_rows(|out| {
            loop {
                match flow.next(&mut data) {
                    Ok(true) => out.put(&flow.row()),
                    Ok(false) => return None,
                    Err(stop) => return Some(stop),
                }
            }
        });
        if let Some(stop) = stop {
            self.stop_copy(stop);
        }
    }

    fn copy_done(&mut self) {
        let Copying::Flowing(flow) = &mut self.copying else { return };
        let stop = self.outbox.copy_rows(|out| match flow.finish() {
            Ok(true) => {
                out.put(&flow.row());
                None
            }
            Ok(false) => None,
            Err(stop) => Some(stop),
        });
        match stop {
            Some(stop) => self.stop_copy(stop),
            None => {
                let binary = flow.is_binary();
                self.outbox.copy_done(binary);
                self.copying = match self.replies.front() {
                    Some(Owed { reply: Reply::Execute { running, .. }, request }) => {
                        if let Some(staged) = staged_of(&running.facts.kind) {
                            self.outbox.aside(&staged.take, running.record.permit());
                            self.outbox.aside(&staged.drop, running.record.permit());
                        }
                        Copying::Over(*request)
                    }
                    Some(_) | None => Copying::No,
                };
            }
        }
    }

    fn stop_copy(&mut self, stop: Stop) {
        self.outbox.copy_fail(STOPPED);
        self.copying = Copying::Stopped(stop);
    }

    /// The client is gone in the middle of its rows: the server must not take them for all.
    pub(super) fn abandon_copy(&mut self) {
        if self.copying.is_flowing() {
            self.outbox.copy_fail("the client is gone");
            self.copying = Copying::No;
        }
    }

    /// The server's error for a COPY that Hedgerow ended becomes ours; `Err` gives the record back where
    /// the error is another one.
    pub(super) async fn copy_stopped(
        &mut self,
        stop: Stop,
        record: OpenRecord,
        state: &str,
    ) -> Result<Answer, OpenRecord> {
        if state != QUERY_CANCELED {
            return Err(record);
        }
        let denial = match stop {
            Stop::Denied(denial) => denial,
            Stop::Wrong(answer) => {
                return Ok(match self.recorder.close(record, answer.state.0, None).await {
                    Ok(()) => answer,
                    Err(_unavailable) => Answer::audit_unavailable(),
                });
            }
        };
        Ok(match self.recorder.close_denied(record, &denial).await {
            Ok(id) => Answer::denial(&denial, id),
            Err(_unavailable) => Answer::audit_unavailable(),
        })
    }
}
