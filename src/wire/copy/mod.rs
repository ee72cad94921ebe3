//! COPY data as rows: what `COPY … FROM STDIN` reads in text, CSV and binary, by PostgreSQL's own rules
//! (`copyfromparse.c`), and rows written back in one canonical form. Layer 1: bytes, no meaning.
//!
//! Data may be cut anywhere: a reader keeps at most one row, and that row is bounded. Whatever a reader
//! is not sure of is a [`CopyFault`]. What goes on to the server is never the bytes that came in but
//! the fields that were read, written anew: so the server cannot read them otherwise than the reader
//! did.

mod binary;
mod line;
mod write;

use std::ops::Range;

pub use binary::BinaryReader;
pub use line::LineReader;
pub use write::{BINARY_HEADER, BINARY_TRAILER, write_binary, write_text};

use crate::error::SqlState;

/// Longest row, in bytes as it is sent and as it is read: a row is held in memory.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// Fields of one row, its memory kept from row to row.
#[derive(Debug, Default)]
pub struct Row {
    bytes: Vec<u8>,
    fields: Vec<Option<Range<usize>>>,
}

impl Row {
    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields in order; `None` is NULL.
    pub fn fields(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.fields.iter().map(|field| field.clone().and_then(|range| self.bytes.get(range)))
    }

    /// The values of all fields, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        // One long row must not be held for the rest of a long COPY.
        if self.bytes.capacity() > 1 << 20 {
            self.bytes = Vec::new();
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn null(&mut self, begun: usize) {
        self.bytes.truncate(begun);
        self.fields.push(None);
    }

    fn value(&mut self, begun: usize) {
        self.fields.push(Some(begun..self.bytes.len()));
    }
}

/// How far a reader came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All that was given has been taken; the row is not whole.
    More,
    /// The row is whole. There may be more behind it.
    Row,
    /// The row is the header, whose names are to be compared.
    Header,
}

/// A reader of one of the three formats.
#[derive(Debug)]
pub enum RowReader {
    /// Text or CSV.
    Lines(LineReader),
    /// Binary.
    Binary(BinaryReader),
}

impl RowReader {
    /// Takes bytes from the front of `input` until `row` is whole or there are no more.
    ///
    /// # Errors
    /// [`CopyFault`]; the reader is of no further use then.
    pub fn read(&mut self, input: &mut &[u8], row: &mut Row) -> Result<Progress, CopyFault> {
        match self {
            Self::Lines(lines) => lines.read(input, row),
            Self::Binary(binary) => binary.read(input, row),
        }
    }

    /// There is no more data: the last row may have had no line end.
    ///
    /// # Errors
    /// [`CopyFault`].
    pub fn finish(&mut self, row: &mut Row) -> Result<Progress, CopyFault> {
        match self {
            Self::Lines(lines) => lines.finish(row),
            Self::Binary(binary) => binary.finish(),
        }
    }
}

/// Data that is no row. The messages are PostgreSQL's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyFault {
    /// A carriage return where lines end in newlines.
    #[error("literal carriage return found in data")]
    LiteralReturn,
    /// The same in CSV.
    #[error("unquoted carriage return found in data")]
    UnquotedReturn,
    /// A newline where lines end otherwise.
    #[error("literal newline found in data")]
    LiteralNewline,
    /// The same in CSV.
    #[error("unquoted newline found in data")]
    UnquotedNewline,
    /// `\.` and something else on its line.
    #[error("end-of-copy marker is not alone on its line")]
    MarkerNotAlone,
    /// `\.` and another line end than before.
    #[error("end-of-copy marker does not match previous newline style")]
    MarkerNewline,
    /// A quote that nothing closes.
    #[error("unterminated CSV quoted field")]
    OpenQuote,
    /// Not the eleven bytes with which binary data begins.
    #[error("COPY file signature not recognized")]
    Signature,
    /// Flags or an extension that nobody knows.
    #[error("invalid COPY file header")]
    BinaryHeader,
    /// A length below -1.
    #[error("invalid field size")]
    FieldSize,
    /// Binary data ends within a row.
    #[error("unexpected EOF in COPY data")]
    Truncated,
    /// Binary data behind its trailer.
    #[error("received copy data after EOF marker")]
    AfterTrailer,
    /// A row with another number of fields than columns.
    #[error("row field count is {found}, expected {expected}")]
    FieldCount {
        /// Fields that the row announces.
        found: i16,
        /// Columns.
        expected: usize,
    },
    /// More than [`MAX_ROW_BYTES`].
    #[error("a row of COPY data is longer than 64 MiB")]
    TooLong,
    /// Text that is not UTF-8, or holds a NUL.
    #[error("invalid byte sequence for encoding \"UTF8\"")]
    NotUtf8,
}

impl CopyFault {
    /// The state that PostgreSQL gives.
    pub const fn sqlstate(self) -> SqlState {
        match self {
            Self::TooLong => SqlState::PROGRAM_LIMIT_EXCEEDED,
            Self::NotUtf8 => SqlState("22021"),
            Self::LiteralReturn
            | Self::UnquotedReturn
            | Self::LiteralNewline
            | Self::UnquotedNewline
            | Self::MarkerNotAlone
            | Self::MarkerNewline
            | Self::OpenQuote
            | Self::Signature
            | Self::BinaryHeader
            | Self::FieldSize
            | Self::Truncated
            | Self::AfterTrailer
            | Self::FieldCount { .. } => SqlState("22P04"),
        }
    }
}
