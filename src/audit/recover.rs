//! Finds the end of the chain at start, and mends it after a crash. Layer 3.
//!
//! - A segment without checkpoint is what a crash leaves: its torn last line, if any, is moved to
//!   a side file, the segment is closed by a checkpoint marked `recovered`, and the chain goes on
//!   in the next segment with a gap record.
//! - Anything else that does not verify is not mended: the files stay as they are, as evidence,
//!   and a new chain begins with a gap record that names the old one.

use super::chain::{Checkpoint, Tip};
use super::head::{Head, head_is_garbled};
use super::key::{SigningKey, TrustedKeys};
use super::record::{Decision, Engine, Event, Gap, Kind};
use super::segment::{Line, MAX_LINE, SegmentFile, read_line, sync_parent};
use super::walk::{Fault, SegmentView, Walk};
use super::writer::render_checkpoint;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Where the chain goes on.
#[derive(Debug)]
pub(super) struct Resume {
    /// The chain.
    pub(super) chain: String,
    /// Number of the next segment.
    pub(super) next_segment: u64,
    /// The last record, if the chain has one.
    pub(super) tip: Option<Tip>,
    /// What the next record must say of the time before.
    pub(super) gap: Option<Event>,
}

/// Why the chain cannot go on as it is.
enum Obstacle {
    /// The chain is not intact.
    Broken(String),
    /// The disk failed.
    Disk(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault.to_string())
    }
}

/// Finds the newest chain of the directory and its end.
pub(super) fn recover(
    directory: &Path,
    key: &SigningKey,
    trusted: &TrustedKeys,
) -> io::Result<Resume> {
    let segments = SegmentFile::list(directory)?;
    let newest = segments.iter().map(|segment| segment.chain.clone());
    let Some(chain) = newest.chain(Head::chains(directory)?).max() else {
        return Ok(fresh_chain(None));
    };
    let own = segments.into_iter().filter(|segment| segment.chain == chain).collect();
    match resume(directory, &chain, own, key, trusted) {
        Ok(resume) => Ok(resume),
        Err(Obstacle::Disk(error)) => Err(error),
        Err(Obstacle::Broken(why)) => {
            tracing::error!(%chain, %why, "audit chain is broken; a new chain begins");
            let message = format!(
                "chain {chain} is broken ({why}): its files are left as they are, a new chain begins"
            );
            Ok(fresh_chain(Some(gap_event(&message, Gap::default()))))
        }
    }
}

fn fresh_chain(gap: Option<Event>) -> Resume {
    Resume { chain: uuid::Uuid::now_v7().to_string(), next_segment: 1, tip: None, gap }
}

/// A gap record.
pub(super) fn gap_event(message: &str, gap: Gap) -> Event {
    let mut event = Event::now(Kind::Gap, Decision::Error, Engine::Hedgerow);
    event.message = Some(message.into());
    event.gap = Some(gap);
    event
}

fn resume(
    directory: &Path,
    chain: &str,
    mut segments: Vec<SegmentFile>,
    key: &SigningKey,
    trusted: &TrustedKeys,
) -> Result<Resume, Obstacle> {
    let head = match Head::read(directory, chain) {
        Ok(head) => head,
        Err(error) if head_is_garbled(&error) => return Err(Fault::Head.into()),
        Err(error) => return Err(error.into()),
    };
    if let Some(head) = &head {
        head.check(chain, trusted)?;
    }
    let head_segment = head.as_ref().map_or(0, |head| head.segment);
    let mut gap: Option<Gap> = None;
    loop {
        let Some(last) = segments.pop() else {
            // Only empty files were there, or none.
            return if head_segment > 0 {
                Err(Fault::MissingEnd { segment: head_segment }.into())
            } else {
                let gap = gap.map(|gap| unclean_event(gap, None));
                Ok(Resume { chain: chain.to_owned(), next_segment: 1, tip: None, gap })
            };
        };
        if last.number < head_segment {
            return Err(Fault::MissingEnd { segment: head_segment }.into());
        }
        let end = read_back(&last, trusted)?;
        if end.torn_bytes > 0 {
            let side_file = set_aside(&last, end.good_bytes)?;
            let gap = gap.get_or_insert_default();
            gap.torn_bytes = end.torn_bytes;
            gap.side_file = Some(side_file);
        }
        let Some(tip) = end.tip else {
            fs::remove_file(&last.path)?;
            sync_parent(&last.path)?;
            gap.get_or_insert_default();
            match segments.last() {
                None if last.number > 1 => {
                    return Err(Fault::MissingSegment { expected: last.number - 1 }.into());
                }
                Some(before) if before.number + 1 != last.number => {
                    return Err(Fault::MissingSegment { expected: last.number - 1 }.into());
                }
                None | Some(_) => continue,
            }
        };
        let closed = end.view.closed;
        let tip = if closed {
            if let Some(head) = head.as_ref().filter(|head| head.segment == last.number)
                && head.tip().as_ref() != Some(&tip)
            {
                return Err(Fault::Head.into());
            }
            tip
        } else {
            if head_segment == last.number {
                return Err(Fault::Head.into());
            }
            let gap = gap.get_or_insert_default();
            gap.last_good_sequence = Some(tip.sequence);
            close_recovered(directory, &last, &end.view, tip, end.add_newline, key)?
        };
        let gap = gap.map(|gap| {
            let last_good = gap.last_good_sequence.unwrap_or(tip.sequence);
            unclean_event(gap, Some(last_good))
        });
        return Ok(Resume {
            chain: chain.to_owned(),
            next_segment: last.number.saturating_add(1),
            tip: Some(tip),
            gap,
        });
    }
}

