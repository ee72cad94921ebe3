//! Whether one verdict holds for every text that differs in its literals only. Layer 2.
//!
//! SECURITY. The text is decided once more with parameters where the literals were ([`Split::blind`]).
//! That decision cannot depend on a value, for there is none to see: what it lets pass, with guards
//! proved by the checker, holds for all values. A form is made of it only if besides
//!
//! - the statement is one plain SELECT, INSERT, UPDATE or DELETE that reads no catalog;
//! - PostgreSQL's grammar reads the two texts alike, a constant of the literal's value for each
//!   parameter and nothing else different, so that the two are one statement;
//! - each of these constants stands where it is nothing but a value: one side of an operator, IN,
//!   BETWEEN, a written value, LIMIT, OFFSET; never beside the tenant's column, nor written to it;
//! - the decision on the literals came out the same, and the form filled with them gives its text.

use super::check::Form;
use super::codes;
use super::env::{Env, Resolved};
use super::literals::{Literal, Split};
use super::tree::Tree;
use super::{DECIDING_STACK, STACK_NEEDED, parse};
use crate::policy::Protection;
use crate::sql::{Decided, Kind, Limits, Residue};

/// The form of a text that was decided; `None` when its verdict may not be shared.
pub fn learn(
    split: &Split<'_>,
    text: &str,
    decided: &[Decided],
    env: Env<'_>,
    limits: Limits,
) -> Option<Form> {
    let [known] = decided else { return None };
    match known.kind {
        Kind::Select | Kind::Insert | Kind::Update | Kind::Delete => {}
        Kind::Merge
        | Kind::Explain
        | Kind::Begin(_)
        | Kind::End(_)
        | Kind::Transaction
        | Kind::Setting
        | Kind::Prepare(_)
        | Kind::Execute(_)
        | Kind::Deallocate(_)
        | Kind::Cursor
        | Kind::CopyOut
        | Kind::CopyIn(_)
        | Kind::SchemaChange(_)
        | Kind::Truncate
        | Kind::Temporary(_)
        | Kind::Listen(_)
        | Kind::Notify
        | Kind::Discard
        | Kind::Empty => return None,
    }
    let blind = split.blind();
    let decided = super::decide(&blind, env.policy, env.catalog, env.principal, limits).ok()?;
    let [unseeing] = decided.as_slice() else { return None };
    if known.would_deny.is_some() || unseeing.would_deny.is_some() {
        return None;
    }
    // All that is known of it but the texts.
    let alike = known.residue == Residue::Nothing
        && Decided {
            guarded: known.guarded.clone(),
            fingerprint: known.fingerprint.clone(),
            ..unseeing.clone()
        } == *known;
    let columns = Columns::of(known, env)?;
    let values = stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || {
        let (parsed, parsed_blind) = (parse(text).ok()?, parse(&blind).ok()?);
        let (mut print, mut print_blind) = (String::new(), String::new());
        let tree = Tree::of(parsed.stmts().next()?, &mut print).ok()?;
        let tree_blind = Tree::of(parsed_blind.stmts().next()?, &mut print_blind).ok()?;
        let mut places = Places { columns: &columns, found: 0 };
        (same_but(&tree, &tree_blind, split.literals()) && places.visit(&tree_blind))
            .then_some(places.found)
    })?;
    let form = Form::of(&unseeing.guarded, split.literals())?;
    let gives = form.fill(split.literals())? == known.guarded;
    (alike && gives && values == split.literals().len()).then_some(form)
}

