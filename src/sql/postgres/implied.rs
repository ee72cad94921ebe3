//! Functions that run without being called by name: those behind operators and casts that somebody has
//! made. Layer 2.
//!
//! The catalog names them where they are neither what PostgreSQL itself runs for an operator or a cast, nor
//! an extension's own code in C ([`Catalog`](crate::catalog::Catalog)): what is left may read any row. Such an
//! operator or cast is denied until the policy allows its function (`functions: {allow: […]}`). An operator is
//! told by its symbol, whatever stands beside it. A cast needs a value of its source and a place for its
//! target: types that are written, columns of the relations named, and every function of a user.

use std::collections::BTreeSet;

use super::env::{Env, Resolved};
use super::scope::is_statement;
use super::tree::Tree;
use super::{codes, lists};
use crate::catalog::{CastContext, ImpliedCast};
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// Refuses an operator that runs a function which may not be called.
///
/// # Errors
/// HR1005 with the symbol and the function.
pub fn judge_operators(node: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    let implied = &env.catalog.implied_operators;
    if implied.is_empty() || mutant::on("operator-function") {
        return Ok(());
    }
    for symbol in symbols(node) {
        let mut functions = implied.get(symbol).into_iter().flatten();
        if let Some((schema, name)) = functions.find(|function| !may_run(function, env)) {
            let object = format!("operator {symbol} of {schema}.{name}");
            return Err(Denial::of(DenialCode::Function, object));
        }
    }
    Ok(())
}

/// The operators that a node looks for along the search path.
fn symbols<'t>(node: &'t Tree<'_>) -> Vec<&'t str> {
    let named = |name: &'t Tree<'_>| match name.items() {
        [only] => only.text().into_iter().collect(),
        // With its schema: `pg_catalog`, as `classify` sees to.
        [] | [..] => Vec::new(),
    };
    match node.kind() {
        "A_Expr" => match named(node.at("name")).as_slice() {
            // `BETWEEN SYMMETRIC` and its like.
            [word] if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                vec!["<", "<=", ">", ">="]
            }
            symbols => symbols.to_vec(),
        },
        "SortBy" => named(node.at("use_op")),
        "SubLink" => match node.at("oper_name").items() {
            [] if node.at("sub_link_type").number() == Some(codes::ANY_SUBLINK) => vec!["="],
            _ => named(node.at("oper_name")),
        },
        "CaseExpr" if !node.at("arg").is_absent() => vec!["="],
        "JoinExpr" if node.at("is_natural").truth() || !node.at("using_clause").is_absent() => {
            vec!["="]
        }
        _ => Vec::new(),
    }
}

/// Refuses a statement or an expression in which a cast may run a function that may not be called.
///
/// # Errors
/// HR1005 with the cast's target and the function.
pub fn judge_casts(tree: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    if mutant::on("cast-function") {
        return Ok(());
    }
    let mut closed = env.catalog.implied_casts.iter();
    let Some(first) = closed.find(|cast| !may_run(&cast.function, env)) else { return Ok(()) };
    let mut met = Met::of(env);
    met.gather(tree);
    let mut closed = std::iter::once(first).chain(closed);
    match closed.find(|cast| !may_run(&cast.function, env) && met.gives(cast) && met.takes(cast)) {
        Some(ImpliedCast { target: (_, target), function: (schema, name), .. }) => {
            let object = format!("cast to {target} of {schema}.{name}");
            Err(Denial::of(DenialCode::Function, object))
        }
        None => Ok(()),
    }
}

fn may_run((schema, name): &(String, String), env: Env<'_>) -> bool {
    env.function(&[schema, name]).is_ok()
}

/// Of what types a statement has values, and for what types it has places.
struct Met<'t> {
    env: Env<'t>,
    /// Types as they are written.
    types: Vec<Vec<&'t str>>,
    /// Types of the columns of the relations named, and the types of their rows; without a schema where it is
    /// not known.
    columns: BTreeSet<(&'t str, &'t str)>,
    /// Those of the relations that are written.
    written: BTreeSet<(&'t str, &'t str)>,
    /// A function of a user is called, or the columns of a relation are not known.
    anything: bool,
    /// The columns of a relation that is written are not known.
    anywhere: bool,
    /// XML or JSON is made, which takes its parts as an assignment does.
    documents: bool,
}

impl<'t> Met<'t> {
    const fn of(env: Env<'t>) -> Self {
        Self {
            env,
            types: Vec::new(),
            columns: BTreeSet::new(),
            written: BTreeSet::new(),
            anything: false,
            anywhere: false,
            documents: false,
        }
    }

