//! Shapes of sqlparser's tree that the checker knows. Pure.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Value, VisitMut,
    VisitorMut, WildcardAdditionalOptions,
};

use super::disagree;
use crate::error::Denial;

/// The name that takes the place of every table once it was noted.
pub(super) const NOTED: &str = "\u{1}table";

pub(super) fn noted() -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::new(NOTED))])
}

pub(super) fn parts(name: &ObjectName) -> Result<Vec<String>, Denial> {
    let mut parts = Vec::new();
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => {
                parts.extend(ident.value.split('.').map(str::to_owned));
            }
            ObjectNamePart::Function(_) => return Err(disagree()),
        }
    }
    Ok(parts)
}

pub(super) fn is_noted(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [ObjectNamePart::Identifier(ident)] if ident.value == NOTED)
}

/// An alias of its own for a table that has none, spelled one way.
pub(super) fn settled(alias: Option<TableAlias>, parts: &[String]) -> Option<TableAlias> {
    match alias {
        Some(mut alias) => {
            alias.explicit = true;
            alias.name.quote_style = Some('`');
            Some(alias)
        }
        None => parts.last().filter(|last| !last.ends_with('*')).map(|last| TableAlias {
            explicit: true,
            name: Ident::with_quote('`', last.as_str()),
            columns: Vec::new(),
            at: None,
        }),
    }
}

pub(super) fn empty() -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Values(sqlparser::ast::Values {
            explicit_row: false,
            value_keyword: false,
            rows: Vec::new(),
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

pub(super) fn plain_table(alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Table {
        name: noted(),
        alias,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// Whether an expression is the column of a range variable; of any, where none is asked for.
pub(super) fn names_column(expr: &Expr, column: &str, variable: Option<&str>) -> bool {
    match expr {
        Expr::CompoundIdentifier(names) => {
            matches!(names.as_slice(), [of, name]
                if name.value == column && variable.is_none_or(|variable| of.value == variable))
        }
        _ => false,
    }
}

/// `SELECT key FROM table WHERE key IS NOT NULL GROUP BY key HAVING COUNTIF(condition) = COUNT(*)`, taken
/// apart: keys of which every row is one that the condition holds of.
pub(super) fn key_query(query: &Query) -> Option<(&Expr, &ObjectName, &Expr)> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [SelectItem::UnnamedExpr(key)] = select.projection.as_slice() else { return None };
    let [TableWithJoins { relation: TableFactor::Table { name, .. }, .. }] = select.from.as_slice()
    else {
        return None;
    };
    let Expr::BinaryOp { left, .. } = select.having.as_ref()? else { return None };
    let [condition] = call(left, "COUNTIF")?[..] else { return None };
    let plain = format!(
        "SELECT {key} FROM {name} WHERE {key} IS NOT NULL GROUP BY {key} \
         HAVING COUNTIF({condition}) = COUNT(*)"
    );
    (plain == query.to_string()).then_some((key, name, condition))
}

pub(super) fn place_of(columns: &[ObjectName], column: &str) -> Result<Option<usize>, Denial> {
    let mut place = None;
    for (index, name) in columns.iter().enumerate() {
        if parts(name)?.last().is_some_and(|last| last.eq_ignore_ascii_case(column))
            && place.replace(index).is_some()
        {
            return Err(disagree());
        }
    }
    Ok(place)
}

/// The three arguments of a plain `IF(…)`.
pub(super) fn if_arguments(expr: &mut Expr) -> Option<[&mut Expr; 3]> {
    let Expr::Function(function) = expr else { return None };
    if function.name.to_string() != "IF" || function.over.is_some() {
        return None;
    }
    let FunctionArguments::List(list) = &mut function.args else { return None };
    if !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
        return None;
    }
    match list.args.as_mut_slice() {
        [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(first)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(second)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(third)),
        ] => Some([first, second, third]),
        _ => None,
    }
}

pub(super) fn is_boolean(expr: &Expr, flag: bool) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Boolean(flag))
}

