//! The documentation site, held to what it says: every page is in the summary, every link and anchor
//! leads somewhere, every command line parses, every YAML block passes `hedgerow check`, and the blocks
//! marked `run` run, in order, against a real PostgreSQL and a real Hedgerow.
//!
//! A fenced block says by the words behind its language what it is: `yaml config FILE`, `yaml policy
//! [FILE]`, `yaml tables` (entries below `tables:`), `yaml part` (a part of a policy), `yaml excerpt`
//! (not checked: it names files that only an operator has), `sh run`,
//! `python run`, `python django`, `js run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod generated;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::postgres::{self, server};
use support::{hedgerow, process};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// Some pages are written by other tests of this binary when `HEDGEROW_BLESS` is set: run it once more then.

/// The pages of the site, by file name.
fn pages() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// A fenced block: the words behind the fence, and what is in it.
struct Block {
    words: Vec<String>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for line in page.lines() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some(words)) => {
                let words = words.split_whitespace().map(str::to_owned).collect();
                open = Some((indent, Block { words, text: String::new() }));
            }
            (Some(_), Some("")) => found.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), _) => {
                block.text.push_str(line.get(*indent..).unwrap_or(bare));
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

impl Block {
    fn is(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len()
            && self.words.iter().zip(words).all(|(own, word)| own == word)
    }
}

#[test]
fn every_page_is_in_the_summary_and_the_summary_names_no_other() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let named: BTreeSet<String> = summary
        .match_indices("](")
        .map(|(at, _)| summary[at + 2..].split(')').next().unwrap().to_owned())
        .collect();
    let pages = pages().into_iter().map(|(name, _)| name).filter(|name| name != "SUMMARY.md");
    assert_eq!(named, pages.collect::<BTreeSet<_>>());
}