/// Whether the trees are equal but for parameters, each of which is the literal's constant.
fn same_but(tree: &Tree<'_>, blind: &Tree<'_>, literals: &[Literal<'_>]) -> bool {
    match (tree, blind) {
        (Tree::Node("A_Const", _), Tree::Node("ParamRef", _)) => {
            let literal = blind
                .at("number")
                .number()
                .and_then(|number| usize::try_from(number - 1).ok())
                .and_then(|index| literals.get(index));
            literal.is_some_and(|literal| is_constant(tree, literal))
        }
        (Tree::Node(kind, fields), Tree::Node(other, others)) => {
            kind == other
                && fields.len() == others.len()
                && fields.iter().zip(others).all(|((name, field), (other_name, other))| {
                    name == other_name && same_but(field, other, literals)
                })
        }
        (Tree::List(items), Tree::List(others)) => {
            items.len() == others.len()
                && items.iter().zip(others).all(|(item, other)| same_but(item, other, literals))
        }
        (tree, blind) => tree == blind,
    }
}

fn is_constant(constant: &Tree<'_>, literal: &Literal<'_>) -> bool {
    let value = constant.at("val");
    match (value.kind(), literal.string()) {
        ("String", Some(text)) => value.at("").text() == Some(text.as_str()),
        ("Integer", None) => match value.at("") {
            Tree::Number(number) => number.to_string() == literal.text(),
            Tree::None | Tree::Bool(_) | Tree::Text(_) | Tree::List(_) | Tree::Node(..) => false,
        },
        ("Float", None) => value.at("").text() == Some(literal.text()),
        _ => false,
    }
}

/// The columns that tell whose a row is, in the statement's relations.
struct Columns {
    /// No literal stands beside these.
    tenant: Vec<String>,
    /// No literal is written to these.
    owning: Vec<String>,
}

impl Columns {
    /// `None` when the statement reads a catalog: there, what is asked for may decide.
    fn of(decided: &Decided, env: Env<'_>) -> Option<Self> {
        let mut columns = Self { tenant: Vec::new(), owning: Vec::new() };
        for used in &decided.relations {
            let (schema, name) = (&used.relation.schema, &used.relation.name);
            let Ok(Resolved::Table(table)) = env.resolve(None, Some(schema), name) else {
                return None;
            };
            match &table.policy.protection {
                Protection::Tenant { column, .. } => {
                    columns.tenant.push(column.clone());
                    columns.owning.push(column.clone());
                }
                Protection::TenantThrough { column, .. } => columns.owning.push(column.clone()),
                Protection::Shared => {}
                Protection::Deny => return None,
            }
        }
        Some(columns)
    }
}

/// Counts the parameters that are nothing but values.
struct Places<'c> {
    columns: &'c Columns,
    found: usize,
}

impl Places<'_> {
    /// Whether every parameter in the tree is a value.
    fn visit(&mut self, tree: &Tree<'_>) -> bool {
        match tree.kind() {
            // Met anywhere but in the places below.
            "ParamRef" => false,
            "A_Expr" => self.operator(tree),
            "InsertStmt" => self.insert(tree),
            "UpdateStmt" | "OnConflictClause" => self.assignments(tree),
            "SelectStmt" => tree.fields().iter().all(|(name, field)| match *name {
                "limit_count" | "limit_offset" => self.value(field) || self.visit(field),
                _ => self.visit(field),
            }),
            _ => tree.children().all(|child| self.visit(child)),
        }
    }

    /// Counts a value: a parameter, one cast to a plain type, an array of such.
    fn value(&mut self, tree: &Tree<'_>) -> bool {
        match tree.kind() {
            "ParamRef" => {
                self.found += 1;
                true
            }
            "TypeCast" => is_plain_cast(tree) && self.value(tree.at("arg")),
            "A_ArrayExpr" => {
                let items = tree.at("elements").items();
                !items.is_empty() && items.iter().all(|item| self.value(item))
            }
            _ => false,
        }
    }

    /// Values and whatever else stands in one place.
    fn operand(&mut self, tree: &Tree<'_>) -> bool {
        let before = self.found;
        if self.value(tree) {
            return true;
        }
        self.found = before;
        self.visit(tree)
    }

    fn operator(&mut self, tree: &Tree<'_>) -> bool {
        let plain = match tree.at("kind").number() {
            Some(
                codes::OP
                | codes::OP_ANY
                | codes::OP_ALL
                | codes::IN
                | codes::BETWEEN
                | codes::NOT_BETWEEN
                | codes::DISTINCT
                | codes::NOT_DISTINCT,
            ) => true,
            Some(_) | None => false,
        };
        if !plain {
            return tree.children().all(|child| self.visit(child));
        }
        let before = self.found;
        let fits = [tree.at("lexpr"), tree.at("rexpr")].into_iter().all(|side| match side {
            Tree::List(items) => items.iter().all(|item| self.operand(item)),
            side => self.operand(side),
        });
        fits && (self.found == before || !self.names(tree, &self.columns.tenant))
    }

    fn names(&self, tree: &Tree<'_>, columns: &[String]) -> bool {
        let own = tree.is("ColumnRef")
            && tree
                .at("fields")
                .items()
                .last()
                .and_then(Tree::text)
                .is_some_and(|name| columns.iter().any(|column| column == name));
        own || tree.children().any(|child| self.names(child, columns))
    }

    fn insert(&mut self, tree: &Tree<'_>) -> bool {
        let columns: Vec<Option<&str>> =
            tree.at("cols").items().iter().map(|column| column.at("name").text()).collect();
        tree.fields().iter().all(|(name, field)| {
            let rows = field.at("values_lists").items();
            if *name != "select_stmt" || rows.is_empty() {
                return self.visit(field);
            }
            let written = rows.iter().all(|row| {
                row.items().iter().enumerate().all(|(at, value)| {
                    let before = self.found;
                    let fits = self.operand(value);
                    fits && (self.found == before || self.may_write(columns.get(at).copied()))
                })
            });
            let others = field.fields().iter().filter(|(name, _)| *name != "values_lists");
            written
                && others.into_iter().all(|(name, field)| match *name {
                    "limit_count" | "limit_offset" => field.is_absent(),
                    _ => self.visit(field),
                })
        })
    }

    /// Whether a literal may be written to the column of that name; one without a name is unknown.
    fn may_write(&self, column: Option<Option<&str>>) -> bool {
        column
            .flatten()
            .is_some_and(|name| !self.columns.owning.iter().any(|owning| owning == name))
    }

    fn assignments(&mut self, tree: &Tree<'_>) -> bool {
        tree.fields().iter().all(|(name, field)| {
            if *name != "target_list" {
                return self.visit(field);
            }
            field.items().iter().all(|item| {
                let before = self.found;
                let fits = self.operand(item.at("val"));
                let plain = item.at("indirection").is_absent();
                fits && (self.found == before
                    || plain && self.may_write(Some(item.at("name").text())))
            })
        })
    }
}