fn unclean_event(mut gap: Gap, last_good: Option<u64>) -> Event {
    gap.last_good_sequence = last_good;
    let last_good = last_good.map_or("none".to_owned(), |sequence| sequence.to_string());
    let message = match gap.torn_bytes {
        0 => format!(
            "the run before ended without closing its segment: records after sequence {last_good} \
             that had not reached the disk are lost"
        ),
        bytes => format!(
            "the run before ended without closing its segment: {bytes} bytes of a torn record after \
             sequence {last_good} were moved to a side file; records behind it that had not reached \
             the disk are lost"
        ),
    };
    gap_event(&message, gap)
}

/// The end of a segment.
struct End {
    tip: Option<Tip>,
    view: SegmentView,
    /// Length of the part that verifies.
    good_bytes: u64,
    /// Length of the torn rest.
    torn_bytes: u64,
    /// Whether the last good line lacks only its newline.
    add_newline: bool,
}

/// Reads a segment to its end. A torn tail is not a fault; a record that does not fit is.
fn read_back(segment: &SegmentFile, trusted: &TrustedKeys) -> Result<End, Obstacle> {
    let file = File::open(&segment.path)?;
    let length = file.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 16, file);
    let mut walk = Walk::new(&segment.chain, trusted);
    walk.begin_segment(segment.number)?;
    let mut buffer = Vec::new();
    let mut good_bytes = 0_u64;
    let mut add_newline = false;
    loop {
        let (outcome, newline) = match read_line(&mut input, &mut buffer)? {
            Line::End => break,
            Line::Whole => (walk.line(&buffer), 1),
            Line::Unfinished => (walk.line(&buffer), 0),
            Line::TooLong => (Err(Fault::NotJson), 0),
        };
        match outcome {
            Ok(()) => {
                good_bytes = good_bytes.saturating_add(buffer.len() as u64 + newline);
                add_newline = newline == 0;
            }
            Err(Fault::NotJson) if no_record_follows(&mut input)? => break,
            Err(fault) => return Err(fault.into()),
        }
    }
    let view = walk.segment().cloned().ok_or(Fault::Empty)?;
    let torn_bytes = length.saturating_sub(good_bytes);
    Ok(End { tip: walk.tip().cloned(), view, good_bytes, torn_bytes, add_newline })
}

/// Whether the rest holds no JSON line: then what stands before it is a torn end, not an edit.
fn no_record_follows(input: &mut impl BufRead) -> io::Result<bool> {
    let mut buffer = Vec::with_capacity(1024);
    loop {
        match read_line(input, &mut buffer)? {
            Line::End => return Ok(true),
            Line::TooLong => buffer.truncate(MAX_LINE),
            Line::Whole | Line::Unfinished => {
                if serde_json::from_slice::<serde::de::IgnoredAny>(&buffer).is_ok() {
                    return Ok(false);
                }
            }
        }
    }
}

/// Moves everything after `good_bytes` to a side file; answers its name.
fn set_aside(segment: &SegmentFile, good_bytes: u64) -> io::Result<String> {
    let name = format!("audit-{}-{:010}.torn-at-{good_bytes}", segment.chain, segment.number);
    let path = segment.path.with_file_name(&name);
    let mut source = OpenOptions::new().read(true).write(true).open(&segment.path)?;
    source.seek(SeekFrom::Start(good_bytes))?;
    let mut side = File::create(&path)?;
    io::copy(&mut source, &mut side)?;
    side.sync_all()?;
    sync_parent(&path)?;
    source.set_len(good_bytes)?;
    source.sync_all()?;
    Ok(name)
}

/// Closes a segment that a crash left open. Answers the checkpoint's tip.
fn close_recovered(
    directory: &Path,
    segment: &SegmentFile,
    view: &SegmentView,
    tip: Tip,
    add_newline: bool,
    key: &SigningKey,
) -> io::Result<Tip> {
    let checkpoint = Checkpoint {
        segment: segment.number,
        first_sequence: view.first_sequence.unwrap_or(tip.sequence),
        last_sequence: tip.sequence,
        count: view.count,
        last_hash: tip.hash,
        previous_checkpoint: view.previous_checkpoint,
        key_id: key.public().id().to_owned(),
        recovered: true,
    };
    let (line, tip) = render_checkpoint(&checkpoint, &segment.chain, &tip, key);
    let mut bytes = Vec::with_capacity(line.len() + 2);
    if add_newline {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(&line);
    bytes.push(b'\n');
    let mut file = OpenOptions::new().append(true).open(&segment.path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Head::new(&segment.chain, segment.number, &tip, key).write(directory)?;
    Ok(tip)
}
