//! An issuer's verification keys, read from a JWKS (RFC 7517) or a secret. Layer 1.
//!
//! Refuses: texts over 64 KiB, more than 100 keys, two usable keys of one id, secrets under 32
//! bytes, and a set without a usable key. Leaves out, with the reason: keys that are not for
//! signatures, symmetric and private keys (a published set must not hold them), RSA outside 2048
//! to 8192 bits, curves other than P-256 and Ed25519.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};
use thiserror::Error;

use super::fault::Quoted;
use super::json::{self, JsonFault};
use super::{Algorithm, KeyKind};
use crate::mutant;

/// Longest key set, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 64 * 1024;
/// Most keys of a set, usable or not.
pub const MAX_KEYS: usize = 100;
/// Longest key id, in bytes.
pub const MAX_KEY_ID_BYTES: usize = 512;
/// Shortest HMAC secret, in bytes (RFC 7518, 3.2: at least as long as the hash).
pub const MIN_SECRET_BYTES: usize = 32;
/// Smallest RSA modulus, in bits (RFC 7518, 3.3).
pub const MIN_RSA_BITS: usize = 2048;
/// Largest RSA modulus that ring verifies, in bits.
pub const MAX_RSA_BITS: usize = 8192;

/// Why a key set is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Over [`MAX_KEY_SET_BYTES`].
    #[error("the key set has more than {MAX_KEY_SET_BYTES} bytes")]
    TooLarge,
    /// Not a JSON object with distinct names.
    #[error("the key set {0}")]
    Json(#[from] JsonFault),
    /// Not the shape of RFC 7517, section 5.
    #[error("the key set has no array `keys`; a single key is written {{\"keys\": [ … ]}}")]
    NoKeysMember,
    /// Over [`MAX_KEYS`].
    #[error("the key set holds {0} keys, more than {MAX_KEYS}")]
    TooManyKeys(usize),
    /// Two usable keys with one id.
    #[error("the key set holds two keys with the id {0}")]
    DuplicateKeyId(Quoted),
    /// Nothing to verify with.
    #[error("the key set holds no usable key{}", Reasons(.0))]
    Empty(Vec<SkippedKey>),
    /// A secret under [`MIN_SECRET_BYTES`].
    #[error("the secret has {0} bytes; at least {MIN_SECRET_BYTES} are needed")]
    SecretTooShort(usize),
    /// A secret that is a key document: most likely the wrong file, and maybe a public one.
    #[error("the secret is a PEM or JSON key document; a secret file holds random bytes")]
    SecretIsDocument,
}

/// A key of a set that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place in the array, from 0.
    pub index: usize,
    /// Its id.
    pub kid: Quoted,
    /// Why.
    pub reason: &'static str,
}

/// Joins the reasons behind "no usable key".
struct Reasons<'a>(&'a [SkippedKey]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, skipped) in self.0.iter().take(5).enumerate() {
            f.write_str(if place == 0 { ": " } else { "; " })?;
            write!(f, "{skipped}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys[{}] {} {}", self.index, self.kid, self.reason)
    }
}

/// Verification keys of one issuer. Never empty.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    skipped: Vec<SkippedKey>,
}

/// One key, and what it may verify.
#[derive(Clone)]
pub(super) struct VerificationKey {
    pub(super) kid: Option<String>,
    pub(super) kind: KeyKind,
    /// The JWK's `alg`: the only algorithm that the key serves (RFC 7517, 4.4).
    only: Option<Algorithm>,
    pub(super) material: DecodingKey,
}

