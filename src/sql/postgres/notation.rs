//! Attribute notation: `value.name` calls the function `name(value)` where the value has no column of that
//! name (manual, 38.5.3), without a call for the lists of functions to judge. Layer 2.
//!
//! Every field is judged: each one behind an expression, the last one of a column's name. It passes when it is
//! certainly a column, when no function has its name, or when it only computes. What is not known to be a
//! column is none: columns win in PostgreSQL only where they are.

use std::cell::Cell;

use super::env::{Env, Resolved};
use super::functions;
use super::implied;
use super::scope::{bare_name, is_statement, visible_name};
use super::tree::Tree;
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// Range items and output columns that are looked at to find one column, at most.
const MAX_STEPS: u32 = 10_000;
/// Sub-selects and CTEs within each other, at most.
const MAX_DEPTH: u32 = 24;
/// Columns that every row of a table has.
const SYSTEM_COLUMNS: &[&str] = &["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// Judges every field in a statement or an expression.
///
/// # Errors
/// HR1005 for the function that a field would call; HR1010 and HR1007 where it would be given a row with
/// closed columns.
pub fn judge(tree: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    Notation { statement: tree, env, steps: Cell::new(0) }.descend(tree, None)
}

struct Notation<'t> {
    statement: &'t Tree<'t>,
    env: Env<'t>,
    steps: Cell<u32>,
}

/// The statements around an expression: the rows of each may be named there.
#[derive(Clone, Copy)]
struct Around<'s> {
    outer: Option<&'s Around<'s>>,
    statement: &'s Tree<'s>,
}

impl<'t> Notation<'t> {
    fn descend(&self, tree: &'t Tree<'t>, around: Option<&Around<'t>>) -> Result<(), Denial> {
        match tree.kind() {
            "ColumnRef" => match tree.at("fields").items() {
                [.., qualifier, field] => match (qualifier.text(), field.text()) {
                    (Some(qualifier), Some(field)) => self.judge_column(qualifier, field, around),
                    // `row.*`
                    (Some(_) | None, _) => Ok(()),
                },
                // A bare name is a column, or a whole row.
                [_] | [] => Ok(()),
            },
            "A_Indirection" => {
                let mut fields = tree.at("indirection").items().iter().filter_map(Tree::text);
                fields.try_for_each(|field| self.judge_call(field))?;
                tree.children().try_for_each(|child| self.descend(child, around))
            }
            kind if is_statement(kind) => {
                // What WITH holds does not see the rows of its statement.
                self.descend(tree.at("with_clause"), around)?;
                let around = Around { outer: around, statement: tree };
                let mut fields = tree.fields().iter().filter(|(name, _)| *name != "with_clause");
                fields.try_for_each(|(_, value)| self.descend(value, Some(&around)))
            }
            _ => tree.children().try_for_each(|child| self.descend(child, around)),
        }
    }

    /// Whether a function of `pg_catalog` that takes one value has this name. Casts (`oid` of an integer) are
    /// left out: `value::oid` does no less.
    fn is_built_in(&self, name: &str) -> bool {
        let read = &self.env.catalog.attribute_functions;
        if read.is_empty() { functions::may_take_one_value(name) } else { read.contains(name) }
    }

    /// Whether a type outside `pg_catalog` has this name, to which a row could be cast: a domain over it.
    fn is_user_type(&self, name: &str) -> bool {
        let catalog = self.env.catalog;
        let mut schemas = catalog.search_path.iter();
        schemas.any(|schema| catalog.user_types.contains(&(schema.clone(), name.to_owned())))
    }

