//! What the server answers: matched with what is owed, looked at where it must be, passed on. Layer 5.
//!
//! A reply that is not owed ends the session: one answer too many or too few, and rows go to the
//! wrong question. Rows and COPY data are passed on as bytes; only rows with a tenant column are read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::answer::{Answer, End};
use super::copy_in::{Copying, copy_of};
use super::engage::Change;
use super::facts::Facts;
use super::limits::{Met, SHORT_MESSAGE};
use super::parameters;
use super::recorder::SUCCESS;
use super::replies::{
    AfterError, AskedBy, Batch, Bound, Described, Own, Refusal, Reply, Running, SYNTAX_ERROR,
};
use super::requests::is_reset_all;
use super::scrub::{self, Known};
use super::session::{Link, Pipeline};
use super::staging::{Heard, use_clients_table};
use super::statements::SHARED_NAMES;
use crate::error::{Denial, DenialCode, SqlState};
use crate::sql::advisory::UNLOCK_ALL;
use crate::sql::{Keeps, Kind, Residue};
use crate::wire::backend::{self, TransactionStatus, tag};
use crate::wire::error_fields::{ErrorFields, Severity, field};
use crate::wire::{Frame, FrameFault, Header, Piece, Plan};

/// Longest message that is looked at, in bytes: errors, descriptions, rows with a tenant column.
const MAX_READ_MESSAGE: usize = 64 << 20;

/// The SQLSTATE of "cached plan must not change result type", among others.
const CACHED_PLAN: &str = "0A000";
/// The SQLSTATE of a statement that was cancelled, or ran for too long.
const QUERY_CANCELED: &str = "57014";
/// The SQLSTATE of a write in a transaction that may only read.
const READ_ONLY: &str = "25006";
/// The SQLSTATE of a prepared statement that the server does not have.
const UNKNOWN_STATEMENT: &str = "26000";

impl Link {
    /// What to do with a frame of the server's.
    pub(super) fn reply_plan(&mut self, header: Header, held: usize) -> Result<Plan, FrameFault> {
        let plan = self.kind_of_reply(header)?;
        if plan == Plan::Whole
            && header.total > SHORT_MESSAGE
            && let Err(full) = self.reply_hold.grow_to(held.min(header.total))
        {
            Met::Buffered.count();
            self.no_room = Some(full);
            return Err(FrameFault::TooLong(header.tag));
        }
        Ok(plan)
    }

    fn kind_of_reply(&mut self, header: Header) -> Result<Plan, FrameFault> {
        let watched = self.replies.is_watched();
        let own = self.replies.serves_itself();
        match header.tag {
            tag::DATA_ROW if !watched && !own => Ok(Plan::Stream),
            tag::COPY_DATA => Ok(Plan::Stream),
            other if header.total > MAX_READ_MESSAGE => Err(FrameFault::TooLong(other)),
            _ => Ok(Plan::Whole),
        }
    }

    /// Handles one piece of what the server sends.
    pub(super) async fn reply(&mut self, piece: Piece<'_>) -> Result<(), End> {
        match piece {
            Piece::Frame(frame) => self.answered(frame).await,
            Piece::Part { tag, bytes, first, last: _ } => {
                if first {
                    self.count_data(tag)?;
                }
                self.to_client.extend_from_slice(bytes);
                Ok(())
            }
            // No plan for replies skips.
            Piece::Skipped(_) => Err(self.out_of_order()),
        }
    }

    /// The end for a server that answers what it was not asked.
    pub(super) fn out_of_order(&self) -> End {
        tracing::error!("the upstream answered out of order: the session is closed");
        self.upstream_lost().into()
    }

    /// What the client is told when the upstream is gone.
    pub(super) fn upstream_lost(&self) -> Answer {
        if self.replies.is_empty() && self.status == TransactionStatus::Idle {
            Answer::new(SqlState::CONNECTION_FAILURE, "the connection to the database was lost")
                .with_hint("Connect again.")
        } else {
            Answer::new(
                SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
                "the connection to the database was lost; the outcome is not known",
            )
            .with_hint("Connect again and check whether the changes are there.")
        }
    }

