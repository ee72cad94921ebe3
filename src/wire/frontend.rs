//! What a client may send after startup: tags, and strict decoders for the messages that Hedgerow
//! looks at. Layer 1.
//!
//! A decoder reads one whole body, refuses what is left over, and borrows: nothing is copied.

use super::reader::{DecodeFault, Reader};

/// Message types of a client.
pub mod tag {
    /// Bind
    pub const BIND: u8 = b'B';
    /// Close
    pub const CLOSE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyFail
    pub const COPY_FAIL: u8 = b'f';
    /// Describe
    pub const DESCRIBE: u8 = b'D';
    /// Execute
    pub const EXECUTE: u8 = b'E';
    /// Flush
    pub const FLUSH: u8 = b'H';
    /// FunctionCall
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse
    pub const PASSWORD: u8 = b'p';
    /// Query
    pub const QUERY: u8 = b'Q';
    /// Sync
    pub const SYNC: u8 = b'S';
    /// Terminate
    pub const TERMINATE: u8 = b'X';
}

/// `Q`: the text of a simple query.
///
/// # Errors
/// [`DecodeFault`]; [`DecodeFault::NotUtf8`] when only the text is wrong.
pub fn query(body: &[u8]) -> Result<&str, DecodeFault> {
    let mut reader = Reader::new(body);
    let text = reader.c_bytes()?;
    reader.end()?;
    std::str::from_utf8(text).map_err(|_invalid| DecodeFault::NotUtf8)
}

/// `p`: a password. Never printed.
///
/// # Errors
/// [`DecodeFault`].
pub fn password(body: &[u8]) -> Result<&str, DecodeFault> {
    query(body)
}

/// `p`: the first message of a SASL exchange: mechanism and its data, which may be empty.
///
/// # Errors
/// [`DecodeFault`].
pub fn sasl_initial_response(body: &[u8]) -> Result<(&str, &[u8]), DecodeFault> {
    let mut reader = Reader::new(body);
    let mechanism = reader.c_str()?;
    let data = reader.value()?.unwrap_or_default();
    reader.end()?;
    Ok((mechanism, data))
}

/// `P`: a statement to prepare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Count and OIDs of the parameter types, as they came.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`DecodeFault`].
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeFault> {
        let mut reader = Reader::new(body);
        let name = reader.c_bytes()?;
        let text = reader.c_bytes()?;
        let types = reader.rest();
        for _ in 0..reader.count()? {
            reader.int32()?;
        }
        reader.end()?;
        let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_invalid| DecodeFault::NotUtf8);
        Ok(Self { name: utf8(name)?, text: utf8(text)?, types })
    }
}

/// `B`: parameters bound to a statement.
#[derive(Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal to make; empty for the unnamed one.
    pub portal: &'a str,
    /// The statement; empty for the unnamed one.
    pub statement: &'a str,
    /// Count, lengths and values of the parameters, as they came.
    pub parameters: &'a [u8],
    /// Result format codes, two bytes each, as they came.
    pub result_formats: &'a [u8],
    /// All that follows the two names, as it came.
    pub values: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`DecodeFault`].
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeFault> {
        let mut reader = Reader::new(body);
        let portal = reader.c_str()?;
        let statement = reader.c_str()?;
        let values = reader.rest();
        let formats = reader.count()?;
        reader.bytes(formats.saturating_mul(2))?;
        let parameters = reader.rest();
        for _ in 0..reader.count()? {
            reader.value()?;
        }
        let length = parameters.len().saturating_sub(reader.rest().len());
        let parameters = parameters.get(..length).ok_or(DecodeFault::Truncated)?;
        let count = reader.count()?;
        let result_formats = reader.bytes(count.saturating_mul(2))?;
        reader.end()?;
        Ok(Self { portal, statement, parameters, result_formats, values })
    }
}

/// How many [`Bind::parameters`] there are.
pub fn parameter_count(parameters: &[u8]) -> usize {
    Reader::new(parameters).count().unwrap_or(0)
}

/// The values of [`Bind::parameters`], NULLs left out.
pub fn parameter_values(parameters: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut reader = Reader::new(parameters);
    let count = reader.count().unwrap_or(0);
    (0..count).map_while(move |_| reader.value().ok()).flatten()
}

/// What a Describe or Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `S`: a prepared statement.
    Statement(&'a str),
    /// `P`: a portal.
    Portal(&'a str),
}

impl<'a> Target<'a> {
    /// Reads the body of a Describe or Close.
    ///
    /// # Errors
    /// [`DecodeFault`].
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeFault> {
        let mut reader = Reader::new(body);
        let kind = reader.byte()?;
        let name = reader.c_str()?;
        reader.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(DecodeFault::Field),
        }
    }
}

/// `E`: the portal to run.
///
/// # Errors
/// [`DecodeFault`].
pub fn execute(body: &[u8]) -> Result<&str, DecodeFault> {
    let mut reader = Reader::new(body);
    let portal = reader.c_str()?;
    reader.int32()?;
    reader.end()?;
    Ok(portal)
}

/// `f`: why the client ends a COPY.
///
/// # Errors
/// [`DecodeFault`].
pub fn copy_fail(body: &[u8]) -> Result<&str, DecodeFault> {
    let mut reader = Reader::new(body);
    let reason = reader.c_str()?;
    reader.end()?;
    Ok(reason)
}

/// `S`, `H`, `X`: messages without a body.
///
/// # Errors
/// [`DecodeFault::Trailing`].
pub const fn empty(body: &[u8]) -> Result<(), DecodeFault> {
    Reader::new(body).end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_message_behind_the_nul_is_refused() {
        assert_eq!(query(b"SELECT 1\0"), Ok("SELECT 1"));
        assert_eq!(query(b"SELECT 1\0DELETE\0"), Err(DecodeFault::Trailing));
        assert_eq!(query(b"SELECT 1"), Err(DecodeFault::Truncated));
        assert_eq!(query(b"SELECT '\xff'\0"), Err(DecodeFault::NotUtf8));
    }

    #[test]
    fn a_bind_is_read_to_its_end() {
        let body = b"p\0s\0\0\x01\0\0\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01";
        let bind = Bind::decode(body).unwrap();
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
        assert_eq!(bind.result_formats, [0, 1]);
        assert_eq!(parameter_values(bind.parameters).collect::<Vec<_>>(), [b"ab"]);
        let mut longer = body.to_vec();
        longer.push(0);
        assert!(Bind::decode(&longer).is_err());
        assert!(Bind::decode(&body[..body.len() - 1]).is_err());
    }

    #[test]
    fn a_parse_keeps_its_types() {
        let parse = Parse::decode(b"s\0SELECT $1\0\0\x01\0\0\0\x17").unwrap();
        assert_eq!(
            (parse.name, parse.text, parse.types),
            ("s", "SELECT $1", &b"\0\x01\0\0\0\x17"[..])
        );
        assert!(Parse::decode(b"s\0SELECT $1\0\0\x02\0\0\0\x17").is_err());
    }

    proptest! {
        #[test]
        fn random_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = query(&body);
            let _ = Parse::decode(&body);
            if let Ok(bind) = Bind::decode(&body) {
                let _ = parameter_values(bind.parameters).count();
            }
            let _ = parameter_values(&body).count();
            let _ = Target::decode(&body);
            let _ = execute(&body);
        }
    }
}
