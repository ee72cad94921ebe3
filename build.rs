//! Tells the binary which commit it was built from. Only for release builds: a development build
//! would be compiled anew at every commit.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=HEDGEROW_COMMIT");
    // A container build may have no repository, but may know the commit.
    let mut commit = std::env::var("HEDGEROW_COMMIT").ok().filter(|commit| !commit.is_empty());
    if commit.is_none() && std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo::rerun-if-changed={log}");
        }
        commit = git(&["rev-parse", "--short=12", "HEAD"]);
    }
    println!("cargo::rustc-env=HEDGEROW_BUILD={}", commit.as_deref().unwrap_or("unknown commit"));
}
