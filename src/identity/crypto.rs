//! Signatures, by ring alone: the provider that jsonwebtoken asks, and the self-test. Layer 1.
//!
//! Refuses a key of another kind than the algorithm's before ring sees it, RSA outside 2048 to
//! 8192 bits, and every algorithm outside [`Algorithm`]. jsonwebtoken panics at first use when no
//! provider is installed, so [`install`] puts this one in place and Hedgerow's own verification
//! calls it by name.

use std::sync::LazyLock;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::signature;
use jsonwebtoken::{AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_SHA256, RsaKeyPair, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use ring::{digest, hmac};

use super::{Algorithm, KeyKind};

/// The signature is wrong, or the key is of another kind than the algorithm's. Which one is not
/// told: both mean no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature or the key is refused")]
pub struct Refused;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        let signer = RingSigner { algorithm: known(*algorithm)?, key: key.clone() };
        fits(signer.algorithm, key.family())?;
        Ok(Box::new(signer))
    },
    verifier_factory: |algorithm, key| {
        let verifier = RingVerifier { algorithm: known(*algorithm)?, key: key.clone() };
        fits(verifier.algorithm, key.family())?;
        Ok(Box::new(verifier))
    },
    // Only jsonwebtoken's own JWK conversions ask these; Hedgerow reads JWKs itself (`key_set`).
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: |_, _| Err(unsupported()),
        ed_pub_components_from_private_key: |_, _| Err(unsupported()),
        compute_digest: |_, _| Err(unsupported()),
    },
};

/// Makes this provider the process's, once; later calls change nothing.
pub fn install() {
    static INSTALLED: LazyLock<()> = LazyLock::new(|| {
        // A provider that someone else installed first stays: our own calls do not go through it.
        let _ = PROVIDER.install_default();
    });
    LazyLock::force(&INSTALLED);
}

/// Verifies `signature` over `message`.
///
/// # Errors
/// [`Refused`] when the signature is wrong or the key does not serve the algorithm.
pub fn verify(
    algorithm: Algorithm,
    key: &DecodingKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refused> {
    // SECURITY: key confusion (RFC 8725, 2.1): the key decides what it may verify, not the header.
    fits(algorithm, key.family()).map_err(|_| Refused)?;
    let verified = match algorithm {
        Algorithm::Hs256 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, raw(key)?);
            hmac::verify(&key, message, signature)
        }
        Algorithm::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256, key, message, signature),
        Algorithm::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256, key, message, signature),
        Algorithm::Es256 => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, raw(key)?).verify(message, signature)
        }
        Algorithm::EdDsa => UnparsedPublicKey::new(&ED25519, raw(key)?).verify(message, signature),
    };
    verified.map_err(|_| Refused)
}

/// Signs `message`. The key's bytes are a PKCS#1 document for RSA, PKCS#8 for P-256 and Ed25519,
/// the secret itself for HMAC.
///
/// # Errors
/// [`Refused`] when the key does not serve the algorithm or is not consistent in itself.
pub fn sign(algorithm: Algorithm, key: &EncodingKey, message: &[u8]) -> Result<Vec<u8>, Refused> {
    fits(algorithm, key.family()).map_err(|_| Refused)?;
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::Hs256 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            Ok(hmac::sign(&key, message).as_ref().to_vec())
        }
        Algorithm::Rs256 | Algorithm::Ps256 => {
            let pair = RsaKeyPair::from_der(key.as_bytes()).map_err(|_| Refused)?;
            let mut signature = vec![0; pair.public().modulus_len()];
            let padding: &'static dyn ring::signature::RsaEncoding =
                if algorithm == Algorithm::Ps256 { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
            pair.sign(padding, &random, message, &mut signature).map_err(|_| Refused)?;
            Ok(signature)
        }
        Algorithm::Es256 => {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_bytes(), &random)
                .map_err(|_| Refused)?;
            Ok(pair.sign(&random, message).map_err(|_| Refused)?.as_ref().to_vec())
        }
        Algorithm::EdDsa => {
            // OpenSSL writes PKCS#8 version 1, which holds no public key to compare with.
            let pair =
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes()).map_err(|_| Refused)?;
            Ok(pair.sign(message).as_ref().to_vec())
        }
    }
}

