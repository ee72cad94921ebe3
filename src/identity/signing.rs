//! Private keys and minting, for development, tests and the self-test. Layer 1.
//!
//! Reads PEM (PKCS#8, PKCS#1, SEC1), a JWK with its private part, or a raw secret. Refuses public
//! keys, key sets, RSA under 2048 bits, other curves and encrypted keys. Nothing here is used to
//! let a caller in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::key_set::{self, KeySetError};
use super::{Algorithm, KeyKind, crypto, json as strict_json};

/// Why a key file cannot sign. The text says what to do and shows nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SigningKeyError {
    /// PEM without a private key.
    #[error(
        "is PEM without a usable private key; give an unencrypted PKCS#8, PKCS#1 or SEC1 private key"
    )]
    Pem,
    /// A private key of a kind that no algorithm here uses.
    #[error(
        "holds a private key that is neither RSA of 2048 to 4096 bits, EC on P-256 nor Ed25519"
    )]
    UnsupportedKey,
    /// JSON that is no single private JWK.
    #[error("is JSON, but not one private JWK: {0}")]
    Jwk(&'static str),
    /// No usable secret.
    #[error("is taken for a raw HMAC secret, but {0}")]
    Secret(#[from] KeySetError),
    /// The key is of another kind than the algorithm's.
    #[error("holds a key ({kind}) that cannot sign {algorithm}")]
    AlgorithmDoesNotFit {
        /// What the key is.
        kind: KeyKind,
        /// What was asked for.
        algorithm: Algorithm,
    },
    /// ring refused to sign.
    #[error("holds a key that is not consistent in itself")]
    Inconsistent,
}

/// A private key with the algorithm that it signs with. `Debug` hides the key.
#[derive(Clone)]
pub struct SigningKey {
    kind: KeyKind,
    algorithm: Algorithm,
    kid: Option<String>,
    material: EncodingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm)
    }
}

impl SigningKey {
    /// Reads a key from the bytes of its file. The algorithm follows from the key: RS256, ES256,
    /// EdDSA or HS256, or the JWK's `alg`.
    ///
    /// # Errors
    /// [`SigningKeyError`], to be read behind the file's name.
    pub fn from_file_bytes(content: &[u8]) -> Result<Self, SigningKeyError> {
        let text = content.trim_ascii_start();
        if text.starts_with(b"-----BEGIN ") {
            return Self::from_pem(content);
        }
        match strict_json::object(text) {
            Ok(jwk) => Self::from_jwk(&jwk),
            Err(_) => {
                let secret = EncodingKey::from_secret(key_set::secret_bytes(content)?);
                Ok(Self::new(KeyKind::Secret, secret))
            }
        }
    }

    /// The same key with another algorithm (PS256 for RSA).
    ///
    /// # Errors
    /// [`SigningKeyError::AlgorithmDoesNotFit`] when the key is of another kind.
    pub fn with_algorithm(self, algorithm: Algorithm) -> Result<Self, SigningKeyError> {
        if algorithm.key_kind() == self.kind {
            Ok(Self { algorithm, ..self })
        } else {
            Err(SigningKeyError::AlgorithmDoesNotFit { kind: self.kind, algorithm })
        }
    }

    /// The same key with an id for the token's header.
    #[must_use]
    pub fn with_kid(self, kid: impl Into<String>) -> Self {
        Self { kid: Some(kid.into()), ..self }
    }

    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs the claims as they are, into a compact JWS of type JWT.
    ///
    /// # Errors
    /// [`SigningKeyError::Inconsistent`] when ring refuses the key.
    pub fn mint(&self, claims: &Map<String, Value>) -> Result<String, SigningKeyError> {
        let mut header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        if let (Some(kid), Some(header)) = (&self.kid, header.as_object_mut()) {
            header.insert("kid".to_owned(), Value::String(kid.clone()));
        }
        let payload = Value::Object(claims.clone());
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        let signature = self.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The signature over `message`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        crypto::sign(self.algorithm, &self.material, message)
            .map_err(|_| SigningKeyError::Inconsistent)
    }

    fn new(kind: KeyKind, material: EncodingKey) -> Self {
        let algorithm = match kind {
            KeyKind::Secret => Algorithm::Hs256,
            KeyKind::Rsa => Algorithm::Rs256,
            KeyKind::P256 => Algorithm::Es256,
            KeyKind::Ed25519 => Algorithm::EdDsa,
        };
        Self { kind, algorithm, kid: None, material }
    }

