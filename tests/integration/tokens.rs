//! One session, many identities: `SET [LOCAL] hedgerow.token`, services without a tenant, expiry and
//! revocation in an open session.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::process;
use crate::support::redis::Redis;
use crate::support::token::{self, Token};
use crate::support::wire::{self, WireClient};
use crate::support::{TENANT_A, TENANT_B};

const IDS: &str = "SELECT id FROM users ORDER BY id";
const SEEN: &str = "SELECT id FROM seen_by_rls";
const A: [&str; 3] = ["1", "2", "3"];
const B: [&str; 3] = ["101", "102", "103"];

fn worlds() -> [World; 2] {
    ["session", "transaction"].map(|pool_mode| {
        let mut options = Options::new(POLICY);
        options.pool_mode = pool_mode;
        World::with(&options)
    })
}

/// A session that may become either tenant: past the scanners, which know of one each.
fn session(world: &World, token: &str) -> WireClient {
    world.hedgerow.sign_in(world.hedgerow.address, &world.database, token)
}

fn service() -> String {
    Token::hs256("").without("tenant_id").sign()
}

fn set(scope: &str, tenant: &str) -> String {
    format!("SET {scope} hedgerow.token = '{}'", token::of(tenant))
}

#[test]
fn a_token_changes_who_the_session_speaks_for() {
    for world in worlds() {
        let mut client = session(&world, &token::of(TENANT_A));
        assert_eq!(client.query(IDS).lines(), A);
        for scope in ["", "SESSION"] {
            let outcome = client.query(&set(scope, TENANT_B));
            assert_eq!((outcome.shape().as_str(), outcome.tags()), ("CZ", vec!["SET".to_owned()]));
            assert_eq!(client.query(IDS).lines(), B);
            assert_eq!(client.query(SEEN).lines(), ["101"]);
            let outcome = client.extended(&set(scope, TENANT_A), &[]);
            assert_eq!((outcome.tags(), outcome.status()), (vec!["SET".to_owned()], Some('I')));
            assert_eq!(client.extended(IDS, &[]).lines(), A);
            assert_eq!(client.query(SEEN).lines(), ["1"]);
        }
        for (back, tag) in [
            ("RESET hedgerow.token", "RESET"),
            ("SET hedgerow.token TO DEFAULT", "SET"),
            ("RESET ALL", "RESET"),
            ("DISCARD ALL", "DISCARD ALL"),
        ] {
            client.query(&set("", TENANT_B));
            assert_eq!(client.query(SEEN).lines(), ["101"]);
            let outcome = client.query(back);
            assert_eq!((outcome.errors().len(), outcome.tags()), (0, vec![tag.to_owned()]));
            assert_eq!(client.query(IDS).lines(), A, "{back}");
            assert_eq!(client.query(SEEN).lines(), ["1"], "{back}");
        }
        client.query("BEGIN");
        assert_eq!(client.query(IDS).lines(), A);
        assert_eq!(client.query("RESET hedgerow.token").tags(), ["RESET"]);
        assert_eq!(client.extended("RESET hedgerow.token", &[]).tags(), ["RESET"]);
        assert_eq!(client.query(SEEN).lines(), ["1"]);
        assert_eq!(client.query("COMMIT").tags(), ["COMMIT"]);
        let record = world.hedgerow.record_with(&["\"UPDATE"; 0]);
        assert!(!record.is_null());
        client.terminate();
        world.hedgerow.terminate();
        let records: Vec<String> =
            world.hedgerow.records().iter().map(ToString::to_string).collect();
        assert!(
            records
                .iter()
                .any(|record| record.contains("seen_by_rls") && record.contains(TENANT_B))
        );
        assert!(records.iter().all(|record| !record.contains("eyJ")), "a token is on record");
        world.finish();
    }
}

#[test]
fn a_local_token_ends_with_its_transaction() {
    for world in worlds() {
        let mut client = session(&world, &token::of(TENANT_A));
        for end in ["COMMIT", "ROLLBACK"] {
            client.query("BEGIN");
            let outcome = client.query(&set("LOCAL", TENANT_B));
            assert_eq!((outcome.tags(), outcome.status()), (vec!["SET".to_owned()], Some('T')));
            assert_eq!(client.query(IDS).lines(), B);
            assert_eq!(client.query(SEEN).lines(), ["101"]);
            client.query(end);
            assert_eq!(client.query(IDS).lines(), A);
            assert_eq!(client.query(SEEN).lines(), ["1"]);
        }
        // Outside a transaction it is nothing, as PostgreSQL says.
        let outcome = client.query(&set("LOCAL", TENANT_B));
        assert_eq!(outcome.notices()[0].sqlstate(), "25P01");
        assert_eq!(client.query(IDS).lines(), A);
        // After an error.
        client.query("BEGIN");
        client.query(&set("LOCAL", TENANT_B));
        client.query("SELECT 1/0");
        assert_eq!(client.query(IDS).sqlstate(), "25P02");
        client.query("ROLLBACK");
        assert_eq!(client.query(SEEN).lines(), ["1"]);
        world.finish();
    }
}

