//! Tokens, good and bad, made by hand: the tests' own JWT signer shares nothing with the verifier.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::KeyPair;
use serde_json::{Map, Value, json};

/// The issuer that signs with a shared secret.
pub const HMAC_ISSUER: &str = "https://hmac.example.test/";
/// The issuer that signs with Ed25519.
pub const EDDSA_ISSUER: &str = "https://eddsa.example.test/";
/// The audience that Hedgerow accepts.
pub const AUDIENCE: &str = "hedgerow-tests";
/// The shared secret, of more than 32 bytes.
pub const HMAC_SECRET: &str = "a shared secret of the tests, longer than thirty-two bytes";
/// The key id in the key set.
pub const KEY_ID: &str = "test-key-1";
/// Seed of the Ed25519 key: a fixed one, so that a failure can be repeated.
const SEED: [u8; 32] = *b"seed-of-the-hedgerow-test-suite!";

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_secs()).expect("fits")
}

/// The Ed25519 key pair.
pub fn eddsa_key() -> ring::signature::Ed25519KeyPair {
    ring::signature::Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed of 32 bytes")
}

/// The key set that Hedgerow is given.
pub fn key_set() -> String {
    let x = URL_SAFE_NO_PAD.encode(eddsa_key().public_key().as_ref());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": KEY_ID, "x": x}]})
        .to_string()
}

/// The Ed25519 key in PKCS #8 PEM, for `hedgerow token --key`.
pub fn eddsa_pem() -> String {
    // RFC 8410: version, algorithm 1.3.101.112, OCTET STRING in OCTET STRING.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(&SEED);
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

/// A token being made.
#[derive(Clone, Debug)]
pub struct Token {
    /// JOSE header.
    pub header: Map<String, Value>,
    /// Claims.
    pub claims: Map<String, Value>,
    secret: Vec<u8>,
}

impl Token {
    /// A good token of the HMAC issuer.
    pub fn hs256(tenant: &str) -> Self {
        let issued = now();
        Self {
            header: object(json!({"alg": "HS256", "typ": "JWT"})),
            claims: object(json!({
                "iss": HMAC_ISSUER, "aud": AUDIENCE, "sub": "user-1", "iat": issued - 5,
                "exp": issued + 600, "tenant_id": tenant, "region": "eu", "jti": "token-1",
            })),
            secret: HMAC_SECRET.as_bytes().to_vec(),
        }
    }

    /// A good token of the Ed25519 issuer.
    pub fn eddsa(tenant: &str) -> Self {
        let mut token = Self::hs256(tenant).claim("iss", EDDSA_ISSUER.into());
        token.header = object(json!({"alg": "EdDSA", "typ": "JWT", "kid": KEY_ID}));
        token
    }

    /// Sets a claim.
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Leaves a claim out.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a header field.
    pub fn header(mut self, name: &str, value: Value) -> Self {
        self.header.insert(name.to_owned(), value);
        self
    }

    /// Signs HS256 with another secret.
    pub fn secret(mut self, secret: &[u8]) -> Self {
        self.secret = secret.to_vec();
        self
    }

    /// Header and claims, encoded, without a signature.
    pub fn unsigned(&self) -> String {
        let encode = |part: &Map<String, Value>| {
            URL_SAFE_NO_PAD.encode(serde_json::to_string(part).expect("JSON"))
        };
        format!("{}.{}", encode(&self.header), encode(&self.claims))
    }

    /// The token, signed as its header says; any algorithm but EdDSA is signed with the secret.
    pub fn sign(&self) -> String {
        let text = self.unsigned();
        let signature = if self.header.get("alg") == Some(&json!("EdDSA")) {
            eddsa_key().sign(text.as_bytes()).as_ref().to_vec()
        } else {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.secret);
            ring::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A good token for a tenant.
pub fn of(tenant: &str) -> String {
    Token::hs256(tenant).sign()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => panic!("an object"),
    }
}
