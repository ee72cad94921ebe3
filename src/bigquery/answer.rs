//! What a client gets: status and body. Layer 5.

use bytes::Bytes;

/// An answer. Its headers follow from it; none come from upstream.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The body, in pieces, so that rows need not be copied.
    pub(super) body: Vec<Bytes>,
    /// Whether the client is asked for a token.
    pub(super) challenge: bool,
    /// Where an upload goes on, if this opens one.
    pub(super) location: Option<String>,
    /// What has arrived of an upload.
    pub(super) range: Option<String>,
}

impl Answer {
    /// An answer of pieces.
    pub(super) fn bytes(status: u16, body: Vec<Bytes>) -> Self {
        Self { status, body, challenge: false, location: None, range: None }
    }

    /// 204.
    pub(super) fn empty() -> Self {
        Self::bytes(204, Vec::new())
    }

    /// Bytes of the body.
    pub(super) fn length(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}
