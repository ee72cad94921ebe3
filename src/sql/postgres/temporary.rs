//! Temporary tables: what a session may make and change for itself. Layer 2.
//!
//! `CREATE TEMP TABLE` with columns or with a query, `SELECT … INTO TEMP`; DROP, TRUNCATE, ANALYZE and
//! CREATE INDEX of tables that the session made. Refused is what would reach beyond the session's own
//! schema: parents and partitions (a permanent table would be read with the client's rows), foreign
//! keys, tablespaces, and names under which PostgreSQL would find the table where a type or a catalog is
//! meant: it looks for types in the temporary schema first, and the guards' literals have types.
//!
//! Every session sees the definitions of all temporary tables in the catalogs (pg_attrdef, pg_constraint,
//! pg_index): so these hold no values ([`tells_nothing`]).

use super::classify::{self, Class};
use super::env::{Env, Resolved};
use super::scope::is_statement;
use super::tree::Tree;
use super::{codes, implied, notation, totality};
use crate::catalog::{Column, Relation, RelationKind};
use crate::error::{Denial, DenialCode};
use crate::ids::{QuotedIdent, RelationName};
use crate::mutant;
use crate::sql::Kind;
use crate::sql::temporary::{SCHEMA, TemporaryChange, TemporaryTable};

/// What is to be sent for such a statement.
pub struct Plan {
    /// What is known of it.
    pub class: Class,
    /// What it does to the session's tables.
    pub change: TemporaryChange,
    /// The text, where it is not the client's own or its query rewritten.
    pub text: Option<String>,
}

/// Constraints that concern the table alone.
const CONSTRAINTS: &[i64] = &[
    codes::CONSTR_NULL,
    codes::CONSTR_NOTNULL,
    codes::CONSTR_DEFAULT,
    codes::CONSTR_IDENTITY,
    codes::CONSTR_GENERATED,
    codes::CONSTR_CHECK,
    codes::CONSTR_PRIMARY,
    codes::CONSTR_UNIQUE,
];

/// `INCLUDING DEFAULTS`, the only thing beside the columns that LIKE may take over: constraints, generated
/// columns and indexes hold expressions of the operator's, comments and statistics his words.
const INCLUDING_DEFAULTS: i64 = 1 << 3;

/// Whether a relation that is made is a temporary one.
pub fn is_temporary(relation: &Tree<'_>) -> bool {
    match relation.at("schemaname").text() {
        None => relation.at("relpersistence").number() == Some(codes::TEMPORARY),
        Some(schema) => schema == SCHEMA,
    }
}

/// The plan for a statement about temporary tables; `None` for another.
///
/// # Errors
/// HR1002 for what may not be done, the denials of queries for those in it.
pub fn plan(
    statement: &Tree<'_>,
    canonical: impl FnOnce() -> Result<String, Denial>,
    env: Env<'_>,
) -> Result<Option<Plan>, Denial> {
    let own = Own { statement, env };
    match statement.kind() {
        "CreateStmt" if is_temporary(statement.at("relation")) => own.create().map(Some),
        "CreateTableAsStmt" if is_temporary(statement.at("into").at("rel")) => {
            own.create_as(statement.at("into"), statement.at("query")).map(Some)
        }
        "SelectStmt" if is_temporary(statement.at("into_clause").at("rel")) => {
            own.create_as(statement.at("into_clause"), statement).map(Some)
        }
        "DropStmt" => own.drop(),
        "TruncateStmt" => Ok(own.truncate()),
        "VacuumStmt" => Ok(own.analyze()),
        "IndexStmt" => own.index(canonical),
        _ => Ok(None),
    }
}

struct Own<'t> {
    statement: &'t Tree<'t>,
    env: Env<'t>,
}

fn class(protected: bool) -> Class {
    Class { kind: Kind::Empty, relations: Vec::new(), protected, rewritten: false }
}

fn written(name: &str) -> String {
    RelationName::new(SCHEMA, name).to_string()
}

