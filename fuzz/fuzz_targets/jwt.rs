//! Any text may come as a token and any bytes as a key set: nothing panics, and nothing that was
//! not signed becomes an identity.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use hedgerow::claims::ClaimPath;
use hedgerow::identity::{Algorithm, IssuerSettings, KeySet, Verifier, VerifierSettings};
use libfuzzer_sys::fuzz_target;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(VerifierSettings {
        tenant_claim: ClaimPath::parse("tenant_id").expect("a path"),
        leeway: Duration::from_secs(30),
        max_lifetime: Duration::from_secs(3600),
        issuers: vec![issuer("i", &[Algorithm::Hs256]), issuer("j", &[Algorithm::EdDsa])],
    })
    .expect("the settings are valid")
});

fn issuer(name: &str, algorithms: &[Algorithm]) -> IssuerSettings {
    IssuerSettings {
        issuer: name.to_owned(),
        audiences: vec!["a".to_owned()],
        algorithms: algorithms.to_vec(),
    }
}

/// The keys of each issuer; the public one is that of RFC 8037, appendix A.
static KEYS: LazyLock<[KeySet; 2]> = LazyLock::new(|| {
    let secret = b"a secret of the operator that no fuzzer guesses";
    let public = br#"{"keys": [{"kty": "OKP", "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    [
        KeySet::from_secret_file(secret).expect("a secret"),
        KeySet::from_jwks(public).expect("a key set"),
    ]
});

fuzz_target!(|data: &[u8]| {
    let _ = KeySet::from_jwks(data);
    let _ = KeySet::from_secret_file(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = VERIFIER.inspect(text) {
        assert!(
            VERIFIER.verify(&token, &KEYS[token.issuer_index()], 1_700_000_000).is_err(),
            "nobody signed this"
        );
    }
});
