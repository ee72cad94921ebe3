//! What the client sends in a session: decided, refused or passed on. Layer 5.
//!
//! A refusal takes its place among the replies: in place of the refused message the server is sent
//! one that fails, and its error is replaced by ours. So order, transaction state and skip-to-Sync
//! come out as if the server had refused. Only where nothing is in flight and no transaction is open
//! is the answer given at once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::answer::{Answer, End};
use super::copy_in;
use super::egress::{Shape, Watch};
use super::facts::Facts;
use super::judge::Refused;
use super::names::Portal;
use super::outbox::Relayed;
use super::recorder::OpenRecord;
use super::replies::{AskedBy, Batch, Described, Description, Refusal, Reply, Running};
use super::session::{Link, Pipeline};
use crate::audit::AuditUnavailable;
use crate::error::{Denial, DenialCode, SqlState};
use crate::sql::Kind;
use crate::wire::backend::{TransactionStatus, ready_for_query};
use crate::wire::error_fields::Severity;
use crate::wire::frontend::{self, Bind, Parse, Target, tag};
use crate::wire::{DecodeFault, Frame, FrameFault, Header, Piece, Plan};

/// Longest message that carries no statement and no data (PostgreSQL's own limit), in bytes.
const MAX_SMALL_MESSAGE: usize = 10_000;
/// Longest Bind, in bytes: its parameters are held in memory while it is read.
const MAX_BIND: usize = 64 << 20;
/// Room beside the text in a Query or Parse: tag, length, name, parameter types.
const STATEMENT_SLACK: usize = 64 << 10;
/// Longest parameters that are kept for the scrubber, in bytes.
const MAX_KEPT_PARAMETERS: usize = 16 << 10;