#[test]
fn one_session_serves_one_tenant_a_transaction() {
    for world in worlds() {
        let mut client = session(&world, &service());
        let mut prepare = wire::parse("ids", IDS, &[]);
        prepare.extend(wire::sync());
        client.query(&set("", TENANT_A));
        client.send(&prepare);
        assert_eq!(client.collect(1).shape(), "1Z");
        for round in 0..6 {
            let (tenant, own) = if round % 2 == 0 { (TENANT_B, B) } else { (TENANT_A, A) };
            client.query("BEGIN");
            client.query(&set("LOCAL", tenant));
            let mut run = wire::bind("", "ids", &[]);
            run.extend(wire::execute("", 0));
            run.extend(wire::sync());
            client.send(&run);
            assert_eq!(client.collect(1).lines(), own, "a prepared statement is the tenant's");
            assert_eq!(client.query(SEEN).lines(), own[..1]);
            client.query("COMMIT");
        }
        world.finish();
    }
}

#[test]
fn a_pipeline_names_its_tenant_within() {
    for world in worlds() {
        let mut client = session(&world, &service());
        for (tenant, own) in [(TENANT_A, A), (TENANT_B, B)] {
            let mut bytes = Vec::new();
            let local = set("LOCAL", tenant);
            for sql in ["BEGIN", local.as_str(), IDS, SEEN, "COMMIT"] {
                bytes.extend(wire::parse("", sql, &[]));
                bytes.extend(wire::bind("", "", &[]));
                bytes.extend(wire::describe(b'P', ""));
                bytes.extend(wire::execute("", 0));
            }
            bytes.extend(wire::sync());
            client.send(&bytes);
            let outcome = client.collect(1);
            assert_eq!(outcome.shape(), "12nC12nC12TDDDC12TDC12nCZ", "{outcome:?}");
            assert_eq!(outcome.tags(), ["BEGIN", "SET", "SELECT 3", "SELECT 1", "COMMIT"]);
            assert_eq!(outcome.lines()[..3], own);
            assert_eq!(outcome.status(), Some('I'));
            // The same by simple queries that nobody waits for.
            let mut bytes = Vec::new();
            for sql in ["BEGIN", local.as_str(), IDS, "COMMIT", IDS] {
                bytes.extend(wire::query(sql));
            }
            client.send(&bytes);
            let outcome = client.collect(5);
            assert_eq!(outcome.lines(), own);
            assert_eq!(outcome.error().denial_code(), Some("HR2009"), "the token was local");
        }
        world.finish();
    }
}

#[test]
fn a_service_without_a_tenant_may_only_set_a_token() {
    for world in worlds() {
        let mut client = session(&world, &service());
        for sql in [IDS, "SELECT 1", "SHOW timezone", "SET timezone = 'UTC'"] {
            for outcome in [client.query(sql), client.extended(sql, &[])] {
                assert_eq!(outcome.sqlstate(), "28000", "{sql}: {outcome:?}");
                assert_eq!(outcome.denial_code(), "HR2009");
                assert_eq!(outcome.status(), Some('I'));
            }
        }
        client.query("BEGIN");
        let denied = client.query("SELECT 1");
        assert_eq!((denied.denial_code().as_str(), denied.status()), ("HR2009", Some('E')));
        assert_eq!(client.query(&set("LOCAL", TENANT_A)).sqlstate(), "25P02");
        client.query("ROLLBACK");
        assert_eq!(client.query(&set("", TENANT_A)).tags(), ["SET"]);
        assert_eq!(client.query(IDS).lines(), A);
        world.finish();
    }
}

