//! Temporary tables in the tree that would be sent: nothing but the session's own schema is made, changed
//! or dropped. Layer 2.

use super::super::codes;
use super::super::env::{Env, Resolved};
use super::super::scope::is_statement;
use super::super::tree::Tree;
use super::verify::{Scope, Verifier, leak, unguarded};
use crate::error::Denial;
use crate::mutant;

/// By which a session calls its own schema.
const OWN: &str = "pg_temp";

/// Whether a relation is made in the session's own schema: by its name, or by TEMPORARY without another.
fn is_made_there(relation: &Tree<'_>) -> bool {
    relation.at("catalogname").is_absent()
        && match relation.at("schemaname").text() {
            Some(schema) => schema == OWN,
            None => relation.at("relpersistence").number() == Some(codes::TEMPORARY),
        }
}

/// Whether a relation that is there is named as one of the session's own.
fn is_there(relation: &Tree<'_>) -> bool {
    relation.at("catalogname").is_absent() && relation.at("schemaname").text() == Some(OWN)
}

/// Whether a statement makes, changes or drops nothing but temporary tables.
pub(super) fn concerns(statement: &Tree<'_>) -> bool {
    let all = |list: &Tree<'_>, holds: &dyn Fn(&Tree<'_>) -> bool| {
        !list.items().is_empty() && list.items().iter().all(holds)
    };
    match statement.kind() {
        "CreateStmt" => is_made_there(statement.at("relation")),
        "CreateTableAsStmt" => is_made_there(statement.at("into").at("rel")),
        "SelectStmt" => is_made_there(statement.at("into_clause").at("rel")),
        "DropStmt" => {
            statement.at("remove_type").number() == Some(codes::OBJECT_TABLE)
                && all(statement.at("objects"), &|object| {
                    matches!(object.name_parts().as_deref(), Some([OWN, _]))
                })
        }
        "TruncateStmt" => all(statement.at("relations"), &is_there),
        "VacuumStmt" => {
            !statement.at("is_vacuumcmd").truth()
                && all(statement.at("rels"), &|analyzed| is_there(analyzed.at("relation")))
        }
        "IndexStmt" => is_there(statement.at("relation")),
        _ => false,
    }
}

/// No query makes a table with INTO, but for a whole statement that makes a temporary one.
///
/// # Errors
/// HR1009.
pub(super) fn makes_no_other(statement: &Tree<'_>) -> Result<(), Denial> {
    let mut made = 0;
    statement.walk(&mut |node| {
        made += usize::from(!node.at("into_clause").is_absent());
        Ok::<(), Denial>(())
    })?;
    let own = statement.is("SelectStmt") && concerns(statement);
    if made == usize::from(own) { Ok(()) } else { Err(leak()) }
}

impl Verifier<'_> {
    /// The query that fills the table is guarded; the table has no relations to others.
    pub(super) fn temporary(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        match statement.kind() {
            "CreateTableAsStmt" => {
                let query = statement.at("query");
                if !query.is("SelectStmt") || !query.at("into_clause").is_absent() {
                    return Err(leak());
                }
                self.statement(query, scope).map(|_| ())
            }
            "SelectStmt" => self.statement(statement, scope).map(|_| ()),
            "CreateStmt" => {
                let alone = ["inh_relations", "partbound", "partspec", "of_typename"];
                if !alone.iter().all(|field| statement.at(field).is_absent()) {
                    return Err(leak());
                }
                statement.walk(&mut |node| match node.kind() {
                    "TableLikeClause" => self.is_open(node.at("relation")),
                    "Constraint" if node.at("contype").number() == Some(codes::CONSTR_FOREIGN) => {
                        Err(leak())
                    }
                    kind if is_statement(kind) => Err(leak()),
                    _ => Ok(()),
                })?;
                // Of its type a column keeps lengths; all else stays in the catalogs as it is written.
                statement.walk(&mut |node| match node.kind() {
                    "Constraint" => [node.at("raw_expr"), node.at("where_clause")]
                        .into_iter()
                        .try_for_each(holds_no_value),
                    _ => Ok(()),
                })
            }
            "IndexStmt" => {
                statement.walk(&mut |node| {
                    if is_statement(node.kind()) { Err(leak()) } else { Ok(()) }
                })?;
                holds_no_value(statement.at("index_params"))?;
                holds_no_value(statement.at("where_clause"))
            }
            _ => statement.walk(&mut |node| {
                if is_statement(node.kind()) { Err(leak()) } else { Ok(()) }
            }),
        }
    }

    /// A relation whose shape may be taken over.
    fn is_open(&self, relation: &Tree<'_>) -> Result<(), Denial> {
        let env: Env<'_> = self.env;
        let name = relation.at("relname").text().ok_or_else(leak)?;
        let schema = relation.at("schemaname").text();
        match env.resolve(relation.at("catalogname").text(), schema, name)? {
            Resolved::Table(_) => Ok(()),
            Resolved::Catalog { .. } => Err(unguarded(name)),
        }
    }
}

/// Other tenants read the definitions of temporary tables in the catalogs: they hold no string or number that
/// could be somebody's.
fn holds_no_value(definition: &Tree<'_>) -> Result<(), Denial> {
    definition.walk(&mut |node| {
        let value = node.at("val");
        let small = match value.kind() {
            "String" => value.at("").text().is_some_and(|text| text.len() < 3),
            "Integer" => value.at("").number().is_some_and(|number| number < 1_001),
            "Boolean" | "" => true,
            _ => false,
        };
        let refused = node.is("A_Const") && !small && !mutant::on("check-temporary-literal");
        if refused { Err(leak()) } else { Ok(()) }
    })
}

/// Whether what is dropped is what the client named.
pub(super) fn drops_the_same(client: &Tree<'_>, sent: &Tree<'_>) -> bool {
    let last = |statement: &Tree<'_>| -> Option<Vec<String>> {
        let objects = statement.at("objects").items().iter();
        objects
            .map(|object| match object.name_parts().as_deref() {
                Some([name] | [OWN, name]) => Some((*name).to_owned()),
                Some(_) | None => None,
            })
            .collect()
    };
    last(client).is_some_and(|names| last(sent) == Some(names))
        && client
            .fields()
            .iter()
            .zip(sent.fields())
            .all(|((name, value), (_, other))| *name == "objects" || value == other)
}
