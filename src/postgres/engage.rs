//! A session and its backend: taken when the server is needed, given back when nothing of the client's
//! is left on it. Layer 5.
//!
//! INVARIANT: while the server is engaged, its backend's key is that of the identity for which
//! statements are decided. An identity of another key waits until the server is at rest, or is refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::PoolMode;
use super::answer::Answer;
use super::outbox::Piece;
use super::pool::Backend;
use super::replies::{Own, Reply, Running};
use super::session::{Link, Pipeline};
use super::who::Who;
use crate::error::SqlState;
use crate::sql::{Guarded, Keeps};
use crate::wire::backend::TransactionStatus;

/// How long a session waits for a cancel request that is on its way before it begins something new.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at such a cancel request.
const CANCEL_LOOK: Duration = Duration::from_millis(2);
/// Most settings of a session that are said again to another backend.
const MAX_OVERLAY: usize = 32;

/// Whether the server has something of the client's under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upstream {
    /// There is no backend, or it is outside a transaction with everything answered.
    AtRest,
    /// It was sent something since it was at rest last.
    Engaged,
}

/// A transaction block of which the server does not know (yet).
pub(super) enum Block {
    /// There is none: the server's state is the client's.
    None,
    /// BEGIN was answered and is sent in front of the first statement.
    Begun(Box<Running>),
    /// A statement in such a block was refused.
    Failed,
}

/// A change of settings that holds when the transaction is committed.
pub(super) enum Change {
    Set(String, Guarded),
    ResetAll,
}

impl Link {
    pub(super) fn at_rest(&self) -> bool {
        self.upstream == Upstream::AtRest
    }

    /// For whom statements are decided now.
    pub(super) fn current(&self) -> &Arc<Who> {
        self.local.as_ref().unwrap_or(&self.who)
    }

    /// Makes sure that what is sent next reaches a backend of the present identity, in the state that
    /// the client knows.
    pub(super) async fn engage(&mut self) -> Result<(), Answer> {
        self.outlast_cancel().await;
        let key = Arc::clone(&self.current().key);
        if !self.at_rest() {
            let same = self.lease.as_ref().is_some_and(|lease| lease.key == key);
            return if same { Ok(()) } else { Err(identity_changed_within()) };
        }
        if self.lease.as_ref().is_some_and(|lease| lease.key != key) || self.has_anothers_tables() {
            self.leave_backend();
        }
        if self.lease.is_none() {
            let Backend { wire, lease } =
                self.door.pool.take(&key, &self.overlay).await.map_err(|fault| {
                    tracing::warn!(%fault, "no backend for a client");
                    fault.answer()
                })?;
            self.flight.attach(lease.cancel.clone());
            self.wire = Some(wire);
            self.lease = Some(lease);
            // It may have been a long wait.
            self.still_stands()?;
        }
        self.set_up().await
    }

    /// Holds the next statement back while a cancel request for the one before is on its way:
    /// PostgreSQL signals twice, and the second signal would end a statement that nobody cancelled.
    async fn outlast_cancel(&self) {
        if !self.replies.is_empty() || self.flight.is_quiet() {
            return;
        }
        let patience = Instant::now() + CANCEL_PATIENCE;
        while !self.flight.is_quiet() && Instant::now() < patience {
            sleep(CANCEL_LOOK).await;
        }
    }

    /// Settings, and the BEGIN that the client was told of. In front of the client's own message, so
    /// that it costs no round trip.
    async fn set_up(&mut self) -> Result<(), Answer> {
        let unavailable = |_unavailable| Answer::audit_unavailable();
        let Some(lease) = self.lease.as_mut() else { return Ok(()) };
        let stale = lease.overlay != self.overlay;
        // SECURITY: a cancel request that is late must not hit what is sent here: without its BEGIN
        // the client's statement would be committed by itself.
        let own = stale || matches!(self.block, Block::Begun(_));
        if own && (!self.flight.is_quiet() || self.flight.is_unaccounted()) {
            return Err(cancel_unaccounted());
        }
        if stale {
            let mut permits = Vec::with_capacity(self.overlay.len());
            for _ in &self.overlay {
                permits.push(self.recorder.permit().await.map_err(unavailable)?);
            }
            lease.statements.forget("");
            if !lease.overlay.is_empty() {
                self.outbox.discard_all();
                lease.statements.clear();
                self.replies.next_request();
                self.replies.push(Reply::Own(Own::Settings));
            }
            for ((_, guarded), permit) in self.overlay.iter().zip(&permits) {
                self.outbox.query([Piece::Checked(guarded, permit)]);
                self.replies.next_request();
                self.replies.push(Reply::Own(Own::Settings));
            }
            lease.overlay.clone_from(&self.overlay);
        }
        match std::mem::replace(&mut self.block, Block::None) {
            Block::Begun(running) => {
                lease.statements.forget("");
                if let Some(guarded) = &running.facts.guarded {
                    self.outbox.query([Piece::Checked(guarded, running.record.permit())]);
                }
                self.replies.next_request();
                self.replies.push(Reply::Own(Own::Begin(Some(running))));
            }
            Block::Failed => self.block = Block::Failed,
            Block::None => {}
        }
        self.upstream = Upstream::Engaged;
        Ok(())
    }

