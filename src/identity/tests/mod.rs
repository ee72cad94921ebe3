//! Each refusal of a token beside its nearest allowed neighbour.

mod key_sets;
mod noise;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::*;
use crate::error::DenialCode;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://auth.example.com/";
/// Another key pair of each kind: an attacker's.
const OTHER_RSA: &[u8] = include_bytes!("../../../tests/data/identity/rsa-pkcs8.pem");
const OTHER_EC: &[u8] = include_bytes!("../../../tests/data/identity/ec-sec1.pem");
const OTHER_ED: &[u8] = include_bytes!("../../../tests/data/identity/ed25519-pkcs8.pem");

/// The private JWK of the self-test for an algorithm.
fn jwk(algorithm: Algorithm) -> Map<String, Value> {
    let answers: Vec<Value> = serde_json::from_str(include_str!("../known_answers.json")).unwrap();
    let answer = answers.iter().find(|answer| answer["algorithm"] == algorithm.name()).unwrap();
    answer["key"].as_object().unwrap().clone()
}

fn published(algorithm: Algorithm, kid: &str) -> Value {
    let mut public = jwk(algorithm);
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        public.remove(private);
    }
    public.insert("kid".into(), kid.into());
    Value::Object(public)
}

fn signer(algorithm: Algorithm) -> SigningKey {
    SigningKey::from_jwk(&jwk(algorithm)).unwrap().with_algorithm(algorithm).unwrap()
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// `rsa`, `ec` and `ed`, one key of each kind.
fn keys() -> KeySet {
    set(&[
        published(Algorithm::Rs256, "rsa"),
        published(Algorithm::Es256, "ec"),
        published(Algorithm::EdDsa, "ed"),
    ])
}

fn secret_keys() -> KeySet {
    KeySet::from_secret_file(b"0123456789abcdef0123456789abcdef\n").unwrap()
}

fn secret_signer() -> SigningKey {
    SigningKey::from_file_bytes(b"0123456789abcdef0123456789abcdef").unwrap()
}

fn settings() -> VerifierSettings {
    VerifierSettings {
        tenant_claim: ClaimPath::parse("tenant_id").unwrap(),
        leeway: Duration::from_secs(30),
        max_lifetime: Duration::from_secs(86_400),
        issuers: vec![
            IssuerSettings {
                issuer: ISSUER.into(),
                audiences: vec!["orders".into(), "billing".into()],
                algorithms: vec![
                    Algorithm::Rs256,
                    Algorithm::Ps256,
                    Algorithm::Es256,
                    Algorithm::EdDsa,
                ],
            },
            IssuerSettings {
                issuer: "internal".into(),
                audiences: vec!["orders".into()],
                algorithms: vec![Algorithm::Hs256],
            },
        ],
    }
}

fn verifier() -> Verifier {
    Verifier::new(settings()).unwrap()
}

pub(crate) fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": "orders", "iat": NOW - 10, "exp": NOW + 3600,
        "tenant_id": "acme",
    });
    claims.as_object().unwrap().clone()
}

/// The claims with one replaced, or taken out for `None`.
fn with(name: &str, value: Option<Value>) -> Map<String, Value> {
    let mut claims = claims();
    match value {
        Some(value) => claims.insert(name.into(), value),
        None => claims.remove(name),
    };
    claims
}

fn ed() -> SigningKey {
    signer(Algorithm::EdDsa).with_kid("ed")
}

fn check(token: &str) -> Result<VerifiedIdentity, TokenFault> {
    let verifier = verifier();
    let unverified = verifier.inspect(token)?;
    let keys = if unverified.issuer_index() == 0 { keys() } else { secret_keys() };
    verifier.verify(&unverified, &keys, NOW)
}

pub(crate) fn check_claims(claims: &Map<String, Value>) -> Result<VerifiedIdentity, TokenFault> {
    check(&ed().mint(claims).unwrap())
}

/// The code of a refusal, `None` for an accepted token.
fn code(outcome: Result<VerifiedIdentity, TokenFault>) -> Option<DenialCode> {
    outcome.err().map(|fault| fault.code())
}

