//! The one-way rules of the source tree, held by reading it: imports go down only, pure layers stay
//! pure, the checker shares nothing with the rewriter, files stay short and say what they own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Layer of each module below `src/`; a module may name its own layer and those below.
const LAYERS: &[(&str, u32)] = &[
    ("ids", 0),
    ("claims", 0),
    ("copy_format", 0),
    ("error", 0),
    ("endpoint", 0),
    ("units", 0),
    ("mutant", 0),
    ("wire", 1),
    ("identity", 1),
    ("policy", 1),
    ("quota", 1),
    ("catalog", 1),
    ("yaml", 1),
    ("sql", 2),
    ("audit", 3),
    ("decide", 3),
    ("keys", 4),
    ("limiter", 4),
    ("store", 4),
    ("catalog_load", 4),
    ("sinks", 4),
    ("postgres", 5),
    ("bigquery", 5),
    ("admin", 5),
    ("console", 5),
    ("config", 6),
    ("cli", 6),
    ("lib", 7),
    ("main", 8),
];

/// Pairs that must not meet, whatever their layers say.
const NEVER: &[(&str, &str)] = &[
    ("sql", "wire"),
    ("sql", "identity"),
    ("wire", "policy"),
    ("wire", "sql"),
    ("wire", "identity"),
    ("identity", "policy"),
    ("identity", "catalog"),
];

/// Modules without I/O, clock or threads.
const PURE: &[&str] = &[
    "ids",
    "claims",
    "copy_format",
    "error",
    "endpoint",
    "units",
    "wire",
    "identity",
    "policy",
    "quota",
    "catalog",
    "sql",
    "decide",
];
/// What a pure module must not name.
const IMPURE: &str =
    r"\b(tokio|std::(net|fs|process|thread|env)|reqwest|notify|SystemTime::now|Instant::now)\b";

const LONGEST_FILE: usize = 800;

struct Source {
    /// Path below the repository.
    path: String,
    /// The module directly below `src/`.
    module: String,
    /// The text without comments, string contents and unit tests.
    code: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, extensions: &[&str], into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, extensions, into);
        } else if path.extension().is_some_and(|end| extensions.iter().any(|wanted| end == *wanted))
        {
            into.push(path);
        }
    }
    into.sort();
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root().join("src"), &["rs"], &mut paths);
    assert!(paths.len() > 10, "the tree was found");
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let below = path.strip_prefix(root().join("src")).unwrap();
            let first = below.components().next().unwrap().as_os_str().to_string_lossy();
            Source {
                path: format!("src/{}", below.display()),
                module: first.trim_end_matches(".rs").to_owned(),
                code: without_tests(&without_comments(&text)),
            }
        })
        .collect()
}

/// Blanks comments and the contents of string literals, line by line: good enough for a tree that
/// rustfmt keeps, and documentation may name anything.
fn without_comments(text: &str) -> String {
    let string = Regex::new(r#""(?:[^"\\]|\\.)*""#).unwrap();
    let comment = Regex::new(r"//.*$").unwrap();
    text.lines()
        .map(|line| comment.replace(&string.replace_all(line, "\"\""), "").into_owned() + "\n")
        .collect()
}

/// Cuts a trailing `#[cfg(test)] mod …`: tests may reach across.
fn without_tests(code: &str) -> String {
    let tests = Regex::new(r"#\[cfg\(test\)\]\s*(#!?\[[^\]]*\]\s*)*(pub )?mod ").unwrap();
    tests.split(code).next().unwrap_or_default().to_owned()
}

fn is_test_file(source: &Source) -> bool {
    source.path.ends_with("tests.rs") || source.path.contains("/tests/")
}

/// Modules of ours that a text names: `crate::module` and `hedgerow::module`, also inside braces.
fn named_modules(code: &str) -> Vec<String> {
    let direct = Regex::new(r"\b(?:crate|hedgerow)::([a-z_]+)").unwrap();
    let group = Regex::new(r"(?s)\b(?:crate|hedgerow)::\{(.*?)\};").unwrap();
    let mut names: Vec<String> = direct.captures_iter(code).map(|hit| hit[1].to_owned()).collect();
    for hit in group.captures_iter(code) {
        let mut depth = 0_i32;
        let mut start = true;
        let mut word = String::new();
        for letter in hit[1].chars() {
            let part_of_name = letter.is_ascii_lowercase() || letter == '_';
            if depth == 0 && start && part_of_name {
                word.push(letter);
                continue;
            }
            if !word.is_empty() {
                names.push(std::mem::take(&mut word));
                start = false;
            }
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                ':' => start = false,
                _ => {}
            }
        }
        names.extend((!word.is_empty()).then_some(word));
    }
    names
}

fn assert_none(what: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{what}:\n  {}", offences.join("\n  "));
}

#[test]
fn every_module_has_a_layer_and_names_no_higher_one() {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| !is_test_file(source)) {
        let Some(own) = layers.get(source.module.as_str()) else {
            offences.push(format!("{}: the module {} has no layer", source.path, source.module));
            continue;
        };
        for name in named_modules(&source.code) {
            match layers.get(name.as_str()) {
                Some(layer) if layer > own => {
                    offences.push(format!("{} ({own}) names {name} ({layer})", source.path));
                }
                _ => {}
            }
        }
    }
    assert_none("imports go down only", &offences);
}

