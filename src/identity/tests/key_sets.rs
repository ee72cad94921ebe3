//! Key sets and secrets: what is taken, left out, refused.

use super::*;

#[test]
fn keys_that_cannot_verify_are_left_out_with_a_reason() {
    let good = published(Algorithm::EdDsa, "good");
    let changed = |base: Algorithm, name: &str, value: Value| {
        let mut key = published(base, "bad");
        key[name] = value;
        key
    };
    let short = URL_SAFE_NO_PAD.encode([0xff; 255]);
    let just = URL_SAFE_NO_PAD.encode([&[0x7f][..], &[0xff; 255][..]].concat());
    let long = URL_SAFE_NO_PAD.encode([0xff; 1025]);
    for (bad, reason) in [
        (json!("key"), "not an object"),
        (json!({"kid": "bad"}), "no type"),
        (json!({"kty": "DSA"}), "unknown type"),
        (json!({"kty": "oct", "k": "AAAA"}), "symmetric"),
        (changed(Algorithm::EdDsa, "kid", json!(5)), "`kid`"),
        (changed(Algorithm::EdDsa, "use", json!("enc")), "`use`"),
        (changed(Algorithm::EdDsa, "use", json!(null)), "`use`"),
        (changed(Algorithm::EdDsa, "key_ops", json!(["sign"])), "`key_ops`"),
        (changed(Algorithm::EdDsa, "alg", json!("RS256")), "another kind"),
        (changed(Algorithm::Rs256, "alg", json!("RS512")), "unknown algorithm"),
        (changed(Algorithm::Rs256, "alg", json!("none")), "unknown algorithm"),
        (changed(Algorithm::EdDsa, "d", json!("AAAA")), "private"),
        (changed(Algorithm::Rs256, "n", json!(short)), "fewer than 2048"),
        (changed(Algorithm::Rs256, "n", json!(just)), "fewer than 2048"),
        (changed(Algorithm::Rs256, "n", json!(long)), "more than 8192"),
        (changed(Algorithm::Rs256, "n", json!("!")), "modulus"),
        (changed(Algorithm::Rs256, "e", json!("AQ")), "exponent"),
        (changed(Algorithm::Rs256, "e", json!("AQAA")), "exponent"),
        (changed(Algorithm::Rs256, "e", json!("")), "exponent"),
        (changed(Algorithm::Es256, "crv", json!("P-384")), "another curve"),
        (changed(Algorithm::Es256, "x", json!("AAAA")), "32 bytes"),
        (changed(Algorithm::EdDsa, "crv", json!("X25519")), "another curve"),
        (changed(Algorithm::EdDsa, "x", json!("AAAA")), "32 bytes"),
    ] {
        let keys = set(&[bad.clone(), good.clone()]);
        assert_eq!((keys.len(), keys.skipped().len()), (1, 1));
        assert!(keys.skipped()[0].to_string().contains(reason), "{bad}: {:?}", keys.skipped());
        let alone = json!({"keys": [bad]}).to_string();
        let error = KeySet::from_jwks(alone.as_bytes()).unwrap_err();
        assert!(matches!(&error, KeySetError::Empty(_)) && error.to_string().contains(reason));
    }
    for (name, value) in
        [("use", json!("sig")), ("key_ops", json!(["verify"])), ("alg", json!("EdDSA"))]
    {
        assert_eq!(set(&[changed(Algorithm::EdDsa, name, value)]).len(), 1);
    }
    // A leading zero byte in the modulus, against the RFC but in the wild.
    let mut zero = vec![0];
    zero.extend(URL_SAFE_NO_PAD.decode(jwk(Algorithm::Rs256)["n"].as_str().unwrap()).unwrap());
    let keys = set(&[changed(Algorithm::Rs256, "n", json!(URL_SAFE_NO_PAD.encode(zero)))]);
    let verifier = verifier();
    let token = signer(Algorithm::Rs256).mint(&claims()).unwrap();
    let unverified = verifier.inspect(&token).unwrap();
    assert_eq!(code(verifier.verify(&unverified, &keys, NOW)), None);
}

#[test]
fn key_sets_are_bounded_and_unambiguous() {
    let key = |kid: usize| published(Algorithm::EdDsa, &kid.to_string());
    let text = |keys: Vec<Value>| json!({ "keys": keys }).to_string();
    assert_eq!(KeySet::from_jwks(text((0..100).map(key).collect()).as_bytes()).unwrap().len(), 100);
    let many = text((0..101).map(key).collect());
    assert_eq!(KeySet::from_jwks(many.as_bytes()).unwrap_err(), KeySetError::TooManyKeys(101));
    let twice = text(vec![key(1), published(Algorithm::Es256, "1")]);
    assert_eq!(
        KeySet::from_jwks(twice.as_bytes()).unwrap_err(),
        KeySetError::DuplicateKeyId(Quoted::new("1"))
    );
    let mut padded = text(vec![key(1)]);
    padded.push_str(&" ".repeat(MAX_KEY_SET_BYTES - padded.len()));
    assert!(KeySet::from_jwks(padded.as_bytes()).is_ok());
    padded.push(' ');
    assert_eq!(KeySet::from_jwks(padded.as_bytes()).unwrap_err(), KeySetError::TooLarge);
    let bare = key(1).to_string();
    for (text, error) in [
        ("", KeySetError::Json(JsonFault::NotAnObject)),
        ("[]", KeySetError::Json(JsonFault::NotAnObject)),
        (r#"{"keys":[],"keys":[]}"#, KeySetError::Json(JsonFault::DuplicateName)),
        (r#"{"keys":{}}"#, KeySetError::NoKeysMember),
        (bare.as_str(), KeySetError::NoKeysMember),
        (r#"{"keys":[]}"#, KeySetError::Empty(vec![])),
    ] {
        assert_eq!(KeySet::from_jwks(text.as_bytes()).unwrap_err(), error, "{text}");
    }
}

#[test]
fn a_secret_has_32_bytes_and_is_no_key_document() {
    let code = |content: &[u8]| KeySet::from_secret_file(content).map(|keys| keys.len());
    assert_eq!(code(&[7; 32]), Ok(1));
    assert_eq!(code(&[7; 31]), Err(KeySetError::SecretTooShort(31)));
    assert_eq!(code(b""), Err(KeySetError::SecretTooShort(0)));
    // One newline is the editor's, two are the secret's.
    assert_eq!(code(&[&[7; 31][..], b"\n"].concat()), Err(KeySetError::SecretTooShort(31)));
    assert_eq!(code(&[&[7; 31][..], b"\n\n"].concat()), Ok(1));
    assert_eq!(code(OTHER_RSA), Err(KeySetError::SecretIsDocument));
    let jwk = published(Algorithm::Rs256, "rsa").to_string();
    assert_eq!(code(jwk.as_bytes()), Err(KeySetError::SecretIsDocument));
    assert_eq!(code(br#"{"any": "json object of more than 32 bytes"}"#), Ok(1));
}