    fn gather(&mut self, tree: &'t Tree<'t>) {
        match tree.kind() {
            "LockingClause" => return,
            "TypeName" => self.types.extend(tree.at("names").name_parts()),
            "FuncCall" => {
                let name = tree.at("funcname").items().last().and_then(Tree::text);
                self.anything |= name.is_none_or(|name| self.env.is_user_function(name));
            }
            "RangeVar" => self.relation(tree, false),
            kind if is_statement(kind) && tree.at("relation").is("RangeVar") => {
                self.relation(tree.at("relation"), true);
            }
            kind if ["Xml", "Json", "RangeTableFunc"].iter().any(|way| kind.starts_with(way)) => {
                self.documents = true;
            }
            _ => {}
        }
        tree.children().for_each(|child| self.gather(child));
    }

    fn relation(&mut self, relation: &'t Tree<'t>, written: bool) {
        let Some(name) = relation.at("relname").text() else { return };
        let schema = relation.at("schemaname").text();
        // What is not found is a CTE, whose own relations are met, or denied.
        let Ok(resolved) = self.env.resolve(relation.at("catalogname").text(), schema, name) else {
            return;
        };
        let Resolved::Table(table) = resolved else { return };
        match table.relation {
            Some(relation) => {
                let types = relation.columns.iter();
                let types = types.map(|column| (&*column.type_schema, &*column.type_name));
                let types = types.chain([(&*relation.schema, &*relation.name)]);
                if written { self.written.extend(types) } else { self.columns.extend(types) }
            }
            None if written => self.anywhere = true,
            None => self.anything = true,
        }
    }

    fn names(&self, types: &BTreeSet<(String, String)>) -> bool {
        self.types.iter().any(|parts| match parts.as_slice() {
            [name] => types.iter().any(|(_, known)| known == name),
            [schema, name] => types.iter().any(|known| known.0 == *schema && known.1 == *name),
            _ => true,
        })
    }

    fn holds(columns: &BTreeSet<(&str, &str)>, types: &BTreeSet<(String, String)>) -> bool {
        types.iter().any(|(schema, name)| {
            let (schema, name) = (schema.as_str(), name.as_str());
            columns.contains(&(schema, name)) || columns.contains(&("", name))
        })
    }

    /// Whether there may be a value of the cast's source.
    fn gives(&self, cast: &ImpliedCast) -> bool {
        cast.source.0 == lists::OWN_SCHEMA
            || self.anything
            || self.anywhere
            || self.names(&cast.sources)
            || Self::holds(&self.columns, &cast.sources)
            || Self::holds(&self.written, &cast.sources)
    }

