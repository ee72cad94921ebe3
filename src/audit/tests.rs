//! Tests of the trail as a whole: write, verify, tamper, crash, failing disks.

use super::segment::DiskFile;
use super::*;
use crate::error::{Denial, DenialCode};
use crate::ids::{CatalogEpoch, PolicyEpoch};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn settings(root: &Path) -> Settings {
    Settings::new(root.join("audit"))
}

pub(super) fn statement() -> Event {
    let mut event = Event::now(Kind::Statement, Decision::Rewrite, Engine::Postgres);
    event.tenant = Some("8d1f".into());
    event.subject = Some("alice".into());
    event.issuer = Some("https://auth.example.com/".into());
    event.token_id = Some("jti-1".into());
    event.application_name = Some("orders \"api\" \u{1}é".into());
    event.client_user = Some("app".into());
    event.database = Some("orders".into());
    event.client_address = Some(ClientAddress::Tcp("127.0.0.1:55001".parse().unwrap()));
    event.upstream = Some("10.0.0.7:5432".into());
    event.statement_kind = Some("select");
    event.fingerprint = Some("0123456789abcdef".into());
    event.statement = Some("SELECT * FROM orders WHERE id = $1".into());
    event.relations =
        [RelationRule { relation: "public.orders".into(), rule: "public.orders".into() }].into();
    event.policy_epoch = Some(PolicyEpoch(3));
    event.catalog_epoch = Some(CatalogEpoch(2));
    event.rows = Some(17);
    event.duration = Some(Duration::from_micros(1_234));
    event.result_code = Some("00000".into());
    event.session = Some("session-1".into());
    event
}

pub(super) fn denial() -> Event {
    statement().denied(&Denial::of(DenialCode::UnknownRelation, "secrets"))
}

fn check(directory: &Path, open: bool) -> Result<Intact, VerifyError> {
    let keys = TrustedKeys::read(&directory.join(PUBLIC_KEY_FILE)).unwrap();
    let paths = [directory.to_owned()];
    verify(&Verification { paths: &paths, keys: &keys, open }, |_| {})
}

fn fault(result: Result<Intact, VerifyError>) -> (u64, Fault) {
    match result {
        Err(VerifyError::Broken { line, fault, .. }) => (line, fault),
        other => panic!("expected a fault, got {other:?}"),
    }
}

fn only_segments(directory: &Path) -> Vec<PathBuf> {
    SegmentFile::list(directory).unwrap().into_iter().map(|segment| segment.path).collect()
}

#[tokio::test]
async fn what_was_written_verifies_across_restarts_and_stays_one_chain() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    for round in 1..=3 {
        let audit = Audit::open(settings(root.path())).unwrap();
        for _ in 0..10 {
            audit.permit().unwrap().record(statement());
            audit.permit().unwrap().record_durable(denial()).await.unwrap();
        }
        audit.close().await;
        assert!(audit.permit().is_err());
        let intact = check(&directory, false).unwrap();
        let [chain] = intact.chains.as_slice() else { panic!("one chain: {intact:?}") };
        // Each round: the opening record, twenty events, the checkpoint.
        assert_eq!((chain.segments, chain.last_sequence), (round, round * 22));
    }
}

#[tokio::test]
async fn a_durable_record_is_in_the_file_when_the_call_returns() {
    let root = tempfile::tempdir().unwrap();
    let audit = Audit::open(settings(root.path())).unwrap();
    let event = denial();
    let id = event.id.to_string();
    audit.permit().unwrap().record_durable(event).await.unwrap();
    let [path] = only_segments(&root.path().join("audit")).try_into().unwrap();
    assert!(fs::read_to_string(path).unwrap().contains(&id));
    audit.close().await;
}

#[tokio::test]
async fn an_allowed_record_is_in_the_file_within_moments() {
    let root = tempfile::tempdir().unwrap();
    let audit = Audit::open(settings(root.path())).unwrap();
    let event = statement();
    let id = event.id.to_string();
    audit.permit().unwrap().record(event);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let [path] = only_segments(&root.path().join("audit")).try_into().unwrap();
    assert!(fs::read_to_string(path).unwrap().contains(&id));
    audit.close().await;
}

