//! The plot over time: numbers to rectangles. Layer 5, pure.

use crate::console::query::{Query, Show};
use crate::console::select::{Bar, Selection};
use crate::console::text::{count, moment, number};

/// The plot's size, in its own units.
const WIDTH: f64 = 1_160.0;
const HEIGHT: f64 = 190.0;
/// Room for the scale.
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 22.0;
const TOP: f64 = 8.0;
/// Least height of a part that is there at all.
const LEAST: f64 = 2.0;

/// The plot, ready to be drawn.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) description: String,
    pub(super) width: String,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) scale_x: f64,
    pub(super) tick_y: f64,
    pub(super) base: String,
    pub(super) step: String,
    pub(super) inner: String,
    pub(super) has_crossing: bool,
    pub(super) has_refused: bool,
    pub(super) refused_name: &'static str,
    pub(super) has_other: bool,
    pub(super) bars: Vec<BarView>,
    pub(super) lines: Vec<Line>,
    pub(super) ticks: Vec<Tick>,
}

/// One bar.
pub(super) struct BarView {
    pub(super) link: String,
    pub(super) title: String,
    pub(super) from: String,
    pub(super) x: String,
    pub(super) inner_x: String,
    pub(super) parts: Vec<Part>,
    pub(super) empty: bool,
    pub(super) total: String,
    pub(super) refused: String,
    pub(super) crossing: String,
}

/// A part of a bar.
pub(super) struct Part {
    pub(super) class: &'static str,
    pub(super) y: String,
    pub(super) height: String,
}

/// A line of the scale.
pub(super) struct Line {
    pub(super) y: f64,
    pub(super) text_y: f64,
    pub(super) text: String,
}

/// A word below the bars.
pub(super) struct Tick {
    pub(super) x: String,
    pub(super) text: String,
}

/// Draws the bars of a selection; each is a link to its span of time.
pub(super) fn plot(selection: &Selection, query: &Query) -> Plot {
    let bars = if selection.tally.total == 0 { &[] } else { selection.bars.as_slice() };
    let highest = bars.iter().map(|bar| bar.tally.total).max().unwrap_or(0).max(1);
    let top = nice(highest);
    let base = HEIGHT - BOTTOM;
    let step = (WIDTH - LEFT) / bars.len().max(1) as f64;
    let inner = (step * 0.78).clamp(0.5, 36.0);
    let scale = (base - TOP) / top as f64;
    let each = span_name(selection.bar_seconds);
    let what = match query.show {
        Show::Denied => "Denied",
        Show::CrossTenant => "Cross-tenant attempts",
        Show::WouldDeny => "Would have been denied",
        Show::SignIn => "Refused sign-ins",
        Show::Errors => "Errors and gaps",
        Show::Allowed => "Allowed",
        Show::Everything => "Records",
    };
    let views = (0..).zip(bars).map(|(index, bar)| {
        let x = LEFT + f64::from(index) * step;
        let mut parts = Vec::new();
        let mut above = base;
        let crossing = bar.tally.crossing;
        for (class, value) in [
            ("crossing", crossing),
            ("refused", bar.refused.saturating_sub(crossing)),
            ("other", bar.tally.total.saturating_sub(bar.refused.max(crossing))),
        ] {
            if value > 0 {
                let height = (value as f64 * scale).max(LEAST);
                above -= height;
                parts.push(Part { class, y: place(above), height: place(height) });
            }
        }
        view(bar, selection.bar_seconds, query, x, (step, inner), parts)
    });
    let bars_view: Vec<BarView> = views.collect();
    let refused: u64 = bars.iter().map(|bar| bar.refused.saturating_sub(bar.tally.crossing)).sum();
    let other: u64 = bars.iter().map(|bar| bar.tally.total.saturating_sub(bar.refused)).sum();
    Plot {
        title: format!("{what} by {each}"),
        description: describe(selection, bars, &each),
        width: place(WIDTH),
        height: HEIGHT,
        left: LEFT,
        scale_x: LEFT - 6.0,
        tick_y: HEIGHT - 4.0,
        base: place(base),
        step: place(step),
        inner: place(inner),
        has_crossing: selection.tally.crossing > 0,
        has_refused: refused > 0,
        refused_name: if selection.tally.crossing > 0 { "other denials" } else { "denied" },
        has_other: other > 0,
        lines: [0, top / 2, top]
            .into_iter()
            .filter(|value| *value == 0 || top > 1 || *value == top)
            .map(|value| {
                let y = (base - value as f64 * scale).round();
                Line { y, text_y: y + 4.0, text: number(value) }
            })
            .collect(),
        ticks: ticks(bars, step, selection.bar_seconds),
        bars: bars_view,
    }
}

