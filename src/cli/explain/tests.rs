//! Callers and answers of `hedgerow explain`.

use super::lines::{End, answer};
use super::*;

fn args(words: &[&str]) -> ExplainArgs {
    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: ExplainArgs,
    }
    let words = ["explain", "--config", "c"].iter().chain(words);
    <Command as clap::Parser>::try_parse_from(words).unwrap().args
}

fn caller(words: &[&str], tenant_type: TenantType) -> anyhow::Result<Principal> {
    let word = match tenant_type {
        TenantType::Uuid => "uuid",
        TenantType::Text => "text",
        TenantType::Int => "int",
    };
    let text = format!("tables: {{t: {{tenant: {{column: org, type: {word}}}}}}}");
    let policies = crate::policy::load::compile(&[("p.yaml", text)], Default::default()).unwrap();
    let path = ClaimPath::parse("org.id").unwrap();
    principal(&args(words), &path, has_integer_tenants(&policies.postgres))
}

#[test]
fn the_tenant_stands_in_the_claims_too() {
    let found =
        caller(&["--tenant", "acme", "--claims", r#"{"role": "x"}"#, "sql"], TenantType::Text);
    let found = found.unwrap();
    assert_eq!(found.tenant, Some(TenantClaim::Text("acme".into())));
    assert_eq!(Value::Object(found.claims.0), json!({"role": "x", "org": {"id": "acme"}}));
    let found = caller(&["--claims", r#"{"org": {"id": "b"}}"#, "sql"], TenantType::Text).unwrap();
    assert_eq!(found.tenant, Some(TenantClaim::Text("b".into())));
    assert_eq!(caller(&["sql"], TenantType::Text).unwrap().tenant, None);
}

#[test]
fn a_tenant_of_digits_is_a_number_where_columns_are() {
    let tenant =
        |text, tenant_type| caller(&["--tenant", text, "sql"], tenant_type).unwrap().tenant;
    assert_eq!(tenant("42", TenantType::Int), Some(TenantClaim::Integer(42)));
    assert_eq!(tenant("042", TenantType::Int), Some(TenantClaim::Text("042".into())));
    assert_eq!(tenant("42", TenantType::Text), Some(TenantClaim::Text("42".into())));
}

#[test]
fn what_is_no_caller_is_refused() {
    for words in [
        &["--claims", "[1]", "sql"][..],
        &["--claims", "{", "sql"],
        &["--tenant", "", "sql"],
        &["--claims", r#"{"org": {"id": ["a"]}}"#, "sql"],
    ] {
        assert!(caller(words, TenantType::Text).is_err(), "{words:?}");
    }
}

#[test]
fn an_answer_begins_with_the_keys_of_the_contract() {
    let (_, denied) = explained("SELECT * FROM nowhere", "{}");
    let keys: Vec<_> = denied.as_object().unwrap().keys().take(5).cloned().collect();
    assert_eq!(keys, ["decision", "code", "reason", "sent", "relations"]);
    assert_eq!(denied["decision"], "deny");
    assert_eq!(denied["code"], "HR1003");
    assert_eq!(denied["reason"], "the relation is not known: nowhere");
    assert_eq!(denied["sent"], Value::Null);
}

#[test]
fn a_line_that_is_no_statement_does_not_stop_the_others() {
    let policy = Policy::default();
    let explainer = Explainer {
        policy: &policy,
        catalog: Catalog::default(),
        viewpoint: Viewpoint::new(
            &Principal::assumed(None, Claims::default()),
            "d",
            Limits::default(),
        ),
    };
    let mut output = Vec::new();
    let input = b"{\"sql\": \"SELECT * FROM nowhere\"}\n\nnot json\n{\"sql\": 1}\n\xff\xfe\n{\"sql\": \"x y z\", \"id\": 7}";
    let end = answer(&input[..], &mut output, &|sql: &str| {
        let verdict = explainer.verdict(sql);
        (verdict.denied(), verdict.json())
    })
    .unwrap();
    assert_eq!(end, End { denied: true, faulty: true });
    let output = String::from_utf8(output).unwrap();
    let answers: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5);
    assert_eq!(answers[0]["decision"], "deny");
    assert_eq!(answers[1]["error"], "line 3 is not a JSON object with `sql`, a text");
    assert_eq!(answers[4]["decision"], "deny");
}

const POLICY: &str = "
tenant: {column: tenant_id, type: text}
tables:
  orders: {where: \"region = claim('region') OR claim('exp') IS NOT NULL\"}
  items: {tenant_through: {order_id: orders.id}}
  secrets: deny
  currencies: shared
";

fn explained(sql: &str, claims: &str) -> (String, Value) {
    let policy = crate::policy::load::compile(&[("p.yaml", POLICY)], Default::default());
    let policy = policy.unwrap().postgres;
    let catalog =
        Catalog { live: false, search_path: vec!["public".to_owned()], ..Catalog::default() };
    let claims = Claims(serde_json::from_str(claims).unwrap());
    let principal = Principal::assumed(Some(TenantClaim::Text("acme".to_owned())), claims);
    let viewpoint = Viewpoint::new(&principal, "d", Limits::default());
    let explainer = Explainer { policy: &policy, catalog, viewpoint };
    let verdict = explainer.verdict(sql);
    (verdict.text(Colors::Off), verdict.json())
}

#[test]
fn a_denial_says_what_where_and_what_to_do_and_names_the_relations() {
    let (text, json) = explained("SELECT 1;\nSELECT * FROM orders, secrets", "{}");
    assert_eq!(json["decision"], "deny");
    assert_eq!(json["code"], "HR1004");
    let relations = json["relations"].as_array().unwrap();
    assert_eq!(relations[0]["relation"], "public.orders");
    assert_eq!(relations[1]["relation"], "public.secrets");
    assert!(relations[1]["rule"].is_string());
    assert_eq!(json["denial"]["position"], json!({"line": 2, "column": 23}));
    assert_eq!(json["denial"]["statement"], 2);
    assert!(json["denial"]["hint"].as_str().unwrap().len() > 10);
    assert_eq!(json["sent"], Value::Null);
    assert!(text.contains("where      statement 2, line 2, column 23"), "{text}");
    assert!(text.contains("                                   ^^^^^^^"), "{text}");
    let (_, json) = explained("SELECT * FROM nowhere", "{}");
    assert_eq!(json["relations"], json!([{"relation": "nowhere", "rule": null}]));
    let (_, json) = explained("SELEC", "{}");
    assert_eq!((&json["code"], &json["relations"]), (&json!("HR1001"), &json!([])));
}

#[test]
fn the_account_names_guards_conditions_and_what_is_written() {
    let sql = "SELECT i.id FROM items i LEFT JOIN orders o ON o.id = i.order_id \
               WHERE i.sku LIKE '%x' AND 1 = 1";
    let (text, json) = explained(sql, "{}");
    assert_eq!(json["decision"], "rewrite");
    let statement = &json["statements"][0];
    assert_eq!(statement["sent"], json["sent"]);
    let guards = statement["guards"].as_array().unwrap();
    assert_eq!((&guards[0]["as"], &guards[0]["place"]), (&json!("i"), &json!("where")));
    assert_eq!((&guards[1]["as"], &guards[1]["place"]), (&json!("o"), &json!("on")));
    let conjuncts = statement["conjuncts"].as_array().unwrap();
    let treatments: Vec<_> =
        conjuncts.iter().map(|conjunct| conjunct["treatment"].as_str().unwrap()).collect();
    assert!(treatments.contains(&"total") && treatments.contains(&"guarded"), "{conjuncts:#?}");
    assert!(text.contains("total   1 = 1"), "{text}");
    let (_, json) = explained("INSERT INTO orders (id) VALUES (1)", "{}");
    assert_eq!(json["statements"][0]["written"][0]["column"], "tenant_id");
    let (text, json) = explained("SELECT * FROM currencies WHERE code = 'EUR'", "{}");
    assert_eq!(json["statements"][0]["guards"], json!([]));
    assert!(!text.contains("guards"), "{text}");
}

/// Claims of one token only are not seen by the proxy's decision, so not by this one.
#[test]
fn explain_sees_the_claims_that_the_proxy_sees() {
    let sql = "SELECT id FROM orders";
    let (_, with) = explained(sql, r#"{"exp": 1, "region": "eu"}"#);
    let (_, without) = explained(sql, r#"{"region": "eu"}"#);
    assert_eq!(with["sent"], without["sent"]);
    assert!(with["sent"].as_str().unwrap().contains("NULL::text"));
}
