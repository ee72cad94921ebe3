//! Brings a database to a [`Plan`]: compares, and runs only what is missing. Layer 6.
//!
//! INVARIANT: a database that has the plan already gets no statement that locks or changes
//! anything. All or nothing: one transaction.

use std::collections::BTreeSet;

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use tokio_postgres::Transaction;
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};

use super::render::{POLICY_NAME, Plan, TablePlan, privileges};
use crate::catalog_load::Session;
use crate::ids::{QuotedIdent, RelationName};

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Each change, in words.
    pub(super) changes: Vec<String>,
    /// What stands in the way of the plan's meaning and is left to the operator.
    pub(super) warnings: Vec<String>,
}

/// Applies the plan.
pub(super) async fn apply(session: &mut Session, plan: &Plan) -> anyhow::Result<Outcome> {
    let transaction = session.client.transaction().await?;
    // Short: a table in use must not make everyone queue behind this.
    transaction
        .batch_execute("SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '5s'")
        .await?;
    let mut work = Work { transaction, plan, outcome: Outcome::default() };
    work.role().await?;
    for table in &plan.tables {
        work.table(table).await.with_context(|| table.relation.to_string())?;
    }
    let Work { transaction, outcome, .. } = work;
    if outcome.changes.is_empty() {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    Ok(outcome)
}

struct Work<'a> {
    transaction: Transaction<'a>,
    plan: &'a Plan,
    outcome: Outcome,
}

