//! Answers a [`Query`] from the index: a page of rows, and the counts beside it. Layer 5.
//!
//! Filters look at rows alone. A text search reads the records themselves, newest first, for
//! [`SEARCH_TIME`] at most; how far it came is part of the answer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::index::{Index, Names, Outcome, Row, What};
use super::query::{Cursor, Query, Show};
use super::records::{Files, Needle};
use super::watch::{Shared, read};

/// Rows on a page.
pub(super) const PAGE: usize = 50;
/// How long one search reads.
const SEARCH_TIME: Duration = Duration::from_millis(1_500);
/// Most rows that one search looks at.
const SEARCH_ROWS: usize = 500_000;
/// Most groups that are counted.
const MOST_GROUPS: usize = 50_000;
/// Most bars of the plot over time.
const MOST_BARS: i64 = 180;

/// How often something was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) total: u64,
    /// Of which attempts on other tenants.
    pub(super) crossing: u64,
}

impl Tally {
    fn count(&mut self, row: &Row) {
        self.total = self.total.saturating_add(1);
        self.crossing = self.crossing.saturating_add(u64::from(row.crosses()));
    }
}

/// One bar of the plot over time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bar {
    /// Microseconds since 1970.
    pub(super) from: i64,
    pub(super) tally: Tally,
    /// Of which refused, or would have been.
    pub(super) refused: u64,
}

/// Records of one statement.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) tally: Tally,
    /// The newest of them.
    pub(super) newest: Row,
    /// Microseconds of the first one.
    pub(super) first: i64,
    pub(super) tenants: Vec<u32>,
    pub(super) codes: Vec<u16>,
}

impl Group {
    /// Most different tenants that are counted.
    pub(super) const MOST_TENANTS: usize = 100;

    fn count(&mut self, row: &Row) {
        self.tally.count(row);
        self.first = self.first.min(row.time);
        if self.tenants.len() < Self::MOST_TENANTS && !self.tenants.contains(&row.tenant) {
            self.tenants.push(row.tenant);
        }
        if self.codes.len() < 8 && !self.codes.contains(&row.code) {
            self.codes.push(row.code);
        }
    }
}

/// The answer.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// The page, newest first.
    pub(super) rows: Vec<Row>,
    /// Where the next page begins.
    pub(super) older: Option<Cursor>,
    pub(super) tally: Tally,
    pub(super) would_deny: u64,
    /// Names and how often, the most frequent first.
    pub(super) tenants: Vec<(String, Tally)>,
    pub(super) codes: Vec<(String, Tally)>,
    pub(super) services: Vec<(String, Tally)>,
    /// How many different tenants and services there are.
    pub(super) distinct: (usize, usize),
    pub(super) bars: Vec<Bar>,
    /// Seconds of one bar.
    pub(super) bar_seconds: i64,
    pub(super) groups: Vec<Group>,
    /// When a search stopped early: the time to which it came.
    pub(super) searched_to: Option<i64>,
}

/// A query with its names looked up.
struct Filter {
    show: Show,
    tenant: Option<u32>,
    code: Option<u16>,
    service: Option<u32>,
    /// Files of the source, by number.
    files: Option<Vec<bool>>,
    fingerprint: Option<u64>,
    session: Option<u32>,
}

impl Filter {
    /// `None`: a name that no record has, so that nothing matches.
    fn of(query: &Query, index: &Index) -> Option<Self> {
        let tables = &index.tables;
        let find = |names: &Names, wanted: &Option<String>| match wanted {
            None => Some(None),
            Some(name) => names.find(name).map(Some),
        };
        let code = find(&tables.codes, &query.code)?;
        Some(Self {
            show: query.show,
            tenant: find(&tables.tenants, &query.tenant)?,
            code: code.and_then(|code| u16::try_from(code).ok()),
            service: find(&tables.services, &query.service)?,
            files: query.source.as_ref().map(|chain| {
                let of = |segment| index.source_of(segment).is_some_and(|s| s.chain == *chain);
                index.segments.iter().map(of).collect()
            }),
            fingerprint: query.fingerprint.as_deref().map(|text| index.fingerprint(text)),
            session: query.session.as_deref().map(|text| index.session(text)),
        })
    }

