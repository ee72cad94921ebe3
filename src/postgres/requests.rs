//! What the client sends in a session: decided, refused or passed on. Layer 5.
//!
//! A refusal takes its place among the replies: in place of the refused message the server is sent
//! one that fails, and its error is replaced by ours. So order, transaction state and skip-to-Sync
//! come out as if the server had refused. Only where nothing is in flight and no transaction is open
//! is the answer given at once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::allowance::noting;
use super::answer::{Answer, End};
use super::copy_in;
use super::egress::{Shape, Watch};
use super::engage::{Block, identity_changed_within};
use super::facts::Facts;
use super::here::in_failed_transaction;
use super::judge::Refused;
use super::limits::{Met, SHORT_MESSAGE, no_room};
use super::outbox::{self, Relayed};
use super::recorder::OpenRecord;
use super::replies::{Batch, Made, Refusal, Reply, Running, SYNTAX_ERROR, UNDEFINED_FUNCTION};
use super::session::{Intake, Link, Pipeline};
use super::staging::{Staging, staged_of};
use super::who;
use crate::audit::{AuditUnavailable, StatementFacts};
use crate::error::{Denial, DenialCode, SqlState};
use crate::sql::copy::Staged;
use crate::sql::postgres::token_change;
use crate::sql::{self, Kind};
use crate::wire::backend::ready_for_query;
use crate::wire::error_fields::Severity;
use crate::wire::frontend::{self, tag};
use crate::wire::{DecodeFault, Frame, FrameFault, Header, Piece, Plan};

/// Longest message that carries no statement and no data (PostgreSQL's own limit), in bytes.
const MAX_SMALL_MESSAGE: usize = 10_000;
/// Longest Bind, in bytes: its parameters are held in memory while it is read.
const MAX_BIND: usize = 64 << 20;
/// Room beside the text in a Query or Parse: tag, length, name, parameter types.
const STATEMENT_SLACK: usize = 64 << 10;

/// What to do with a frame of the client's.
fn plan(header: Header, max_statement: usize) -> Result<Plan, FrameFault> {
    let bounded = |limit| if header.total > limit { Plan::Skip } else { Plan::Whole };
    match header.tag {
        // Too long: skipped without being held in memory, then refused.
        tag::QUERY | tag::PARSE => Ok(bounded(max_statement.saturating_add(STATEMENT_SLACK))),
        tag::BIND => Ok(bounded(MAX_BIND)),
        tag::CLOSE | tag::DESCRIBE | tag::EXECUTE | tag::FLUSH | tag::SYNC | tag::TERMINATE => {
            if header.total > MAX_SMALL_MESSAGE {
                return Err(FrameFault::Length);
            }
            Ok(Plan::Whole)
        }
        tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => copy_in::plan(header),
        tag::FUNCTION_CALL => Ok(Plan::Skip),
        other => Err(FrameFault::Tag(other)),
    }
}

/// What a message is answered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It owes its own ReadyForQuery.
    Query,
    /// FunctionCall, which owes its own ReadyForQuery too.
    Call,
    /// The server skips to the next Sync.
    Extended,
}

impl Link {
    /// What to do with a frame of the client's, of which that many bytes are held.
    pub(super) fn plan_request(
        &mut self,
        header: Header,
        max_statement: usize,
        held: usize,
    ) -> Result<Plan, FrameFault> {
        let plan = plan(header, max_statement)?;
        if plan == Plan::Whole
            && header.total > SHORT_MESSAGE
            && let Err(full) = self.request_hold.grow_to(held.min(header.total))
        {
            self.no_room = Some(full);
            return Ok(Plan::Skip);
        }
        Ok(plan)
    }

    /// Handles one piece of what the client sends.
    pub(super) async fn request(&mut self, piece: Piece<'_>) -> Result<(), End> {
        if self.copying.is_flowing() {
            return self.copy_request(piece).await;
        }
        match piece {
            // Outside COPY FROM STDIN PostgreSQL ignores these.
            Piece::Frame(Frame {
                tag: tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL, ..
            })
            | Piece::Part { tag: tag::COPY_DATA, .. } => Ok(()),
            Piece::Frame(frame) => self.whole(frame).await,
            Piece::Skipped(header) => self.skipped(header).await,
            // No plan for requests streams anything else.
            Piece::Part { .. } => Err(Answer::protocol_violation("unexpected message").into()),
        }
    }

