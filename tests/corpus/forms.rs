//! A verdict that is shared among texts that differ in literals only is the verdict that each of
//! them would get: over every statement of the corpus, with other literals put in.

use std::collections::BTreeMap;
use std::sync::Arc;

use hedgerow::catalog::Catalog;
use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::decide::{Context, decide, form};
use hedgerow::policy::{
    Access, Mode, Policy, Protection, RelationPattern, SourcePosition, TablePolicy, TenantType,
};
use hedgerow::sql::Limits;
use hedgerow::sql::postgres::{Literal, split};

use super::{SAMPLE, corpus, statements};

const TENANT: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
/// Least number of the corpus' statements whose shapes share a verdict; raised, never lowered.
const LEAST_SHARED: usize = 3_500;
/// Values that code could be tempted to look at.
const STRINGS: [&str; 16] = [
    "''",
    "'x'",
    "''''",
    "'''; DROP TABLE t; --'",
    "'/*'",
    "'*/ --'",
    "'$1'",
    "'$$'",
    "'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'",
    "'%_'",
    "'infinity'",
    "'true'",
    "'pg_authid'",
    "'is_superuser'",
    "'é\u{200b}漢\u{1f600}'",
    "'\"a\" = 1 OR 1 = 1'",
];
const SMALL: [&str; 5] = ["0", "1", "2147483647", "42", "10"];
const LARGE: [&str; 3] = ["2147483648", "9223372036854775807", "99999999999"];
const DECIMAL: [&str; 4] = ["0.0", "1.50", "9223372036854775808", "0.1234567890123456789"];

/// Every table is a tenant's.
fn policy() -> Policy {
    let at = SourcePosition { file: "corpus.yaml".into(), line: 1, column: 1 };
    let table = TablePolicy {
        protection: Protection::Tenant {
            column: "tenant_id".to_owned(),
            tenant_type: TenantType::Uuid,
        },
        access: Access::ALL,
        condition: None,
        columns: BTreeMap::new(),
        mode: Mode::Enforce,
        rule: "every table".into(),
        at,
    };
    let pattern = RelationPattern { schema: "*".to_owned(), name: "*".to_owned() };
    Policy { patterns: vec![(pattern, Arc::new(table))], ..Policy::default() }
}

/// Another literal of the same kind.
fn other(literal: &Literal<'_>, turn: usize) -> String {
    let (sign, number) = match literal.text().strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", literal.text()),
    };
    let pool: &[&str] = if number.starts_with('\'') {
        &STRINGS
    } else if number.contains('.') {
        &DECIMAL
    } else {
        match number.parse::<u64>() {
            Ok(0..=0x7fff_ffff) => &SMALL,
            Ok(0x8000_0000..=0x7fff_ffff_ffff_ffff) => &LARGE,
            Ok(_) | Err(_) => &DECIMAL,
        }
    };
    match (sign, pool[turn % pool.len()]) {
        // -0 is 0, and no shape's.
        ("-", "0") => "-7".to_owned(),
        (sign, number) => format!("{sign}{number}"),
    }
}

/// The text with other literals; their places are told from the spelling of the first text.
fn with_others(text: &str, literals: &[Literal<'_>], turn: usize) -> String {
    let mut varied = String::new();
    let mut copied = 0;
    for (place, literal) in literals.iter().enumerate() {
        let start = literal.text().as_ptr() as usize - text.as_ptr() as usize;
        varied.push_str(&text[copied..start]);
        varied.push_str(&other(literal, turn * 7 + place));
        copied = start + literal.text().len();
    }
    varied + &text[copied..]
}

#[derive(Default)]
struct Shares {
    allowed: usize,
    with_literals: usize,
    shared: usize,
}

fn compare(sql: &str, context: Context<'_>, shares: &mut Shares) {
    let Ok(known) = decide(sql, context) else { return };
    shares.allowed += 1;
    let Some(first) = split(sql) else { return };
    shares.with_literals += 1;
    let Some(form) = form(&first, sql, &known, context) else { return };
    shares.shared += 1;
    for turn in 0..4 {
        let varied = with_others(sql, first.literals(), turn);
        let split_varied = split(&varied).unwrap_or_else(|| panic!("not plain: {varied}"));
        assert_eq!(split_varied.shape(), first.shape(), "{varied}");
        let mut spelled = known.clone();
        spelled[0].guarded = form.fill(split_varied.literals()).unwrap();
        let whole = decide(&varied, context)
            .unwrap_or_else(|refusal| panic!("{:?}: {varied}", refusal.denial));
        assert_eq!(spelled, whole, "{varied}");
    }
}

#[test]
fn a_shared_verdict_is_the_one_that_each_text_would_get() {
    let policy = policy();
    let catalog = Catalog { search_path: vec!["public".to_owned()], ..Catalog::default() };
    let tenant = TenantClaim::Text(TENANT.to_owned());
    let principal = Principal::assumed(Some(tenant), Claims::default());
    let limits = Limits::default();
    let context = Context { policy: &policy, catalog: &catalog, principal: &principal, limits };
    let mut shares = Shares::default();
    let whole = corpus();
    for statement in whole.iter().flatten().chain(&statements(SAMPLE)) {
        compare(&statement.sql, context, &mut shares);
    }
    let Shares { allowed, with_literals, shared } = shares;
    println!("allowed {allowed}, with literals in plain places {with_literals}, shared {shared}");
    assert!(shared > 0 && (whole.is_none() || shared >= LEAST_SHARED), "only {shared} are shared");
}