/// The anchor that GitHub and mdBook give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_anchor_that_a_link_names_is_a_heading() {
    let mut dead = Vec::new();
    for (name, text) in pages() {
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            let Some((path, wanted)) = target.split_once('#') else { continue };
            if target.contains("://") {
                continue;
            }
            let file = if path.is_empty() { name.as_str() } else { path };
            let there = std::fs::read_to_string(root().join("docs").join(file)).unwrap_or_default();
            let mut fenced = false;
            let known = there.lines().any(|line| {
                fenced ^= line.trim_start().starts_with("```");
                !fenced && line.starts_with('#') && anchor(line.trim_start_matches('#')) == wanted
            });
            if !known {
                dead.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

const CONFIGURATION: &str = "identity: {tenant_claim: tenant_id, issuers: [{issuer: 'https://auth.example.com/', \
    audiences: [orders], algorithms: [RS256], jwks_url: 'https://auth.example.com/jwks.json'}]}\n\
    postgres: {listen: 127.0.0.1:6432, upstream: {host: 127.0.0.1, database: orders, user: app, password_file: pg}}\n\
    policies: policies/\naudit: {directory: audit/}\n";

/// `hedgerow check` on a configuration and a policy; what it says when it refuses.
fn check(configuration: &str, policy: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("hedgerow.yaml", configuration);
    write("policies/app.yaml", policy);
    for secret in ["pg", "secrets/pg", "keys/dev.secret"] {
        write(secret, "a secret of forty characters, for a test");
    }
    let output = hedgerow::command(&["check", "--config", "hedgerow.yaml"], directory.path());
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

const A_POLICY: &str = "tables: {public.currencies: shared}\n";

#[test]
fn every_yaml_block_passes_check() {
    let mut faults = String::new();
    let mut seen = 0;
    for (name, text) in pages() {
        for block in blocks(&text) {
            if block.words.first().is_none_or(|language| language != "yaml") {
                continue;
            }
            let outcome = match block.words.get(1).map(String::as_str) {
                Some("config") => check(&block.text, A_POLICY),
                Some("policy") => check(CONFIGURATION, &block.text),
                Some("tables") => {
                    let indented: String =
                        block.text.lines().map(|line| format!("  {line}\n")).collect();
                    check(
                        CONFIGURATION,
                        &format!("tenant: {{column: tenant_id, type: uuid}}\ntables:\n{indented}"),
                    )
                }
                Some("part") => {
                    let whole = block.text.lines().any(|line| line.starts_with("tables:"));
                    let rest =
                        if whole { "tenant: {column: tenant_id, type: uuid}\n" } else { A_POLICY };
                    check(CONFIGURATION, &format!("{rest}{}", block.text))
                }
                // Names files that only an operator has (a service account, a key).
                Some("excerpt") => Ok(()),
                other => Err(format!("says not what it is: {other:?}")),
            };
            seen += 1;
            if let Err(fault) = outcome {
                let _ =
                    writeln!(faults, "{name}: {}\n{}{fault}", block.words.join(" "), block.text);
            }
        }
    }
    assert!(seen > 10 && faults.is_empty(), "{faults}");
}

/// The words of a shell command, as the shell would make them, without its variables.
fn words(line: &str) -> Vec<String> {
    let script = format!("set -f; printf '%s\\n' {line}");
    let output = process::run(Command::new("bash").args(["-c", &script]), Duration::from_secs(10));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// `hedgerow …` commands of a shell text, one a line, continued lines joined, cut where the shell goes on.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    // A quoted JSON claim goes over lines.
    let mut lines: Vec<String> = Vec::new();
    for line in joined.lines() {
        match lines.last_mut() {
            Some(last) if last.matches('\'').count() % 2 == 1 => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    let starts = |line: &str| {
        line.find("hedgerow ")
            .filter(|at| line[..*at].trim().is_empty() || line[..*at].ends_with("$("))
    };
    lines
        .iter()
        .filter_map(|line| {
            let line = &line[starts(line)?..];
            // A redirection is the shell's, unless it stands in quotes.
            let bare = |at: &usize| line[..*at].matches('\'').count() % 2 == 0;
            let end = ["  #", " || ", " 2>", " > ", " &", " | "]
                .iter()
                .flat_map(|cut| line.match_indices(cut).map(|(at, _)| at).filter(bare))
                .min();
            let line = line[..end.unwrap_or(line.len())].trim().trim_end_matches(')');
            Some(line.to_owned())
        })
        .collect()
}

#[test]
fn every_hedgerow_command_on_the_pages_is_one() {
    let mut seen = 0;
    let mut all = pages();
    all.push(("README.md".to_owned(), std::fs::read_to_string(root().join("README.md")).unwrap()));
    for (name, text) in all {
        for block in blocks(&text).iter().filter(|block| block.is(&["sh"])) {
            for line in commands(&block.text) {
                seen += 1;
                let parsed = ::hedgerow::cli::command().try_get_matches_from(words(&line));
                assert!(parsed.is_ok(), "{name}: {line}: {}", parsed.unwrap_err());
            }
        }
    }
    assert!(seen > 15, "the pages have commands: {seen}");
}

/// A way through the pages that are to be followed by hand: their blocks in one directory, one shell.
#[test]
fn what_the_pages_say_to_run_runs() {
    let database = server().clone_of("template1");
    let home = tempfile::Builder::new().prefix("hedgerow-book-").tempdir().unwrap();
    let (listen, admin) = (process::free_address().port(), process::free_address().port());
    // The pages' addresses, and the throw-away server's; its superuser signs in by the Unix socket.
    let socket = server().socket_directory().display().to_string();
    let here = |text: &str| {
        text.replace(
            "postgres://postgres@127.0.0.1:5432/orders",
            &format!(
                "postgres://postgres@{}:{}/{database}",
                socket.replace('/', "%2F"),
                server().port
            ),
        )
        .replace("-h 127.0.0.1 -p 5432", &format!("-h {socket} -p {}", server().port))
        .replace("-d orders", &format!("-d {database}"))
        .replace("database: orders", &format!("database: {database}"))
        .replace("dbname=orders", &format!("dbname={database}"))
        .replace("dbname=\"orders\"", &format!("dbname=\"{database}\""))
        .replace("database=\"orders\"", &format!("database=\"{database}\""))
        .replace("database: 'orders'", &format!("database: '{database}'"))
        .replace("\"NAME\": \"orders\"", &format!("\"NAME\": \"{database}\""))
        .replace("6432/orders", &format!("6432/{database}"))
        .replace("port: 5432", &format!("port: {}", server().port))
        .replace("6432", &listen.to_string())
        .replace("9187", &admin.to_string())
        // Roles belong to the whole server.
        .replace("user: app\n", "user: book_app\n")
        .replace("ROLE app LOGIN", "ROLE book_app LOGIN")
    };
    let mut script = String::from(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true' EXIT\n",
    );
    let mut programs = 0;
    for page in ["start.md", "connect.md"] {
        let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
        for block in blocks(&text) {
            let text = here(&block.text);
            if block.is(&["yaml", "config"]) || block.is(&["yaml", "policy"]) {
                if let Some(file) = block.words.get(2) {
                    let _ = write!(
                        script,
                        "mkdir -p \"$(dirname {file})\"\ncat > {file} <<'END_OF_FILE'\n{text}END_OF_FILE\n"
                    );
                }
            } else if block.is(&["sh", "run"]) {
                let _ = writeln!(script, "echo '--- {page}'\n{text}export TOKEN=\"${{TOKEN:-}}\"");
                programs += 1;
            } else if block.is(&["python", "run"]) {
                let _ = write!(
                    script,
                    "echo '--- {page}: python'\n\"$PYTHON\" - <<'END_OF_FILE'\n{text}END_OF_FILE\n"
                );
                programs += 1;
            } else if block.is(&["python", "django"]) {
                let _ = write!(
                    script,
                    "echo '--- {page}: django'\n\"$PYTHON\" - <<'END_OF_FILE'\nimport os\n{text}\n\
                     from django.conf import settings\nsettings.configure(DATABASES=DATABASES)\n\
                     from django.db import connection\nwith connection.cursor() as cursor:\n    \
                     cursor.execute('SELECT count(*) FROM orders')\n    assert cursor.fetchone() == (2,)\n\
                     END_OF_FILE\n"
                );
                programs += 1;
            } else if block.is(&["js", "run"]) && node().is_some() {
                let _ = write!(
                    script,
                    "echo '--- {page}: node'\ncat > program.mjs <<'END_OF_FILE'\n{text}END_OF_FILE\nnode program.mjs\n"
                );
                programs += 1;
            }
        }
    }
    assert!(programs > 10, "the pages have programs");
    let operated = operators_pages(&mut script, &here);
    assert!(operated > 12, "the pages have commands: {operated}");
    if let Some(modules) = node() {
        std::os::unix::fs::symlink(modules, home.path().join("node_modules")).unwrap();
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_hedgerow")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = process::run(
        Command::new("bash")
            .args(["-c", &script])
            .current_dir(home.path())
            .env(
                "PATH",
                format!("{}:{}:{path}", binaries.display(), postgres::programs().display()),
            )
            .env("PYTHON", python()),
        Duration::from_secs(120),
    );
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_to_string(home.path().join("hedgerow.log")).unwrap_or_default();
    assert!(output.status.success(), "{stdout}\n{stderr}\n{log}");
    // What the page says that one sees.
    assert!(stdout.contains("92.50"), "{stdout}");
    assert!(!stdout.contains("99999"), "{stdout}");
    assert!(stdout.contains("public.orders: {tenant: tenant_id}"), "the draft: {stdout}");
    assert!(stderr.contains("HR1011"), "the denial: {stderr}");
    server().drop_database(&database);
    server().run(postgres::SUPERUSER, "DROP ROLE book_app");
}

/// The commands of the pages for operators, in the directory that the first pages have made: every block,
/// as it stands but for its paths. A command may say no (1), never that it cannot (2).
fn operators_pages(script: &mut String, here: &impl Fn(&str) -> String) -> usize {
    script.push_str(
        "hedgerow() {\n\
           local code=0\n\
           if [[ $1 == console ]]; then\n\
             command hedgerow \"$@\" >console.log 2>console.err & local console=$!\n\
             until grep -q 'The console is on' console.log; do\n\
               kill -0 $console || { cat console.err >&2; exit 1; }; sleep 0.1\n\
             done\n\
             kill $console; wait $console || true; return 0\n\
           fi\n\
           command hedgerow \"$@\" || code=$?\n\
           (( code <= 1 )) || { echo \"hedgerow $*: exit $code\" >&2; exit 1; }\n\
         }\n\
         export HEDGEROW_LISTEN=127.0.0.1:0\n\
         echo '{\"sql\": \"SELECT count(*) FROM orders\"}' > statements.jsonl\n\
         CHAIN=$(basename audit/audit-*-0000000001.jsonl -0000000001.jsonl); CHAIN=${CHAIN#audit-}\n\
         mkdir -p \"prefix/$CHAIN\" a b\n\
         cp audit/audit-*-0000000001.jsonl \"prefix/$CHAIN/0000000001-000000000001.jsonl\"\n\
         cp -r audit a/; cp -r audit b/; cp audit/audit-public-key.pem .\n\
         cp audit-public-key.pem audit-key.pem\n\
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
           -subj /CN=audit.example.com -keyout tls.key -out tls.crt 2>/dev/null\n\
         redis-cli() { :; }\n\
         if command -v redis-server >/dev/null; then\n\
           redis-server --port 0 --unixsocket \"$PWD/redis.sock\" --save '' >/dev/null &\n\
           redis-cli() { command redis-cli -e -s \"$PWD/redis.sock\" \"$@\"; }\n\
           until redis-cli PING >/dev/null 2>&1; do sleep 0.1; done\n\
         fi\n",
    );
    let there = |text: &str| {
        here(text)
            .replace("/var/lib/hedgerow/audit", "audit")
            .replace("/collected", "audit")
            .replace("0.0.0.0:9188", "127.0.0.1:0")
            .replace("--tenant acme", "--tenant 7d9f5a1e-1c52-4c55-9a0b-3f1f7a3c2b10")
            .replace("'prefix/CHAIN/'0000000007", "\"prefix/$CHAIN/\"0000000001")
            .replace("audit-CHAIN-0000000007", "\"audit-$CHAIN-0000000001\"")
    };
    let mut commands = 0;
    // The last one writes a second draft of the policies.
    for page in [
        "operations.md",
        "recipes.md",
        "audit.md",
        "console.md",
        "quotas.md",
        "kubernetes.md",
        "scan.md",
    ] {
        let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
        for block in blocks(&text).iter().filter(|block| block.is(&["sh"])) {
            let _ = writeln!(script, "echo '--- {page}'\n{}", there(&block.text));
            commands += block.text.matches("hedgerow ").count();
        }
    }
    commands
}

/// Where the Node.js clients of the tests are installed.
fn node() -> Option<PathBuf> {
    let modules = root().join("tests/clients/node_modules");
    modules.join("pg").is_dir().then_some(modules)
}

fn python() -> PathBuf {
    let python =
        std::env::var_os("HEDGEROW_PYTHON").map_or(root().join(".venv/bin/python"), PathBuf::from);
    assert!(python.is_file(), "`make python` makes .venv, or HEDGEROW_PYTHON names one");
    python
}