/// What to do with a frame of the client's.
pub(super) fn plan(header: Header, max_statement: usize) -> Result<Plan, FrameFault> {
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

/// What a message is refused as.
enum Form {
    /// It owes its own ReadyForQuery.
    Query,
    /// The server skips to the next Sync.
    Extended,
}

impl Link {
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
                Answer::protocol_violation("invalid message length").into()
            }
            FrameFault::Tag(tag) => {
                let denial = Denial::of(DenialCode::ProtocolMessage, format!("message type {tag}"));
                match self.recorder.denied(Refused::of(denial.clone())).await {
                    // The state is PostgreSQL's for a message that it does not know.
                    Ok(record) => Answer {
                        state: SqlState::PROTOCOL_VIOLATION,
                        ..Answer::denial(&denial, record)
                    }
                    .into(),
                    Err(_unavailable) => Answer::audit_unavailable().into(),
                }
            }
        }
    }

    async fn whole(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let body = frame.body();
        match (frame.tag, self.pipeline) {
            (tag::TERMINATE, _) => {
                frontend::empty(body).map_err(malformed)?;
                Err(End::ClientLeft)
            }
            (tag::SYNC, _) => {
                frontend::empty(body).map_err(malformed)?;
                self.send(Relayed::Sync, frame, Reply::Sync);
                self.pipeline = Pipeline::Synced;
                Ok(())
            }
            // The server skips these too.
            (_, Pipeline::Skipping) => Ok(()),
            (tag::QUERY, Pipeline::Synced | Pipeline::Open) => self.query(body).await,
            (tag::PARSE, Pipeline::Synced | Pipeline::Open) => self.parse(body).await,
            (tag::BIND, Pipeline::Synced | Pipeline::Open) => self.bind(frame).await,
            (tag::EXECUTE, Pipeline::Synced | Pipeline::Open) => self.execute(frame).await,
            (tag::DESCRIBE, Pipeline::Synced | Pipeline::Open) => self.describe(frame),
            (tag::CLOSE, Pipeline::Synced | Pipeline::Open) => self.close(frame),
            (tag::FLUSH, Pipeline::Synced | Pipeline::Open) => {
                frontend::empty(body).map_err(malformed)?;
                self.outbox.relay(Relayed::Flush, frame);
                Ok(())
            }
            (other, Pipeline::Synced | Pipeline::Open) => {
                Err(self.bad_request(FrameFault::Tag(other)).await)
            }
        }
    }

    async fn skipped(&mut self, header: Header) -> Result<(), End> {
        let too_large = || Refused::of(Denial::new(DenialCode::StatementTooLarge));
        match (header.tag, self.pipeline) {
            (_, Pipeline::Skipping) => Ok(()),
            (tag::QUERY, Pipeline::Synced | Pipeline::Open) => {
                self.deny(Form::Query, too_large()).await
            }
            (tag::PARSE | tag::BIND, Pipeline::Synced | Pipeline::Open) => {
                self.deny(Form::Extended, too_large()).await
            }
            // FunctionCall has a ReadyForQuery of its own, as Query has.
            (_, Pipeline::Synced | Pipeline::Open) => {
                let denial = Denial::of(DenialCode::ProtocolMessage, "FunctionCall");
                self.deny(Form::Query, Refused::of(denial)).await
            }
        }
    }

    async fn query(&mut self, body: &[u8]) -> Result<(), End> {
        let text = match frontend::query(body) {
            Ok(text) => text,
            Err(DecodeFault::NotUtf8) => {
                self.refuse(Form::Query, Answer::not_utf8());
                return Ok(());
            }
            Err(fault) => return Err(malformed(fault)),
        };
        let decided = match self.judge.decide(text, &[]).await {
            Ok(decided) => decided,
            Err(refused) => return self.deny(Form::Query, refused).await,
        };
        // Empty statements beside others get no answer of their own.
        let all_empty = decided.iter().all(|facts| facts.kind == Kind::Empty);
        let to_run = decided
            .iter()
            .enumerate()
            .filter(|(position, facts)| facts.kind != Kind::Empty || (all_empty && *position == 0));
        let mut statements = VecDeque::with_capacity(decided.len());
        for (_, facts) in to_run {
            let facts = match self.with_prepared(Arc::clone(facts)).await {
                Ok(facts) => facts,
                Err(answer) => {
                    discard(statements);
                    self.refuse(Form::Query, answer);
                    return Ok(());
                }
            };
            match self.open_record(&facts).await {
                Ok(record) => statements.push_back(Running {
                    record,
                    parameters: None,
                    watch: Watch::new(&facts.tenant_columns, Shape::default(), &[]),
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
        self.outbox.query(statements.iter().filter_map(|running: &Running| {
            running.facts.guarded.as_ref().map(|guarded| (guarded, running.record.permit()))
        }));
        self.replies.next_request();
        self.replies.push(Reply::Query(Box::new(Batch::Running(statements))));
        self.pipeline = Pipeline::Synced;
        self.flight.set_in_flight(true);
        Ok(())
    }

    /// Opens the record of a statement that is about to be sent. That of a caller who sees every tenant
    /// is on disk before.
    async fn open_record(&self, facts: &Facts) -> Result<OpenRecord, AuditUnavailable> {
        if self.judge.breaks_glass() {
            self.recorder.breaking_glass(facts).await?;
        }
        self.recorder.open(facts).await
    }

    /// An SQL EXECUTE runs what was prepared: its facts count too, if they still hold.
    async fn with_prepared(&mut self, facts: Arc<Facts>) -> Result<Arc<Facts>, Answer> {
        let Kind::Execute(name) = &facts.kind else { return Ok(facts) };
        let Some(prepared) = self.names.statement(name).cloned() else { return Ok(facts) };
        let prepared = self.renewed(name, prepared).await?;
        let mut both = facts.as_ref().clone();
        both.protected |= prepared.protected;
        if both.tenant_columns.is_empty() {
            both.tenant_columns = Arc::clone(&prepared.tenant_columns);
        }
        if both.relations.is_empty() {
            both.relations = Arc::clone(&prepared.relations);
        }
        Ok(Arc::new(both))
    }

    async fn parse(&mut self, body: &[u8]) -> Result<(), End> {
        let parse = match Parse::decode(body) {
            Ok(parse) => parse,
            Err(DecodeFault::NotUtf8) => {
                self.refuse(Form::Extended, Answer::not_utf8());
                return Ok(());
            }
            Err(fault) => return Err(malformed(fault)),
        };
        let decided = match self.judge.decide(parse.text, parse.types).await {
            Ok(decided) => decided,
            Err(refused) => return self.deny(Form::Extended, refused).await,
        };
        if decided.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            self.refuse(Form::Extended, Answer::plain(SqlState("42601"), message));
            return Ok(());
        }
        let facts = decided.first().cloned().unwrap_or_else(|| {
            Arc::new(Facts { kind: Kind::Empty, protected: false, ..Facts::unknown() })
        });
        let Ok(permit) = self.recorder.permit().await else {
            self.refuse(Form::Extended, Answer::audit_unavailable());
            return Ok(());
        };
        let request = self.replies.next_request();
        let Ok(undo) = self.names.prepare(parse.name, Arc::clone(&facts), request) else {
            self.refuse(Form::Extended, too_many_names());
            return Ok(());
        };
        match &facts.guarded {
            Some(guarded) => self.outbox.parse(parse.name, guarded, parse.types, &permit),
            None => self.outbox.parse_nothing(parse.name),
        }
        self.owe(Reply::Parse { undo, facts });
        Ok(())
    }

    async fn bind(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let bind = Bind::decode(frame.body()).map_err(malformed)?;
        let facts = match self.names.statement(bind.statement).cloned() {
            Some(facts) => match self.renewed(bind.statement, facts).await {
                Ok(facts) => facts,
                Err(answer) => {
                    self.refuse(Form::Extended, answer);
                    return Ok(());
                }
            },
            // The server says what it thinks of the name; if it knows it, the worst is assumed.
            None => Arc::new(Facts::unknown()),
        };
        let keep = facts.protected && bind.parameters.len() <= MAX_KEPT_PARAMETERS;
        let parameters: Option<Arc<[u8]>> = keep.then(|| bind.parameters.into());
        let shape = self.names.shape(bind.statement);
        let watch = Watch::new(&facts.tenant_columns, shape, bind.result_formats);
        let request = self.replies.next_request();
        let portal = Portal::new(Arc::clone(&facts), parameters.clone(), watch, request);
        if self.names.bind(bind.portal, portal).is_err() {
            self.refuse(Form::Extended, too_many_names());
            return Ok(());
        }
        self.outbox.relay(Relayed::Bind, frame);
        self.owe(Reply::Bind { facts, parameters });
        Ok(())
    }

    /// Facts that hold under today's policy and catalog: decided anew if those changed. A statement
    /// that would come out differently must be prepared again.
    async fn renewed(&mut self, name: &str, facts: Arc<Facts>) -> Result<Arc<Facts>, Answer> {
        let stale = match self.judge.is_current(&facts).await {
            Ok(true) => return Ok(facts),
            Ok(false) if facts.guarded.is_none() => return Ok(facts),
            Ok(false) => match self.judge.decide(&facts.client_text, &facts.types).await {
                Ok(decided) => match &*decided {
                    [renewed] if renewed.same_decision(&facts) => {
                        self.names.renew(name, renewed);
                        return Ok(Arc::clone(renewed));
                    }
                    _ => Refused::of(Denial::of(DenialCode::Internal, "prepared statement")),
                },
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        let denial = stale.denial.clone();
        let mut answer = match self.recorder.denied(stale).await {
            Ok(record) => Answer::denial(&denial, record),
            Err(_unavailable) => return Err(Answer::audit_unavailable()),
        };
        if denial.code == DenialCode::Internal {
            "hedgerow: policy or schema changed since the statement was prepared"
                .clone_into(&mut answer.message);
            answer = answer.with_hint("Prepare the statement again.");
        }
        Err(answer)
    }

    async fn execute(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let name = frontend::execute(frame.body()).map_err(malformed)?;
        let Portal { facts, parameters, watch, .. } = match self.names.portal(name) {
            Some(portal) => portal.clone(),
            None => Portal::new(Arc::new(Facts::unknown()), None, Watch::default(), 0),
        };
        let Ok(record) = self.open_record(&facts).await else {
            self.refuse(Form::Extended, Answer::audit_unavailable());
            return Ok(());
        };
        // SECURITY: who does not ask what the rows are gets no rows that nobody watches.
        if facts.may_return_tenants()
            && !self.judge.breaks_glass()
            && !watch.shape().ask(self.replies.batch())
        {
            self.replies.next_request();
            self.outbox.describe_portal(name);
            self.owe(Reply::Describe(Description {
                awaits: Described::Rows,
                shape: watch.shape().clone(),
                asked_by: AskedBy::Guard,
            }));
        }
        let running = Running { record, facts, parameters, watch, rows: 0 };
        self.replies.next_request();
        self.outbox.relay(Relayed::Execute, frame);
        self.owe(Reply::Execute(Box::new(running)));
        Ok(())
    }

    fn describe(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let (awaits, shape) = match Target::decode(frame.body()).map_err(malformed)? {
            Target::Statement(name) => (Described::Statement, self.names.shape(name)),
            Target::Portal(name) => {
                let portal = self.names.portal(name);
                let shape = portal.map(|portal| portal.watch.shape().clone());
                (Described::Rows, shape.unwrap_or_default())
            }
        };
        shape.ask(self.replies.batch());
        self.replies.next_request();
        self.outbox.relay(Relayed::Describe, frame);
        let asked_by = AskedBy::Client;
        self.owe(Reply::Describe(Description { awaits, shape, asked_by }));
        Ok(())
    }

    fn close(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let undo = match Target::decode(frame.body()).map_err(malformed)? {
            Target::Statement(name) => Some(self.names.close_statement(name)),
            Target::Portal(name) => {
                self.names.close_portal(name);
                None
            }
        };
        self.replies.next_request();
        self.outbox.relay(Relayed::Close, frame);
        self.owe(Reply::Close { undo });
        Ok(())
    }

    fn send(&mut self, what: Relayed, frame: Frame<'_>, reply: Reply) {
        self.outbox.relay(what, frame);
        self.replies.next_request();
        self.replies.push(reply);
        self.flight.set_in_flight(true);
    }

    /// Notes a reply of the extended protocol.
    fn owe(&mut self, reply: Reply) {
        self.replies.push(reply);
        self.pipeline = Pipeline::Open;
        self.flight.set_in_flight(true);
    }

    /// Records a denial, then refuses.
    async fn deny(&mut self, form: Form, refused: Refused) -> Result<(), End> {
        let denial = refused.denial.clone();
        let answer = match self.recorder.denied(refused).await {
            Ok(record) => Answer::denial(&denial, record),
            Err(_unavailable) => Answer::audit_unavailable(),
        };
        self.refuse(form, answer);
        Ok(())
    }

    /// Refuses a message in its place.
    fn refuse(&mut self, form: Form, answer: Answer) {
        let alone = self.replies.is_empty()
            && self.status == TransactionStatus::Idle
            && matches!(self.pipeline, Pipeline::Synced);
        self.replies.next_request();
        match form {
            Form::Query if alone => {
                answer.fields(Severity::Error).encode_error(&mut self.to_client);
                ready_for_query(&mut self.to_client, TransactionStatus::Idle);
            }
            Form::Query => {
                self.outbox.refused_query();
                self.replies.push(Reply::RefusedQuery(Refusal::Owed(Box::new(answer))));
                self.pipeline = Pipeline::Synced;
                self.flight.set_in_flight(true);
            }
            Form::Extended if alone => {
                answer.fields(Severity::Error).encode_error(&mut self.to_client);
                self.pipeline = Pipeline::Skipping;
            }
            Form::Extended => {
                self.outbox.refused_parse();
                self.owe(Reply::RefusedExtended(Box::new(answer)));
            }
        }
    }
}

fn discard(statements: VecDeque<Running>) {
    for running in statements {
        running.record.discard();
    }
}

pub(super) fn malformed(fault: DecodeFault) -> End {
    Answer::protocol_violation(&format!("invalid message: {fault}")).into()
}

fn too_many_names() -> Answer {
    Answer::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "the session holds too many prepared statements")
        .with_hint("Close prepared statements and portals that are no longer used.")
}
