//! Changes of the schema, by identities that the policy's `ddl` names. Layer 2.
//!
//! Such an identity changes what tables look like, not what the policy says of their rows:
//!
//! - What the policy rests on stays: a column that a rule names is not renamed, dropped or made anew
//!   with values, and no relation takes a name under which other rules hold.
//! - `CREATE TABLE … AS` copies what the identity may read: its query is guarded like any other.
//! - A view over tenants' rows is made only under a name that no policy opens: whoever opens it has
//!   looked at it.
//! - What runs later with other rights is not made at all: functions, triggers, rules, DO, extensions
//!   (but `plpgsql`, and `IF NOT EXISTS` of one that is there), policies, grants, owners, foreign servers.
//!
//! Refuses what is not on these lists.

use super::classify::{self, Class};
use super::env::Env;
use super::scope::{Met, walk};
use super::tree::Tree;
use super::{codes, implied, lists, notation};
use crate::error::{Denial, DenialCode};
use crate::ids::RelationName;
use crate::policy::{ColumnRule, Protection, TablePolicy};
use crate::sql::Kind;

/// Judges a statement that changes the schema; `None` for another kind of statement.
///
/// # Errors
/// The denial.
pub fn judge(statement: &Tree<'_>, env: Env<'_>) -> Result<Option<Class>, Denial> {
    if !lists::SCHEMA_CHANGES.contains(&statement.kind()) {
        return Ok(None);
    }
    let change = Change { statement, env };
    let class = Class {
        kind: Kind::SchemaChange(change.makes()?),
        relations: Vec::new(),
        // What fails may quote any tenant's row: a key that is not unique, a value that does not fit.
        protected: true,
        rewritten: false,
    };
    match statement.kind() {
        "CreateTableAsStmt" => {
            change.is_permanent(statement.at("into").at("rel"))?;
            let body = classify::body(statement.at("query"), class.kind, env)?;
            return Ok(Some(Class { protected: true, ..body }));
        }
        "ViewStmt" => change.view()?,
        "CreateStmt" => {
            change.is_permanent(statement.at("relation"))?;
            let child = change.to_be_made(statement.at("relation"))?;
            change.parents(&child, statement.at("inh_relations").items())?;
        }
        "AlterTableStmt" => change.alter()?,
        "RenameStmt" => change.rename()?,
        "AlterObjectSchemaStmt" => change.move_to_schema()?,
        "DropStmt" => change.has_kind("remove_type", OBJECTS)?,
        "CommentStmt" => change.has_kind("objtype", COMMENTED)?,
        "CreateSchemaStmt"
            if !statement.at("schema_elts").is_absent()
                || !statement.at("authrole").is_absent() =>
        {
            return Err(change.refused());
        }
        "CreateExtensionStmt" if !change.extension_is_harmless() => return Err(change.refused()),
        // Indexes, sequences, types: nothing but their expressions.
        _ => {}
    }
    change.expressions()?;
    Ok(Some(class))
}

/// What may be dropped.
const OBJECTS: &[i64] = &[
    codes::OBJECT_TABLE,
    codes::OBJECT_INDEX,
    codes::OBJECT_VIEW,
    codes::OBJECT_MATVIEW,
    codes::OBJECT_SEQUENCE,
    codes::OBJECT_TYPE,
    codes::OBJECT_DOMAIN,
    codes::OBJECT_SCHEMA,
];
/// What may be commented on.
const COMMENTED: &[i64] = &[
    codes::OBJECT_TABLE,
    codes::OBJECT_COLUMN,
    codes::OBJECT_TABCONSTRAINT,
    codes::OBJECT_INDEX,
    codes::OBJECT_VIEW,
    codes::OBJECT_MATVIEW,
    codes::OBJECT_SEQUENCE,
    codes::OBJECT_TYPE,
    codes::OBJECT_DOMAIN,
    codes::OBJECT_SCHEMA,
];
/// What may be renamed, beside columns. Not schemas: every relation in one would change its name.
const RENAMED: &[i64] = &[
    codes::OBJECT_TABLE,
    codes::OBJECT_TABCONSTRAINT,
    codes::OBJECT_INDEX,
    codes::OBJECT_VIEW,
    codes::OBJECT_MATVIEW,
    codes::OBJECT_SEQUENCE,
    codes::OBJECT_TYPE,
];
/// Of these, what queries can name afterwards.
const RELATIONS: &[Option<i64>] =
    &[Some(codes::OBJECT_TABLE), Some(codes::OBJECT_VIEW), Some(codes::OBJECT_MATVIEW)];
