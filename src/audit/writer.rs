//! The one thread that owns the segment files. Layer 3.
//!
//! It takes whatever is queued, renders it, writes it with one `write`, and calls fdatasync once
//! if anybody waits for the disk. Bytes that are not known to be on disk are kept: after an error
//! the file is cut back to what is known to be good and they are written anew, so an error of
//! write or fdatasync loses nothing (fdatasync must not be retried alone: Linux drops the dirty
//! pages of a failed one).

use super::chain::{Checkpoint, RecordHash, Tip, signed_bytes};
use super::execution::{Entry, Fields};
use super::follow::Durable;
use super::head::Head;
use super::key::SigningKey;
use super::ocsf::{Extra, render, render_into};
use super::personal::PersonalKeys;
use super::queue::{Queued, Shared, Waiter, lost};
use super::record::{Decision, Engine, Event, Gap, Kind, Severity};
use super::recover::{Resume, gap_event};
use super::retention::{Limits, expired};
use super::segment::{Disk, DiskFile, SegmentFile};
use super::{AuditUnavailable, Settings};
use metrics::{counter, histogram};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest time that written records may wait for fdatasync when nobody waits for them.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Most bytes that may wait for fdatasync.
const SYNC_AFTER: usize = 4 << 20;
/// How long the writer stands back after each record for sessions that wake beside it, when nobody
/// waits for the disk: a burst of records is not what a statement waits for.
const STAND_BACK: Duration = Duration::from_millis(2);
/// More records at once than this are a load under which standing back would only lengthen the queue.
const BURST: usize = 64;
/// How often a failed write is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often age, retention and the file's place are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often old segments are looked for.
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

/// Renders a checkpoint: the line, and the chain's new end.
pub(super) fn render_checkpoint(
    checkpoint: &Checkpoint,
    chain: &str,
    previous: &Tip,
    key: &SigningKey,
) -> (Vec<u8>, Tip) {
    let mut event = Event::now(Kind::Lifecycle, Decision::Allow, Engine::Hedgerow);
    event.message = Some(format!("segment {} closed", checkpoint.segment).into());
    let sign = |hash: &RecordHash| key.sign(&signed_bytes(hash));
    let rendered = render(&event, &Extra::Checkpoint(checkpoint), chain, Some(previous), sign);
    let sequence = previous.sequence.saturating_add(1);
    let tip = Tip { sequence, hash: rendered.hash, uid: event.id.to_string() };
    (rendered.line, tip)
}

/// The segment being written.
struct Current {
    segment: SegmentFile,
    /// `None` until the first write.
    file: Option<Box<dyn DiskFile>>,
    /// Bytes known to be on disk.
    synced: u64,
    opened: Instant,
    first_sequence: u64,
    count: u64,
    previous_checkpoint: Option<RecordHash>,
    /// Whether the checkpoint was rendered: nothing may follow it.
    closing: bool,
}

/// A disk that does not take writes.
struct Failure {
    since: Instant,
    next_try: Instant,
}