fn code_of(name: &str, value: Value) -> Option<DenialCode> {
    code(check_claims(&with(name, Some(value))))
}

/// A token of this header and payload text, signed by the right Ed25519 key.
fn raw(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = ed().sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn payload() -> String {
    Value::Object(claims()).to_string()
}

fn header_code(header: &str) -> Option<DenialCode> {
    code(check(&raw(header, &payload())))
}

const INVALID: Option<DenialCode> = Some(DenialCode::TokenInvalid);
const EXPIRED: Option<DenialCode> = Some(DenialCode::TokenExpired);
const NOT_YET: Option<DenialCode> = Some(DenialCode::TokenNotYetValid);
const ISSUER_CODE: Option<DenialCode> = Some(DenialCode::TokenIssuer);
const AUDIENCE: Option<DenialCode> = Some(DenialCode::TokenAudience);
const ALGORITHM: Option<DenialCode> = Some(DenialCode::TokenAlgorithm);
const KEY: Option<DenialCode> = Some(DenialCode::TokenKey);
const CLAIM: Option<DenialCode> = Some(DenialCode::TokenClaim);
const TENANT: Option<DenialCode> = Some(DenialCode::TokenTenant);

#[test]
fn a_good_token_of_every_algorithm_is_verified() {
    for (algorithm, kid) in [
        (Algorithm::Rs256, "rsa"),
        (Algorithm::Ps256, "rsa"),
        (Algorithm::Es256, "ec"),
        (Algorithm::EdDsa, "ed"),
    ] {
        let key = signer(algorithm);
        for key in [key.clone(), key.with_kid(kid)] {
            let identity = check(&key.mint(&claims()).unwrap()).unwrap();
            assert_eq!(identity.issuer(), ISSUER);
            assert_eq!(identity.subject(), "alice");
            assert_eq!(identity.tenant(), Some(&TenantClaim::Text("acme".into())));
            assert_eq!(identity.token_id(), None);
            assert_eq!((identity.issued_at(), identity.expires_at()), (NOW - 10, NOW + 3600));
            assert_eq!(identity.claims().0, claims());
        }
    }
    let internal = with("iss", Some("internal".into()));
    assert!(check(&secret_signer().mint(&internal).unwrap()).is_ok());
    assert!(check(&secret_signer().with_kid("any").mint(&internal).unwrap()).is_ok());
}

#[test]
fn a_missing_token_says_so() {
    assert_eq!(code(check("")), Some(DenialCode::TokenMissing));
}

#[test]
fn a_token_over_the_limit_is_refused_before_it_is_decoded() {
    let token_of =
        |padding: usize| ed().mint(&with("padding", Some("x".repeat(padding).into()))).unwrap();
    let base = token_of(0).len();
    let fitting = (MAX_TOKEN_BYTES - base) / 4 * 3 - 3;
    let (good, large) = (token_of(fitting), token_of(fitting + 9));
    assert!(good.len() <= MAX_TOKEN_BYTES && large.len() > MAX_TOKEN_BYTES);
    assert!(check(&good).is_ok());
    assert_eq!(check(&large).unwrap_err(), TokenFault::TooLarge(large.len()));
    assert_eq!(code(check(&"!".repeat(1 << 20))), INVALID);
}

#[test]
fn other_forms_than_three_base64url_parts_are_refused() {
    let good = ed().mint(&claims()).unwrap();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    for token in [
        ".".into(),
        "..".into(),
        "...".into(),
        "x".into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{good}.{signature}.{signature}"),
        format!("{good}="),
        format!("{good}\n"),
        format!(" {good}"),
        format!("Bearer {good}"),
        format!("{header}=.{payload}.{signature}"),
        good.replace('_', "/").replace('-', "+") + "/",
        format!("{good}\0"),
        format!("{good}é"),
    ] {
        assert_eq!(code(check(&token)), INVALID, "{token}");
    }
    assert_eq!(code(check(&good)), None);
}

#[test]
fn a_signature_has_one_spelling() {
    // 64 bytes leave four spare bits in the last character: they must be zero.
    let good = ed().mint(&claims()).unwrap();
    let last = good.chars().last().unwrap();
    assert!("AQgw".contains(last));
    for other in ['B', 'R', 'h', 'x'] {
        let mut token = good.clone();
        token.pop();
        token.push(other);
        assert_eq!(code(check(&token)), INVALID);
    }
}

#[test]
fn header_and_payload_are_json_objects_without_double_names() {
    let good = r#"{"alg":"EdDSA","kid":"ed"}"#;
    assert_eq!(header_code(good), None);
    for header in [
        "{",
        "[]",
        "1",
        "null",
        "\"x\"",
        "{}x",
        r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","kid":"ed","x":{"a":1,"a":1}}"#,
    ] {
        assert_eq!(header_code(header), INVALID, "{header}");
    }
    let twice = payload().replacen('{', r#"{"tenant_id":"other","#, 1);
    for payload in ["{", "[]", "1", "null", "\"x\"", twice.as_str()] {
        assert_eq!(code(check(&raw(good, payload))), INVALID, "{payload}");
    }
}

#[test]
fn the_header_names_an_algorithm_of_the_issuers_list() {
    for (algorithm, expected) in [
        ("EdDSA", None),
        ("none", ALGORITHM),
        ("None", ALGORITHM),
        ("", ALGORITHM),
        ("HS256", ALGORITHM),
        ("HS512", ALGORITHM),
        ("RS512", ALGORITHM),
        ("ES384", ALGORITHM),
        ("eddsa", ALGORITHM),
        ("Ed25519", ALGORITHM),
    ] {
        let header = json!({"alg": algorithm, "kid": "ed"}).to_string();
        assert_eq!(header_code(&header), expected, "{algorithm}");
    }
    for header in [r#"{"kid":"ed"}"#, r#"{"alg":null}"#, r#"{"alg":["EdDSA"]}"#, r#"{"alg":5}"#] {
        assert_eq!(header_code(header), INVALID, "{header}");
    }
    // Of the list of another issuer, but not of this one's.
    let token = secret_signer().mint(&claims()).unwrap();
    assert_eq!(code(check(&token)), ALGORITHM);
    let token = ed().mint(&with("iss", Some("internal".into()))).unwrap();
    assert_eq!(code(check(&token)), ALGORITHM);
}

#[test]
fn an_unsigned_token_is_refused() {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(payload())
    );
    assert_eq!(code(check(&format!("{message}."))), INVALID);
    assert_eq!(code(check(&format!("{message}.AA"))), ALGORITHM);
}

#[test]
fn a_public_key_is_no_secret() {
    // The classic: HS256, keyed with the published RSA key in any of its spellings.
    let modulus = URL_SAFE_NO_PAD.decode(jwk(Algorithm::Rs256)["n"].as_str().unwrap()).unwrap();
    let as_jwk = published(Algorithm::Rs256, "rsa").to_string().into_bytes();
    let mut allows_both = settings();
    allows_both.issuers[0].algorithms.push(Algorithm::Hs256);
    assert_eq!(Verifier::new(allows_both).unwrap_err(), [SettingsError::MixedAlgorithms(0)]);
    for secret in [modulus, as_jwk] {
        let encoded = URL_SAFE_NO_PAD.encode(secret);
        let jwk = json!({"kty": "oct", "k": encoded});
        let key = SigningKey::from_jwk(jwk.as_object().unwrap()).unwrap();
        for kid in ["rsa", "ec", "ed"] {
            let token = key.clone().with_kid(kid).mint(&claims()).unwrap();
            assert_eq!(code(check(&token)), ALGORITHM);
            // Even were HS256 let through, no key of the set would serve it.
            let token = key.clone().with_kid(kid).mint(&with("iss", Some("internal".into())));
            let token = token.unwrap();
            let verifier = verifier();
            let unverified = verifier.inspect(&token).unwrap();
            assert_eq!(code(verifier.verify(&unverified, &keys(), NOW)), KEY);
        }
    }
}

#[test]
fn a_key_serves_its_own_algorithm_only() {
    for (algorithm, kid, expected) in [
        (Algorithm::Rs256, "rsa", None),
        (Algorithm::Ps256, "rsa", None),
        (Algorithm::Rs256, "ec", ALGORITHM),
        (Algorithm::Es256, "rsa", ALGORITHM),
        (Algorithm::EdDsa, "ec", ALGORITHM),
        (Algorithm::Es256, "ed", ALGORITHM),
    ] {
        let token = signer(algorithm).with_kid(kid).mint(&claims()).unwrap();
        assert_eq!(code(check(&token)), expected, "{algorithm} {kid}");
    }
    // A JWK bound to PS256 does not verify RS256.
    let mut bound = published(Algorithm::Rs256, "rsa");
    bound["alg"] = "PS256".into();
    let keys = set(&[bound]);
    for (algorithm, expected) in [(Algorithm::Ps256, None), (Algorithm::Rs256, ALGORITHM)] {
        let token = signer(algorithm).with_kid("rsa").mint(&claims()).unwrap();
        let verifier = verifier();
        let unverified = verifier.inspect(&token).unwrap();
        assert_eq!(code(verifier.verify(&unverified, &keys, NOW)), expected);
    }
}

#[test]
fn an_extension_that_must_be_understood_is_refused() {
    for (header, expected) in [
        (r#"{"alg":"EdDSA","kid":"ed","x":1}"#, None),
        (r#"{"alg":"EdDSA","kid":"ed","crit":["x"],"x":1}"#, INVALID),
        (r#"{"alg":"EdDSA","kid":"ed","crit":[]}"#, INVALID),
        (r#"{"alg":"EdDSA","kid":"ed","crit":["b64"],"b64":false}"#, INVALID),
        (r#"{"alg":"EdDSA","kid":"ed","crit":null}"#, INVALID),
    ] {
        assert_eq!(header_code(header), expected, "{header}");
    }
}

#[test]
fn the_type_is_jwt_or_access_token() {
    for (kind, expected) in [
        (json!("JWT"), None),
        (json!("jwt"), None),
        (json!("at+jwt"), None),
        (json!("application/at+jwt"), None),
        (json!("JWE"), INVALID),
        (json!("dpop+jwt"), INVALID),
        (json!("logout+jwt"), INVALID),
        (json!(""), INVALID),
        (json!(null), INVALID),
        (json!(["JWT"]), INVALID),
    ] {
        let header = json!({"alg": "EdDSA", "kid": "ed", "typ": kind}).to_string();
        assert_eq!(header_code(&header), expected, "{header}");
    }
}

#[test]
fn keys_offered_by_the_token_itself_are_never_looked_at() {
    let attacker = SigningKey::from_file_bytes(OTHER_ED).unwrap();
    let header = json!({
        "alg": "EdDSA", "kid": "ed", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/",
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwaaPJHURo0"},
        "x5c": ["AAAA"],
    });
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(payload())
    );
    let signature = attacker.sign(message.as_bytes()).unwrap();
    assert_eq!(code(check(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))), INVALID);
    // With the right signature they change nothing.
    assert_eq!(header_code(&header.to_string()), None);
}

#[test]
fn a_signature_of_another_key_is_refused() {
    for (pem, kid) in [(OTHER_RSA, "rsa"), (OTHER_EC, "ec"), (OTHER_ED, "ed")] {
        let key = SigningKey::from_file_bytes(pem).unwrap().with_kid(kid);
        assert_eq!(code(check(&key.mint(&claims()).unwrap())), INVALID);
    }
    let key = SigningKey::from_file_bytes(b"0123456789abcdef0123456789abcdeF").unwrap();
    assert_eq!(code(check(&key.mint(&with("iss", Some("internal".into()))).unwrap())), INVALID);
}

#[test]
fn parts_of_two_tokens_do_not_make_a_third() {
    let own = ed().mint(&claims()).unwrap();
    let other = ed().mint(&with("tenant_id", Some("globex".into()))).unwrap();
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (own, other) = (parts(&own), parts(&other));
    assert_eq!(code(check(&format!("{}.{}.{}", own[0], other[1], own[2]))), INVALID);
    assert_eq!(code(check(&format!("{}.{}.{}", own[0], own[1], own[2]))), None);
}

#[test]
fn an_unknown_key_id_is_told_from_a_wrong_signature() {
    let token = |kid: &str| signer(Algorithm::EdDsa).with_kid(kid).mint(&claims()).unwrap();
    for (kid, expected) in [("ed", None), ("ED", KEY), ("ed2", KEY), ("", KEY)] {
        assert_eq!(code(check(&token(kid))), expected, "{kid}");
    }
    for header in [r#"{"alg":"EdDSA","kid":1}"#, r#"{"alg":"EdDSA","kid":null}"#] {
        assert_eq!(header_code(header), INVALID, "{header}");
    }
    let long = json!({"alg": "EdDSA", "kid": "x".repeat(513)}).to_string();
    assert_eq!(header_code(&long), INVALID);
}

#[test]
fn a_token_without_key_id_needs_exactly_one_fitting_key() {
    let token = signer(Algorithm::EdDsa).mint(&claims()).unwrap();
    let verifier = verifier();
    let unverified = verifier.inspect(&token).unwrap();
    let one = set(&[published(Algorithm::EdDsa, "a"), published(Algorithm::Es256, "b")]);
    let two = set(&[published(Algorithm::EdDsa, "a"), published(Algorithm::EdDsa, "b")]);
    let none = set(&[published(Algorithm::Es256, "b")]);
    for (keys, expected) in [(one, None), (two, KEY), (none, KEY)] {
        assert_eq!(code(verifier.verify(&unverified, &keys, NOW)), expected);
    }
}

#[test]
fn the_issuer_is_exact_and_configured() {
    for (issuer, expected) in [
        (json!(ISSUER), None),
        (json!("https://auth.example.com"), ISSUER_CODE),
        (json!("https://AUTH.example.com/"), ISSUER_CODE),
        (json!("https://auth.example.com/ "), ISSUER_CODE),
        (json!("https://evil.example.com/"), ISSUER_CODE),
        (json!(""), CLAIM),
        (json!([ISSUER]), CLAIM),
        (json!(null), CLAIM),
        (json!(5), CLAIM),
    ] {
        assert_eq!(code_of("iss", issuer.clone()), expected, "{issuer}");
    }
}

#[test]
fn required_claims_are_there() {
    for claim in ["iss", "sub", "aud", "exp", "iat"] {
        let fault = check_claims(&with(claim, None)).unwrap_err();
        assert_eq!(fault, TokenFault::Claim { claim, problem: "is missing" });
        assert_eq!(fault.denial().object.as_deref(), Some(claim));
        assert_eq!(code_of(claim, Value::Null), CLAIM);
    }
}

#[test]
fn the_subject_is_a_plain_text() {
    for (subject, expected) in [
        (json!("alice"), None),
        (json!("auth0|5f7c é 名"), None),
        (json!(""), CLAIM),
        (json!(5), CLAIM),
        (json!(["alice"]), CLAIM),
        (json!({"id": "alice"}), CLAIM),
        (json!(true), CLAIM),
        (json!("a\u{0}b"), CLAIM),
        (json!("a\nb"), CLAIM),
    ] {
        assert_eq!(code_of("sub", subject.clone()), expected, "{subject}");
    }
}

#[test]
fn the_token_id_is_a_plain_text_if_there() {
    let identity = check_claims(&with("jti", Some("t-1".into()))).unwrap();
    assert_eq!(identity.token_id(), Some("t-1"));
    for id in [json!(""), json!(null), json!(5), json!(["x"]), json!("a\nb")] {
        assert_eq!(code_of("jti", id.clone()), CLAIM, "{id}");
    }
}

#[test]
fn one_audience_is_ours() {
    for (audience, expected) in [
        (json!("orders"), None),
        (json!("billing"), None),
        (json!(["orders"]), None),
        (json!(["other", "orders"]), None),
        (json!("other"), AUDIENCE),
        (json!("Orders"), AUDIENCE),
        (json!("orders "), AUDIENCE),
        (json!("orders,billing"), AUDIENCE),
        (json!("*"), AUDIENCE),
        (json!(""), AUDIENCE),
        (json!([]), AUDIENCE),
        (json!(["other"]), AUDIENCE),
        (json!(["orders", 5]), CLAIM),
        (json!([["orders"]]), CLAIM),
        (json!({"orders": true}), CLAIM),
        (json!(5), CLAIM),
    ] {
        assert_eq!(code_of("aud", audience.clone()), expected, "{audience}");
    }
}

#[test]
fn expiry_is_exact_with_leeway() {
    for (expiry, expected) in [
        (NOW + 1, None),
        (NOW, None),
        (NOW - 5, None),
        (NOW - 29, None),
        (NOW - 30, EXPIRED),
        (NOW - 31, EXPIRED),
        (0, EXPIRED),
        (-1, EXPIRED),
    ] {
        let mut claims = with("exp", Some(expiry.into()));
        claims.insert("iat".into(), (expiry - 60).into());
        assert_eq!(code(check_claims(&claims)), expected, "{}", expiry - NOW);
    }
}

#[test]
fn an_identity_may_be_used_until_expiry_and_leeway() {
    let identity = check_claims(&claims()).unwrap();
    let verifier = verifier();
    assert_eq!(verifier.check_expiry(&identity, NOW + 3600 + 29), Ok(()));
    assert_eq!(verifier.check_expiry(&identity, NOW + 3600 + 30), Err(TokenFault::Expired(30)));
    assert!(verifier.check_expiry(&identity, i64::MAX).is_err());
}

#[test]
fn not_before_and_issued_at_are_not_in_the_future() {
    for claim in ["nbf", "iat"] {
        for (ahead, expected) in [(-5, None), (0, None), (30, None), (31, NOT_YET)] {
            assert_eq!(code_of(claim, (NOW + ahead).into()), expected, "{claim} {ahead}");
        }
    }
    assert_eq!(code_of("nbf", json!(NOW as f64 + 30.0)), None);
    assert_eq!(code_of("nbf", json!(NOW as f64 + 30.5)), NOT_YET);
}

#[test]
fn times_are_numbers() {
    for claim in ["exp", "iat", "nbf"] {
        for value in [
            json!((NOW + 10).to_string()),
            json!(""),
            json!(null),
            json!(true),
            json!([NOW]),
            json!({"seconds": NOW}),
            json!(u64::MAX),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(1e300),
            json!(-1e300),
        ] {
            assert_eq!(code_of(claim, value.clone()), CLAIM, "{claim} {value}");
        }
    }
    let identity = check_claims(&with("exp", Some(json!(NOW as f64 + 100.9)))).unwrap();
    assert_eq!(identity.expires_at(), NOW + 100);
    // Milliseconds for seconds, as some make them.
    assert_eq!(code_of("exp", json!((NOW + 3600) * 1000)), CLAIM);
}

#[test]
fn a_lifetime_is_bounded() {
    for (lifetime, expected) in [
        (86_400, None),
        (86_401, CLAIM),
        (10 * 365 * 86_400, CLAIM),
        (11, None),
        (0, CLAIM),
        (-1, CLAIM),
    ] {
        assert_eq!(code_of("exp", (NOW - 10 + lifetime).into()), expected, "{lifetime}");
    }
}

#[test]
fn a_tenant_is_one_plain_value() {
    for (tenant, expected) in [
        (json!("acme"), None),
        (json!("a".repeat(256)), None),
        (json!("a'; DROP TABLE t --"), None),
        (json!(7), None),
        (json!(-7), None),
        (json!(i64::MAX), None),
        (json!(null), TENANT),
        (json!(""), TENANT),
        (json!("a".repeat(257)), TENANT),
        (json!("a\u{0}"), TENANT),
        (json!("a\n"), TENANT),
        (json!("\u{85}"), TENANT),
        (json!(true), TENANT),
        (json!(["acme"]), TENANT),
        (json!([]), TENANT),
        (json!({"id": "acme"}), TENANT),
        (json!(1.5), TENANT),
        (json!(u64::MAX), TENANT),
    ] {
        assert_eq!(code_of("tenant_id", tenant.clone()), expected, "{tenant}");
    }
    assert_eq!(check_claims(&with("tenant_id", None)).unwrap().tenant(), None);
    assert_eq!(
        check_claims(&with("Tenant_id", None)).unwrap().tenant().unwrap().to_string(),
        "acme"
    );
}

#[test]
fn a_tenant_deeper_in_is_found_absent_or_refused() {
    let mut nested = settings();
    nested.tenant_claim = ClaimPath::parse(r#""https://example.com/claims".org.id"#).unwrap();
    let verifier = Verifier::new(nested).unwrap();
    let tenant = |value: Option<Value>| {
        let token = ed().mint(&with("https://example.com/claims", value)).unwrap();
        let unverified = verifier.inspect(&token).unwrap();
        verifier.verify(&unverified, &keys(), NOW).map(|identity| identity.tenant().cloned())
    };
    assert_eq!(tenant(None), Ok(None));
    assert_eq!(tenant(Some(json!({}))), Ok(None));
    assert_eq!(tenant(Some(json!({"org": {}}))), Ok(None));
    assert_eq!(tenant(Some(json!({"org": {"id": 7}}))), Ok(Some(TenantClaim::Integer(7))));
    for wrong in [
        json!(null),
        json!("acme"),
        json!([]),
        json!({"org": null}),
        json!({"org": "acme"}),
        json!({"org": [{"id": 7}]}),
        json!({"org": {"id": null}}),
    ] {
        assert_eq!(tenant(Some(wrong.clone())), Err(TokenFault::Tenant), "{wrong}");
    }
}

#[test]
fn settings_are_checked_all_at_once() {
    let wrong = VerifierSettings {
        leeway: Duration::from_secs(601),
        max_lifetime: Duration::ZERO,
        issuers: vec![
            IssuerSettings { issuer: String::new(), audiences: vec![], algorithms: vec![] },
            IssuerSettings {
                issuer: String::new(),
                audiences: vec![String::new()],
                algorithms: vec![Algorithm::Hs256, Algorithm::Rs256],
            },
        ],
        ..settings()
    };
    assert_eq!(
        Verifier::new(wrong).unwrap_err(),
        [
            SettingsError::EmptyIssuer(0),
            SettingsError::NoAudience(0),
            SettingsError::NoAlgorithm(0),
            SettingsError::EmptyIssuer(1),
            SettingsError::DuplicateIssuer { index: 1, issuer: Quoted::new("") },
            SettingsError::NoAudience(1),
            SettingsError::MixedAlgorithms(1),
            SettingsError::LeewayTooLong,
            SettingsError::MaxLifetime,
        ]
    );
    let none = VerifierSettings { issuers: vec![], ..settings() };
    assert_eq!(Verifier::new(none).unwrap_err(), [SettingsError::NoIssuer]);
}

#[test]
fn nothing_of_a_token_or_a_key_is_shown() {
    let token = ed().mint(&with("secret_claim", Some("s3cret".into()))).unwrap();
    let identity = check(&token).unwrap();
    let verifier = verifier();
    let shown = format!(
        "{identity:?} {:?} {:?} {:?} {:?}",
        verifier.inspect(&token).unwrap(),
        keys(),
        ed(),
        secret_keys()
    );
    assert!(!shown.contains("s3cret") && !shown.contains(token.split('.').nth(2).unwrap()));
    let wrong = with("iss", Some("x\u{1b}[31m\n".repeat(500).into()));
    let fault = check_claims(&wrong).unwrap_err();
    let text = format!("{fault} {fault:?}");
    assert!(text.len() < 2_000 && !text.chars().any(char::is_control), "{text}");
    assert_eq!(fault.denial().to_string(), "HR2004 the token's issuer is not accepted");
}
