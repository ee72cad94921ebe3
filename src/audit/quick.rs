//! Reads a record that is exactly as the writer writes it, without making a tree of it. Layer 2,
//! pure.
//!
//! Verification of millions of records spends its time on reading JSON and writing it anew in
//! canonical form. Both can be left out for a line that carries the hash of its own bytes: the hash
//! is over all of the line but the fingerprint itself, so that a line which fits its hash is, byte for
//! byte, what was hashed when it was written. Whatever is not plainly so (a checkpoint, an edit, a
//! line of another spelling) is left to the slow way, which also names what is wrong.
//!
//! SECURITY: `None` means "not known", never "broken". The slow way also refuses a line of another
//! spelling that was hashed as it stands: the writer writes none, and whoever can put one into a
//! closed segment can sign. A test compares the two ways.

use super::chain::{RecordHash, Tip};
use serde::Deserialize;

/// What the writer puts into a record around its hash.
const FINGERPRINT: &str = r#","fingerprint":{"algorithm":"SHA-256","algorithm_id":3,"serialization":"JCS","serialization_id":2,"value":""#;
/// Length of a hash in hex.
const HEX: usize = 64;

/// What a plain record says of its place in the chain.
pub(super) struct Plain {
    pub(super) chain: String,
    pub(super) tip: Tip,
    pub(super) previous: Option<(RecordHash, String)>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    sequence: u64,
    uid: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unmapped<'a> {
    #[serde(borrow)]
    attestation_list: (Attestation<'a>,),
    #[serde(borrow)]
    hedgerow: Own<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attestation<'a> {
    chain_uid: &'a str,
    #[serde(borrow)]
    fingerprint: Fingerprint<'a>,
    #[serde(borrow)]
    prev_event: Option<Previous<'a>>,
}

#[derive(Deserialize)]
struct Fingerprint<'a> {
    value: &'a str,
}

#[derive(Deserialize)]
struct Previous<'a> {
    #[serde(borrow)]
    fingerprint: Fingerprint<'a>,
    uid: &'a str,
}

#[derive(Deserialize)]
struct Own<'a> {
    chain: &'a str,
    kind: &'a str,
    sequence: u64,
}

/// Reads the line; `None`: the slow way has to.
pub(super) fn read(line: &[u8]) -> Option<Plain> {
    let text = std::str::from_utf8(line).ok()?;
    let (before, rest) = text.split_once(FINGERPRINT)?;
    let (hex, rest) = rest.split_at_checked(HEX)?;
    let after = rest.strip_prefix("\"}")?;
    if after.contains(FINGERPRINT) {
        return None;
    }
    let hash = RecordHash::from_hex(hex)?;
    if RecordHash::of(&[before.as_bytes(), after.as_bytes()]) != hash {
        return None;
    }
    let record: Line<'_> = serde_json::from_str(text).ok()?;
    let (attestation,) = &record.unmapped.attestation_list;
    let own = &record.unmapped.hedgerow;
    // What these two say besides is read the slow way.
    let plain = !matches!(own.kind, "checkpoint" | "retention")
        && own.sequence == record.metadata.sequence
        && own.chain == attestation.chain_uid
        && attestation.fingerprint.value == hex;
    if !plain {
        return None;
    }
    let previous = match &attestation.prev_event {
        None => None,
        Some(previous) => {
            Some((RecordHash::from_hex(previous.fingerprint.value)?, previous.uid.to_owned()))
        }
    };
    Some(Plain {
        chain: own.chain.to_owned(),
        tip: Tip { sequence: own.sequence, hash, uid: record.metadata.uid.to_owned() },
        previous,
    })
}