impl Work<'_> {
    async fn change(&mut self, statement: &str, what: String) -> anyhow::Result<()> {
        self.transaction.batch_execute(statement).await.map_err(in_words)?;
        self.outcome.changes.push(what);
        Ok(())
    }

    async fn one<T: FromSqlOwned>(
        &self,
        text: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> anyhow::Result<Option<T>> {
        let rows = self.transaction.query_typed(text, parameters).await.map_err(in_words)?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    async fn role(&mut self) -> anyhow::Result<()> {
        let plan = self.plan;
        let role = &plan.role;
        let known = "SELECT 1 FROM pg_roles WHERE rolname = $1";
        if self.one::<i32>(known, &[(role, Type::TEXT)]).await?.is_none() {
            self.change(&plan.create_role(), format!("role {} made", QuotedIdent(role))).await?;
        }
        for schema in &plan.schemas {
            let held = self
                .one::<bool>(
                    "SELECT has_schema_privilege($1, $2, 'USAGE')",
                    &[(role, Type::TEXT), (schema, Type::TEXT)],
                )
                .await?;
            if held != Some(true) {
                let what = format!("schema {}: USAGE granted", QuotedIdent(schema));
                self.change(&plan.grant_schema(schema), what).await?;
            }
        }
        for sequence in &plan.sequences {
            let held = self
                .one::<bool>(
                    "SELECT has_sequence_privilege($1, $2, 'USAGE')",
                    &[(role, Type::TEXT), (&sequence.to_string(), Type::TEXT)],
                )
                .await?;
            if held != Some(true) {
                let what = format!("sequence {sequence}: USAGE granted");
                self.change(&plan.grant_sequence(sequence), what).await?;
            }
        }
        Ok(())
    }

    async fn table(&mut self, table: &TablePlan) -> anyhow::Result<()> {
        let name = &table.relation;
        if let Some(condition) = &table.condition {
            let flags = "SELECT ARRAY[relrowsecurity, relforcerowsecurity] FROM pg_class \
                         WHERE oid = to_regclass($1)";
            let flags: Vec<bool> = self
                .one(flags, &[(&name.to_string(), Type::TEXT)])
                .await?
                .context("the table is gone")?;
            if flags.first() != Some(&true) {
                self.change(&table.enable(), format!("{name}: row-level security enabled")).await?;
            }
            if flags.get(1) != Some(&true) {
                self.change(&table.force(), format!("{name}: row-level security forced")).await?;
            }
            self.policy(table, condition).await?;
        }
        if table.access.is_some() {
            self.grants(table).await?;
        }
        Ok(())
    }

    /// PostgreSQL keeps a policy as a tree and prints it in its own words. The policy's comment
    /// holds a digest of our words and of what PostgreSQL made of them; when either changed, the
    /// policy is made anew.
    async fn policy(&mut self, table: &TablePlan, condition: &str) -> anyhow::Result<()> {
        let name = &table.relation;
        let comment: Option<Option<String>> = self
            .one(
                "SELECT obj_description(oid, 'pg_policy') FROM pg_policy \
                 WHERE polrelid = to_regclass($1) AND polname = $2",
                &[(&name.to_string(), Type::TEXT), (&POLICY_NAME, Type::TEXT)],
            )
            .await?;
        let expected = self.digest(name, condition).await?;
        if comment.flatten().as_deref() != expected.as_deref() || expected.is_none() {
            let statement = format!("{}; {}", table.drop_policy(), table.create_policy(condition));
            self.change(&statement, format!("{name}: policy {POLICY_NAME} made")).await?;
            let digest = self.digest(name, condition).await?.context("the policy is gone")?;
            let statement = format!("COMMENT ON POLICY {POLICY_NAME} ON {name} IS '{digest}'");
            self.transaction.batch_execute(&statement).await.map_err(in_words)?;
        }
        let others: Vec<String> = self
            .one(
                "SELECT coalesce(array_agg(policyname::text ORDER BY policyname), '{}') \
                 FROM pg_policies WHERE schemaname = $1 AND tablename = $2 \
                 AND policyname <> $3 AND permissive = 'PERMISSIVE'",
                &[(&name.schema, Type::TEXT), (&name.name, Type::TEXT), (&POLICY_NAME, Type::TEXT)],
            )
            .await?
            .unwrap_or_default();
        for other in others {
            self.outcome.warnings.push(format!(
                "{name}: the permissive policy {} lets more rows through than the tenant's",
                QuotedIdent(&other)
            ));
        }
        Ok(())
    }

    async fn digest(&self, name: &RelationName, condition: &str) -> anyhow::Result<Option<String>> {
        let shown: Option<String> = self
            .one(
                "SELECT ROW(permissive, roles, cmd, qual, with_check)::text FROM pg_policies \
                 WHERE schemaname = $1 AND tablename = $2 AND policyname = $3",
                &[(&name.schema, Type::TEXT), (&name.name, Type::TEXT), (&POLICY_NAME, Type::TEXT)],
            )
            .await?;
        Ok(shown.map(|shown| {
            let digest =
                Sha256::new().chain_update(condition).chain_update("\0").chain_update(shown);
            let hex: String =
                digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            format!("made by hedgerow rls; digest {hex}")
        }))
    }

    async fn grants(&mut self, table: &TablePlan) -> anyhow::Result<()> {
        let (plan, name) = (self.plan, &table.relation);
        let Some(access) = table.access else { return Ok(()) };
        let owner: Option<bool> = self
            .one(
                "SELECT pg_get_userbyid(relowner) = $2 FROM pg_class WHERE oid = to_regclass($1)",
                &[(&name.to_string(), Type::TEXT), (&plan.role, Type::NAME)],
            )
            .await?;
        if owner == Some(true) {
            self.outcome.warnings.push(format!(
                "{name}: belongs to {}, which may do everything with it",
                QuotedIdent(&plan.role)
            ));
            return Ok(());
        }
        let direct: Vec<String> = self
            .one(
                "SELECT coalesce(array_agg(DISTINCT x.privilege_type), '{}') FROM pg_class c, \
                 aclexplode(c.relacl) x WHERE c.oid = to_regclass($1) \
                 AND x.grantee = (SELECT oid FROM pg_roles WHERE rolname = $2)",
                &[(&name.to_string(), Type::TEXT), (&plan.role, Type::TEXT)],
            )
            .await?
            .unwrap_or_default();
        let direct: BTreeSet<&str> = direct.iter().map(String::as_str).collect();
        if privileges(access).iter().any(|(privilege, held)| direct.contains(privilege) != *held) {
            for statement in table.grants(access, &plan.role) {
                self.transaction.batch_execute(&statement).await.map_err(in_words)?;
            }
            self.outcome.changes.push(format!("{name}: privileges of {}", QuotedIdent(&plan.role)));
        }
        for (privilege, held) in privileges(access) {
            let effective: Option<bool> = self
                .one(
                    "SELECT has_table_privilege($1, $2, $3)",
                    &[
                        (&plan.role, Type::TEXT),
                        (&name.to_string(), Type::TEXT),
                        (&privilege, Type::TEXT),
                    ],
                )
                .await?;
            if effective == Some(true) && !held {
                self.outcome.warnings.push(format!(
                    "{name}: {} still has {privilege}, through PUBLIC or another role",
                    QuotedIdent(&plan.role)
                ));
            }
        }
        Ok(())
    }
}

/// The server's words: `tokio_postgres::Error` alone says `db error`.
fn in_words(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(db) => anyhow::anyhow!("{} ({})", db.message(), db.code().code()),
        None => error.into(),
    }
}
