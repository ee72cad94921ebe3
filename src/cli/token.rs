//! `hedgerow token`: mints a token for development. Layer 6.
//!
//! The key decides the algorithm: RSA signs RS256 (or PS256), P-256 ES256, Ed25519 EdDSA, anything
//! that is neither PEM nor JSON is a raw HMAC secret. Fills in `iat` and `exp` where the claims
//! have none and adds nothing else. The token alone goes to standard output; what Hedgerow would
//! refuse about it goes to standard error. Refuses what it cannot sign with, naming the file.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::identity::{Algorithm, MAX_TOKEN_BYTES, SigningKey, strict_object};
use crate::units::parse_duration;

/// Longest key file, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;
/// How long a token lives when `--ttl` is not given.
const DEFAULT_TTL: &str = "1h";

/// Mint a token for development
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// Private key: PEM (PKCS#8, PKCS#1, SEC1), a private JWK, or a raw secret of at least 32 bytes
    #[arg(long, env = "HEDGEROW_KEY", value_name = "FILE")]
    pub key: PathBuf,

    /// The claims, one JSON object; iat and exp are filled in where missing
    #[arg(long, env = "HEDGEROW_CLAIMS", value_name = "JSON")]
    pub claims: String,

    /// How long the token lives, for example 30s, 5m, 1h [default: 1h]
    #[arg(long, env = "HEDGEROW_TTL", value_name = "DURATION")]
    pub ttl: Option<String>,

    /// Key id for the token's header [default: the JWK's]
    #[arg(long, env = "HEDGEROW_KID", value_name = "ID")]
    pub kid: Option<String>,

    /// Algorithm, where the key leaves a choice: RS256 or PS256
    #[arg(long, env = "HEDGEROW_ALGORITHM", value_name = "NAME")]
    pub algorithm: Option<String>,
}

impl TokenArgs {
    /// Prints the token, alone on its line.
    ///
    /// # Errors
    /// What is wrong with the key file, the claims or an option, and what to do.
    pub fn run(&self) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let token = self.mint(i64::try_from(now)?)?;
        for note in notes(&self.claims, &token) {
            eprintln!("hedgerow token: note: {note}");
        }
        let mut output = std::io::stdout().lock();
        writeln!(output, "{token}").and_then(|()| output.flush()).context("standard output")
    }

    /// The token, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// As [`TokenArgs::run`].
    pub fn mint(&self, now: i64) -> anyhow::Result<String> {
        let mut key = read_key(&self.key)?;
        if let Some(name) = &self.algorithm {
            let algorithm: Algorithm =
                name.parse().with_context(|| format!("--algorithm {name:?}"))?;
            key = key
                .with_algorithm(algorithm)
                .with_context(|| format!("the key file {}", self.key.display()))?;
        }
        if let Some(kid) = &self.kid {
            key = key.with_kid(kid);
        }
        mint(&key, &self.claims, self.ttl.as_deref(), now)
    }
}

/// Reads a private key or a secret.
///
/// # Errors
/// Names the file, and says what to do.
pub fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let name = || format!("the key file {}", path.display());
    // Before opening: to open a pipe would wait for its other end.
    if !std::fs::metadata(path).with_context(name)?.is_file() {
        bail!("{} is not a regular file", name());
    }
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE_BYTES + 1).read_to_end(&mut content))
        .with_context(name)?;
    if content.len() as u64 > MAX_KEY_FILE_BYTES {
        bail!("{} has more than {MAX_KEY_FILE_BYTES} bytes", name());
    }
    SigningKey::from_file_bytes(&content).with_context(name)
}

/// Mints a token: the claims as given, with `iat` (now) and `exp` (`iat` plus `ttl`, one hour if
/// `None`) where they have none.
///
/// # Errors
/// Claims that are no JSON object, a malformed `ttl`, or a `ttl` beside an `exp`.
pub fn mint(key: &SigningKey, claims: &str, ttl: Option<&str>, now: i64) -> anyhow::Result<String> {
    let mut claims = read_claims(claims)?;
    if ttl.is_some() && claims.contains_key("exp") {
        bail!("--ttl and the claim `exp` both say when the token ends; give one of them");
    }
    let lifetime = parse_duration(ttl.unwrap_or(DEFAULT_TTL)).context("--ttl")?.as_secs();
    if lifetime == 0 {
        bail!("--ttl must be at least 1s");
    }
    let issued_at = match claims.get("iat") {
        None => {
            claims.insert("iat".to_owned(), now.into());
            now
        }
        // Whatever else is there is kept as it is: a wrong token may be what is wanted.
        Some(value) => value.as_i64().unwrap_or(now),
    };
    if !claims.contains_key("exp") {
        let expires_at = i64::try_from(lifetime)
            .ok()
            .and_then(|lifetime| issued_at.checked_add(lifetime))
            .context("--ttl is too long")?;
        claims.insert("exp".to_owned(), expires_at.into());
    }
    key.mint(&claims).context("the key cannot sign")
}

fn read_claims(text: &str) -> anyhow::Result<Map<String, Value>> {
    match strict_object(text.as_bytes()) {
        Ok(claims) => Ok(claims),
        Err(fault) => bail!(
            "--claims {fault}; write for example '{{\"iss\":\"https://auth.example.com/\",\
             \"aud\":\"orders\",\"sub\":\"alice\",\"tenant_id\":\"…\"}}'"
        ),
    }
}

