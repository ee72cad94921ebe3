//! A follower says of a growing trail what `audit verify` says of one at rest.

use super::super::tests::{denial, statement};
use super::super::{Audit, PUBLIC_KEY_FILE, Settings};
use super::*;
use std::time::Duration;

struct Trail {
    root: tempfile::TempDir,
}

impl Trail {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("audit")
    }

    fn open(&self) -> Audit {
        Audit::open(Settings::new(self.directory())).unwrap()
    }

    async fn segment(&self) {
        let audit = self.open();
        audit.permit().unwrap().record(statement());
        audit.permit().unwrap().record_durable(denial()).await.unwrap();
        audit.close().await;
    }

    fn survey(&self) -> Survey {
        Survey::of(&self.directory()).unwrap()
    }

    fn follower(&self) -> Vigil {
        let keys = TrustedKeys::read(&self.directory().join(PUBLIC_KEY_FILE)).unwrap();
        let survey = self.survey();
        let chain = survey.chains().next().unwrap().to_owned();
        Vigil::new(&self.directory(), &chain, true, keys)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let listed = SegmentFile::list(&self.directory()).unwrap();
        listed.into_iter().map(|segment| segment.path).collect()
    }

    /// Polls until everything is read; the small budget makes it many parts.
    fn settle(&self, follower: &mut Vigil) {
        for _ in 0..200 {
            follower.poll(&self.survey(), 3_000);
            if follower.standing().complete {
                return;
            }
        }
        panic!("never complete: {:?}", follower.standing());
    }
}

#[tokio::test]
async fn a_growing_trail_is_followed_record_by_record() {
    let trail = Trail::new();
    trail.segment().await;
    let audit = trail.open();
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    let mut follower = trail.follower();
    trail.settle(&mut follower);
    let seen = follower.standing();
    assert!(seen.fault.is_none() && !seen.closed, "{seen:?}");
    assert_eq!(seen.checkpoint.as_ref().unwrap().segment, 1);
    let before = seen.sequence.unwrap();
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    trail.settle(&mut follower);
    assert_eq!(follower.standing().sequence, Some(before + 1));
    audit.close().await;
    trail.segment().await;
    trail.settle(&mut follower);
    let seen = follower.standing();
    assert!(seen.fault.is_none() && seen.closed, "{seen:?}");
    assert_eq!(seen.checkpoint.as_ref().unwrap().segment, 3);
    assert_eq!((seen.records, seen.changed), (seen.sequence.unwrap(), 0));
}

#[tokio::test]
async fn an_edit_of_what_was_read_already_is_found() {
    let trail = Trail::new();
    for _ in 0..3 {
        trail.segment().await;
    }
    let mut follower = trail.follower();
    trail.settle(&mut follower);
    assert!(follower.standing().fault.is_none());
    let file = trail.segments().remove(1);
    let good = fs::read(&file).unwrap();
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let forged = String::from_utf8(good.clone()).unwrap().replacen("alice", "alicf", 1);
    fs::write(&file, forged).unwrap();
    // The forger sets the time of the content back.
    File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    trail.settle(&mut follower);
    trail.settle(&mut follower);
    let fault = follower.standing().fault.as_ref().unwrap().to_string();
    assert!(fault.contains("does not match its hash") && fault.contains("-0000000002"), "{fault}");
    fs::write(&file, good).unwrap();
    trail.settle(&mut follower);
    trail.settle(&mut follower);
    assert!(follower.standing().fault.is_none(), "it was put back");
    assert!(follower.standing().changed >= 2);
}

#[tokio::test]
async fn an_edit_of_the_open_segment_is_found_when_it_is_closed() {
    let trail = Trail::new();
    let audit = trail.open();
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    let mut follower = trail.follower();
    trail.settle(&mut follower);
    let file = trail.segments().remove(0);
    let text = fs::read_to_string(&file).unwrap().replacen("alice", "alicf", 1);
    let mut inside = File::options().write(true).open(&file).unwrap();
    std::io::Write::write_all(&mut inside, text.as_bytes()).unwrap();
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    audit.close().await;
    trail.settle(&mut follower);
    assert!(follower.standing().fault.is_some(), "{:?}", follower.standing());
}

#[tokio::test]
async fn a_segment_or_the_end_that_goes_missing_is_found() {
    for gone in 0..3 {
        let trail = Trail::new();
        for _ in 0..3 {
            trail.segment().await;
        }
        let mut follower = trail.follower();
        trail.settle(&mut follower);
        assert!(follower.standing().fault.is_none());
        fs::remove_file(trail.segments().remove(gone)).unwrap();
        follower.poll(&trail.survey(), u64::MAX);
        trail.settle(&mut follower);
        let fault = follower.standing().fault.as_ref().map(ToString::to_string);
        assert!(fault.is_some_and(|fault| fault.contains("missing")), "segment {gone}");
    }
}

#[tokio::test]
async fn what_retention_deletes_is_no_fault() {
    let trail = Trail::new();
    for _ in 0..2 {
        trail.segment().await;
    }
    let mut follower = trail.follower();
    trail.settle(&mut follower);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let retention = Some(Duration::from_secs(1));
    let audit = Audit::open(Settings { retention, ..Settings::new(trail.directory()) }).unwrap();
    audit.permit().unwrap().record_durable(denial()).await.unwrap();
    audit.close().await;
    assert!(trail.segments().len() < 3, "retention deleted something");
    trail.settle(&mut follower);
    assert!(follower.standing().fault.is_none(), "{:?}", follower.standing());
    let mut fresh = trail.follower();
    trail.settle(&mut fresh);
    assert!(fresh.standing().fault.is_none(), "{:?}", fresh.standing());
}

#[tokio::test]
async fn a_key_that_is_not_trusted_breaks_the_chain_until_it_is() {
    let trail = Trail::new();
    trail.segment().await;
    let other = Trail::new();
    other.segment().await;
    let strange = TrustedKeys::read(&other.directory().join(PUBLIC_KEY_FILE)).unwrap();
    let own = TrustedKeys::read(&trail.directory().join(PUBLIC_KEY_FILE)).unwrap();
    let mut follower = trail.follower();
    follower.trust(strange);
    trail.settle(&mut follower);
    assert!(follower.standing().fault.as_ref().unwrap().to_string().contains("not trusted"));
    follower.trust(own);
    trail.settle(&mut follower);
    assert!(follower.standing().fault.is_none());
}

#[tokio::test]
async fn lines_are_read_with_their_places() {
    let trail = Trail::new();
    trail.segment().await;
    let file = trail.segments().remove(0);
    let text = fs::read_to_string(&file).unwrap();
    let mut places = Vec::new();
    let (end, whole) = read_lines(&file, 0, |at, line| {
        assert!(check_line(line).is_ok());
        places.push(at);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((end, whole, places.len()), (text.len() as u64, true, text.lines().count()));
    let mut again = Vec::new();
    read_lines(&file, places[1], |at, _| {
        again.push(at);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(again, places[1..]);
}
