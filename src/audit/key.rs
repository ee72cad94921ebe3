//! Ed25519 keys of checkpoints: signing and checking (layer 2), reading and making files (layer 3).
//!
//! Private keys are PKCS#8 (RFC 8410), public keys SubjectPublicKeyInfo, both PEM: what
//! `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest as _, Sha256};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// RFC 8410: PKCS#8 version 1 around a 32-byte Ed25519 seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// RFC 8410: SubjectPublicKeyInfo around a 32-byte Ed25519 public key.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is no Ed25519 key.
    #[error("{}: not an Ed25519 {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should have been.
        what: &'static str,
    },
    /// The system gave no random bytes.
    #[error("no random bytes for a new signing key")]
    Random,
}

/// A private key. Its `Debug` shows only the id.
pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}

impl SigningKey {
    /// Reads a PKCS#8 PEM file.
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        let pem = read_file(path)?;
        let format =
            || KeyError::Format { path: path.to_owned(), what: "private key (PKCS#8 PEM)" };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| format())?;
        Self::from_pkcs8(der.secret_pkcs8_der()).ok_or_else(format)
    }

    /// Makes a key and writes it to a new file that only its owner can read.
    pub(super) fn create(path: &Path) -> Result<Self, KeyError> {
        let mut der = [0; 48];
        let (prefix, seed) = der.split_at_mut(PKCS8_PREFIX.len());
        prefix.copy_from_slice(&PKCS8_PREFIX);
        getrandom::fill(seed).map_err(|_| KeyError::Random)?;
        let file = |source| KeyError::File { path: path.to_owned(), source };
        let mut output =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
        output.write_all(pem("PRIVATE KEY", &der).as_bytes()).map_err(file)?;
        output.sync_all().map_err(file)?;
        Self::from_pkcs8(&der).ok_or(KeyError::Random)
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        let public = PublicKey::from_bytes(pair.public_key().as_ref())?;
        Some(Self { pair, public })
    }

    /// The public half.
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs; base64.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.pair.sign(message))
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; 32],
    id: String,
}

impl PublicKey {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        let digest = Sha256::digest([SPKI_PREFIX.as_slice(), &bytes].concat());
        let id = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Some(Self { bytes, id })
    }

    /// The first sixteen hex digits of the SHA-256 of the key's DER.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As PEM.
    pub fn pem(&self) -> String {
        pem("PUBLIC KEY", &[SPKI_PREFIX.as_slice(), &self.bytes].concat())
    }

    fn verifies(&self, message: &[u8], signature: &str) -> bool {
        STANDARD.decode(signature).is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, self.bytes).verify(message, &signature).is_ok()
        })
    }
}

/// The public keys that verification trusts.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// Reads one or more `PUBLIC KEY` blocks.
    ///
    /// # Errors
    /// When the file cannot be read, holds no key, or a key that is not Ed25519.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read_file(path)?;
        let format = || KeyError::Format { path: path.to_owned(), what: "public key (PEM)" };
        let mut keys = Vec::new();
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(&text) {
            let der = der.map_err(|_| format())?;
            let bytes = der.strip_prefix(&SPKI_PREFIX).ok_or_else(format)?;
            keys.push(PublicKey::from_bytes(bytes).ok_or_else(format)?);
        }
        if keys.is_empty() { Err(format()) } else { Ok(Self(keys)) }
    }

    /// Adds a key.
    pub fn add(&mut self, key: PublicKey) {
        if !self.0.contains(&key) {
            self.0.push(key);
        }
    }

    /// Adds the keys of another set.
    pub fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|key| self.add(key));
    }

    /// The ids, for people.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(PublicKey::id)
    }

    /// `None`: no such key; else whether the signature is right.
    pub(super) fn verify(&self, key_id: &str, message: &[u8], signature: &str) -> Option<bool> {
        let key = self.0.iter().find(|key| key.id == key_id)?;
        Some(key.verifies(message, signature))
    }
}

/// Sees to it that the directory's public key file holds the key. Keys of earlier runs stay in it,
/// so that their segments can still be verified.
pub(super) fn publish(path: &Path, key: &PublicKey) -> Result<TrustedKeys, KeyError> {
    let mut trusted = match TrustedKeys::read(path) {
        Ok(trusted) => trusted,
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            TrustedKeys::default()
        }
        Err(error) => return Err(error),
    };
    if !trusted.0.contains(key) {
        trusted.add(key.clone());
        let text: String = trusted.0.iter().map(PublicKey::pem).collect();
        let file = |source| KeyError::File { path: path.to_owned(), source };
        let temporary = path.with_extension("pem.new");
        fs::write(&temporary, text).map_err(file)?;
        fs::rename(&temporary, path).map_err(file)?;
    }
    Ok(trusted)
}

fn read_file(path: &Path) -> Result<Vec<u8>, KeyError> {
    /// A key file is small; a larger one is a mistake.
    const LIMIT: u64 = 64 * 1024;
    let file = |source| KeyError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let input = fs::File::open(path).map_err(file)?;
    io::Read::read_to_end(&mut io::Read::take(input, LIMIT), &mut bytes).map_err(file)?;
    Ok(bytes)
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