pub(super) fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Null)
}

/// The column that says that guards hold; the rewriter's word, written here a second time.
pub(super) const CARRIER: &str = "hedgerow_guard";
/// Begins the name of what the client's text leaves without one.
pub(super) const NAMELESS: &str = "hedgerow_source_";

pub(super) fn is_carrier(name: &Ident) -> bool {
    name.value == CARRIER
}

/// Takes the carrier out of what a `*` leaves out.
pub(super) fn without_carrier(options: &mut WildcardAdditionalOptions) {
    let Some(except) = &mut options.opt_except else { return };
    except.additional_elements.retain(|name| !is_carrier(name));
    if is_carrier(&except.first_element) {
        if except.additional_elements.is_empty() {
            options.opt_except = None;
        } else {
            except.first_element = except.additional_elements.remove(0);
        }
    }
}

/// The arguments of a plain call of a function of this name.
fn call<'a>(expr: &'a Expr, name: &str) -> Option<Vec<&'a Expr>> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let arguments = list
        .args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            FunctionArg::Unnamed(_) | FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
                None
            }
        })
        .collect::<Option<Vec<_>>>()?;
    // Closed by printing: a clause that is not named here would make the texts differ.
    let printed: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    (expr.to_string() == format!("{name}({})", printed.join(", "))).then_some(arguments)
}

/// The condition in `COALESCE(condition, TRUE)`.
pub(super) fn otherwise_true(expr: &Expr) -> Option<&Expr> {
    match call(expr, "COALESCE")?.as_slice() {
        [condition, otherwise] if is_boolean(otherwise, true) => Some(condition),
        _ => None,
    }
}

/// The condition in `LOGICAL_AND(condition)`.
pub(super) fn all_of(expr: &Expr) -> Option<&Expr> {
    match call(expr, "LOGICAL_AND")?.as_slice() {
        [condition] => Some(condition),
        _ => None,
    }
}

/// Whether a table in FROM has nothing beside its name, its alias, its time and its sample: no arguments,
/// above all, which would make it a function.
pub fn is_plain(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table {
            name: _,
            alias: _,
            args: None,
            with_hints,
            version: _,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: _,
            index_hints,
        } => with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty(),
        _ => false,
    }
}

/// Takes the name of the one range variable off the columns of a level, in both texts: in a query of an
/// expression the rewriter puts it before them, which only narrows what they may be.
pub fn unqualify(select: &mut Select) {
    let [TableWithJoins { relation, joins }] = select.from.as_slice() else { return };
    let alias = match relation {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Pivot { alias, .. }
        | TableFactor::Unpivot { alias, .. }
        | TableFactor::UNNEST { alias, with_offset: false, .. } => alias.as_ref(),
        _ => return,
    };
    if !joins.is_empty() {
        return;
    }
    // Without an alias it may have had one of ours.
    let variable = alias.map_or(NAMELESS, |alias| alias.name.value.as_str());
    let mut unqualifying = Unqualifying { variable: variable.to_ascii_lowercase(), queries: 0 };
    let _ = VisitMut::visit(&mut select.projection, &mut unqualifying);
    let _ = VisitMut::visit(&mut select.selection, &mut unqualifying);
    let _ = VisitMut::visit(&mut select.having, &mut unqualifying);
    let _ = VisitMut::visit(&mut select.qualify, &mut unqualifying);
}

struct Unqualifying {
    variable: String,
    queries: usize,
}

impl VisitorMut for Unqualifying {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries = self.queries.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::CompoundIdentifier(names) = expr else { return ControlFlow::Continue(()) };
        let of = names.first().is_some_and(|name| {
            name.value.eq_ignore_ascii_case(&self.variable) || name.value.starts_with(NAMELESS)
        });
        if self.queries == 0 && of && names.len() > 1 {
            names.remove(0);
            if let [name] = names.as_mut_slice() {
                *expr = Expr::Identifier(name.clone());
            }
        }
        ControlFlow::Continue(())
    }
}