    /// Whether it may be brought to the cast's target.
    fn takes(&self, cast: &ImpliedCast) -> bool {
        let assigned = || {
            let own = cast.target.0 == lists::OWN_SCHEMA;
            let name = cast.target.1.as_str();
            self.anywhere
                || Self::holds(&self.written, &cast.targets)
                || own && (self.documents || lists::TAKEN_AS_ASSIGNED.contains(&name))
        };
        match cast.context {
            CastContext::Implicit => true,
            CastContext::Assignment => self.names(&cast.targets) || assigned(),
            CastContext::Explicit => self.names(&cast.targets),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::{CastContext, Catalog, Column, ImpliedCast};
    use crate::error::DenialCode;
    use crate::ids::RelationName;
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{catalog, policy, principal};

    fn pair(schema: &str, name: &str) -> (String, String) {
        (schema.to_owned(), name.to_owned())
    }

    fn cast(source: (&str, &str), target: (&str, &str), context: CastContext) -> ImpliedCast {
        let (source, target) = (pair(source.0, source.1), pair(target.0, target.1));
        ImpliedCast {
            sources: [source.clone()].into(),
            targets: [target.clone(), pair("public", "place")].into(),
            source,
            target,
            function: pair("public", "leak"),
            context,
        }
    }

    fn denial(sql: &str, catalog: &Catalog, allowed: bool) -> Option<(DenialCode, String)> {
        let mut policy = policy();
        if allowed {
            policy.functions.insert(pair("public", "leak"));
        }
        let decided = decide(sql, &policy, catalog, &principal(), Limits::default());
        decided.err().map(|denial| (denial.code, denial.object.unwrap_or_default()))
    }

    #[test]
    fn an_operator_runs_only_what_may_be_called() {
        let with = |symbol: &str| {
            let mut catalog = catalog();
            catalog.implied_operators.insert(symbol.to_owned(), vec![pair("public", "leak")]);
            catalog
        };
        for (symbol, sql) in [
            ("@@", "SELECT 101 @@ 0"),
            ("@@", "SELECT 101 @@ ANY (ARRAY[1])"),
            ("@@", "SELECT 1 WHERE 1 @@ ALL (SELECT 2)"),
            ("@@", "CREATE TEMP TABLE t (a text DEFAULT 101 @@ 0)"),
            ("@@", "COPY customers (id) FROM STDIN WHERE id @@ 0"),
            ("=", "SELECT 1 WHERE 1 = 2"),
            ("=", "SELECT 1 WHERE 1 IN (2, 3)"),
            ("=", "SELECT 1 WHERE 1 IN (SELECT 2)"),
            ("=", "SELECT nullif(1, 2)"),
            ("=", "SELECT 1 IS DISTINCT FROM 2"),
            ("=", "SELECT CASE 1 WHEN 2 THEN 3 END"),
            ("=", "SELECT 1 FROM currencies a JOIN currencies b USING (code)"),
            ("=", "SELECT 1 FROM currencies a NATURAL JOIN currencies b"),
            ("<=", "SELECT 1 BETWEEN 2 AND 3"),
            (">", "SELECT 1 NOT BETWEEN SYMMETRIC 2 AND 3"),
            ("~~", "SELECT 'a' LIKE 'b'"),
            (">", "SELECT 1 ORDER BY 1 USING >"),
        ] {
            let catalog = with(symbol);
            let refused = Some((DenialCode::Function, format!("operator {symbol} of public.leak")));
            assert_eq!(denial(sql, &catalog, false), refused, "{sql}");
            assert_eq!(denial(sql, &catalog, true), None, "{sql}");
            assert_eq!(denial(sql, &with("##"), false), None, "{sql}");
        }
        assert_eq!(denial("SELECT 101 OPERATOR(pg_catalog.@@) 0", &with("@@"), false), None);
    }

    #[test]
    fn a_cast_runs_only_what_may_be_called() {
        const OWN: &str = "pg_catalog";
        let with = |cast: ImpliedCast| {
            let mut catalog = catalog();
            let orders = RelationName::new("public", "orders");
            catalog.relations.get_mut(&orders).unwrap().columns.push(Column {
                name: "at".to_owned(),
                type_schema: "public".to_owned(),
                type_name: "place".to_owned(),
                ..Column::default()
            });
            catalog.user_types.insert(pair("public", "place"));
            catalog.implied_casts.push(cast);
            catalog
        };
        let explicit = with(cast((OWN, "int4"), (OWN, "point"), CastContext::Explicit));
        let assigned = with(cast((OWN, "int4"), ("public", "place"), CastContext::Assignment));
        let implicit = with(cast((OWN, "int4"), (OWN, "point"), CastContext::Implicit));
        let from_own = with(cast(("public", "place"), (OWN, "text"), CastContext::Explicit));
        let to_bool = with(cast(("public", "place"), (OWN, "bool"), CastContext::Assignment));
        for (catalog, sql) in [
            (&explicit, "SELECT 101::point"),
            (&explicit, "SELECT CAST(ARRAY[101] AS point[])"),
            (&explicit, "SELECT 101::public.place"),
            (&explicit, "SELECT ROW(101)::place"),
            (&explicit, "CREATE TEMP TABLE t (a point DEFAULT 101)"),
            (&explicit, "COPY customers (id) FROM STDIN WHERE id::point IS NULL"),
            (&assigned, "INSERT INTO orders (at) VALUES (101)"),
            (&assigned, "UPDATE orders SET at = 101"),
            (&assigned, "WITH x AS (UPDATE orders SET at = 1 RETURNING id) SELECT 1 FROM x"),
            (&implicit, "SELECT 101 <-> '(0,0)'"),
            (&from_own, "SELECT at::text FROM orders"),
            (&from_own, "SELECT x.at::text FROM (SELECT * FROM orders) x"),
            (&from_own, "SELECT '()'::place::text"),
            (&to_bool, "SELECT 1 FROM orders WHERE at"),
        ] {
            let refused = denial(sql, catalog, false);
            assert_eq!(refused.map(|denial| denial.0), Some(DenialCode::Function), "{sql}");
            assert_eq!(denial(sql, catalog, true), None, "{sql}");
        }
        assert_eq!(
            denial("SELECT 101::point", &explicit, false).unwrap().1,
            "cast to point of public.leak"
        );
        for (catalog, sql) in [
            (&explicit, "SELECT 101::text, point(1, 2)"),
            (&explicit, "INSERT INTO orders (at) VALUES (101)"),
            (&assigned, "SELECT at FROM orders"),
            (&assigned, "INSERT INTO customers (id) VALUES (101)"),
            (&from_own, "SELECT id::text FROM customers"),
            (&to_bool, "SELECT 1 FROM customers WHERE id = 1"),
        ] {
            assert_eq!(denial(sql, catalog, false), None, "{sql}");
        }
    }
}
