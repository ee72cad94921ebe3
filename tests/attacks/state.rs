//! What the database holds, as digests: of everything (is it still fresh?) and of what belongs to
//! others (did A touch it?).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::support::TENANT_A;
use crate::support::postgres::{SUPERUSER, server};
use crate::support::wire::WireClient;

/// For each table of the policy, how its rows belong to tenants; as SQL over the table's alias `t`.
pub struct Ownership {
    of_others: BTreeMap<String, String>,
}

/// Two digests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Rows of every table, sequences, schema, roles.
    pub everything: String,
    /// Rows that are not A's, by table; schema and roles.
    pub others: BTreeMap<String, String>,
    /// Last values of sequences.
    pub sequences: BTreeMap<String, i64>,
}

impl Ownership {
    /// From the policy file's text.
    pub fn of(policy: &str) -> Self {
        #[derive(Deserialize)]
        struct File {
            tables: BTreeMap<String, Value>,
        }
        let file: File = serde_saphyr::from_str(policy).expect("the policy can be read");
        let mut of_others = BTreeMap::new();
        for (table, rule) in &file.tables {
            let condition = if let Some(column) = rule.get("tenant").and_then(Value::as_str) {
                format!("t.\"{column}\" IS DISTINCT FROM '{TENANT_A}'::uuid")
            } else if let Some(through) = rule.get("tenant_through").and_then(Value::as_object) {
                let (column, parent) = through.iter().next().expect("one parent");
                let parent = parent.as_str().expect("schema.table.column");
                let (parent, key) = parent.rsplit_once('.').expect("schema.table.column");
                let owner = file.tables[parent]["tenant"].as_str().expect("a tenant column");
                format!(
                    "NOT EXISTS (SELECT 1 FROM {parent} p WHERE p.\"{key}\" = t.\"{column}\" \
                     AND p.\"{owner}\" = '{TENANT_A}'::uuid)"
                )
            } else {
                continue;
            };
            of_others.insert(table.replace('"', ""), condition);
        }
        Self { of_others }
    }

    fn condition(&self, table: &str, has_tenant_id: bool) -> String {
        let by_column = || format!("t.tenant_id::text IS DISTINCT FROM '{TENANT_A}'");
        match self.of_others.get(table) {
            Some(condition) => condition.clone(),
            // Partitions and children, which the policy does not name, and tables made meanwhile.
            None if has_tenant_id => by_column(),
            None => "true".to_owned(),
        }
    }

    /// SQL that leaves A's rows and the tables without an owner: children first by trial, for
    /// foreign keys between tables decide the order.
    pub fn delete_others(&self) -> String {
        let mut sql = String::from("SET session_replication_role = replica;");
        for (table, condition) in &self.of_others {
            let (schema, name) = table.split_once('.').expect("schema.table");
            // Views are named in the policy too; they hold no rows of their own.
            sql.push_str(&format!(
                "DO $d$ BEGIN IF (SELECT relkind IN ('r', 'p') FROM pg_class WHERE oid = '{schema}.\"{name}\"'::regclass) \
                 THEN DELETE FROM {schema}.\"{name}\" t WHERE {condition}; END IF; END $d$;"
            ));
        }
        sql
    }

    /// Reads both digests past the proxy.
    pub fn state(&self, database: &str) -> State {
        let mut client = server().connect(SUPERUSER, database);
        let rows = |client: &mut WireClient, sql: &str| {
            let outcome = client.query(sql);
            assert!(outcome.errors().is_empty(), "{sql}: {:?}", outcome.errors());
            outcome.rows()
        };
        client.query("SET statement_timeout = '20s'; SET lock_timeout = '5s'");
        let tables = rows(&mut client, TABLES);
        let mut selects = Vec::new();
        for table in &tables {
            let [Some(schema), Some(name), Some(has_tenant_id)] = table.as_slice() else {
                panic!("{table:?}")
            };
            let condition = self.condition(&format!("{schema}.{name}"), has_tenant_id == "t");
            let digest = |filter: &str| {
                format!("coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text){filter}), '')")
            };
            selects.push(format!(
                "SELECT '{schema}.{name}', {}, {} FROM ONLY {schema}.\"{name}\" t",
                digest(""),
                digest(&format!(" FILTER (WHERE {condition})"))
            ));
        }
        let digests = rows(&mut client, &selects.join(" UNION ALL "));
        let schema = rows(&mut client, SCHEMA);
        let sequences = rows(
            &mut client,
            "SELECT schemaname || '.' || sequencename, coalesce(last_value, 0) FROM pg_sequences",
        );
        client.terminate();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let mut others: BTreeMap<String, String> =
            digests.iter().map(|row| (text(&row[0]), text(&row[2]))).collect();
        others.insert("schema and roles".to_owned(), format!("{schema:?}"));
        let sequences: BTreeMap<String, i64> = sequences
            .iter()
            .map(|row| (text(&row[0]), text(&row[1]).parse().expect("a number")))
            .collect();
        State { everything: format!("{digests:?}{schema:?}{sequences:?}"), others, sequences }
    }
}

