//! The first packets of a connection, which have no tag: StartupMessage, SSLRequest, GSSENCRequest,
//! CancelRequest; and the text of the `options` parameter. Layer 1.

use bytes::{BufMut, BytesMut};

use super::backend::{c_str, counted};
use super::reader::{DecodeFault, Reader};

/// Longest first packet (PostgreSQL's own limit), in bytes.
pub const MAX_STARTUP_BYTES: usize = 10_000;
/// Longest password message, in bytes (PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH).
pub const MAX_PASSWORD_BYTES: usize = 65_535;
/// Longest cancel secret of protocol 3.2, in bytes.
pub const MAX_CANCEL_SECRET_BYTES: usize = 256;

const CANCEL_REQUEST: i32 = 80_877_102;
const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// 3
    pub major: u16,
    /// 0, 2, or what a client claims.
    pub minor: u16,
}

impl ProtocolVersion {
    /// 3.0
    pub const V3_0: Self = Self { major: 3, minor: 0 };
    /// 3.2, with long cancel keys: the newest that is spoken here.
    pub const V3_2: Self = Self { major: 3, minor: 2 };

    /// The number on the wire.
    pub const fn code(self) -> i32 {
        i32::from_be_bytes({
            let [a, b] = self.major.to_be_bytes();
            let [c, d] = self.minor.to_be_bytes();
            [a, b, c, d]
        })
    }

    const fn from_code(code: i32) -> Self {
        let [a, b, c, d] = code.to_be_bytes();
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }
}

/// A first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket<'a> {
    /// The client wants TLS.
    SslRequest,
    /// The client wants GSSAPI encryption.
    GssEncRequest,
    /// The client wants a query cancelled.
    CancelRequest {
        /// The process number of the key.
        process: i32,
        /// The secret of the key.
        secret: &'a [u8],
    },
    /// The client wants a session.
    Startup {
        /// The version that it asks for.
        version: ProtocolVersion,
        /// Its parameters in order.
        parameters: Vec<(&'a str, &'a str)>,
    },
}

/// The length of the first packet, which its first four bytes tell; `None` when they are not there.
///
/// # Errors
/// [`DecodeFault::Field`] when it is below eight or over [`MAX_STARTUP_BYTES`].
pub fn first_packet_length(bytes: &[u8]) -> Result<Option<usize>, DecodeFault> {
    let Ok(length) = Reader::new(bytes).int32() else { return Ok(None) };
    match usize::try_from(length) {
        Ok(length) if (8..=MAX_STARTUP_BYTES).contains(&length) => Ok(Some(length)),
        Ok(_) | Err(_) => Err(DecodeFault::Field),
    }
}

impl<'a> FirstPacket<'a> {
    /// Reads a whole packet, its length included.
    ///
    /// # Errors
    /// [`DecodeFault`]; also for a parameter that is given twice.
    pub fn decode(packet: &'a [u8]) -> Result<Self, DecodeFault> {
        let mut reader = Reader::new(packet);
        let length = reader.int32()?;
        if usize::try_from(length) != Ok(packet.len()) {
            return Err(DecodeFault::Field);
        }
        let request = match reader.int32()? {
            SSL_REQUEST => Self::SslRequest,
            GSSENC_REQUEST => Self::GssEncRequest,
            CANCEL_REQUEST => {
                let process = reader.int32()?;
                let secret = reader.bytes(reader.rest().len())?;
                if !(4..=MAX_CANCEL_SECRET_BYTES).contains(&secret.len()) {
                    return Err(DecodeFault::Field);
                }
                Self::CancelRequest { process, secret }
            }
            code => {
                let mut parameters: Vec<(&str, &str)> = Vec::new();
                loop {
                    let name = reader.c_str()?;
                    if name.is_empty() {
                        break;
                    }
                    // SECURITY: two readers that disagree on which of two values counts are how
                    // parameters slip past a check.
                    if parameters.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                        return Err(DecodeFault::Field);
                    }
                    parameters.push((name, reader.c_str()?));
                }
                Self::Startup { version: ProtocolVersion::from_code(code), parameters }
            }
        };
        reader.end()?;
        Ok(request)
    }
}

