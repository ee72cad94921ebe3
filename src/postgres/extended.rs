//! The extended protocol: Parse, Bind, Describe, Execute, Close. Layer 5.
//!
//! A client's prepared statements are its own, by its own names; backends come and go. In front of a
//! message that needs a statement which the backend does not have, the statement is prepared there:
//! no round trip, and the client hears nothing of it.

use std::sync::Arc;

use super::PoolMode;
use super::allowance::noting;
use super::answer::{Answer, End};
use super::egress::Watch;
use super::engage::Block;
use super::facts::Facts;
use super::here::in_failed_transaction;
use super::judge::Refused;
use super::names::{Portal, Prepared, Progress, Request, RunsAt, Undo};
use super::outbox::Relayed;
use super::replies::{AskedBy, Bound, Described, Description, Made, Reply, Running};
use super::requests::{Form, already_prepared, malformed, too_many_names};
use super::session::{Link, Pipeline};
use super::staging::{Staging, staged_of};
use super::statements::{Content, Holding, Text};
use crate::error::{Denial, DenialCode, SqlState};
use crate::sql::postgres::token_change;
use crate::sql::{Keeps, Kind};
use crate::wire::backend::{self, TransactionStatus};
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{DecodeFault, Frame};

/// Longest parameters that are kept for the scrubber, in bytes.
const MAX_KEPT_PARAMETERS: usize = 16 << 10;

impl Link {
    /// Whether backends know statements by names of Hedgerow's, because clients share them.
    pub(super) fn shares_names(&self) -> bool {
        self.door.mode == PoolMode::Transaction
    }

    /// The backend's name for a client's statement.
    fn backend_name(&self, name: &str, content: &Content) -> Arc<str> {
        if name.is_empty() || !self.shares_names() {
            self.names.kept(name)
        } else {
            Arc::clone(content.shared_name())
        }
    }

    /// The next request that changes a name.
    pub(super) fn next_change(&mut self) -> Request {
        Request { number: self.replies.next_request(), segment: self.segment }
    }

    /// Keeps a message until everything before it is answered.
    fn hold(&mut self, frame: Frame<'_>) {
        self.held = Some(frame.bytes.into());
        if self.pipeline == Pipeline::Open {
            self.outbox.flush();
        }
    }

    pub(super) async fn parse(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let parse = match Parse::decode(frame.body()) {
            Ok(parse) => parse,
            Err(DecodeFault::NotUtf8) => {
                self.refuse(Form::Extended, Answer::not_utf8());
                return Ok(());
            }
            Err(fault) => return Err(malformed(fault)),
        };
        let facts = match token_change(parse.text) {
            Some(change) => Arc::new(Facts::token(change)),
            None => match self.judge.decide(parse.text, parse.types).await {
                Ok(decided) if decided.len() > 1 => {
                    self.drop_unnamed_for(parse.name);
                    let message = "cannot insert multiple commands into a prepared statement";
                    self.refuse(Form::Extended, Answer::plain(SqlState("42601"), message));
                    return Ok(());
                }
                Ok(decided) => decided.first().cloned().unwrap_or_else(|| Arc::new(Facts::empty())),
                Err(refused) => {
                    self.drop_unnamed_for(parse.name);
                    return self.deny(Form::Extended, refused).await;
                }
            },
        };
        let forgets = matches!(&facts.kind, Kind::Deallocate(Some(name))
            if self.shares_names() && self.names.by_protocol(name));
        let text = match (&facts.token, &facts.guarded) {
            (Some(change), _) => Text::Token(change.scope),
            (None, _) if forgets => Text::Forget,
            (None, Some(guarded)) => Text::Checked(guarded.clone()),
            (None, None) => Text::Nothing,
        };
        let content = Content::new(text, parse.types, facts.shape);
        if !parse.name.is_empty() {
            if self.shares_names() && self.names.is_doubtful(parse.name, self.segment) {
                self.hold(frame);
                return Ok(());
            }
            // A server that knows the client's names says so itself, if it was told of this one.
            let is_told = !self.shares_names()
                && self.lease.as_ref().is_some_and(|lease| lease.statements.has(parse.name));
            if !is_told && self.names.statement(parse.name).is_some() {
                self.refuse(Form::Extended, already_prepared(parse.name));
                return Ok(());
            }
        }
        let here = self.at_rest()
            && (facts.token.is_some() || matches!(facts.kind, Kind::Begin(_) | Kind::End(_)));
        if !here {
            if let Err(refusal) = self.may_run(std::slice::from_ref(&facts)) {
                self.drop_unnamed_for(parse.name);
                return self.turn_down(Form::Extended, refusal, Some(&facts)).await;
            }
            if let Err(answer) = self.engage().await {
                self.refuse(Form::Extended, answer);
                return Ok(());
            }
        }
        let Ok(permit) = self.recorder.permit().await else {
            self.refuse(Form::Extended, Answer::audit_unavailable());
            return Ok(());
        };
        let by = self.next_change();
        let identity = self.current().serial;
        let known = (Arc::clone(&facts), Some(Arc::clone(&content)));
        let Ok(undo) = self.names.prepare(parse.name, known, identity, by) else {
            self.refuse(Form::Extended, too_many_names());
            return Ok(());
        };
        if here {
            self.names.settle(&undo);
            self.pipeline = Pipeline::Open;
            self.say_here(|out| backend::bare(out, backend::tag::PARSE_COMPLETE));
            return Ok(());
        }
        let name = &self.backend_name(parse.name, &content);
        let segment = self.segment;
        let mut holding = Holding::Other;
        if let Some(lease) = self.lease.as_mut()
            && self.door.mode == PoolMode::Transaction
            && !name.is_empty()
        {
            holding = lease.statements.holding(name, &content, segment);
        }
        let failed = self.status == TransactionStatus::Failed;
        match holding {
            // In a failed transaction the server says so itself.
            Holding::Same if !failed && !self.replies.await_an_end() => {
                self.give(Made::ParseComplete, Some(undo));
            }
            Holding::Same if failed => {
                self.send_parse(name, &content, &facts, Some(undo), &permit);
            }
            Holding::Other => {
                self.make_room(name);
                self.send_parse(name, &content, &facts, Some(undo), &permit);
            }
            // Whether the transaction has failed by then is not known yet.
            Holding::Same | Holding::Doubtful => {
                self.close_own(name);
                self.send_parse(name, &content, &facts, Some(undo), &permit);
            }
        }
        Ok(())
    }

