//! `docs/mutants.md`: written by `make mutants`, held by `make test`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::list::{List, Part, Rewriter};
use crate::suites::Suites;

const HEAD: &str = "# Seeded faults\n\n\
    <!-- Written by `make mutants` (tests/mutants); do not edit. -->\n\n\
    Each row is a fault that can be planted in a debug build (`src/mutant.rs`; a release refuses to\n\
    compile with it), and what catches it. A fault that nothing caught would be a hole in the tests.\n";

const REWRITER: &str = "\n## Rewriter\n\n\
    The checker reads what the rewriter wrote and shares nothing with it: a fault of the rewriter alone\n\
    reaches no database. To show that the tests would notice if it did, the same fault is planted with\n\
    the checker switched off: then the attacks (`tests/attacks`, without row-level security) and the\n\
    noninterference oracle (`tests/oracle`) must meet the leak or the wrong answer on a real server.\n\n\
    | fault | what breaks | caught by the checker | attacks, checker off | oracle, checker off |\n\
    |---|---|---|---|---|\n";

/// What catches a fault that nothing catches.
const NOTHING: &str = "**nothing**";
/// Suites that run at once.
const WORKERS: usize = 3;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/mutants.md")
}

/// Plants every fault under the suites and writes the table; what was not caught.
/// `HEDGEROW_MUTANTS_ONLY` names those that are planted, with commas between; `new` are those that
/// the table does not have. The others keep their rows.
pub fn write(list: &List, suites: &Suites) -> Vec<String> {
    let only = std::env::var("HEDGEROW_MUTANTS_ONLY").unwrap_or_default();
    let known = std::fs::read_to_string(file()).unwrap_or_default();
    let row_of = |fault: &str| {
        let start = format!("| `{fault}` | ");
        let row = known.lines().find(|line| line.starts_with(&start))?;
        let wanted = only.is_empty() || only.split(',').any(|name| name == fault);
        (!wanted).then(|| format!("{row}\n"))
    };
    let mut wrong = Vec::new();
    let mut page = format!("{HEAD}{REWRITER}");
    let without = Alone::of("checker-off", suites);
    for row in side_by_side(&list.rewriter, |fault| {
        row_of(&fault.fault).unwrap_or_else(|| rewriter_row(fault, &without, suites))
    }) {
        page.push_str(&row);
        if row.contains(NOTHING) {
            wrong.push(row);
        }
    }
    for part in list.parts() {
        let _ = write!(
            page,
            "\n## {}\n\n| fault | what breaks | caught by |\n|---|---|---|\n",
            part.title
        );
        for row in side_by_side(part.faults, |fault| {
            row_of(&fault.fault).unwrap_or_else(|| {
                let caught = catcher(&fault.fault, &part, suites);
                let caught = caught.unwrap_or_else(|| NOTHING.to_owned());
                println!("{}: {caught}", fault.fault);
                format!("| `{}` | {} | {caught} |\n", fault.fault, fault.breaks)
            })
        }) {
            page.push_str(&row);
            if row.contains(NOTHING) {
                wrong.push(row);
            }
        }
    }
    std::fs::write(file(), page).unwrap();
    wrong
}

/// Tests that fail with the checker off and nothing else planted: they are about the checker, and say
/// nothing of the rewriter's faults.
struct Alone(Vec<String>);

impl Alone {
    fn of(fault: &str, suites: &Suites) -> Self {
        let failed = side_by_side(&REWRITERS_OTHERS, |(suite, filters)| {
            suites.run(suite, fault, filters, false).failed
        });
        Self(failed.concat())
    }
}

/// What meets a fault of the rewriter that is no leak: tests of what applications see, or of what is
/// sent.
const REWRITERS_OTHERS: [(&str, &[&str]); 3] =
    [("regressions", &[]), ("unit", &["sql::"]), ("integration", &[])];

/// What `make` gives for each item, in order; several at once, for suites mostly wait.
fn side_by_side<T: Sync, R: Send>(items: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let made = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _worker in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = make(item);
                    made.lock().unwrap().push((at, result));
                }
            });
        }
    });
    let mut made = made.into_inner().unwrap();
    made.sort_by_key(|(at, _)| *at);
    made.into_iter().map(|(_, result)| result).collect()
}

