//! One signed-in client and its backend: the loop that moves bytes and keeps time. Layer 5.
//!
//! All complete frames of both sides are handled before anything waits, and each side is written to
//! when the other has no complete frame left: so writes are few and nothing is held back. Buffers are
//! bounded: a side that does not read stops the other from being read.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, End};
use super::cancel::Flight;
use super::copy_in::Copying;
use super::engage::{Block, Change, Upstream};
use super::judge::Judge;
use super::limits::{AtWork, Full, Hold, InForce, Met, Stall, no_room};
use super::names::Names;
use super::notify::LongNames;
use super::outbox::Outbox;
use super::pool::{Backend, Lease, Overlay, Wire};
use super::recorder::Recorder;
use super::replies::{Made, Replies};
use super::sign_in::{farewell, linger, refuse};
use super::socket::Patient;
use super::who::{Door, Who};
use crate::error::{Denial, DenialCode, SqlState};
use crate::limiter::Place;
use crate::sql::temporary::Temporary;
use crate::wire::backend::{TransactionStatus, bare, tag};
use crate::wire::error_fields::{ErrorFields, Severity};
use crate::wire::{Frame, FrameBuffer, FrameFault, Piece};

/// Bytes that may wait for a side to read them before the other side is no longer read.
const HIGH_WATER: usize = 64 << 10;
/// Messages in flight before the client is no longer read. Each may hold a place in the audit queue.
const MAX_IN_FLIGHT: usize = 256;
/// Bytes read from a client at a time.
const CLIENT_READ: usize = 8 << 10;
/// Bytes read from the upstream at a time.
const SERVER_READ: usize = 32 << 10;
/// Bytes that an idle session may keep for what it writes next, on each side.
const KEPT: usize = 512;
/// How long before expiry a session is told.
const EXPIRY_NOTICE: i64 = 60;
/// How long the upstream may go on once the client has left, so that records get their outcome.
const PARTING: Duration = Duration::from_secs(5);
/// When nothing is to come.
const FAR_AWAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the client stands in the extended protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pipeline {
    /// Nothing was sent since the last Sync or Query.
    Synced,
    /// Messages were sent that a Sync must close.
    Open,
    /// After an error: everything up to the next Sync is skipped.
    Skipping,
}

/// Whether requests are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    Open,
    /// What runs may change what they mean.
    AfterReplies,
}

/// How long a session may go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) leeway: Duration,
}

/// Whether the token still allows new statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Valid,
    /// What runs may finish; nothing new is read.
    Expired,
    /// Everything ends at once.
    Revoked,
}

/// Whether the client was told that its token runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    Due,
    Given,
}

/// The state of a session, without its client's socket.
pub(super) struct Link {
    pub(super) to_client: BytesMut,
    /// Bytes at its end that were said here since the last Sync or Flush.
    pub(super) unflushed: usize,
    pub(super) outbox: Outbox,
    pub(super) replies: Replies,
    pub(super) names: Names,
    pub(super) pipeline: Pipeline,
    pub(super) copying: Copying,
    pub(super) long_names: LongNames,
    /// The transaction status that the client knows.
    pub(super) status: TransactionStatus,
    pub(super) judge: Judge,
    pub(super) recorder: Recorder,
    pub(super) flight: Arc<Flight>,
    /// The schema was changed, and the transaction is still open.
    pub(super) schema_changed: bool,
    pub(super) door: Door,
    /// Who signed in.
    pub(super) signed_in: Arc<Who>,
    /// Who the session speaks for.
    pub(super) who: Arc<Who>,
    /// Who it speaks for in the present transaction, if that is somebody else.
    pub(super) local: Option<Arc<Who>>,
    /// The backend: connection and what is known of it, both or neither.
    pub(super) wire: Option<Wire>,
    pub(super) lease: Option<Lease>,
    pub(super) upstream: Upstream,
    pub(super) block: Block,
    /// The temporary tables as they were before the present transaction changed them.
    pub(super) tables_before: Option<Temporary>,
    /// Who made the temporary tables.
    pub(super) tables_owner: Option<Arc<Who>>,
    /// Settings that the client made, and those of the present transaction.
    pub(super) overlay: Overlay,
    pub(super) pending: Vec<Change>,
    pub(super) intake: Intake,
    /// A request that waits until everything before it is answered.
    pub(super) held: Option<BytesMut>,
    /// Counts Syncs and Queries.
    pub(super) segment: u64,
    /// The session's place among its tenant's at work.
    pub(super) place: Option<Place>,
    pub(super) in_force: InForce,
    pub(super) limits_seen: u64,
    pub(super) at_work: Option<AtWork>,
    /// Long messages that are not whole yet: of the client, of the server.
    pub(super) request_hold: Hold,
    pub(super) reply_hold: Hold,
    /// There was no room for the message that is under way.
    pub(super) no_room: Option<Full>,
    client_stall: Stall,
    server_stall: Stall,
    revocations_seen: Option<u64>,
    rules: Rules,
    expires_at: i64,
    ends: Option<Instant>,
    notice: Notice,
    standing: Standing,
    quiet_since: Instant,
    /// Seconds since 1970, as of this round.
    unix_now: i64,
}