#[tokio::test]
async fn a_dropped_permit_frees_its_place_and_an_attached_event_is_recorded() {
    let root = tempfile::tempdir().unwrap();
    let audit = Audit::open(Settings { queue: 2, ..settings(root.path()) }).unwrap();
    let (first, second) = (audit.permit().unwrap(), audit.permit().unwrap());
    assert!(audit.permit().is_err(), "the queue is bounded");
    drop(first);
    let mut third = audit.permit().unwrap();
    let event = statement();
    let id = event.id.to_string();
    third.attach(event);
    drop((second, third));
    audit.close().await;
    let [path] = only_segments(&root.path().join("audit")).try_into().unwrap();
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.contains(&id)).unwrap();
    assert!(line.contains("outcome unknown"), "{line}");
    check(&root.path().join("audit"), false).unwrap();
}

#[tokio::test]
async fn one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let audit = Audit::open(settings(root.path())).unwrap();
    assert!(matches!(Audit::open(settings(root.path())), Err(OpenError::Locked(_))));
    audit.close().await;
    Audit::open(settings(root.path())).unwrap().close().await;
}

#[test]
fn eight_threads_keep_the_sequence_dense() {
    let root = tempfile::tempdir().unwrap();
    let audit = Audit::open(Settings { max_size: 300_000, ..settings(root.path()) }).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    audit.permit().unwrap().record(statement());
                }
            });
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(audit.close());
    let intact = check(&root.path().join("audit"), false).unwrap();
    let [chain] = intact.chains.as_slice() else { panic!("one chain") };
    assert!(chain.segments > 5, "rotation by size: {chain:?}");
    assert_eq!(chain.last_sequence, 1 + 8_000 + chain.segments);
    assert_eq!(chain.records, chain.last_sequence);
}

/// A closed trail of three segments with a handful of records each.
async fn three_segments(root: &Path) -> Vec<PathBuf> {
    for _ in 0..3 {
        let audit = Audit::open(settings(root)).unwrap();
        audit.permit().unwrap().record(statement());
        audit.permit().unwrap().record_durable(denial()).await.unwrap();
        audit.close().await;
    }
    only_segments(&root.join("audit"))
}

#[tokio::test]
async fn every_changed_byte_is_found() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    let segments = three_segments(root.path()).await;
    let good = fs::read(&segments[1]).unwrap();
    let lines_before = |at: usize| good[..at].iter().filter(|&&byte| byte == b'\n').count() as u64;
    let mut changed = good.clone();
    let keys = TrustedKeys::read(&directory.join(PUBLIC_KEY_FILE)).unwrap();
    let what = Verification { paths: &segments[1..2], keys: &keys, open: false };
    verify(&what, |_| {}).unwrap();
    for at in 0..good.len() {
        let flip = if at % 2 == 0 { 0x01 } else { 0x20 };
        changed[at] = good[at] ^ flip;
        fs::write(&segments[1], &changed).unwrap();
        let (line, fault) = fault(verify(&what, |_| {}));
        assert_eq!(line, lines_before(at) + 1, "byte {at} ^ {flip}: {fault}");
        changed[at] = good[at];
    }
}