/// A cast to a built-in type whose input says nothing about the database.
fn is_plain_cast(tree: &Tree<'_>) -> bool {
    const PLAIN: [&str; 18] = [
        "int2",
        "int4",
        "int8",
        "numeric",
        "float4",
        "float8",
        "text",
        "varchar",
        "bpchar",
        "uuid",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "json",
        "jsonb",
        "bytea",
    ];
    let name = tree.at("type_name");
    let parts = name.at("names").name_parts();
    name.at("typmods").is_absent()
        && match parts.as_deref() {
            Some([name] | ["pg_catalog", name]) => PLAIN.contains(name),
            Some(_) | None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{catalog, policy, principal};
    use super::super::{decide, form, split};
    use crate::sql::Limits;

    /// What is sent for each text by the form of the first; `None` when it has no form.
    fn shared(texts: &[&str]) -> Option<Vec<String>> {
        let (policy, catalog, principal) = (policy(), catalog(), principal());
        let (first, limits) = (texts[0], Limits::default());
        let decided = decide(first, &policy, &catalog, &principal, limits).unwrap();
        let split_first = split(first)?;
        let form = form(&split_first, first, &decided, &policy, &catalog, &principal, limits)?;
        let sent = texts.iter().map(|text| {
            let split_other = split(text).unwrap();
            assert_eq!(split_other.shape(), split_first.shape(), "{text}");
            let guarded = form.fill(split_other.literals()).unwrap();
            let whole = decide(text, &policy, &catalog, &principal, limits).unwrap();
            assert_eq!(whole.len(), 1);
            assert_eq!(guarded, whole[0].guarded, "{text}");
            assert_eq!(whole[0].kind, decided[0].kind);
            assert_eq!(whole[0].relations, decided[0].relations);
            assert_eq!(whole[0].tenant_columns, decided[0].tenant_columns);
            assert_eq!(whole[0].fingerprint, decided[0].fingerprint, "{text}");
            assert_eq!(
                (whole[0].protected, whole[0].rewritten),
                (decided[0].protected, decided[0].rewritten)
            );
            guarded.text().to_owned()
        });
        Some(sent.collect())
    }

    #[test]
    fn one_verdict_holds_for_all_values() {
        for texts in [
            &["SELECT name FROM customers WHERE id = 1", "SELECT name FROM customers WHERE id = 0"]
                [..],
            &[
                "SELECT name FROM customers WHERE email = 'x'",
                "SELECT name FROM customers WHERE email = ''",
                "SELECT name FROM customers WHERE email = '''; DROP TABLE customers; --'",
                "SELECT name FROM customers WHERE email = '$1 /* \" $$'",
                "SELECT name FROM customers WHERE email = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'",
                "SELECT name FROM customers WHERE email = 'é漢 %_'",
            ],
            &[
                "SELECT name FROM regional WHERE region = 'us' AND id > 5",
                "SELECT name FROM regional WHERE region = 'eu' AND id > 5",
            ],
            &[
                "SELECT c.id FROM customers c JOIN orders o ON o.customer_id = c.id AND o.id > 1 WHERE c.id IN (1, 2) AND credit + 1 > 2 LIMIT 5 OFFSET 10",
                "SELECT c.id FROM customers c JOIN orders o ON o.customer_id = c.id AND o.id > 0 WHERE c.id IN (7, 7) AND credit + 0 > 0 LIMIT 0 OFFSET 0",
            ],
            &[
                "UPDATE customers SET credit = credit + -5, name = 'x' WHERE id = 3",
                "UPDATE customers SET credit = credit + -1, name = 'y' WHERE id = 0",
            ],
            &[
                "INSERT INTO customers (email, credit) VALUES ('a', 1), ('b', 2)",
                "INSERT INTO customers (email, credit) VALUES ('', 0), ('''', 9)",
            ],
            &[
                "INSERT INTO orders (customer_id, total) VALUES (1, 2.5) RETURNING id",
                "INSERT INTO orders (customer_id, total) VALUES (0, 0.0) RETURNING id",
            ],
            &[
                "INSERT INTO customers (email) SELECT note FROM orders WHERE id = 1",
                "INSERT INTO customers (email) SELECT note FROM orders WHERE id = 2",
            ],
            &[
                "DELETE FROM customers WHERE id BETWEEN 1 AND 5",
                "DELETE FROM customers WHERE id BETWEEN 0 AND 0",
            ],
            &[
                "SELECT id FROM orders WHERE id = 1 AND note = '2020-01-01'::text",
                "SELECT id FROM orders WHERE id = 0 AND note = 'x'::text",
            ],
            &[
                "SELECT id FROM orders WHERE id = ANY (ARRAY[1,2])",
                "SELECT id FROM orders WHERE id = ANY (ARRAY[0,0])",
            ],
        ] {
            let known = decide(texts[0], &policy(), &catalog(), &principal(), Limits::default());
            assert!(known.is_ok(), "{}: {known:?}", texts[0]);
            assert!(shared(texts).is_some(), "{}", texts[0]);
        }
    }

    #[test]
    fn a_verdict_that_could_depend_on_a_literal_is_not_shared() {
        for text in [
            // The tenant's column.
            "SELECT name FROM customers WHERE tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'",
            "SELECT name FROM customers c WHERE c.tenant_id <> 'x'::uuid AND id = 1",
            "SELECT name FROM customers WHERE coalesce(tenant_id, tenant_id) = 'x'",
            "INSERT INTO customers (tenant_id, email) VALUES ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'b')",
            "INSERT INTO customers VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'e')",
            "UPDATE customers SET tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa' WHERE id = 1",
            "INSERT INTO items (order_id, sku) VALUES (1, 'x')",
            // A catalog.
            "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'",
            "SELECT relname FROM pg_class WHERE relname = 'x'",
            // No plain value.
            "SELECT id FROM customers WHERE credit = 1 AND name LIKE 'x%' ESCAPE '!'",
            "SELECT (1, 2) = (1, 2)",
            "VALUES (1, 2)",
            // Other kinds of statements.
            "EXPLAIN SELECT * FROM customers WHERE id = 1",
            "PREPARE p AS SELECT * FROM customers WHERE id = 1",
            "DECLARE c CURSOR FOR SELECT * FROM customers WHERE id = 1",
            "SET statement_timeout = 5",
        ] {
            let decided = decide(text, &policy(), &catalog(), &principal(), Limits::default());
            assert!(decided.is_ok(), "{text}: {decided:?}");
            let fixed = split(text).is_none_or(|split| {
                // What stays in the shape is part of what was decided.
                !split.literals().is_empty() && shared(&[text]).is_none()
            });
            let untouched = split(text).is_some_and(|split| split.blind().contains("LIKE 'x%'"));
            assert!(fixed || untouched, "{text}");
        }
    }
}
