//! kill -9 at random moments: what was acknowledged is there, and every file verifies or names its
//! torn tail.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::hedgerow::{Options, command, write_configuration};
use crate::support::process::Guardian;
use crate::support::wire::WireClient;
use crate::support::{TENANT_A, fixture, http, process, token};
use crate::trail::{segments, sequence};

/// How often it is killed, unless `HEDGEROW_KILLS` says otherwise.
const KILLS: u32 = 20;

fn kills() -> u32 {
    std::env::var("HEDGEROW_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// Starts it in `directory` and waits until it serves; on other ports when these are taken.
fn start(directory: &Path, options: &Options) -> (Child, std::net::SocketAddr) {
    for _ in 0..5 {
        let (listen, admin) = (process::free_address(), process::free_address());
        write_configuration(directory, options, listen, admin);
        let to = |name: &str| {
            let file = std::fs::File::options()
                .append(true)
                .create(true)
                .open(directory.join(name))
                .unwrap();
            Stdio::from(file)
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_hedgerow"))
            .args(["serve", "--config", "hedgerow.yaml"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(to("stdout"))
            .stderr(to("log"))
            .spawn()
            .unwrap();
        for _ in 0..3_000 {
            if http::get(admin, "/readyz").is_some_and(|(status, _)| status == 200) {
                return (child, listen);
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().ok();
        child.wait().ok();
    }
    let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    panic!("it does not start:\n{}", log.lines().rev().take(20).collect::<Vec<_>>().join("\n"));
}

/// Works until the connection is gone; the ids of the denials' records as the client was told them.
fn work(address: std::net::SocketAddr, database: &str, acknowledged: &Mutex<Vec<String>>) {
    let mut client = WireClient::connect(address);
    let parameters = [("user", "application"), ("database", database)];
    if !client.start(&parameters, Some(&token::of(TENANT_A))).ready() {
        return;
    }
    loop {
        for sql in ["SELECT id FROM users", "SELECT * FROM vault", "SELECT * FROM nothing_known"] {
            let outcome = client.query(sql);
            for report in outcome.errors() {
                if report.is_denial() {
                    let hint = report.field('H').to_owned();
                    let id = hint
                        .split(|c: char| !(c.is_ascii_hexdigit() || c == '-'))
                        .find(|word| word.len() == 36);
                    let id = id.unwrap_or_else(|| panic!("a denial names its record: {hint}"));
                    acknowledged.lock().unwrap().push(id.to_owned());
                }
            }
            if !outcome.ready() {
                return;
            }
        }
    }
}

#[test]
fn a_process_killed_at_random_moments_keeps_every_acknowledged_denial() {
    let database = fixture::database_of_both();
    let directory = tempfile::Builder::new().prefix("hedgerow-crash-").tempdir().unwrap();
    let options = Options {
        audit_extra: "  segment: {max_size: 100KiB, max_age: 1h}\n  sinks: [stdout]\n".to_owned(),
        ..Options::new(fixture::POLICY)
    };
    let acknowledged = Mutex::new(Vec::new());
    let audit = directory.path().join("audit");
    let mut torn = 0;
    for round in 0..kills() {
        let (mut child, address) = start(directory.path(), &options);
        let pid = child.id();
        let mut guardian =
            Guardian::after_exit("kill -KILL \"$1\" 2>/dev/null", &[&pid.to_string()]);
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let until = Duration::from_millis(u64::from(u16::from_le_bytes(random)) % 400);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| work(address, &database, &acknowledged));
            }
            // Mostly under load, however slow the machine is; now and then while it is starting to.
            if round % 4 != 0 {
                let before = acknowledged.lock().unwrap().len();
                process::eventually("a denial is answered", Duration::from_secs(60), || {
                    (acknowledged.lock().unwrap().len() > before).then_some(())
                });
            }
            std::thread::sleep(until);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        guardian.dismiss();
        // The newest files, so that a thousand kills do not read everything a thousand times; the
        // whole is verified at the end.
        let files = segments(&audit);
        let newest = files.iter().rev().take(4).map(|path| path.to_str().unwrap());
        let arguments: Vec<&str> =
            ["audit", "verify", "--open"].into_iter().chain(newest).collect();
        let verified = command(&arguments, directory.path());
        if !verified.status.success() {
            // What is wrong then is the end of the last file, and it is named.
            let text = String::from_utf8_lossy(&verified.stdout).into_owned();
            let last = segments(&audit).pop().unwrap();
            let name = last.file_name().unwrap().to_str().unwrap();
            assert_eq!(verified.status.code(), Some(1), "round {round}: {text}");
            assert!(text.contains(name), "round {round}: {text}");
            let lines = std::fs::read_to_string(&last).unwrap().lines().count();
            let torn_tail = text.contains(&format!(":{lines} ")) || text.contains("is empty");
            assert!(torn_tail, "round {round}: not the tail of {lines} lines: {text}");
            torn += 1;
        }
    }
    let (mut child, _) = start(directory.path(), &options);
    process::signal(child.id(), "TERM");
    assert!(process::wait(&mut child, Duration::from_secs(60)).is_some_and(|end| end.success()));
    let verified = command(&["audit", "verify", "audit"], directory.path());
    assert!(verified.status.success(), "{verified:?}");
    let text: String =
        segments(&audit).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > kills() as usize, "the load was served: {}", acknowledged.len());
    for id in &acknowledged {
        assert!(text.contains(id), "the record {id} of an acknowledged denial is lost");
    }
    // The sink, killed each time with it, has carried every record that is in the files.
    let printed = std::fs::read_to_string(directory.path().join("stdout")).unwrap();
    let mut printed: Vec<u64> = printed
        .lines()
        // A kill may tear the line that was being printed; its record is printed again.
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        .map(sequence)
        .collect();
    let there: Vec<u64> = text.lines().map(sequence).collect();
    // It goes on where it left off: what a kill repeats is what that one process printed last.
    let (lines, records) = (printed.len(), there.len());
    assert!(lines <= 3 * records, "{lines} lines were printed for {records} records");
    printed.sort_unstable();
    printed.dedup();
    assert_eq!(printed, there, "the sink has every record");
    eprintln!(
        "{} kills, {} acknowledged denials, {} records, {torn} torn tails, all there",
        kills(),
        acknowledged.len(),
        there.len()
    );
}