    /// `qualifier.field`
    fn judge_column(
        &self,
        qualifier: &str,
        field: &str,
        around: Option<&Around<'t>>,
    ) -> Result<(), Denial> {
        let is_function = self.is_built_in(field) || self.env.is_user_function(field);
        if !is_function && !self.is_user_type(field) {
            return Ok(());
        }
        let rows = rows_called(qualifier, around);
        if !rows.is_empty() && rows.iter().all(|row| self.has(row, field, 0)) {
            return Ok(());
        }
        // SECURITY: a function would be given the whole row.
        let closed = rows.iter().find_map(|row| self.closed(row, is_function));
        if let Some(code) = closed
            && !mutant::on("attribute-row")
        {
            return Err(Denial::of(code, qualifier));
        }
        let certain = !rows.is_empty() && rows.iter().all(|row| self.is_table(row));
        if certain && functions::is_aggregate(field) {
            return Err(Denial::of(DenialCode::Function, field));
        }
        self.judge_call(field)
    }

    /// A field that may be a call.
    fn judge_call(&self, field: &str) -> Result<(), Denial> {
        implied::judge_attribute(field, self.env)?;
        let (built_in, users) = (self.is_built_in(field), self.env.is_user_function(field));
        let open = (!built_in || functions::computes(field))
            && (!users || self.env.function(&[field]).is_ok());
        if open || mutant::on("attribute-call") {
            Ok(())
        } else {
            Err(Denial::of(DenialCode::Function, field))
        }
    }

    /// What a mention of the whole row is, where it has closed or masked columns. (No type of a user is made of
    /// a catalog's row.)
    fn closed(&self, row: &Tree<'_>, is_function: bool) -> Option<DenialCode> {
        match self.resolve(row)? {
            Resolved::Catalog { closed, .. } => {
                (is_function && !closed.is_empty()).then_some(DenialCode::Catalog)
            }
            Resolved::Table(table) => {
                let closed = table.denied_columns().next().is_some() || table.is_masked(self.env);
                closed.then_some(DenialCode::ColumnDenied)
            }
        }
    }

    fn is_table(&self, row: &Tree<'_>) -> bool {
        matches!(self.resolve(row), Some(Resolved::Table(table)) if table.relation.is_some())
    }

