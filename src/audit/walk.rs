//! Walks a chain record by record and stops at the first that does not fit. Layer 2, pure: lines
//! in, faults out. `audit verify` and recovery after a crash both come through here.

use super::chain::{Checkpoint, RecordHash, Tip, signed_bytes};
use super::key::TrustedKeys;
use super::quick;
use crate::mutant;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Why a record, or a segment, does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is not JSON.
    #[error("the line is not JSON: it was cut or overwritten")]
    NotJson,
    /// The last line has no newline.
    #[error("the last line is cut off")]
    CutOff,
    /// The line is longer than any record.
    #[error("the line is longer than any record")]
    TooLong,
    /// JSON, but not in canonical form.
    #[error("the line is not in canonical form: it was edited")]
    NotCanonical,
    /// A field of the chain is missing or of the wrong type.
    #[error("the record has no valid {0}: it was edited or is no audit record")]
    Shape(&'static str),
    /// The record's content does not match its hash.
    #[error("the record does not match its hash: it was edited")]
    Hash,
    /// The record belongs to another chain.
    #[error("the record belongs to chain {found}, not to {expected}")]
    Chain {
        /// The chain of the file's name.
        expected: String,
        /// The record's.
        found: String,
    },
    /// The sequence does not go on by one.
    #[error(
        "sequence {found} stands where {expected} should: records are missing, repeated or reordered"
    )]
    Sequence {
        /// What should be there.
        expected: u64,
        /// What is.
        found: u64,
    },
    /// The hash of the record before does not match.
    #[error("the record does not follow the one before it: one of the two was replaced")]
    Previous,
    /// The chain does not begin with record 1.
    #[error("the chain's first segment does not begin with its first record")]
    Beginning,
    /// The checkpoint says something else than the segment.
    #[error("the checkpoint's {0} does not match the segment")]
    Checkpoint(&'static str),
    /// The key is not trusted.
    #[error("the checkpoint is signed by key {0}, which is not trusted")]
    UnknownKey(String),
    /// The signature is wrong.
    #[error("the checkpoint's signature is wrong")]
    Signature,
    /// Something follows the checkpoint.
    #[error("a record follows the segment's checkpoint")]
    AfterCheckpoint,
    /// The segment has no checkpoint.
    #[error(
        "the segment has no checkpoint: it was cut, or is still being written (then use --open)"
    )]
    Unclosed,
    /// The segment has no record at all.
    #[error("the segment is empty")]
    Empty,
    /// Segments are missing.
    #[error("segment {expected} is missing")]
    MissingSegment {
        /// The first one missing.
        expected: u64,
    },
    /// Segments at the beginning are missing, and no retention record says so.
    #[error("segments 1 to {last} are missing, and no retention record accounts for them")]
    MissingBeginning {
        /// The last one missing.
        last: u64,
    },
    /// The head file knows of later segments.
    #[error("the chain's head file names segment {segment}, which is missing: the end was removed")]
    MissingEnd {
        /// The segment that the head names.
        segment: u64,
    },
    /// The head file is not what the chain says, or not signed by a trusted key.
    #[error("the chain's head file does not match the chain")]
    Head,
}

/// What the walk needs to know of a record.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) chain: String,
    pub(super) tip: Tip,
    previous: Option<(RecordHash, String)>,
    checkpoint: Option<(Checkpoint, String)>,
    retention: Option<u64>,
}

impl Link {
    /// Reads a line and checks what can be checked without its neighbours: form and hash.
    pub(super) fn read(line: &[u8]) -> Result<Self, Fault> {
        match quick::read(line) {
            Some(quick::Plain { chain, tip, previous }) => {
                Ok(Self { chain, tip, previous, checkpoint: None, retention: None })
            }
            None => Self::read_whole(line),
        }
    }

