//! COPY … FROM STDIN in the tree that would be sent: every row's first field is the tenant's column, which
//! the session fills, and nothing but the tenant decides whose a row is. Layer 2.

use super::super::env::{Env, Resolved, Table};
use super::super::tree::Tree;
use super::verify::{Scope, Verifier, leak, unguarded};
use crate::error::Denial;
use crate::policy::Protection;

impl<'e> Verifier<'e> {
    /// `COPY schema.table (tenant, …) FROM STDIN [WITH (FORMAT binary)] [WHERE …]`.
    pub(super) fn copy_in(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        let table = target(statement, self.env)?;
        let columns = statement.at("attlist").name_parts().ok_or_else(leak)?;
        if table.policy.condition.is_some() {
            return Err(unguarded("where"));
        }
        match &table.policy.protection {
            Protection::Tenant { column, .. } => {
                let once = columns.iter().filter(|name| *name == column).count() == 1;
                let references = self.env.references(&table);
                let refers = references.iter().any(|reference| columns.contains(&reference.column));
                if columns.first() != Some(&column.as_str()) || !once || refers {
                    return Err(unguarded(column));
                }
            }
            // The session's own.
            Protection::Shared if is_temporary(&table) => {}
            Protection::Shared | Protection::TenantThrough { .. } | Protection::Deny => {
                return Err(unguarded(&table.name.name));
            }
        }
        let streams = statement.at("filename").is_absent()
            && !statement.at("is_program").truth()
            && statement.at("query").is_absent();
        let form = match statement.at("options").items() {
            [] => true,
            [only] => is_binary(only),
            _ => false,
        };
        if !streams || !form || !table.policy.access.insert {
            return Err(leak());
        }
        self.expressions(statement.at("where_clause"), scope)
    }
}

fn target<'e>(statement: &Tree<'_>, env: Env<'e>) -> Result<Table<'e>, Denial> {
    let relation = statement.at("relation");
    let name = relation.at("relname").text().ok_or_else(leak)?;
    let schema = relation.at("schemaname").text();
    match env.resolve(relation.at("catalogname").text(), schema, name)? {
        Resolved::Table(table) if schema.is_some() => Ok(table),
        Resolved::Table(_) | Resolved::Catalog { .. } => Err(unguarded(name)),
    }
}

fn is_temporary(table: &Table<'_>) -> bool {
    table.name.schema == "pg_temp"
}

fn is_binary(option: &Tree<'_>) -> bool {
    option.at("defname").text() == Some("format") && option.at("arg").text() == Some("binary")
}

/// Whether the COPY that is sent takes the rows that the client's takes: the same table, the tenant's
/// column in front of the client's other columns, the same WHERE, binary for binary. The client's other
/// options say how its rows are spelt; they are read here and spelt anew.
pub(super) fn takes_the_same(client: &Tree<'_>, sent: &Tree<'_>, env: Env<'_>) -> bool {
    let (Ok(table), Some(named), Some(written)) =
        (target(sent, env), client.at("attlist").name_parts(), sent.at("attlist").name_parts())
    else {
        return false;
    };
    let all: Vec<&str> = match (named.is_empty(), table.relation) {
        (false, _) => named,
        (true, Some(relation)) => relation.columns.iter().map(|own| own.name.as_str()).collect(),
        (true, None) => return false,
    };
    let (tenant, rest) = match written.split_first() {
        _ if is_temporary(&table) => (None, written.as_slice()),
        Some((tenant, rest)) => (Some(tenant), rest),
        None => return false,
    };
    let binary = |statement: &Tree<'_>| statement.at("options").items().iter().any(is_binary);
    all.iter().filter(|column| Some(*column) != tenant).eq(rest.iter())
        && binary(client) == binary(sent)
        && client.at("where_clause") == sent.at("where_clause")
        && sent.at("is_from").truth()
}