    /// The relation that a `RangeVar` names, if it is not a CTE.
    fn resolve(&self, row: &Tree<'_>) -> Option<Resolved<'t>> {
        let name = row.at("relname").text()?;
        self.env.resolve(row.at("catalogname").text(), row.at("schemaname").text(), name).ok()
    }

    /// Whether a FROM item certainly has the column.
    fn has(&self, item: &'t Tree<'t>, column: &str, depth: u32) -> bool {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS || depth > MAX_DEPTH {
            return false;
        }
        let renamed = item.at("alias").at("colnames").items();
        if renamed.iter().any(|name| name.text() == Some(column)) {
            return true;
        }
        match item.kind() {
            // The columns of USING, under an alias of theirs.
            "" => names_of(item).any(|name| name == column),
            "RangeVar" => self.relation_has(item, column, renamed.len(), depth),
            "RangeTableSample" => self.has(item.at("relation"), column, depth + 1),
            "RangeSubselect" => {
                renamed.is_empty() && self.query_has(item.at("subquery"), column, depth + 1)
            }
            "RangeFunction" => {
                let own = item.at("functions").items().iter().flat_map(Tree::items);
                let listed = own.flat_map(Tree::items).chain(item.at("coldeflist").items());
                renamed.is_empty() && names(listed, column)
            }
            "RangeTableFunc" => {
                renamed.is_empty() && names(item.at("columns").items().iter(), column)
            }
            "JoinExpr" => {
                renamed.is_empty()
                    && (self.has(item.at("larg"), column, depth + 1)
                        || self.has(item.at("rarg"), column, depth + 1))
            }
            _ => false,
        }
    }

    /// A relation, or what WITH calls so anywhere in the statement.
    fn relation_has(&self, item: &'t Tree<'t>, column: &str, renamed: usize, depth: u32) -> bool {
        let mut queries = Vec::new();
        if let Some(name) = bare_name(item) {
            queries_called(name, self.statement, &mut queries);
        }
        let relation = match self.resolve(item) {
            Some(Resolved::Table(table)) => table.relation.map(|relation| {
                let own = relation.columns.iter().skip(renamed);
                let system = table.has_system_columns() && SYSTEM_COLUMNS.contains(&column);
                system || own.into_iter().any(|own| own.name == column)
            }),
            Some(Resolved::Catalog { .. }) => Some(false),
            None => None,
        };
        let among = |query: &&'t Tree<'t>| {
            let listed = query.at("aliascolnames").items();
            match listed {
                [] => renamed == 0 && self.query_has(query.at("ctequery"), column, depth + 1),
                listed => listed.iter().skip(renamed).any(|name| name.text() == Some(column)),
            }
        };
        match relation {
            Some(has) => has && queries.iter().all(among),
            None => !queries.is_empty() && queries.iter().all(among),
        }
    }

    /// Whether a query certainly gives the column.
    fn query_has(&self, query: &'t Tree<'t>, column: &str, depth: u32) -> bool {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS || depth > MAX_DEPTH {
            return false;
        }
        if query.at("larg").is("SelectStmt") {
            return self.query_has(query.at("larg"), column, depth + 1);
        }
        let (outputs, from): (_, Vec<&Tree<'_>>) = if query.is("SelectStmt") {
            (query.at("target_list"), query.at("from_clause").items().iter().collect())
        } else {
            (query.at("returning_clause").at("exprs"), vec![query.at("relation")])
        };
        outputs.items().iter().any(|output| match output.at("name").text() {
            Some(name) => name == column,
            None => match output.at("val").at("fields").items() {
                [star] if star.is("A_Star") => {
                    from.iter().any(|item| self.has(item, column, depth + 1))
                }
                [.., row, star] if star.is("A_Star") => {
                    let mut rows = Vec::new();
                    from.iter().for_each(|item| direct(item, row.text(), &mut rows));
                    rows.iter().any(|row| self.has(row, column, depth + 1))
                }
                _ => name_of(output.at("val")).is_some_and(|(name, _)| name == column),
            },
        })
    }
}

/// The rows that a name may stand for: of the statements around, whichever PostgreSQL sees from there.
fn rows_called<'t>(name: &str, around: Option<&Around<'t>>) -> Vec<&'t Tree<'t>> {
    let levels = || std::iter::successors(around, |level| level.outer).map(|level| level.statement);
    let targets = || levels().map(|level| level.at("relation")).filter(|row| row.is("RangeVar"));
    let mut found = Vec::new();
    for level in levels() {
        for field in ["from_clause", "using_clause", "relation", "source_relation"] {
            items_called(name, level.at(field), &mut found);
        }
    }
    match name {
        "excluded" => found.extend(targets()),
        // The rows before and after a change, where nothing else is called so.
        "old" | "new" if found.is_empty() => found.extend(targets()),
        _ => {}
    }
    found
}

fn items_called<'t>(name: &str, item: &'t Tree<'t>, found: &mut Vec<&'t Tree<'t>>) {
    let alias = |field: &str| item.at(field).at("aliasname").text() == Some(name);
    match item.kind() {
        "" => item.items().iter().for_each(|item| items_called(name, item, found)),
        "RangeTableSample" => items_called(name, item.at("relation"), found),
        "RangeVar" if visible_name(item) == Some(name) => found.push(item),
        "JoinExpr" => {
            if alias("join_using_alias") {
                found.push(item.at("using_clause"));
            }
            if alias("alias") {
                found.push(item);
            }
            items_called(name, item.at("larg"), found);
            items_called(name, item.at("rarg"), found);
        }
        _ if alias("alias") => found.push(item),
        _ => {}
    }
}

