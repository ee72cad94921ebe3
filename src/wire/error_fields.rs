//! ErrorResponse and NoticeResponse: fields by one-letter code, read and written. Layer 1.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::backend::{c_str, frame, tag};
use super::reader::{DecodeFault, Reader};
use crate::error::SqlState;

/// Field codes that Hedgerow reads or writes.
pub mod field {
    /// Severity, localised.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never localised.
    pub const SEVERITY_PLAIN: u8 = b'V';
    /// SQLSTATE.
    pub const CODE: u8 = b'C';
    /// The message.
    pub const MESSAGE: u8 = b'M';
    /// DETAIL.
    pub const DETAIL: u8 = b'D';
    /// HINT.
    pub const HINT: u8 = b'H';
    /// Position in the statement.
    pub const POSITION: u8 = b'P';
    /// Position in an internal query.
    pub const INTERNAL_POSITION: u8 = b'p';
    /// Text of an internal query.
    pub const INTERNAL_QUERY: u8 = b'q';
    /// CONTEXT.
    pub const CONTEXT: u8 = b'W';
    /// Schema name.
    pub const SCHEMA: u8 = b's';
    /// Table name.
    pub const TABLE: u8 = b't';
    /// Column name.
    pub const COLUMN: u8 = b'c';
    /// Data type name.
    pub const DATA_TYPE: u8 = b'd';
    /// Constraint name.
    pub const CONSTRAINT: u8 = b'n';
    /// Source file.
    pub const FILE: u8 = b'F';
    /// Source line.
    pub const LINE: u8 = b'L';
    /// Source routine.
    pub const ROUTINE: u8 = b'R';
}

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends.
    Fatal,
    /// The statement ends.
    Error,
    /// A warning.
    Warning,
    /// A notice.
    Notice,
}

impl Severity {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// The fields of an error or notice, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    fields: Vec<(u8, Cow<'a, str>)>,
}

impl<'a> ErrorFields<'a> {
    /// An error or notice of our own.
    pub fn new(severity: Severity, code: SqlState, message: impl Into<Cow<'a, str>>) -> Self {
        let mut fields = Self::default();
        fields.set(field::SEVERITY, severity.word());
        fields.set(field::SEVERITY_PLAIN, severity.word());
        fields.set(field::CODE, code.0);
        fields.set(field::MESSAGE, message);
        fields
    }

    /// Reads a body. Text that is not UTF-8 (a server may speak before it knows the encoding) has
    /// its bad bytes replaced: nothing is ever decided by it.
    ///
    /// # Errors
    /// [`DecodeFault`].
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeFault> {
        let mut reader = Reader::new(body);
        let mut fields = Vec::with_capacity(10);
        loop {
            match reader.byte()? {
                0 => break,
                code => fields.push((code, String::from_utf8_lossy(reader.c_bytes()?))),
            }
        }
        reader.end()?;
        Ok(Self { fields })
    }

    /// The field's text; empty when it is not there.
    pub fn text(&self, code: u8) -> &str {
        self.fields.iter().find(|(known, _)| *known == code).map_or("", |(_, text)| text)
    }

    /// Whether the server says that the connection ends.
    pub fn is_fatal(&self) -> bool {
        let plain = match self.text(field::SEVERITY_PLAIN) {
            "" => self.text(field::SEVERITY),
            plain => plain,
        };
        matches!(plain, "FATAL" | "PANIC")
    }

    /// Replaces or adds a field.
    pub fn set(&mut self, code: u8, text: impl Into<Cow<'a, str>>) {
        let text = text.into();
        match self.fields.iter_mut().find(|(known, _)| *known == code) {
            Some(field) => field.1 = text,
            None => self.fields.push((code, text)),
        }
    }

    /// Removes a field.
    pub fn remove(&mut self, code: u8) {
        self.fields.retain(|(known, _)| *known != code);
    }

    /// Keeps the fields that `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(u8) -> bool) {
        self.fields.retain(|(code, _)| keep(*code));
    }

    /// Appends an ErrorResponse.
    pub fn encode_error(&self, out: &mut BytesMut) {
        self.encode(out, tag::ERROR_RESPONSE);
    }

    /// Appends a NoticeResponse.
    pub fn encode_notice(&self, out: &mut BytesMut) {
        self.encode(out, tag::NOTICE_RESPONSE);
    }

    fn encode(&self, out: &mut BytesMut, tag: u8) {
        frame(out, tag, |body| {
            for (code, text) in &self.fields {
                body.put_u8(*code);
                c_str(body, text);
            }
            body.put_u8(0);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_way_out_and_back() {
        let mut fields = ErrorFields::new(Severity::Error, SqlState("42501"), "no");
        fields.set(field::HINT, "ask");
        let mut out = BytesMut::new();
        fields.encode_error(&mut out);
        let read = ErrorFields::decode(&out[5..]).unwrap();
        assert_eq!(read, fields);
        assert!(!read.is_fatal());
        assert_eq!(read.text(field::CODE), "42501");
        assert_eq!(read.text(field::DETAIL), "");
    }

    #[test]
    fn an_error_without_its_end_is_refused() {
        assert_eq!(ErrorFields::decode(b"Mno\0"), Err(DecodeFault::Truncated));
        assert_eq!(ErrorFields::decode(b"Mno\0\0x"), Err(DecodeFault::Trailing));
    }
}
