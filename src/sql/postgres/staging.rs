//! COPY … FROM STDIN by way of a temporary table, as a client would do it by hand. Layer 2.
//!
//! Where more is asked of a row than its tenant (its parent, a reference, the policy's condition), or where
//! the server refuses COPY (row-level security binds the role), the rows are copied into a table of the
//! session's own, and an INSERT takes them from there, under the guards of every INSERT. The four
//! statements are texts like a client's: each goes through the whole decision. They are sent together, so
//! that all of it holds or nothing, and the table is gone with the last.

use super::env::{Env, Table};
use super::tree::Tree;
use super::{Guarded, check, decide_one, parse, temporary};
use crate::error::{Denial, DenialCode};
use crate::ids::{QuotedIdent, RelationName};
use crate::sql::copy::{STAGING_TABLE as NAME, Staged};
use crate::sql::temporary::{SCHEMA, TemporaryChange};
use crate::sql::{Decided, Limits};

/// The statements, as a client would write them.
pub struct Texts {
    make: String,
    fill: String,
    take: String,
    drop: String,
}

impl Texts {
    /// The statements that bring rows of `columns` into a table. `options` is what stands behind FROM
    /// STDIN.
    ///
    /// # Errors
    /// HR1014 where the catalog does not tell the columns' types, or the name is taken.
    pub fn new(
        table: &Table<'_>,
        columns: &[&str],
        options: &str,
        env: Env<'_>,
    ) -> Result<Self, Denial> {
        let denied = |object: &str| Denial::of(DenialCode::Copy, object);
        let relation = table.relation.ok_or_else(|| denied("FROM STDIN"))?;
        if columns.is_empty() || env.temporary.table(NAME).is_some() {
            return Err(denied("FROM STDIN"));
        }
        let mut typed = Vec::with_capacity(columns.len());
        let mut always = false;
        for name in columns {
            let column = relation.column(name).ok_or_else(|| denied(name))?;
            always |= column.generated;
            let (schema, type_name) = (&column.type_schema, &column.type_name);
            let type_name = RelationName::new(schema.as_str(), type_name.as_str());
            typed.push(format!("{} {type_name}", QuotedIdent(name)));
        }
        let own = RelationName::new(SCHEMA, NAME);
        let target = &table.name;
        let list: Vec<String> = columns.iter().map(|name| QuotedIdent(name).to_string()).collect();
        let list = list.join(", ");
        // COPY gives an identity its value, whatever is said of it.
        let overriding = if always { " OVERRIDING SYSTEM VALUE" } else { "" };
        Ok(Self {
            make: format!("CREATE TEMPORARY TABLE {own} ({})", typed.join(", ")),
            fill: format!("COPY {own} ({list}) FROM STDIN{options}"),
            take: format!("INSERT INTO {target} ({list}){overriding} SELECT {list} FROM {own}"),
            drop: format!("DROP TABLE {own}"),
        })
    }

    /// Decides each of them. The decision on the COPY, with the relations of the INSERT.
    ///
    /// # Errors
    /// The denial of the first that may not run.
    pub fn decide(&self, env: Env<'_>) -> Result<(Decided, Staged), Denial> {
        let (make, change) = self.made(env)?;
        let mut temporary = env.temporary.clone();
        temporary.change(&change);
        let env = Env { temporary: &temporary, ..env };
        let fill = decided(&self.fill, env)?;
        let take = decided(&self.take, env)?;
        let drop = decided(&self.drop, env)?;
        let staged = Staged { make, take: take.guarded, drop: drop.guarded };
        let mut relations = take.relations;
        relations.retain(|used| used.relation.schema != SCHEMA);
        Ok((Decided { guarded: fill.guarded, relations, ..take }, staged))
    }

    /// The statement that makes the table, as it stands here: libpg_query prints `pg_catalog.bpchar` as
    /// another type.
    fn made(&self, env: Env<'_>) -> Result<(Guarded, TemporaryChange), Denial> {
        let disagree = || Denial::new(DenialCode::ParsersDisagree);
        let parsed = parse(&self.make)?;
        let statement = parsed.stmts().next().ok_or_else(disagree)?;
        let mut print = String::new();
        let tree = Tree::of(statement, &mut print)?;
        let plan = temporary::plan(&tree, || Ok(self.make.clone()), env)?.ok_or_else(disagree)?;
        Ok((check::seal(&tree, self.make.clone(), env)?, plan.change))
    }
}