/// What a session begins with.
pub(super) struct Beginning {
    pub(super) judge: Judge,
    pub(super) recorder: Recorder,
    pub(super) rules: Rules,
    pub(super) in_force: InForce,
    pub(super) door: Door,
    pub(super) who: Arc<Who>,
    pub(super) flight: Arc<Flight>,
    pub(super) backend: Option<Backend>,
    /// What the client is sent first.
    pub(super) welcome: BytesMut,
}

impl Link {
    /// The state at the beginning.
    pub(super) fn new(beginning: Beginning) -> Self {
        let Beginning { judge, recorder, rules, in_force, door, who, flight, backend, welcome } =
            beginning;
        let (wire, lease) =
            backend.map_or((None, None), |Backend { wire, lease }| (Some(wire), Some(lease)));
        if let Some(lease) = &lease {
            flight.attach(lease.cancel.clone());
        }
        Self {
            to_client: welcome,
            unflushed: 0,
            outbox: Outbox::default(),
            replies: Replies::default(),
            names: Names::default(),
            pipeline: Pipeline::Synced,
            copying: Copying::No,
            long_names: LongNames::default(),
            status: TransactionStatus::Idle,
            judge,
            recorder,
            flight,
            schema_changed: false,
            door,
            signed_in: Arc::clone(&who),
            expires_at: who.expires_at,
            ends: who.ends,
            who,
            local: None,
            wire,
            lease,
            upstream: Upstream::AtRest,
            block: Block::None,
            tables_before: None,
            tables_owner: None,
            overlay: Overlay::new(),
            pending: Vec::new(),
            intake: Intake::Open,
            held: None,
            segment: 0,
            place: None,
            limits_seen: 0,
            at_work: None,
            request_hold: in_force.hold(),
            reply_hold: in_force.hold(),
            in_force,
            no_room: None,
            client_stall: Stall::None,
            server_stall: Stall::None,
            revocations_seen: None,
            rules,
            notice: Notice::Due,
            standing: Standing::Valid,
            quiet_since: Instant::now(),
            unix_now: unix_now(),
        }
    }

    /// Called when a reply was given: gives what is Hedgerow's to give behind it, and notes when
    /// nothing is in flight any more.
    pub(super) fn settle(&mut self) {
        while let Some((made, undo)) = self.replies.pop_made() {
            if let Some(undo) = &undo {
                self.names.settle(undo);
            }
            match made {
                Made::Silence => {}
                Made::ParseComplete => self.say_here(|out| bare(out, tag::PARSE_COMPLETE)),
                Made::CloseComplete => self.say_here(|out| bare(out, tag::CLOSE_COMPLETE)),
            }
        }
        if self.replies.is_empty() {
            self.intake = Intake::Open;
            self.quiet_since = Instant::now();
            self.place = None;
        }
        self.note_flight();
    }

    /// The identity changed: so did the time when it ends.
    pub(super) fn mind_expiry(&mut self) {
        let local = self.local.as_ref().map_or(i64::MAX, |who| who.expires_at);
        let expires_at = self.who.expires_at.min(local);
        self.ends =
            [Some(&self.who), self.local.as_ref()].into_iter().filter_map(|who| who?.ends).min();
        if expires_at != self.expires_at {
            self.expires_at = expires_at;
            self.notice = Notice::Due;
        }
    }

    /// Whether the token still allows a statement, after a wait.
    pub(super) fn still_stands(&mut self) -> Result<(), Answer> {
        self.check_token();
        match self.standing {
            Standing::Valid => Ok(()),
            Standing::Expired => Err(expired()),
            Standing::Revoked => {
                Err(Answer::new(SqlState::INVALID_AUTHORIZATION, "the token was revoked"))
            }
        }
    }