#[test]
fn a_tenant_does_not_change_once_a_statement_ran() {
    for world in worlds() {
        let mut client = session(&world, &token::of(TENANT_A));
        for scope in ["LOCAL", "SESSION"] {
            client.query("BEGIN");
            assert_eq!(client.query(IDS).lines(), A);
            // The same tenant's newer token is welcome.
            assert_eq!(client.query(&set(scope, TENANT_A)).tags(), ["SET"]);
            let refused = client.query(&set(scope, TENANT_B));
            assert_eq!((refused.sqlstate().as_str(), refused.status()), ("25001", Some('E')));
            assert_eq!(client.query(IDS).sqlstate(), "25P02");
            client.query("ROLLBACK");
            assert_eq!(client.query(IDS).lines(), A);
        }
        // Nor in a pipeline.
        let mut bytes = Vec::new();
        for sql in [IDS.to_owned(), set("", TENANT_B), IDS.to_owned()] {
            bytes.extend(wire::parse("", &sql, &[]));
            bytes.extend(wire::bind("", "", &[]));
            bytes.extend(wire::execute("", 0));
        }
        bytes.extend(wire::sync());
        client.send(&bytes);
        let outcome = client.collect(1);
        assert_eq!(
            (outcome.lines(), outcome.sqlstate().as_str()),
            (A.map(String::from).to_vec(), "25001")
        );
        assert_eq!(client.query(IDS).lines(), A);
        world.finish();
    }
}

#[test]
fn a_token_that_does_not_hold_changes_nothing() {
    for world in worlds() {
        let mut client = session(&world, &token::of(TENANT_A));
        let expired = Token::hs256(TENANT_B).claim("exp", json!(1_000_000_000)).sign();
        let forged = Token::hs256(TENANT_B).secret(b"another secret of thirty-two bytes!!").sign();
        for token in ["", "nonsense", expired.as_str(), forged.as_str()] {
            for scope in ["", "LOCAL"] {
                let sql = format!("SET {scope} hedgerow.token = '{token}'");
                for outcome in [client.query(&sql), client.extended(&sql, &[])] {
                    assert_eq!(outcome.sqlstate(), "28000", "{outcome:?}");
                    assert_eq!(outcome.status(), Some('I'));
                }
                assert_eq!(client.query(SEEN).lines(), ["1"]);
            }
        }
        let b = token::of(TENANT_B);
        for sql in [
            format!("SELECT set_config('hedgerow.token', '{b}', false)"),
            format!("SET hedgerow.token = '{b}'; SELECT 1"),
            format!("SELECT 1; SET hedgerow.token = '{b}'"),
            format!("DO $$ BEGIN SET hedgerow.token = '{b}'; END $$"),
            format!("ALTER ROLE app_user SET hedgerow.token = '{b}'"),
        ] {
            assert!(client.query(&sql).denied(), "{}", sql.split('=').next().unwrap());
            assert_eq!(client.query(IDS).lines(), A);
        }
        client.terminate();
        world.hedgerow.terminate();
        let on_record = |code: &str| {
            world.hedgerow.records().iter().any(|record| record.to_string().contains(code))
        };
        assert!(on_record("HR2001") && on_record("HR2002"));
        world.finish();
    }
}

#[test]
fn a_session_ends_with_its_token_and_is_told_before() {
    for world in worlds() {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let short = Token::hs256(TENANT_A).claim("exp", json!(now + 3)).sign();
        let mut client = session(&world, &short);
        client.limit = Duration::from_secs(20);
        // The leeway is two seconds. What runs may finish.
        client.send(&wire::query("SELECT count(*) FROM generate_series(1, 10)"));
        let outcome = client.collect(1);
        assert_eq!(outcome.lines(), ["10"]);
        let last = client.collect_until(|outcome| outcome.closed);
        let end = last.error();
        assert!(end.is_fatal() && end.sqlstate() == "57P01", "{last:?}");
        assert!(end.message().contains("expired"), "{}", end.message());
        let told = outcome.notices().len() + last.notices().len();
        assert_eq!(told, 1, "one notice within the last minute: {last:?}");

        // A newer token lets it live on.
        let short = Token::hs256(TENANT_A).claim("exp", json!(now + 20)).sign();
        let mut client = session(&world, &short);
        client.query(&set("", TENANT_A));
        client.query("RESET ALL");
        assert_eq!(client.query(IDS).lines(), A, "the newer token is the session's own");
        world.finish();
    }
}