    /// The slow way, for every line that is not plainly as the writer writes it.
    fn read_whole(line: &[u8]) -> Result<Self, Fault> {
        let mut record: Value = serde_json::from_slice(line).map_err(|_| Fault::NotJson)?;
        if canonical(&record)? != line {
            return Err(Fault::NotCanonical);
        }
        let sequence = record
            .pointer("/metadata/sequence")
            .and_then(Value::as_u64)
            .ok_or(Fault::Shape("sequence"))?;
        let uid = text(&record, "/metadata/uid").ok_or(Fault::Shape("metadata.uid"))?;
        let chain = text(&record, "/unmapped/hedgerow/chain").ok_or(Fault::Shape("chain"))?;
        if record.pointer("/unmapped/hedgerow/sequence").and_then(Value::as_u64) != Some(sequence) {
            return Err(Fault::Shape("sequence"));
        }
        let kind = text(&record, "/unmapped/hedgerow/kind").ok_or(Fault::Shape("kind"))?;
        let checkpoint = match kind.as_str() {
            "checkpoint" => Some(read_checkpoint(&record).ok_or(Fault::Shape("checkpoint"))?),
            _ => None,
        };
        let retention = match kind.as_str() {
            "retention" => record
                .pointer("/unmapped/hedgerow/retention/through_segment")
                .and_then(Value::as_u64),
            _ => None,
        };

        let attestation = sole_attestation(&mut record).ok_or(Fault::Shape("attestation"))?;
        if attestation.get("chain_uid").and_then(Value::as_str) != Some(&chain) {
            return Err(Fault::Shape("attestation"));
        }
        let previous = match attestation.get("prev_event") {
            None => None,
            Some(previous) => Some(read_previous(previous).ok_or(Fault::Shape("prev_event"))?),
        };
        let fingerprint = attestation.remove("fingerprint").ok_or(Fault::Shape("fingerprint"))?;
        let signatures = attestation.remove("signatures");
        let hash = RecordHash::of(&[&canonical(&record)?]);
        // SECURITY: what is left out of the hash must have exactly one possible content.
        if fingerprint != expected_fingerprint(&hash) && !mutant::on("record-hash") {
            return Err(Fault::Hash);
        }
        let checkpoint = match (checkpoint, signatures) {
            (None, None) => None,
            (Some(checkpoint), Some(signatures)) => {
                let signature = read_signature(&signatures, &checkpoint.key_id)
                    .ok_or(Fault::Shape("signature"))?;
                Some((checkpoint, signature))
            }
            (None, Some(_)) | (Some(_), None) => return Err(Fault::Shape("signature")),
        };
        Ok(Self { chain, tip: Tip { sequence, hash, uid }, previous, checkpoint, retention })
    }
}

fn canonical(value: &Value) -> Result<Vec<u8>, Fault> {
    serde_json_canonicalizer::to_vec(value).map_err(|_| Fault::NotCanonical)
}

fn text(record: &Value, pointer: &str) -> Option<String> {
    record.pointer(pointer)?.as_str().map(str::to_owned)
}

fn sole_attestation(record: &mut Value) -> Option<&mut Map<String, Value>> {
    match record.pointer_mut("/unmapped/attestation_list")?.as_array_mut()?.as_mut_slice() {
        [Value::Object(attestation)] => Some(attestation),
        _ => None,
    }
}

fn read_previous(previous: &Value) -> Option<(RecordHash, String)> {
    let hash = RecordHash::from_hex(previous.pointer("/fingerprint/value")?.as_str()?)?;
    Some((hash, previous.get("uid")?.as_str()?.to_owned()))
}

fn expected_fingerprint(hash: &RecordHash) -> Value {
    json!({
        "algorithm": "SHA-256",
        "algorithm_id": 3,
        "serialization": "JCS",
        "serialization_id": 2,
        "value": hash.to_string(),
    })
}

fn read_signature(signatures: &Value, key_id: &str) -> Option<String> {
    let value = signatures.pointer("/0/value")?.as_str()?.to_owned();
    let expected = json!([
        {"algorithm": "Ed25519", "algorithm_id": 99, "key_uid": key_id, "value": value}
    ]);
    (*signatures == expected).then_some(value)
}

fn read_checkpoint(record: &Value) -> Option<Checkpoint> {
    let fields = record.pointer("/unmapped/hedgerow/checkpoint")?;
    let number = |key| fields.get(key).and_then(Value::as_u64);
    let hash = |key| fields.get(key).and_then(Value::as_str).and_then(RecordHash::from_hex);
    Some(Checkpoint {
        segment: number("segment")?,
        first_sequence: number("first_sequence")?,
        last_sequence: number("last_sequence")?,
        count: number("count")?,
        last_hash: hash("last_hash")?,
        previous_checkpoint: match fields.get("previous_checkpoint") {
            None => None,
            Some(_) => Some(hash("previous_checkpoint")?),
        },
        key_id: fields.get("key_id")?.as_str()?.to_owned(),
        recovered: fields.get("recovered")?.as_bool()?,
    })
}

