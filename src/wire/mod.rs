//! PostgreSQL's frontend/backend protocol as bytes: frames, the messages that Hedgerow looks at, and
//! the messages that it writes itself. Layer 1: no I/O, no meaning, no SQL.
//!
//! The framer cuts; a decoder reads one whole frame body and refuses what is left over. Everything
//! that is not looked at is forwarded as the bytes it came in.

pub mod backend;
pub mod copy;
pub mod error_fields;
pub mod frame;
pub mod frontend;
pub mod reader;
pub mod startup;

pub use error_fields::{ErrorFields, Severity};
pub use frame::{Frame, FrameBuffer, FrameFault, Header, Piece, Plan};
pub use reader::DecodeFault;
