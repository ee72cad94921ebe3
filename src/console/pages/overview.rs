//! The home page: what was denied, by whom, when, and where it stands out. Layer 5.

use askama::Template;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use jiff::Timestamp;

use super::plot::{Plot, plot};
use super::rows::{self, RowView, address, place, said, shorten, views};
use super::{Frame, failure, html};
use crate::console::State;
use crate::console::http::Viewer;
use crate::console::index::{Index, Names, code_crosses};
use crate::console::query::{Query, Show, WINDOWS};
use crate::console::records::Files;
use crate::console::select::{Group, PAGE, Selection, Tally, record_time, select};
use crate::console::text::{count, number, pairs, second};
use crate::console::watch::read;
use crate::console::why;

/// A page, or where to look instead.
pub(in crate::console) enum Answer {
    Page(Response),
    Elsewhere(String),
}

struct Chip {
    text: &'static str,
    link: String,
    on: bool,
}

struct Active {
    name: &'static str,
    value: String,
    link: String,
}

struct Tile {
    class: &'static str,
    value: String,
    name: &'static str,
    link: String,
}

struct List {
    id: &'static str,
    title: &'static str,
    rows: Vec<ListRow>,
    more: usize,
}

struct ListRow {
    name: String,
    title: String,
    sub: &'static str,
    link: String,
    width: String,
    crossing_width: String,
    crossing: bool,
    count: String,
}

struct GroupView {
    count: String,
    link: String,
    newest_link: String,
    statement: String,
    said: String,
    fingerprint: String,
    codes: Vec<String>,
    tenants: String,
    first: String,
    last: String,
    crosses: bool,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    heading: String,
    total: String,
    search: String,
    hidden: Vec<(&'static str, String)>,
    shows: Vec<Chip>,
    windows: Vec<Chip>,
    filters: Vec<Active>,
    problem: Option<String>,
    tiles: Vec<Tile>,
    plot: Plot,
    lists: Vec<List>,
    grouped: bool,
    groups: Vec<GroupView>,
    rows: Vec<RowView>,
    nothing: &'static str,
    newest: String,
    live_link: String,
    flat_link: String,
    group_link: String,
    csv_link: String,
    json_link: String,
    here_link: String,
    newest_link: Option<String>,
    older_link: Option<String>,
    searched: Option<String>,
    search_on: Option<String>,
    left_out: Option<String>,
}

/// Answers the home page and every narrower form of it.
pub(in crate::console) fn overview(state: &State, viewer: &Viewer, query: &Query) -> Answer {
    let shared = &state.watch.shared;
    let (selection, problem) = match select(shared, query, Timestamp::now()) {
        Ok(selection) => (selection, None),
        Err(problem) => (Selection::default(), Some(problem)),
    };
    let index = read(&shared.index);
    // A record's id, as it stands in the client's error, leads to the record.
    if query.search.as_deref().is_some_and(|text| record_time(text).is_some())
        && let [row] = selection.rows.as_slice()
        && let Some((segment, _, chain)) = place(&index, row)
    {
        return Answer::Elsewhere(address(chain, segment.number, row.line));
    }
    let mut files = Files::default();
    let page = match (query.grouped, query.show) {
        (true, _) => "statements",
        (false, Show::Everything) => "all",
        (false, _) => "records",
    };
    let newest = index.rows().last().map(|row| format!("{}.{}.{}", row.time, row.file, row.line));
    let flat = query.with(|query| query.grouped = false);
    let grouped = query.with(|query| query.grouped = true);
    let overview = Overview {
        frame: Frame::new(state, viewer, page),
        heading: heading(query),
        total: count(selection.tally.total, "record", "records"),
        search: query.search.clone().unwrap_or_default(),
        hidden: pairs(&query.with(|query| query.search = None).text())
            .into_iter()
            .filter_map(|(name, value)| {
                let known = [
                    "show", "tenant", "code", "service", "source", "fp", "session", "since",
                    "until", "by",
                ];
                known.into_iter().find(|known| *known == name).map(|name| (name, value))
            })
            .collect(),
        shows: Show::ALL
            .iter()
            .map(|(show, _, text)| Chip {
                text,
                link: query.with(|query| query.show = *show).link("/"),
                on: query.show == *show,
            })
            .collect(),
        windows: windows(query),
        filters: filters(query),
        problem,
        tiles: tiles(&selection, query),
        plot: plot(&selection, query),
        lists: if query.grouped { Vec::new() } else { lists(&selection, query) },
        grouped: query.grouped,
        groups: selection
            .groups
            .iter()
            .filter_map(|group| group_view(&index, group, query, &mut files))
            .collect(),
        rows: views(&index, &selection.rows, query, &mut files),
        nothing: nothing(query, index.rows().is_empty()),
        newest: newest.unwrap_or_else(|| "0.0.0".to_owned()),
        live_link: query.with(|_| ()).link("/rows"),
        flat_link: flat.link("/"),
        group_link: grouped.link("/"),
        csv_link: flat.link("/export.csv"),
        json_link: flat.link("/export.jsonl"),
        here_link: query.link("/"),
        newest_link: query.before.map(|_| query.with(|_| ()).link("/")),
        older_link: selection.older.map(|cursor| {
            let older = Query { before: Some(cursor), ..query.clone() };
            older.link("/")
        }),
        searched: selection
            .searched_to
            .map(|time| format!("The search came as far back as {} in its time.", second(time))),
        search_on: selection.searched_to.map(|time| {
            let before = Some((time, u32::MAX, u32::MAX));
            Query { before, ..query.clone() }.link("/")
        }),
        left_out: left_out(state, &index),
    };
    Answer::Page(html(StatusCode::OK, &overview))
}

/// What the bound of memory kept out of the index.
fn left_out(state: &State, index: &Index) -> Option<String> {
    let skipped = state.watch.shared.progress.skipped();
    if index.dropped == 0 && skipped == 0 {
        return None;
    }
    let oldest = index.rows().first().map(|row| second(row.time)).unwrap_or_default();
    Some(format!(
        "The index holds the newest {}, from {oldest} on: its bound of memory is reached ({} older and {} \
         are not in it, and not in these counts). They are verified all the same; start the console \
         with more --memory to see them.",
        count(index.rows().len() as u64, "record", "records"),
        count(index.dropped, "record", "records"),
        count(skipped, "older segment", "older segments"),
    ))
}

fn heading(query: &Query) -> String {
    let what = match query.show {
        Show::Denied => "Denied queries",
        Show::CrossTenant => "Cross-tenant attempts",
        Show::WouldDeny => "Would have been denied",
        Show::SignIn => "Refused sign-ins",
        Show::Errors => "Errors and gaps",
        Show::Allowed => "Allowed",
        Show::Everything => "All records",
    };
    if query.grouped { format!("{what}, by statement") } else { what.to_owned() }
}

const fn nothing(query: &Query, empty: bool) -> &'static str {
    match (empty, query.show) {
        (true, _) => "There are no records yet. The console looks for new ones every second.",
        (false, Show::Denied) => {
            "Nothing was denied here. Widen the window, or look at all records."
        }
        (false, Show::CrossTenant) => "No attempt on another tenant here.",
        (false, _) => "No record matches.",
    }
}

