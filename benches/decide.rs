//! How long one decision takes, cold (a key look-up, an ORM's join, TPC-H Q5, an INSERT of 100 rows),
//! and what the cache of verdicts makes of that: a text that is known, texts that differ in their
//! literal, texts of which no two are of one shape.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark of a denial would measure nothing"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use hedgerow::catalog::{Catalog, Column, Relation, RelationKind};
use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::decide::{Context, Made, Question, Refusal, Verdicts, Viewpoint, decide, form};
use hedgerow::ids::RelationName;
use hedgerow::policy::{Access, Mode, Policy, Protection, SourcePosition, TablePolicy, TenantType};
use hedgerow::sql::Limits;
use hedgerow::sql::postgres::{Guarded, Split};

const POINT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";
const ORM_JOIN: &str = "SELECT \"orders\".\"o_orderkey\", \"orders\".\"o_orderdate\", \
    \"customer\".\"c_name\" FROM \"orders\" INNER JOIN \"customer\" ON \
    (\"orders\".\"o_custkey\" = \"customer\".\"c_custkey\") WHERE (\"customer\".\"c_name\" = $1 AND \
    \"orders\".\"o_orderdate\" >= $2) ORDER BY \"orders\".\"o_orderdate\" DESC LIMIT 21";
const TPC_H_Q5: &str = "select n_name, sum(l_extendedprice * (1 - l_discount)) as revenue \
    from customer, orders, lineitem, supplier, nation, region \
    where c_custkey = o_custkey and l_orderkey = o_orderkey and l_suppkey = s_suppkey \
    and c_nationkey = s_nationkey and s_nationkey = n_nationkey and n_regionkey = r_regionkey \
    and r_name = 'ASIA' and o_orderdate >= date '1994-01-01' \
    and o_orderdate < date '1994-01-01' + interval '1' year group by n_name order by revenue desc";

/// Name, whether tenants share it, columns with their types.
type Table = (&'static str, bool, &'static [(&'static str, &'static str)]);

const TABLES: &[Table] = &[
    (
        "pgbench_accounts",
        false,
        &[("aid", "int4"), ("bid", "int4"), ("abalance", "int4"), ("filler", "bpchar")],
    ),
    ("customer", false, &[("c_custkey", "int4"), ("c_name", "varchar"), ("c_nationkey", "int4")]),
    ("orders", false, &[("o_orderkey", "int4"), ("o_custkey", "int4"), ("o_orderdate", "date")]),
    (
        "lineitem",
        false,
        &[
            ("l_orderkey", "int4"),
            ("l_suppkey", "int4"),
            ("l_extendedprice", "numeric"),
            ("l_discount", "numeric"),
        ],
    ),
    ("supplier", false, &[("s_suppkey", "int4"), ("s_nationkey", "int4")]),
    ("nation", true, &[("n_nationkey", "int4"), ("n_regionkey", "int4"), ("n_name", "bpchar")]),
    ("region", true, &[("r_regionkey", "int4"), ("r_name", "bpchar")]),
];

fn catalog() -> Catalog {
    let column = |name: &str, type_name: &str| Column {
        name: name.to_owned(),
        type_schema: "pg_catalog".to_owned(),
        type_name: type_name.to_owned(),
        not_null: true,
        has_default: false,
        generated: false,
        ..Column::default()
    };
    let relation = |name: &str, shared: bool, columns: &[(&str, &str)]| Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        oid: 1,
        kind: RelationKind::Table,
        columns: columns
            .iter()
            .map(|(name, type_name)| column(name, type_name))
            .chain((!shared).then(|| column("tenant_id", "uuid")))
            .collect(),
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        parents: Vec::new(),
        rls_enabled: false,
        rls_forced: false,
        security_invoker: false,
        security_barrier: false,
        owner: "app_owner".to_owned(),
    };
    Catalog {
        live: true,
        server_version: 150_000,
        search_path: vec!["public".to_owned()],
        role: "app_user".to_owned(),
        relations: TABLES
            .iter()
            .map(|(name, shared, columns)| {
                (RelationName::new("public", *name), relation(name, *shared, columns))
            })
            .collect(),
        ..Catalog::default()
    }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    for (name, shared, _) in TABLES {
        let (protection, access) = if *shared {
            (Protection::Shared, Access::READ)
        } else {
            let column = "tenant_id".to_owned();
            (Protection::Tenant { column, tenant_type: TenantType::Uuid }, Access::ALL)
        };
        let table = TablePolicy {
            protection,
            access,
            condition: None,
            columns: BTreeMap::new(),
            mode: Mode::Enforce,
            rule: format!("public.{name}").into(),
            at: SourcePosition { file: "bench.yaml".into(), line: 1, column: 1 },
        };
        policy.tables.insert(RelationName::new("public", *name), Arc::new(table));
    }
    policy
}