/// The writer's state.
pub(super) struct Writer {
    settings: Settings,
    disk: Box<dyn Disk>,
    key: SigningKey,
    /// `None`: personal fields are written in clear.
    personal: Option<PersonalKeys>,
    shared: Arc<Shared>,
    chain: String,
    tip: Option<Tip>,
    next_segment: u64,
    current: Option<Current>,
    /// Records that are not rendered yet.
    backlog: VecDeque<Queued>,
    /// Rendered lines that are not known to be on disk.
    pending: Vec<u8>,
    /// Room to render in.
    body: Vec<u8>,
    /// How many bytes of `pending` are in the file.
    written: usize,
    /// How many records of `pending` have never been in the file.
    unwritten_records: usize,
    /// How many of those hold a place of the queue.
    unwritten_places: usize,
    /// Whether the file may hold bytes behind `synced + written`.
    damaged: bool,
    failure: Option<Failure>,
    last_sync: Instant,
    last_look: Instant,
    last_retention: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        settings: Settings,
        disk: Box<dyn Disk>,
        key: SigningKey,
        personal: Option<PersonalKeys>,
        shared: Arc<Shared>,
        resume: Resume,
    ) -> Self {
        let now = Instant::now();
        let Resume { chain, next_segment, tip, gap } = resume;
        let mut writer = Self {
            settings,
            disk,
            key,
            personal,
            shared,
            chain,
            tip,
            next_segment,
            current: None,
            backlog: VecDeque::new(),
            pending: Vec::new(),
            body: Vec::new(),
            written: 0,
            unwritten_records: 0,
            unwritten_places: 0,
            damaged: false,
            failure: None,
            last_sync: now,
            last_look: now,
            last_retention: None,
        };
        if let Some(gap) = gap {
            writer.append(&gap, &Extra::None);
        }
        writer
    }

    /// Writes the first record and waits for the disk: an unusable directory shows at start.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let mut event = Event::now(Kind::Lifecycle, Decision::Allow, Engine::Hedgerow);
        let key_id = self.key.public().id();
        let mode = self.settings.mode;
        event.message = Some(format!("audit trail opened: mode {mode:?}, key {key_id}").into());
        self.append(&event, &Extra::None);
        self.try_flush(true)?;
        self.retain();
        Ok(())
    }

    /// Runs until the trail is closed.
    pub(super) fn run(mut self) {
        loop {
            let close = self.shared.next(self.patience(), &mut self.backlog);
            self.work();
            self.shared.report_pending();
            if close {
                break;
            }
        }
        let last = self.shared.stop();
        self.backlog.extend(last);
        if let Some(failure) = &mut self.failure {
            failure.next_try = Instant::now();
        }
        self.work();
        if self.failure.is_none() {
            self.close_segment();
        }
        let unwritten = self.unwritten_records + self.backlog.len();
        if unwritten > 0 {
            lost(unwritten as u64);
            tracing::error!(records = unwritten, "audit records lost: the disk cannot be written");
        }
        self.shared.report_pending();
    }

    /// How long the writer may sleep.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        match &self.failure {
            Some(failure) => failure.next_try.saturating_duration_since(now),
            None if self.pending.is_empty() => LOOK_EVERY,
            None => (self.last_sync + SYNC_EVERY).saturating_duration_since(now),
        }
    }

    /// Mends what failed, writes the backlog, looks after the segment.
    fn work(&mut self) {
        if !self.mend() {
            self.dismiss_waiters();
            return;
        }
        let mut waiters = Vec::new();
        let began = Instant::now();
        let stands_back = self.backlog.len() <= BURST
            && self.backlog.iter().all(|queued| queued.waiter.is_none());
        while let Some(Queued { mut entry, waiter }) = self.backlog.pop_front() {
            if let Some(keys) = &mut self.personal {
                let mut event = entry.into_event();
                let sealed = keys.seal(&mut event);
                entry = Entry::from(event);
                if let Err(error) = sealed {
                    // Never in clear because they could not be sealed.
                    self.backlog.push_front(Queued { entry, waiter });
                    self.fail(&error);
                    answer(&mut waiters, false);
                    self.dismiss_waiters();
                    return;
                }
            }
            waiters.extend(waiter);
            self.append_fields(&entry.fields(), &Extra::None);
            self.unwritten_places += 1;
            if stands_back && began.elapsed() < STAND_BACK {
                std::thread::yield_now();
            }
            let full = self.size() >= self.settings.max_size;
            if full || self.pending.len() >= SYNC_AFTER {
                let done = if full { self.close_segment() } else { self.flush(true) };
                answer(&mut waiters, done);
                if !done {
                    self.dismiss_waiters();
                    return;
                }
            }
        }
        let sync = !waiters.is_empty() || self.last_sync.elapsed() >= SYNC_EVERY;
        let done = self.flush(sync);
        answer(&mut waiters, done);
        if done {
            self.look_after();
        }
    }

    /// Tries again after a failure, when it is time. Answers whether the disk can be written.
    fn mend(&mut self) -> bool {
        let Some(failure) = &self.failure else { return true };
        if Instant::now() < failure.next_try {
            return false;
        }
        let since = failure.since;
        if !self.flush(true) {
            return false;
        }
        if self.current.as_ref().is_some_and(|current| current.closing) {
            self.finish_segment();
        }
        let gap = Gap {
            refused: self.shared.take_refused(),
            last_good_sequence: self.tip.as_ref().map(|tip| tip.sequence),
            ..Gap::default()
        };
        let message = format!(
            "audit could not be written for {} s: statements were refused meanwhile, no record is lost",
            since.elapsed().as_secs()
        );
        self.append(&gap_event(&message, gap), &Extra::None);
        if !self.flush(true) {
            return false;
        }
        self.failure = None;
        self.shared.set_failed(false);
        tracing::warn!("audit can be written again");
        true
    }

    /// Tells everybody who waits that the disk cannot be written; their records stay queued.
    fn dismiss_waiters(&mut self) {
        for queued in &mut self.backlog {
            if let Some(waiter) = queued.waiter.take() {
                // Whoever waited may have gone: that is its own business.
                let _ = waiter.send(Err(AuditUnavailable));
            }
        }
    }

    /// Renders a record at the end of the current segment; opens one if there is none.
    fn append(&mut self, event: &Event, extra: &Extra<'_>) {
        self.append_fields(&event.fields(), extra);
    }

    fn append_fields(&mut self, fields: &Fields<'_>, extra: &Extra<'_>) {
        let sequence = self.tip.as_ref().map_or(1, |tip| tip.sequence.saturating_add(1));
        let previous = self.tip.as_ref().map(|tip| tip.hash);
        let hash = render_into(
            &mut self.pending,
            &mut self.body,
            fields,
            extra,
            &self.chain,
            self.tip.as_ref(),
            |_| String::new(),
        );
        self.end_line();
        let current = self.current.get_or_insert_with(|| Current {
            segment: SegmentFile::in_directory(
                &self.settings.directory,
                &self.chain,
                self.next_segment,
            ),
            file: None,
            synced: 0,
            opened: Instant::now(),
            first_sequence: sequence,
            count: 0,
            previous_checkpoint: previous,
            closing: false,
        });
        debug_assert!(!current.closing, "a record after the checkpoint");
        current.count += 1;
        self.tip = Some(Tip { sequence, hash, uid: fields.id.to_string() });
    }

    fn push_line(&mut self, line: &[u8]) {
        self.pending.extend_from_slice(line);
        self.end_line();
    }

    fn end_line(&mut self) {
        self.pending.push(b'\n');
        self.unwritten_records += 1;
    }

    fn size(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.synced) + self.pending.len() as u64
    }

    /// Closes the segment with its checkpoint. Answers whether that is on disk.
    fn close_segment(&mut self) -> bool {
        if let (Some(current), Some(tip)) = (&mut self.current, &self.tip)
            && !current.closing
        {
            let checkpoint = Checkpoint {
                segment: current.segment.number,
                first_sequence: current.first_sequence,
                last_sequence: tip.sequence,
                count: current.count,
                last_hash: tip.hash,
                previous_checkpoint: current.previous_checkpoint,
                key_id: self.key.public().id().to_owned(),
                recovered: false,
            };
            let (line, tip) = render_checkpoint(&checkpoint, &self.chain, tip, &self.key);
            current.closing = true;
            self.tip = Some(tip);
            self.push_line(&line);
        }
        let done = self.flush(true);
        if done {
            self.finish_segment();
        }
        done
    }

    /// After the checkpoint is on disk: notes it in the head file, makes way for the next segment.
    fn finish_segment(&mut self) {
        let (Some(current), Some(tip)) = (self.current.take(), &self.tip) else { return };
        self.next_segment = current.segment.number.saturating_add(1);
        if self.settings.max_total_size.is_some() {
            // The directory grew by a segment: look at its size without waiting for the hour.
            self.last_retention = None;
        }
        let head = Head::new(&self.chain, current.segment.number, tip, &self.key);
        if let Err(error) = self.shared.during(|| head.write(&self.settings.directory)) {
            // The head only lags behind; the segment itself is complete and signed.
            tracing::warn!(%error, "the audit chain's head file cannot be written");
        }
    }

    /// Writes what is pending, and waits for the disk if asked. Answers whether it worked; if not,
    /// the trail is unhealthy until [`Writer::mend`] succeeds.
    fn flush(&mut self, sync: bool) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        let begun = Instant::now();
        let shared = Arc::clone(&self.shared);
        let result = shared.during(|| self.try_flush(sync));
        histogram!("hedgerow_audit_write_seconds").record(begun.elapsed().as_secs_f64());
        match result {
            Ok(()) => true,
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// The trail cannot be written: from now on permits are refused, until [`Writer::mend`] succeeds.
    fn fail(&mut self, error: &dyn std::error::Error) {
        self.shared.set_failed(true);
        if self.failure.is_none() {
            tracing::error!(%error, "audit cannot be written; statements are refused");
        }
        let now = Instant::now();
        let since = self.failure.as_ref().map_or(now, |failure| failure.since);
        self.failure = Some(Failure { since, next_try: now + RETRY_EVERY });
    }

    /// Looks whether somebody erased a tenant, and records it.
    fn look_for_erasures(&mut self) {
        let Some(keys) = &mut self.personal else { return };
        if let Err(error) = keys.refresh() {
            tracing::warn!(%error, "audit: the tenants' keys cannot be read again");
            return;
        }
        let erasures = keys.unrecorded();
        for (tenant, ids) in erasures {
            let count = ids.len();
            let mut event = Event::now(Kind::Lifecycle, Decision::Allow, Engine::Hedgerow);
            event.severity = Some(Severity::Medium);
            event.message = Some(
                format!("personal fields erased: {count} keys of tenant {tenant} were destroyed")
                    .into(),
            );
            event.tenant = Some(tenant.into());
            self.append(&event, &Extra::None);
            if !self.flush(true) {
                return;
            }
            // Without the note the next start records it once more.
            if let Some(Err(error)) = self.personal.as_mut().map(|keys| keys.recorded(ids)) {
                tracing::warn!(%error, "audit: the note of an erasure cannot be written");
            }
        }
    }

    fn try_flush(&mut self, sync: bool) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let file = match &mut current.file {
            Some(file) => file,
            none => none.insert(self.disk.create(&current.segment.path)?),
        };
        if self.damaged {
            file.truncate(current.synced)?;
            self.written = 0;
            self.damaged = false;
        }
        // From here on, an error leaves the file in an unknown state.
        self.damaged = true;
        if let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            file.append(rest)?;
            self.written = self.pending.len();
            counter!("hedgerow_audit_records").increment(self.unwritten_records as u64);
            self.shared.release(self.unwritten_places);
            self.unwritten_records = 0;
            self.unwritten_places = 0;
        }
        if sync {
            file.sync()?;
            current.synced = current.synced.saturating_add(self.pending.len() as u64);
            self.pending.clear();
            self.written = 0;
            self.last_sync = Instant::now();
            self.shared.publish(Durable {
                chain: self.chain.clone(),
                segment: current.segment.number,
                offset: current.synced,
                sequence: self.tip.as_ref().map_or(0, |tip| tip.sequence),
            });
        }
        self.damaged = false;
        Ok(())
    }

    /// Refusals, the file's place, rotation by age, retention.
    fn look_after(&mut self) {
        if self.last_look.elapsed() < LOOK_EVERY {
            return;
        }
        self.last_look = Instant::now();
        self.look_for_erasures();
        let refused = self.shared.take_refused();
        if refused > 0 {
            tracing::warn!(refused, "statements were refused: the audit queue was full");
            let message = format!("{refused} statements were refused: the queue was full");
            self.append(&gap_event(&message, Gap { refused, ..Gap::default() }), &Extra::None);
        }
        if let Some(current) = &self.current
            && let Some(file) = &current.file
            && !file.in_place(&current.segment.path)
        {
            self.begin_anew_after_removal();
        }
        let old = |current: &Current| current.opened.elapsed() >= self.settings.max_age;
        if self.current.as_ref().is_some_and(old) && !self.close_segment() {
            return;
        }
        if self.last_retention.is_none_or(|last| last.elapsed() >= RETAIN_EVERY) {
            self.retain();
        }
    }

    /// Somebody removed or replaced the file under us: its records are gone, and we say so.
    fn begin_anew_after_removal(&mut self) {
        let Some(current) = self.current.take() else { return };
        tracing::error!(
            segment = current.segment.number,
            "audit segment removed while it was written"
        );
        lost(current.count);
        self.next_segment = current.segment.number.saturating_add(1);
        self.pending.clear();
        self.written = 0;
        let gap = Gap {
            lost: current.count,
            last_good_sequence: current.first_sequence.checked_sub(1),
            ..Gap::default()
        };
        let message = format!(
            "segment {} was removed or replaced while it was being written",
            current.segment.number
        );
        self.append(&gap_event(&message, gap), &Extra::None);
        self.flush(true);
    }

    /// Deletes closed segments past their age, or beyond the directory's size: first a record says
    /// which, then they go.
    fn retain(&mut self) {
        self.last_retention = Some(Instant::now());
        let current = self.current.as_ref().map_or(self.next_segment, |c| c.segment.number);
        let limits = Limits {
            age: self.settings.retention,
            total_size: self.settings.max_total_size,
            current,
        };
        let expired = match expired(&self.settings.directory, &self.chain, &limits) {
            Ok(expired) => expired,
            Err(error) => {
                tracing::warn!(%error, "audit retention: the directory cannot be read");
                return;
            }
        };
        if expired.is_empty() {
            return;
        }
        let behind = expired.needed_by(&self.settings.directory, &self.chain, &self.settings.sinks);
        let mut message = format!("retention: {expired} are deleted for {}", expired.reason());
        if !behind.is_empty() {
            let behind = behind.join(", ");
            tracing::error!(
                sinks = behind,
                "audit retention deletes records that sinks still need"
            );
            message.push_str(&format!("; not everything in them was delivered by: {behind}"));
        }
        let mut event = Event::now(Kind::Lifecycle, Decision::Allow, Engine::Hedgerow);
        if !behind.is_empty() {
            event.severity = Some(Severity::High);
        }
        event.message = Some(message.into());
        let extra = match expired.own.last() {
            Some(last) => Extra::Retention { through_segment: last.number },
            None => Extra::None,
        };
        self.append(&event, &extra);
        if !self.flush(true) {
            return;
        }
        expired.delete(&self.settings.directory);
    }
}

fn answer(waiters: &mut Vec<Waiter>, done: bool) {
    for waiter in waiters.drain(..) {
        // Whoever waited may have gone: that is its own business.
        let _ = waiter.send(if done { Ok(()) } else { Err(AuditUnavailable) });
    }
}