fn windows(query: &Query) -> Vec<Chip> {
    WINDOWS
        .iter()
        .map(|(since, text)| Chip {
            text,
            on: query.until.is_none() && query.since.as_deref().unwrap_or("") == *since,
            link: query
                .with(|query| {
                    query.since = (!since.is_empty()).then(|| (*since).to_owned());
                    query.until = None;
                })
                .link("/"),
        })
        .collect()
}

/// The filters that hold, each with the link that takes it away.
fn filters(query: &Query) -> Vec<Active> {
    let mut active = Vec::new();
    let mut put = |name, value: &Option<String>, change: &dyn Fn(&mut Query)| {
        if let Some(value) = value {
            let shown = if value.is_empty() { "none".to_owned() } else { value.clone() };
            let link = query.with(|query| change(query)).link("/");
            active.push(Active { name, value: shown, link });
        }
    };
    put("tenant", &query.tenant, &|query| query.tenant = None);
    put("rule", &query.code, &|query| query.code = None);
    put("service", &query.service, &|query| query.service = None);
    put("chain", &query.source, &|query| query.source = None);
    put("statement", &query.fingerprint, &|query| query.fingerprint = None);
    put("session", &query.session, &|query| query.session = None);
    put("text", &query.search, &|query| query.search = None);
    if !WINDOWS.iter().any(|(window, _)| query.since.as_deref() == Some(*window)) {
        put("from", &query.since, &|query| query.since = None);
    }
    put("until", &query.until, &|query| query.until = None);
    active
}

fn tiles(selection: &Selection, query: &Query) -> Vec<Tile> {
    let show = |show| query.with(|query| query.show = show).link("/");
    let crossing = selection.tally.crossing;
    let first = match query.show {
        Show::Denied => "denied",
        _ => "records",
    };
    vec![
        Tile {
            class: "",
            value: number(selection.tally.total),
            name: first,
            link: query.with(|_| ()).link("/"),
        },
        Tile {
            class: if crossing > 0 { "alarm" } else { "calm" },
            value: number(crossing),
            name: "cross-tenant attempts",
            link: show(Show::CrossTenant),
        },
        Tile {
            class: "",
            value: number(selection.distinct.0 as u64),
            name: "tenants involved",
            link: query.with(|_| ()).link("/"),
        },
        Tile {
            class: "",
            value: number(selection.distinct.1 as u64),
            name: "services involved",
            link: query.with(|_| ()).link("/"),
        },
        Tile {
            class: if selection.would_deny > 0 { "warn" } else { "calm" },
            value: number(selection.would_deny),
            name: "only monitored",
            link: show(Show::WouldDeny),
        },
    ]
}