    fn forward(&mut self, frame: Frame<'_>) {
        self.to_client.extend_from_slice(frame.bytes);
    }

    /// A row or COPY data begins: it must belong to a statement that runs.
    fn count_data(&mut self, tag: u8) -> Result<(), End> {
        match self.replies.running() {
            Some(running) => {
                if tag == tag::DATA_ROW {
                    running.rows = running.rows.saturating_add(1);
                }
                Ok(())
            }
            None => Err(self.out_of_order()),
        }
    }

    async fn answered(&mut self, frame: Frame<'_>) -> Result<(), End> {
        if self.replies.serves_itself() {
            return self.own_answered(frame).await;
        }
        if let Some(heard) = self.replies.staged(frame.tag, frame.body()) {
            return self.staged(heard).await;
        }
        match frame.tag {
            tag::DATA_ROW => {
                self.count_data(frame.tag)?;
                self.guard_egress(frame).await?;
                self.forward(frame);
                Ok(())
            }
            tag::COPY_DATA | tag::COPY_DONE | tag::COPY_OUT_RESPONSE => {
                self.count_data(frame.tag)?;
                self.forward(frame);
                Ok(())
            }
            tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED => {
                self.completed(frame).await
            }
            tag::READY_FOR_QUERY => self.ready(frame).await,
            tag::ERROR_RESPONSE => self.error(frame).await,
            tag::NOTICE_RESPONSE => self.notice(frame),
            tag::PARAMETER_STATUS => {
                match backend::read_parameter_status(frame.body()) {
                    Ok((name, value)) if parameters::status_is_as_pinned(name, value) => {}
                    Ok((name, _)) => {
                        // SECURITY: from here on the server would read text otherwise than the
                        // decision did.
                        tracing::error!(name, "a pinned setting was changed: session closed");
                        return Err(self.upstream_lost().into());
                    }
                    Err(_fault) => return Err(self.out_of_order()),
                }
                self.forward(frame);
                Ok(())
            }
            tag::NOTIFICATION_RESPONSE => self.notified(frame),
            tag::ROW_DESCRIPTION => self.described(frame),
            tag::COPY_IN_RESPONSE => self.copy_begins(),
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::NO_DATA
            | tag::PARAMETER_DESCRIPTION => self.acknowledged(frame),
            // CopyBothResponse, FunctionCallResponse, authentication, keys: nothing
            // that was sent asks for them.
            _unknown => Err(self.out_of_order()),
        }
    }