    fn matches(&self, row: &Row) -> bool {
        let shown = match self.show {
            Show::Denied => row.refused(),
            Show::CrossTenant => row.crosses(),
            Show::WouldDeny => row.outcome == Outcome::WouldDeny,
            Show::SignIn => row.refused() && row.what() == What::Authentication,
            Show::Errors => row.outcome == Outcome::Error || row.what() == What::Gap,
            Show::Allowed => matches!(row.outcome, Outcome::Allow | Outcome::Rewrite),
            Show::Everything => true,
        };
        shown
            && self.tenant.is_none_or(|tenant| tenant == row.tenant)
            && self.code.is_none_or(|code| code == row.code)
            && self.service.is_none_or(|service| service == row.service)
            && self.fingerprint.is_none_or(|fingerprint| fingerprint == row.fingerprint)
            && self.session.is_none_or(|session| session == row.session)
            && self
                .files
                .as_ref()
                .is_none_or(|files| files.get(row.file as usize).copied().unwrap_or(false))
    }
}

/// Answers a query.
///
/// # Errors
/// A sentence about a time that cannot be read.
pub(super) fn select(shared: &Shared, query: &Query, now: Timestamp) -> Result<Selection, String> {
    let window = query.window(now)?;
    let Some(text) = query.search.as_deref() else {
        let index = read(&shared.index);
        let Some(filter) = Filter::of(query, &index) else { return Ok(Selection::default()) };
        let rows = index.between(window.0, window.1);
        let span = span(window, rows, now);
        let matching = rows.iter().rev().filter(|row| filter.matches(row));
        return Ok(gather(matching, query, &index, span));
    };
    let found = search(shared, query, window, text);
    let index = read(&shared.index);
    let span = span(window, index.between(window.0, window.1), now);
    let mut selection = gather(found.rows.iter(), query, &index, span);
    selection.searched_to = found.stopped_at;
    Ok(selection)
}

/// The rows that a query and its search match, for exports: newest first, `each` until it answers
/// false. Reads in parts, so that the index is not held for long.
pub(super) fn walk(
    shared: &Shared,
    query: &Query,
    window: (Option<i64>, Option<i64>),
    mut each: impl FnMut(&[u8]) -> bool,
) {
    /// Rows of one part.
    const PART: usize = 5_000;
    let needle = query.search.as_deref().map(Needle::new);
    let mut scratch = String::new();
    let mut files = Files::default();
    let mut cursor = query.before;
    loop {
        let (rows, paths) = {
            let index = read(&shared.index);
            let Some(filter) = Filter::of(query, &index) else { return };
            candidates(&index, &filter, window, cursor, PART)
        };
        let Some(last) = rows.last() else { return };
        cursor = Some(last.key());
        for row in &rows {
            let Some(path) = paths.get(&row.file) else { continue };
            let Ok(Some(line)) = files.line(row.file, path, row.offset) else { continue };
            if needle.as_ref().is_some_and(|needle| !needle.is_in(line, &mut scratch)) {
                continue;
            }
            if !each(line) {
                return;
            }
        }
    }
}

/// What a search found.
struct Hits {
    rows: Vec<Row>,
    stopped_at: Option<i64>,
}

fn search(shared: &Shared, query: &Query, window: (Option<i64>, Option<i64>), text: &str) -> Hits {
    let began = Instant::now();
    let (rows, paths) = {
        let index = read(&shared.index);
        match record_time(text) {
            // A record's id says when it was made.
            Some((from, to)) => {
                let filter =
                    Filter::of(&Query { show: Show::Everything, ..Query::default() }, &index);
                let Some(filter) = filter else {
                    return Hits { rows: Vec::new(), stopped_at: None };
                };
                candidates(&index, &filter, (Some(from), Some(to)), None, SEARCH_ROWS)
            }
            None => {
                let Some(filter) = Filter::of(query, &index) else {
                    return Hits { rows: Vec::new(), stopped_at: None };
                };
                candidates(&index, &filter, window, query.before, SEARCH_ROWS)
            }
        }
    };
    let needle = Needle::new(text);
    let (mut files, mut scratch) = (Files::default(), String::new());
    let mut hits = Vec::new();
    for (done, row) in rows.iter().enumerate() {
        if done % 256 == 255 && began.elapsed() > SEARCH_TIME {
            return Hits { rows: hits, stopped_at: Some(row.time) };
        }
        let Some(path) = paths.get(&row.file) else { continue };
        if let Ok(Some(line)) = files.line(row.file, path, row.offset)
            && needle.is_in(line, &mut scratch)
        {
            hits.push(*row);
        }
    }
    let stopped_at = (rows.len() == SEARCH_ROWS).then(|| rows.last().map(|row| row.time));
    Hits { rows: hits, stopped_at: stopped_at.flatten() }
}

