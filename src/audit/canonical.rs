//! Writes JSON straight in RFC 8785 canonical form: keys in order, no blanks, one spelling of each
//! text and number. Layer 2, pure.
//!
//! A record is hashed over its canonical form and stored in that same form, so that no byte of a
//! line can change unseen. Verification canonicalizes with another implementation
//! (`serde_json_canonicalizer`); a test holds the two together.

use std::fmt::Display;
use std::io::Write as _;

/// The largest integer that every JSON reader keeps exactly (2^53 - 1).
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// An object being written. Keys are ASCII and must come in ascending order.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    last: &'static str,
}

impl<'a> Object<'a> {
    /// Writes `{…}` with what `fill` puts into it.
    pub(super) fn write(out: &'a mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        fill(&mut Object { out, last: "" });
        out.push(b'}');
    }

    /// Writes the comma, if one is due, and `"key":`.
    fn key(&mut self, key: &'static str) {
        debug_assert!(self.last < key, "keys out of order: {} before {key}", self.last);
        if !self.last.is_empty() {
            self.out.push(b',');
        }
        self.last = key;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// `"key":"value"`
    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        self.key(key);
        write_text(self.out, value);
    }

    /// `"key":"value"`, if there is a value.
    pub(super) fn maybe(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// `"key":"value"` for a value in which nothing needs an escape: hexadecimal, addresses, times.
    pub(super) fn plain(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        self.out.push(b'"');
        // Writing to a vector cannot fail.
        let _written = write!(self.out, "{value}");
        self.out.push(b'"');
    }

    /// `"key":"value"` for an integer of any size.
    pub(super) fn digits(&mut self, key: &'static str, value: u64) {
        self.key(key);
        self.out.push(b'"');
        write_number(self.out, value);
        self.out.push(b'"');
    }

    /// `"key":value`; an integer beyond 2^53 - 1 is written as that.
    pub(super) fn number(&mut self, key: &'static str, value: u64) {
        self.key(key);
        write_number(self.out, value.min(MAX_INTEGER));
    }

    /// `"key":value`, if there is a value.
    pub(super) fn maybe_number(&mut self, key: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// `"key":true`
    pub(super) fn flag(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// `"key":{…}`
    pub(super) fn object(&mut self, key: &'static str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        Object::write(self.out, fill);
    }

    /// `"key":[{…},…]`
    pub(super) fn objects<T>(
        &mut self,
        key: &'static str,
        items: impl Iterator<Item = T>,
        mut fill: impl FnMut(&mut Object<'_>, T),
    ) {
        self.key(key);
        self.out.push(b'[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            Object::write(self.out, |object| fill(object, item));
        }
        self.out.push(b']');
    }

    /// `"key":["…",…]`
    pub(super) fn texts(&mut self, key: &'static str, values: &[&str]) {
        self.key(key);
        self.out.push(b'[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write_text(self.out, value);
        }
        self.out.push(b']');
    }

    /// Where the next byte will be.
    pub(super) fn position(&self) -> usize {
        self.out.len()
    }
}

fn write_number(out: &mut Vec<u8>, value: u64) {
    // 2^64 has twenty digits.
    let mut digits = [b'0'; 20];
    let (mut rest, mut length) = (value, 0);
    for slot in digits.iter_mut().rev() {
        // Below ten.
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.split_at(digits.len() - length).1);
}

/// Whether a byte of a text is written otherwise than it is.
const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// RFC 8785, 3.2.2.2: only `"`, `\` and control characters are escaped, each in one way.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // Without an early end, so that many bytes are looked at in one step. Nearly every text is plain.
    if bytes.iter().fold(false, |escape, byte| escape | needs_escape(*byte)) {
        write_escaped(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = bytes;
    // What needs no escape goes in one piece.
    while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        rest = after;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0x00..0x20 => {
                out.extend_from_slice(b"\\u00");
                for nibble in [byte >> 4, byte & 0x0f] {
                    out.push(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
                }
            }
            0x20.. => out.push(byte),
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_written_as_the_other_implementation_writes_it(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut ours = Vec::new();
            write_text(&mut ours, &text);
            prop_assert_eq!(ours, serde_json_canonicalizer::to_vec(&text).unwrap());
        }

        #[test]
        fn integers_are_written_as_the_other_implementation_writes_them(n in 0..=MAX_INTEGER) {
            let mut ours = Vec::new();
            Object::write(&mut ours, |object| object.number("n", n));
            let value = serde_json::json!({"n": n});
            prop_assert_eq!(ours, serde_json_canonicalizer::to_vec(&value).unwrap());
        }
    }
}