/// The items of one FROM that go by a name.
fn direct<'t>(item: &'t Tree<'t>, name: Option<&str>, found: &mut Vec<&'t Tree<'t>>) {
    let alias = item.at("alias").at("aliasname").text();
    let visible = if item.is("RangeVar") { visible_name(item) } else { alias };
    match item.kind() {
        "RangeTableSample" => direct(item.at("relation"), name, found),
        "JoinExpr" if alias.is_none() => {
            direct(item.at("larg"), name, found);
            direct(item.at("rarg"), name, found);
        }
        _ if visible.is_some() && visible == name => found.push(item),
        _ => {}
    }
}

/// What WITH calls by a name, anywhere.
fn queries_called<'t>(name: &str, tree: &'t Tree<'t>, found: &mut Vec<&'t Tree<'t>>) {
    if tree.is("CommonTableExpr") && tree.at("ctename").text() == Some(name) {
        found.push(tree);
    }
    tree.children().for_each(|child| queries_called(name, child, found));
}

fn names_of<'t>(list: &'t Tree<'t>) -> impl Iterator<Item = &'t str> {
    list.items().iter().filter_map(Tree::text)
}

fn names<'t>(mut definitions: impl Iterator<Item = &'t Tree<'t>>, column: &str) -> bool {
    definitions.any(|definition| definition.at("colname").text() == Some(column))
}

/// How firmly an expression has a name: a type's name gives way to that of what is cast.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Firmness {
    Weak,
    Firm,
}