fn decided(text: &str, env: Env<'_>) -> Result<Decided, Denial> {
    super::bounds::check(text, Limits { max_statement: usize::MAX })?;
    let parsed = parse(text)?;
    match (parsed.stmts().next(), parsed.len()) {
        (Some(statement), 1) => decide_one(statement, None, env),
        _ => Err(Denial::new(DenialCode::ParsersDisagree)),
    }
}

/// Whether a COPY's WHERE looks at nothing but the given columns: those that the rows have before
/// defaults and the tenant are filled in.
pub fn looks_at(condition: &Tree<'_>, columns: &[&str]) -> bool {
    let mut given = true;
    let walked = condition.walk(&mut |node| {
        if node.is("ColumnRef") {
            let parts = node.at("fields").name_parts();
            given &= matches!(parts.as_deref(), Some([name]) if columns.contains(name));
        }
        Ok::<(), Denial>(())
    });
    walked.is_ok() && given
}

#[cfg(test)]
mod tests {
    use crate::error::DenialCode;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{GUARD, catalog, policy, principal};
    use crate::sql::{Kind, Limits};

    fn sent(sql: &str) -> Result<String, DenialCode> {
        let decided = decide(sql, &policy(), &catalog(), &principal(), Limits::default());
        let decided = decided.map_err(|denial| denial.code)?;
        assert_eq!(decided.len(), 1);
        let own = decided[0].relations.iter().all(|used| used.relation.schema != "pg_temp");
        assert!(own && decided[0].protected && matches!(decided[0].kind, Kind::CopyIn(_)));
        Ok(decided[0].sent().replace(GUARD, "$A").replace('"', ""))
    }

    #[test]
    fn rows_go_into_a_table_of_their_own_and_from_there_through_the_guards_of_an_insert() {
        let text = sent("COPY items (id, order_id) FROM STDIN CSV WHERE id > 1").unwrap();
        let parts: Vec<&str> = text.split("; ").collect();
        let [make, fill, take, drop] = parts.as_slice() else { panic!("{text}") };
        let columns = "id pg_catalog.int4, order_id pg_catalog.int4";
        assert_eq!(*make, format!("CREATE TEMPORARY TABLE pg_temp.hedgerow_copy ({columns})"));
        assert_eq!(*fill, "COPY pg_temp.hedgerow_copy (id, order_id) FROM STDIN WHERE id > 1");
        assert!(take.starts_with("INSERT INTO public.items (id, order_id) SELECT "), "{take}");
        assert!(take.contains("hedgerow_parent_0.tenant_id = $A"), "{take}");
        assert_eq!(*drop, "DROP TABLE pg_temp.hedgerow_copy");
        let text = sent("COPY regional (region, tenant_id) FROM STDIN BINARY").unwrap();
        assert!(text.contains("(region) FROM STDIN WITH (FORMAT binary); "), "{text}");
        assert!(text.contains("INSERT INTO public.regional (region, tenant_id) "), "{text}");
    }

    #[test]
    fn what_no_insert_could_do_is_refused() {
        for (sql, code) in [
            ("COPY regional (tenant_id) FROM STDIN", DenialCode::Copy),
            ("COPY regional (id) FROM STDIN", DenialCode::WriteOutsideTenant),
            ("COPY items (id, sku) FROM STDIN", DenialCode::WriteOutsideTenant),
            ("COPY items FROM STDIN WHERE ctid IS NULL", DenialCode::Copy),
            ("COPY items (id, order_id) FROM STDIN WHERE sku IS NULL", DenialCode::Copy),
            ("COPY items (id, order_id) FROM STDIN WHERE items.id = 1", DenialCode::Copy),
            ("COPY items FROM STDIN WHERE pg_sleep(id) IS NULL", DenialCode::Function),
            ("COPY pg_temp.hedgerow_copy FROM STDIN", DenialCode::UnknownRelation),
        ] {
            assert_eq!(sent(sql), Err(code), "{sql}");
        }
    }
}