/// What ALTER TABLE may do, beside adding, dropping and changing columns and taking parents.
const ALTERATIONS: &[i64] = &[
    codes::AT_COLUMN_DEFAULT,
    codes::AT_DROP_NOT_NULL,
    codes::AT_SET_NOT_NULL,
    codes::AT_SET_STATISTICS,
    codes::AT_SET_OPTIONS,
    codes::AT_SET_STORAGE,
    codes::AT_ADD_CONSTRAINT,
    codes::AT_ALTER_CONSTRAINT,
    codes::AT_VALIDATE_CONSTRAINT,
    codes::AT_DROP_CONSTRAINT,
    codes::AT_SET_REL_OPTIONS,
    codes::AT_RESET_REL_OPTIONS,
    codes::AT_DROP_INHERIT,
    codes::AT_DETACH_PARTITION,
    codes::AT_ENABLE_ROW_SECURITY,
    codes::AT_FORCE_ROW_SECURITY,
    codes::AT_ADD_IDENTITY,
    codes::AT_SET_IDENTITY,
    codes::AT_DROP_IDENTITY,
];

struct Change<'t> {
    statement: &'t Tree<'t>,
    env: Env<'t>,
}

impl Change<'_> {
    /// HR1002 with the kind in SQL's words.
    fn refused(&self) -> Denial {
        Denial::of(DenialCode::StatementKind, super::command::words(self.statement))
    }

    /// `plpgsql`, which every database has, or `IF NOT EXISTS` of one that is there, which does nothing.
    fn extension_is_harmless(&self) -> bool {
        let name = self.statement.at("extname").text().unwrap_or_default();
        let there = self.statement.at("if_not_exists").truth()
            && self.statement.at("options").is_absent()
            && self.env.catalog.extensions.contains(name);
        name == "plpgsql" || there
    }

    fn has_kind(&self, field: &str, kinds: &[i64]) -> Result<(), Denial> {
        match self.statement.at(field).number() {
            Some(kind) if kinds.contains(&kind) => Ok(()),
            Some(_) | None => Err(self.refused()),
        }
    }

    /// Not a temporary table, whose name would stand before others'.
    fn is_permanent(&self, relation: &Tree<'_>) -> Result<(), Denial> {
        match relation.at("relpersistence").number() {
            Some(codes::TEMPORARY) | None => Err(self.refused()),
            Some(_) => Ok(()),
        }
    }

    /// The relation, and its rule.
    fn known(&self, relation: &Tree<'_>) -> Result<Known, Denial> {
        let name = relation.at("relname").text().ok_or_else(|| self.refused())?;
        if !relation.at("catalogname").is_absent() {
            return Err(self.refused());
        }
        let (name, rule) = self.env.known(relation.at("schemaname").text(), name);
        Ok(Known { name, rule })
    }

    /// A relation that is to be made, and the rule for its name: an unqualified one is made in the first schema
    /// of the search path, wherever another of that name stands.
    fn to_be_made(&self, relation: &Tree<'_>) -> Result<Known, Denial> {
        let name = relation.at("relname").text().ok_or_else(|| self.refused())?;
        if !relation.at("catalogname").is_absent() {
            return Err(self.refused());
        }
        let name = self.env.new_name(relation.at("schemaname").text(), name);
        let rule = self.env.own_rule(&name);
        Ok(Known { name, rule })
    }

    /// The relation that there is when the statement is complete.
    fn makes(&self) -> Result<Option<RelationName>, Denial> {
        let statement = self.statement;
        let made = match statement.kind() {
            "CreateStmt" => self.to_be_made(statement.at("relation"))?.name,
            "CreateTableAsStmt" => self.to_be_made(statement.at("into").at("rel"))?.name,
            "ViewStmt" => self.to_be_made(statement.at("view"))?.name,
            "RenameStmt" if RELATIONS.contains(&statement.at("rename_type").number()) => {
                let before = self.known(statement.at("relation"))?.name;
                let new = statement.at("newname").text().ok_or_else(|| self.refused())?;
                RelationName::new(before.schema.as_str(), new)
            }
            _ => return Ok(None),
        };
        Ok(Some(made))
    }

    /// A relation under a new name: that of the same rule, or one that no policy opens.
    fn renamed(&self, before: &Known, name: &RelationName) -> Result<(), Denial> {
        match self.env.policy.table(name) {
            None => Ok(()),
            Some(rule) if before.rule.as_ref() == Some(rule) => Ok(()),
            Some(_) => Err(Denial::of(DenialCode::LeakPossible, name.to_string())),
        }
    }

    fn rename(&self) -> Result<(), Denial> {
        let change = self.statement;
        let new = change.at("newname").text().ok_or_else(|| self.refused())?;
        if change.at("rename_type").number() == Some(codes::OBJECT_COLUMN) {
            let known = self.known(change.at("relation"))?;
            let old = change.at("subname").text().ok_or_else(|| self.refused())?;
            return known.frees(old).and_then(|()| known.frees(new));
        }
        self.has_kind("rename_type", RENAMED)?;
        let relation = change.at("relation");
        if relation.is_absent() {
            return Ok(());
        }
        let known = self.known(relation)?;
        let named = change.at("rename_type").number() == Some(codes::OBJECT_TABCONSTRAINT);
        let name = RelationName::new(known.name.schema.as_str(), new);
        if named { Ok(()) } else { self.renamed(&known, &name) }
    }

    fn move_to_schema(&self) -> Result<(), Denial> {
        self.has_kind("object_type", OBJECTS)?;
        let relation = self.statement.at("relation");
        if relation.is_absent() {
            return Err(self.refused());
        }
        let known = self.known(relation)?;
        let schema = self.statement.at("newschema").text().ok_or_else(|| self.refused())?;
        self.renamed(&known, &RelationName::new(schema, known.name.name.as_str()))
    }

    fn alter(&self) -> Result<(), Denial> {
        self.has_kind("objtype", &[codes::OBJECT_TABLE, codes::OBJECT_INDEX])?;
        let known = self.known(self.statement.at("relation"))?;
        if self.env.is_view(&known.name) {
            return Err(self.refused());
        }
        for command in self.statement.at("cmds").items() {
            let definition = command.at("def");
            let column = command.at("name").text().or_else(|| definition.at("colname").text());
            match command.at("subtype").number() {
                Some(codes::AT_ADD_COLUMN) => {
                    let valued = definition.at("constraints").items().iter().any(|constraint| {
                        !constraint.at("raw_expr").is_absent()
                            || constraint
                                .at("generated_when")
                                .number()
                                .is_some_and(|when| when != 0)
                    });
                    if valued {
                        known.frees(column.ok_or_else(|| self.refused())?)?;
                    }
                }
                Some(codes::AT_DROP_COLUMN) => {
                    known.frees(column.ok_or_else(|| self.refused())?)?;
                }
                Some(codes::AT_ALTER_COLUMN_TYPE) => {
                    if !definition.at("raw_default").is_absent() {
                        known.frees(column.ok_or_else(|| self.refused())?)?;
                    }
                }
                Some(codes::AT_ADD_INHERIT) => {
                    self.parents(&known, std::slice::from_ref(definition))?;
                }
                Some(codes::AT_ATTACH_PARTITION) => {
                    let relation = std::slice::from_ref(self.statement.at("relation"));
                    self.parents(&self.known(definition.at("name"))?, relation)?;
                }
                Some(other) if ALTERATIONS.contains(&other) => {}
                Some(_) | None => return Err(self.refused()),
            }
        }
        Ok(())
    }

    /// A child's rows are read with its parents': a parent that every tenant reads takes only children
    /// that every tenant reads.
    fn parents(&self, child: &Known, parents: &[Tree<'_>]) -> Result<(), Denial> {
        let shared = |known: &Known| {
            known.rule.as_ref().is_some_and(|rule| rule.protection == Protection::Shared)
        };
        for parent in parents {
            let parent = self.known(parent)?;
            if shared(&parent) && !shared(child) {
                return Err(Denial::of(DenialCode::LeakPossible, parent.name.to_string()));
            }
        }
        Ok(())
    }

    /// A view over tenants' rows has a name that no policy opens.
    fn view(&self) -> Result<(), Denial> {
        let view = self.statement.at("view");
        self.is_permanent(view)?;
        let known = self.to_be_made(view)?;
        if known.rule.is_none() {
            return Ok(());
        }
        let body = classify::body(self.statement.at("query"), Kind::SchemaChange(None), self.env)?;
        let mut rules = false;
        walk(self.statement.at("query"), &mut |met| {
            if let Met::Read(relation) = met {
                rules |= self.known(relation)?.rule.is_none_or(|rule| !rule.columns.is_empty());
            }
            Ok(())
        })?;
        if body.protected || rules {
            return Err(Denial::of(DenialCode::LeakPossible, known.name.to_string()));
        }
        Ok(())
    }

    /// Functions, operators and types, wherever they stand; no column that is closed or masked.
    fn expressions(&self) -> Result<(), Denial> {
        let relation = self.statement.at("relation");
        let closed = if relation.is("RangeVar") { self.known(relation)?.rule } else { None };
        self.statement.walk(&mut |node| {
            let function = node.at("funcname").name_parts();
            match node.kind() {
                "FuncCall"
                    if matches!(
                        function.as_deref(),
                        Some(["nextval"] | ["pg_catalog", "nextval"])
                    ) =>
                {
                    Ok(())
                }
                "ColumnRef" => {
                    let name = node.at("fields").items().last().and_then(Tree::text);
                    match (name, &closed) {
                        (Some(name), Some(rule)) if rule.columns.contains_key(name) => {
                            Err(Denial::of(DenialCode::ColumnDenied, name))
                        }
                        _ => Ok(()),
                    }
                }
                "FuncCall" | "A_Expr" | "SubLink" | "SortBy" | "TypeName" | "XmlExpr"
                | "CaseExpr" | "JoinExpr" => classify::judge_node(node, self.env),
                kind if kind == self.statement.kind() => Ok(()),
                kind if kind.ends_with("Stmt") && kind != "SelectStmt" => Err(self.refused()),
                _ => Ok(()),
            }
        })?;
        notation::judge(self.statement, self.env)?;
        implied::judge_casts(self.statement, self.env)
    }
}

/// A relation by its full name, and the policy's rule for it.
struct Known {
    name: RelationName,
    rule: Option<std::sync::Arc<TablePolicy>>,
}

impl Known {
    /// Whether no rule rests on the column.
    fn frees(&self, column: &str) -> Result<(), Denial> {
        let Some(rule) = &self.rule else { return Ok(()) };
        let own = match &rule.protection {
            Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. } => {
                Some(column.as_str())
            }
            Protection::Shared | Protection::Deny => None,
        };
        let masks = rule.columns.values().filter_map(|rule| match rule {
            ColumnRule::Mask { expression, .. } => Some(expression),
            ColumnRule::Deny => None,
        });
        let named = |text: &str| super::expression::columns_of(text);
        let held = own == Some(column)
            || rule.columns.contains_key(column)
            || rule.condition.iter().chain(masks).any(|expression| {
                named(&expression.text).is_none_or(|names| names.iter().any(|name| name == column))
            });
        if held { Err(Denial::of(DenialCode::ColumnDenied, column)) } else { Ok(()) }
    }
}