    /// The end for a frame that cannot be: FATAL, as PostgreSQL does.
    pub(super) async fn bad_request(&mut self, fault: FrameFault) -> End {
        match fault {
            FrameFault::Length | FrameFault::TooLong(_) => {
                End::dismissed(Answer::protocol_violation("invalid message length"))
            }
            FrameFault::Tag(tag) => {
                let denial = Denial::of(DenialCode::ProtocolMessage, format!("message type {tag}"));
                match self.recorder.denied(Refused::of(denial.clone())).await {
                    // The state is PostgreSQL's for a message that it does not know.
                    Ok(record) => End::dismissed(Answer {
                        state: SqlState::PROTOCOL_VIOLATION,
                        ..Answer::denial(&denial, record)
                    }),
                    Err(_unavailable) => End::dismissed(Answer::audit_unavailable()),
                }
            }
        }
    }

    async fn whole(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let body = frame.body();
        match (frame.tag, self.pipeline) {
            (tag::TERMINATE, _) => {
                frontend::empty(body).map_err(malformed)?;
                self.swallow_withheld();
                Err(End::ClientLeft)
            }
            (tag::SYNC, _) => {
                frontend::empty(body).map_err(malformed)?;
                self.pipeline = Pipeline::Synced;
                self.unflushed = 0;
                self.segment = self.segment.wrapping_add(1);
                if self.at_rest() {
                    self.replies.next_request();
                    self.names.transaction_ended();
                    ready_for_query(&mut self.to_client, self.status);
                } else {
                    self.send(Relayed::Sync, frame, Reply::Sync);
                }
                Ok(())
            }
            // The server skips these too.
            (_, Pipeline::Skipping) => Ok(()),
            (tag::QUERY, Pipeline::Synced | Pipeline::Open) => self.query(frame).await,
            (tag::PARSE, Pipeline::Synced | Pipeline::Open) => self.parse(frame).await,
            (tag::BIND, Pipeline::Synced | Pipeline::Open) => self.bind(frame).await,
            (tag::EXECUTE, Pipeline::Synced | Pipeline::Open) => self.execute(frame).await,
            (tag::DESCRIBE, Pipeline::Synced | Pipeline::Open) => self.describe(frame).await,
            (tag::CLOSE, Pipeline::Synced | Pipeline::Open) => self.close(frame).await,
            (tag::FLUSH, Pipeline::Synced | Pipeline::Open) => {
                frontend::empty(body).map_err(malformed)?;
                self.unflushed = 0;
                if !self.at_rest() {
                    self.outbox.relay(Relayed::Flush, frame);
                }
                Ok(())
            }
            (other, Pipeline::Synced | Pipeline::Open) => {
                Err(self.bad_request(FrameFault::Tag(other)).await)
            }
        }
    }

    async fn skipped(&mut self, header: Header) -> Result<(), End> {
        if self.no_room.take().is_some() && self.pipeline != Pipeline::Skipping {
            Met::Buffered.count();
            let form = if header.tag == tag::QUERY { Form::Query } else { Form::Extended };
            self.refuse(form, no_room());
            return Ok(());
        }
        let too_large = || {
            Met::MaxStatement.count();
            Refused::of(Denial::new(DenialCode::StatementTooLarge))
        };
        match (header.tag, self.pipeline) {
            (_, Pipeline::Skipping) => Ok(()),
            (tag::QUERY, Pipeline::Synced | Pipeline::Open) => {
                self.deny(Form::Query, too_large()).await
            }
            (tag::PARSE | tag::BIND, Pipeline::Synced | Pipeline::Open) => {
                self.deny(Form::Extended, too_large()).await
            }
            (_, Pipeline::Synced | Pipeline::Open) if matches!(self.block, Block::Failed) => {
                self.refuse(Form::Call, in_failed_transaction());
                Ok(())
            }
            (_, Pipeline::Synced | Pipeline::Open) => {
                let denial = Denial::of(DenialCode::ProtocolMessage, "FunctionCall");
                self.deny(Form::Call, Refused::of(denial)).await
            }
        }
    }