/// The key for a token, or why there is none.
pub(super) enum Lookup<'a> {
    Found(&'a VerificationKey),
    /// No such id, or no key for the algorithm.
    Unknown,
    /// No id, several keys.
    Ambiguous,
    /// The named key serves another algorithm.
    DoesNotFit(&'a VerificationKey),
}

impl VerificationKey {
    fn serves(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.key_kind() && self.only.is_none_or(|only| only == algorithm)
    }
}

impl KeySet {
    /// Reads a JWKS.
    ///
    /// # Errors
    /// [`KeySetError`] when the text is no key set within the limits or holds no usable key.
    pub fn from_jwks(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document = json::object(text)?;
        let Some(Value::Array(entries)) = document.get("keys") else {
            return Err(KeySetError::NoKeysMember);
        };
        if entries.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys(entries.len()));
        }
        let mut keys: Vec<VerificationKey> = Vec::new();
        let mut skipped = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match verification_key(entry) {
                Ok(key) => {
                    if let Some(kid) = &key.kid
                        && keys.iter().any(|other| other.kid.as_ref() == Some(kid))
                    {
                        return Err(KeySetError::DuplicateKeyId(Quoted::new(kid)));
                    }
                    keys.push(key);
                }
                Err(reason) => {
                    let kid = Quoted::optional(entry.get("kid").and_then(Value::as_str));
                    skipped.push(SkippedKey { index, kid, reason });
                }
            }
        }
        if keys.is_empty() { Err(KeySetError::Empty(skipped)) } else { Ok(Self { keys, skipped }) }
    }

    /// A set of one HMAC secret, from the bytes of its file, one trailing newline left off.
    ///
    /// # Errors
    /// [`KeySetError`] when the secret is too short or a key document.
    pub fn from_secret_file(content: &[u8]) -> Result<Self, KeySetError> {
        let material = DecodingKey::from_secret(secret_bytes(content)?);
        let key = VerificationKey { kid: None, kind: KeyKind::Secret, only: None, material };
        Ok(Self { keys: vec![key], skipped: Vec::new() })
    }

    /// The keys that were left out, and why.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// How many keys can verify.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: an empty set cannot be made.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key for a token with this header.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Lookup<'_> {
        let kid = kid.filter(|_| !mutant::on("key-id"));
        // A secret has no id and stands alone in its set: an id in the header says nothing more.
        let kid = kid.filter(|_| algorithm != Algorithm::Hs256);
        if let Some(kid) = kid {
            return match self.keys.iter().find(|key| key.kid.as_deref() == Some(kid)) {
                Some(key) if key.serves(algorithm) || mutant::on("key-kind") => Lookup::Found(key),
                Some(key) => Lookup::DoesNotFit(key),
                None => Lookup::Unknown,
            };
        }
        let mut fitting = self.keys.iter().filter(|key| key.serves(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Lookup::Found(key),
            (Some(_), Some(_)) => Lookup::Ambiguous,
            (None, _) => Lookup::Unknown,
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys, {} left out)", self.keys.len(), self.skipped.len())
    }
}

/// The secret in a secret file: its bytes, one trailing newline (`\n`) left off.
///
/// # Errors
/// [`KeySetError`] when it is shorter than [`MIN_SECRET_BYTES`] or a key document.
pub fn secret_bytes(content: &[u8]) -> Result<&[u8], KeySetError> {
    let secret = content.strip_suffix(b"\n").unwrap_or(content);
    // SECURITY: a public key taken for a secret lets everyone sign (RFC 8725, 2.1).
    if is_key_document(content) && !mutant::on("public-secret") {
        return Err(KeySetError::SecretIsDocument);
    }
    if secret.len() < MIN_SECRET_BYTES && !mutant::on("short-secret") {
        return Err(KeySetError::SecretTooShort(secret.len()));
    }
    Ok(secret)
}

/// Whether the bytes are a PEM document, or a JSON object that looks like a JWK or a set of them.
pub fn is_key_document(content: &[u8]) -> bool {
    let text = content.trim_ascii_start();
    text.starts_with(b"-----BEGIN ")
        || json::object(text)
            .is_ok_and(|object| object.contains_key("kty") || object.contains_key("keys"))
}