impl Own<'_> {
    fn refused(&self) -> Denial {
        Denial::of(DenialCode::StatementKind, super::command::words(self.statement))
    }

    /// The name of a table that is to be made.
    fn name(&self, relation: &Tree<'_>) -> Result<String, Denial> {
        let name = relation.at("relname").text().ok_or_else(|| self.refused())?;
        let types = self.env.catalog.user_types.iter();
        // Every table has a type of its name: that one may be hidden as the table is.
        let mut types = types.filter(|(schema, name)| {
            !self
                .env
                .catalog
                .relations
                .contains_key(&RelationName::new(schema.as_str(), name.as_str()))
        });
        let reserved = name.starts_with("pg_")
            || name.starts_with('_')
            || totality::class_of(name).is_some()
            || types.any(|(_, known)| known == name);
        if reserved || !relation.at("catalogname").is_absent() {
            return Err(Denial::of(DenialCode::StatementKind, format!("temporary table {name}")));
        }
        if self.env.temporary.is_full() {
            return Err(Denial::of(DenialCode::StatementTooLarge, "temporary tables"));
        }
        Ok(name.to_owned())
    }

    fn create(&self) -> Result<Plan, Denial> {
        let statement = self.statement;
        let name = self.name(statement.at("relation"))?;
        let alone = [
            "inh_relations",
            "partbound",
            "partspec",
            "of_typename",
            "options",
            "tablespacename",
            "access_method",
        ];
        if !alone.iter().all(|field| statement.at(field).is_absent()) {
            return Err(self.refused());
        }
        let mut columns = Some(Vec::new());
        for element in statement.at("table_elts").items() {
            match element.kind() {
                "ColumnDef" => {
                    let column = self.column(element)?;
                    if let Some(columns) = columns.as_mut() {
                        columns.push(column);
                    }
                }
                "Constraint" => self.constraint(element)?,
                "TableLikeClause" => {
                    let taken = element.at("options").number();
                    if taken.is_none_or(|options| options & !INCLUDING_DEFAULTS != 0) {
                        return Err(self.refused());
                    }
                    let relation = element.at("relation");
                    let schema = relation.at("schemaname").text();
                    let like = relation.at("relname").text().ok_or_else(|| self.refused())?;
                    let resolved =
                        self.env.resolve(relation.at("catalogname").text(), schema, like)?;
                    let known = match resolved {
                        Resolved::Table(table) => table.relation,
                        Resolved::Catalog { .. } => return Err(self.refused()),
                    };
                    columns = match (columns, known) {
                        (Some(mut columns), Some(known)) => {
                            columns.extend(known.columns.iter().map(plain));
                            Some(columns)
                        }
                        (_, _) => None,
                    };
                }
                _ => return Err(self.refused()),
            }
        }
        let until_commit = statement.at("oncommit").number() == Some(codes::ONCOMMIT_DROP);
        let relation = columns.map(|columns| table(&name, columns));
        let made = TemporaryTable { name, relation, until_commit };
        Ok(Plan { class: class(false), change: TemporaryChange::Made(Box::new(made)), text: None })
    }

    fn column(&self, column: &Tree<'_>) -> Result<Column, Denial> {
        let name = column.at("colname").text().ok_or_else(|| self.refused())?;
        self.expressions(column.at("type_name"))?;
        for constraint in column.at("constraints").items() {
            self.constraint(constraint)?;
        }
        if !column.at("fdwoptions").is_absent() {
            return Err(self.refused());
        }
        let (schema, type_name) = type_of(column);
        let generated =
            column.at("constraints").items().iter().any(|constraint| {
                constraint.at("contype").number() == Some(codes::CONSTR_GENERATED)
            });
        Ok(Column {
            generated,
            name: name.to_owned(),
            type_schema: schema.to_owned(),
            type_name,
            ..Column::default()
        })
    }

    fn constraint(&self, constraint: &Tree<'_>) -> Result<(), Denial> {
        let kind = constraint.at("contype").number();
        if !kind.is_some_and(|kind| CONSTRAINTS.contains(&kind))
            || !constraint.at("indexspace").is_absent()
            || !constraint.at("pktable").is_absent()
        {
            return Err(self.refused());
        }
        self.definition(constraint.at("raw_expr"))?;
        self.definition(constraint.at("where_clause"))
    }

    /// An expression that stays in the catalogs, where other tenants' sessions read it.
    fn definition(&self, tree: &Tree<'_>) -> Result<(), Denial> {
        self.expressions(tree)?;
        tree.walk(&mut |node| {
            if node.is("A_Const") && !tells_nothing(node) && !mutant::on("temporary-literal") {
                return Err(Denial::of(DenialCode::StatementKind, "literal in a temporary table"));
            }
            Ok(())
        })
    }

    /// Every function, operator and type is one that a query may hold; no queries.
    fn expressions(&self, tree: &Tree<'_>) -> Result<(), Denial> {
        tree.walk(&mut |node| match node.kind() {
            "" => Ok(()),
            kind if is_statement(kind) => Err(self.refused()),
            _ => classify::judge_node(node, self.env),
        })?;
        // SECURITY: a default, a check and an index run what they hold as a query does.
        if !mutant::on("temporary-attribute") {
            notation::judge(tree, self.env)?;
        }
        implied::judge_casts(tree, self.env)?;
        implied::judge_checks(tree, self.env)
    }

    fn create_as(&self, into: &Tree<'_>, query: &Tree<'_>) -> Result<Plan, Denial> {
        let name = self.name(into.at("rel"))?;
        let alone = ["access_method", "options", "table_space_name"];
        let of_query = !self.statement.is("CreateTableAsStmt")
            || self.statement.at("objtype").number() == Some(codes::OBJECT_TABLE);
        if !alone.iter().all(|field| into.at(field).is_absent())
            || !of_query
            || !query.is("SelectStmt")
        {
            return Err(self.refused());
        }
        let class = classify::body(query, Kind::Select, self.env)?;
        let until_commit = into.at("on_commit").number() == Some(codes::ONCOMMIT_DROP);
        let made = TemporaryTable { name, relation: None, until_commit };
        Ok(Plan { class, change: TemporaryChange::Made(Box::new(made)), text: None })
    }

    /// The session's own table that a name means.
    fn own(&self, schema: Option<&str>, name: &str) -> bool {
        matches!(schema, None | Some(SCHEMA)) && self.env.temporary.table(name).is_some()
    }

    fn own_relation<'r>(&self, relation: &'r Tree<'_>) -> Option<&'r str> {
        let name = relation.at("relname").text()?;
        let own = self.own(relation.at("schemaname").text(), name);
        (own && relation.at("catalogname").is_absent()).then_some(name)
    }

    fn drop(&self) -> Result<Option<Plan>, Denial> {
        if self.statement.at("remove_type").number() != Some(codes::OBJECT_TABLE) {
            return Ok(None);
        }
        let spared = self.statement.at("missing_ok").truth();
        let mut names = Vec::new();
        for object in self.statement.at("objects").items() {
            let parts = object.name_parts().ok_or_else(|| self.refused())?;
            let (schema, name) = match parts.as_slice() {
                [name] => (None, *name),
                [schema, name] => (Some(*schema), *name),
                _ => return Ok(None),
            };
            // `DROP TABLE IF EXISTS staging` in front of its CREATE: there is none to be met.
            // Who changes the schema may have made it a moment ago.
            let nobodys = spared
                && !self.env.privileges.ddl
                && match schema {
                    None => !self.env.is_relation(name),
                    Some(schema) => schema == SCHEMA,
                };
            if !self.own(schema, name) && !nobodys {
                return Ok(None);
            }
            names.push(name.to_owned());
        }
        let list: Vec<String> = names.iter().map(|name| written(name)).collect();
        let text = format!(
            "DROP TABLE {}{}{}",
            if spared { "IF EXISTS " } else { "" },
            list.join(", "),
            match self.statement.at("behavior").number() {
                Some(codes::DROP_CASCADE) => " CASCADE",
                Some(_) | None => "",
            },
        );
        let change = TemporaryChange::Dropped(names);
        Ok(Some(Plan { class: class(false), change, text: Some(text) }))
    }

    fn truncate(&self) -> Option<Plan> {
        let relations = self.statement.at("relations").items();
        let list: Option<Vec<String>> = relations
            .iter()
            .map(|relation| {
                let only = if relation.at("inh").truth() { "" } else { "ONLY " };
                self.own_relation(relation).map(|name| format!("{only}{}", written(name)))
            })
            .collect();
        let restart =
            if self.statement.at("restart_seqs").truth() { " RESTART IDENTITY" } else { "" };
        let cascade = match self.statement.at("behavior").number() {
            Some(codes::DROP_CASCADE) => " CASCADE",
            Some(_) | None => "",
        };
        let text = format!("TRUNCATE {}{restart}{cascade}", list?.join(", "));
        Some(Plan { class: class(false), change: TemporaryChange::Kept, text: Some(text) })
    }

    fn analyze(&self) -> Option<Plan> {
        let relations = self.statement.at("rels").items();
        let plain = !self.statement.at("is_vacuumcmd").truth()
            && self.statement.at("options").is_absent()
            && !relations.is_empty();
        let list: Option<Vec<String>> = relations
            .iter()
            .map(|analyzed| {
                let name = self.own_relation(analyzed.at("relation"))?;
                let columns = analyzed.at("va_cols").name_parts()?;
                let columns: Vec<String> =
                    columns.iter().map(|column| QuotedIdent(column).to_string()).collect();
                Some(match columns.as_slice() {
                    [] => written(name),
                    columns => format!("{} ({})", written(name), columns.join(", ")),
                })
            })
            .collect();
        let text = format!("ANALYZE {}", list?.join(", "));
        let change = TemporaryChange::Kept;
        plain.then_some(Plan { class: class(false), change, text: Some(text) })
    }

    fn index(
        &self,
        canonical: impl FnOnce() -> Result<String, Denial>,
    ) -> Result<Option<Plan>, Denial> {
        let Some(name) = self.own_relation(self.statement.at("relation")) else { return Ok(None) };
        let alone = ["table_space", "options", "exclude_op_names"];
        if !alone.iter().all(|field| self.statement.at(field).is_absent())
            || self.statement.at("concurrent").truth()
        {
            return Err(self.refused());
        }
        for element in self.statement.at("index_params").items() {
            self.definition(element.at("expr"))?;
        }
        self.definition(self.statement.at("where_clause"))?;
        let canonical = canonical()?;
        let text = match self.statement.at("relation").at("schemaname").text() {
            Some(_) => canonical,
            // The checker reads what came of it.
            None => canonical.replacen(
                &format!(" ON {} ", QuotedIdent(name)),
                &format!(" ON {} ", written(name)),
                1,
            ),
        };
        let change = TemporaryChange::Kept;
        Ok(Some(Plan { class: class(false), change, text: Some(text) }))
    }
}

