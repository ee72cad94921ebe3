//! A token's outer form: bounds, three parts, header. Layer 1.
//!
//! What comes out is not verified: only the issuer's name and the header were read, to find the
//! key. Refuses what RFC 7515, 5.2 and RFC 8725 say to refuse before a signature is looked at.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Algorithm, MAX_TOKEN_BYTES, TokenFault, json, key_set};
use crate::mutant;

/// A token that was read, whose issuer and algorithm are configured, but whose signature nobody
/// has checked yet. Knows nothing but what is needed to find the key.
pub struct Unverified<'a> {
    /// Place of the issuer in the settings.
    pub(super) issuer: usize,
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// `header.payload`: what was signed.
    pub(super) message: &'a str,
    pub(super) signature: Vec<u8>,
}

impl Unverified<'_> {
    /// Place of the issuer in [`super::VerifierSettings::issuers`].
    pub fn issuer_index(&self) -> usize {
        self.issuer
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unverified(issuer {}, {})", self.issuer, self.algorithm)
    }
}

/// The parts of a compact JWS, decoded.
pub(super) struct Parts<'a> {
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    pub(super) message: &'a str,
    pub(super) signature: Vec<u8>,
}

/// The members of a JWS header that matter.
pub(super) struct Header {
    /// As written: whether it is acceptable depends on the issuer.
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
}

/// Splits and decodes a token.
pub(super) fn parts(token: &str) -> Result<Parts<'_>, TokenFault> {
    if token.is_empty() {
        return Err(TokenFault::Missing);
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenFault::TooLarge(token.len()));
    }
    const FORM: TokenFault = TokenFault::Malformed("is not three base64url parts joined by dots");
    let (message, signature) = token.rsplit_once('.').ok_or(FORM)?;
    let (header, payload) = message.split_once('.').ok_or(FORM)?;
    // The decoder refuses dots, so that a fourth or fifth part (JWE) ends here.
    let decode = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| FORM)?;
        if bytes.is_empty() { Err(FORM) } else { Ok(bytes) }
    };
    let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
    let header = json::object(&header).map_err(|fault| match fault {
        json::JsonFault::NotAnObject => {
            TokenFault::Malformed("has a header that is no JSON object")
        }
        json::JsonFault::DuplicateName => {
            TokenFault::Malformed("has a header with a name that stands twice")
        }
    })?;
    let header = read_header(header)?;
    let claims = json::object(&payload).map_err(|fault| match fault {
        json::JsonFault::NotAnObject => {
            TokenFault::Malformed("has a payload that is no JSON object")
        }
        json::JsonFault::DuplicateName => {
            TokenFault::Malformed("has a payload with a name that stands twice")
        }
    })?;
    Ok(Parts { header, claims, message, signature })
}

fn read_header(mut header: Map<String, Value>) -> Result<Header, TokenFault> {
    // RFC 7515, 4.1.11: an extension that must be understood and is not.
    if header.contains_key("crit") && !mutant::on("crit") {
        return Err(TokenFault::Malformed("has a `crit` header; no extension is understood"));
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind)) if is_jwt(kind) || mutant::on("token-type") => {}
        Some(_) => return Err(TokenFault::Malformed("has a `typ` other than JWT or at+jwt")),
    }
    let kid = match header.remove("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= key_set::MAX_KEY_ID_BYTES => Some(kid),
        Some(_) => {
            return Err(TokenFault::Malformed("has a `kid` that is no text of at most 512 bytes"));
        }
    };
    match header.remove("alg") {
        Some(Value::String(algorithm)) => Ok(Header { algorithm, kid }),
        Some(_) | None => Err(TokenFault::Malformed("has no `alg` text in its header")),
    }
}

/// RFC 7515, 4.1.9: a media type, compared without case, `application/` may be left off.
fn is_jwt(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}
