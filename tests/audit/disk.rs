//! A disk that is really full: a tmpfs of one MiB, where we may mount one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::{TENANT_A, http, process, token};

/// A small file system that goes with it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None` without the right to.
    fn mount(below: &Path) -> Option<Self> {
        let at = below.join("disk");
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs"])
            .arg(&at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED: a full disk is not tested without the right to mount a tmpfs");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

fn a_full_disk(mode: &'static str) {
    let directory = tempfile::Builder::new().prefix("hedgerow-disk-").tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(directory.path()) else { return };
    let trail = disk.0.join("audit");
    let options = Options {
        audit_mode: mode,
        audit_directory: trail.display().to_string(),
        ..Options::new(POLICY)
    };
    let world = World::with(&options);
    let mut a = world.a();
    assert_eq!(a.query("SELECT count(*) FROM users").value(), "3");
    let filler = disk.0.join("filler");
    let full = std::fs::write(&filler, vec![0_u8; 2 << 20]);
    assert!(full.is_err(), "the disk is full now");
    // In strict mode the first statement is refused; in balanced mode one may run before it shows.
    let refused = process::eventually("statements are refused", Duration::from_secs(20), || {
        let outcome = a.query("INSERT INTO users (id, name) VALUES (77001, 'x')");
        let state = outcome.sqlstate();
        if mode == "strict" {
            assert_eq!(state, "53100", "{outcome:?}");
        }
        (state == "53100").then_some(outcome)
    });
    assert!(!refused.errors().is_empty());
    process::eventually("readiness is false", Duration::from_secs(20), || {
        http::get(world.hedgerow.admin, "/readyz").filter(|(status, _)| *status == 503)
    });
    // A session whose statement ran and could not be recorded was ended; another one must not begin.
    a.forget();
    let again = || {
        let token = token::of(TENANT_A);
        world.hedgerow.try_sign_in(world.hedgerow.for_a(), &world.database, &token)
    };
    let (_, outcome) = again();
    assert_eq!(outcome.sqlstate(), "53100", "{outcome:?}");
    std::fs::remove_file(&filler).unwrap();
    let mut a = process::eventually("sessions begin again", Duration::from_secs(30), || {
        let (client, outcome) = again();
        outcome.ready().then_some(client)
    });
    assert_eq!(a.query("SELECT count(*) FROM users WHERE id <> 77001").value(), "3");
    assert!(a.query("SELECT * FROM vault").denied());
    process::eventually("readiness is true again", Duration::from_secs(20), || {
        http::get(world.hedgerow.admin, "/readyz").filter(|(status, _)| *status == 200)
    });
    a.terminate();
    world.hedgerow.terminate();
    let verified = crate::support::hedgerow::command(
        &["audit", "verify", trail.to_str().unwrap()],
        world.hedgerow.directory(),
    );
    assert!(verified.status.success(), "{verified:?}");
    let text: String = crate::trail::segments(&trail)
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(text.contains("\"kind\":\"gap\"") && text.contains("were refused meanwhile"));
    world.hedgerow.assert_no_canary();
}

#[test]
fn strict_statements_on_a_full_disk_fail_with_53100_and_run_again_when_there_is_room() {
    a_full_disk("strict");
}

#[test]
fn balanced_statements_on_a_full_disk_fail_with_53100_and_run_again_when_there_is_room() {
    a_full_disk("balanced");
}