    fn from_pem(content: &[u8]) -> Result<Self, SigningKeyError> {
        match PrivateKeyDer::from_pem_slice(content).map_err(|_| SigningKeyError::Pem)? {
            PrivateKeyDer::Pkcs1(der) => Self::from_pkcs1(der.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(der) => Self::from_p256(&p256_pkcs8(der.secret_sec1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                if RsaKeyPair::from_pkcs8(der).is_ok() {
                    // jsonwebtoken's form of an RSA key is the PKCS#1 document inside.
                    let material = EncodingKey::from_rsa_pem(content)
                        .map_err(|_| SigningKeyError::UnsupportedKey)?;
                    Ok(Self::new(KeyKind::Rsa, material))
                } else if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
                    Ok(Self::new(KeyKind::Ed25519, EncodingKey::from_ed_der(der)))
                } else {
                    Self::from_p256(der)
                }
            }
            _ => Err(SigningKeyError::UnsupportedKey),
        }
    }

    fn from_pkcs1(der: &[u8]) -> Result<Self, SigningKeyError> {
        RsaKeyPair::from_der(der).map_err(|_| SigningKeyError::UnsupportedKey)?;
        Ok(Self::new(KeyKind::Rsa, EncodingKey::from_rsa_der(der)))
    }

    fn from_p256(pkcs8: &[u8]) -> Result<Self, SigningKeyError> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new())
            .map_err(|_| SigningKeyError::UnsupportedKey)?;
        Ok(Self::new(KeyKind::P256, EncodingKey::from_ec_der(pkcs8)))
    }

    /// A key from a JWK with its private part.
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, SigningKeyError> {
        let key = match jwk.get("kty").and_then(Value::as_str) {
            Some("oct") => {
                let secret = key_set::binary(jwk, "k")
                    .ok_or(SigningKeyError::Jwk("it has no `k` in base64url"))?;
                if secret.len() < key_set::MIN_SECRET_BYTES {
                    return Err(KeySetError::SecretTooShort(secret.len()).into());
                }
                Self::new(KeyKind::Secret, EncodingKey::from_secret(&secret))
            }
            Some("RSA") => Self::from_pkcs1(&rsa_pkcs1(jwk)?)?,
            Some("EC") => {
                let (_, public) = key_set::public_key(jwk).map_err(SigningKeyError::Jwk)?;
                let point =
                    public.try_get_as_bytes().map_err(|_| SigningKeyError::UnsupportedKey)?;
                Self::from_p256(&p256_pkcs8(&sec1(&private_part(jwk, 32)?, point)))?
            }
            Some("OKP") => {
                let (_, public) = key_set::public_key(jwk).map_err(SigningKeyError::Jwk)?;
                let seed = private_part(jwk, 32)?;
                let public =
                    public.try_get_as_bytes().map_err(|_| SigningKeyError::UnsupportedKey)?;
                Ed25519KeyPair::from_seed_and_public_key(&seed, public)
                    .map_err(|_| SigningKeyError::Inconsistent)?;
                let pkcs8 = sequence(&[
                    &INTEGER_ZERO,
                    ED25519_ALGORITHM,
                    &tagged(OCTET_STRING, &tagged(OCTET_STRING, &seed)),
                ]);
                Self::new(KeyKind::Ed25519, EncodingKey::from_ed_der(&pkcs8))
            }
            Some(_) => return Err(SigningKeyError::Jwk("its `kty` is not known")),
            None if jwk.contains_key("keys") => {
                return Err(SigningKeyError::Jwk("it is a key set; give one of its keys"));
            }
            None => return Err(SigningKeyError::Jwk("it has no `kty`")),
        };
        let key = match jwk.get("alg").and_then(Value::as_str).map(str::parse::<Algorithm>) {
            None => key,
            Some(Ok(algorithm)) => key.with_algorithm(algorithm)?,
            Some(Err(_)) => return Err(SigningKeyError::Jwk("its `alg` is not known")),
        };
        Ok(match jwk.get("kid").and_then(Value::as_str) {
            Some(kid) => key.with_kid(kid),
            None => key,
        })
    }
}

/// The member `d` of a JWK, of exactly `length` bytes.
fn private_part(jwk: &Map<String, Value>, length: usize) -> Result<Vec<u8>, SigningKeyError> {
    key_set::binary(jwk, "d")
        .filter(|bytes| bytes.len() == length)
        .ok_or(SigningKeyError::Jwk("it has no private part `d` of the right length"))
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const CONTEXT_1: u8 = 0xa1;
/// `INTEGER 0`.
const INTEGER_ZERO: [u8; 3] = [INTEGER, 1, 0];
/// `AlgorithmIdentifier { id-ecPublicKey, prime256v1 }` (RFC 5480).
const P256_ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
/// `AlgorithmIdentifier { id-Ed25519 }` (RFC 8410).
const ED25519_ALGORITHM: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

/// One DER element; contents stay below 64 KiB.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match (high, low) {
        (0, 0..=0x7f) => &[tag, low],
        (0, _) => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    tagged(SEQUENCE, &elements.concat())
}

/// A PKCS#8 document (RFC 5958) around a SEC1 private key on P-256.
fn p256_pkcs8(sec1: &[u8]) -> Vec<u8> {
    sequence(&[&INTEGER_ZERO, P256_ALGORITHM, &tagged(OCTET_STRING, sec1)])
}

/// A SEC1 private key (RFC 5915) from the scalar and the uncompressed public point.
fn sec1(scalar: &[u8], point: &[u8]) -> Vec<u8> {
    let public = tagged(CONTEXT_1, &tagged(BIT_STRING, &[&[0], point].concat()));
    sequence(&[&[INTEGER, 1, 1], &tagged(OCTET_STRING, scalar), &public])
}

/// A PKCS#1 private key (RFC 8017, A.1.2) from the members of a JWK.
fn rsa_pkcs1(jwk: &Map<String, Value>) -> Result<Vec<u8>, SigningKeyError> {
    let mut content = INTEGER_ZERO.to_vec();
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let number = key_set::unsigned(jwk, name).filter(|number| number.len() <= 1024).ok_or(
            SigningKeyError::Jwk("it lacks one of n, e, d, p, q, dp, dq, qi in base64url"),
        )?;
        // DER integers are signed: a leading set bit needs a zero byte before it.
        let sign: &[u8] =
            if number.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
        content.extend(tagged(INTEGER, &[sign, &number].concat()));
    }
    Ok(tagged(SEQUENCE, &content))
}
