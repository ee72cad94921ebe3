//! The known-answer test of the crypto backend, run once before the first token. Layer 1.
//!
//! For each algorithm: a published signature verifies, and with one bit changed in signature or
//! message it does not; a fresh signature verifies, and equals the published one where the
//! algorithm is deterministic; a key of another kind is refused. The keys are those of the RFCs:
//! public knowledge, never configured anywhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::signing::SigningKey;
use super::{Algorithm, KeyKind, crypto, key_set};

const KNOWN_ANSWERS: &str = include_str!("known_answers.json");

/// The crypto backend does not do what it must; nothing may be verified with it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelfTestError {
    /// The table of known answers cannot be read.
    #[error("self-test: the table of known answers is damaged ({0})")]
    Table(&'static str),
    /// One check failed.
    #[error("self-test of {algorithm} failed: {check}")]
    Failed {
        /// The algorithm.
        algorithm: Algorithm,
        /// What should have held.
        check: &'static str,
    },
}

#[derive(Deserialize)]
struct KnownAnswer {
    algorithm: Algorithm,
    deterministic: bool,
    key: Map<String, Value>,
    token: String,
}

/// Installs the provider and tries every algorithm; some milliseconds.
///
/// # Errors
/// [`SelfTestError`] names the algorithm and the check; Hedgerow must not start.
pub fn self_test() -> Result<(), SelfTestError> {
    crypto::install();
    let answers: Vec<KnownAnswer> =
        serde_json::from_str(KNOWN_ANSWERS).map_err(|_| SelfTestError::Table("not JSON"))?;
    for algorithm in Algorithm::ALL {
        let answer = answers
            .iter()
            .find(|answer| answer.algorithm == algorithm)
            .ok_or(SelfTestError::Table("an algorithm is missing"))?;
        try_one(answer)?;
    }
    Ok(())
}

fn try_one(answer: &KnownAnswer) -> Result<(), SelfTestError> {
    let algorithm = answer.algorithm;
    let holds = |held: bool, check: &'static str| {
        if held { Ok(()) } else { Err(SelfTestError::Failed { algorithm, check }) }
    };
    let (message, signature) =
        answer.token.rsplit_once('.').ok_or(SelfTestError::Table("a token has no signature"))?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| SelfTestError::Table("a signature is not base64url"))?;
    let message = message.as_bytes();
    let public = public_key(answer)?;
    let verifies = |message: &[u8], signature: &[u8]| {
        crypto::verify(algorithm, &public, message, signature).is_ok()
    };

    holds(verifies(message, &signature), "the known signature verifies")?;
    holds(!verifies(message, &flipped(&signature)), "a changed signature is refused")?;
    holds(!verifies(&flipped(message), &signature), "a changed message is refused")?;
    holds(!verifies(message, &[]), "an empty signature is refused")?;

    let private =
        SigningKey::from_jwk(&answer.key)
            .and_then(|key| key.with_algorithm(algorithm))
            .map_err(|_| SelfTestError::Failed { algorithm, check: "the known key is read" })?;
    let fresh = private
        .sign(message)
        .map_err(|_| SelfTestError::Failed { algorithm, check: "signing works" })?;
    holds(verifies(message, &fresh), "a fresh signature verifies")?;
    holds(!verifies(message, &flipped(&fresh)), "a changed fresh signature is refused")?;
    holds(!answer.deterministic || fresh == signature, "a fresh signature equals the known one")?;

    for other in Algorithm::ALL.into_iter().filter(|o| o.key_kind() != algorithm.key_kind()) {
        let refused = crypto::verify(other, &public, message, &signature).is_err();
        holds(refused, "the key is refused for an algorithm of another kind")?;
    }
    Ok(())
}

fn public_key(answer: &KnownAnswer) -> Result<DecodingKey, SelfTestError> {
    if answer.algorithm.key_kind() == KeyKind::Secret {
        let secret = key_set::binary(&answer.key, "k").ok_or(SelfTestError::Table("no secret"))?;
        return Ok(DecodingKey::from_secret(&secret));
    }
    key_set::public_key(&answer.key).map(|(_, key)| key).map_err(SelfTestError::Table)
}

/// The bytes with the lowest bit of the middle one changed.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    if let Some(byte) = changed.get_mut(bytes.len() / 2) {
        *byte ^= 1;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_gives_its_known_answer() {
        assert_eq!(self_test(), Ok(()));
    }

    #[test]
    fn a_wrong_known_answer_fails_the_test() {
        let mut answers: Vec<KnownAnswer> = serde_json::from_str(KNOWN_ANSWERS).unwrap();
        for answer in &mut answers {
            let at = answer.token.len() - 10;
            let other = if answer.token.as_bytes()[at] == b'A' { "B" } else { "A" };
            answer.token.replace_range(at..=at, other);
            assert!(matches!(try_one(answer), Err(SelfTestError::Failed { .. })));
        }
    }

    #[test]
    fn jsonwebtoken_itself_works_with_the_installed_provider() {
        crypto::install();
        let key = jsonwebtoken::EncodingKey::from_secret(&[7; 32]);
        let claims = serde_json::json!({"exp": 4_000_000_000_u64});
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        let validation = jsonwebtoken::Validation::default();
        let decode = |secret: &[u8]| {
            let key = DecodingKey::from_secret(secret);
            jsonwebtoken::decode::<Value>(&token, &key, &validation)
        };
        assert_eq!(decode(&[7; 32]).unwrap().claims, claims);
        assert!(decode(&[8; 32]).is_err());
    }
}
