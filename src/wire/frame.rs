//! Frames: a tag, a length that counts itself, a body. Layer 1.
//!
//! [`FrameBuffer`] holds bytes as they come from a socket and hands out pieces: a whole frame, a
//! part of a frame that is passed on while it arrives, or the news that a frame was skipped. Which
//! of the three is the caller's [`Plan`], made from the header alone, so that no frame is buffered
//! before somebody agreed to its length.

use bytes::{Buf, BytesMut};

use super::reader::Reader;

/// Bytes of tag and length.
pub const HEADER_BYTES: usize = 5;
/// Longest frame that PostgreSQL itself accepts (its `MaxAllocSize`), in bytes.
pub const MAX_FRAME_BYTES: usize = 0x3fff_ffff;

/// A frame that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// A length below four, which does not even hold itself, or over [`MAX_FRAME_BYTES`].
    #[error("invalid message length")]
    Length,
    /// A tag that the caller does not accept.
    #[error("invalid message type {0}")]
    Tag(u8),
    /// A length over the caller's limit for this tag.
    #[error("message of type {0} is too long")]
    TooLong(u8),
}

/// What is known of a frame before its body is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The message type.
    pub tag: u8,
    /// Bytes of the whole frame, tag and length included.
    pub total: usize,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Wait until it is whole.
    Whole,
    /// Hand out its bytes as they arrive.
    Stream,
    /// Throw it away as it arrives.
    Skip,
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message type.
    pub tag: u8,
    /// The frame as it came, tag and length included: what is forwarded.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The message without tag and length: what is decoded.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// What [`FrameBuffer::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// Some bytes of a frame under [`Plan::Stream`]; the first part begins with tag and length.
    Part {
        /// The message type.
        tag: u8,
        /// The bytes.
        bytes: &'a [u8],
        /// Whether the frame begins here.
        first: bool,
        /// Whether the frame ends here.
        last: bool,
    },
    /// A frame under [`Plan::Skip`] is over.
    Skipped(Header),
}

#[derive(Clone, Copy, Debug)]
enum Position {
    Boundary,
    Streaming { tag: u8, left: usize },
    Skipping { header: Header, left: usize },
}

