//! What goes to the upstream. Layer 5.
//!
//! INVARIANT: the only ways for a text to get in here are [`Outbox::query`], [`Outbox::parse`] and
//! [`Outbox::aside`], which take what the checker made and a permit of the audit trail, and the fixed
//! texts of this file; the only way for rows of a COPY is [`Outbox::copy_rows`], which takes checked rows.

use bytes::{BufMut, BytesMut};

use super::copy_flow::CheckedRow;
use super::statements::{Content, Text};
use crate::audit::AuditPermit;
use crate::sql::{Guarded, TokenScope};
use crate::wire::Frame;
use crate::wire::backend::{c_str, frame};
use crate::wire::copy::{BINARY_HEADER, BINARY_TRAILER, write_binary, write_text};
use crate::wire::frontend::{Bind, tag};

/// A text that fails in the server's parser, in place of a denied statement. The answer to it is
/// recognised by its place in the queue, never by its text.
const REFUSED_TEXT: &str = "hedgerow denied";
/// The name under which a refused Parse is sent, so that the client's unnamed statement stays.
const REFUSED_NAME: &str = "hedgerow_denied";
/// The name of the statement that is made to be deallocated.
pub(super) const FORGET_NAME: &str = "hedgerow_gone";
const FORGET_TEXT: &str = "DEALLOCATE hedgerow_gone";
/// The name of statement and portal in which a statement runs beside the client's own.
const ASIDE_NAME: &str = "hedgerow_aside";

/// What runs in place of a token: it has the tag of SET or RESET, warns and fails where they would, and
/// sets what is set already, since the session began.
const fn token_text(scope: TokenScope) -> &'static str {
    match scope {
        TokenScope::Session => "SET row_security = on",
        TokenScope::Reset => "RESET row_security",
        TokenScope::Transaction => "SET LOCAL row_security = on",
    }
}

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
        if row.binary {
            write_binary(self.bytes, row.tenant, row.others());
        } else {
            write_text(self.bytes, row.tenant, row.others());
        }
    }
}

/// A statement of a simple query.
pub(super) enum Piece<'a> {
    /// A checked one, with the permit to run it.
    Checked(&'a Guarded, &'a AuditPermit),
    /// DEALLOCATE of a statement that the server knows by no name of the client's.
    Forget,
}

/// Bytes on their way to the upstream.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: BytesMut,
}

impl Outbox {
    /// A simple query of checked statements.
    pub(super) fn query<'a>(&mut self, statements: impl IntoIterator<Item = Piece<'a>>) {
        frame(&mut self.bytes, tag::QUERY, |body| {
            for (position, piece) in statements.into_iter().enumerate() {
                if position > 0 {
                    // The line break ends a comment that a text may end with.
                    body.put_slice(b"\n;");
                }
                match piece {
                    Piece::Checked(guarded, _permit) => put_text(body, guarded),
                    Piece::Forget => body.put_slice(FORGET_TEXT.as_bytes()),
                }
            }
            body.put_u8(0);
        });
    }

    /// In place of a token that the client sets.
    pub(super) fn token_query(&mut self, scope: TokenScope) {
        frame(&mut self.bytes, tag::QUERY, |body| c_str(body, token_text(scope)));
    }

    /// Brings a shared backend's session back to how it was started.
    pub(super) fn discard_all(&mut self) {
        frame(&mut self.bytes, tag::QUERY, |body| c_str(body, "DISCARD ALL"));
    }

    /// Prepares a statement. `types` are the parameter types as the client sent them.
    pub(super) fn parse(&mut self, name: &str, content: &Content, _permit: &AuditPermit) {
        frame(&mut self.bytes, tag::PARSE, |body| {
            c_str(body, name);
            match &content.text {
                Text::Checked(guarded) => put_text(body, guarded),
                Text::Nothing => {}
                Text::Token(scope) => body.put_slice(token_text(*scope).as_bytes()),
                Text::Forget => body.put_slice(FORGET_TEXT.as_bytes()),
            }
            body.put_u8(0);
            body.put_slice(&content.types);
        });
    }

    /// Closes a prepared statement.
    pub(super) fn close_statement(&mut self, name: &str) {
        frame(&mut self.bytes, tag::CLOSE, |body| {
            body.put_u8(b'S');
            c_str(body, name);
        });
    }

    /// Makes a statement that [`Piece::Forget`] can deallocate: it has no text.
    pub(super) fn parse_to_forget(&mut self) {
        frame(&mut self.bytes, tag::PARSE, |body| {
            c_str(body, FORGET_NAME);
            c_str(body, "");
            body.put_i16(0);
        });
    }

    /// A Describe of a statement under the backend's name for it.
    pub(super) fn describe_statement(&mut self, name: &str) {
        frame(&mut self.bytes, tag::DESCRIBE, |body| {
            body.put_u8(b'S');
            c_str(body, name);
        });
    }

    /// A Bind to the backend's name of a statement.
    pub(super) fn bind(&mut self, bind: &Bind<'_>, statement: &str) {
        frame(&mut self.bytes, tag::BIND, |body| {
            c_str(body, bind.portal);
            c_str(body, statement);
            body.put_slice(bind.values);
        });
    }

    /// Runs a statement beside the client's, in the extended protocol: what was there before under its
    /// name is closed, as a statement, then as a portal.
    pub(super) fn aside(&mut self, guarded: &Guarded, _permit: &AuditPermit) {
        self.close_statement(ASIDE_NAME);
        frame(&mut self.bytes, tag::CLOSE, |body| {
            body.put_u8(b'P');
            c_str(body, ASIDE_NAME);
        });
        frame(&mut self.bytes, tag::PARSE, |body| {
            c_str(body, ASIDE_NAME);
            put_text(body, guarded);
            body.put_u8(0);
            body.put_i16(0);
        });
        frame(&mut self.bytes, tag::BIND, |body| {
            c_str(body, ASIDE_NAME);
            c_str(body, ASIDE_NAME);
            // No formats, no parameters, no formats of results.
            body.put_slice(&[0; 6]);
        });
        frame(&mut self.bytes, tag::EXECUTE, |body| {
            c_str(body, ASIDE_NAME);
            body.put_i32(0);
        });
    }

    /// Asks for what is ready, without an end of the pipeline.
    pub(super) fn flush(&mut self) {
        frame(&mut self.bytes, tag::FLUSH, |_empty| {});
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

    /// A FunctionCall that the server refuses: there is no function with the OID 0.
    pub(super) fn refused_call(&mut self) {
        frame(&mut self.bytes, tag::FUNCTION_CALL, |body| {
            body.put_u32(0);
            // No formats, no arguments, the result as text.
            body.put_slice(&[0; 6]);
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

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
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