    /// A Parse of the unnamed statement takes the one before away, even if it is refused.
    fn drop_unnamed_for(&mut self, name: &str) {
        if name.is_empty() {
            self.drop_unnamed();
        }
    }

    fn send_parse(
        &mut self,
        name: &Arc<str>,
        content: &Arc<Content>,
        facts: &Arc<Facts>,
        undo: Option<Undo>,
        permit: &crate::audit::AuditPermit,
    ) {
        let segment = self.segment;
        self.outbox.parse(name, content, permit);
        if let Some(lease) = self.lease.as_mut() {
            lease.statements.sent(name, content, segment);
        }
        self.owe(Reply::Parse { undo, facts: Arc::clone(facts), name: Arc::clone(name) });
    }

    /// Closes a statement on the backend, of which the client hears nothing.
    fn close_own(&mut self, name: &str) {
        self.outbox.close_statement(name);
        if let Some(lease) = self.lease.as_mut() {
            lease.statements.forget(name);
        }
        self.owe(Reply::Close { undo: None });
    }

    fn make_room(&mut self, name: &str) {
        if self.shares_names()
            && !name.is_empty()
            && let Some(evicted) = self.lease.as_ref().and_then(|lease| lease.statements.to_evict())
        {
            self.close_own(&evicted);
        }
    }

    /// Gives the client, in its turn, what the server was not asked for.
    fn give(&mut self, made: Made, undo: Option<Undo>) {
        self.owe(Reply::Made { made, undo });
        self.settle();
    }

    /// Makes sure that the backend has a client's statement; answers the backend's name for it.
    async fn prepared_there(
        &mut self,
        name: &str,
        prepared: &Prepared,
    ) -> Result<Arc<str>, Answer> {
        let Some(content) = &prepared.content else { return Ok(self.names.kept(name)) };
        let there = self.backend_name(name, content);
        let segment = self.segment;
        let Some(lease) = self.lease.as_mut() else { return Ok(there) };
        let holding = lease.statements.holding(&there, content, segment);
        let known = match holding {
            Holding::Same => true,
            // The server knows better what it has under the client's own name.
            Holding::Doubtful => !self.shares_names(),
            Holding::Other => false,
        };
        if !known {
            let permit =
                self.recorder.permit().await.map_err(|_unavailable| Answer::audit_unavailable())?;
            if !there.is_empty() {
                if holding == Holding::Doubtful || !self.shares_names() {
                    self.close_own(&there);
                } else {
                    self.make_room(&there);
                }
            }
            self.send_parse(&there, content, &prepared.facts, None, &permit);
        }
        Ok(there)
    }

