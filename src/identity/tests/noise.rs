//! Noise: nothing made up verifies, nothing panics.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_text_never_verifies_nor_panics(text in any::<String>()) {
        prop_assert!(check(&text).is_err());
    }

    #[test]
    fn random_parts_never_verify_nor_panic(
        header in prop_oneof![Just(r#"{"alg":"EdDSA","kid":"ed"}"#.to_owned()), any::<String>()],
        payload in prop_oneof![Just(payload()), any::<String>()],
        signature in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let token = [header.as_bytes(), payload.as_bytes(), &signature]
            .map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        prop_assert!(check(&token).is_err());
    }

    #[test]
    fn a_changed_token_never_verifies(
        algorithm in proptest::sample::select(&Algorithm::ALL[1..]),
        place in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let token = signer(algorithm).mint(&claims()).unwrap();
        let mut bytes = token.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert_eq!(check(&changed).is_ok(), changed == token);
        }
    }

    #[test]
    fn a_cut_token_never_verifies(place in any::<proptest::sample::Index>()) {
        let token = ed().mint(&claims()).unwrap();
        prop_assert!(check(&token[..place.index(token.len())]).is_err());
    }

    #[test]
    fn random_claims_never_panic_and_only_good_ones_verify(
        name in proptest::sample::select(vec!["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "tenant_id"]),
        value in prop_oneof![
            Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from), any::<String>().prop_map(Value::from),
            proptest::collection::vec(any::<String>(), 0..3).prop_map(Value::from),
        ],
    ) {
        if let Ok(identity) = check_claims(&with(name, Some(value))) {
            prop_assert_eq!(identity.issuer(), ISSUER);
            prop_assert!(identity.expires_at() > NOW - 30 && identity.issued_at() <= NOW + 30);
            prop_assert!(identity.expires_at() - identity.issued_at() <= 86_400);
            prop_assert!(!identity.subject().chars().any(char::is_control));
        }
    }

    #[test]
    fn random_key_sets_and_keys_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = KeySet::from_jwks(&bytes);
        let _ = KeySet::from_secret_file(&bytes);
        let _ = SigningKey::from_file_bytes(&bytes);
    }
}