impl State {
    /// What of others changed between two states, in words.
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let mut changes: Vec<String> = self
            .others
            .iter()
            .filter(|(name, digest)| after.others.get(*name) != Some(digest))
            .map(|(name, _)| format!("changed others' {name}"))
            .collect();
        changes.extend(
            after
                .others
                .keys()
                .filter(|name| !self.others.contains_key(*name))
                .map(|name| format!("made {name}")),
        );
        // Inserting rows of one's own takes numbers one by one; all else is an effect on others.
        changes.extend(
            self.sequences
                .iter()
                .filter(|(name, before)| {
                    after
                        .sequences
                        .get(*name)
                        .is_none_or(|now| !(0..=20).contains(&(now - *before)))
                })
                .map(|(name, _)| format!("moved the sequence {name}")),
        );
        changes
    }
}

/// Tables with rows of their own: name, and whether a column is called tenant_id. Large objects
/// and user data in catalogs are in `SCHEMA`.
const TABLES: &str = "SELECT n.nspname, c.relname, EXISTS (SELECT 1 FROM pg_attribute a \
    WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)::text::char \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm') AND c.relispopulated \
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\\_temp%' \
    AND n.nspname NOT LIKE 'pg\\_toast%' ORDER BY 1, 2";

/// Names, owners, privileges and flags of whatever outlives a session, and large objects' content.
const SCHEMA: &str = "SELECT md5(string_agg(d, E'\\n' ORDER BY d)) FROM (\
    SELECT concat_ws(' ', 'class', oid, relname, relkind, relowner, relacl, relrowsecurity, relforcerowsecurity, relhastriggers, relhasrules, reloptions) FROM pg_class \
      WHERE relpersistence = 'p' AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace) \
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attname, atttypid, attnotnull, attisdropped, attacl) FROM pg_attribute \
      JOIN pg_class c ON c.oid = attrelid WHERE c.relpersistence = 'p' AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace) \
    UNION ALL SELECT concat_ws(' ', 'proc', oid, proname, proowner, prosecdef, proacl, md5(prosrc)) FROM pg_proc WHERE oid > 16000 \
    UNION ALL SELECT concat_ws(' ', 'namespace', nspname, nspacl) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%temp\\_%' \
    UNION ALL SELECT concat_ws(' ', 'rls', polrelid, polname, coalesce(pg_get_expr(polqual, polrelid), '')) FROM pg_policy \
    UNION ALL SELECT concat_ws(' ', 'role', rolname, rolsuper, rolbypassrls, rolcreaterole, rolpassword) FROM pg_authid \
    UNION ALL SELECT concat_ws(' ', 'setting', setdatabase, setrole, setconfig) FROM pg_db_role_setting \
      WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
    UNION ALL SELECT concat_ws(' ', 'comment', objoid, classoid, objsubid, md5(description)) FROM pg_description WHERE objoid > 16000 \
    UNION ALL SELECT concat_ws(' ', 'extension', extname) FROM pg_extension \
    UNION ALL SELECT concat_ws(' ', 'statistics', stxname) FROM pg_statistic_ext \
    UNION ALL SELECT concat_ws(' ', 'large', loid, pageno, md5(data)) FROM pg_largeobject \
    UNION ALL SELECT concat_ws(' ', 'large owner', oid, lomowner, lomacl) FROM pg_largeobject_metadata) x(d)";