/// The minutes around the making of a record, when the text is a record's id (UUID version 7).
pub(super) fn record_time(text: &str) -> Option<(i64, i64)> {
    /// A record's time and its id are taken within the same statement.
    const AROUND: i64 = 30 * 60 * 1_000_000;
    let (seconds, nanoseconds) =
        uuid::Uuid::try_parse(text.trim()).ok()?.get_timestamp()?.to_unix();
    let at = i64::try_from(seconds).ok()?.checked_mul(1_000_000)? + i64::from(nanoseconds / 1_000);
    Some((at.checked_sub(AROUND)?, at.checked_add(AROUND)?))
}

/// Rows that match, newest first, and where their files are.
fn candidates(
    index: &Index,
    filter: &Filter,
    window: (Option<i64>, Option<i64>),
    before: Option<Cursor>,
    most: usize,
) -> (Vec<Row>, HashMap<u32, PathBuf>) {
    let rows = index.between(window.0, window.1);
    let end = before.map_or(rows.len(), |cursor| rows.partition_point(|row| row.key() < cursor));
    let rows: Vec<Row> = rows
        .get(..end)
        .unwrap_or(&[])
        .iter()
        .rev()
        .filter(|row| filter.matches(row))
        .take(most)
        .copied()
        .collect();
    let mut paths = HashMap::new();
    for row in &rows {
        if !paths.contains_key(&row.file)
            && let Some(segment) = index.segment(row.file)
        {
            paths.insert(row.file, segment.path.clone());
        }
    }
    (rows, paths)
}

/// From when to when the plot goes.
fn span(window: (Option<i64>, Option<i64>), rows: &[Row], now: Timestamp) -> Option<(i64, i64)> {
    let now = now.as_microsecond();
    let first = window.0.or_else(|| rows.first().map(|row| row.time))?;
    let newest = rows.last().map(|row| row.time);
    let last = match (window.1, window.0) {
        (Some(until), _) => until.saturating_sub(1),
        // "The last 24 hours" end now; all time ends with the newest record.
        (None, Some(_)) => now.max(newest.unwrap_or(now)),
        (None, None) => newest?,
    };
    (first <= last).then_some((first, last))
}

/// The width of a bar, in microseconds: hours where that is not too many or too few.
fn width(span: (i64, i64)) -> i64 {
    const STEPS: [i64; 9] =
        [60, 300, 900, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400];
    let length = span.1.saturating_sub(span.0);
    let hours = length / 3_600_000_000;
    if (3..MOST_BARS).contains(&hours) {
        return 3_600_000_000;
    }
    let fits = |step: &i64| length / (step * 1_000_000) < MOST_BARS;
    // What spans more than 180 years is a forged time; a bar then is what is needed.
    STEPS.into_iter().find(fits).map_or(length / MOST_BARS + 1, |step| step * 1_000_000)
}