#[test]
fn modules_that_must_not_meet_do_not_meet() {
    let offences: Vec<String> = sources()
        .iter()
        .filter(|source| !is_test_file(source))
        .flat_map(|source| {
            named_modules(&source.code)
                .into_iter()
                .filter(|name| NEVER.contains(&(source.module.as_str(), name.as_str())))
                .map(|name| format!("{} names {name}", source.path))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_none("sql knows no wire and no identity; wire knows no meaning", &offences);
}

#[test]
fn pure_layers_do_no_io_and_read_no_clock() {
    let impure = Regex::new(IMPURE).unwrap();
    let offences: Vec<String> = sources()
        .iter()
        .filter(|source| PURE.contains(&source.module.as_str()) && !is_test_file(source))
        .filter_map(|source| {
            let hit = impure.find(&source.code)?;
            Some(format!("{} names {}", source.path, hit.as_str()))
        })
        .collect();
    assert_none("pure layers stay pure", &offences);
}

#[test]
fn the_checker_shares_nothing_with_the_rewriter() {
    let of_checker = |source: &&Source| source.path.starts_with("src/sql/postgres/check");
    let names_rewriter = Regex::new(r"\brewrite\b|\bsqlparser\b").unwrap();
    let offences: Vec<String> = sources()
        .iter()
        .filter(of_checker)
        .filter_map(|source| {
            let hit = names_rewriter.find(&source.code)?;
            Some(format!("{} names {}", source.path, hit.as_str()))
        })
        .collect();
    assert_none("the checker knows neither the rewriter nor its parser", &offences);
}

#[test]
fn only_the_checker_makes_a_guarded_text() {
    let makes = Regex::new(r"\bGuarded(Query)?(::[a-z_]+)?\(").unwrap();
    let allowed = |path: &str| {
        ["src/sql/postgres/check", "src/sql/bigquery/check"].iter().any(|at| path.starts_with(at))
            || path == "src/sql/mod.rs"
    };
    let offences: Vec<String> = sources()
        .iter()
        .filter(|source| !allowed(&source.path) && !is_test_file(source))
        .filter(|source| makes.is_match(&source.code))
        .map(|source| format!("{} makes a Guarded", source.path))
        .collect();
    assert_none("permission is a type with one maker", &offences);
}

#[test]
fn nothing_that_talks_to_a_database_assumes_a_principal() {
    let offences: Vec<String> = sources()
        .iter()
        .filter(|source| {
            ["postgres", "bigquery", "catalog_load", "admin"].contains(&source.module.as_str())
        })
        .filter(|source| !is_test_file(source) && source.code.contains("assumed"))
        .map(|source| source.path.clone())
        .collect();
    assert_none("Principal::assumed stays with explain and tests", &offences);
}

#[test]
fn every_file_is_short_and_says_what_it_owns() {
    let mut paths = Vec::new();
    for directory in ["src", "tests", "benches", "fuzz"] {
        files(&root().join(directory), &["rs"], &mut paths);
    }
    let mut offences = Vec::new();
    for path in
        paths.iter().filter(|path| !path.components().any(|part| part.as_os_str() == "target"))
    {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display();
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            offences.push(format!("{name} has {lines} lines"));
        }
        if !text.starts_with("//!") {
            offences.push(format!("{name} does not open with //!"));
        }
    }
    assert_none("a file has at most 800 lines and opens with //!", &offences);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let place = Regex::new(r"(^|[^A-Za-z0-9_.])/(home|Users|root|work)/[a-z]").unwrap();
    let mut paths = Vec::new();
    for directory in ["src", "tests", "benches", "bench", "docs", "policies", "fuzz", "helm"] {
        let extensions = ["rs", "py", "sh", "md", "yaml", "yml", "toml", "sql", "json", "txt"];
        files(&root().join(directory), &extensions, &mut paths);
    }
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "Makefile",
        "Cargo.toml",
    ] {
        paths.extend(Some(root().join(name)).filter(|path| path.is_file()));
    }
    let offences: Vec<String> = paths
        .iter()
        .filter(|path| {
            let others = |part: &std::ffi::OsStr| part == "target" || part == "node_modules";
            !path.components().any(|part| others(part.as_os_str()))
        })
        .filter(|path| !path.ends_with("tests/architecture.rs"))
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| place.is_match(line))?;
            Some(format!("{}: {line}", path.strip_prefix(root()).unwrap().display()))
        })
        .collect();
    assert_none("no path of a machine", &offences);
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let names = named_modules(
        "use crate::sql::Limits;\nuse crate::{wire::{Frame, codec}, policy, ids::Name};\nlet x = crate::decide::decide();",
    );
    for name in ["sql", "wire", "policy", "ids", "decide"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    assert!(!names.iter().any(|name| name == "codec"), "{names:?}");
    let code = without_tests(&without_comments(
        "a // crate::cli\nlet s = \"crate::cli\";\n#[cfg(test)]\nmod t {}",
    ));
    assert!(!code.contains("cli") && !code.contains("mod t"));
}