/// SHA-256, for whoever needs a name for a token or a key set without keeping it.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn rsa(
    parameters: &'static RsaParameters,
    key: &DecodingKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), ring::error::Unspecified> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
        }
        DecodingKeyKind::SecretOrDer(der) => {
            UnparsedPublicKey::new(parameters, der).verify(message, signature)
        }
    }
}

fn raw(key: &DecodingKey) -> Result<&[u8], Refused> {
    key.try_get_as_bytes().map_err(|_| Refused)
}

fn fits(algorithm: Algorithm, family: AlgorithmFamily) -> Result<(), Error> {
    let kind = match family {
        AlgorithmFamily::Hmac => KeyKind::Secret,
        AlgorithmFamily::Rsa => KeyKind::Rsa,
        AlgorithmFamily::Ec => KeyKind::P256,
        AlgorithmFamily::Ed => KeyKind::Ed25519,
    };
    if kind == algorithm.key_kind() { Ok(()) } else { Err(new_error(ErrorKind::InvalidKeyFormat)) }
}

fn known(algorithm: jsonwebtoken::Algorithm) -> Result<Algorithm, Error> {
    match algorithm {
        jsonwebtoken::Algorithm::HS256 => Ok(Algorithm::Hs256),
        jsonwebtoken::Algorithm::RS256 => Ok(Algorithm::Rs256),
        jsonwebtoken::Algorithm::PS256 => Ok(Algorithm::Ps256),
        jsonwebtoken::Algorithm::ES256 => Ok(Algorithm::Es256),
        jsonwebtoken::Algorithm::EdDSA => Ok(Algorithm::EdDsa),
        _ => Err(unsupported()),
    }
}

fn unsupported() -> Error {
    new_error(ErrorKind::UnsupportedAlgorithm)
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Ps256 => Self::PS256,
            Algorithm::Es256 => Self::ES256,
            Algorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// What jsonwebtoken gets for signing.
struct RingSigner {
    algorithm: Algorithm,
    key: EncodingKey,
}

impl signature::Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        sign(self.algorithm, &self.key, message).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.into()
    }
}

/// What jsonwebtoken gets for verifying.
struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        verify(self.algorithm, &self.key, message, signature).map_err(signature::Error::from_source)
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_does_not_verify_what_was_signed_with_its_bytes_as_a_secret() {
        for bytes in [vec![4; 65], vec![9; 32]] {
            let forged = sign(Algorithm::Hs256, &EncodingKey::from_secret(&bytes), b"x").unwrap();
            assert_eq!(
                verify(Algorithm::Hs256, &DecodingKey::from_secret(&bytes), b"x", &forged),
                Ok(())
            );
            for public in [
                DecodingKey::from_ec_der(&bytes),
                DecodingKey::from_ed_der(&bytes),
                DecodingKey::from_rsa_der(&bytes),
                DecodingKey::from_rsa_raw_components(&bytes, &[1, 0, 1]),
            ] {
                assert_eq!(verify(Algorithm::Hs256, &public, b"x", &forged), Err(Refused));
            }
        }
    }

    #[test]
    fn the_provider_knows_five_algorithms() {
        let key = EncodingKey::from_secret(&[7; 32]);
        assert!((PROVIDER.signer_factory)(&jsonwebtoken::Algorithm::HS256, &key).is_ok());
        assert!((PROVIDER.signer_factory)(&jsonwebtoken::Algorithm::HS512, &key).is_err());
        assert!((PROVIDER.signer_factory)(&jsonwebtoken::Algorithm::RS256, &key).is_err());
        let key = DecodingKey::from_secret(&[7; 32]);
        assert!((PROVIDER.verifier_factory)(&jsonwebtoken::Algorithm::HS384, &key).is_err());
        assert!((PROVIDER.verifier_factory)(&jsonwebtoken::Algorithm::EdDSA, &key).is_err());
    }
}