/// What was seen of the segment at hand.
#[derive(Clone, Debug)]
pub(super) struct SegmentView {
    /// Its number.
    pub(super) number: u64,
    /// Sequence number of its first record.
    pub(super) first_sequence: Option<u64>,
    /// Records so far, without the checkpoint.
    pub(super) count: u64,
    /// Hash of the checkpoint that closed the segment before, as its first record names it.
    pub(super) previous_checkpoint: Option<RecordHash>,
    /// Whether the checkpoint was seen.
    pub(super) closed: bool,
}

/// A checkpoint that fitted and whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The segment that it closes.
    pub segment: u64,
    /// Its own sequence number.
    pub sequence: u64,
    /// Id of the key that signed it.
    pub key_id: String,
    /// Whether it was written at the start after a crash.
    pub recovered: bool,
}

/// A walk along one chain.
#[derive(Clone)]
pub(super) struct Walk<'a> {
    chain: String,
    keys: Cow<'a, TrustedKeys>,
    tip: Option<Tip>,
    segment: Option<SegmentView>,
    checkpoint: Option<SignedCheckpoint>,
    retained_through: u64,
}

impl<'a> Walk<'a> {
    /// A walk that begins at whatever segment comes first.
    pub(super) fn new(chain: impl Into<String>, keys: &'a TrustedKeys) -> Self {
        Self::on(chain.into(), Cow::Borrowed(keys))
    }

    /// The same, with keys of its own.
    pub(super) fn owning(chain: impl Into<String>, keys: TrustedKeys) -> Walk<'static> {
        Walk::on(chain.into(), Cow::Owned(keys))
    }

    fn on(chain: String, keys: Cow<'a, TrustedKeys>) -> Self {
        Self { chain, keys, tip: None, segment: None, checkpoint: None, retained_through: 0 }
    }

    /// The last record that fitted.
    pub(super) fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    /// The last checkpoint.
    pub(super) fn checkpoint(&self) -> Option<&SignedCheckpoint> {
        self.checkpoint.as_ref()
    }

    /// The segment at hand.
    pub(super) fn segment(&self) -> Option<&SegmentView> {
        self.segment.as_ref()
    }

    /// The last segment that a retention record accounts for; 0 if none does.
    pub(super) fn retained_through(&self) -> u64 {
        self.retained_through
    }

    /// Begins a segment.
    pub(super) fn begin_segment(&mut self, number: u64) -> Result<(), Fault> {
        if let Some(before) = &self.segment {
            let expected = before.number.saturating_add(1);
            if number != expected {
                return Err(Fault::MissingSegment { expected });
            }
        }
        self.segment = Some(SegmentView {
            number,
            first_sequence: None,
            count: 0,
            previous_checkpoint: None,
            closed: false,
        });
        Ok(())
    }

    /// Takes the next line (without newline).
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let link = Link::read(line)?;
        let segment = self.segment.as_mut().ok_or(Fault::Empty)?;
        if segment.closed {
            return Err(Fault::AfterCheckpoint);
        }
        if link.chain != self.chain {
            return Err(Fault::Chain { expected: self.chain.clone(), found: link.chain });
        }
        match &self.tip {
            Some(tip) => {
                let expected = tip.sequence.saturating_add(1);
                if link.tip.sequence != expected && !mutant::on("sequence") {
                    return Err(Fault::Sequence { expected, found: link.tip.sequence });
                }
                if link
                    .previous
                    .as_ref()
                    .is_none_or(|(hash, uid)| *hash != tip.hash || *uid != tip.uid)
                    && !mutant::on("chain")
                {
                    return Err(Fault::Previous);
                }
            }
            // Where the walk begins in the middle, what the record says of the one before is vouched
            // for by this segment's own checkpoint.
            None => {
                let of_chain = link.tip.sequence == 1 && link.previous.is_none();
                let of_later_segment = link.tip.sequence > 1 && link.previous.is_some();
                if if segment.number == 1 { !of_chain } else { !of_later_segment } {
                    return Err(Fault::Beginning);
                }
            }
        }
        if segment.first_sequence.is_none() {
            segment.first_sequence = Some(link.tip.sequence);
            segment.previous_checkpoint = link.previous.as_ref().map(|(hash, _)| *hash);
        }
        match &link.checkpoint {
            Some((checkpoint, signature)) => {
                check_checkpoint(checkpoint, signature, segment, &link, &self.keys)?;
                segment.closed = true;
                self.checkpoint = Some(SignedCheckpoint {
                    segment: checkpoint.segment,
                    sequence: link.tip.sequence,
                    key_id: checkpoint.key_id.clone(),
                    recovered: checkpoint.recovered,
                });
            }
            None => segment.count = segment.count.saturating_add(1),
        }
        if let Some(through) = link.retention {
            self.retained_through = self.retained_through.max(through);
        }
        self.tip = Some(link.tip);
        Ok(())
    }

    /// Ends the segment; `open` says that it may lack its checkpoint.
    pub(super) fn end_segment(&self, open: bool) -> Result<(), Fault> {
        match &self.segment {
            _ if mutant::on("unclosed") => Ok(()),
            Some(segment) if segment.closed => Ok(()),
            Some(_) if open => Ok(()),
            Some(segment) if segment.first_sequence.is_none() => Err(Fault::Empty),
            Some(_) | None => Err(Fault::Unclosed),
        }
    }
}