fn lists(selection: &Selection, query: &Query) -> Vec<List> {
    let list = |id,
                title,
                counted: &[(String, Tally)],
                distinct: usize,
                none: &str,
                change: &dyn Fn(&mut Query, &str),
                sub: &dyn Fn(&str) -> &'static str| {
        let highest = counted.first().map_or(1, |(_, tally)| tally.total).max(1);
        let share = |value: u64| format!("{:.1}", value as f64 * 100.0 / highest as f64);
        let rows = counted.iter().map(|(name, tally)| ListRow {
            name: if name.is_empty() { none.to_owned() } else { name.clone() },
            title: name.clone(),
            sub: sub(name),
            link: query.with(|query| change(query, name)).link("/"),
            width: share(tally.total),
            crossing_width: share(tally.crossing),
            // Mostly so: one attempt among a hundred mistakes is not what the name stands for.
            crossing: tally.crossing * 2 > tally.total,
            count: number(tally.total),
        });
        List { id, title, rows: rows.collect(), more: distinct.saturating_sub(counted.len()) }
    };
    let nothing = |_: &str| "";
    vec![
        list(
            "by-tenant",
            "By tenant",
            &selection.tenants,
            selection.distinct.0,
            "no tenant",
            &|query, name| query.tenant = Some(name.to_owned()),
            &nothing,
        ),
        list(
            "by-rule",
            "By rule",
            &selection.codes,
            0,
            "no denial",
            &|query, name| {
                query.code = Some(name.to_owned()).filter(|name| !name.is_empty());
            },
            &why::reason,
        ),
        list(
            "by-service",
            "By service",
            &selection.services,
            selection.distinct.1,
            "unnamed",
            &|query, name| query.service = Some(name.to_owned()),
            &nothing,
        ),
    ]
}

fn group_view(index: &Index, group: &Group, query: &Query, files: &mut Files) -> Option<GroupView> {
    let row = &group.newest;
    let (segment, _, chain) = place(index, row)?;
    let found = files.record(row.file, &segment.path, row.offset);
    let column = |name| found.as_ref().map(|found| found.column(name)).unwrap_or_default();
    let fingerprint = column("fingerprint");
    let codes: Vec<String> = group
        .codes
        .iter()
        .map(|code| index.tables.codes.name(u32::from(*code)).to_owned())
        .filter(|code| !code.is_empty())
        .collect();
    let narrower = query.with(|query| {
        query.grouped = false;
        if fingerprint.is_empty() {
            query.code = codes.first().cloned();
        } else {
            query.fingerprint = Some(fingerprint.clone());
        }
    });
    let tenants = group.tenants.iter().filter(|tenant| **tenant != Names::NONE).count();
    let more = if group.tenants.len() == Group::MOST_TENANTS { "+" } else { "" };
    Some(GroupView {
        count: number(group.tally.total),
        link: narrower.link("/"),
        newest_link: address(chain, segment.number, row.line),
        statement: shorten(&column("statement")),
        said: match &found {
            Some(found) => said(found, row),
            None => "The newest record can no longer be read.".to_owned(),
        },
        fingerprint,
        tenants: format!("{}{more}", number(tenants as u64)),
        first: second(group.first),
        last: second(row.time),
        crosses: group.tally.crossing > 0 || codes.iter().any(|code| code_crosses(code)),
        codes,
    })
}

#[derive(Template)]
#[template(path = "fresh.html")]
struct Fresh {
    rows: Vec<RowView>,
}

/// The rows that came since the cursor in `after`, for the live view: at most a page, and in a
/// header the cursor to go on from.
pub(in crate::console) fn fresh_rows(state: &State, text: &str) -> Response {
    let after = pairs(text).into_iter().find(|(name, _)| name == "after").map(|(_, after)| after);
    let after = after.and_then(|after| Query::read(&format!("before={after}")).before);
    let Some(after) = after else {
        return failure(StatusCode::BAD_REQUEST, "The place to go on from is missing.");
    };
    let query = Query { before: None, grouped: false, ..Query::read(text) };
    let now = Timestamp::now();
    let newer = Query {
        // The window's beginning moves on by itself; only what is newer is looked at.
        since: Some(crate::console::text::rfc3339(after.0)),
        ..query.clone()
    };
    let selection = match select(&state.watch.shared, &newer, now) {
        Ok(selection) => selection,
        Err(problem) => return failure(StatusCode::BAD_REQUEST, &problem),
    };
    let index = read(&state.watch.shared.index);
    let mut files = Files::default();
    let fresh: Vec<_> =
        selection.rows.iter().filter(|row| row.key() > after).take(PAGE).copied().collect();
    let newest = index.rows().last().map_or(after, |row| row.key()).max(after);
    let rows = rows::views(&index, &fresh, &query, &mut files);
    let mut response = html(StatusCode::OK, &Fresh { rows });
    let newest = format!("{}.{}.{}", newest.0, newest.1, newest.2);
    if let Ok(value) = HeaderValue::from_str(&newest) {
        response.headers_mut().insert(HeaderName::from_static("x-newest"), value);
    }
    response
}
