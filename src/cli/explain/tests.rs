//! Callers and answers of `hedgerow explain`.

use super::lines::{End, answer};
use super::*;
use crate::error::DenialCode;

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
    principal(&args(words), &path, &policies.postgres)
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
fn an_answer_has_exactly_the_keys_of_the_contract() {
    let denied = Verdict::Denied(Denial::of(DenialCode::UnknownRelation, "nowhere")).json();
    assert_eq!(
        denied,
        json!({"decision": "deny", "code": "HR1003", "reason": "the relation is not known: nowhere",
            "sent": null, "relations": []})
    );
    let keys: Vec<_> = denied.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["decision", "code", "reason", "sent", "relations"]);
}

#[test]
fn a_line_that_is_no_statement_does_not_stop_the_others() {
    let policy = Policy::default();
    let explainer = Explainer {
        policy: &policy,
        catalog: Catalog::default(),
        principal: Principal::assumed(None, Claims::default()),
        limits: Limits::default(),
    };
    let mut output = Vec::new();
    let input = b"{\"sql\": \"SELECT * FROM nowhere\"}\n\nnot json\n{\"sql\": 1}\n\xff\xfe\n{\"sql\": \"x y z\", \"id\": 7}";
    let end = answer(&input[..], &mut output, &explainer).unwrap();
    assert_eq!(end, End { denied: true, faulty: true });
    let output = String::from_utf8(output).unwrap();
    let answers: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5);
    assert_eq!(answers[0]["decision"], "deny");
    assert_eq!(answers[1]["error"], "line 3 is not a JSON object with `sql`, a text");
    assert_eq!(answers[4]["decision"], "deny");
}