/// Each byte of a file with each of its bits turned, left out, doubled, and in its neighbour's place; and
/// the file cut at each byte. With `HEDGEROW_EVERY_EDIT` set each byte becomes each of the 255 others.
#[tokio::test]
async fn every_edit_of_a_byte_and_every_cut_of_a_file_is_found() {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let audit = Audit::open(settings(root.path())).unwrap();
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    audit.close().await;
    let directory = root.path().join("audit");
    check(&directory, false).unwrap();
    let [path] = only_segments(&directory).try_into().unwrap();
    let good = fs::read(&path).unwrap();
    let masks: Vec<u8> = match std::env::var_os("HEDGEROW_EVERY_EDIT") {
        Some(_) => (1..=255).collect(),
        None => (0..8).map(|bit| 1 << bit).collect(),
    };
    // What an edit makes of the file, by number: the masks first.
    let edits = masks.len() + 4;
    let edited = |at: usize, edit: usize| -> Vec<u8> {
        let mut bytes = good.clone();
        match edit.checked_sub(masks.len()) {
            None => bytes[at] ^= masks[edit],
            Some(0) => drop(bytes.remove(at)),
            Some(1) => bytes.insert(at, good[at]),
            Some(2) => bytes.swap(at, (at + 1) % good.len()),
            Some(_) => bytes.truncate(at),
        }
        bytes
    };
    let found = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (edited, good, found, directory) = (&edited, &good, &found, &directory);
            scope.spawn(move || {
                // Each thread has its own copy to spoil.
                let place = directory.with_file_name(format!("copy-{thread}"));
                fs::create_dir(&place).unwrap();
                for entry in fs::read_dir(directory).unwrap() {
                    let entry = entry.unwrap();
                    fs::copy(entry.path(), place.join(entry.file_name())).unwrap();
                }
                let [copy] = only_segments(&place).try_into().unwrap();
                for at in (0..good.len()).filter(|at| at % threads == thread) {
                    for edit in 0..edits {
                        let bytes = edited(at, edit);
                        if bytes == *good {
                            continue;
                        }
                        fs::write(&copy, bytes).unwrap();
                        let broken =
                            matches!(check(&place, false), Err(VerifyError::Broken { .. }));
                        assert!(broken, "byte {at}, edit {edit} of {edits}");
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let found = found.into_inner();
    assert!(found > good.len() * (edits - 2), "{found}");
    println!("{found} edits of a file of {} bytes, every one found", good.len());
}

#[tokio::test]
async fn every_removed_repeated_or_swapped_line_is_found() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    for path in three_segments(root.path()).await {
        let good = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = good.split_inclusive('\n').collect();
        for at in 0..lines.len() {
            let mut removed = lines.clone();
            removed.remove(at);
            fs::write(&path, removed.concat()).unwrap();
            fault(check(&directory, false));
            let mut repeated = lines.clone();
            repeated.insert(at, lines[at]);
            fs::write(&path, repeated.concat()).unwrap();
            fault(check(&directory, false));
            for other in at + 1..lines.len() {
                let mut swapped = lines.clone();
                swapped.swap(at, other);
                fs::write(&path, swapped.concat()).unwrap();
                fault(check(&directory, false));
            }
        }
        fs::write(&path, good).unwrap();
    }
    check(&directory, false).unwrap();
}

#[tokio::test]
async fn removed_segments_are_found_wherever_they_were() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    let segments = three_segments(root.path()).await;
    let expected = [
        Fault::MissingBeginning { last: 1 },
        Fault::MissingSegment { expected: 2 },
        Fault::MissingEnd { segment: 3 },
    ];
    for (path, expected) in segments.iter().zip(expected) {
        let good = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(fault(check(&directory, false)).1, expected);
        fs::write(path, good).unwrap();
    }
    for path in &segments {
        fs::remove_file(path).unwrap();
    }
    assert_eq!(fault(check(&directory, false)).1, Fault::MissingEnd { segment: 3 });
}

#[tokio::test]
async fn a_last_segment_without_checkpoint_is_intact_only_as_an_open_one() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    let audit = Audit::open(settings(root.path())).unwrap();
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    assert_eq!(fault(check(&directory, false)).1, Fault::Unclosed);
    assert!(!check(&directory, true).unwrap().chains[0].closed);
    audit.close().await;
    assert!(check(&directory, false).unwrap().chains[0].closed);
}

#[tokio::test]
async fn a_trail_signed_by_another_key_is_found() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    three_segments(root.path()).await;
    let other = SigningKey::create(&root.path().join("other.pem")).unwrap();
    let mut keys = TrustedKeys::default();
    keys.add(other.public().clone());
    let what = Verification { paths: &[directory], keys: &keys, open: false };
    assert!(matches!(fault(verify(&what, |_| {})).1, Fault::UnknownKey(_)));
}

#[tokio::test]
async fn a_changed_signing_key_keeps_older_segments_verifiable() {
    let root = tempfile::tempdir().unwrap();
    three_segments(root.path()).await;
    fs::remove_file(root.path().join("audit-signing-key.pem")).unwrap();
    let audit = Audit::open(settings(root.path())).unwrap();
    audit.close().await;
    assert_eq!(check(&root.path().join("audit"), false).unwrap().chains[0].segments, 4);
}

