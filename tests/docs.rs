//! Documents that follow from the code: rendered here, compared with the files. After a change in
//! the code, `HEDGEROW_BLESS=1 cargo test --test docs` writes them anew.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hedgerow::admin::{Kind, METRICS};
use hedgerow::error::{Denial, DenialCode};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a rendered document with its file, or writes it.
fn hold(path: &str, rendered: &str) {
    let file = root().join(path);
    if std::env::var_os("HEDGEROW_BLESS").is_some() {
        std::fs::write(&file, rendered).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == rendered,
        "{path} does not match the code; write it anew with HEDGEROW_BLESS=1 cargo test --test docs"
    );
}

/// Families of denial codes, by their first digit.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("HR1", "Statement", "What a statement asks for is not allowed. Nothing of it ran."),
    (
        "HR2",
        "Identity",
        "The token does not say, or does not prove, who is calling. At sign-in the error is `FATAL`, with \
         `28P01` where the token came as the password.",
    ),
    ("HR3", "Quota", "The tenant has used up what it may use."),
    (
        "HR4",
        "Audit and internal",
        "Hedgerow could not do its own part, and so let nothing through.",
    ),
    (
        "HR5",
        "BigQuery",
        "A request that BigQuery's API knows and tenants may not send. It is answered with HTTP 403, \
         `accessDenied`; HR5007 with 404, `notFound`, as for an object that never was.",
    ),
];

fn denial_codes() -> String {
    let mut page = String::from(
        "# Denial codes\n\n\
         <!-- Rendered from src/error.rs by tests/docs.rs; do not edit. -->\n\n\
         A denial reaches the application as an ordinary PostgreSQL error:\n\n\
         | field | holds |\n|---|---|\n\
         | severity | `ERROR` (`FATAL` where the connection ends) |\n\
         | SQLSTATE | as in the tables below |\n\
         | message | `hedgerow: ` and the reason |\n\
         | detail | the code, and the object in the client's own spelling |\n\
         | hint | what to do about it, and the id of the audit record |\n\n\
         Codes are public interface: a number is never used again for something else.\n",
    );
    for (prefix, title, meaning) in FAMILIES {
        let _ = write!(page, "\n## {prefix}xxx: {title}\n\n{meaning}\n\n");
        page.push_str("| code | SQLSTATE | reason | hint |\n|---|---|---|---|\n");
        for code in DenialCode::ALL.iter().filter(|code| code.code().starts_with(prefix)) {
            let state = Denial::new(*code).sqlstate().0;
            let _ = writeln!(page, "| {code} | `{state}` | {} | {} |", code.reason(), code.hint());
        }
    }
    page
}

#[test]
fn the_page_of_denial_codes_is_the_list_in_the_code() {
    hold("docs/denial-codes.md", &denial_codes());
}

#[test]
fn every_denial_code_is_unique_in_order_and_of_a_known_family() {
    let codes: Vec<&str> = DenialCode::ALL.iter().map(|code| code.code()).collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(codes, sorted);
    for code in codes {
        assert!(code.len() == 6 && FAMILIES.iter().any(|(prefix, ..)| code.starts_with(prefix)));
    }
}

fn bigquery_methods() -> String {
    use hedgerow::bigquery::routes::{COMMON_PARAMETERS, METHODS, PREFIX, Treatment};
    let code = |names: &[&str]| {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let mut page = format!(
        "# What becomes of BigQuery's API methods\n\n\
         <!-- Rendered from src/bigquery/routes.rs by tests/docs.rs; do not edit. -->\n\n\
         Every method of version 2, and the other doors of the same host. What is not in this table is \
         denied: HTTP 403, `accessDenied`, HR5001; a query parameter that is not named here is HR5002. \
         Every method takes {}; `fields` is read and not passed on, as what is answered is a list of \
         Hedgerow's own.\n\n",
        code(COMMON_PARAMETERS),
    );
    page.push_str("| treatment | methods |\n|---|---|\n");
    for treatment in [
        Treatment::Rewritten,
        Treatment::Checked,
        Treatment::Owned,
        Treatment::Filtered,
        Treatment::Answered,
        Treatment::Denied,
    ] {
        let count = METHODS.iter().filter(|method| method.treatment == treatment).count();
        let _ = writeln!(page, "| {} | {count} |", treatment.word());
    }
    page.push_str(
        "\n| method | request | becomes | about | query parameters |\n|---|---|---|---|---|\n",
    );
    for method in METHODS {
        let path = match method.path.strip_prefix('/') {
            Some(whole) => format!("/{whole}"),
            None => format!("/{PREFIX}{}", method.path),
        };
        let _ = writeln!(
            page,
            "| {} | `{} {path}` | {} | {} | {} |",
            method.id,
            method.verb,
            method.treatment.word(),
            method.about,
            code(method.parameters)
        );
    }
    page
}

#[test]
fn the_page_of_bigquery_methods_is_the_table_in_the_code() {
    hold("docs/bigquery-methods.md", &bigquery_methods());
}

fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Rendered from src/admin/recorder.rs by tests/docs.rs; do not edit. -->\n\n\
         `GET /metrics` on the admin listener, in Prometheus' text format. Counters whose labels are\n\
         known beforehand start at zero.\n\n\
         | metric | kind | unit | labels | says |\n|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {} | {} | {} |",
            metric.name,
            metric.unit.as_str(),
            labels.join(", "),
            metric.help
        );
    }
    page
}