    pub(super) async fn bind(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let bind = Bind::decode(frame.body()).map_err(malformed)?;
        if self.awaits_name(bind.statement, frame) {
            return Ok(());
        }
        let prepared = match self.statement_named(bind.statement).await {
            Ok(prepared) => prepared,
            Err(answer) => {
                self.refuse(Form::Extended, answer);
                return Ok(());
            }
        };
        if let Some(prepared) = &prepared
            && self.is_answered_here(&prepared.facts)
        {
            let supplied = frontend::parameter_count(bind.parameters);
            if supplied > 0 {
                let message = format!(
                    "bind message supplies {supplied} parameters, but prepared statement \"{}\" \
                     requires 0",
                    bind.statement
                );
                self.refuse(Form::Extended, Answer::plain(SqlState::PROTOCOL_VIOLATION, &message));
                return Ok(());
            }
            let mut portal = Portal::new(Arc::clone(&prepared.facts), None, Watch::default());
            portal.place = RunsAt::Here;
            let by = self.next_change();
            let Ok(undo) = self.names.bind(bind.portal, portal, by) else {
                self.refuse(Form::Extended, too_many_names());
                return Ok(());
            };
            self.names.settle(&undo);
            self.pipeline = Pipeline::Open;
            self.say_here(|out| backend::bare(out, backend::tag::BIND_COMPLETE));
            return Ok(());
        }
        // The server says what it thinks of a name that is not known here; if it knows it, the worst
        // is assumed.
        let facts = prepared
            .as_ref()
            .map_or_else(|| Arc::new(Facts::unknown()), |prepared| Arc::clone(&prepared.facts));
        if let Err(refusal) = self.may_run(std::slice::from_ref(&facts)) {
            return self.turn_down(Form::Extended, refusal, Some(&facts)).await;
        }
        if let Err(answer) = self.engage().await {
            self.refuse(Form::Extended, answer);
            return Ok(());
        }
        let there = match &prepared {
            Some(prepared) => match self.prepared_there(bind.statement, prepared).await {
                Ok(there) => there,
                Err(answer) => {
                    self.refuse(Form::Extended, answer);
                    return Ok(());
                }
            },
            None => self.names.kept(bind.statement),
        };
        let keep = facts.protected && bind.parameters.len() <= MAX_KEPT_PARAMETERS;
        let parameters: Option<Arc<[u8]>> = keep.then(|| bind.parameters.into());
        let tenant = &self.current().bearer.tenant;
        let shape = self.names.shape(bind.statement);
        let watch = Watch::new(&facts.tenant_columns, shape, bind.result_formats, tenant);
        let mut portal = Portal::new(Arc::clone(&facts), parameters.clone(), watch);
        portal.statement = Some(Arc::clone(&there));
        let by = self.next_change();
        let Ok(undo) = self.names.bind(bind.portal, portal, by) else {
            self.refuse(Form::Extended, too_many_names());
            return Ok(());
        };
        if *there == *bind.statement {
            self.outbox.relay(Relayed::Bind, frame);
        } else {
            self.outbox.bind(&bind, &there);
        }
        let asked = self.names.kept(bind.statement);
        self.owe(Reply::Bind(Bound { facts, parameters, statement: there, asked, undo }));
        Ok(())
    }

    /// Whether it is not known yet what a name stands for, as an earlier part of the pipeline may still
    /// fail or prepare it: the message then waits until that is answered.
    fn awaits_name(&mut self, name: &str, frame: Frame<'_>) -> bool {
        // Of its own names a server that is one client's knows better, but for the unnamed one.
        if !self.shares_names() && !name.is_empty() || self.replies.is_empty() {
            return false;
        }
        let waits =
            self.names.statement(name).is_none() || self.names.is_doubtful(name, self.segment);
        if waits {
            self.hold(frame);
        }
        waits
    }

    /// A client's statement as it holds now. `None`: only the server can know of it.
    async fn statement_named(&mut self, name: &str) -> Result<Option<Prepared>, Answer> {
        match self.names.statement(name).cloned() {
            Some(prepared) => self.renewed(name, prepared).await.map(Some),
            // SQL prepares none without a name: of that one all is known.
            None if name.is_empty() || self.shares_names() && !self.holds(Keeps::Prepared) => {
                let message = if name.is_empty() {
                    "unnamed prepared statement does not exist".to_owned()
                } else {
                    format!("prepared statement \"{name}\" does not exist")
                };
                Err(Answer::plain(SqlState("26000"), &message))
            }
            None => Ok(None),
        }
    }

