//! The command line and the environment: a flag wins, also over that of a flag which it excludes.

use std::process::Command;

/// What `hedgerow` says on standard error, with this in its environment.
fn told(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerow"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "there is no configuration: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_flag_wins_over_the_environment_of_the_flag_that_it_excludes() {
    let explain = ["explain", "--config", "/nowhere/hedgerow.yaml"];
    let rls = ["rls", "--config", "/nowhere/hedgerow.yaml"];
    let with = |words: &[&'static str], more: &[&'static str]| [words, more].concat();
    for (arguments, environment) in [
        (with(&explain, &["--live", "SELECT 1"]), ("HEDGEROW_CATALOG", "x")),
        (with(&explain, &["--catalog", "x", "SELECT 1"]), ("HEDGEROW_LIVE", "true")),
        (with(&explain, &["--catalog", "x", "SELECT 1"]), ("HEDGEROW_LIVE", "false")),
        (with(&explain, &["SELECT 1"]), ("HEDGEROW_FILE", "x")),
        (with(&explain, &["--file", "x"]), ("HEDGEROW_CATALOG", "x")),
        (with(&rls, &["--admin-user", "x"]), ("HEDGEROW_ADMIN_URL", "postgres://x")),
        (with(&rls, &["--admin-url", "postgres://x"]), ("HEDGEROW_ADMIN_USER", "x")),
    ] {
        let told = told(&arguments, &[environment]);
        assert!(told.contains("/nowhere/hedgerow.yaml"), "{arguments:?} {environment:?}: {told}");
    }
    for (arguments, environment) in [
        (with(&explain, &["--live", "--catalog", "x", "SELECT 1"]), &[][..]),
        (with(&explain, &["--file", "x", "SELECT 1"]), &[]),
        (with(&rls, &["--admin-user", "x", "--admin-url", "postgres://x"]), &[]),
        (with(&explain, &["SELECT 1"]), &[("HEDGEROW_LIVE", "1"), ("HEDGEROW_CATALOG", "x")]),
    ] {
        let told = told(&arguments, environment);
        assert!(told.contains("cannot be used with"), "{arguments:?} {environment:?}: {told}");
    }
}
