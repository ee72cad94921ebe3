//! What goes to the upstream. Layer 5.
//!
//! INVARIANT: the only ways for a text to get in here are [`Outbox::query`] and [`Outbox::parse`],
//! which take what the checker made and a permit of the audit trail, and the fixed texts of this
//! file.

use bytes::{BufMut, BytesMut};

use crate::audit::AuditPermit;
use crate::sql::Guarded;
use crate::wire::Frame;
use crate::wire::backend::{c_str, frame};
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
