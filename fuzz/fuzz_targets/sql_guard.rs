//! Any text may come as a statement: it is decided without a panic, twice the same way; what goes out
//! is one statement to PostgreSQL's grammar, names no denied table, and holds the tenant wherever a
//! protected relation takes part. Input whose first byte is odd stands for words of SQL, a byte a word.
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

/// Words that statements are made of.
const WORDS: &str = "SELECT FROM WHERE AND OR NOT ( ) , . * = < > + - / || :: ' ''  a b id tenant_id order_id \
    note sku price code rate orders items prices currencies vault public. \"orders\" o i x WITH AS RECURSIVE \
    MATERIALIZED JOIN LEFT RIGHT FULL CROSS NATURAL USING ON LATERAL UNION ALL EXCEPT INTERSECT GROUP BY HAVING \
    ORDER LIMIT OFFSET DISTINCT COUNT(*) sum( max( lower( coalesce( length( CASE WHEN THEN ELSE END NULL IS TRUE \
    IN EXISTS ANY ARRAY[ ] BETWEEN LIKE 1 2 0 'x' '1'::int 1.5 $1 INSERT INTO VALUES DEFAULT RETURNING UPDATE SET \
    DELETE ON CONFLICT DO NOTHING excluded. MERGE MATCHED TABLE ONLY FOR SHARE OF unnest( generate_series( \
    OVER PARTITION WINDOW FILTER EXPLAIN ANALYZE PREPARE EXECUTE DECLARE CURSOR COPY TO STDOUT ; true false \
    ROW( ->> -> @> ~ :: text uuid int4 date now() current_user hedgerow_parent_0 hedgerow_check hedgerow_value \
    'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa' tableoid ctid";

static TABLE: LazyLock<Vec<&str>> = LazyLock::new(|| WORDS.split_ascii_whitespace().collect());

/// The text that the input stands for.
fn text_of(data: &[u8]) -> Option<String> {
    let (&form, rest) = data.split_first()?;
    if form % 2 == 0 {
        return std::str::from_utf8(rest).ok().map(str::to_owned);
    }
    let words = rest.iter().map(|byte| TABLE[usize::from(*byte) % TABLE.len()]);
    Some(words.collect::<Vec<_>>().join(" "))
}

fuzz_target!(|data: &[u8]| {
    let Some(text) = text_of(data) else { return };
    let text = text.as_str();
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
        let sent = decided.guarded.text();
        assert!(!decided.protected || sent.contains(TENANT), "no tenant in {sent}");
        let parsed = pg_raw_parse::parse(sent).expect("PostgreSQL reads what is sent");
        assert!(parsed.stmts().count() <= 1, "several statements in {sent}");
        assert!(!decided.relations.iter().any(|used| used.relation.name == "vault"));
    }
});