fn view(
    bar: &Bar,
    seconds: i64,
    query: &Query,
    x: f64,
    (step, inner): (f64, f64),
    parts: Vec<Part>,
) -> BarView {
    let until = bar.from.saturating_add(seconds.saturating_mul(1_000_000));
    let from = moment(bar.from, "%Y-%m-%d %H:%M");
    let mut title = format!("{from}: {}", count(bar.tally.total, "record", "records"));
    if bar.tally.crossing > 0 {
        title.push_str(&format!(", {} cross-tenant", number(bar.tally.crossing)));
    }
    BarView {
        link: query.during(bar.from, until).link("/"),
        title,
        from,
        x: place(x),
        inner_x: place(x + (step - inner) / 2.0),
        empty: parts.is_empty(),
        parts,
        total: number(bar.tally.total),
        refused: number(bar.refused),
        crossing: number(bar.tally.crossing),
    }
}

fn describe(selection: &Selection, bars: &[Bar], each: &str) -> String {
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return String::new() };
    let highest = bars.iter().max_by_key(|bar| bar.tally.total);
    let highest = highest.map_or_else(String::new, |bar| {
        format!(
            "; most in the {each} from {}: {}",
            moment(bar.from, "%Y-%m-%d %H:%M"),
            number(bar.tally.total)
        )
    });
    format!(
        "{} from {} to {}, of which {} are cross-tenant attempts{highest}. A table follows.",
        count(selection.tally.total, "record", "records"),
        moment(first.from, "%Y-%m-%d %H:%M"),
        moment(last.from, "%Y-%m-%d %H:%M"),
        number(selection.tally.crossing)
    )
}

fn span_name(seconds: i64) -> String {
    match seconds {
        60 => "minute".to_owned(),
        3_600 => "hour".to_owned(),
        86_400 => "day".to_owned(),
        604_800 => "week".to_owned(),
        ..=3_599 => format!("{} minutes", seconds / 60),
        3_601..=86_399 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Some eight words below the bars.
fn ticks(bars: &[Bar], step: f64, seconds: i64) -> Vec<Tick> {
    let every = bars.len().div_ceil(12).max(1);
    // Round hours and whole days are easier to read.
    let every = [1, 2, 3, 4, 6, 12, 24, 48].into_iter().find(|&e| e >= every).unwrap_or(every);
    let format = if seconds >= 86_400 { "%d %b" } else { "%H:%M" };
    let mut day = String::new();
    (0_u32..)
        .zip(bars)
        .filter(|(index, bar)| {
            let hours = bar.from.div_euclid(3_600_000_000);
            match seconds {
                3_600 => hours.rem_euclid(every as i64) == 0,
                _ => (*index as usize).is_multiple_of(every),
            }
        })
        .map(|(index, bar)| {
            let mut text = moment(bar.from, format);
            let today = moment(bar.from, "%d %b");
            if seconds < 86_400 && today != day {
                day = today;
                text = format!("{day} {text}");
            }
            let x = (LEFT + (f64::from(index) + 0.5) * step).min(WIDTH - 30.0);
            Tick { x: place(x), text }
        })
        .collect()
}

/// The next round number.
fn nice(value: u64) -> u64 {
    let mut scale = 1_u64;
    loop {
        for step in [1, 2, 4, 6, 10] {
            let candidate = scale.saturating_mul(step);
            if candidate >= value {
                return candidate;
            }
        }
        scale = scale.saturating_mul(10);
    }
}

/// A coordinate with one digit behind the point.
fn place(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::select::Tally;

    #[test]
    fn scales_end_at_round_numbers() {
        for (value, round) in [(0, 1), (1, 1), (3, 4), (7, 10), (11, 20), (61, 100), (999, 1_000)] {
            assert_eq!(nice(value), round);
        }
        assert_eq!(nice(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_bar_stays_on_the_plot_and_links_to_its_hour() {
        let bar = Bar { from: 0, tally: Tally { total: 5, crossing: 2 }, refused: 4 };
        let selection = Selection {
            bars: vec![bar, Bar { from: 3_600_000_000, ..Bar::default() }],
            bar_seconds: 3_600,
            tally: bar.tally,
            ..Selection::default()
        };
        let plot = plot(&selection, &Query::default());
        assert_eq!(plot.title, "Denied by hour");
        assert!(plot.bars[0].link.contains("since=1970-01-01T00%3A00%3A00Z&until=1970-01-01T01"));
        assert_eq!(plot.bars[0].parts.len(), 3);
        assert!(plot.bars[1].empty);
        let y: f64 = plot.bars[0].parts[2].y.parse().unwrap();
        assert!(y >= 0.0);
        assert!(plot.description.contains("2 are cross-tenant"));
        assert!(super::plot(&Selection::default(), &Query::default()).bars.is_empty());
    }
}
