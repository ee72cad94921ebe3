//! Development tokens of the demo's own issuer: HS256 (RFC 7515, RFC 7519). Layer 6.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

/// A token with the given claims, for `ttl_seconds` from `now` (unix seconds).
pub(super) fn mint(secret: &[u8], claims: &Value, now: i64, ttl_seconds: i64) -> String {
    let mut claims = claims.clone();
    if let Some(claims) = claims.as_object_mut() {
        claims.insert("iat".to_owned(), json!(now));
        claims.insert("exp".to_owned(), json!(now.saturating_add(ttl_seconds)));
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_that_others_accept() {
        let secret = b"0123456789abcdef0123456789abcdef";
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({"iss": "i", "aud": "a", "sub": "s", "tenant_id": "t"});
        let token = mint(secret, &claims, now, 60);
        let parts: Vec<&str> = token.split('.').collect();
        let [header, body, signature] = parts[..] else { panic!("three parts") };
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        hmac::verify(&key, format!("{header}.{body}").as_bytes(), &signature).unwrap();
        let body: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
        assert_eq!(body["tenant_id"], "t");
        assert_eq!(body["exp"].as_i64().unwrap() - body["iat"].as_i64().unwrap(), 60);
    }
}