fn gather<'a>(
    rows: impl Iterator<Item = &'a Row>,
    query: &Query,
    index: &Index,
    span: Option<(i64, i64)>,
) -> Selection {
    let tables = &index.tables;
    let mut selection = Selection::default();
    let mut tenants = vec![Tally::default(); tables.tenants.len()];
    let mut services = vec![Tally::default(); tables.services.len()];
    let mut codes = vec![Tally::default(); tables.codes.len()];
    let mut groups: HashMap<(u64, u16), Group> = HashMap::new();
    let width = span.map_or(1, width);
    let first = span.map_or(0, |(first, _)| first.div_euclid(width) * width);
    if let Some((_, last)) = span {
        let count = last.saturating_sub(first) / width + 1;
        selection.bars = (0..count.min(2 * MOST_BARS))
            .map(|index| Bar { from: first.saturating_add(index * width), ..Bar::default() })
            .collect();
    }
    selection.bar_seconds = width / 1_000_000;
    let mut page_full = false;
    for row in rows {
        selection.tally.count(row);
        selection.would_deny += u64::from(row.outcome == Outcome::WouldDeny);
        let counters = [
            tenants.get_mut(row.tenant as usize),
            services.get_mut(row.service as usize),
            codes.get_mut(usize::from(row.code)),
        ];
        counters.into_iter().flatten().for_each(|tally| tally.count(row));
        let bar = row.time.saturating_sub(first) / width;
        if let Some(bar) = usize::try_from(bar).ok().and_then(|bar| selection.bars.get_mut(bar)) {
            bar.tally.count(row);
            bar.refused += u64::from(row.refused());
        }
        if query.grouped {
            let key = if row.fingerprint == 0 { (0, row.code) } else { (row.fingerprint, 0) };
            if let Some(group) = groups.get_mut(&key) {
                group.count(row);
            } else if groups.len() < MOST_GROUPS {
                let mut group = Group {
                    tally: Tally::default(),
                    newest: *row,
                    first: row.time,
                    tenants: Vec::new(),
                    codes: Vec::new(),
                };
                group.count(row);
                groups.insert(key, group);
            }
            continue;
        }
        if query.before.is_none_or(|cursor| row.key() < cursor) {
            if selection.rows.len() < PAGE {
                selection.rows.push(*row);
            } else {
                page_full = true;
            }
        }
    }
    if page_full {
        selection.older = selection.rows.last().map(Row::key);
    }
    let seen = |tallies: &[Tally]| tallies.iter().filter(|tally| tally.total > 0).count();
    let named = tenants.split_first().map_or(0, |(_, named)| seen(named));
    selection.distinct = (named, seen(&services));
    selection.tenants = top(&tenants, &tables.tenants);
    selection.services = top(&services, &tables.services);
    selection.codes = top(&codes, &tables.codes);
    selection.groups = groups.into_values().collect();
    selection.groups.sort_by(|one, other| {
        (other.tally.total, other.newest.time).cmp(&(one.tally.total, one.newest.time))
    });
    selection.groups.truncate(PAGE);
    selection
}

/// The most frequent names.
fn top(tallies: &[Tally], names: &Names) -> Vec<(String, Tally)> {
    /// Bars of one plot.
    const MOST: usize = 8;
    let mut counted: Vec<(u32, Tally)> =
        (0..).zip(tallies.iter().copied()).filter(|(_, tally)| tally.total > 0).collect();
    counted.sort_by(|one, other| other.1.total.cmp(&one.1.total).then(one.0.cmp(&other.0)));
    counted.truncate(MOST);
    counted.into_iter().map(|(number, tally)| (names.name(number).to_owned(), tally)).collect()
}

/// Rows of the same session around one, oldest first.
pub(super) fn neighbours(index: &Index, row: &Row, each_side: usize) -> Vec<Row> {
    /// Rows that are looked at on each side.
    const FAR: usize = 2_000_000;
    if row.session == 0 {
        return Vec::new();
    }
    let source = index.segment(row.file).map(|segment| segment.source);
    let same = |other: &&Row| {
        other.session == row.session
            && index.segment(other.file).map(|segment| segment.source) == source
    };
    let rows = index.rows();
    let at = rows.partition_point(|other| other.key() < row.key());
    let (before, after) = rows.split_at(at.min(rows.len()));
    let mut around: Vec<Row> =
        before.iter().rev().take(FAR).filter(same).take(each_side).copied().collect();
    around.reverse();
    around.extend(after.iter().take(FAR).filter(same).take(each_side + 1).copied());
    around
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_an_hour_where_that_makes_a_plot() {
        const HOUR: i64 = 3_600_000_000;
        assert_eq!(width((0, 24 * HOUR)), HOUR);
        assert_eq!(width((0, 7 * 24 * HOUR)), HOUR);
        assert_eq!(width((0, HOUR)), 60_000_000);
        assert_eq!(width((0, 90 * 24 * HOUR)), 24 * HOUR);
        assert!(i64::MAX / width((0, i64::MAX)) <= MOST_BARS);
        assert_eq!(width((5, 5)), 60_000_000);
    }

    #[test]
    fn a_records_id_says_when_it_was_made() {
        let id = crate::ids::RecordId::fresh().to_string();
        let (from, to) = record_time(&id).unwrap();
        let now = Timestamp::now().as_microsecond();
        assert!(from < now && now < to);
        assert_eq!(record_time("8d1f"), None);
    }
}
