//! The list of attacks over HTTP, at a stand-in that holds the rows of two tenants.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::emulator::{Emulator, emulator};
use super::stand::{Got, Stand, send};
use super::{ATTACKS, Attack, Attacks, POLICY, token};

/// Answered with what is the tenant's own, where the list would have them denied: these two requests are the
/// very ones that `list_rows` and `get_table` of the official clients send, and no mark tells the one from the
/// other. The method is not the leak, its rows are: they come by a guarded query, and a shared table's
/// counts, bytes and times are left out.
const ANSWERED: &[&str] = &["BQ-132", "BQ-149"];
/// Marks of B's data: none may reach A.
const MARKS: &[&str] = &["B-SECRET", "B-name", "B-tag", "@B.example", "101007", "103007", "105007"];

fn no_mark(attack: &Attack, asked: &str, got: &Got) {
    for mark in MARKS {
        let own = asked.contains(mark);
        assert!(
            own || !got.text.contains(mark),
            "{} LEAKS {mark}: {asked}\n{}",
            attack.id,
            got.text
        );
    }
}

/// Everything that is B's, past Hedgerow.
async fn of_b(emulator: &Emulator) -> String {
    let mut all = String::new();
    for (table, column) in [
        ("app.customers", "tenant_id"),
        ("app.orders", "tenant_id"),
        ("app.documents", "tenant_id"),
        ("app.events_20260101", "tenant_id"),
        ("archive.customers", "org"),
    ] {
        let text = format!("SELECT * FROM `acme-prod.{table}` WHERE {column} = 'tenant-b'");
        let answer = emulator.query("acme-prod", &text).await;
        let mut rows: Vec<String> =
            answer["rows"].as_array().into_iter().flatten().map(Value::to_string).collect();
        rows.sort();
        all.push_str(&rows.join("\n"));
    }
    all
}

async fn ask(stand: &Stand, request: &Value) -> Got {
    let verb = request["method"].as_str().unwrap();
    let path = request["path"].as_str().unwrap();
    let mut built = stand.request(verb, path).bearer_auth(token::of("tenant-a"));
    let mut typed = false;
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        typed |= name == "content-type";
        built = built.header(name, value.as_str().unwrap());
    }
    let text = match (&request["body_text"], &request["body"]) {
        (Value::String(text), _) => Some(text.clone()),
        (_, Value::Null) => None,
        (_, body) => Some(body.to_string()),
    };
    if let Some(text) = text {
        if !typed {
            built = built.header("content-type", "application/json");
        }
        built = built.body(text);
    }
    send(built).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_over_http_is_denied_or_shows_the_tenants_own() {
    let Some(emulator) = emulator() else { return };
    let _tables = super::clients::TABLES.lock().await;
    emulator.fixture("acme-prod", &["tenant-a", "tenant-b"]).await;
    let url = emulator.url.clone();
    let stand = Stand::with(POLICY, |settings| settings.upstream = url).await;
    let attacks: Attacks = serde_saphyr::from_str(ATTACKS).unwrap();
    let before = of_b(emulator).await;
    assert!(before.contains("B-SECRET"), "the fixture holds B's rows: {before}");
    let mut seen = BTreeMap::<&str, Vec<&str>>::new();
    for attack in &attacks.attacks {
        let requests: Vec<Value> = match &attack.request {
            Some(request) => vec![request.clone()],
            None => attack
                .sql
                .iter()
                .map(|sql| {
                    json!({
                        "method": "POST",
                        "path": "/bigquery/v2/projects/acme-prod/queries",
                        "body": {"query": sql, "useLegacySql": false},
                    })
                })
                .collect(),
        };
        for request in requests {
            let got = ask(&stand, &request).await;
            no_mark(attack, &request.to_string(), &got);
            let refused = (400..500).contains(&got.status);
            let outcome = match (got.status, got.body["errors"].as_array()) {
                (200, Some(errors)) if !errors.is_empty() => "errors of the service",
                (200, _) => "own rows",
                _ if got.code().starts_with("HR") => "denied",
                (404, _) => "not found",
                _ if refused => "errors of the service",
                _ => "unavailable",
            };
            if attack.expect == "deny" && !ANSWERED.contains(&attack.id.as_str()) {
                assert!(refused, "{}: {} {}", attack.id, got.status, got.text);
            }
            // A method without an answer would hold back everything, and show nothing.
            assert!(got.status < 500, "{}: {} {}", attack.id, got.status, got.text);
            seen.entry(outcome).or_default().push(&attack.id);
        }
        assert_eq!(of_b(emulator).await, before, "{} changed B's rows", attack.id);
    }
    for (outcome, ids) in &seen {
        println!("{outcome} ({}): {}", ids.len(), ids.join(" "));
    }
    assert!(seen["own rows"].len() >= 20 && seen["denied"].len() >= 60, "{seen:?}");
    stand.finish().await;
}