    async fn query(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let text = match frontend::query(frame.body()) {
            Ok(text) => text,
            Err(DecodeFault::NotUtf8) => {
                self.refuse(Form::Query, Answer::not_utf8());
                return Ok(());
            }
            Err(fault) => return Err(malformed(fault)),
        };
        self.segment = self.segment.wrapping_add(1);
        if let Some(change) = token_change(text) {
            if !self.replies.is_empty() && self.pipeline == Pipeline::Synced {
                // What was asked before is answered under the identity that asked.
                self.held = Some(frame.bytes.into());
                return Ok(());
            }
            self.drop_unnamed();
            return self.token_query(change).await;
        }
        self.drop_unnamed();
        let decided = match self.judge.decide(text, &[]).await {
            Ok(decided) => decided,
            Err(refused) => return self.deny(Form::Query, refused).await,
        };
        if let [only] = &*decided
            && self.is_answered_here(only)
        {
            return self.answer_here(Form::Query, only).await;
        }
        if let Err(refusal) = self.may_run(&decided) {
            return self.turn_down(Form::Query, refusal, decided.first()).await;
        }
        let would_deny = match self.admit(&decided) {
            Ok(would_deny) => would_deny,
            Err(refused) => return self.deny(Form::Query, refused).await,
        };
        // Empty statements beside others get no answer of their own.
        let all_empty = decided.iter().all(|facts| facts.kind == Kind::Empty);
        let to_run = decided
            .iter()
            .enumerate()
            .filter(|(position, facts)| facts.kind != Kind::Empty || (all_empty && *position == 0));
        let mut to_open = Vec::with_capacity(decided.len());
        for (_, facts) in to_run {
            match self.with_prepared(Arc::clone(facts)).await {
                Ok(facts) => to_open.push(noting(facts, would_deny.as_ref())),
                Err(answer) => {
                    self.refuse(Form::Query, answer);
                    return Ok(());
                }
            }
        }
        if let Err(answer) = self.engage().await {
            self.refuse(Form::Query, answer);
            return Ok(());
        }
        let mut statements = VecDeque::with_capacity(to_open.len());
        for facts in to_open {
            match self.open_record(&facts).await {
                Ok(record) => statements.push_back(Running {
                    record,
                    parameters: None,
                    watch: Watch::new(
                        &facts.tenant_columns,
                        Shape::default(),
                        &[],
                        &self.current().bearer.tenant,
                    ),
                    staging: Staging::of(&facts.kind, Form::Query),
                    facts,
                    rows: 0,
                }),
                Err(_unavailable) => {
                    discard(statements);
                    self.refuse(Form::Query, Answer::audit_unavailable());
                    return Ok(());
                }
            }
        }
        self.send_batch(statements);
        Ok(())
    }

    /// A Query takes the unnamed statement away, unless the server skips it.
    pub(super) fn drop_unnamed(&mut self) {
        self.unflushed = 0;
        if !self.names.may_have_unnamed() {
            return;
        }
        let by = self.next_change();
        let undo = self.names.close_statement("", by);
        if self.replies.is_empty() {
            self.names.settle(&undo);
        } else {
            self.replies.push(Reply::Made { made: Made::Silence, undo: Some(undo) });
        }
    }

    /// A Query is sent, the client's or one of Hedgerow's: it takes the backend's unnamed statement away.
    pub(super) fn backend_drops_unnamed(&mut self) {
        if let Some(lease) = self.lease.as_mut() {
            lease.statements.forget("");
        }
    }

    fn send_batch(&mut self, statements: VecDeque<Running>) {
        let forgets = |link: &Self, facts: &Facts| match &facts.kind {
            Kind::Deallocate(Some(name)) => link.shares_names() && link.names.by_protocol(name),
            _ => false,
        };
        let to_forget: Vec<bool> =
            statements.iter().map(|running| forgets(self, &running.facts)).collect();
        if to_forget.contains(&true) {
            self.make_forgettable();
        }
        let pieces = statements.iter().zip(to_forget).map(|(running, forget)| {
            if forget {
                return [None, Some(outbox::Piece::Forget), None, None];
            }
            let permit = running.record.permit();
            let piece = |guarded| outbox::Piece::Checked(guarded, permit);
            let own = running.facts.guarded.as_ref().map(piece);
            match staged_of(&running.facts.kind) {
                None => [None, own, None, None],
                Some(Staged { make, take, drop }) => {
                    [Some(piece(make)), own, Some(piece(take)), Some(piece(drop))]
                }
            }
        });
        self.outbox.query(pieces.flatten().flatten());
        self.backend_drops_unnamed();
        for running in &statements {
            self.mind_effects(&running.facts);
        }
        self.replies.next_request();
        self.replies.push(Reply::Query(Box::new(Batch::Running(statements))));
        self.pipeline = Pipeline::Synced;
        self.note_flight();
    }