/// The name that PostgreSQL gives to an output without one (`FigureColname`), where it is told here.
fn name_of<'t>(value: &'t Tree<'t>) -> Option<(&'t str, Firmness)> {
    let last = |names: &'t Tree<'t>| names_of(names).last();
    let firm = |name: &'t str| (name, Firmness::Firm);
    match value.kind() {
        "ColumnRef" => last(value.at("fields")).map(firm),
        "FuncCall" => last(value.at("funcname")).map(firm),
        "A_Indirection" => {
            last(value.at("indirection")).map(firm).or_else(|| name_of(value.at("arg")))
        }
        "CollateClause" => name_of(value.at("arg")),
        "TypeCast" => match name_of(value.at("arg")) {
            Some((name, Firmness::Firm)) => Some(firm(name)),
            Some((_, Firmness::Weak)) | None => {
                last(value.at("type_name").at("names")).map(|name| (name, Firmness::Weak))
            }
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Catalog, Column, Function};
    use crate::error::DenialCode;
    use crate::ids::RelationName;
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{catalog, policy, principal};

    /// With a function of a user, and the functions of a server read or not.
    fn world(read: bool) -> Catalog {
        let mut catalog = catalog();
        for name in ["leak_row", "full_name"] {
            catalog.functions.push(Function {
                schema: "public".to_owned(),
                name: name.to_owned(),
                security_definer: true,
                language: "sql".to_owned(),
                hidden: false,
            });
        }
        if read {
            let names = "ts_stat lo_get pg_terminate_backend pg_stat_get_backend_activity \
                         pg_advisory_lock pg_sequence_last_value pg_relation_size pg_get_viewdef \
                         pg_sleep current_setting pg_ls_dir lo_unlink upper to_jsonb count nextval \
                         textin table_to_xml pg_get_userbyid set_config";
            catalog.attribute_functions =
                names.split_ascii_whitespace().map(str::to_owned).collect();
        }
        let orders = catalog.relations.get_mut(&RelationName::new("public", "orders")).unwrap();
        for name in ["lo_get", "full_name"] {
            orders.columns.push(Column {
                name: name.to_owned(),
                type_schema: "pg_catalog".to_owned(),
                type_name: "text".to_owned(),
                ..Column::default()
            });
        }
        catalog
    }

    fn verdict(sql: &str, catalog: &Catalog) -> Option<DenialCode> {
        let decided = decide(sql, &policy(), catalog, &principal(), Limits::default());
        decided.err().map(|denial| denial.code)
    }

    #[test]
    fn a_field_that_calls_what_may_not_be_called_is_refused() {
        for read in [false, true] {
            let catalog = world(read);
            for sql in [
                "SELECT ('SELECT 1'::text).ts_stat",
                "SELECT (424299::oid).lo_get",
                "SELECT u.lo_get FROM unnest(ARRAY[424299::oid]) u",
                "SELECT public.u.lo_get FROM unnest(ARRAY[424299::oid]) u",
                "PREPARE p(text) AS SELECT ($1).ts_stat",
                "EXECUTE p(('SELECT 1'::text).ts_stat)",
                "SELECT (1).pg_terminate_backend",
                "SELECT g.pg_stat_get_backend_activity FROM generate_series(1, 4) g",
                "SELECT (77::int8).pg_advisory_lock",
                "SELECT ('public.orders'::regclass).pg_sequence_last_value",
                "SELECT ('public.orders'::regclass).pg_relation_size",
                "SELECT ('public.orders'::regclass).pg_get_viewdef",
                "SELECT ('public.orders'::regclass).nextval",
                "SELECT (1).pg_sleep",
                "SELECT ('port'::text).current_setting",
                "SELECT ('/'::text).pg_ls_dir",
                "SELECT (1::oid).lo_unlink",
                "SELECT (k).leak_row FROM currencies k",
                "SELECT (k).leak_row.upper FROM currencies k LIMIT 1",
                "SELECT ((k).leak_row).upper FROM currencies k LIMIT 1",
                "SELECT (ARRAY[k])[1].leak_row FROM currencies k",
                "SELECT k.leak_row FROM currencies k",
                "SELECT public.currencies.leak_row FROM public.currencies",
                "SELECT (SELECT k FROM currencies k LIMIT 1).leak_row",
                "SELECT v.ts_stat FROM (VALUES ('SELECT 1'::text)) v",
                "SELECT 1 FROM customers c WHERE (c.email).ts_stat IS NOT NULL",
                "SELECT 1 FROM customers c ORDER BY (c.email).ts_stat",
                "SELECT count(*) FILTER (WHERE ('x'::text).ts_stat IS NULL) FROM customers",
                "INSERT INTO customers (email) VALUES (('x'::text).ts_stat::text)",
                "UPDATE customers SET email = ('x'::text).ts_stat::text",
                "DELETE FROM customers RETURNING ('x'::text).ts_stat",
                "INSERT INTO customers (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET email = (excluded.email).ts_stat::text",
                "SELECT g FROM generate_series(1, (1::oid).lo_get::int) g",
                "SELECT 1 LIMIT (1::oid).lo_get::int",
                "COPY (SELECT ('x'::text).ts_stat) TO STDOUT",
                "COPY customers (email) FROM STDIN WHERE (email).ts_stat IS NULL",
                "DECLARE c CURSOR FOR SELECT ('x'::text).ts_stat",
                "EXPLAIN SELECT ('x'::text).ts_stat",
                "CREATE TEMP TABLE t AS SELECT ('x'::text).ts_stat",
                "SELECT c.count FROM customers c",
                // The name is a column, but of another row of the same name.
                "SELECT o.lo_get FROM unnest(ARRAY[1::oid]) o WHERE EXISTS (SELECT FROM orders o)",
                "WITH o AS (SELECT 1::oid) SELECT x.lo_get FROM o x, (SELECT 1 AS lo_get) o",
                "SELECT s.lo_get FROM (SELECT 1::oid) s(a)",
                "SELECT s.lo_get FROM (SELECT lo_get FROM orders) s(a)",
                "SELECT x.lo_get FROM orders x(a, b, c, d, e, f, g)",
            ] {
                assert_eq!(verdict(sql, &catalog), Some(DenialCode::Function), "{read} {sql}");
            }
        }
        assert_eq!(verdict("SELECT ('x'::text).textin", &world(true)), Some(DenialCode::Function));
    }

    #[test]
    fn a_field_that_is_a_column_or_only_computes_is_let_through() {
        for read in [false, true] {
            let catalog = world(read);
            for sql in [
                "SELECT ('a'::text).upper",
                "SELECT (x).f1, (x).\"Any\", (x).nosuch FROM currencies x",
                "SELECT o.lo_get, public.orders.lo_get FROM orders, orders o",
                "SELECT o.lo_get FROM orders o FOR UPDATE OF o",
                "SELECT o.full_name FROM orders o JOIN currencies k ON k.code = o.full_name",
                "SELECT s.lo_get FROM (SELECT * FROM orders) s",
                "SELECT s.lo_get FROM (SELECT o.* FROM currencies, orders o) s",
                "SELECT s.lo_get FROM (SELECT lo_get::text FROM orders UNION SELECT 'x') s",
                "SELECT s.lo_get FROM (SELECT 1 AS lo_get) s",
                "SELECT s.lo_get FROM (VALUES (1)) s(lo_get)",
                "SELECT s.lo_get FROM unnest(ARRAY[1]) s(lo_get)",
                "SELECT s.lo_get FROM jsonb_to_record('{}') AS s(lo_get int)",
                "SELECT j.lo_get FROM (orders JOIN currencies ON true) j",
                "WITH w AS (SELECT * FROM orders) SELECT w.lo_get FROM w",
                "WITH w(lo_get) AS (SELECT 1) SELECT w.lo_get, x.lo_get FROM w, w x",
                "WITH w AS (UPDATE orders SET note = 'x' RETURNING *) SELECT w.lo_get FROM w",
                "INSERT INTO orders (id, lo_get) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET lo_get = excluded.lo_get",
                "SELECT (jsonb_each('{}')).key, (jsonb_each('{}')).value",
                "SELECT (information_schema._pg_expandarray(ARRAY[1])).n",
                "SELECT (information_schema._pg_expandarray(ARRAY[1])).*",
                "SELECT c.count FROM (SELECT count(*) FROM customers c) c",
                "UPDATE customers SET credit = new.count FROM (SELECT count(*) FROM orders) new",
                "SELECT s.count, s.max FROM (SELECT count(*), max(id) FROM customers) s",
                "SELECT c.oid, c.relname FROM pg_class c",
                "SELECT u.name, u.oid FROM unnest(ARRAY[1]) u",
                "SELECT c.xmin, c.ctid FROM customers c",
                "SELECT to_jsonb(c) FROM customers c",
                "SELECT c.to_jsonb FROM customers c",
            ] {
                assert_eq!(verdict(sql, &catalog), None, "{read} {sql}");
            }
        }
    }

    #[test]
    fn what_the_policy_allows_to_call_may_be_a_field() {
        let catalog = world(true);
        let mut policy = policy();
        policy.functions.insert(("public".to_owned(), "leak_row".to_owned()));
        let verdict = |sql: &str| {
            let decided = decide(sql, &policy, &catalog, &principal(), Limits::default());
            decided.err().map(|denial| denial.code)
        };
        for sql in
            ["SELECT k.leak_row FROM currencies k", "SELECT (k).leak_row.upper FROM currencies k"]
        {
            assert_eq!(verdict(sql), None, "{sql}");
        }
        let sql = "SELECT (k).leak_row.ts_stat FROM currencies k";
        assert_eq!(verdict(sql), Some(DenialCode::Function));
    }

    #[test]
    fn a_field_does_not_hand_on_a_row_with_closed_columns() {
        let mut catalog = world(true);
        catalog.user_types.insert(("public".to_owned(), "regional".to_owned()));
        for (sql, code) in [
            ("SELECT c.to_jsonb FROM pg_class c", Some(DenialCode::Catalog)),
            (
                "SELECT pg_catalog.pg_proc.to_jsonb FROM pg_catalog.pg_proc",
                Some(DenialCode::Catalog),
            ),
            ("SELECT c.to_jsonb FROM pg_am c", None),
            ("SELECT c.regional, c.nosuch FROM pg_class c", None),
        ] {
            assert_eq!(verdict(sql, &catalog), code, "{sql}");
        }
    }
}