    fn holds(&self, what: Keeps) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.pins.contains(&what))
    }

    /// A statement that holds under today's policy and catalog, for today's identity: decided anew if
    /// those changed. One that would answer otherwise for the same identity must be prepared again.
    pub(super) async fn renewed(
        &mut self,
        name: &str,
        prepared: Prepared,
    ) -> Result<Prepared, Answer> {
        let facts = &prepared.facts;
        let identity = self.current().serial;
        if facts.guarded.is_none() {
            return Ok(prepared);
        }
        let same_identity = prepared.identity == identity;
        let stale = match self.judge.is_current(facts).await {
            Ok(true) if same_identity => return Ok(prepared),
            Ok(_) => match self.judge.decide(&facts.client_text, &facts.types).await {
                Ok(decided) => match &*decided {
                    // What backends have under another text is prepared anew, of which the client
                    // hears nothing.
                    [renewed]
                        if renewed.same_decision(facts)
                            || prepared.content.is_some()
                                && (!same_identity || renewed.answers_alike(facts)) =>
                    {
                        let content = self.content_renewed(&prepared, renewed);
                        self.names.renew(name, (renewed, &content), identity);
                        let facts = Arc::clone(renewed);
                        return Ok(Prepared { facts, content, identity, ..prepared });
                    }
                    _ => Refused::about(
                        Denial::of(DenialCode::Internal, "prepared statement"),
                        facts,
                    ),
                },
                Err(refused) => refused,
            },
            Err(refused) => refused,
        };
        let denial = stale.denial.clone();
        let Ok(record) = self.recorder.denied(stale).await else {
            return Err(Answer::audit_unavailable());
        };
        let mut answer = Answer::denial(&denial, record);
        if denial.code == DenialCode::Internal {
            "hedgerow: policy or schema changed since the statement was prepared"
                .clone_into(&mut answer.message);
            answer =
                answer.with_hint(&format!("Prepare the statement again. (audit record {record})"));
        }
        Err(answer)
    }

    /// What backends are sent for the new decision; the old value, if that is the same.
    fn content_renewed(&self, prepared: &Prepared, renewed: &Facts) -> Option<Arc<Content>> {
        let content = prepared.content.as_ref()?;
        match (&content.text, &renewed.guarded) {
            (Text::Checked(before), Some(now)) if before != now => {
                Some(Content::new(Text::Checked(now.clone()), &content.types, renewed.shape))
            }
            _ => Some(Arc::clone(content)),
        }
    }

    pub(super) async fn execute(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let name = frontend::execute(frame.body()).map_err(malformed)?;
        let known = self.names.portal(name).cloned();
        if let Some(Portal { facts, place: RunsAt::Here, .. }) = &known {
            self.pipeline = Pipeline::Open;
            if self.is_answered_here(facts) {
                return self.answer_here(Form::Extended, facts).await;
            }
            self.refuse(Form::Extended, no_portal(name));
            return Ok(());
        }
        if matches!(self.block, Block::Failed) {
            self.refuse(Form::Extended, in_failed_transaction());
            return Ok(());
        }
        if known.is_none() && self.at_rest() && !self.holds(Keeps::Cursor) {
            self.refuse(Form::Extended, no_portal(name));
            return Ok(());
        }
        let portal = known
            .unwrap_or_else(|| Portal::new(Arc::new(Facts::unknown()), None, Watch::default()));
        let Portal { mut facts, parameters, watch, statement, progress, .. } = portal;
        // Further rows of a portal are no further statement.
        if progress == Progress::New {
            match self.admit(std::slice::from_ref(&facts)) {
                Ok(would_deny) => facts = noting(facts, would_deny.as_ref()),
                Err(refused) => return self.deny(Form::Extended, refused).await,
            }
            self.names.begun(name);
        }
        if let Err(answer) = self.engage().await {
            self.refuse(Form::Extended, answer);
            return Ok(());
        }
        let mut identity = None;
        if let Some(change) = &facts.token {
            match self.newcomer(Form::Extended, change).await? {
                Some(who) => identity = Some((who, change.scope)),
                None => return Ok(()),
            }
        }
        let Ok(record) = self.open_record(&facts).await else {
            self.refuse(Form::Extended, Answer::audit_unavailable());
            return Ok(());
        };
        if matches!(&facts.kind, Kind::Deallocate(Some(name))
            if self.shares_names() && self.names.by_protocol(name))
        {
            self.make_forgettable();
        }
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
                asked_by: AskedBy::Hedgerow,
                statement: None,
            }));
        }
        self.replies.next_request();
        if let Some(staged) = staged_of(&facts.kind) {
            self.outbox.aside(&staged.make, record.permit());
        }
        self.outbox.relay(Relayed::Execute, frame);
        let staging = Staging::of(&facts.kind, Form::Extended);
        let running =
            Running { record, parameters, watch, rows: 0, facts: Arc::clone(&facts), staging };
        self.owe(Reply::Execute { running: Box::new(running), statement });
        self.mind_effects(&facts);
        match identity {
            Some((who, scope)) => self.take_identity(who, scope).await,
            None => Ok(()),
        }
    }

    pub(super) async fn describe(&mut self, frame: Frame<'_>) -> Result<(), End> {
        match Target::decode(frame.body()).map_err(malformed)? {
            Target::Statement(name) if self.awaits_name(name, frame) => Ok(()),
            Target::Statement(name) => self.describe_statement(name).await,
            Target::Portal(name) => {
                match self.names.portal(name) {
                    Some(Portal { place: RunsAt::Here, .. }) => {
                        self.pipeline = Pipeline::Open;
                        self.say_here(|out| backend::bare(out, backend::tag::NO_DATA));
                        return Ok(());
                    }
                    None if self.at_rest() && !self.holds(Keeps::Cursor) => {
                        self.refuse(Form::Extended, no_portal(name));
                        return Ok(());
                    }
                    Some(_) | None => {}
                }
                if let Err(answer) = self.engage().await {
                    self.refuse(Form::Extended, answer);
                    return Ok(());
                }
                self.replies.next_request();
                let portal = self.names.portal(name);
                let shape = portal.map(|portal| portal.watch.shape().clone()).unwrap_or_default();
                shape.ask(self.replies.batch());
                self.outbox.relay(Relayed::Describe, frame);
                let (awaits, asked_by) = (Described::Rows, AskedBy::Client);
                let statement = None;
                self.owe(Reply::Describe(Description { awaits, shape, asked_by, statement }));
                Ok(())
            }
        }
    }

    async fn describe_statement(&mut self, name: &str) -> Result<(), End> {
        let prepared = match self.statement_named(name).await {
            Ok(prepared) => prepared,
            Err(answer) => {
                self.refuse(Form::Extended, answer);
                return Ok(());
            }
        };
        if let Some(prepared) = &prepared
            && self.is_answered_here(&prepared.facts)
        {
            self.pipeline = Pipeline::Open;
            self.say_here(|out| {
                backend::no_parameters(out);
                backend::bare(out, backend::tag::NO_DATA);
            });
            return Ok(());
        }
        let facts = prepared.as_ref().map(|prepared| std::slice::from_ref(&prepared.facts));
        if let Err(refusal) = self.may_run(facts.unwrap_or_default()) {
            let first = facts.and_then(<[_]>::first);
            return self.turn_down(Form::Extended, refusal, first).await;
        }
        if let Err(answer) = self.engage().await {
            self.refuse(Form::Extended, answer);
            return Ok(());
        }
        let there = match &prepared {
            Some(prepared) => match self.prepared_there(name, prepared).await {
                Ok(there) => there,
                Err(answer) => {
                    self.refuse(Form::Extended, answer);
                    return Ok(());
                }
            },
            None => self.names.kept(name),
        };
        self.replies.next_request();
        let shape = self.names.shape(name);
        shape.ask(self.replies.batch());
        self.outbox.describe_statement(&there);
        let (awaits, asked_by) = (Described::Statement, AskedBy::Client);
        let statement = Some(self.names.kept(name));
        self.owe(Reply::Describe(Description { awaits, shape, asked_by, statement }));
        Ok(())
    }

    pub(super) async fn close(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let target = Target::decode(frame.body()).map_err(malformed)?;
        // The backend keeps what other clients may use, and knows nothing of what ran here.
        let is_here = match target {
            Target::Statement(name) => self.shares_names() && self.names.by_protocol(name),
            Target::Portal(name) => {
                self.names.portal(name).is_some_and(|portal| portal.place == RunsAt::Here)
            }
        };
        let is_here = is_here || self.lease.is_none();
        if !is_here && let Err(answer) = self.engage().await {
            self.refuse(Form::Extended, answer);
            return Ok(());
        }
        let by = self.next_change();
        let undo = match target {
            Target::Statement(name) => self.names.close_statement(name, by),
            Target::Portal(name) => self.names.close_portal(name, by),
        };
        if is_here {
            self.give(Made::CloseComplete, Some(undo));
            return Ok(());
        }
        if let (Target::Statement(name), Some(lease)) = (target, self.lease.as_mut()) {
            lease.statements.forget(name);
        }
        self.outbox.relay(Relayed::Close, frame);
        self.owe(Reply::Close { undo: Some(undo) });
        Ok(())
    }
}

/// As PostgreSQL says it.
fn no_portal(name: &str) -> Answer {
    Answer::plain(SqlState("34000"), &format!("portal \"{name}\" does not exist"))
}