#[test]
fn a_revoked_token_ends_its_sessions_and_opens_no_more() {
    for pool_mode in ["session", "transaction"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut options = Options::new(POLICY);
        options.pool_mode = pool_mode;
        options.identity_extra = format!("  revocation: {{file: {}}}\n", file.path().display());
        let world = World::with(&options);
        let revoke = |line: serde_json::Value| {
            let mut file = std::fs::OpenOptions::new().append(true).open(file.path()).unwrap();
            writeln!(file, "{line}").unwrap();
        };
        let one = Token::hs256(TENANT_A).claim("jti", json!("taken-back")).sign();
        let (mut revoked, mut other) =
            (session(&world, &one), session(&world, &token::of(TENANT_A)));
        let mut local = session(&world, &service());
        local.query("BEGIN");
        local.query(&format!("SET LOCAL hedgerow.token = '{one}'"));
        assert_eq!(local.query(IDS).lines(), A);
        revoke(json!({"iss": token::HMAC_ISSUER, "jti": "taken-back"}));
        for client in [&mut revoked, &mut local] {
            client.limit = Duration::from_secs(5);
            let last = client.collect_until(|outcome| outcome.closed);
            assert!(last.closed, "within five seconds");
            assert_eq!(last.sqlstate(), "57P01", "{last:?}");
        }
        assert_eq!(other.query(IDS).lines(), A, "other tokens hold");
        let (_client, again) =
            world.hedgerow.try_sign_in(world.hedgerow.address, &world.database, &one);
        assert_eq!(again.error().denial_code(), Some("HR2010"));
        let set = other.query(&format!("SET hedgerow.token = '{one}'"));
        assert_eq!((set.denial_code().as_str(), set.sqlstate().as_str()), ("HR2010", "28000"));
        // A line that nobody understands changes nothing; a whole tenant.
        revoke(json!({"unknown": 1}));
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(other.query(IDS).lines(), A);
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        std::fs::write(
            file.path(),
            format!("{}\n", json!({"tenant": TENANT_A, "not_before": now})),
        )
        .unwrap();
        other.limit = Duration::from_secs(5);
        let last = other.collect_until(|outcome| outcome.closed);
        assert_eq!(last.sqlstate(), "57P01", "{last:?}");
        let mut b = session(&world, &token::of(TENANT_B));
        assert_eq!(b.query(IDS).lines(), B);
        world.finish();
    }
}

/// SASL OAUTHBEARER as libpq 18 speaks it.
mod oauthbearer {
    use super::*;

    fn initial(data: &str) -> Vec<u8> {
        let mut body = b"OAUTHBEARER\0".to_vec();
        body.extend((data.len() as u32).to_be_bytes());
        body.extend(data.as_bytes());
        wire::frame(b'p', &body)
    }

    fn begin(world: &World, user: &str) -> (WireClient, Vec<u8>) {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        let parameters = [("user", user), ("database", world.database.as_str())];
        client.send(&wire::startup(196_608, &parameters));
        let asked = client.collect_until(|outcome| !outcome.messages.is_empty());
        (client, asked.messages[0].body.clone())
    }

    fn world() -> World {
        let mut options = Options::new(POLICY);
        options.postgres_extra =
            "  authentication: oauthbearer\n  authentication_by_user: {legacy: password}\n"
                .to_owned();
        World::with(&options)
    }

    #[test]
    fn a_bearer_token_opens_a_session() {
        let world = world();
        let (mut client, asked) = begin(&world, "alice");
        assert_eq!(asked, b"\0\0\0\x0aOAUTHBEARER\0\0");
        let token = token::of(TENANT_A);
        client.send(&initial(&format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}")));
        assert!(client.collect(1).ready());
        assert_eq!(client.query(IDS).lines(), A);
        let (mut legacy, asked) = begin(&world, "legacy");
        assert_eq!(asked, b"\0\0\0\x03");
        legacy.send(&wire::frame(b'p', format!("{token}\0").as_bytes()));
        assert!(legacy.collect(1).ready());
        world.finish();
    }

    #[test]
    fn a_client_without_a_token_is_told_where_to_get_one() {
        let world = world();
        for auth in ["", "Bearer nonsense"] {
            let (mut client, _) = begin(&world, "alice");
            client.send(&initial(&format!("n,,\u{1}auth={auth}\u{1}\u{1}")));
            let told = client.collect_until(|outcome| !outcome.messages.is_empty());
            let (code, text) = told.messages[0].body.split_at(4);
            assert_eq!(code, [0, 0, 0, 11]);
            let document: serde_json::Value = serde_json::from_slice(text).unwrap();
            assert_eq!(document["status"], "invalid_token");
            let configuration = document["openid-configuration"].as_str().unwrap();
            assert!(configuration.ends_with("/.well-known/openid-configuration"));
            client.send(&wire::frame(b'p', b"\x01"));
            let end = client.collect_until(|outcome| outcome.closed);
            assert!(end.error().is_fatal() && end.sqlstate() == "28000", "{end:?}");
        }
        world.finish();
    }

    #[test]
    fn a_malformed_exchange_is_refused() {
        let world = world();
        let token = token::of(TENANT_A);
        for data in [
            String::new(),
            format!("p=tls-unique,,\u{1}auth=Bearer {token}\u{1}\u{1}"),
            format!("n,a=bob,\u{1}auth=Bearer {token}\u{1}\u{1}"),
            format!("n,,\u{1}auth=Bearer {token}\u{1}"),
            format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}x"),
            format!("n,,\u{1}auth=Bearer {token}\u{1}auth=Bearer {token}\u{1}\u{1}"),
            "n,,\u{1}\u{1}".to_owned(),
        ] {
            let (mut client, _) = begin(&world, "alice");
            client.send(&initial(&data));
            let end = client.collect_until(|outcome| outcome.closed);
            assert!(end.error().is_fatal(), "{end:?}");
        }
        let (mut client, _) = begin(&world, "alice");
        client.send(&wire::frame(b'p', b"SCRAM-SHA-256\0\0\0\0\0"));
        assert!(client.collect_until(|outcome| outcome.closed).error().is_fatal());
        world.finish();
    }
}

