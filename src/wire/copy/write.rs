//! Rows in the one form that goes upstream: text with PostgreSQL's defaults, or binary. Layer 1.
//!
//! INVARIANT: the first field is the caller's own, where there is one; the client's fields follow. No byte of a field can
//! end it: in text all that is special is escaped, in binary the length stands in front.

use bytes::{BufMut as _, BytesMut};

/// With what binary data begins.
pub(super) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, no flags, no extension.
pub const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of binary data.
pub const BINARY_TRAILER: &[u8] = b"\xff\xff";

/// Appends a row of text: tab between fields, `\N` for NULL, newline at the end.
pub fn write_text<'a>(
    out: &mut BytesMut,
    first: Option<&'a [u8]>,
    fields: impl Iterator<Item = Option<&'a [u8]>>,
) {
    for (position, field) in first.map(Some).into_iter().chain(fields).enumerate() {
        if position > 0 {
            out.put_u8(b'\t');
        }
        match field {
            Some(value) => escape(out, value),
            None => out.put_slice(b"\\N"),
        }
    }
    out.put_u8(b'\n');
}

fn escape(out: &mut BytesMut, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t'))
    {
        let (plain, special) = rest.split_at(at);
        out.put_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        out.put_u8(b'\\');
        out.put_u8(match byte {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => *other,
        });
        rest = after;
    }
    out.put_slice(rest);
}

/// Appends a row of the binary format.
pub fn write_binary<'a>(
    out: &mut BytesMut,
    first: Option<&'a [u8]>,
    fields: impl Iterator<Item = Option<&'a [u8]>>,
) {
    let start = out.len();
    out.put_i16(0);
    let mut count: i16 = 0;
    for field in first.map(Some).into_iter().chain(fields) {
        count = count.saturating_add(1);
        match field {
            Some(value) => {
                // A row is bounded far below two gigabytes.
                out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                out.put_slice(value);
            }
            None => out.put_i32(-1),
        }
    }
    if let Some(space) = out.get_mut(start..start.saturating_add(2)) {
        space.copy_from_slice(&count.to_be_bytes());
    }
}
