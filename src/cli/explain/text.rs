//! The answer for people: text, with colours where a terminal shows it. Layer 6.

use std::fmt::Write as _;

use super::Verdict;
use super::prose::{self, locate};
use crate::error::Denial;
use crate::sql::account::{Account, Clause, Treatment, WHY_APART};

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    /// With ANSI escapes.
    On,
    /// Plain.
    Off,
}

/// What a word means.
#[derive(Clone, Copy)]
enum Tone {
    Good,
    Careful,
    Bad,
    Quiet,
    Strong,
}

impl Colors {
    /// On where standard output shows them.
    pub(super) fn of_standard_output() -> Self {
        if crate::cli::shows_colors() { Self::On } else { Self::Off }
    }

    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Careful => "33",
            Tone::Bad => "31;1",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        match self {
            Self::On => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Off => text.to_owned(),
        }
    }
}

/// A label and what belongs to it; the label stands before the first line only.
struct Page {
    text: String,
    colors: Colors,
}

impl Page {
    fn entries(&mut self, label: &str, entries: impl IntoIterator<Item = String>) {
        for (index, entry) in entries.into_iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            for (line_number, line) in entry.lines().enumerate() {
                let label = if line_number == 0 { label } else { "" };
                let padded = self.colors.paint(Tone::Quiet, &format!("{label:<10}"));
                let _ = writeln!(self.text, "  {padded} {line}");
            }
        }
    }
}

impl Verdict<'_> {
    /// The page.
    pub(super) fn text(&self, colors: Colors) -> String {
        let mut page = Page { text: String::new(), colors };
        let headline = match self.decision() {
            "rewrite" => colors.paint(Tone::Good, "rewritten"),
            "allow" => colors.paint(Tone::Good, "allowed as is"),
            _ => colors.paint(Tone::Bad, "denied"),
        };
        let _ = writeln!(page.text, "{headline}");
        page.entries("original", [printable(self.original)]);
        match &self.explanation.verdict {
            Err(refusal) => self.denial(&mut page, &refusal.denial),
            Ok(_) => {
                if let Some(denial) = self.would_deny() {
                    let note = "would be denied, were that not only monitored";
                    page.entries("monitored", [colors.paint(Tone::Careful, note)]);
                    self.denial(&mut page, denial);
                }
                page.entries("sent", self.sent().map(|sent| printable(&sent)));
            }
        }
        let relations = self.relations().into_iter().map(|named| match &named.rule {
            Some(rule) => format!("{} (rule {rule})", named.relation),
            None => format!("{} ({})", named.relation, colors.paint(Tone::Bad, "no rule")),
        });
        page.entries("relations", relations.collect::<Vec<_>>());
        if !self.denied() {
            for account in &self.explanation.accounts {
                account_of(&mut page, account);
            }
            let rewritten = self.decision() == "rewrite";
            if self.offline && rewritten {
                let note = "no catalog: types of columns are not known, so that more is guarded than with \
                            --live or --catalog";
                page.entries("note", [colors.paint(Tone::Quiet, note)]);
            }
        }
        page.text
    }

    fn denial(&self, page: &mut Page, denial: &Denial) {
        let colors = page.colors;
        page.entries("code", [colors.paint(Tone::Strong, denial.code.code())]);
        page.entries("reason", [prose::short(denial)]);
        page.entries("what", [prose::what(denial)]);
        let count = self.explanation.accounts.len();
        let statement = if count > 1 { format!("statement {count}, ") } else { String::new() };
        if let Some(place) = locate(self.original, denial.object.as_deref()) {
            let line = self.original.lines().nth(place.line - 1).unwrap_or_default();
            let caret = " ".repeat(place.column - 1) + &"^".repeat(place.length);
            page.entries(
                "where",
                [format!(
                    "{statement}line {}, column {}\n{}\n{}",
                    place.line,
                    place.column,
                    printable(line),
                    colors.paint(Tone::Bad, &caret)
                )],
            );
        } else if count > 1 {
            page.entries("where", [format!("statement {count}")]);
        }
        page.entries("hint", [denial.code.hint().to_owned()]);
    }
}

fn account_of(page: &mut Page, account: &Account) {
    let colors = page.colors;
    let guards = account.guards.iter().map(|guard| {
        let named = if guard.visible == guard.relation.name {
            guard.relation.to_string()
        } else {
            format!("{} as {}", guard.relation, guard.visible)
        };
        format!(
            "{named}: {}\n{}",
            printable(&guard.condition),
            colors
                .paint(Tone::Quiet, &format!("  in {}: {}", guard.place.word(), guard.place.why()))
        )
    });
    page.entries("guards", guards.collect::<Vec<_>>());
    let barriers = account
        .barriers
        .iter()
        .map(|barrier| format!("{} by {}: {WHY_APART}", barrier.query, barrier.form.word()));
    page.entries("apart", barriers.collect::<Vec<_>>());
    let conjuncts = account.conjuncts.iter().map(|conjunct| {
        let having = match conjunct.clause {
            Clause::Condition => "",
            Clause::Having => "HAVING ",
        };
        let text = printable(&conjunct.text);
        match &conjunct.treatment {
            Treatment::Total => {
                format!("{} {having}{text}", colors.paint(Tone::Good, "total  "))
            }
            Treatment::Shielded(why) => format!(
                "{} {having}{text}\n        {}",
                colors.paint(Tone::Careful, "guarded"),
                colors.paint(Tone::Quiet, &why.to_string())
            ),
            Treatment::Unexposed(why) => format!(
                "{} {having}{text}\n        {}",
                colors.paint(Tone::Quiet, "free   "),
                colors.paint(Tone::Quiet, &format!("meets no other tenant's row ({why})"))
            ),
        }
    });
    page.entries("conditions", conjuncts.collect::<Vec<_>>());
    let written = account
        .written
        .iter()
        .map(|written| format!("{}.{}: {}", written.relation, written.column, written.demand));
    page.entries("written", written.collect::<Vec<_>>());
}

/// SQL for a terminal: no control characters but line ends, which could move the cursor.
fn printable(sql: &str) -> String {
    sql.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_escapes_and_plain_text_has_none() {
        assert_eq!(Colors::Off.paint(Tone::Bad, "x"), "x");
        assert_eq!(Colors::On.paint(Tone::Good, "x"), "\u{1b}[32mx\u{1b}[0m");
    }

    #[test]
    fn a_statement_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a [2Jb\nc");
    }
}