    /// The end of a session whose token was taken back.
    async fn revoked(&self) -> End {
        let denial = Denial::new(DenialCode::TokenRevoked);
        refuse(&self.recorder, &denial, SqlState::ADMIN_SHUTDOWN).await.into()
    }

    fn last_second(&self) -> i64 {
        let leeway = i64::try_from(self.rules.leeway.as_secs()).unwrap_or(i64::MAX);
        self.expires_at.saturating_add(leeway)
    }

    /// Looks at the clock and at what was revoked, once a round.
    fn check_token(&mut self) {
        if let Some(authenticator) = &self.door.authenticator {
            let version = authenticator.revocation_version();
            if self.revocations_seen != Some(version) {
                self.revocations_seen = Some(version);
                let callers = [Some(&self.signed_in), Some(&self.who), self.local.as_ref()];
                let mut identities =
                    callers.into_iter().flatten().filter_map(|who| who.bearer.identity.as_ref());
                if identities.any(|identity| authenticator.revokes(identity)) {
                    self.standing = Standing::Revoked;
                }
            }
        }
        self.unix_now = unix_now();
        if self.standing == Standing::Revoked {
            return;
        }
        // A clock that was set back does not lengthen a token's life.
        let over = self.ends.is_some_and(|ends| Instant::now() > ends + self.rules.leeway);
        self.standing = if over || self.unix_now > self.last_second() {
            Standing::Expired
        } else {
            Standing::Valid
        };
    }

    fn takes_requests(&self) -> bool {
        let space = self.outbox.len() < HIGH_WATER && self.to_client.len() < HIGH_WATER;
        match &self.copying {
            // Rows belong to a statement that runs already.
            Copying::Flowing(_) => space,
            Copying::Stopped(_) => false,
            Copying::No => self.takes_statements(space, None),
            Copying::Over(request) => self.takes_statements(space, Some(*request)),
        }
    }

    fn takes_statements(&self, space: bool, copied: Option<u64>) -> bool {
        space
            && self.standing == Standing::Valid
            && self.intake == Intake::Open
            && self.held.is_none()
            && self.replies.len() < MAX_IN_FLIGHT
            && !self.replies.awaits_copy(copied)
    }

    fn takes_replies(&self) -> bool {
        self.to_client.len() < HIGH_WATER
    }

    fn in_transaction(&self) -> bool {
        self.status != TransactionStatus::Idle || self.pipeline == Pipeline::Open
    }

    /// Whether the session must end now because of the time.
    fn overdue(&mut self, now: Instant, drain: Drain) -> Result<(), End> {
        let slow = self.door.limits.slow_client_timeout;
        if self.client_stall.ends(slow).is_some_and(|end| now >= end) {
            Met::SlowClient.count();
            tracing::warn!("a client took nothing for too long: the session is closed");
            return Err(End::ClientLeft);
        }
        if !self.replies.is_empty() {
            return match drain {
                Drain::Until(deadline) if now >= deadline => Err(shutting_down().into()),
                Drain::No | Drain::Until(_) => Ok(()),
            };
        }
        match drain {
            Drain::Until(deadline) if now >= deadline || !self.in_transaction() => {
                return Err(shutting_down().into());
            }
            Drain::No | Drain::Until(_) => {}
        }
        if self.standing == Standing::Expired {
            return Err(expired().into());
        }
        let idle = self.door.limits.idle_in_transaction_timeout;
        if !idle.is_zero() && self.in_transaction() && now >= self.quiet_since + idle {
            Met::IdleInTransaction.count();
            return Err(Answer::plain(
                SqlState::IDLE_IN_TRANSACTION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            )
            .into());
        }
        if self.notice == Notice::Due
            && self.unix_now >= self.expires_at.saturating_sub(EXPIRY_NOTICE)
        {
            self.notice = Notice::Given;
            self.unflushed = 0;
            let message = "hedgerow: the token expires within a minute";
            ErrorFields::new(Severity::Warning, SqlState("01000"), message)
                .encode_notice(&mut self.to_client);
        }
        Ok(())
    }

