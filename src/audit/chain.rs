//! The chain: what ties a record to the one before, and what a checkpoint says of a segment.
//! Layer 2, pure.
//!
//! A record's hash is SHA-256 over its RFC 8785 form without its own `fingerprint` and
//! `signatures` (OCSF 1.9, profile `record_integrity`). The hash of the record before is inside
//! that form, so a checkpoint's signature, which is over its hash, vouches for all before it.

use sha2::{Digest, Sha256};
use std::fmt;

/// A record's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHash([u8; 32]);

impl RecordHash {
    /// Hashes the parts, one after the other.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Reads 64 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (slot, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            let mut value = 0;
            for &digit in pair {
                value = value << 4
                    | match digit {
                        b'0'..=b'9' => digit - b'0',
                        b'a'..=b'f' => digit - b'a' + 10,
                        _ => return None,
                    };
            }
            *slot = value;
        }
        Some(Self(hash))
    }
}

impl RecordHash {
    /// As 64 lower-case hex digits.
    pub(super) fn hex(&self) -> Hex {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
        let mut hex = [0; 64];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 0x0f)];
        }
        Hex(hex)
    }
}

/// A hash in hex digits.
pub(super) struct Hex([u8; 64]);

impl Hex {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().as_str())
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The end of a chain: what the next record must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last record's sequence number.
    pub sequence: u64,
    /// Its hash.
    pub hash: RecordHash,
    /// Its id.
    pub uid: String,
}

/// What a checkpoint says of the segment that it closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number of the segment within its chain, from 1.
    pub segment: u64,
    /// Sequence number of the segment's first record.
    pub first_sequence: u64,
    /// Sequence number of the last record before the checkpoint.
    pub last_sequence: u64,
    /// Records before the checkpoint.
    pub count: u64,
    /// Hash of the last record before the checkpoint.
    pub last_hash: RecordHash,
    /// Hash of the checkpoint that closed the segment before; `None` in the first segment.
    pub previous_checkpoint: Option<RecordHash>,
    /// Identifies the signing key (see [`super::key::key_id`]).
    pub key_id: String,
    /// Whether the segment was closed at the next start, after a crash.
    pub recovered: bool,
}

/// The bytes that a checkpoint's signature is over. The prefix keeps a signature from being
/// passed off as one made for another purpose.
pub(super) fn signed_bytes(hash: &RecordHash) -> Vec<u8> {
    format!("hedgerow audit checkpoint v1\n{hash}").into_bytes()
}