    /// Notes what is under way for the client, so that only that can be cancelled.
    pub(super) fn note_flight(&self) {
        self.flight.set_in_flight(self.replies.client_is_served());
    }

    /// The server is outside a transaction, with nothing owed and nothing begun.
    pub(super) fn come_to_rest(&mut self) {
        if self.status == TransactionStatus::Idle
            && self.replies.is_empty()
            && self.pipeline == Pipeline::Synced
        {
            self.upstream = Upstream::AtRest;
        }
    }

    /// Keeps the backend for this client.
    pub(super) fn pin(&mut self, reason: Keeps) {
        let Some(lease) = self.lease.as_mut() else { return };
        if lease.pins.contains(&reason) {
            return;
        }
        lease.pins.push(reason);
        if self.door.mode == PoolMode::Transaction {
            self.recorder.meters.pinned(reason.word());
        }
    }

    /// What was kept for that reason is gone.
    pub(super) fn unpin(&mut self, reason: Keeps) {
        if let Some(lease) = self.lease.as_mut() {
            lease.pins.retain(|pin| *pin != reason);
        }
    }

    /// A transaction was committed: its settings are the session's.
    pub(super) fn keep_settings(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::ResetAll => {
                    self.overlay.clear();
                    self.unpin(Keeps::Setting);
                    self.restore_identity();
                }
                Change::Set(name, guarded) => {
                    self.overlay.retain(|(known, _)| *known != name);
                    self.overlay.push((name, guarded));
                }
            }
            if self.overlay.len() > MAX_OVERLAY {
                self.overlay.clear();
                self.pin(Keeps::Setting);
            }
            if let Some(lease) = self.lease.as_mut() {
                lease.overlay.clone_from(&self.overlay);
            }
        }
    }

    /// It is not known which of the transaction's settings hold.
    pub(super) fn doubt_settings(&mut self) {
        if !self.pending.is_empty() {
            self.pending.clear();
            self.pin(Keeps::Setting);
        }
    }

    /// Gives the backend back if nobody needs it here.
    pub(super) fn release(&mut self) {
        let pinned = self.lease.as_ref().is_none_or(|lease| !lease.pins.is_empty());
        if self.at_rest() && self.door.mode == PoolMode::Transaction && !pinned {
            self.leave_backend();
        }
    }

    /// Parts from a backend that is at rest: to the pool if it is as clean as it was, closed otherwise.
    pub(super) fn leave_backend(&mut self) {
        let (Some(wire), Some(lease)) = (self.wire.take(), self.lease.take()) else { return };
        self.forget_tables();
        let no_cancel = self.flight.detach();
        let backend = Backend { wire, lease };
        let clean = no_cancel
            && self.at_rest()
            && self.replies.is_empty()
            && self.outbox.is_empty()
            && self.door.mode == PoolMode::Transaction;
        if clean {
            self.door.pool.give_back(backend);
        } else {
            self.outbox.bytes().clear();
            backend.close_later();
        }
    }
}

/// A cancel request may still hit: nothing that must not fail can be sent.
fn cancel_unaccounted() -> Answer {
    Answer::new(
        SqlState::CONNECTION_FAILURE,
        "the database has not taken a cancel request yet: nothing was run",
    )
    .with_hint("Try again, or connect again.")
}

/// The identity changed where the backend cannot.
pub(super) fn identity_changed_within() -> Answer {
    Answer::new(
        SqlState("25001"),
        "the tenant can only change between transactions, before the first statement",
    )
    .with_hint(
        "Set the token right after BEGIN, or outside a transaction; in a pipeline, behind a Sync.",
    )
}
