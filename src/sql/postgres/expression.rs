//! The operator's own expressions (`where`, `mask`), judged when policies are loaded. Layer 2.
//!
//! Such an expression stands beside the client's SQL with the rights of the policy, so it may look
//! at the row and at claims and at nothing else: no query, no column of another table, no function
//! beyond [`SAFE_FUNCTIONS`](super::lists::SAFE_FUNCTIONS) that work on one row.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Value, Visit, Visitor,
};

use super::rewrite::parse_condition;
use super::{DECIDING_STACK, STACK_NEEDED, bounds, functions};
use crate::claims::ClaimPath;
use crate::mutant;
use crate::sql::Limits;

/// Longest expression in bytes.
const MAX_EXPRESSION_BYTES: usize = 64 << 10;

/// Judges an operator's expression.
///
/// # Errors
/// What is wrong with it, in plain words.
pub fn check_expression(text: &str) -> Result<(), String> {
    if bounds::check(text, Limits { max_statement: MAX_EXPRESSION_BYTES }).is_err() {
        return Err("the expression is too long or too deeply nested".to_owned());
    }
    stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || {
        let expression = parse_condition(text).map_err(|message| {
            message.strip_prefix("sql parser error: ").unwrap_or(&message).to_owned()
        })?;
        // What is sent is read by PostgreSQL; a text that only one of the parsers knows is of no use.
        pg_raw_parse::parse(&format!("SELECT ({text}\n)"))
            .map_err(|_| "PostgreSQL's grammar does not read it as one expression".to_owned())?;
        match expression.visit(&mut Judge) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(message) => Err(message),
        }
    })
}

/// The columns that an operator's expression names; `None` when it cannot be read.
pub fn columns_of(text: &str) -> Option<Vec<String>> {
    struct Columns(Vec<String>);
    impl Visitor for Columns {
        type Break = ();

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            if let Expr::Identifier(column) = expression {
                self.0.push(super::rewrite::name_of(column));
            }
            ControlFlow::Continue(())
        }
    }
    let expression = parse_condition(text).ok()?;
    let mut columns = Columns(Vec::new());
    let _: ControlFlow<()> = expression.visit(&mut columns);
    Some(columns.0)
}

struct Judge;

impl Visitor for Judge {
    type Break = String;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        if mutant::on("expression-query") {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break("sub-queries are not allowed: only the row itself and claims".to_owned())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        let verdict = match expression {
            Expr::Function(function) => judge_function(function),
            // A table's name would be looked up among the client's, where it may mean another.
            Expr::CompoundIdentifier(_) => {
                Err(format!("`{expression}`: a column is written without its table"))
            }
            Expr::QualifiedWildcard(..) | Expr::Wildcard(_) => {
                Err("`*` is not allowed: name the column".to_owned())
            }
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => Err(format!("`{name}`: there are no parameters")),
                // SECURITY: literals stand in the operator's own file.
                _ => Ok(()),
            },
            // Operators, casts and special forms work on the row; queries in them are met above.
            _ => Ok(()),
        };
        match verdict {
            Ok(()) => ControlFlow::Continue(()),
            Err(message) => ControlFlow::Break(message),
        }
    }
}

fn judge_function(function: &Function) -> Result<(), String> {
    let spelled = function.name.to_string();
    if spelled == "claim" {
        return judge_claim(function);
    }
    let plain = spelled.to_ascii_lowercase();
    let plain = plain.strip_prefix("pg_catalog.").unwrap_or(&plain);
    if !functions::is_allowed(plain) && !mutant::on("expression-function") {
        return Err(format!("the function `{spelled}` is not on the list of safe functions"));
    }
    let stars = match &function.args {
        FunctionArguments::List(list) => list.args.iter().any(is_star),
        FunctionArguments::None | FunctionArguments::Subquery(_) => false,
    };
    if stars {
        return Err(format!("`{spelled}(*)`: name the column"));
    }
    if is_aggregate(plain) || function.over.is_some() {
        return Err(format!("`{spelled}` needs many rows: an expression sees one row"));
    }
    Ok(())
}

fn is_star(argument: &FunctionArg) -> bool {
    let (FunctionArg::Named { arg, .. }
    | FunctionArg::ExprNamed { arg, .. }
    | FunctionArg::Unnamed(arg)) = argument;
    !matches!(arg, FunctionArgExpr::Expr(_))
}

/// Whether the list of safe functions has it among those that see many rows.
fn is_aggregate(name: &str) -> bool {
    functions::family(name).is_some_and(|family| family.about.starts_with("aggregates"))
}

fn judge_claim(function: &Function) -> Result<(), String> {
    let form = || "write `claim('path')`, with the path of one claim as a literal".to_owned();
    let FunctionArguments::List(list) = &function.args else { return Err(form()) };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice()
    else {
        return Err(form());
    };
    match &value.value {
        Value::SingleQuotedString(path) if ClaimPath::parse(path).is_some() => Ok(()),
        _ => Err(form()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_expression;

    #[test]
    fn expressions_over_the_row_and_claims_are_accepted() {
        for text in [
            "region = claim('region')",
            "left(email, 1) || '***'",
            "lower(\"Name\") = claim('org.name') AND NOT archived",
            "CASE WHEN age > 17 THEN 'adult' ELSE NULL END",
            "created_at > now() - interval '30 days'",
            "kind IN ('a', 'b') OR tags @> ARRAY['x']::text[]",
            "pg_catalog.lower(x) LIKE 'a%'",
            "coalesce(extract(year from at), 0) BETWEEN 2000 AND 2030",
            "region = claim('\"https://example.com/claims\".region')",
        ] {
            assert_eq!(check_expression(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_reaches_beyond_the_row_is_refused() {
        for text in [
            "",
            "region =",
            "a = 1; DROP TABLE x",
            "a = 1) OR (1 = 1",
            "a = 1 -- and so on\n OR",
            "id IN (SELECT id FROM other)",
            "EXISTS (SELECT 1)",
            "id = (SELECT 1)",
            "id = ANY (SELECT 1)",
            "ARRAY(SELECT 1) = a",
            "claim(region) = 'eu'",
            "claim('a', 'b') = 'eu'",
            "claim('a..b') = 'eu'",
            "claim() = 'eu'",
            "pg_sleep(1) IS NULL",
            "public.slugify(a) = 'x'",
            "other.claim('a') = 'x'",
            "users.active",
            "count(*) > 1",
            "max(a) = 1",
            "row_number() OVER () = 1",
            "lower(*) = 'a'",
            "a = $1",
            "a = :b",
        ] {
            assert!(check_expression(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_and_length_do_not_hurt() {
        let deep = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(check_expression(&deep).is_err());
        let nots = format!("{} a", "NOT ".repeat(30_000));
        assert!(check_expression(&nots).is_err());
    }
}