#[test]
fn a_revocation_in_redis_holds_within_seconds_and_outlives_redis() {
    let Some(redis) = Redis::start() else { return };
    let mut options = Options::new(POLICY);
    options.identity_extra = format!("  revocation: {{redis: \"{}\"}}\n", redis.url());
    let world = World::with(&options);
    let one = Token::hs256(TENANT_A).claim("jti", json!("taken-back")).sign();
    let (mut revoked, mut other) = (session(&world, &one), session(&world, &token::of(TENANT_A)));
    let member = json!({"iss": token::HMAC_ISSUER, "jti": "taken-back"}).to_string();
    // What nobody understands does not keep the others out.
    redis.command(&["SADD", "hedgerow:revoked", "soon", &member]);
    revoked.limit = Duration::from_secs(5);
    let last = revoked.collect_until(|outcome| outcome.closed);
    assert_eq!((last.sqlstate().as_str(), last.closed), ("57P01", true), "{last:?}");
    assert_eq!(other.query(IDS).lines(), A, "other tokens hold");
    let refused = || {
        let (_client, again) =
            world.hedgerow.try_sign_in(world.hedgerow.address, &world.database, &one);
        assert_eq!(again.error().denial_code(), Some("HR2010"), "{again:?}");
    };
    refused();
    // Redis goes, and comes back without its data: what is known stays in force.
    redis.stop();
    process::eventually("the log says it", Duration::from_secs(30), || {
        world.hedgerow.log().contains("Redis cannot be used").then_some(())
    });
    refused();
    redis.run();
    process::eventually("the log says it", Duration::from_secs(30), || {
        world.hedgerow.log().contains("is gone from Redis").then_some(())
    });
    refused();
    assert_eq!(other.query(IDS).lines(), A);
    // A new list counts again, and an empty member says that there is none.
    let now = token::now().to_string();
    let tenant = format!("{{\"tenant\": \"{TENANT_A}\", \"not_before\": {now}}}");
    redis.command(&["SADD", "hedgerow:revoked", &tenant]);
    other.limit = Duration::from_secs(5);
    let last = other.collect_until(|outcome| outcome.closed);
    assert_eq!((last.sqlstate().as_str(), last.closed), ("57P01", true), "{last:?}");
    redis.command(&["DEL", "hedgerow:revoked"]);
    redis.command(&["SADD", "hedgerow:revoked", ""]);
    process::eventually("the last revocation is taken back", Duration::from_secs(30), || {
        let (_client, outcome) =
            world.hedgerow.try_sign_in(world.hedgerow.address, &world.database, &one);
        outcome.ready().then_some(())
    });
    world.finish();
}

#[test]
fn what_another_identity_prepared_must_be_prepared_again_and_the_record_is_named() {
    let world = World::new();
    let mut client = session(&world, &token::of(TENANT_A));
    client.query("PREPARE p AS SELECT id FROM users");
    client.query(&set("", TENANT_B));
    let error = client.query("EXECUTE p").error();
    assert_eq!(error.denial_code(), Some("HR4002"), "{error:?}");
    let hint = error.field('H').to_owned();
    let id = hint.rsplit("audit record ").next().unwrap_or_default().trim_end_matches(')');
    assert!(hint.starts_with("Prepare the statement again.") && id.len() == 36, "{hint}");
    let record = world.hedgerow.record_with(&[id]);
    assert!(record.to_string().contains("SELECT id FROM users"), "{record}");
    client.terminate();
    world.finish();
}
