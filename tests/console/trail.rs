//! What the page says of files that were changed, cut, removed or never right.

use std::fs;
use std::path::{Path, PathBuf};

use hedgerow::audit::{Audit, Settings};
use hedgerow::error::{Denial, DenialCode};
use jiff::Timestamp;

use crate::audit_data::{Dice, event, with_statement};
use crate::site::{Site, block_on, write};

fn denials(count: usize) -> Vec<hedgerow::audit::Event> {
    (0..count)
        .map(|number| {
            let mut one = event(&mut Dice(number as u64), Timestamp::now(), "orders-api", "acme")
                .denied(&Denial::of(DenialCode::RelationDenied, "vault"));
            with_statement(&mut one, "select", "SELECT key FROM vault");
            one
        })
        .collect()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    found.sort();
    found
}

#[test]
fn an_edited_record_shows_as_broken_while_the_console_runs() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    write(&directory, denials(5));
    write(&directory, denials(5));
    let site = Site::over(root.path());
    site.until_home_says("1 chain intact");
    let file = segments(&directory).remove(0);
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replacen("acme", "acmf", 1)).unwrap();
    let home = site.until_home_says("does not verify");
    assert!(home.body.contains("does not match its hash") && home.body.contains("role=\"alert\""));
    let sources = site.get("/sources");
    assert!(sources.body.contains("does not verify") && sources.body.contains("Changed"));
    let broken = site.get(&sources.links("/record/").remove(0));
    assert!(broken.body.contains("This record does not hold"), "the record itself says so");
    assert!(broken.body.contains("acmf"), "and is shown as it is now");
    let later = site.get(&site.get("/?tenant=acme").links("/record/").remove(0));
    assert!(later.body.contains("after a break in its chain"));
    fs::write(&file, good).unwrap();
    site.until_home_says("1 chain intact");
}

#[test]
fn cut_missing_torn_and_strange_files_are_told_and_stop_nothing() {
    let root = tempfile::tempdir().unwrap();
    for name in ["cut", "missing", "torn", "strange", "fine", "keyless"] {
        for _ in 0..3 {
            write(&root.path().join(name), denials(4));
        }
    }
    let at = |name: &str, segment: usize| segments(&root.path().join(name)).remove(segment);
    let text = fs::read_to_string(at("cut", 1)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(at("cut", 1), [&lines[..2], &lines[3..]].concat().join("\n") + "\n").unwrap();
    fs::remove_file(at("missing", 2)).unwrap();
    let text = fs::read(at("torn", 2)).unwrap();
    fs::write(at("torn", 2), &text[..text.len() - 300]).unwrap();
    fs::write(at("strange", 0), b"\xff\xfe not json\n{}\n[1,2]\n\n\x00\x01").unwrap();
    fs::remove_file(root.path().join("keyless/audit-public-key.pem")).unwrap();
    fs::create_dir(root.path().join("empty")).unwrap();
    let site = Site::over(root.path());
    let home = site.until_home_says("5 sources do not verify");
    for (name, said) in [
        ("cut", "sequence"),
        ("missing", "missing"),
        ("torn", "head file does not match"),
        ("strange", "not JSON"),
        ("keyless", "no public key"),
    ] {
        assert!(home.body.contains(name) && home.body.contains(said), "{name}: {said}");
    }
    let sources = site.get("/sources").body;
    assert!(sources.contains("intact, every segment signed"), "fine is fine");
    assert!(sources.contains("lines that are no records"));
    for link in site.get("/?show=all").links("/record/").iter().take(40) {
        assert!(site.get(link).status < 500, "{link}");
    }
    // Everything goes: the page stays, and says so.
    for name in ["cut", "missing", "torn", "strange", "fine", "keyless"] {
        fs::remove_dir_all(root.path().join(name)).unwrap();
    }
    site.until("the records are gone", || !site.get("/").body.contains("FROM vault"));
    site.until("it says so", || site.get("/sources").body.contains("the directory is gone"));
}

#[test]
fn a_trail_that_is_being_written_is_intact_and_said_to_be_open() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    block_on(async {
        let audit = Audit::open(Settings::new(&directory)).unwrap();
        for one in denials(3) {
            audit.permit().unwrap().record_durable(one).await.unwrap();
        }
        let site = Site::over(root.path());
        site.until_home_says("1 chain intact");
        assert!(site.get("/sources").body.contains("still being written"));
        let record = site.get(&site.get("/").links("/record/").remove(0));
        assert!(record.body.contains("no signature vouches for it yet"));
        audit.close().await;
        site.until("it is closed", || site.get("/sources").body.contains("every segment signed"));
    });
}

#[test]
fn a_given_key_is_trusted_and_no_other() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("one"), denials(2));
    write(&root.path().join("two"), denials(2));
    let key = root.path().join("one/audit-public-key.pem");
    let site = Site::start(&[
        "--audit",
        root.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--public-key",
        key.to_str().unwrap(),
    ]);
    let home = site.until_home_says("1 source does not verify");
    assert!(home.body.contains("is not trusted"));
    assert!(site.get("/sources").body.contains("given to this console"));
}