fn check_checkpoint(
    checkpoint: &Checkpoint,
    signature: &str,
    segment: &SegmentView,
    link: &Link,
    keys: &TrustedKeys,
) -> Result<(), Fault> {
    match keys.verify(&checkpoint.key_id, &signed_bytes(&link.tip.hash), signature) {
        Some(true) => {}
        Some(false) if !mutant::on("checkpoint-signature") => return Err(Fault::Signature),
        Some(false) => {}
        None => return Err(Fault::UnknownKey(checkpoint.key_id.clone())),
    }
    let mismatch = if checkpoint.segment != segment.number {
        "segment number"
    } else if Some(checkpoint.first_sequence) != segment.first_sequence {
        "first sequence"
    } else if checkpoint.last_sequence.checked_add(1) != Some(link.tip.sequence) {
        "last sequence"
    } else if checkpoint.count != segment.count {
        "count"
    } else if Some(checkpoint.last_hash) != link.previous.as_ref().map(|(hash, _)| *hash) {
        "last hash"
    } else if checkpoint.previous_checkpoint != segment.previous_checkpoint {
        "previous checkpoint"
    } else {
        return Ok(());
    };
    Err(Fault::Checkpoint(mismatch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ocsf::{Extra, render};
    use proptest::prelude::*;

    fn line(statement: &str) -> Vec<u8> {
        let mut event = crate::audit::tests::statement();
        event.statement = Some(statement.into());
        event.application_name = Some(statement.into());
        let tip = Tip { sequence: 6, hash: RecordHash::of(&[b"x"]), uid: event.id.to_string() };
        let chain = "01934f5e-0000-7000-8000-000000000000";
        render(&event, &Extra::None, chain, Some(&tip), |_| String::new()).line
    }

    proptest! {
        #[test]
        fn the_quick_way_and_the_slow_way_say_the_same(
            text in "\\PC{0,40}|[\\x00-\\x7f]{0,20}|(,\"fingerprint\":\\{\"algorithm\":\"SHA-256\"){1,2}",
            at in any::<prop::sample::Index>(), put in any::<u8>(), edit in any::<bool>(),
        ) {
            let mut line = line(&text);
            if edit {
                let at = at.index(line.len());
                line[at] = put;
            }
            let whole = Link::read_whole(&line);
            if let Some(plain) = quick::read(&line) {
                let whole = whole.expect("what the quick way accepts, the slow way accepts");
                prop_assert_eq!(plain.chain, whole.chain);
                prop_assert_eq!(plain.tip, whole.tip);
                prop_assert_eq!(plain.previous, whole.previous);
                prop_assert!(whole.checkpoint.is_none() && whole.retention.is_none());
            } else {
                prop_assert!(edit, "a record as it was written is read the quick way");
            }
        }
    }
}
