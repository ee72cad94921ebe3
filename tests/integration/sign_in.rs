//! Who is calling: good tokens by each way in, and wrong tokens of every kind.

use serde_json::json;

use crate::support::fixture::World;
use crate::support::hedgerow::command;
use crate::support::token::{self, AUDIENCE, EDDSA_ISSUER, HMAC_SECRET, KEY_ID, Token, now};
use crate::support::wire::{Outcome, WireClient};
use crate::support::{TENANT_A, TENANT_B};

fn by_option(world: &World, token: &str) -> Outcome {
    let mut client = WireClient::connect(world.hedgerow.for_a());
    let options = format!("-c hedgerow.token={token}");
    client.start(&[("user", "x"), ("database", &world.database), ("options", &options)], None)
}

#[test]
fn a_good_token_opens_a_session_by_password_and_by_option() {
    let world = World::new();
    for token in [Token::hs256(TENANT_A).sign(), Token::eddsa(TENANT_A).sign()] {
        let (mut client, outcome) =
            world.hedgerow.try_sign_in(world.hedgerow.for_a(), &world.database, &token);
        assert!(outcome.ready(), "{outcome:?}");
        assert!(
            outcome.messages.iter().any(|m| m.tag == b'R' && m.body == [0, 0, 0, 3]),
            "asked in clear"
        );
        assert_eq!(client.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
        client.terminate();
        let outcome = by_option(&world, &token);
        assert!(outcome.ready(), "{outcome:?}");
    }
    world.finish();
}

#[test]
fn a_token_of_the_command_line_opens_a_session() {
    let world = World::new();
    let directory = world.hedgerow.directory();
    std::fs::write(directory.join("ed25519.pem"), token::eddsa_pem()).unwrap();
    let claims = json!({"iss": EDDSA_ISSUER, "aud": AUDIENCE, "sub": "cli", "tenant_id": TENANT_B});
    let minted = command(
        &[
            "token",
            "--key",
            "ed25519.pem",
            "--kid",
            KEY_ID,
            "--claims",
            &claims.to_string(),
            "--ttl",
            "5m",
        ],
        directory,
    );
    let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
    assert!(minted.status.success() && token.split('.').count() == 3, "{token}");
    let mut b = world.hedgerow.sign_in(world.hedgerow.for_b(), &world.database, &token);
    assert_eq!(b.query("SELECT count(*) FROM users WHERE id > 100").lines(), ["3"]);
    b.terminate();
    world.finish();
}

/// Wrong tokens, each one step away from a good one, with the code of their refusal; an empty code
/// leaves it open which of two faults is named first.
fn wrong_tokens() -> Vec<(&'static str, String, &'static str)> {
    let good = Token::hs256(TENANT_A);
    let public_key = ring::signature::KeyPair::public_key(&token::eddsa_key()).as_ref().to_vec();
    let tampered = {
        let signed = good.sign();
        let other = good.clone().claim("tenant_id", json!(TENANT_B)).unsigned();
        format!("{other}.{}", signed.rsplit('.').next().unwrap())
    };
    let confused = Token::eddsa(TENANT_A).header("alg", json!("HS256")).secret(&public_key).sign();
    let no_algorithm = good.clone().header("alg", json!("none"));
    let expired = good.clone().claim("iat", json!(now() - 900)).claim("exp", json!(now() - 300));
    vec![
        ("empty", String::new(), ""),
        ("not a token", "secret".to_owned(), "HR2001"),
        ("two parts", good.unsigned(), "HR2001"),
        ("four parts", format!("{}.x", good.sign()), "HR2001"),
        ("signature cut off", format!("{}.", good.unsigned()), "HR2001"),
        ("tampered claims", tampered, "HR2001"),
        (
            "another secret",
            good.clone().secret(b"another secret of more than thirty-two bytes").sign(),
            "HR2001",
        ),
        ("not base64", good.sign().replacen('e', "!", 1), "HR2001"),
        ("alg none", format!("{}.", no_algorithm.unsigned()), ""),
        ("alg none, signed", no_algorithm.sign(), "HR2006"),
        ("alg None", good.clone().header("alg", json!("None")).sign(), ""),
        ("alg HS384", good.clone().header("alg", json!("HS384")).sign(), "HR2006"),
        (
            "alg RS256 for a shared secret",
            good.clone().header("alg", json!("RS256")).sign(),
            "HR2006",
        ),
        ("HS256 with the public key of Ed25519", confused, "HR2006"),
        (
            "no alg",
            {
                let mut token = good.clone();
                token.header.remove("alg");
                token.sign()
            },
            "",
        ),
        (
            "critical header",
            good.clone().header("crit", json!(["x"])).header("x", json!(1)).sign(),
            "",
        ),
        ("unknown key", Token::eddsa(TENANT_A).header("kid", json!("other")).sign(), "HR2007"),
        ("expired", expired.sign(), "HR2002"),
        ("not yet valid", good.clone().claim("nbf", json!(now() + 300)).sign(), "HR2003"),
        ("issued in the future", good.clone().claim("iat", json!(now() + 300)).sign(), "HR2003"),
        (
            "another issuer",
            good.clone().claim("iss", json!("https://evil.example/")).sign(),
            "HR2004",
        ),
        ("no issuer", good.clone().without("iss").sign(), ""),
        ("issuer of the other key", good.clone().claim("iss", json!(EDDSA_ISSUER)).sign(), ""),
        ("another audience", good.clone().claim("aud", json!("other")).sign(), "HR2005"),
        ("audiences, none ours", good.clone().claim("aud", json!(["x", "y"])).sign(), "HR2005"),
        ("no audience", good.clone().without("aud").sign(), ""),
        ("no exp", good.clone().without("exp").sign(), "HR2008"),
        ("no iat", good.clone().without("iat").sign(), "HR2008"),
        ("no sub", good.clone().without("sub").sign(), "HR2008"),
        ("exp as text", good.clone().claim("exp", json!("4102444800")).sign(), ""),
        ("lives for a year", good.clone().claim("exp", json!(now() + 31_536_000)).sign(), "HR2008"),
        ("tenant is a list", good.clone().claim("tenant_id", json!([TENANT_A])).sign(), "HR2009"),
        (
            "tenant is a list of two",
            good.clone().claim("tenant_id", json!([TENANT_A, TENANT_B])).sign(),
            "HR2009",
        ),
        (
            "tenant is an object",
            good.clone().claim("tenant_id", json!({"$ne": ""})).sign(),
            "HR2009",
        ),
        ("tenant is true", good.clone().claim("tenant_id", json!(true)).sign(), "HR2009"),
        ("tenant is empty", good.clone().claim("tenant_id", json!("")).sign(), "HR2009"),
        ("tenant has a NUL", good.clone().claim("tenant_id", json!("aaaa\u{0}")).sign(), "HR2009"),
        ("too large", good.claim("x", json!("x".repeat(200_000))).sign(), "HR2001"),
    ]
}

#[test]
fn wrong_tokens_of_every_kind_are_refused_by_password() {
    let world = World::new();
    let mut faults = Vec::new();
    for (what, token, code) in wrong_tokens() {
        let (_, outcome) =
            world.hedgerow.try_sign_in(world.hedgerow.for_a(), &world.database, &token);
        let error = outcome.errors().into_iter().next();
        let refused = error.as_ref().is_some_and(|error| {
            error.is_fatal()
                && ["28P01", "28000"].contains(&error.sqlstate())
                && (code.is_empty() || error.denial_code() == Some(code))
        });
        if outcome.ready() || !refused {
            faults.push(format!("{what}: {code} expected, came {outcome:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    world.hedgerow.record_with(&["HR2001", "28P01"]);
    let mut a = world.a();
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    a.terminate();
    world.finish();
}

#[test]
fn wrong_tokens_are_refused_by_option_and_leave_a_record_each() {
    let world = World::new();
    let tokens: Vec<_> = wrong_tokens()
        .into_iter()
        .filter(|(_, token, _)| !token.is_empty() && token.len() < 8000)
        .collect();
    let before = refusals(&world);
    for (what, token, _) in &tokens {
        let outcome = by_option(&world, token);
        assert!(!outcome.ready(), "{what}");
        assert_eq!(outcome.sqlstate(), "28000", "{what}: {outcome:?}");
    }
    assert_eq!(
        refusals(&world) - before,
        tokens.len(),
        "a record for each refusal, on disk by now"
    );
    let everything = format!("{:?}", world.hedgerow.records());
    assert!(!everything.contains("eyJ"), "a token stands in the audit files");
    assert!(!everything.contains(HMAC_SECRET));
    world.finish();
}

fn refusals(world: &World) -> usize {
    world.hedgerow.records().iter().filter(|record| record.to_string().contains("HR20")).count()
}

#[test]
fn a_token_without_a_tenant_reaches_no_data() {
    let world = World::new();
    for token in [
        Token::hs256(TENANT_A).without("tenant_id").sign(),
        Token::hs256(TENANT_A).claim("tenant_id", json!(null)).sign(),
    ] {
        let (mut client, outcome) =
            world.hedgerow.try_sign_in(world.hedgerow.for_a(), &world.database, &token);
        if outcome.ready() {
            for sql in ["SELECT count(*) FROM users", "SELECT code FROM currencies", "SELECT 1"] {
                let outcome = client.query(sql);
                assert!(outcome.denied(), "{sql}: {outcome:?}");
            }
        }
    }
    world.finish();
}

#[test]
fn a_tenant_that_is_no_value_of_the_columns_type_reaches_no_data() {
    let world = World::new();
    for tenant in [
        json!("%"),
        json!("x' OR true --"),
        json!(0),
        json!("aaaaaaaa"),
        json!(format!("{TENANT_A}\n")),
    ] {
        let token = Token::hs256(TENANT_A).claim("tenant_id", tenant.clone()).sign();
        let (mut client, outcome) =
            world.hedgerow.try_sign_in(world.hedgerow.for_a(), &world.database, &token);
        if outcome.ready() {
            let outcome = client.query("SELECT id FROM users");
            assert!(outcome.rows().is_empty(), "{tenant}: {outcome:?}");
            assert!(outcome.denied(), "{tenant}: {outcome:?}");
        }
    }
    world.finish();
}

#[test]
fn an_expired_session_gets_no_new_statement() {
    let world = World::new();
    let token = Token::hs256(TENANT_A).claim("exp", json!(now() + 2)).sign();
    let mut a = world.hedgerow.sign_in(world.hedgerow.for_a(), &world.database, &token);
    assert_eq!(a.query("SELECT 1").lines(), ["1"]);
    // Two seconds of life and two of leeway.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let outcome = a.query("SELECT 1");
    assert!(outcome.rows().is_empty(), "{outcome:?}");
    assert_eq!(outcome.sqlstate(), "57P01", "{outcome:?}");
    world.finish();
}

#[test]
fn the_identity_of_an_open_session_is_replaced_by_set() {
    let world = World::new();
    let mut a =
        world.hedgerow.sign_in(world.hedgerow.address, &world.database, &token::of(TENANT_A));
    let wrong =
        Token::hs256(TENANT_B).secret(b"another secret of more than thirty-two bytes").sign();
    let outcome = a.query(&format!("SET hedgerow.token = '{wrong}'"));
    assert!(!outcome.errors().is_empty(), "{outcome:?}");
    if outcome.ready() {
        assert!(!a.query("SELECT id FROM users").lines().iter().any(|id| id == "101"));
    }
    world.finish();
}