/// Reads one JWK of a set, or says why it is left out.
fn verification_key(entry: &Value) -> Result<VerificationKey, &'static str> {
    let jwk = entry.as_object().ok_or("is not an object")?;
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KEY_ID_BYTES => Some(kid.clone()),
        Some(_) => return Err("has a `kid` that is not a text of at most 512 bytes"),
    };
    match jwk.get("use") {
        None => {}
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(_) => return Err("is not for signatures (`use`)"),
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(operations)) if operations.iter().any(|each| each == "verify") => {}
        Some(_) => return Err("is not for verification (`key_ops`)"),
    }
    let only = match jwk.get("alg") {
        None => None,
        Some(Value::String(name)) => Some(
            name.parse::<Algorithm>().map_err(|_| "is bound to an unknown algorithm (`alg`)")?,
        ),
        Some(_) => return Err("has an `alg` that is not a text"),
    };
    if jwk.contains_key("d") {
        return Err("holds its private part; publish the public part only");
    }
    let (kind, material) = public_key(jwk)?;
    if only.is_some_and(|algorithm| algorithm.key_kind() != kind) {
        return Err("is bound to an algorithm of another kind of key (`alg`)");
    }
    Ok(VerificationKey { kid, kind, only, material })
}

/// The public key of a JWK.
pub(super) fn public_key(jwk: &Map<String, Value>) -> Result<(KeyKind, DecodingKey), &'static str> {
    let curve = jwk.get("crv").and_then(Value::as_str);
    match (jwk.get("kty").and_then(Value::as_str), curve) {
        (Some("RSA"), _) => {
            let n = unsigned(jwk, "n").ok_or("has no modulus `n` in base64url")?;
            let e = unsigned(jwk, "e").ok_or("has no exponent `e` in base64url")?;
            let bits = bit_length(&n);
            if bits < MIN_RSA_BITS && !mutant::on("short-rsa") {
                return Err("is RSA of fewer than 2048 bits");
            }
            if bits > MAX_RSA_BITS {
                return Err("is RSA of more than 8192 bits");
            }
            // ring's bounds, told here so that such a key is left out instead of never matching.
            if e.len() > 4 || bit_length(&e) < 2 || e.last().is_none_or(|low| low % 2 == 0) {
                return Err("is RSA with an exponent that is even, below 3 or over 32 bits");
            }
            Ok((KeyKind::Rsa, DecodingKey::from_rsa_raw_components(&n, &e)))
        }
        (Some("EC"), Some("P-256")) => {
            let x = binary(jwk, "x").filter(|x| x.len() == 32);
            let y = binary(jwk, "y").filter(|y| y.len() == 32);
            let (Some(x), Some(y)) = (x, y) else {
                return Err("has no coordinates `x` and `y` of 32 bytes in base64url");
            };
            let point: Vec<u8> = std::iter::once(4).chain(x).chain(y).collect();
            Ok((KeyKind::P256, DecodingKey::from_ec_der(&point)))
        }
        (Some("OKP"), Some("Ed25519")) => {
            let x = binary(jwk, "x").filter(|x| x.len() == 32);
            let x = x.ok_or("has no `x` of 32 bytes in base64url")?;
            Ok((KeyKind::Ed25519, DecodingKey::from_ed_der(&x)))
        }
        (Some("EC"), _) => Err("is on another curve than P-256"),
        (Some("OKP"), _) => Err("is on another curve than Ed25519"),
        (Some("oct"), _) => Err("is symmetric; a secret belongs into a secret file"),
        (Some(_), _) => Err("is of an unknown type (`kty`)"),
        (None, _) => Err("has no type (`kty`)"),
    }
}

/// A base64url member of a JWK.
pub(super) fn binary(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok().filter(|bytes| !bytes.is_empty())
}

/// A base64url member that is an unsigned number, without leading zeros: some issuers write one
/// though RFC 7518, 2 forbids it.
pub(super) fn unsigned(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    let bytes = binary(jwk, name)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).filter(|rest| !rest.is_empty()).map(<[u8]>::to_vec)
}

/// Significant bits of a big-endian number without leading zeros.
fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}
