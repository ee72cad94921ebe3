//! Two parsers, one meaning: a value or a name in any of PostgreSQL's quoting forms comes out of the
//! rewriter as what went in. The input is the value; the forms are all tried.
//!
//! The table is shared, so that nothing but its schema may be added: then PostgreSQL's own grammar
//! must read from the text that is sent exactly what it reads from the client's.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use hedgerow::catalog::Catalog;
use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::decide::{Context, decide};
use hedgerow::ids::PolicyEpoch;
use hedgerow::policy::Policy;
use hedgerow::sql::Limits;
use libfuzzer_sys::fuzz_target;

const POLICY: &str = "
engine: postgres
tenant: {column: tenant_id, type: text}
tables:
  public.currencies: shared
  public.orders: {tenant: tenant_id}
";

struct World {
    policy: Policy,
    catalog: Catalog,
    principal: Principal,
}

static WORLD: LazyLock<World> = LazyLock::new(|| World {
    policy: hedgerow::policy::load::compile(&[("policy.yaml", POLICY)], PolicyEpoch(1))
        .expect("the policy is valid")
        .postgres,
    catalog: Catalog {
        live: false,
        relations: HashMap::new(),
        search_path: vec!["public".to_owned()],
        ..Catalog::default()
    },
    principal: Principal::assumed(Some(TenantClaim::Text("A".to_owned())), Claims::default()),
});

/// The value as a literal, in each form that can hold it.
fn literals(value: &str) -> Vec<String> {
    let doubled = value.replace('\'', "''");
    let escaped = doubled.replace('\\', "\\\\");
    let mut forms = vec![
        format!("'{doubled}'"),
        format!("E'{escaped}'"),
        format!("e'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
        format!("N'{doubled}'"),
        format!("'{doubled}'::text"),
        format!("text '{doubled}'"),
        format!("CAST('{doubled}' AS text)"),
        format!("'{doubled}'\n'{doubled}'"),
        format!("U&'{}'", escaped),
    ];
    if !value.contains('$') {
        forms.push(format!("$${value}$$"));
        forms.push(format!("$q${value}$q$"));
    }
    forms
}

/// The value as a name, in each form that can hold it.
fn names(value: &str) -> Vec<String> {
    let value: String = value.chars().filter(|letter| *letter != '\0').take(20).collect();
    if value.is_empty() {
        return Vec::new();
    }
    let doubled = value.replace('"', "\"\"");
    let mut forms = vec![format!("\"{doubled}\""), format!("U&\"{}\"", doubled.replace('\\', "\\\\"))];
    if value.chars().all(|letter| letter.is_ascii_alphabetic()) {
        forms.push(value);
    }
    forms
}

/// What PostgreSQL's grammar reads, in its one spelling.
fn canonical(text: &str) -> Option<String> {
    let parsed = pg_raw_parse::parse(text).ok()?;
    let mut statements = parsed.stmts();
    let (statement, None) = (statements.next()?, statements.next()) else { return None };
    Some(pg_raw_parse::deparse(statement).ok()?.as_str().to_owned())
}

fn compare(shape: &str, context: Context<'_>) {
    let client = shape.replace("{t}", "currencies");
    let Some(expected) = canonical(&shape.replace("{t}", "public.currencies")) else { return };
    let Ok(decided) = decide(&client, context) else { return };
    let [decided] = decided.as_slice() else { panic!("one statement became several: {client}") };
    let sent = canonical(decided.guarded.text());
    assert_eq!(sent, Some(expected), "{client} was sent as {}", decided.guarded.text());
}

fuzz_target!(|value: &str| {
    let tables = ["{t}", "currencies", "orders"];
    let folded = value.to_ascii_lowercase();
    if value.contains('\0') || value.len() > 200 || tables.iter().any(|name| folded.contains(name)) {
        return;
    }
    let world = &*WORLD;
    let context = Context {
        policy: &world.policy,
        catalog: &world.catalog,
        principal: &world.principal,
        limits: Limits::default(),
    };
    for literal in literals(value) {
        compare(&format!("SELECT code FROM {{t}} WHERE code = {literal} AND rate > 1"), context);
        compare(&format!("SELECT {literal}, rate FROM {{t}} ORDER BY 2 -- {value}"), context);
    }
    for name in names(value) {
        compare(&format!("SELECT rate AS {name} FROM {{t}} WHERE {name} = 1"), context);
        compare(&format!("SELECT {name}.rate FROM {{t}} AS {name} WHERE {name}.code = 'x'"), context);
        compare(&format!("WITH {name} AS (SELECT 1) SELECT * FROM {name}, {{t}}"), context);
    }
    // As SQL itself, beside a table and before one.
    compare(&format!("SELECT {value} FROM {{t}}"), context);
    compare(&format!("SELECT rate FROM {{t}} WHERE {value}"), context);
});