#[tokio::test]
async fn a_crash_at_any_byte_of_the_last_record_is_mended_and_recorded() {
    // In memory where that can be had: this is a thousand starts, each with several fsyncs.
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let directory = root.path().join("audit");
    let audit = Audit::open(settings(root.path())).unwrap();
    audit.permit().unwrap().record(statement());
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    let [path] = only_segments(&directory).try_into().unwrap();
    let good = fs::read(&path).unwrap();
    audit.close().await;
    let closed = fs::read(&path).unwrap();
    let key = fs::read(directory.join(PUBLIC_KEY_FILE)).unwrap();
    // A crash while the checkpoint was being written is mended in the same way.
    for end in (good.len()..closed.len() - 1).step_by(101) {
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(PUBLIC_KEY_FILE), &key).unwrap();
        fs::write(&path, &closed[..end]).unwrap();
        Audit::open(settings(root.path())).unwrap().close().await;
        check(&directory, false).unwrap_or_else(|error| panic!("cut at {end}: {error}"));
    }
    let second_last = good[..good.len() - 1].iter().rposition(|&b| b == b'\n').unwrap() + 1;
    for end in second_last..=good.len() {
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(PUBLIC_KEY_FILE), &key).unwrap();
        fs::write(&path, &good[..end]).unwrap();
        Audit::open(settings(root.path())).unwrap().close().await;
        let intact =
            check(&directory, false).unwrap_or_else(|error| panic!("cut at {end}: {error}"));
        assert_eq!(intact.chains.len(), 1);
        let text = fs::read_to_string(&only_segments(&directory)[1]).unwrap();
        assert!(text.contains("\"kind\":\"gap\""), "cut at {end}");
        let torn = end - second_last;
        let whole = end + 1 >= good.len();
        let noted = text.contains(&format!("\"torn_bytes\":{}", if whole { 0 } else { torn }));
        assert!(noted, "cut at {end}: {text}");
        let side_files = fs::read_dir(&directory)
            .unwrap()
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_str().unwrap().contains(".torn-at-")
            })
            .count();
        assert_eq!(side_files, usize::from(torn > 0 && !whole), "cut at {end}");
    }
}

#[tokio::test]
async fn an_edited_record_is_not_mended_a_new_chain_begins() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    let segments = three_segments(root.path()).await;
    let text = fs::read_to_string(&segments[2]).unwrap().replace("alice", "malory");
    fs::write(&segments[2], &text).unwrap();
    let audit = Audit::open(settings(root.path())).unwrap();
    audit.close().await;
    assert_eq!(fs::read_to_string(&segments[2]).unwrap(), text, "evidence stays as it is");
    assert_eq!(fault(check(&directory, false)).1, Fault::Hash);
    let all = only_segments(&directory);
    assert_eq!(all.len(), 4);
    let fresh = fs::read_to_string(all.last().unwrap()).unwrap();
    assert!(fresh.contains("is broken"), "{fresh}");
}

#[tokio::test]
async fn retention_deletes_old_segments_and_the_rest_verifies() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    let segments = three_segments(root.path()).await;
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(100 * 86_400);
    for path in &segments[..2] {
        File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    Audit::open(settings(root.path())).unwrap().close().await;
    let intact = check(&directory, false).unwrap();
    assert_eq!(only_segments(&directory).len(), 2);
    assert!(intact.chains[0].first_sequence > 1);
}

/// A disk that fails when told to, and that keeps half of what it is given when it does.
#[derive(Clone, Default)]
struct FlakyDisk {
    broken: Arc<AtomicBool>,
    sync_broken: Arc<AtomicBool>,
    failures: Arc<AtomicUsize>,
    hanging: Arc<AtomicBool>,
}

struct FlakyFile {
    disk: FlakyDisk,
    file: Box<dyn DiskFile>,
}

impl FlakyDisk {
    fn fail<T>(&self) -> io::Result<T> {
        self.failures.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

impl Disk for FlakyDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.broken.load(Ordering::SeqCst) {
            return self.fail();
        }
        let file = FileSystem.create(path)?;
        Ok(Box::new(FlakyFile { disk: self.clone(), file }))
    }
}

impl DiskFile for FlakyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.disk.broken.load(Ordering::SeqCst) {
            self.file.append(&bytes[..bytes.len() / 2])?;
            return self.disk.fail();
        }
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        while self.disk.hanging.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.disk.broken.load(Ordering::SeqCst) || self.disk.sync_broken.load(Ordering::SeqCst) {
            return self.disk.fail();
        }
        self.file.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn in_place(&self, path: &Path) -> bool {
        self.file.in_place(path)
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn a_failing_disk_refuses_permits_and_loses_nothing_when_it_works_again() {
    for only_sync in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("audit");
        let disk = FlakyDisk::default();
        let audit = Audit::open_on(settings(root.path()), Box::new(disk.clone())).unwrap();
        audit.permit().unwrap().record(statement());
        let (early, late) = (audit.permit().unwrap(), audit.permit().unwrap());
        let switch = if only_sync { &disk.sync_broken } else { &disk.broken };
        switch.store(true, Ordering::SeqCst);
        let event = denial();
        let ids = [event.id, denial().id];
        assert!(early.record_durable(event).await.is_err());
        assert!(!audit.healthy());
        assert!(audit.permit().is_err());
        late.record(Event { id: ids[1], ..denial() });
        until("a second try", || disk.failures.load(Ordering::SeqCst) > 1).await;
        switch.store(false, Ordering::SeqCst);
        until("recovery", || audit.healthy()).await;
        audit.permit().unwrap().record_durable(denial()).await.unwrap();
        audit.close().await;
        check(&directory, false).unwrap();
        let [path] = only_segments(&directory).try_into().unwrap();
        let text = fs::read_to_string(path).unwrap();
        for id in ids {
            assert_eq!(text.matches(&format!("\"uid\":\"{id}\",\"version\"")).count(), 1);
        }
        assert!(text.contains("\"refused\":1"), "the gap record counts refusals");
    }
}

