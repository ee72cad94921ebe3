//! The tables, the policy and the caller of the statements in `mutants.yaml`.

use hedgerow::catalog::{Catalog, Column, ForeignKey, Relation, RelationKind};
use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::decide::{Context, decide};
use hedgerow::error::DenialCode;
use hedgerow::ids::PolicyEpoch;
use hedgerow::policy::Policy;
use hedgerow::sql::Limits;

const TENANT: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";

const POLICY: &str = "
engine: postgres
tenant: {column: tenant_id, type: uuid}
tables:
  public.customers: {}
  public.customer_view: {}
  public.orders: {}
  public.items: {tenant_through: {order_id: public.orders.id}}
  public.regional: {where: \"region = claim('region') OR region IS NULL\"}
  public.currencies: shared
";

const TABLES: &[(&str, RelationKind, &str)] = &[
    (
        "customers",
        RelationKind::Table,
        "id int4, tenant_id uuid, name text, secret text, credit int4, data jsonb, tags _text",
    ),
    ("customer_view", RelationKind::View, "id int4, tenant_id uuid, ratio float8"),
    (
        "orders",
        RelationKind::Table,
        "id int4, tenant_id uuid, customer_id int4, total numeric, ratio float8, note text",
    ),
    ("items", RelationKind::Table, "id int4, order_id int4, sku text, tags _text"),
    ("regional", RelationKind::Table, "id int4, tenant_id uuid, region text"),
    ("currencies", RelationKind::Table, "code text, rate numeric"),
];

pub struct World {
    policy: Policy,
    catalog: Catalog,
    principal: Principal,
}

impl World {
    pub fn new() -> Self {
        let policies = hedgerow::policy::load::compile(&[("policy.yaml", POLICY)], PolicyEpoch(1));
        let mut catalog =
            Catalog { live: true, search_path: vec!["public".to_owned()], ..Catalog::default() };
        for (name, kind, columns) in TABLES {
            let relation = relation(name, *kind, columns);
            catalog.relations.insert(relation.relation_name(), relation);
        }
        let claims = serde_json::json!({"tenant_id": TENANT, "region": "e''u"});
        let claims = Claims(claims.as_object().unwrap().clone());
        let tenant = Some(TenantClaim::Text(TENANT.to_owned()));
        Self {
            policy: policies.unwrap().postgres,
            catalog,
            principal: Principal::assumed(tenant, claims),
        }
    }

    /// What would be sent for a statement.
    pub fn sent(&self, sql: &str) -> Result<String, DenialCode> {
        let context = Context {
            policy: &self.policy,
            catalog: &self.catalog,
            principal: &self.principal,
            limits: Limits::default(),
        };
        let decided = decide(sql, context).map_err(|refusal| refusal.denial.code)?;
        let texts: Vec<&str> = decided.iter().map(|one| one.guarded.text()).collect();
        Ok(texts.join("; "))
    }
}

fn relation(name: &str, kind: RelationKind, columns: &str) -> Relation {
    let columns = columns.split(", ").zip(1..).map(|(column, number)| {
        let (name, type_name) = column.split_once(' ').unwrap();
        Column {
            name: name.to_owned(),
            number,
            type_schema: "pg_catalog".to_owned(),
            type_name: type_name.to_owned(),
            not_null: false,
            has_default: false,
            generated: false,
        }
    });
    let foreign_keys = (name == "orders").then(|| ForeignKey {
        columns: vec!["customer_id".to_owned()],
        parent_schema: "public".to_owned(),
        parent_name: "customers".to_owned(),
        parent_columns: vec!["id".to_owned()],
    });
    Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        oid: 1,
        kind,
        columns: columns.collect(),
        primary_key: vec!["id".to_owned()],
        unique_keys: Vec::new(),
        foreign_keys: foreign_keys.into_iter().collect(),
        parents: Vec::new(),
        rls_enabled: false,
        rls_forced: false,
        security_invoker: false,
        security_barrier: false,
        owner: "owner".to_owned(),
    }
}