    /// Whether decided statements may be sent in the session's present state.
    pub(super) fn may_run(&self, decided: &[Arc<Facts>]) -> Result<(), TurnedDown> {
        if matches!(self.block, Block::Failed) {
            return Err(TurnedDown::Told(in_failed_transaction()));
        }
        if self.current().standing == who::Standing::Service && !self.judge.is_privileged() {
            return Err(TurnedDown::Denied(Denial::of(
                DenialCode::TokenTenant,
                "a service's token: set a tenant's first, with SET hedgerow.token",
            )));
        }
        let forgets = decided.iter().filter(|facts| {
            matches!(&facts.kind, Kind::Deallocate(Some(name))
                if self.shares_names() && self.names.by_protocol(name))
        });
        if forgets.count() > 1 {
            let message = "only one DEALLOCATE of a statement prepared by protocol fits in a query";
            return Err(TurnedDown::Told(Answer::new(SqlState("0A000"), message)));
        }
        for facts in decided {
            match &facts.kind {
                Kind::Prepare(name) if self.shares_names() && self.names.by_protocol(name) => {
                    return Err(TurnedDown::Told(already_prepared(name)));
                }
                Kind::Execute(name) if self.shares_names() && self.names.by_protocol(name) => {
                    let message = "EXECUTE cannot run a statement that was prepared by protocol \
                                   in transaction pooling";
                    return Err(TurnedDown::Told(Answer::new(SqlState("0A000"), message)));
                }
                _ => {}
            }
        }
        // SET LOCAL hedgerow.token ends with the transaction: what follows is another tenant's.
        let ends = decided.iter().position(|facts| matches!(facts.kind, Kind::End(_)));
        if self.local.is_some()
            && let Some(position) = ends
            && (position + 1 < decided.len()
                || decided.iter().any(|facts| facts.kind == Kind::End(sql::End::AndChain)))
        {
            return Err(TurnedDown::Told(identity_changed_within()));
        }
        Ok(())
    }

    /// Opens the record of a statement that is about to be sent. That of a caller who sees every tenant
    /// is on disk before.
    pub(super) async fn open_record(&self, facts: &Facts) -> Result<OpenRecord, AuditUnavailable> {
        if self.judge.breaks_glass() {
            self.recorder.breaking_glass(facts).await?;
        }
        self.recorder.open(facts).await
    }

    /// Tells a client why decided statements are not sent, the first of which the record names.
    pub(super) async fn turn_down(
        &mut self,
        form: Form,
        refusal: TurnedDown,
        first: Option<&Arc<Facts>>,
    ) -> Result<(), End> {
        match refusal {
            TurnedDown::Told(answer) => {
                self.refuse(form, answer);
                Ok(())
            }
            TurnedDown::Denied(denial) => {
                let refused = match first {
                    Some(facts) => Refused::about(denial, facts),
                    None => Refused::of(denial),
                };
                self.deny(form, refused).await
            }
        }
    }

    /// What is sent next changes what later messages mean: they wait for its outcome.
    pub(super) fn mind_effects(&mut self, facts: &Facts) {
        let ends_identity = self.local.is_some() && matches!(facts.kind, Kind::End(_));
        let resets =
            matches!(facts.kind, Kind::Discard | Kind::Deallocate(None) | Kind::Temporary(_))
                || self.shares_names() && matches!(facts.kind, Kind::Deallocate(Some(_)))
                || facts.guarded.as_ref().is_some_and(|guarded| is_reset_all(guarded.text()));
        if ends_identity || resets {
            self.intake = Intake::AfterReplies;
            if self.pipeline == Pipeline::Open {
                self.outbox.flush();
            }
        }
    }