#[tokio::test]
async fn a_segment_removed_while_it_is_written_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    let audit = Audit::open(settings(root.path())).unwrap();
    let [path] = only_segments(&directory).try_into().unwrap();
    fs::remove_file(path).unwrap();
    until("a new segment", || !only_segments(&directory).is_empty()).await;
    audit.close().await;
    assert_eq!(fault(check(&directory, false)).1, Fault::MissingBeginning { last: 1 });
}

#[tokio::test]
async fn a_disk_that_hangs_makes_the_trail_unhealthy_and_blocks_nobody() {
    let root = tempfile::tempdir().unwrap();
    let disk = FlakyDisk::default();
    let audit = Audit::open_on(settings(root.path()), Box::new(disk.clone())).unwrap();
    disk.hanging.store(true, Ordering::SeqCst);
    assert!(audit.permit().unwrap().record_durable(denial()).await.is_err());
    until("the disk counts as stuck", || !audit.healthy()).await;
    assert!(audit.permit().is_err());
    disk.hanging.store(false, Ordering::SeqCst);
    until("the disk answers again", || audit.healthy()).await;
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    audit.close().await;
    check(&root.path().join("audit"), false).unwrap();
}

#[tokio::test]
async fn a_full_queue_is_refused_and_recorded() {
    let root = tempfile::tempdir().unwrap();
    let audit = Audit::open(Settings { queue: 1, ..settings(root.path()) }).unwrap();
    let permit = audit.permit().unwrap();
    assert!(audit.permit().is_err());
    drop(permit);
    let directory = root.path().join("audit");
    let [path] = only_segments(&directory).try_into().unwrap();
    until("the refusal is recorded", || {
        fs::read_to_string(&path).unwrap().contains("\"refused\":1")
    })
    .await;
    audit.close().await;
    check(&directory, false).unwrap();
}

#[tokio::test]
async fn segments_are_closed_by_age() {
    let root = tempfile::tempdir().unwrap();
    let age = Duration::from_millis(10);
    let audit = Audit::open(Settings { max_age: age, ..settings(root.path()) }).unwrap();
    let directory = root.path().join("audit");
    until("the segment is closed", || check(&directory, false).is_ok()).await;
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    audit.close().await;
    assert_eq!(check(&directory, false).unwrap().chains[0].segments, 2);
}

#[test]
fn keys_of_openssl_are_read_and_ours_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    // RFC 8410, section 10.3 (PKCS#8 version 1) and 10.1 (its public key).
    let root = tempfile::tempdir().unwrap();
    let private = root.path().join("key.pem");
    let text = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    fs::write(&private, text).unwrap();
    let key = SigningKey::read(&private).unwrap();
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    assert_eq!(key.public().pem(), pem);
    let made = root.path().join("made.pem");
    let created = SigningKey::create(&made).unwrap();
    assert_eq!(SigningKey::read(&made).unwrap().public(), created.public());
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    for garbage in ["", "no key", pem] {
        fs::write(&private, garbage).unwrap();
        assert!(SigningKey::read(&private).is_err());
    }
    assert!(!format!("{key:?}").contains("MC4C"));
}

#[tokio::test]
async fn garbage_in_the_place_of_a_segment_is_named_and_never_panics() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("audit");
    let segments = three_segments(root.path()).await;
    let deep = "[".repeat(100_000);
    let long = "x".repeat(segment::MAX_LINE + 10);
    for garbage in
        ["", "\n", "{}\n", "null\n", "\0\0\0", &deep, &long, "{\"a\":1e999}\n", "\u{feff}{}\n"]
    {
        fs::write(&segments[1], garbage).unwrap();
        fault(check(&directory, true));
    }
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let audit = Audit::open(Settings { queue: 1, ..settings(root.path()) }).unwrap();
    let taken = audit.permit().unwrap();
    let freed = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(taken);
    };
    let waited = async {
        audit.room().await;
        audit.permit().is_ok()
    };
    let ((), got) = tokio::join!(freed, waited);
    assert!(got, "the place that was freed is given");
    audit.close().await;
}