    /// When [`Link::overdue`] must be asked again at the latest.
    fn deadline(&self, now: Instant, drain: Drain) -> Instant {
        let mut deadline = now + FAR_AWAY;
        if let Drain::Until(end) = drain {
            deadline = deadline.min(end);
        }
        if self.replies.is_empty() {
            let second = match self.notice {
                Notice::Due => self.expires_at.saturating_sub(EXPIRY_NOTICE),
                Notice::Given => self.last_second().saturating_add(1),
            };
            let left = u64::try_from(second.saturating_sub(self.unix_now)).unwrap_or(0);
            deadline = deadline.min(now + Duration::from_secs(left.min(FAR_AWAY.as_secs())));
            let ends = self.ends.map(|ends| ends + self.rules.leeway + Duration::from_secs(1));
            deadline = ends.map_or(deadline, |ends| deadline.min(ends));
            let idle = self.door.limits.idle_in_transaction_timeout;
            if self.in_transaction() && !idle.is_zero() {
                deadline = deadline.min(self.quiet_since + idle);
            }
        }
        let slow = self.door.limits.slow_client_timeout;
        let looks = [
            self.overrun_at(),
            self.client_stall.next_look(slow),
            self.server_stall.next_look(Duration::ZERO),
        ];
        looks.into_iter().flatten().fold(deadline, Instant::min)
    }
}

/// Whether the process is going down, and how long this session may go on.
#[derive(Clone, Copy, Debug)]
enum Drain {
    No,
    Until(Instant),
}

/// What ended a wait.
enum Woken {
    Progress,
    ClientGone,
    ServerGone,
}

/// A signed-in client, with a backend when it needs one.
pub(super) struct Session<C> {
    client: C,
    from_client: FrameBuffer,
    link: Link,
}

impl<C: AsyncRead + AsyncWrite + Patient + Unpin> Session<C> {
    pub(super) fn new((client, from_client): (C, FrameBuffer), link: Link) -> Self {
        Self { client, from_client, link }
    }

    /// Relays until one side ends, then says goodbye to the other. What is held while the session waits
    /// is small: an idle client is little more than its socket.
    pub(super) async fn run(
        &mut self,
        shutdown: &CancellationToken,
        wake: &Notify,
        drain_timeout: Duration,
    ) -> End {
        let end = match self.relay(shutdown, wake, drain_timeout).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        Box::pin(self.say_goodbye(&end)).await;
        if !matches!(end, End::ClientLeft) {
            // In doubt, nobody else gets the backend.
            self.link.upstream = Upstream::Engaged;
        }
        self.link.leave_backend();
        end
    }

    async fn say_goodbye(&mut self, end: &End) {
        match end {
            End::ClientLeft => self.part().await,
            End::Farewell(answer) | End::Dismissed(answer) => {
                if matches!(end, End::Dismissed(_)) {
                    self.part().await;
                }
                self.flush_client().await;
                // In the middle of a row the client would take the farewell for a part of it.
                if !self.link.wire.as_ref().is_some_and(|wire| wire.incoming.is_streaming()) {
                    farewell(&mut self.client, answer).await;
                }
                // SECURITY: in doubt, the backend is not left to go on by itself.
                self.link.flight.cancel().await;
            }
            End::ServerSaidSo => {
                self.flush_client().await;
                let _gone = timeout(PARTING, self.client.shutdown()).await;
                linger(&mut self.client).await;
            }
        }
    }

