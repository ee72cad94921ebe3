//! The other test binaries, run with a fault planted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Longest run of one suite, in seconds (coreutils' `timeout` ends it).
const LIMIT: &str = "300";

/// Executables by their name: `unit`, `attacks`, `oracle`, …
pub struct Suites(BTreeMap<String, PathBuf>);

/// What a suite says of a fault.
pub struct Outcome {
    pub passed: bool,
    /// Tests that failed, sorted.
    pub failed: Vec<String>,
    /// All that it printed.
    pub output: String,
}

impl Suites {
    /// Builds the binaries with the feature `mutants`; cargo has most of them already.
    pub fn build() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo told this test of its package would look to build scripts like a change.
        for (name, _) in std::env::vars() {
            let own = ["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name.as_str());
            if name.starts_with("CARGO_") && !own {
                cargo.env_remove(name);
            }
        }
        let output = cargo
            .args(["test", "--locked", "--features", "mutants", "--no-run"])
            .args(["--message-format", "json", "--lib", "--bin", "hedgerow"])
            .args(["--test", "regressions", "--test", "attacks", "--test", "oracle"])
            .args(["--test", "integration"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo can be run");
        assert!(output.status.success(), "the suites do not compile");
        let text = String::from_utf8(output.stdout).unwrap();
        let messages = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut suites = BTreeMap::new();
        for message in messages {
            let message: serde_json::Value = message;
            let Some(executable) = message["executable"].as_str() else { continue };
            let target = &message["target"];
            let name = match target["kind"][0].as_str() {
                Some("lib") => "unit",
                Some("test") => target["name"].as_str().unwrap(),
                _ => continue,
            };
            suites.insert(name.to_owned(), PathBuf::from(executable));
        }
        Self(suites)
    }

    /// Runs a suite, or those of its tests that the filters name, with faults planted.
    pub fn run(&self, suite: &str, faults: &str, filters: &[&str], exact: bool) -> Outcome {
        let executable = &self.0[suite];
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after", "10", LIMIT])
            .arg(executable)
            .args(filters)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("HEDGEROW_MUTANT", faults)
            .env("HEDGEROW_ATTACK_WORLD", "plain")
            .env("HEDGEROW_ORACLE_SECONDS", "30")
            .env("HEDGEROW_ORACLE_FAILURES", "1")
            .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null());
        if exact {
            command.arg("--exact");
        }
        let output = command.output().expect("a suite can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let mut failed: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
            .map(str::to_owned)
            .collect();
        failed.sort();
        Outcome { passed: output.status.success(), failed, output: text }
    }
}