fn rewriter_row(fault: &Rewriter, without: &Alone, suites: &Suites) -> String {
    let planted = format!("{},checker-off", fault.fault);
    let test = "every_known_attack_fails_or_is_listed_as_open";
    let attacks = suites.run("attacks", &planted, &[test], true);
    let known = attacks_of(&attacks.output);
    let attacks = match known.as_slice() {
        _ if attacks.passed => "–".to_owned(),
        [] => "the suite fails".to_owned(),
        [first] => first.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    };
    let before = "what_the_oracle_found_before_stays_found";
    let any = "a_statement_of_a_cannot_tell_whether_others_have_rows";
    let oracle = if !suites.run("oracle", &planted, &[before], true).passed {
        "what it found before"
    } else if !suites.run("oracle", &planted, &[any], true).passed {
        "generated statements"
    } else {
        "–"
    };
    let mut others = String::new();
    if attacks == "–" && oracle == "–" {
        others = REWRITERS_OTHERS
            .into_iter()
            .find_map(|(suite, filters)| {
                let failed = suites.run(suite, &planted, filters, false).failed;
                let test = failed.into_iter().find(|test| !without.0.contains(test))?;
                Some(format!("; {suite}: `{test}`"))
            })
            .unwrap_or_default();
        if others.is_empty() {
            others = format!("; {NOTHING}");
        }
    }
    let checker = match &fault.unseen {
        None => "yes".to_owned(),
        Some(why) => format!("no: {why}"),
    };
    println!("{}: {attacks} | {oracle}{others}", fault.fault);
    let Rewriter { fault, breaks, .. } = fault;
    format!("| `{fault}` | {breaks} | {checker} | {attacks} | {oracle}{others} |\n")
}

/// The entries that failed, in order, each once.
fn attacks_of(output: &str) -> Vec<String> {
    let mut found: Vec<String> = output
        .lines()
        .filter_map(|line| line.strip_prefix("FAILS "))
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    found.dedup();
    found
}

/// The first test that fails under a fault, cheapest suite first.
fn catcher(fault: &str, part: &Part<'_>, suites: &Suites) -> Option<String> {
    for tests in part.units {
        let unit = suites.run("unit", fault, &[tests], false);
        if let Some(test) = unit.failed.first() {
            return Some(format!("unit: `{test}`"));
        }
        if !unit.passed {
            return Some("unit: the suite does not end".to_owned());
        }
    }
    for suite in ["regressions", "attacks", "integration", "oracle"] {
        let outcome = suites.run(suite, fault, &[], false);
        let attack = attacks_of(&outcome.output).into_iter().next();
        if let (false, Some(attack)) = (outcome.passed, attack) {
            return Some(format!("attacks: {attack}"));
        }
        if let Some(test) = outcome.failed.first() {
            return Some(format!("{suite}: `{test}`"));
        }
    }
    None
}

/// The table holds every fault and nothing else, each caught; and a unit test that it names for a
/// fault fails under that fault.
pub fn hold(list: &List, suites: &Suites) -> Vec<String> {
    let page = std::fs::read_to_string(file()).unwrap_or_default();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let named: Vec<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let parts = list.parts();
    let others = parts.iter().flat_map(|part| part.faults.iter().map(|fault| &fault.fault));
    let known: Vec<&String> =
        list.rewriter.iter().map(|fault| &fault.fault).chain(others).collect();
    let mut wrong = Vec::new();
    if !named.iter().eq(known) {
        wrong.push("docs/mutants.md lists other faults than mutants.yaml: make mutants".to_owned());
    }
    for (fault, row) in named.iter().zip(&rows) {
        if row.iter().any(|cell| cell.contains(NOTHING)) {
            wrong.push(format!("{fault}: docs/mutants.md says that nothing caught it"));
        }
        let unit = row.last().and_then(|cell| cell.strip_prefix("unit: `")?.strip_suffix('`'));
        if let Some(test) = unit {
            let outcome = suites.run("unit", fault, &[test], true);
            if outcome.passed || outcome.failed.is_empty() {
                wrong.push(format!("{fault}: {test} does not catch it any more"));
            }
        }
    }
    wrong
}
