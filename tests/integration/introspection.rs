//! What tools ask of the catalogs: psql's backslash commands, administration tools, ORMs, drivers.
//!
//! Each file of `tests/introspection` holds what one tool was seen to send. A statement stands under a
//! line `--! EXPECTATION [PARAMETERS]`:
//! - `same`: through Hedgerow as on a plain connection, row for row;
//! - `works (REASON)`: it runs, and other rows come, for that reason;
//! - `HR1007 (OBJECT)`: it is denied, because of that object.
//!
//! `{relation:public.users}` and its like stand for the OID, PARAMETERS are a JSON array.
//! `HEDGEROW_BLESS=1` writes `same` and denials anew; a difference stays a failure until a person has
//! written down why it is right.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::support::fixture::World;
use crate::support::postgres::{APP_USER, server};
use crate::support::wire::{Outcome, WireClient};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/introspection")
}

#[derive(Clone)]
struct Asked {
    expected: String,
    parameters: Vec<Option<String>>,
    /// The JSON array, as it stands in the file.
    written: String,
    sql: String,
}

/// The head of the file, and its statements.
fn read(text: &str) -> (String, Vec<Asked>) {
    let mut parts = text.split("--! ");
    let head = parts.next().unwrap_or_default().to_owned();
    let asked = parts.map(|part| {
        let (line, sql) = part.split_once('\n').expect("a statement below its line");
        let (expected, written) =
            match line.split_once(" [\"").or_else(|| line.split_once(" [null")) {
                Some((expected, _)) => (expected, &line[expected.len() + 1..]),
                None => (line, ""),
            };
        let parameters = if written.is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(written).unwrap_or_else(|error| panic!("{error}: {written}"))
        };
        Asked {
            expected: expected.trim().to_owned(),
            parameters,
            written: written.to_owned(),
            sql: sql.trim().to_owned(),
        }
    });
    (head, asked.collect())
}

/// The text with OIDs for the names in braces.
fn with_oids(text: &str, database: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let found =
            behind.split_once('}').and_then(|(name, after)| Some((oid(name, database)?, after)));
        match found {
            Some((oid, after)) => {
                out.push_str(&oid);
                rest = after;
            }
            None => {
                out.push('{');
                rest = behind;
            }
        }
    }
    out + rest
}

fn oid(name: &str, database: &str) -> Option<String> {
    let sql = match name.split_once(':') {
        Some(("relation", name)) => format!("SELECT '{name}'::regclass::oid"),
        Some(("type", name)) => format!("SELECT '{name}'::regtype::oid"),
        Some(("function", name)) => format!("SELECT '{name}'::regprocedure::oid"),
        Some(("schema", name)) => format!("SELECT '{name}'::regnamespace::oid"),
        Some(("role", name)) => format!("SELECT '{name}'::regrole::oid"),
        None if name == "database" => {
            "SELECT oid FROM pg_database WHERE datname = current_database()".to_owned()
        }
        Some(_) | None => return None,
    };
    Some(server().run(database, &sql).value())
}

fn ask(client: &mut WireClient, sql: &str, parameters: &[Option<String>]) -> Outcome {
    if parameters.is_empty() {
        return client.query(sql);
    }
    let parameters: Vec<Option<&str>> = parameters.iter().map(Option::as_deref).collect();
    client.extended(sql, &parameters)
}

fn sorted(outcome: &Outcome) -> Vec<String> {
    let mut lines = outcome.lines();
    lines.sort();
    lines
}

/// What became of a statement, in the words of the files.
fn verdict(through: &Outcome, plain: &Outcome) -> String {
    if through.denied() {
        let error = through.error();
        let detail = error.field('D');
        let object = detail.split_once(": ").map_or("", |(_, object)| object);
        let object = object.lines().next().unwrap_or_default();
        return format!("{} ({object})", through.denial_code());
    }
    let states = |outcome: &Outcome| -> Vec<String> {
        outcome.errors().iter().map(|error| error.sqlstate().to_owned()).collect()
    };
    let same = sorted(through) == sorted(plain)
        && through.columns() == plain.columns()
        && states(through) == states(plain);
    if same { "same".to_owned() } else { "differs".to_owned() }
}

#[test]
fn what_tools_ask_of_the_catalogs_works_or_is_denied_for_a_reason() {
    let bless = std::env::var_os("HEDGEROW_BLESS").is_some();
    let world = World::new();
    let mut failures = String::new();
    let mut table = String::from(
        "| tool | asked | same | other rows, by intent | denied |\n|---|---:|---:|---:|---:|\n",
    );
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    assert!(files.len() >= 10, "the files are there");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (head, asked) = read(&text);
        let mut plain = server().connect(APP_USER, &world.database);
        let mut through = world.a();
        let mut written = head.clone();
        let mut counts = [0_usize; 3];
        for one in &asked {
            let sql = with_oids(&one.sql, &world.database);
            let parameters: Vec<Option<String>> = one
                .parameters
                .iter()
                .map(|value| value.as_ref().map(|value| with_oids(value, &world.database)))
                .collect();
            let was = ask(&mut plain, &sql, &parameters);
            let is = ask(&mut through, &sql, &parameters);
            assert!(is.ready(), "{}: {sql}: {is:?}", file.display());
            let mut found = verdict(&is, &was);
            if found == "differs" && one.expected.starts_with("works (") && is.errors().is_empty() {
                found = one.expected.clone();
            }
            let column = match found.as_str() {
                "same" => 0,
                word if word.starts_with("works") => 1,
                _ => 2,
            };
            counts[column] += 1;
            if found != one.expected && !(bless && found != "differs") {
                let _ = writeln!(
                    failures,
                    "{}: expected {}, found {found}\n{sql}\n  plain:   {:?} {:?}\n  through: {:?} {:?}\n",
                    file.display(),
                    one.expected,
                    was.errors(),
                    sorted(&was).iter().take(3).collect::<Vec<_>>(),
                    is.errors(),
                    sorted(&is).iter().take(3).collect::<Vec<_>>(),
                );
            }
            let parameters =
                if one.written.is_empty() { String::new() } else { format!(" {}", one.written) };
            let _ = write!(written, "--! {found}{parameters}\n{}\n\n", one.sql);
        }
        if bless {
            std::fs::write(&file, written.trim_end().to_owned() + "\n").unwrap();
        }
        let tool =
            head.trim().trim_start_matches("-- ").lines().next().unwrap_or_default().to_owned();
        let [same, other, denied] = counts;
        let _ = writeln!(
            table,
            "| {} | {} | {same} | {other} | {denied} |",
            tool.trim_end_matches('.'),
            asked.len()
        );
        through.terminate();
    }
    assert!(failures.is_empty(), "{failures}");
    let page = directory().join("README.md");
    let readme = std::fs::read_to_string(&page).unwrap();
    let (before, _) = readme.split_once("| tool |").expect("its table");
    let rendered = format!("{before}{table}");
    if bless {
        std::fs::write(&page, rendered).unwrap();
    } else {
        assert!(
            readme == rendered,
            "write tests/introspection/README.md anew with HEDGEROW_BLESS=1"
        );
    }
    world.finish();
}
