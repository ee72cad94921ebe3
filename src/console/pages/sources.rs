//! The page of sources: each chain, whether it holds, and what is missing. Layer 5.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use super::rows::{address, everything};
use super::{Fact, Frame, anchor, html, source_name, what_is_wrong};
use crate::console::State;
use crate::console::http::Viewer;
use crate::console::index::{Index, Segment};
use crate::console::query::Query;
use crate::console::records::line_of;
use crate::console::text::{ago, bytes, count, encode, number, second};
use crate::console::watch::{Standing, read};

struct SourceView {
    class: &'static str,
    anchor: String,
    name: String,
    verdict: String,
    fault: Option<String>,
    fault_link: String,
    complete: bool,
    percent: u64,
    facts: Vec<Fact>,
}

#[derive(Template)]
#[template(path = "sources.html")]
struct SourcesPage {
    frame: Frame,
    sources: Vec<SourceView>,
    index: Vec<Fact>,
}

/// Answers the page.
pub(in crate::console) fn sources(state: &State, viewer: &Viewer) -> Response {
    let shared = &state.watch.shared;
    let frame = Frame::new(state, viewer, "sources");
    let index = read(&shared.index);
    let now = Timestamp::now().as_microsecond();
    let sources =
        read(&shared.standings).iter().map(|standing| view(&index, standing, now)).collect();
    let (oldest, newest) = (index.rows().first(), index.rows().last());
    let mut facts = vec![Fact::plain(
        "Records",
        format!(
            "{} in {}",
            number(index.rows().len() as u64),
            count(index.segments.iter().filter(|s| !s.gone).count() as u64, "segment", "segments")
        ),
    )];
    if let (Some(oldest), Some(newest)) = (oldest, newest) {
        facts.push(Fact::plain("Oldest", second(oldest.time)));
        facts.push(Fact::plain("Newest", second(newest.time)));
    }
    if index.dropped > 0 || shared.progress.skipped() > 0 {
        facts.push(Fact::plain(
            "Left out",
            format!(
                "{} and {}, for the bound of memory is reached",
                count(index.dropped, "older record", "older records"),
                count(shared.progress.skipped(), "older segment", "older segments")
            ),
        ));
    }
    html(StatusCode::OK, &SourcesPage { frame, sources, index: facts })
}

/// The segments of a source.
fn segments<'a>(index: &'a Index, standing: &Standing) -> Vec<&'a Segment> {
    let here = |segment: &&Segment| {
        !segment.gone
            && index.source_of(segment).is_some_and(|source| {
                source.chain == standing.chain && source.directory == standing.directory
            })
    };
    index.segments.iter().filter(here).collect()
}

fn view(index: &Index, standing: &Standing, now: i64) -> SourceView {
    let segments = segments(index, standing);
    let wrong = what_is_wrong(standing);
    let (class, verdict) = if !wrong.is_empty() {
        ("bad", "does not verify".to_owned())
    } else if standing.chain.is_empty() {
        ("wait", "no audit files here yet".to_owned())
    } else if !standing.complete {
        ("wait", format!("being verified, {} %", percent(standing)))
    } else if standing.closed {
        ("good", "intact, every segment signed".to_owned())
    } else {
        ("good", "intact; the last segment is still being written".to_owned())
    };
    let broken_segment = standing.fault.as_ref().and_then(|fault| {
        let segment = segments.iter().find(|segment| segment.path == fault.path)?;
        let line = u32::try_from(fault.line).ok().filter(|line| *line > 0)?;
        Some(address(&encode(&standing.chain), segment.number, line))
    });
    SourceView {
        class,
        anchor: anchor(standing),
        name: source_name(&standing.directory, &standing.chain),
        verdict,
        fault: (!wrong.is_empty()).then_some(wrong),
        fault_link: broken_segment.unwrap_or_default(),
        complete: standing.complete,
        percent: percent(standing),
        facts: facts(standing, &segments, now),
    }
}

fn percent(standing: &Standing) -> u64 {
    let (total, done) = standing.bytes;
    done.saturating_mul(100).checked_div(total).unwrap_or(0).min(99)
}

