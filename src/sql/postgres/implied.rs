//! Functions that run without being called by name: those behind operators and casts that somebody has
//! made, and those in the CHECK of a domain. Layer 2.
//!
//! The catalog names them where they are neither what PostgreSQL itself runs for an operator or a cast, nor
//! an extension's own code in C ([`Catalog`](crate::catalog::Catalog)): what is left may read any row. Such an
//! operator or cast is denied until the policy allows its function (`functions: {allow: […]}`). An operator is
//! told by its symbol, whatever stands beside it. A cast needs a value of its source and a place for its
//! target: types that are written or declared for a parameter, columns of the relations named, and every function
//! of a user. A CHECK runs where the domain, or what is made of it, is written, declared, or filled from a
//! document; what a table's own column takes is the operator's to say.

use std::collections::BTreeSet;

use super::env::{Env, Resolved};
use super::scope::is_statement;
use super::totality::Parameter;
use super::tree::Tree;
use super::{codes, lists};
use crate::catalog::{CastContext, ImpliedCast, ImpliedCheck};
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// The least OID of what was made after `initdb`.
const FIRST_MADE: u32 = 16_384;

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

/// Refuses a statement or an expression that makes a value of a domain whose CHECK runs a function that may
/// not be called.
///
/// # Errors
/// HR1005 with the domain and the function.
pub fn judge_checks(tree: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    if mutant::on("check-function") {
        return Ok(());
    }
    let mut closed = closed_checks(env).peekable();
    if closed.peek().is_none() {
        return Ok(());
    }
    let mut met = Met::of(env);
    met.gather(tree);
    match closed.find(|check| met.makes(check)) {
        Some(check) => Err(refused(check)),
        None => Ok(()),
    }
}

/// Refuses `value.domain`, which is a cast to it.
///
/// # Errors
/// As [`judge_checks`].
pub fn judge_attribute(name: &str, env: Env<'_>) -> Result<(), Denial> {
    let named = |check: &&ImpliedCheck| check.holders.iter().any(|(_, holder)| holder == name);
    match closed_checks(env).find(named).filter(|_| !mutant::on("check-function")) {
        Some(check) => Err(refused(check)),
        None => Ok(()),
    }
}

fn closed_checks<'t>(env: Env<'t>) -> impl Iterator<Item = &'t ImpliedCheck> {
    env.catalog.implied_checks.iter().filter(move |check| !may_run(&check.function, env))
}

fn refused(check: &ImpliedCheck) -> Denial {
    let ((_, domain), (schema, name)) = (&check.domain, &check.function);
    Denial::of(DenialCode::Function, format!("check of {domain} by {schema}.{name}"))
}

/// Whether a function of that name makes JSON of values of any type: it looks for a cast to json, explicit ones
/// too.
fn makes_json(name: &str) -> bool {
    matches!(name, "to_json" | "to_jsonb" | "row_to_json" | "array_to_json")
        || ["json_agg", "jsonb_agg", "json_build", "jsonb_build", "json_object", "jsonb_object"]
            .iter()
            .any(|way| name.starts_with(way))
}

/// Whether a function of that name fills the columns of a row that it is given (json, jsonb, hstore).
fn fills_rows(name: &str) -> bool {
    name.contains("populate_record") || name == "#="
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
    /// JSON is made of values of any type.
    json: bool,
    /// Rows are filled from documents.
    filled: bool,
}

impl<'t> Met<'t> {
    fn of(env: Env<'t>) -> Self {
        let mut met = Self {
            env,
            types: Vec::new(),
            columns: BTreeSet::new(),
            written: BTreeSet::new(),
            anything: false,
            anywhere: false,
            documents: false,
            json: false,
            filled: false,
        };
        if !mutant::on("parameter-cast") {
            met.declare();
        }
        met
    }

    /// What the client declared of its parameters is as good as written.
    fn declare(&mut self) {
        for parameter in self.env.parameters {
            let Parameter::Foreign(oid) = parameter else { continue };
            match self.env.catalog.types_by_oid.get(oid) {
                Some((schema, name)) => self.types.push(vec![schema, name]),
                // PostgreSQL's own; or known by its name, which the statement holds.
                None if *oid < FIRST_MADE => {}
                // Made since the catalog was read.
                None => self.types.push(Vec::new()),
            }
        }
    }

