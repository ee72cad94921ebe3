//! A cursor over one frame's body, for the decoders. Layer 1.
//!
//! Refuses: reading past the frame, strings without their NUL, names that are not UTF-8, and
//! anything left over once a message has been read.

use std::str;

/// Why a frame's body is not the message that its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// The body ends within a field.
    #[error("message ends too early")]
    Truncated,
    /// The body goes on after the last field.
    #[error("message has bytes left over")]
    Trailing,
    /// Text that is not UTF-8 (SQLSTATE 22021 when it is SQL).
    #[error("text is not valid UTF-8")]
    NotUtf8,
    /// A count, kind or length that the protocol does not know.
    #[error("message has an invalid field")]
    Field,
}

/// Reads fields from the front of a body.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over `body` (the frame without tag and length).
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeFault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next bytes up to a NUL, which is taken too.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`] when there is no NUL.
    pub fn c_bytes(&mut self) -> Result<&'a [u8], DecodeFault> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(DecodeFault::Truncated)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// The next NUL-terminated text.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`], [`DecodeFault::NotUtf8`].
    pub fn c_str(&mut self) -> Result<&'a str, DecodeFault> {
        str::from_utf8(self.c_bytes()?).map_err(|_invalid| DecodeFault::NotUtf8)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn byte(&mut self) -> Result<u8, DecodeFault> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeFault::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A two-byte integer.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn int16(&mut self) -> Result<i16, DecodeFault> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(DecodeFault::Truncated)?;
        self.rest = rest;
        Ok(i16::from_be_bytes(*first))
    }

    /// A four-byte integer.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn int32(&mut self) -> Result<i32, DecodeFault> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(DecodeFault::Truncated)?;
        self.rest = rest;
        Ok(i32::from_be_bytes(*first))
    }

    /// A two-byte count. PostgreSQL reads parameter counts as unsigned.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn count(&mut self) -> Result<usize, DecodeFault> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(DecodeFault::Truncated)?;
        self.rest = rest;
        Ok(usize::from(u16::from_be_bytes(*first)))
    }

    /// A value with its four-byte length in front; `None` for NULL (length -1).
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`], [`DecodeFault::Field`] for another negative length.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, DecodeFault> {
        match self.int32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_negative| DecodeFault::Field)?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The end of the message.
    ///
    /// # Errors
    /// [`DecodeFault::Trailing`] when there is more: bytes behind the last field are how one message
    /// would smuggle in another.
    pub const fn end(&self) -> Result<(), DecodeFault> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeFault::Trailing) }
    }
}
