//! What goes to the upstream. Layer 5.
//!
//! INVARIANT: the only ways for a text to get in here are [`Outbox::query`] and [`Outbox::parse`],
//! which take what the checker made and a permit of the audit trail, and the fixed texts of this
//! file; the only way for rows of a COPY is [`Outbox::copy_rows`], which takes checked rows.

use bytes::{BufMut, BytesMut};

use super::copy_flow::CheckedRow;
use crate::audit::AuditPermit;
use crate::sql::Guarded;
use crate::wire::Frame;
use crate::wire::backend::{c_str, frame};
use crate::wire::copy::{BINARY_HEADER, BINARY_TRAILER, write_binary, write_text};
use crate::wire::frontend::tag;

/// A text that fails in the server's parser, in place of a denied statement. The answer to it is
/// recognised by its place in the queue, never by its text.
const REFUSED_TEXT: &str = "hedgerow denied";
/// The name under which a refused Parse is sent, so that the client's unnamed statement stays.
const REFUSED_NAME: &str = "hedgerow_denied";

/// A frame of the client's that carries no statement and may be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relayed {
    Bind,
    Close,
    Describe,
    Execute,
    Flush,
    Sync,
}

impl Relayed {
    const fn tag(self) -> u8 {
        match self {
            Self::Bind => tag::BIND,
            Self::Close => tag::CLOSE,
            Self::Describe => tag::DESCRIBE,
            Self::Execute => tag::EXECUTE,
            Self::Flush => tag::FLUSH,
            Self::Sync => tag::SYNC,
        }
    }
}

/// Where rows of a COPY are put.
pub(super) struct CopyRows<'o> {
    bytes: &'o mut BytesMut,
}

impl CopyRows<'_> {
    /// Appends a row that was checked.
    pub(super) fn put(&mut self, row: &CheckedRow<'_>) {
        let Some(tenant) = row.tenant else { return };
        if row.binary {
            write_binary(self.bytes, tenant, row.others());
        } else {
            write_text(self.bytes, tenant, row.others());
        }
    }
}

/// Bytes on their way to the upstream.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: BytesMut,
}

impl Outbox {
    /// A simple query of checked statements.
    pub(super) fn query<'a>(
        &mut self,
        statements: impl IntoIterator<Item = (&'a Guarded, &'a AuditPermit)>,
    ) {
        frame(&mut self.bytes, tag::QUERY, |body| {
            for (position, (guarded, _permit)) in statements.into_iter().enumerate() {
                if position > 0 {
                    // The line break ends a comment that a text may end with.
                    body.put_slice(b"\n;");
                }
                put_text(body, guarded);
            }
            body.put_u8(0);
        });
    }

    /// Prepares a checked statement. `types` are the parameter types as the client sent them.
    pub(super) fn parse(
        &mut self,
        name: &str,
        guarded: &Guarded,
        types: &[u8],
        _permit: &AuditPermit,
    ) {
        frame(&mut self.bytes, tag::PARSE, |body| {
            c_str(body, name);
            put_text(body, guarded);
            body.put_u8(0);
            body.put_slice(types);
        });
    }

    /// Prepares the empty statement.
    pub(super) fn parse_nothing(&mut self, name: &str) {
        frame(&mut self.bytes, tag::PARSE, |body| {
            c_str(body, name);
            c_str(body, "");
            body.put_i16(0);
        });
    }

    /// A simple query that the server refuses: its error is replaced by ours.
    pub(super) fn refused_query(&mut self) {
        frame(&mut self.bytes, tag::QUERY, |body| c_str(body, REFUSED_TEXT));
    }

    /// A Parse that the server refuses: its error is replaced by ours.
    pub(super) fn refused_parse(&mut self) {
        frame(&mut self.bytes, tag::PARSE, |body| {
            c_str(body, REFUSED_NAME);
            c_str(body, REFUSED_TEXT);
            body.put_i16(0);
        });
    }

    /// Passes a frame on. The tag is written by us, whatever the frame says.
    pub(super) fn relay(&mut self, what: Relayed, frame: Frame<'_>) {
        self.bytes.put_u8(what.tag());
        self.bytes.put_slice(frame.bytes.get(1..).unwrap_or_default());
    }

    /// What binary rows begin with.
    pub(super) fn copy_header(&mut self) {
        frame(&mut self.bytes, tag::COPY_DATA, |body| body.put_slice(BINARY_HEADER));
    }

    /// Rows of a COPY in one message, as many as `fill` puts; none: no message.
    pub(super) fn copy_rows<R>(&mut self, fill: impl FnOnce(&mut CopyRows<'_>) -> R) -> R {
        let start = self.bytes.len();
        self.bytes.put_u8(tag::COPY_DATA);
        self.bytes.put_i32(0);
        let filled = fill(&mut CopyRows { bytes: &mut self.bytes });
        let length = self.bytes.len().saturating_sub(start + 1);
        if length <= 4 {
            self.bytes.truncate(start);
        } else if let Some(space) = self.bytes.get_mut(start + 1..start + 5) {
            // Bounded by the longest row and what a round of reading brings.
            space.copy_from_slice(&i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
        }
        filled
    }

    /// CopyDone, and what binary rows end with.
    pub(super) fn copy_done(&mut self, binary: bool) {
        if binary {
            frame(&mut self.bytes, tag::COPY_DATA, |body| body.put_slice(BINARY_TRAILER));
        }
        frame(&mut self.bytes, tag::COPY_DONE, |_empty| {});
    }

    /// CopyFail: the server ends the COPY with an error.
    pub(super) fn copy_fail(&mut self, reason: &str) {
        frame(&mut self.bytes, tag::COPY_FAIL, |body| c_str(body, reason));
    }

    /// Asks what a portal's rows are, for the egress guard.
    pub(super) fn describe_portal(&mut self, name: &str) {
        frame(&mut self.bytes, tag::DESCRIBE, |body| {
            body.put_u8(b'P');
            c_str(body, name);
        });
    }

    /// Terminate.
    pub(super) fn terminate(&mut self) {
        frame(&mut self.bytes, tag::TERMINATE, |_empty| {});
    }

    /// The bytes, for the socket.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Appends a checked text. SECURITY: a NUL would end it for the server, perhaps in front of the
/// guard; the checker lets none through, and if it did, the server gets nothing it can run.
fn put_text(body: &mut BytesMut, guarded: &Guarded) {
    let text = guarded.text();
    body.put_slice(if text.contains('\0') { REFUSED_TEXT } else { text }.as_bytes());
}