fn insert_of_100_rows() -> String {
    let tenant = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
    let rows: Vec<String> =
        (0..100).map(|n| format!("({n}, 1, {}, 'filler {n}', '{tenant}')", n * 7)).collect();
    format!(
        "INSERT INTO pgbench_accounts (aid, bid, abalance, filler, tenant_id) VALUES {}",
        rows.join(", ")
    )
}

fn decisions(criterion: &mut Criterion) {
    let (policy, catalog) = (policy(), catalog());
    let tenant = TenantClaim::Text("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa".to_owned());
    let principal = Principal::assumed(Some(tenant), Claims::default());
    let limits = Limits::default();
    let context = Context { policy: &policy, catalog: &catalog, principal: &principal, limits };
    let insert = insert_of_100_rows();
    let mut group = criterion.benchmark_group("decide");
    for (name, sql) in [
        ("key look-up", POINT),
        ("ORM join", ORM_JOIN),
        ("TPC-H Q5", TPC_H_Q5),
        ("INSERT of 100 rows", insert.as_str()),
    ] {
        let once = decide(sql, context);
        assert!(once.is_ok(), "{name} is denied: {once:?}");
        group.bench_function(name, |bencher| bencher.iter(|| decide(black_box(sql), context)));
    }
    group.finish();
}

/// What is sent for a text, by way of the cache.
fn ask(verdicts: &Verdicts<Arc<str>>, question: Question<'_>) -> Arc<str> {
    let make = |question: Question<'_>, split: Option<&Split<'_>>| {
        let decided = decide(question.text, question.context())?;
        let form = split.and_then(|split| form(split, question.text, &decided, question.context()));
        let sent = decided.first().map(|one| one.guarded.text()).unwrap_or_default();
        Ok::<_, Refusal>(Made { verdict: sent.into(), bytes: sent.len(), form })
    };
    let spell = |_: &Arc<str>, _: &str, guarded: Guarded| guarded.text().into();
    let (_, sent) = verdicts.answer(question, make, spell);
    sent.unwrap_or_else(|refusal| panic!("denied: {:?}", refusal.denial))
}

fn cache(criterion: &mut Criterion) {
    const CAPACITY: u64 = 8 << 20;
    let (policy, catalog) = (policy(), catalog());
    let tenant = TenantClaim::Text("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa".to_owned());
    let principal = Principal::assumed(Some(tenant), Claims::default());
    let viewpoint = Viewpoint::new(&principal, "bench", Limits::default());
    let verdicts = Verdicts::new(CAPACITY);
    let ask = |text: &str| {
        let question = Question {
            text,
            policy: &policy,
            catalog: &catalog,
            viewpoint: &viewpoint,
            types: &[],
        };
        ask(&verdicts, question)
    };
    let mut group = criterion.benchmark_group("cache");
    group.bench_function("known text", |bencher| bencher.iter(|| ask(black_box(POINT))));
    let mut number = 0_u32;
    group.bench_function("another literal each time", |bencher| {
        bencher.iter(|| {
            number = (number + 1) % 1_000_000;
            ask(&format!("SELECT abalance FROM pgbench_accounts WHERE aid = {number};"))
        });
    });
    group.bench_function("another shape each time", |bencher| {
        bencher.iter(|| {
            number += 1;
            ask(&format!("SELECT abalance AS a{number} FROM pgbench_accounts WHERE aid = $1"))
        });
    });
    group.finish();
    println!("kept: {} KiB of {} KiB", verdicts.bytes() >> 10, CAPACITY >> 10);
}

criterion_group!(benches, decisions, cache);
criterion_main!(benches);
