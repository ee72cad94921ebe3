//! Reload under load: hundreds of them, and no statement fails, mixes two policies or loses its
//! session.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::{Hedgerow, Options};
use crate::support::wire::{self, Outcome, WireClient};
use crate::support::{http, process};

const WAIT: Duration = Duration::from_secs(60);
/// Reloads under load, of which every fifth is refused.
const ROUNDS: usize = 200;

fn reloads(hedgerow: &Hedgerow, result: &str) -> u64 {
    let (_, text) = http::get(hedgerow.admin, "/metrics").expect("metrics");
    let series = format!("hedgerow_reload_total{{result=\"{result}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("{series} in {text}")).parse().expect("a number")
}

/// SIGHUP, and its outcome.
fn reload(hedgerow: &Hedgerow, result: &str) {
    let before = reloads(hedgerow, result);
    process::signal(hedgerow.pid(), "HUP");
    process::eventually("the reload is counted", WAIT, || {
        (reloads(hedgerow, result) > before).then_some(())
    });
}

fn write(hedgerow: &Hedgerow, name: &str, text: &str) {
    let path = hedgerow.directory().join(name);
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// The policy with two columns masked alike.
fn masked(with: &str) -> String {
    let columns = format!(
        "    columns:\n      name: {{mask: \"'{with}'::text\"}}\n      \
         email: {{mask: \"'{with}'::text\"}}\n"
    );
    POLICY.replacen("    columns:\n", &columns, 1)
}

#[test]
fn hundreds_of_reloads_under_load_fail_no_statement_and_mix_no_policies() {
    for pool_mode in ["session", "transaction"] {
        let mut options = Options::new(&masked("m0"));
        options.pool_mode = pool_mode;
        let world = World::with(&options);
        let configuration = world.hedgerow.directory().join("hedgerow.yaml");
        let configuration = std::fs::read_to_string(configuration).unwrap();
        let (stop, statements) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for number in 0..6 {
                let (world, stop, statements) = (&world, &stop, &statements);
                scope.spawn(move || {
                    let of_a = number % 2 == 0;
                    let mut client = if of_a { world.a() } else { world.b() };
                    let ids = if of_a { ["1", "2", "3"] } else { ["101", "102", "103"] };
                    let sql = "SELECT id, name, email FROM users ORDER BY id";
                    while !stop.load(Ordering::Relaxed) {
                        let outcome = match number / 2 {
                            0 => client.query(sql),
                            // A policy that changes between Parse and Bind, in a way that changes what is
                            // sent, asks for another Parse: nothing ran.
                            1 => loop {
                                let outcome = client.extended(sql, &[]);
                                let again = outcome.errors().iter().any(|error| {
                                    error.denial_code() == Some("HR4002")
                                        && error
                                            .message()
                                            .contains("since the statement was prepared")
                                });
                                if !again {
                                    break outcome;
                                }
                                client.forget();
                            },
                            _ => {
                                client.query("BEGIN");
                                let outcome = client.query(sql);
                                assert_eq!(client.query("COMMIT").tags(), ["COMMIT"]);
                                outcome
                            }
                        };
                        let rows = outcome.rows();
                        assert_eq!(rows.len(), 3, "client {number}: {outcome:?}");
                        let mask = rows[0][1].clone();
                        for (row, id) in rows.iter().zip(ids) {
                            assert_eq!(row[0].as_deref(), Some(id));
                            assert_eq!((&row[1], &row[2]), (&mask, &mask), "one policy: {rows:?}");
                        }
                        statements.fetch_add(1, Ordering::Relaxed);
                        client.forget();
                    }
                    client.terminate();
                });
            }
            for round in 1..=ROUNDS {
                if round % 5 == 0 {
                    write(&world.hedgerow, "policies/policy.yaml", "tables: {users: shard}\n");
                    reload(&world.hedgerow, "error");
                }
                write(&world.hedgerow, "policies/policy.yaml", &masked(&format!("m{round}")));
                let limits = format!("max_clients: {}", 100 + round);
                let text = configuration.replacen("max_clients: 500", &limits, 1);
                write(&world.hedgerow, "hedgerow.yaml", &text);
                reload(&world.hedgerow, "ok");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(statements.load(Ordering::Relaxed) > 100);
        let mut a = world.a();
        let name = a.query("SELECT name FROM users WHERE id = 1");
        assert_eq!(name.lines(), [format!("m{ROUNDS}")], "the last one is in force");
        a.terminate();
        world.finish();
    }
}

#[test]
fn limits_and_quotas_of_open_sessions_follow_a_reload_and_a_bad_file_changes_nothing() {
    let world = World::new();
    let path = world.hedgerow.directory().join("hedgerow.yaml");
    let configuration = std::fs::read_to_string(path).unwrap();
    let limits = |text: &str| {
        let old = "max_clients: 500, max_statement: 1MiB";
        assert!(configuration.contains(old));
        write(&world.hedgerow, "hedgerow.yaml", &configuration.replacen(old, text, 1));
    };
    let mut a = world.a();
    let long = format!("SELECT length('{}')", "x".repeat(5000));
    assert_eq!(a.query(&long).lines(), ["5000"]);
    limits("max_clients: 1, max_statement: 4KiB");
    reload(&world.hedgerow, "ok");
    assert_eq!(a.query(&long).sqlstate(), "54000", "an open session has the new limit");
    assert_eq!(a.query("SELECT 1").lines(), ["1"], "and goes on");
    let token = crate::support::token::of(crate::support::TENANT_B);
    let (_, refused) = world.hedgerow.try_sign_in(world.hedgerow.address, &world.database, &token);
    assert_eq!(refused.sqlstate(), "53300");
    // A configuration with a fault takes nothing else with it, though the policy is good.
    limits("max_clients: none");
    write(
        &world.hedgerow,
        "policies/policy.yaml",
        &format!("{POLICY}quotas: [{{statements_per_second: 0.0001, burst: 1}}]\n"),
    );
    reload(&world.hedgerow, "error");
    for _ in 0..3 {
        assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    }
    assert_eq!(a.query(&long).sqlstate(), "54000");
    assert!(world.hedgerow.log().contains("everything stays as it was"));
    // A change of a file is seen without a signal.
    let before = reloads(&world.hedgerow, "ok");
    limits("max_clients: 500, max_statement: 1MiB");
    process::eventually("the change is seen", WAIT, || {
        (reloads(&world.hedgerow, "ok") > before).then_some(())
    });
    assert_eq!(a.query(&long).lines(), ["5000"]);
    assert_eq!(a.query("SELECT 1").sqlstate(), "53400", "with the quota that came with it");
    a.terminate();
    world.finish();
}

fn certificate(directory: &Path, name: &str) {
    let file = |end: &str| directory.join(format!("{name}.{end}")).display().to_string();
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-keyout", &file("key"), "-out", &file("crt")]);
    process::succeed(&mut command, WAIT);
}

/// Whose certificate a new connection is shown.
fn shown(hedgerow: &Hedgerow) -> String {
    let mut command = Command::new("openssl");
    let address = hedgerow.address.to_string();
    command.args(["s_client", "-starttls", "postgres", "-connect", &address]);
    let output = process::run(&mut command, WAIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = text.lines().find_map(|line| line.strip_prefix("subject="));
    subject.unwrap_or_default().replace("CN = ", "").replace("CN=", "")
}

#[test]
fn a_new_certificate_is_taken_up_and_a_bad_one_changes_nothing() {
    let files = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        certificate(files.path(), name);
    }
    let copy = |name: &str, end: &str| {
        let to = files.path().join(format!("live.{end}"));
        std::fs::copy(files.path().join(format!("{name}.{end}")), to).unwrap();
    };
    copy("first", "crt");
    copy("first", "key");
    let mut options = Options::new(POLICY);
    let live = files.path().join("live");
    options.postgres_extra =
        format!("  tls: {{cert_file: {0}.crt, key_file: {0}.key}}\n", live.display());
    let world = World::with(&options);
    let mut a = world.a();
    assert_eq!(shown(&world.hedgerow), "first");
    // A key of another certificate.
    copy("second", "key");
    write(&world.hedgerow, "policies/policy.yaml", &masked("m"));
    reload(&world.hedgerow, "error");
    assert_eq!(shown(&world.hedgerow), "first");
    assert_eq!(a.query("SELECT name FROM users WHERE id = 1").lines(), ["Ann"], "nothing changed");
    copy("second", "crt");
    reload(&world.hedgerow, "ok");
    assert_eq!(shown(&world.hedgerow), "second");
    assert_eq!(a.query("SELECT name FROM users WHERE id = 1").lines(), ["m"]);
    a.terminate();
    world.finish();
}

/// Runs what was prepared.
fn run(client: &mut WireClient, name: &str) -> Outcome {
    let mut bytes = wire::bind("", name, &[]);
    bytes.extend(wire::execute("", 0));
    bytes.extend(wire::sync());
    client.send(&bytes);
    client.collect(1)
}

#[test]
fn a_prepared_statement_goes_on_under_a_policy_that_guards_more() {
    for pool_mode in ["session", "transaction"] {
        let mut options = Options::new(POLICY);
        options.pool_mode = pool_mode;
        let world = World::with(&options);
        let documents = "  public.documents: {tenant: tenant_id";
        let policy = |more: &str| {
            assert!(POLICY.contains(documents));
            let text = POLICY.replacen(documents, &format!("{documents}{more}"), 1);
            write(&world.hedgerow, "policies/policy.yaml", &text);
            reload(&world.hedgerow, "ok");
        };
        let mut a = world.a();
        let mut bytes = wire::parse("s", "SELECT id, title FROM documents ORDER BY id", &[]);
        bytes.extend(wire::describe(b'S', "s"));
        bytes.extend(wire::parse("c", "COPY documents (id, title) FROM STDIN", &[]));
        bytes.extend(wire::sync());
        a.send(&bytes);
        a.collect(1);
        assert_eq!(run(&mut a, "s").rows().len(), 3);
        policy(", where: \"title = 'leaf'\"");
        let ids = |outcome: &Outcome| -> Vec<Option<String>> {
            outcome.rows().into_iter().map(|row| row[0].clone()).collect()
        };
        let outcome = run(&mut a, "s");
        assert_eq!(ids(&outcome), [Some("2".to_owned())], "{outcome:?}");
        // A COPY that needed no second look before.
        let mut bytes = wire::bind("", "c", &[]);
        bytes.extend(wire::execute("", 0));
        for row in ["50\tleaf\n", "51\tno leaf\n"] {
            bytes.extend(wire::copy_data(row));
        }
        bytes.extend(wire::copy_done());
        bytes.extend(wire::sync());
        a.send(&bytes);
        assert_eq!(a.collect(1).denial_code(), "HR1011");
        assert_eq!(world.truth("SELECT count(*) FROM documents WHERE id IN (50, 51)"), "0");
        // A column that looks otherwise is another result.
        policy(", columns: {title: {mask: \"1\"}}");
        let outcome = run(&mut a, "s");
        assert_eq!(outcome.denial_code(), "HR4002", "{outcome:?}");
        let outcome = a.extended("SELECT id, title FROM documents ORDER BY id", &[]);
        assert_eq!(outcome.rows()[0][1].as_deref(), Some("1"));
        a.terminate();
        world.finish();
    }
}