    /// An answer to one of the statements of which a COPY by way of a temporary table consists.
    async fn staged(&mut self, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Nothing => Ok(()),
            Heard::Begins => self.copy_begins(),
            Heard::Over(rows) => {
                let mut bytes = BytesMut::new();
                backend::command_complete(&mut bytes, &format!("COPY {rows}"));
                let frame = Frame { tag: tag::COMMAND_COMPLETE, bytes: &bytes };
                self.completed(frame).await
            }
            Heard::OutOfOrder => Err(self.out_of_order()),
        }
    }

    /// An answer without content, or ParameterDescription.
    fn acknowledged(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let heard_by = match (frame.tag, self.replies.front().map(|owed| &mut owed.reply)) {
            (tag::PARSE_COMPLETE, Some(Reply::Parse { undo, name, .. })) => {
                if let Some(lease) = self.lease.as_mut() {
                    lease.statements.confirm(name);
                }
                if undo.is_some() { AskedBy::Client } else { AskedBy::Hedgerow }
            }
            (tag::CLOSE_COMPLETE, Some(Reply::Close { undo })) => {
                if undo.is_some() {
                    AskedBy::Client
                } else {
                    AskedBy::Hedgerow
                }
            }
            (tag::BIND_COMPLETE, Some(Reply::Bind(_))) => AskedBy::Client,
            (tag::NO_DATA, Some(Reply::Describe(description)))
                if matches!(description.awaits, Described::Rows) =>
            {
                description.shape.described(Vec::new());
                description.asked_by
            }
            (tag::PARAMETER_DESCRIPTION, Some(Reply::Describe(description)))
                if matches!(description.awaits, Described::Statement) =>
            {
                description.awaits = Described::Rows;
                self.forward(frame);
                return Ok(());
            }
            _ => return Err(self.out_of_order()),
        };
        if let Some(
            Reply::Parse { undo: Some(undo), .. }
            | Reply::Close { undo: Some(undo) }
            | Reply::Bind(Bound { undo, .. }),
        ) = self.replies.pop().map(|owed| owed.reply)
        {
            self.names.settle(&undo);
        }
        if heard_by == AskedBy::Client {
            self.forward(frame);
        }
        self.settle();
        Ok(())
    }

    /// An answer to a query of Hedgerow's own, of which the client hears nothing.
    async fn own_answered(&mut self, frame: Frame<'_>) -> Result<(), End> {
        match frame.tag {
            tag::COMMAND_COMPLETE => {
                let Some(Reply::Own(own)) = self.replies.front().map(|owed| &mut owed.reply) else {
                    return Err(self.out_of_order());
                };
                if let Own::Begin(running) = own
                    && let Some(running) = running.take()
                {
                    self.recorder
                        .close(running.record, SUCCESS, None)
                        .await
                        .map_err(|_unavailable| End::from(Answer::audit_unavailable()))?;
                }
                Ok(())
            }
            tag::ROW_DESCRIPTION | tag::DATA_ROW | tag::NOTICE_RESPONSE => Ok(()),
            tag::PARAMETER_STATUS => match backend::read_parameter_status(frame.body()) {
                // The client knows the value already that the settings end up with.
                Ok((name, value)) if parameters::status_is_as_pinned(name, value) => Ok(()),
                Ok(_) | Err(_) => Err(self.out_of_order()),
            },
            tag::READY_FOR_QUERY => {
                let owed = self.replies.pop().map(|owed| owed.reply);
                match (owed, TransactionStatus::decode(frame.body())) {
                    (Some(Reply::Own(Own::Settings)), Ok(TransactionStatus::Idle)) => {
                        self.settle();
                        self.come_to_rest();
                        Ok(())
                    }
                    (Some(Reply::Own(Own::Begin(_))), Ok(TransactionStatus::InTransaction)) => {
                        self.settle();
                        Ok(())
                    }
                    _ => Err(self.out_of_order()),
                }
            }
            tag::ERROR_RESPONSE => {
                if let Ok(fields) = ErrorFields::decode(frame.body()) {
                    let state = fields.text(field::CODE);
                    tracing::error!(state, "the upstream refused what a session was set up with");
                }
                // SECURITY: the client's statement was sent behind it and must not be taken for one
                // that ran as it was asked to.
                Err(self.upstream_lost().into())
            }
            _unknown => Err(self.out_of_order()),
        }
    }

    fn described(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let Ok(columns) = backend::row_columns(frame.body()) else {
            return Err(self.out_of_order());
        };
        let tenants = self.judge.tenant_columns(&columns);
        let mut forwards = true;
        match self.replies.front().map(|owed| &mut owed.reply) {
            Some(Reply::Describe(description)) if matches!(description.awaits, Described::Rows) => {
                description.shape.described(tenants);
                forwards = description.asked_by == AskedBy::Client;
                self.replies.pop();
                self.settle();
            }
            Some(Reply::Query(batch)) => {
                let Batch::Running(statements) = batch.as_mut() else {
                    return Err(self.out_of_order());
                };
                let Some(running) = statements.front_mut() else {
                    return Err(self.out_of_order());
                };
                let formats = columns.iter().map(|column| column.format).collect();
                running.watch.described(tenants, formats);
            }
            Some(_) | None => return Err(self.out_of_order()),
        }
        if forwards {
            self.forward(frame);
        }
        Ok(())
    }

    async fn guard_egress(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let Some(running) = self.replies.running() else { return Ok(()) };
        if running.facts.protected && !running.watch.is_described() {
            // SECURITY: nobody knows where these values come from.
            return Err(self.out_of_order());
        }
        if !running.watch.is_active() {
            return Ok(());
        }
        let Err(fault) = running.watch.check(frame.body()) else { return Ok(()) };
        let facts = Arc::clone(&running.facts);
        tracing::error!(%fault, fingerprint = &*facts.recorded.fingerprint, "egress guard: session closed");
        let message = "a row of another tenant was stopped on its way out";
        Err(match self.recorder.egress(&facts, message).await {
            Ok(record) => Answer::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "the result was stopped by the egress guard",
            )
            .with_hint(&format!("Report this to the operator (audit record {record}).")),
            Err(_unavailable) => Answer::audit_unavailable(),
        }
        .into())
    }

    /// A statement ended well. Its record is closed before the client hears of it.
    async fn completed(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let running = match self.replies.front().map(|owed| &mut owed.reply) {
            Some(Reply::Query(batch)) if frame.tag != tag::PORTAL_SUSPENDED => {
                let Batch::Running(statements) = batch.as_mut() else {
                    return Err(self.out_of_order());
                };
                let first = statements.pop_front();
                if statements.is_empty() {
                    **batch = Batch::Over;
                }
                match first {
                    Some(running) => Some(running),
                    // A text without any statement.
                    None if frame.tag == tag::EMPTY_QUERY_RESPONSE => None,
                    None => return Err(self.out_of_order()),
                }
            }
            Some(Reply::Execute { .. }) => match self.replies.pop().map(|owed| owed.reply) {
                Some(Reply::Execute { running, .. }) => Some(*running),
                Some(_) | None => return Err(self.out_of_order()),
            },
            Some(_) | None => return Err(self.out_of_order()),
        };
        if let Some(running) = running {
            if copy_of(&running.facts.kind).is_some() {
                self.copying = Copying::No;
            }
            let told = (frame.tag == tag::COMMAND_COMPLETE)
                .then(|| backend::command_rows(frame.body()))
                .flatten();
            if frame.tag == tag::COMMAND_COMPLETE {
                self.note_effect(&running.facts, frame.body());
            }
            let rows = told.or((running.rows > 0).then_some(running.rows));
            self.recorder
                .close(running.record, SUCCESS, rows)
                .await
                .map_err(|_unavailable| End::from(Answer::audit_unavailable()))?;
        }
        self.forward(frame);
        self.settle();
        Ok(())
    }

    /// What a statement did to the session.
    fn note_effect(&mut self, facts: &Arc<Facts>, body: &[u8]) {
        match (&facts.residue, &facts.guarded) {
            (Residue::Nothing, _) => {}
            (Residue::Setting(name), Some(guarded)) => {
                self.pending.push(Change::Set(name.clone(), guarded.clone()));
            }
            (Residue::Setting(_), None) => self.pin(Keeps::Setting),
            (Residue::Kept(what), _) => self.pin(*what),
        }
        let rolled_back = body == b"ROLLBACK\0";
        match &facts.kind {
            Kind::Prepare(name) => {
                // A full table only means that less is known of the name.
                let identity = self.current().serial;
                let _full = self.names.prepared_by_sql(name, Arc::clone(facts), identity);
            }
            Kind::Listen(name) => self.listens(name),
            Kind::SchemaChange(made) => {
                self.schema_changed = true;
                if let Some(made) = made {
                    self.relation_made(made);
                }
            }
            Kind::Temporary(change) => self.table_changed(change),
            Kind::Deallocate(Some(name)) => {
                if !self.shares_names()
                    && let Some(lease) = self.lease.as_mut()
                {
                    lease.statements.forget(name);
                }
                self.names.deallocate(name);
            }
            Kind::Deallocate(None) => self.statements_gone(),
            Kind::Discard if body == b"DISCARD ALL\0" => {
                self.statements_gone();
                self.pending.clear();
                self.pending.push(Change::ResetAll);
                if let Some(lease) = self.lease.as_mut() {
                    lease.pins.clear();
                }
                self.forget_tables();
            }
            Kind::Discard if body == b"DISCARD TEMP\0" => self.forget_tables(),
            Kind::Setting
                if facts.guarded.as_ref().is_some_and(|text| is_reset_all(text.text())) =>
            {
                self.pending.push(Change::ResetAll);
            }
            Kind::Cursor if body == b"CLOSE CURSOR ALL\0" => self.unpin(Keeps::Cursor),
            Kind::End(_) => {
                if rolled_back {
                    self.pending.clear();
                    self.restore_tables();
                } else {
                    self.keep_tables();
                }
                self.end_local_identity();
            }
            // To a savepoint: some settings were taken back, and some were not.
            Kind::Transaction if rolled_back => {
                self.doubt_settings();
                self.doubt_some_tables();
            }
            Kind::Select if facts.guarded.as_ref().is_some_and(|text| unlocks_all(text.text())) => {
                self.unpin(Keeps::Lock);
            }
            Kind::Discard
            | Kind::Select
            | Kind::Insert
            | Kind::Update
            | Kind::Delete
            | Kind::Merge
            | Kind::Truncate
            | Kind::Explain
            | Kind::Begin(_)
            | Kind::Transaction
            | Kind::Setting
            | Kind::Execute(_)
            | Kind::Cursor
            | Kind::CopyOut
            | Kind::CopyIn(_)
            | Kind::Notify
            | Kind::Empty => {}
        }
    }

    /// DEALLOCATE ALL, DISCARD ALL.
    fn statements_gone(&mut self) {
        self.names.deallocate_all();
        self.unpin(Keeps::Prepared);
        if let Some(lease) = self.lease.as_mut() {
            lease.statements.clear();
        }
    }

    async fn ready(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let Ok(status) = TransactionStatus::decode(frame.body()) else {
            return Err(self.out_of_order());
        };
        let Some(owed) = self.replies.pop() else { return Err(self.out_of_order()) };
        match owed.reply {
            Reply::Sync | Reply::RefusedQuery(Refusal::Given) => {}
            Reply::Query(batch) => match *batch {
                Batch::Over => {}
                Batch::Running(statements) if statements.is_empty() => {}
                Batch::Running(_) => return Err(self.out_of_order()),
            },
            Reply::RefusedQuery(Refusal::Owed { .. })
            | Reply::RefusedExtended(_)
            | Reply::Parse { .. }
            | Reply::Bind(_)
            | Reply::Close { .. }
            | Reply::Made { .. }
            | Reply::Describe(_)
            | Reply::Own(_)
            | Reply::Execute { .. } => return Err(self.out_of_order()),
        }
        self.status = status;
        if status == TransactionStatus::Idle {
            self.names.transaction_ended();
            if std::mem::take(&mut self.schema_changed) {
                // Whoever hears that the change is done finds it: in this session and in all others.
                self.judge.refresh_catalog().await;
            }
            self.keep_settings();
            self.keep_tables();
            self.end_local_identity();
        }
        self.forward(frame);
        self.settle();
        self.come_to_rest();
        Ok(())
    }

    async fn error(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let Ok(mut fields) = ErrorFields::decode(frame.body()) else {
            return Err(self.out_of_order());
        };
        let state = fields.text(field::CODE).to_owned();
        self.use_clients_name(&mut fields);
        self.doubt_settings();
        self.doubt_tables();
        if state == CACHED_PLAN || state == UNKNOWN_STATEMENT {
            self.doubt_statement();
        }
        let mut replaced = None;
        // PostgreSQL drops the unnamed statement before it looks at the new one.
        let unnamed_failed = matches!(self.replies.front().map(|owed| &owed.reply),
            Some(Reply::Parse { undo: Some(undo), .. }) if undo.is_of_the_unnamed_statement());
        let skips = match self.replies.front().map(|owed| &mut owed.reply) {
            Some(Reply::Query(batch)) => {
                let statements = match std::mem::replace(batch.as_mut(), Batch::Over) {
                    Batch::Running(statements) => statements,
                    Batch::Over => VecDeque::new(),
                };
                replaced = self.failed(statements, &mut fields, &state).await?;
                false
            }
            Some(Reply::RefusedQuery(refusal)) => {
                match std::mem::replace(refusal, Refusal::Given) {
                    Refusal::Owed { answer, planned } if state == planned && !fields.is_fatal() => {
                        replaced = Some(*answer);
                    }
                    Refusal::Owed { .. } | Refusal::Given => {}
                }
                false
            }
            Some(Reply::RefusedExtended(answer)) => {
                if state == SYNTAX_ERROR && !fields.is_fatal() {
                    replaced = Some(answer.as_ref().clone());
                }
                true
            }
            Some(Reply::Execute { .. }) => {
                if let Some(Reply::Execute { running, .. }) =
                    self.replies.pop().map(|owed| owed.reply)
                {
                    replaced = self.failed(VecDeque::from([*running]), &mut fields, &state).await?;
                }
                true
            }
            Some(Reply::Bind(bound)) => {
                clean(&mut fields, &bound.facts, bound.parameters.as_deref());
                true
            }
            Some(Reply::Parse { facts, .. }) => {
                clean(&mut fields, facts, None);
                true
            }
            Some(Reply::Close { .. } | Reply::Describe(_) | Reply::Made { .. }) => {
                scrub::error(&mut fields, &Known { statement: "", parameters: &[] });
                fields.remove(field::POSITION);
                true
            }
            // A Sync commits: a deferred constraint may fail there. Of whose statement is not known.
            Some(Reply::Sync) => {
                scrub::error(&mut fields, &Known { statement: "", parameters: &[] });
                fields.remove(field::POSITION);
                false
            }
            Some(Reply::Own(_)) => return Err(self.out_of_order()),
            None if fields.is_fatal() => false,
            None => return Err(self.out_of_order()),
        };
        match &replaced {
            Some(answer) => {
                answer.fields(Severity::Error).encode_error(&mut self.to_client);
            }
            None => fields.encode_error(&mut self.to_client),
        }
        if replaced.is_none() && fields.is_fatal() {
            return Err(End::ServerSaidSo);
        }
        if skips {
            self.skip_to_sync();
        }
        if unnamed_failed {
            self.names.unnamed_gone();
        }
        self.settle();
        Ok(())
    }

    /// The first of these statements failed and the others never ran. A check of ours that failed
    /// becomes a denial.
    async fn failed(
        &mut self,
        mut statements: VecDeque<Running>,
        fields: &mut ErrorFields<'_>,
        state: &str,
    ) -> Result<Option<Answer>, End> {
        let Some(running) = statements.pop_front() else {
            scrub::error(fields, &Known { statement: "", parameters: &[] });
            fields.remove(field::POSITION);
            return Ok(None);
        };
        for discarded in statements {
            discarded.record.discard();
        }
        let Running { record, facts, parameters, watch: _, rows, staging } = running;
        let record = match std::mem::take(&mut self.copying) {
            Copying::Stopped(stop) => match self.copy_stopped(stop, record, state).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(record) => record,
            },
            Copying::No | Copying::Flowing(_) | Copying::Over(_) => record,
        };
        let staged = staging.is_some();
        let unmade = staging.is_some_and(|staging| staging.is_to_be_made());
        if unmade && state == READ_ONLY {
            let message = "cannot execute COPY FROM in a read-only transaction";
            fields.set(field::MESSAGE, message.to_owned());
        }
        let denied = match scrub::runtime_denial(fields) {
            None if unmade && state == SqlState::INSUFFICIENT_PRIVILEGE.0 => {
                Some(Denial::of(DenialCode::Copy, "the role may make no temporary table"))
            }
            code => code.map(|code| facts.write_denied(code)),
        };
        if let Some(denial) = denied {
            return Ok(Some(match self.recorder.close_denied(record, &denial).await {
                Ok(id) => Answer::denial(&denial, id),
                Err(_unavailable) => Answer::audit_unavailable(),
            }));
        }
        if state == QUERY_CANCELED && fields.text(field::MESSAGE).contains("statement timeout") {
            Met::StatementTimeout.count();
        }
        clean(fields, &facts, parameters.as_deref());
        if staged {
            use_clients_table(fields, facts.written().as_deref());
        }
        let rows = (rows > 0).then_some(rows);
        self.recorder
            .close(record, state, rows)
            .await
            .map_err(|_unavailable| End::from(Answer::audit_unavailable()))?;
        Ok(None)
    }

    /// SECURITY: a client knows its statements by its own names, and is not told the shared ones, which
    /// it could name in SQL.
    fn use_clients_name(&self, fields: &mut ErrorFields<'_>) {
        let message = fields.text(field::MESSAGE);
        let shared = message.split('"').find(|word| word.starts_with(SHARED_NAMES));
        if let Some(shared) = shared {
            let own = self.replies.statement_spoken_of().unwrap_or_default();
            let message = message.replace(shared, own);
            fields.set(field::MESSAGE, message);
        }
    }

    /// The server would not run a statement as it has it.
    fn doubt_statement(&mut self) {
        let name = match self.replies.front().map(|owed| &owed.reply) {
            Some(Reply::Bind(bound)) => Some(Arc::clone(&bound.statement)),
            Some(Reply::Execute { statement, .. }) => statement.clone(),
            Some(_) | None => None,
        };
        if let (Some(name), Some(lease)) = (name, self.lease.as_mut()) {
            lease.statements.doubt(&name);
        }
    }

    /// The server skips to the next Sync: what it skips is owed nothing, and did nothing.
    fn skip_to_sync(&mut self) {
        let (skipped, after) = self.replies.skip_to_sync();
        for reply in skipped {
            match reply {
                Reply::Parse { undo, name, .. } => {
                    if let Some(lease) = self.lease.as_mut() {
                        lease.statements.forget(&name);
                    }
                    if let Some(undo) = undo {
                        self.names.undo(&undo);
                    }
                }
                Reply::Bind(Bound { undo, .. })
                | Reply::Close { undo: Some(undo) }
                | Reply::Made { undo: Some(undo), .. } => self.names.undo(&undo),
                Reply::Execute { running, .. } => running.record.discard(),
                Reply::Query(batch) => match *batch {
                    Batch::Running(statements) => {
                        for running in statements {
                            running.record.discard();
                        }
                    }
                    Batch::Over => {}
                },
                Reply::Close { undo: None }
                | Reply::Made { undo: None, .. }
                | Reply::Own(_)
                | Reply::Describe(_)
                | Reply::RefusedExtended(_)
                | Reply::RefusedQuery(_)
                | Reply::Sync => {}
            }
        }
        match after {
            AfterError::SyncSent => {}
            AfterError::SyncOwed => self.pipeline = Pipeline::Skipping,
        }
    }

    fn notice(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let protected = match self.replies.running() {
            Some(running) => running.facts.may_touch_protected(),
            // Whose notice it is cannot be said: a deferred trigger may speak at commit.
            None => !self.replies.is_empty(),
        };
        if !protected {
            self.forward(frame);
            return Ok(());
        }
        let Ok(mut fields) = ErrorFields::decode(frame.body()) else {
            return Err(self.out_of_order());
        };
        scrub::notice(&mut fields);
        fields.encode_notice(&mut self.to_client);
        Ok(())
    }
}

/// Whether a statement gives up every advisory lock of the session, and does nothing else.
fn unlocks_all(text: &str) -> bool {
    let call = text.trim().strip_prefix("SELECT ").unwrap_or_default();
    let call = call.strip_prefix("pg_catalog.").unwrap_or(call);
    call.strip_prefix(UNLOCK_ALL) == Some("()")
}

/// Takes out of an error what the client must not see.
fn clean(fields: &mut ErrorFields<'_>, facts: &Facts, parameters: Option<&[u8]>) {
    if facts.may_touch_protected() {
        let parameters = parameters.unwrap_or_default();
        scrub::error(fields, &Known { statement: &facts.client_text, parameters });
    }
    if !facts.sent_as_written() {
        fields.remove(field::POSITION);
    }
}