/// Longest string that nobody keeps a secret in: a flag, a separator, `{}`.
const MAX_PLAIN_STRING: usize = 2;
/// Largest number of the kind.
const MAX_PLAIN_NUMBER: i64 = 1_000;

/// Whether a constant is too small to hold a value of a tenant's: NULL, true, false, a small number, a string
/// of a character or two.
fn tells_nothing(constant: &Tree<'_>) -> bool {
    let value = constant.at("val");
    match value.kind() {
        "Boolean" => true,
        "Integer" => value.at("").number().is_some_and(|number| number <= MAX_PLAIN_NUMBER),
        "String" => value.at("").text().is_some_and(|text| text.len() <= MAX_PLAIN_STRING),
        _ => constant.at("isnull").truth(),
    }
}

/// A column as a temporary table gets it by LIKE.
fn plain(column: &Column) -> Column {
    Column { number: 0, generated: false, ..column.clone() }
}

fn table(name: &str, columns: Vec<Column>) -> Relation {
    Relation {
        schema: SCHEMA.to_owned(),
        name: name.to_owned(),
        oid: 0,
        kind: RelationKind::Table,
        columns,
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        parents: Vec::new(),
        rls_enabled: false,
        rls_forced: false,
        security_invoker: false,
        security_barrier: false,
        owner: String::new(),
    }
}

/// Schema and name of a column's type, as the catalog would have them; no schema for a type of which
/// nothing is known.
fn type_of(column: &Tree<'_>) -> (&'static str, String) {
    let type_name = column.at("type_name");
    let name = match type_name.at("names").name_parts().as_deref() {
        Some([name] | ["pg_catalog", name]) => match *name {
            "serial" | "serial4" => "int4",
            "bigserial" | "serial8" => "int8",
            "smallserial" | "serial2" => "int2",
            name => name,
        }
        .to_owned(),
        Some(_) | None => String::new(),
    };
    let name = match type_name.at("array_bounds").items() {
        [] => name,
        [_, ..] => format!("_{name}"),
    };
    let steady = column.at("coll_clause").is_absent() && totality::class_of(&name).is_some();
    (if steady { "pg_catalog" } else { "" }, name)
}