    async fn relay(
        &mut self,
        shutdown: &CancellationToken,
        wake: &Notify,
        drain_timeout: Duration,
    ) -> Result<std::convert::Infallible, End> {
        let mut drain = Drain::No;
        let mut alarm = pin!(sleep_until(Instant::now() + FAR_AWAY));
        let mut stopped = pin!(shutdown.cancelled());
        let mut woken_up = pin!(wake.notified());
        loop {
            self.link.check_token();
            self.link.mind_limits();
            if self.link.standing == Standing::Revoked {
                return Err(Box::pin(self.link.revoked()).await);
            }
            // On the heap as long as it takes: deciding and dialling have much to remember.
            Box::pin(self.handle_frames()).await?;
            let now = Instant::now();
            if matches!(drain, Drain::No) && shutdown.is_cancelled() {
                drain = Drain::Until(now + drain_timeout);
            }
            self.link.overdue(now, drain)?;
            self.link.mind_overrun(now);
            self.endure_stalls(now);
            self.link.release();
            let deadline = self.link.deadline(now, drain);
            // An alarm that rings too early only makes one more round.
            if alarm.is_elapsed() || deadline < alarm.deadline() {
                alarm.as_mut().reset(deadline);
            }
            let woken = poll_fn(|cx| {
                if let Poll::Ready(woken) = self.poll_io(cx) {
                    return Poll::Ready(woken);
                }
                if matches!(drain, Drain::No) && stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Woken::Progress);
                }
                if woken_up.as_mut().poll(cx).is_ready() {
                    woken_up.set(wake.notified());
                    return Poll::Ready(Woken::Progress);
                }
                alarm.as_mut().poll(cx).map(|()| Woken::Progress)
            })
            .await;
            match woken {
                Woken::Progress => {}
                Woken::ClientGone => return Err(End::ClientLeft),
                Woken::ServerGone => return Err(self.link.upstream_lost().into()),
            }
        }
    }

    /// Lets the kernel wait for a side that does not read: whoever is waited for is not gone. The
    /// client has its limit; the upstream may be stopped by a lock for as long as it takes.
    fn endure_stalls(&mut self, now: Instant) {
        let slow = self.link.door.limits.slow_client_timeout;
        self.link.client_stall.endure(&self.client, slow, now);
        if let Some(wire) = &self.link.wire {
            self.link.server_stall.endure(&wire.socket, Duration::ZERO, now);
        }
    }

    /// Handles what is there of both sides, until there is no whole frame left or a bound is reached.
    async fn handle_frames(&mut self) -> Result<(), End> {
        let Self { from_client, link, .. } = self;
        let max_statement = link.judge.viewpoint.limits().max_statement;
        loop {
            let mut progress = false;
            if link.replies.is_empty()
                && let Some(bytes) = link.held.take()
            {
                let tag = bytes.first().copied().unwrap_or_default();
                link.request(Piece::Frame(Frame { tag, bytes: &bytes })).await?;
                progress = true;
            }
            while link.takes_requests() {
                let held = from_client.len();
                let plan = |header| link.plan_request(header, max_statement, held);
                match from_client.next(plan) {
                    Ok(Some(piece)) => link.request(piece).await?,
                    Ok(None) => break,
                    Err(fault) => return Err(link.bad_request(fault).await),
                }
                link.request_hold.release();
                progress = true;
            }
            if let Some(mut wire) = link.wire.take() {
                let heard = link.hear(&mut wire.incoming).await;
                link.wire = Some(wire);
                progress |= heard?;
            }
            if !progress {
                return Ok(());
            }
        }
    }

    /// Writes and reads what can be written and read without waiting.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        // Writing lets the session go on only where bytes that waited had stopped it.
        let stopped = !self.link.takes_replies() || !self.link.takes_requests();
        let mut progress = false;
        if let Some(wire) = &mut self.link.wire {
            match write(&mut wire.socket, self.link.outbox.bytes(), cx) {
                Ok(wrote) => {
                    progress |= wrote && stopped;
                    let waits = !self.link.outbox.is_empty();
                    self.link.server_stall.note(&wire.socket, wrote, waits);
                }
                // What it said before it went is still to be read.
                Err(_gone) => self.link.outbox.bytes().clear(),
            }
        }
        let withheld = self.link.withheld();
        let kept = (withheld > 0).then(|| {
            let bytes = &mut self.link.to_client;
            bytes.split_off(bytes.len().saturating_sub(withheld))
        });
        let written = write(&mut self.client, &mut self.link.to_client, cx);
        match written {
            Ok(wrote) => {
                progress |= wrote && stopped;
                let waits = !self.link.to_client.is_empty();
                self.link.client_stall.note(&self.client, wrote, waits);
                if let Some(kept) = kept {
                    self.link.to_client.extend_from_slice(&kept);
                }
            }
            Err(_gone) => return Poll::Ready(Woken::ClientGone),
        }
        if self.link.takes_replies()
            && let Some(wire) = &mut self.link.wire
        {
            match read::<_, SERVER_READ>(&mut wire.socket, &mut wire.incoming, cx) {
                Poll::Ready(Ok(1..)) => progress = true,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Woken::ServerGone),
                Poll::Pending => {}
            }
        }
        if self.link.takes_requests() {
            match read::<_, CLIENT_READ>(&mut self.client, &mut self.from_client, cx) {
                Poll::Ready(Ok(1..)) => progress = true,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Woken::ClientGone),
                Poll::Pending => {}
            }
        }
        if progress { Poll::Ready(Woken::Progress) } else { Poll::Pending }
    }

    async fn flush_client(&mut self) {
        let _unheard = timeout(PARTING, self.client.write_all_buf(&mut self.link.to_client)).await;
    }

    /// The client said goodbye, was told to go, or is gone. What it sent before is carried out, as PostgreSQL does, so
    /// that the records get their outcome, and answered as long as somebody reads; what takes too long
    /// is cancelled.
    async fn part(&mut self) {
        self.link.abandon_copy();
        let Some(mut wire) = self.link.wire.take() else {
            self.flush_client().await;
            return;
        };
        let Self { client, link, .. } = self;
        let mut reads = true;
        let rest = async {
            wire.socket.write_all_buf(link.outbox.bytes()).await?;
            wire.socket.flush().await?;
            loop {
                if reads {
                    reads = tell(client, &mut link.to_client).await.is_ok();
                }
                link.to_client.clear();
                if link.replies.is_empty() {
                    break;
                }
                match link.hear(&mut wire.incoming).await {
                    Ok(true) => {}
                    Ok(false) => {
                        let space = wire.incoming.space();
                        space.reserve(SERVER_READ);
                        if wire.socket.read_buf(space).await? == 0 {
                            break;
                        }
                    }
                    Err(_end) => break,
                }
            }
            io::Result::Ok(())
        };
        let in_time = timeout(PARTING, rest).await.is_ok();
        self.link.wire = Some(wire);
        if !in_time {
            self.link.flight.cancel().await;
        }
    }
}