    fn gather(&mut self, tree: &'t Tree<'t>) {
        match tree.kind() {
            "LockingClause" => return,
            "TypeName" => self.types.extend(tree.at("names").name_parts()),
            "FuncCall" => {
                let name = tree.at("funcname").items().last().and_then(Tree::text);
                if let Some(name) = name {
                    self.called(name);
                }
                self.anything |= name.is_none_or(|name| self.env.is_user_function(name));
            }
            // A name anywhere may be attribute notation, or an operator.
            "String" => {
                if let Some(name) = tree.text() {
                    self.called(name);
                }
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

    fn called(&mut self, name: &str) {
        self.json |= makes_json(name);
        self.filled |= fills_rows(name);
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

    /// Whether a value of the domain is made.
    fn makes(&self, check: &ImpliedCheck) -> bool {
        self.names(&check.holders)
            || self.filled
                && (self.anything
                    || Self::holds(&self.columns, &check.holders)
                    || Self::holds(&self.written, &check.holders))
    }

    /// Whether it may be brought to the cast's target.
    fn takes(&self, cast: &ImpliedCast) -> bool {
        let own = cast.target.0 == lists::OWN_SCHEMA;
        let assigned = || {
            let name = cast.target.1.as_str();
            self.anywhere
                || Self::holds(&self.written, &cast.targets)
                || own && (self.documents || lists::TAKEN_AS_ASSIGNED.contains(&name))
        };
        let as_json = own && matches!(cast.target.1.as_str(), "json" | "jsonb");
        if as_json && (self.json || self.documents) && !mutant::on("json-cast") {
            return true;
        }
        match cast.context {
            CastContext::Implicit => true,
            CastContext::Assignment => self.names(&cast.targets) || assigned(),
            CastContext::Explicit => self.names(&cast.targets),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::{CastContext, Catalog, Column, ImpliedCast, ImpliedCheck};
    use crate::error::DenialCode;
    use crate::ids::RelationName;
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::env::Env;
    use crate::sql::postgres::tests::{catalog, policy, principal};
    use crate::sql::postgres::totality::Parameter;
    use crate::sql::postgres::tree::Tree;

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

    /// What a statement is told with these parameters declared.
    fn declared(sql: &str, catalog: &Catalog, oids: &[u32]) -> Option<String> {
        let parameters: Vec<_> = oids.iter().map(|oid| Parameter::of_oid(*oid)).collect();
        let (policy, principal) = (policy(), principal());
        let env = Env {
            policy: &policy,
            catalog,
            principal: &principal,
            parameters: &parameters,
            privileges: policy.privileges(&principal).unwrap(),
            lenient: false,
            temporary: crate::sql::temporary::Temporary::NONE,
            notes: crate::sql::account::Notes::default(),
        };
        let parsed = pg_raw_parse::parse(sql).unwrap();
        let mut print = String::new();
        let tree = Tree::of(parsed.stmts().next().unwrap(), &mut print).unwrap();
        let judged = super::judge_casts(&tree, env).and_then(|()| super::judge_checks(&tree, env));
        judged.err().map(|denial| denial.object.unwrap_or_default())
    }

    #[test]
    fn a_parameters_declared_type_counts_as_written() {
        let mut catalog = catalog();
        for (oid, name) in [(20_001, "place"), (20_002, "mood"), (20_003, "known")] {
            catalog.user_types.insert(pair("public", name));
            catalog.types_by_oid.insert(oid, pair("public", name));
        }
        let to_int = cast(("public", "place"), ("pg_catalog", "int4"), CastContext::Explicit);
        let targets = [pair("pg_catalog", "int4")].into();
        catalog.implied_casts.push(ImpliedCast { targets, ..to_int });
        catalog.implied_checks.push(check());
        let refused = Some("cast to int4 of public.leak".to_owned());
        for oids in [&[20_001][..], &[23, 20_001], &[29_999]] {
            assert_eq!(declared("SELECT $1::int4", &catalog, oids), refused, "{oids:?}");
        }
        assert!(declared("SELECT $1", &catalog, &[20_003]).is_some());
        for oids in [&[][..], &[0], &[23], &[20_002], &[790]] {
            assert_eq!(declared("SELECT $1::int4", &catalog, oids), None, "{oids:?}");
        }
        assert_eq!(declared("SELECT $1::text", &catalog, &[20_001]), None);
        let prepared = "PREPARE p (public.mood) AS SELECT $1::int4";
        assert_eq!(denial(prepared, &catalog, false), None);
    }

    #[test]
    fn what_makes_json_takes_a_cast_to_it() {
        let mut catalog = catalog();
        let orders = RelationName::new("public", "orders");
        catalog.relations.get_mut(&orders).unwrap().columns.push(Column {
            name: "at".to_owned(),
            type_schema: "public".to_owned(),
            type_name: "place".to_owned(),
            ..Column::default()
        });
        catalog.user_types.insert(pair("public", "place"));
        catalog.implied_casts.push(cast(
            ("public", "place"),
            ("pg_catalog", "json"),
            CastContext::Explicit,
        ));
        for sql in [
            "SELECT to_json('x'::place)",
            "SELECT to_jsonb(at) FROM orders",
            "SELECT json_agg(at) FROM orders",
            "SELECT jsonb_agg(o) FROM orders o",
            "SELECT row_to_json(o) FROM orders o",
            "SELECT array_to_json(array_agg(at)) FROM orders",
            "SELECT json_build_object('a', at) FROM orders",
            "SELECT jsonb_build_array(at) FROM orders",
            "SELECT jsonb_object_agg(id, at) FROM orders",
            "SELECT ('x'::place).to_json",
            "SELECT o.to_jsonb FROM orders o",
            "SELECT json_array(at) FROM orders",
        ] {
            let refused = denial(sql, &catalog, false).map(|(code, _)| code);
            assert_eq!(refused, Some(DenialCode::Function), "{sql}");
            assert_eq!(denial(sql, &catalog, true), None, "{sql}");
        }
        for sql in [
            "SELECT to_json(id) FROM customers",
            "SELECT jsonb_agg(c) FROM customers c",
            "SELECT at FROM orders",
        ] {
            assert_eq!(denial(sql, &catalog, false), None, "{sql}");
        }
    }

    fn check() -> ImpliedCheck {
        let holders = ["known", "_known", "contact"];
        ImpliedCheck {
            domain: pair("public", "known"),
            function: pair("public", "leak"),
            holders: holders.into_iter().map(|name| pair("public", name)).collect(),
        }
    }

    #[test]
    fn a_domain_is_made_only_where_its_check_may_run() {
        let mut catalog = catalog();
        let orders = RelationName::new("public", "orders");
        catalog.relations.get_mut(&orders).unwrap().columns.push(Column {
            name: "known".to_owned(),
            type_schema: "public".to_owned(),
            type_name: "known".to_owned(),
            ..Column::default()
        });
        catalog.user_types.extend(check().holders);
        catalog.implied_checks.push(check());
        for sql in [
            "SELECT 'b1@b'::known",
            "SELECT CAST('b1@b' AS public.known)",
            "SELECT known 'b1@b'",
            "SELECT '{b1@b}'::known[]",
            "SELECT ROW('b1@b')::contact",
            "SELECT ('b1@b'::text).known",
            "SELECT c.known FROM customers c",
            "SELECT * FROM json_to_record('{\"a\": \"b1@b\"}') AS r(a known)",
            "SELECT * FROM xmltable('/a' PASSING '<a/>' COLUMNS a known PATH '.')",
            "CREATE TEMP TABLE t (a known)",
            "CREATE TEMP TABLE t (a text CHECK (a::known IS NULL))",
            "PREPARE p (known) AS SELECT $1",
            "SELECT json_populate_record(NULL::contact, '{}')",
            "SELECT json_populate_record(o, '{\"known\": \"b1@b\"}') FROM orders o",
        ] {
            let refused = denial(sql, &catalog, false).map(|(code, _)| code);
            assert_eq!(refused, Some(DenialCode::Function), "{sql}");
        }
        for sql in
            ["SELECT 'b1@b'::known", "SELECT ('b1@b'::text).known", "CREATE TEMP TABLE t (a known)"]
        {
            assert_eq!(denial(sql, &catalog, true), None, "{sql}");
        }
        for sql in [
            "INSERT INTO orders (known) VALUES ('a@b')",
            "UPDATE orders SET known = 'a@b'",
            "SELECT known, o.known FROM orders o WHERE o.known = 'a@b'",
            "SELECT json_populate_record(c, '{}') FROM customers c",
            "SELECT row_to_json(o) FROM orders o",
            "SELECT 'known'",
        ] {
            assert_eq!(denial(sql, &catalog, false), None, "{sql}");
        }
    }
}
