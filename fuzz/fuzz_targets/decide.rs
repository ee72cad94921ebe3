//! Any text may come as a statement: it is decided without a panic, twice the same way, and what a
//! protected relation is part of goes out with the tenant in it.
#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use hedgerow::catalog::{Catalog, Column, Relation, RelationKind};
use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::decide::{Context, decide};
use hedgerow::ids::PolicyEpoch;
use hedgerow::policy::Policy;
use hedgerow::sql::Limits;
use libfuzzer_sys::fuzz_target;

const TENANT: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";

const POLICY: &str = "
engine: postgres
tenant: {column: tenant_id, type: uuid}
tables:
  public.orders: {tenant: tenant_id}
  public.items: {tenant_through: {order_id: public.orders.id}}
  public.prices: {tenant: tenant_id, access: [select]}
  public.currencies: shared
  public.vault: deny
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
        live: true,
        server_version: 150_000,
        relations: [
            ("orders", &[("id", "int4"), ("tenant_id", "uuid"), ("note", "text")][..]),
            ("items", &[("id", "int4"), ("order_id", "int4"), ("sku", "text")]),
            ("prices", &[("tenant_id", "uuid"), ("price", "numeric")]),
            ("currencies", &[("code", "text"), ("rate", "numeric")]),
            ("vault", &[("secret", "text")]),
        ]
        .into_iter()
        .map(|(name, columns)| relation(name, columns))
        .map(|relation| (relation.relation_name(), relation))
        .collect::<HashMap<_, _>>(),
        search_path: vec!["public".to_owned()],
        role: "app".to_owned(),
        ..Catalog::default()
    },
    principal: Principal::assumed(Some(TenantClaim::Text(TENANT.to_owned())), Claims::default()),
});

fn relation(name: &str, columns: &[(&str, &str)]) -> Relation {
    let columns = columns.iter().map(|(name, type_name)| Column {
        name: (*name).to_owned(),
        type_schema: "pg_catalog".to_owned(),
        type_name: (*type_name).to_owned(),
        not_null: false,
        has_default: false,
        generated: false,
    });
    Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        oid: 0,
        kind: RelationKind::Table,
        columns: columns.collect(),
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        parents: Vec::new(),
        rls_enabled: false,
        rls_forced: false,
        security_invoker: false,
        security_barrier: false,
        owner: "owner".to_owned(),
    }
}

fuzz_target!(|text: &str| {
    let world = &*WORLD;
    let context = Context {
        policy: &world.policy,
        catalog: &world.catalog,
        principal: &world.principal,
        limits: Limits::default(),
    };
    let first = decide(text, context);
    let second = decide(text, context);
    match (&first, &second) {
        (Ok(first), Ok(second)) => assert_eq!(first, second),
        (Err(first), Err(second)) => assert_eq!(first.denial, second.denial),
        _ => panic!("one text, two verdicts"),
    }
    for decided in first.iter().flatten() {
        assert!(!decided.guarded.text().contains('\0'));
        assert!(!decided.protected || decided.guarded.text().contains(TENANT));
    }
});