/// What Hedgerow would refuse about the token.
fn notes(claims: &str, token: &str) -> Vec<String> {
    let mut notes = Vec::new();
    for name in ["iss", "sub", "aud"] {
        if read_claims(claims).is_ok_and(|claims| !claims.contains_key(name)) {
            notes.push(format!("the token has no `{name}`; Hedgerow refuses it"));
        }
    }
    if token.len() > MAX_TOKEN_BYTES {
        notes
            .push(format!("the token is longer than {MAX_TOKEN_BYTES} bytes; Hedgerow refuses it"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: i64 = 1_800_000_000;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/identity").join(name)
    }

    fn args(key: PathBuf) -> TokenArgs {
        TokenArgs { key, claims: r#"{"sub":"a"}"#.into(), ttl: None, kid: None, algorithm: None }
    }

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    fn secret_file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn the_key_decides_the_algorithm() {
        for (file, algorithm) in [
            ("rsa-pkcs8.pem", "RS256"),
            ("rsa-pkcs1.pem", "RS256"),
            ("ec-pkcs8.pem", "ES256"),
            ("ec-sec1.pem", "ES256"),
            ("ed25519-pkcs8.pem", "EdDSA"),
        ] {
            let token = args(data(file)).mint(NOW).unwrap();
            assert_eq!(part(&token, 0), serde_json::json!({"alg": algorithm, "typ": "JWT"}));
        }
        let secret = secret_file(&[b'x'; 32]);
        assert_eq!(part(&args(secret.path().into()).mint(NOW).unwrap(), 0)["alg"], "HS256");
        let pss = TokenArgs { algorithm: Some("PS256".into()), ..args(data("rsa-pkcs1.pem")) };
        assert_eq!(part(&pss.mint(NOW).unwrap(), 0)["alg"], "PS256");
    }

    #[test]
    fn a_jwk_brings_its_key_id_and_an_option_wins_over_it() {
        let jwk = secret_file(
            br#"{"kty":"oct","kid":"one","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#,
        );
        let from_key = args(jwk.path().into());
        assert_eq!(part(&from_key.mint(NOW).unwrap(), 0)["kid"], "one");
        let given = TokenArgs { kid: Some("two".into()), ..from_key };
        assert_eq!(part(&given.mint(NOW).unwrap(), 0)["kid"], "two");
    }

    #[test]
    fn iat_and_exp_are_filled_in_and_nothing_else() {
        let mint = |claims: &str, ttl: Option<&str>| {
            let key = SigningKey::from_file_bytes(&[b'x'; 32]).unwrap();
            part(&mint(&key, claims, ttl, NOW).unwrap(), 1)
        };
        assert_eq!(mint("{}", None), serde_json::json!({"iat": NOW, "exp": NOW + 3600}));
        assert_eq!(mint("{}", Some("5m"))["exp"], NOW + 300);
        assert_eq!(mint(r#"{"iat":5}"#, Some("5m")), serde_json::json!({"iat": 5, "exp": 305}));
        assert_eq!(mint(r#"{"exp":9,"iat":5}"#, None), serde_json::json!({"exp": 9, "iat": 5}));
        assert_eq!(mint(r#"{"exp":"x"}"#, None)["exp"], "x");
    }

    #[test]
    fn every_error_says_what_is_wrong_and_where() {
        let short = secret_file(&[b'x'; 31]);
        let broken = secret_file(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let set = secret_file(br#"{"keys":[]}"#);
        for (file, part) in [
            (data("missing.pem"), "missing.pem"),
            (data(""), "not a regular file"),
            (data("rsa-public.pem"), "without a usable private key"),
            (data("rsa-1024.pem"), "neither RSA of 2048"),
            (data("ec-p384.pem"), "neither RSA of 2048"),
            (short.path().into(), "31 bytes"),
            (broken.path().into(), "the key file"),
            (set.path().into(), "key set"),
        ] {
            let error = format!("{:#}", args(file).mint(NOW).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        let good = args(data("ec-sec1.pem"));
        for (wrong, part) in [
            (TokenArgs { claims: "[]".into(), ..good.clone() }, "--claims"),
            (TokenArgs { claims: r#"{"a":1,"a":2}"#.into(), ..good.clone() }, "twice"),
            (TokenArgs { ttl: Some("1".into()), ..good.clone() }, "--ttl"),
            (TokenArgs { ttl: Some("0s".into()), ..good.clone() }, "at least 1s"),
            (TokenArgs { algorithm: Some("none".into()), ..good.clone() }, "--algorithm"),
            (TokenArgs { algorithm: Some("RS256".into()), ..good.clone() }, "cannot sign RS256"),
            (
                TokenArgs { claims: r#"{"exp":1}"#.into(), ttl: Some("1h".into()), ..good.clone() },
                "give one of them",
            ),
        ] {
            let error = format!("{:#}", wrong.mint(NOW).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_token_that_would_be_refused_is_noted() {
        assert_eq!(notes("{}", "t").len(), 3);
        assert!(notes(r#"{"iss":"i","sub":"s","aud":"a"}"#, "t").is_empty());
    }
}