#[test]
fn the_page_of_metrics_is_the_list_in_the_code() {
    hold("docs/metrics.md", &metrics_page());
}

#[test]
fn no_metric_is_counted_that_the_list_does_not_name() {
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for file in files_under(&root().join("src"), "rs") {
        let text = std::fs::read_to_string(&file).unwrap();
        for call in ["counter!(", "gauge!(", "histogram!("] {
            for (at, _) in text.match_indices(call) {
                let arguments = text[at + call.len()..].trim_start();
                let Some(literal) = arguments.strip_prefix('"') else { continue };
                let name = literal.split('"').next().unwrap();
                assert!(known.contains(name), "{} counts {name}", file.display());
            }
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages: Vec<PathBuf> = files_under(&root().join("docs"), "md");
    pages.extend(
        std::fs::read_dir(root())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "md")),
    );
    let mut dead = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            let path = target.split('#').next().unwrap();
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !page.parent().unwrap().join(path).exists() {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Every file with that ending below a directory.
fn files_under(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path, ending));
        } else if path.extension().is_some_and(|has| has == ending) {
            found.push(path);
        }
    }
    found
}

fn functions() -> String {
    use hedgerow::sql::postgres::functions::{FAMILIES, OPENED_BY_POLICY, Reach};
    use hedgerow::sql::postgres::totality::{
        COMPARISONS, TOTAL_FORMS, TOTAL_FUNCTIONS, TOTAL_OPERATORS, TYPES,
    };
    let code = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("`{}`", name.replace('|', "\\|"))).collect::<Vec<_>>().join(" ")
    };
    let mut page = format!(
        "# Functions\n\n\
         <!-- Rendered from src/sql/postgres/functions.rs and totality.rs by tests/docs.rs; do not edit. -->\n\n\
         What a tenant may call in `pg_catalog`, and what of it may see a row before the guard has seen whose \
         row it is. `tests/totality.rs` holds both lists against a live PostgreSQL. A function that stands \
         nowhere on this page is denied with HR1005, as are functions of other schemas unless the policy \
         allows them (`functions: {{allow: […]}}`). Of what is denied below, a policy may open, by its full \
         name, what costs time alone: {}. Any other name of `pg_catalog` in a policy is an error.\n\n\
         ## Pure and total\n\n\
         For every row a value, without an error and without an effect. Only a condition made of these \
         alone stands beside the guard, where an index can serve it; every other one stands behind the guard \
         (`CASE WHEN tenant_id = … THEN … ELSE false END`).\n\n\
         | type class | types |\n|---|---|\n",
        code(&mut OPENED_BY_POLICY.iter().copied())
    );
    for (class, names) in TYPES {
        let _ = writeln!(page, "| {class:?} | {} |", code(&mut names.iter().copied()));
    }
    page.push_str("| Array | arrays of these, but for `json` and `xml` |\n\n| form | total, because |\n|---|---|\n");
    for (form, why) in TOTAL_FORMS {
        let _ = writeln!(page, "| {} | {why} |", form.replace('|', "\\|"));
    }
    let _ = write!(
        page,
        "\n| operator | left | right | gives | total, because |\n|---|---|---|---|---|\n\
         | {} | any but Document | the same; Integer with Numeric or Float; Date, Timestamp and Timestamptz \
         with each other | Bool | any two values of these types have an order |\n",
        code(&mut COMPARISONS.iter().copied())
    );
    for listed in TOTAL_OPERATORS {
        let right: Vec<String> = listed.right.iter().map(|class| format!("{class:?}")).collect();
        let symbols = code(&mut listed.symbols.iter().copied());
        let (left, right, gives) = (listed.left, right.join(", "), listed.gives);
        let _ = writeln!(page, "| {symbols} | {left:?} | {right} | {gives:?} | {} |", listed.why);
    }
    page.push_str("\n| function | takes | gives | total, because |\n|---|---|---|---|\n");
    for listed in TOTAL_FUNCTIONS {
        let takes: Vec<String> = listed
            .takes
            .iter()
            .map(|classes| {
                classes.iter().map(|class| format!("{class:?}")).collect::<Vec<_>>().join(" or ")
            })
            .collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {:?} | {} |",
            listed.name,
            takes.join(", "),
            listed.gives,
            listed.why
        );
    }
    for (reach, title, open) in [
        (Reach::Pure, "Pure, may raise an error", true),
        (Reach::Describes, "Tells of the session, of names and types", true),
        (Reach::Sequence, "Takes numbers from sequences", true),
        (Reach::ReadsTables, "Reads tables", false),
        (Reach::RunsSql, "Runs SQL text", false),
        (Reach::Outside, "Files, programs, network", false),
        (Reach::Changes, "Changes settings or state", false),
        (Reach::Leaks, "Leaks", false),
        (Reach::Definitions, "Shows the operator's definitions", false),
        (Reach::Internal, "PostgreSQL's own", false),
    ] {
        assert_eq!(reach.is_open(), open);
        let verdict = if open { "allowed" } else { "denied (HR1005)" };
        let _ = write!(page, "\n## {title}: {verdict}\n\n");
        for family in FAMILIES.iter().filter(|family| family.reach == reach) {
            let _ = writeln!(page, "- {}: {}", family.about, code(&mut family.names()));
        }
    }
    page
}

#[test]
fn the_page_of_functions_is_the_lists_in_the_code() {
    hold("docs/functions.md", &functions());
}