/// Bytes of a connection's one direction, cut into frames.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    /// Bytes at the front that the last piece lent out; given up at the next call.
    lent: usize,
    position: Position,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuffer {
    /// An empty buffer, which holds no memory.
    pub fn new() -> Self {
        Self::with(BytesMut::new())
    }

    /// A buffer that begins with bytes which were read already.
    pub const fn with(bytes: BytesMut) -> Self {
        Self { bytes, lent: 0, position: Position::Boundary }
    }

    /// Where a socket's bytes are appended.
    pub fn space(&mut self) -> &mut BytesMut {
        self.settle();
        &mut self.bytes
    }

    /// Bytes that are buffered and not handed out.
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.lent)
    }

    /// Whether nothing is buffered and no frame is under way.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.lent && matches!(self.position, Position::Boundary)
    }

    /// Whether a streamed frame is under way: what is written behind it now would be read as its
    /// body.
    pub const fn is_streaming(&self) -> bool {
        matches!(self.position, Position::Streaming { .. })
    }

    /// Gives memory back if there are no bytes in it.
    pub fn release(&mut self) {
        self.settle();
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }

    fn settle(&mut self) {
        self.bytes.advance(std::mem::take(&mut self.lent));
    }

    fn header(&self) -> Result<Option<Header>, FrameFault> {
        let mut reader = Reader::new(&self.bytes);
        let (Ok(tag), Ok(length)) = (reader.byte(), reader.int32()) else { return Ok(None) };
        match usize::try_from(length) {
            Ok(length) if (4..MAX_FRAME_BYTES).contains(&length) => {
                Ok(Some(Header { tag, total: length + 1 }))
            }
            Ok(_) | Err(_) => Err(FrameFault::Length),
        }
    }

    /// The next piece; `None` when more bytes are needed. `plan` is asked at each frame's beginning,
    /// again as long as the frame is not whole, and must answer alike.
    ///
    /// # Errors
    /// [`FrameFault::Length`], or what `plan` refuses. The buffer is of no further use then.
    pub fn next(
        &mut self,
        plan: impl FnOnce(Header) -> Result<Plan, FrameFault>,
    ) -> Result<Option<Piece<'_>>, FrameFault> {
        self.settle();
        if matches!(self.position, Position::Boundary) {
            let Some(header) = self.header()? else { return Ok(None) };
            let whole = header.total <= self.bytes.len();
            match plan(header)? {
                Plan::Whole | Plan::Stream if whole => {
                    let bytes = self.lend(header.total);
                    return Ok(Some(Piece::Frame(Frame { tag: header.tag, bytes })));
                }
                Plan::Whole => return Ok(None),
                Plan::Stream => {
                    let length = self.bytes.len();
                    let left = header.total.saturating_sub(length);
                    self.position = Position::Streaming { tag: header.tag, left };
                    let bytes = self.lend(length);
                    return Ok(Some(Piece::Part {
                        tag: header.tag,
                        bytes,
                        first: true,
                        last: false,
                    }));
                }
                Plan::Skip => self.position = Position::Skipping { header, left: header.total },
            }
        }
        match self.position {
            Position::Boundary => Ok(None),
            Position::Streaming { .. } | Position::Skipping { .. } if self.bytes.is_empty() => {
                Ok(None)
            }
            Position::Streaming { tag, left } => {
                let length = left.min(self.bytes.len());
                let last = length == left;
                self.position = if last {
                    Position::Boundary
                } else {
                    Position::Streaming { tag, left: left.saturating_sub(length) }
                };
                let bytes = self.lend(length);
                Ok(Some(Piece::Part { tag, bytes, first: false, last }))
            }
            Position::Skipping { header, left } => {
                let length = left.min(self.bytes.len());
                self.bytes.advance(length);
                if length == left {
                    self.position = Position::Boundary;
                    return Ok(Some(Piece::Skipped(header)));
                }
                self.position = Position::Skipping { header, left: left.saturating_sub(length) };
                Ok(None)
            }
        }
    }

    fn lend(&mut self, length: usize) -> &[u8] {
        self.lent = length;
        self.bytes.get(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(header: Header) -> Result<Plan, FrameFault> {
        match header.tag % 3 {
            0 => Ok(Plan::Whole),
            1 => Ok(Plan::Stream),
            _ => Ok(Plan::Skip),
        }
    }

    /// Everything that comes out, with streamed parts joined.
    fn run(bytes: &[u8], cuts: &[usize]) -> Result<Vec<(u8, Vec<u8>)>, FrameFault> {
        let mut buffer = FrameBuffer::new();
        let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut at = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        for end in ends {
            buffer.space().extend_from_slice(&bytes[at..end]);
            at = end;
            while let Some(piece) = buffer.next(plan)? {
                match piece {
                    Piece::Frame(frame) => found.push((frame.tag, frame.bytes.to_vec())),
                    Piece::Part { tag, bytes, first, last: _ } => {
                        if first {
                            found.push((tag, Vec::new()));
                        }
                        found.last_mut().unwrap().1.extend_from_slice(bytes);
                    }
                    Piece::Skipped(header) => found.push((header.tag, Vec::new())),
                }
            }
        }
        Ok(found)
    }

    fn frame_bytes(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, body) in frames {
            bytes.push(*tag);
            bytes.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_frames(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let bytes = frame_bytes(&frames);
            let expected: Vec<(u8, Vec<u8>)> = frames
                .iter()
                .map(|frame| {
                    let skipped = frame.0 % 3 == 2;
                    (frame.0, if skipped { Vec::new() } else { frame_bytes(std::slice::from_ref(frame)) })
                })
                .collect();
            prop_assert_eq!(run(&bytes, &cuts), Ok(expected));
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(any::<usize>(), 0..5),
        ) {
            let _ = run(&bytes, &cuts);
        }
    }

    #[test]
    fn a_length_below_four_is_refused() {
        for length in [-1_i32, 0, 3, i32::MIN, i32::MAX] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&length.to_be_bytes());
            assert_eq!(run(&bytes, &[]), Err(FrameFault::Length), "{length}");
        }
    }

    #[test]
    fn a_skipped_frame_is_never_held_in_memory() {
        let mut buffer = FrameBuffer::new();
        buffer.space().extend_from_slice(&[2, 0, 1, 0, 4]);
        for _ in 0..65_536 / 64 {
            buffer.space().extend_from_slice(&[7; 64]);
            let over = buffer.next(plan).unwrap();
            if over.is_some() {
                assert_eq!(over, Some(Piece::Skipped(Header { tag: 2, total: 65_541 })));
                return;
            }
            assert!(buffer.space().is_empty());
        }
        panic!("the frame never ended");
    }
}