    /// Gives the backend a statement that [`outbox::Piece::Forget`] can deallocate.
    pub(super) fn make_forgettable(&mut self) {
        self.outbox.close_statement(outbox::FORGET_NAME);
        self.replies.next_request();
        self.replies.push(Reply::Close { undo: None });
        self.outbox.parse_to_forget();
        self.replies.push(Reply::Parse {
            undo: None,
            facts: Arc::new(Facts::empty()),
            name: outbox::FORGET_NAME.into(),
        });
    }

    /// An SQL EXECUTE runs what was prepared: its facts count too, if they still hold.
    async fn with_prepared(&mut self, facts: Arc<Facts>) -> Result<Arc<Facts>, Answer> {
        let Kind::Execute(name) = &facts.kind else { return Ok(facts) };
        let Some(prepared) = self.names.statement(name).cloned() else { return Ok(facts) };
        let prepared = self.renewed(name, prepared).await?.facts;
        let mut both = facts.as_ref().clone();
        both.protected |= prepared.protected;
        if both.tenant_columns.is_empty() {
            both.tenant_columns = Arc::clone(&prepared.tenant_columns);
        }
        if both.recorded.relations.is_empty() {
            let relations = Arc::clone(&prepared.recorded.relations);
            both.recorded = Arc::new(StatementFacts { relations, ..(*both.recorded).clone() });
        }
        Ok(Arc::new(both))
    }

    pub(super) fn send(&mut self, what: Relayed, frame: Frame<'_>, reply: Reply) {
        self.outbox.relay(what, frame);
        self.replies.next_request();
        self.replies.push(reply);
        self.note_flight();
    }

    /// Notes a reply of the extended protocol.
    pub(super) fn owe(&mut self, reply: Reply) {
        self.replies.push(reply);
        self.pipeline = Pipeline::Open;
        self.note_flight();
    }

    /// Records a denial, then refuses.
    pub(super) async fn deny(&mut self, form: Form, refused: Refused) -> Result<(), End> {
        let denial = refused.denial.clone();
        let answer = match self.recorder.denied(refused).await {
            Ok(record) => Answer::denial(&denial, record),
            Err(_unavailable) => Answer::audit_unavailable(),
        };
        self.refuse(form, answer);
        Ok(())
    }

    /// Refuses a message in its place.
    pub(super) fn refuse(&mut self, form: Form, answer: Answer) {
        let alone = self.at_rest();
        self.replies.next_request();
        if alone {
            answer.fields(Severity::Error).encode_error(&mut self.to_client);
            self.fail_block();
            self.settle();
        }
        match form {
            Form::Query | Form::Call if alone => {
                ready_for_query(&mut self.to_client, self.status);
                self.pipeline = Pipeline::Synced;
            }
            Form::Query | Form::Call => {
                let planned = if form == Form::Query {
                    self.outbox.refused_query();
                    self.backend_drops_unnamed();
                    SYNTAX_ERROR
                } else {
                    self.outbox.refused_call();
                    UNDEFINED_FUNCTION
                };
                let refusal = Refusal::Owed { answer: Box::new(answer), planned };
                self.replies.push(Reply::RefusedQuery(refusal));
                self.pipeline = Pipeline::Synced;
                self.note_flight();
            }
            Form::Extended if alone => self.pipeline = Pipeline::Skipping,
            Form::Extended => {
                self.outbox.refused_parse();
                self.owe(Reply::RefusedExtended(Box::new(answer)));
            }
        }
    }
}

/// Whether a checked text is the one statement that takes all settings back.
pub(super) fn is_reset_all(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("RESET ALL")
}

/// Why decided statements are not sent.
pub(super) enum TurnedDown {
    Told(Answer),
    Denied(Denial),
}

/// As PostgreSQL says it.
pub(super) fn already_prepared(name: &str) -> Answer {
    Answer::plain(SqlState("42P05"), &format!("prepared statement \"{name}\" already exists"))
}

fn discard(statements: VecDeque<Running>) {
    for running in statements {
        running.record.discard();
    }
}

pub(super) fn malformed(fault: DecodeFault) -> End {
    End::dismissed(Answer::protocol_violation(&format!("invalid message: {fault}")))
}

pub(super) fn too_many_names() -> Answer {
    Answer::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "the session holds too many prepared statements")
        .with_hint("Close prepared statements and portals that are no longer used.")
}