impl Link {
    /// Handles what the server said; whether it was anything.
    async fn hear(&mut self, incoming: &mut FrameBuffer) -> Result<bool, End> {
        let mut progress = false;
        while self.takes_replies() {
            let held = incoming.len();
            match incoming.next(|header| self.reply_plan(header, held)) {
                Ok(Some(piece)) => {
                    self.reply(piece).await?;
                    self.reply_hold.release();
                }
                Ok(None) => break,
                Err(fault) => return Err(self.bad_reply(fault)),
            }
            progress = true;
        }
        Ok(progress)
    }

    fn bad_reply(&self, fault: FrameFault) -> End {
        if self.no_room.is_some() {
            tracing::warn!("there is no room for an answer of the upstream: the session is closed");
            return no_room().into();
        }
        tracing::error!(%fault, "the upstream's answer cannot be read: the session is closed");
        self.upstream_lost().into()
    }
}

/// Writes what the socket takes; whether it took anything.
fn write<W: AsyncWrite + Unpin>(
    socket: &mut W,
    bytes: &mut BytesMut,
    cx: &mut Context<'_>,
) -> io::Result<bool> {
    let mut wrote = false;
    while bytes.has_remaining() {
        match Pin::new(&mut *socket).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => {
                bytes.advance(count);
                wrote = true;
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(wrote),
        }
    }
    // TLS holds bytes of its own until it is flushed.
    match Pin::new(socket).poll_flush(cx) {
        Poll::Ready(Err(error)) => return Err(error),
        Poll::Ready(Ok(())) | Poll::Pending => {}
    }
    if wrote {
        // An idle session holds next to no memory: a burst's is given back. (The capacity counts what
        // was written only once that is reclaimed.)
        let _reclaimed = bytes.try_reclaim(bytes.capacity().saturating_add(1));
        if bytes.capacity() > KEPT {
            *bytes = BytesMut::new();
        }
    }
    Ok(wrote)
}

/// Reads what is there, by way of the stack: so that a wait costs no allocation, and a session that
/// waits holds no memory. What was read is copied once, at the length that it has.
fn read<R: AsyncRead + Unpin, const BYTES: usize>(
    socket: &mut R,
    buffer: &mut FrameBuffer,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut stack = [const { MaybeUninit::uninit() }; BYTES];
    let mut space = ReadBuf::uninit(&mut stack);
    match Pin::new(socket).poll_read(cx, &mut space) {
        Poll::Ready(Ok(())) => {
            buffer.space().extend_from_slice(space.filled());
            Poll::Ready(Ok(space.filled().len()))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => {
            buffer.release();
            Poll::Pending
        }
    }
}

/// Writes all of it.
async fn tell<W: AsyncWrite + Unpin>(client: &mut W, bytes: &mut BytesMut) -> io::Result<()> {
    client.write_all_buf(bytes).await?;
    client.flush().await
}

fn unix_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        // A clock before 1970 is wrong: nothing is valid.
        .unwrap_or(i64::MAX)
}

fn expired() -> Answer {
    Answer::new(SqlState::ADMIN_SHUTDOWN, "the token has expired")
        .with_hint("Fetch a new token and connect again.")
}

fn shutting_down() -> Answer {
    Answer::new(SqlState::ADMIN_SHUTDOWN, "shutting down").with_hint("Connect again.")
}
