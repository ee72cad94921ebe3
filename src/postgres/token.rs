//! A session that takes on another identity: `SET [SESSION | LOCAL] hedgerow.token`. Layer 5.
//!
//! The token is taken here and never sent on. Decisions, backend, records and expiry change with it,
//! all at once. Where the server would have to be told in the middle of a transaction, it is refused.

use std::sync::Arc;

use super::answer::{Answer, End};
use super::egress::Watch;
use super::engage::{Block, identity_changed_within};
use super::facts::Facts;
use super::here::in_failed_transaction;
use super::replies::{Batch, Reply, Running};
use super::requests::Form;
use super::session::{Link, Pipeline};
use super::who::Who;
use crate::error::{Denial, DenialCode, SqlState};
use crate::sql::{TokenChange, TokenScope};
use crate::wire::backend::TransactionStatus;
use crate::wire::error_fields::{ErrorFields, Severity};

impl Link {
    /// A token by Query. Whoever sends one behind statements that still run waits for them.
    pub(super) async fn token_query(&mut self, change: TokenChange) -> Result<(), End> {
        let facts = Arc::new(Facts::token(change));
        let Some(change) = facts.token.clone() else { return Ok(()) };
        if self.at_rest() {
            return self.change_identity(Form::Query, &facts, change).await;
        }
        if self.status == TransactionStatus::Failed {
            self.refuse(Form::Query, in_failed_transaction());
            return Ok(());
        }
        let who = match self.newcomer(Form::Query, &change).await? {
            Some(who) => who,
            None => return Ok(()),
        };
        let Ok(record) = self.recorder.open(&facts).await else {
            self.refuse(Form::Query, Answer::audit_unavailable());
            return Ok(());
        };
        self.outbox.token_query(change.scope);
        self.backend_drops_unnamed();
        let (parameters, watch) = (None, Watch::default());
        let running = Running { record, facts, parameters, watch, rows: 0, staging: None };
        self.replies.next_request();
        self.replies.push(Reply::Query(Box::new(Batch::Running([running].into()))));
        self.pipeline = Pipeline::Synced;
        self.note_flight();
        self.take_identity(who, change.scope).await
    }

    /// A token while the server is at rest.
    pub(super) async fn change_identity(
        &mut self,
        form: Form,
        facts: &Facts,
        change: Arc<TokenChange>,
    ) -> Result<(), End> {
        if matches!(self.block, Block::Failed) {
            self.refuse(form, in_failed_transaction());
            return Ok(());
        }
        let Some(who) = self.newcomer(form, &change).await? else { return Ok(()) };
        let Ok(record) = self.recorder.open(facts).await else {
            self.refuse(form, Answer::audit_unavailable());
            return Ok(());
        };
        self.recorder
            .close(record, super::recorder::SUCCESS, None)
            .await
            .map_err(|_unavailable| End::from(Answer::audit_unavailable()))?;
        let outside = self.status == TransactionStatus::Idle;
        match change.scope {
            TokenScope::Transaction if outside => {
                let message = "SET LOCAL can only be used in transaction blocks";
                ErrorFields::new(Severity::Warning, SqlState("25P01"), message)
                    .encode_notice(&mut self.to_client);
            }
            TokenScope::Session | TokenScope::Reset | TokenScope::Transaction => {
                self.take_identity(who, change.scope).await?;
            }
        }
        let tag = match change.scope {
            TokenScope::Session | TokenScope::Transaction => "SET",
            TokenScope::Reset => "RESET",
        };
        self.complete(form, tag);
        Ok(())
    }

    /// Who a token speaks for, if the session may become that now. `None`: the client was told.
    pub(super) async fn newcomer(
        &mut self,
        form: Form,
        change: &TokenChange,
    ) -> Result<Option<Arc<Who>>, End> {
        let who = match &change.token {
            None => Ok(Arc::clone(&self.signed_in)),
            Some(token) => match &self.door.authenticator {
                Some(authenticator) => match authenticator.authenticate(token.expose()).await {
                    Ok(identity) => self.door.admit(identity),
                    Err(denial) => Err(denial),
                },
                None => Err(Denial::new(DenialCode::TokenInvalid)),
            },
        };
        let who = match who {
            Ok(who) => who,
            Err(denial) => {
                let answer = super::sign_in::refuse(
                    &self.recorder,
                    &denial,
                    SqlState::INVALID_AUTHORIZATION,
                )
                .await;
                self.refuse(form, answer);
                return Ok(None);
            }
        };
        let fits = self.at_rest() || self.lease.as_ref().is_some_and(|lease| lease.key == who.key);
        if fits {
            Ok(Some(who))
        } else {
            self.refuse(form, identity_changed_within());
            Ok(None)
        }
    }

    /// From now on the session speaks for `who`.
    pub(super) async fn take_identity(
        &mut self,
        who: Arc<Who>,
        scope: TokenScope,
    ) -> Result<(), End> {
        match scope {
            TokenScope::Transaction => self.local = Some(who),
            TokenScope::Session | TokenScope::Reset => {
                if who.renews(&self.signed_in) {
                    self.signed_in = Arc::clone(&who);
                }
                self.who = who;
                self.local = None;
            }
        }
        self.speak_for_current();
        self.recorder
            .signed_in()
            .await
            .map_err(|_unavailable| End::from(Answer::audit_unavailable()))
    }

    /// The transaction is over, and the token of `SET LOCAL` with it.
    pub(super) fn end_local_identity(&mut self) {
        if self.local.take().is_some() {
            self.speak_for_current();
        }
    }

    /// RESET ALL, DISCARD ALL: back to the identity that the session signed in with.
    pub(super) fn restore_identity(&mut self) {
        if !Arc::ptr_eq(&self.who, &self.signed_in) {
            self.who = Arc::clone(&self.signed_in);
            self.speak_for_current();
        }
    }

    fn speak_for_current(&mut self) {
        let who = Arc::clone(self.current());
        self.judge.viewpoint = who.bearer.viewpoint.clone();
        self.judge.viewpoint.set_max_statement(self.door.limits.max_statement);
        if let Some(identity) = &who.bearer.identity {
            self.recorder.identified(identity);
        }
        self.mind_expiry();
    }
}