fn facts(standing: &Standing, segments: &[&Segment], now: i64) -> Vec<Fact> {
    let mut facts = vec![Fact::plain("Directory", standing.directory.display().to_string())];
    if standing.chain.is_empty() {
        return facts;
    }
    let all = everything(|query: &mut Query| query.source = Some(standing.chain.clone()));
    facts.push(Fact::linked("Chain", standing.chain.clone(), all));
    if let Some((first, last)) = standing.numbers {
        let retained =
            if first > 1 { format!(", 1 to {} deleted by age", first - 1) } else { String::new() };
        let there = count(standing.segments as u64, "segment", "segments");
        facts.push(Fact::plain(
            "Files",
            format!("{there} ({first} to {last}{retained}), {}", bytes(standing.bytes.0)),
        ));
    }
    facts.push(Fact::plain(
        "Verified",
        match standing.sequence {
            Some(sequence) => format!(
                "{}, through sequence {}",
                count(standing.records, "record", "records"),
                number(sequence)
            ),
            None => "no record yet".to_owned(),
        },
    ));
    facts.push(match &standing.checkpoint {
        Some(checkpoint) => {
            let time = checkpoint_time(segments, checkpoint.segment);
            let at = time.map_or_else(String::new, |time| {
                format!(", {} ({})", second(time), ago(time, now))
            });
            let crash = if checkpoint.recovered { ", written after a crash" } else { "" };
            let unsigned = standing.sequence.unwrap_or(0).saturating_sub(checkpoint.sequence);
            let after = match unsigned {
                0 => String::new(),
                more => format!("; {} after it, not signed yet", count(more, "record", "records")),
            };
            Fact::plain(
                "Last checkpoint",
                format!(
                    "segment {}, sequence {}{at}{crash}: the signature by key {} is right{after}",
                    checkpoint.segment,
                    number(checkpoint.sequence),
                    checkpoint.key_id
                ),
            )
        }
        None if !standing.complete => Fact::plain("Last checkpoint", "not reached yet"),
        None => Fact::plain("Last checkpoint", "none that holds: no segment is closed yet"),
    });
    let (gaps, lost, unreadable) = segments.iter().fold((0, 0, 0), |sums: (u64, u64, u64), s| {
        (sums.0 + s.gaps, sums.1.saturating_add(s.lost), sums.2 + s.unreadable)
    });
    let said = match gaps {
        0 => "none".to_owned(),
        _ => format!(
            "{}, {} known to be lost",
            count(gaps, "gap record", "gap records"),
            number(lost)
        ),
    };
    let errors = format!("/?show=errors&source={}", encode(&standing.chain));
    let link = if gaps > 0 { errors } else { String::new() };
    facts.push(Fact::linked("Gaps", said, link));
    if unreadable > 0 {
        let text = format!("{} that are no records", count(unreadable, "line", "lines"));
        facts.push(Fact::plain("Unreadable", text));
    }
    if standing.changed > 0 {
        let times = count(standing.changed, "time", "times");
        facts.push(Fact::plain(
            "Changed",
            format!("{times} since this console started, a file that had been read was changed, cut or removed"),
        ));
    }
    let keys = standing.keys.join(", ");
    facts.push(Fact::plain(
        "Trusted key",
        if keys.is_empty() {
            "none".to_owned()
        } else if standing.keys_given {
            format!("{keys}, given to this console")
        } else {
            format!(
                "{keys}, from the file beside the records: this trusts whoever can write there; give \
                 --public-key with a copy kept elsewhere"
            )
        },
    ));
    facts
}

/// When a segment was closed: the time of its last line.
fn checkpoint_time(segments: &[&Segment], number: u64) -> Option<i64> {
    let segment = segments.iter().find(|segment| segment.number == number)?;
    let (_, bytes) = line_of(segment, segment.lines).ok().flatten()?;
    let found = crate::audit::search::Found::read(&bytes)?;
    let time: Timestamp = found.column("time").parse().ok()?;
    Some(time.as_microsecond())
}