/// Appends a StartupMessage.
pub fn startup_message<'a>(
    out: &mut BytesMut,
    version: ProtocolVersion,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    counted(out, |body| {
        body.put_i32(version.code());
        for (name, value) in parameters {
            c_str(body, name);
            c_str(body, value);
        }
        body.put_u8(0);
    });
}

/// Appends an SSLRequest.
pub fn ssl_request(out: &mut BytesMut) {
    counted(out, |body| body.put_i32(SSL_REQUEST));
}

/// Appends a CancelRequest.
pub fn cancel_request(out: &mut BytesMut, process: i32, secret: &[u8]) {
    counted(out, |body| {
        body.put_i32(CANCEL_REQUEST);
        body.put_i32(process);
        body.put_slice(secret);
    });
}

/// The settings in the `options` parameter: `-c name=value`, `-cname=value`, `--name=value`,
/// separated by white space, with backslash escapes (PostgreSQL's `pg_split_opts`).
///
/// # Errors
/// [`DecodeFault::Field`] for any other switch, or one without a name or value.
pub fn split_options(options: &str) -> Result<Vec<(String, String)>, DecodeFault> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next().ok_or(DecodeFault::Field)?;
                word.get_or_insert_default().push(escaped);
            }
            character if character.is_ascii_whitespace() => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);

    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(DecodeFault::Field)?
        } else if let Some(setting) = word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            setting.to_owned()
        } else {
            return Err(DecodeFault::Field);
        };
        let (name, value) = setting.split_once('=').ok_or(DecodeFault::Field)?;
        if name.is_empty() {
            return Err(DecodeFault::Field);
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_startup_message_is_read_back() {
        let mut out = BytesMut::new();
        startup_message(
            &mut out,
            ProtocolVersion::V3_2,
            [("user", "alice"), ("database", "orders")],
        );
        assert_eq!(first_packet_length(&out), Ok(Some(out.len())));
        let FirstPacket::Startup { version, parameters } = FirstPacket::decode(&out).unwrap()
        else {
            panic!("not a startup message")
        };
        assert_eq!(version, ProtocolVersion::V3_2);
        assert_eq!(parameters, [("user", "alice"), ("database", "orders")]);
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        let mut out = BytesMut::new();
        startup_message(&mut out, ProtocolVersion::V3_0, [("user", "a"), ("USER", "b")]);
        assert_eq!(FirstPacket::decode(&out), Err(DecodeFault::Field));
    }

    #[test]
    fn cancel_keys_of_both_lengths_are_read() {
        for length in [4, 32, 256] {
            let secret = vec![7; length];
            let mut out = BytesMut::new();
            cancel_request(&mut out, 5, &secret);
            assert_eq!(
                FirstPacket::decode(&out),
                Ok(FirstPacket::CancelRequest { process: 5, secret: &secret })
            );
        }
        let mut out = BytesMut::new();
        cancel_request(&mut out, 5, &[7; 257]);
        assert_eq!(FirstPacket::decode(&out), Err(DecodeFault::Field));
    }

    #[test]
    fn options_are_split_as_postgresql_does() {
        let pairs = |text| {
            split_options(text).map(|settings| {
                settings
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            pairs("-c a=b  --time-zone=x\\ y -cc=d=e").unwrap(),
            ["a=b", "time_zone=x y", "c=d=e"]
        );
        assert_eq!(pairs(""), Ok(Vec::new()));
        for bad in ["-c", "-f s", "-c a", "-c =b", "a=b", "x\\"] {
            assert_eq!(pairs(bad), Err(DecodeFault::Field), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn random_packets_never_panic(packet in prop::collection::vec(any::<u8>(), 0..120), text in ".*") {
            let _ = first_packet_length(&packet);
            let _ = FirstPacket::decode(&packet);
            let _ = split_options(&text);
        }
    }
}
