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
        issuers: vec![IssuerSettings {
            issuer: "i".to_owned(),
            audiences: vec!["a".to_owned()],
            algorithms: Algorithm::ALL.to_vec(),
        }],
    })
    .expect("the settings are valid")
});

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeySet::from_secret_file(b"a secret of the operator that no fuzzer guesses").expect("a secret")
});

fuzz_target!(|data: &[u8]| {
    let _ = KeySet::from_jwks(data);
    let _ = KeySet::from_secret_file(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = VERIFIER.inspect(text) {
        assert!(VERIFIER.verify(&token, &KEYS, 1_700_000_000).is_err(), "nobody signed this");
    }
});
