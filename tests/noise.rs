//! Ten thousand damaged inputs: configuration, policies, catalogs, key sets, tokens, SQL. Each ends
//! in an answer or a fault with its place; none in a panic, and no damaged token in an identity.
//!
//! The damage is pseudo-random and the same in every run; `fuzz/` goes on where this ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a failing test may panic"
)]

use std::path::Path;
use std::time::Duration;

use hedgerow::catalog::{Catalog, file};
use hedgerow::claims::{ClaimPath, Claims, Principal, TenantClaim};
use hedgerow::config::validate::validate;
use hedgerow::decide::{Context, decide};
use hedgerow::identity::{
    Algorithm, IssuerSettings, KeySet, SigningKey, Verifier, VerifierSettings,
};
use hedgerow::ids::PolicyEpoch;
use hedgerow::policy::load::compile;
use hedgerow::sql::{Limits, postgres::check_expression};

const CONFIGURATION: &str = include_str!("../examples/hedgerow.yaml");
const POLICY: &str = include_str!("../policies/example.yaml");
const STATEMENTS: &str = include_str!("corpus/sample.jsonl");
const NOW: i64 = 1_800_000_000;

/// Pieces that break readers: brackets, quotes, marks of YAML, JSON and SQL, odd characters.
const PIECES: &[&str] = &[
    "",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ":",
    ",",
    "\n",
    "\t",
    "- ",
    "#",
    "&a ",
    "*a",
    "!!",
    "|\n",
    "\\",
    "\\u0000",
    "null",
    "-1",
    "1e999",
    "99999999999999999999",
    "é",
    "\u{feff}",
    "\u{202e}",
    "$1",
    "$$",
    "--",
    "/*",
    "*/",
    ";",
    "(",
    ")",
    "::",
    "E'",
    "U&\"",
    "claim('",
    "SELECT",
    " OR ",
    "((((((((",
    "true",
    "\r",
    "\u{7f}",
    "~",
    "@",
    "%",
    ".",
    "..",
];

/// Xorshift: the same noise in every run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).unwrap()
    }

    /// The text with one to four pieces cut out, put in, doubled or swapped.
    fn damage(&mut self, text: &str) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(4) {
            let at = self.below(characters.len() + 1);
            let end = (at + self.below(12)).min(characters.len());
            let piece: Vec<char> = PIECES[self.below(PIECES.len())].chars().collect();
            match self.below(4) {
                0 => drop(characters.splice(at..end, piece)),
                1 => drop(characters.splice(at..at, piece)),
                2 => characters.truncate(at),
                _ => {
                    let copy = characters[at..end].to_vec();
                    let to = self.below(characters.len() + 1);
                    drop(characters.splice(to..to, copy));
                }
            }
        }
        characters.into_iter().collect()
    }
}

#[test]
fn damaged_configurations_and_policies_end_in_faults_with_places() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2_000 {
        let text = noise.damage(CONFIGURATION);
        for fault in validate("f", &text, Path::new("/nowhere/f"), &|_| None).faults {
            assert!(fault.at.line > 0 && fault.at.column > 0, "{fault}");
        }
        let text = noise.damage(POLICY);
        match compile(&[("p", &text)], PolicyEpoch(1)) {
            Ok(policies) => {
                for (_, expression) in policies.postgres.expressions() {
                    let _ = check_expression(&expression.text);
                }
            }
            Err(faults) => {
                assert!(!faults.is_empty(), "refused without a fault: {text}");
                assert!(faults.iter().all(|fault| fault.at.line > 0 && fault.at.column > 0));
            }
        }
    }
}

#[test]
fn damaged_catalogs_and_key_sets_are_refused_or_read() {
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let catalog = file::to_json(&Catalog {
        live: true,
        server_version: 150_000,
        search_path: vec!["public".to_owned()],
        role: "app".to_owned(),
        ..Catalog::default()
    });
    let catalog = catalog.unwrap();
    let keys = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    for _ in 0..1_500 {
        let _ = file::from_json(&noise.damage(&catalog));
        let _ = KeySet::from_jwks(noise.damage(keys).as_bytes());
    }
}

#[test]
fn no_damaged_token_is_an_identity() {
    let secret = b"a secret of the operator that nobody guesses";
    let verifier = Verifier::new(VerifierSettings {
        tenant_claim: ClaimPath::parse("tenant_id").unwrap(),
        leeway: Duration::from_secs(30),
        max_lifetime: Duration::from_secs(3600),
        issuers: vec![IssuerSettings {
            issuer: "i".to_owned(),
            audiences: vec!["a".to_owned()],
            algorithms: vec![Algorithm::Hs256],
        }],
    });
    let verifier = verifier.unwrap();
    let keys = KeySet::from_secret_file(secret).unwrap();
    let claims = serde_json::json!({
        "iss": "i", "aud": "a", "sub": "s", "tenant_id": "t", "iat": NOW, "exp": NOW + 60
    });
    let good =
        SigningKey::from_file_bytes(secret).unwrap().mint(claims.as_object().unwrap()).unwrap();
    let verify = |text: &str| {
        let token = verifier.inspect(text).ok()?;
        verifier.verify(&token, &keys, NOW).ok().map(drop)
    };
    assert!(verify(&good).is_some(), "the token is good before it is damaged");
    let mut noise = Noise(0xdead_beef_cafe_f00d);
    for _ in 0..3_000 {
        let damaged = noise.damage(&good);
        assert!(damaged == good || verify(&damaged).is_none(), "{damaged}");
    }
}

#[test]
fn damaged_statements_are_decided_twice_the_same_way() {
    let policy = "tenant: {column: tenant_id, type: text}\ntables: {\"public.*\": {}}\n";
    let policy = compile(&[("p", policy)], PolicyEpoch(1)).unwrap().postgres;
    let catalog =
        Catalog { live: false, search_path: vec!["public".to_owned()], ..Catalog::default() };
    let tenant = "the-tenant-of-this-test";
    let principal =
        Principal::assumed(Some(TenantClaim::Text(tenant.to_owned())), Claims::default());
    let context = Context {
        policy: &policy,
        catalog: &catalog,
        principal: &principal,
        limits: Limits::default(),
    };
    let statements: Vec<String> = STATEMENTS
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["sql"].as_str().unwrap().to_owned()
        })
        .collect();
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    for round in 0..2_000 {
        let text = noise.damage(&statements[round % statements.len()]);
        match (decide(&text, context), decide(&text, context)) {
            (Ok(first), Ok(second)) => {
                assert_eq!(first, second);
                for decided in first {
                    let sent = decided.guarded.text();
                    assert!(!decided.protected || sent.contains(tenant), "{text} -> {sent}");
                }
            }
            (Err(first), Err(second)) => assert_eq!(first.denial, second.denial),
            _ => panic!("one text, two verdicts: {text}"),
        }
    }
}
