//! Guards as expressions: the tenant predicate, the CASE that keeps other tenants' rows away from
//! an expression, and the checks of written values. Layer 2.
//!
//! All are built as syntax trees. The one text that comes from outside, the tenant, is a literal
//! whose quotes are doubled here, because the parser runs with `unescape` off and prints what it
//! holds.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, Ident, ObjectName, Query, Select,
    SelectItem, SetExpr, TableFactor, TableWithJoins, Value,
    helpers::attached_token::AttachedToken,
};

use super::super::env::{Env, Resolved, Table};
use super::super::totality::{self, Class};
use super::condition;
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::{Protection, TenantType};

/// The text that a failing run-time check carries: `postgres` turns the server's error into the
/// denial of this code.
pub const MARKER: &str = "hedgerow:";

/// The alias under which a guard's sub-select reads a parent table.
const PARENT: &str = "hedgerow_parent";

/// Deepest chain of parents.
const MAX_PARENTS: u8 = 4;

/// A quoted identifier.
pub fn ident(name: &str) -> Ident {
    if mutant::on("identifier-quotes") {
        return Ident::with_quote('"', name);
    }
    Ident::with_quote('"', name.replace('"', "\"\""))
}

/// A string literal.
pub fn string(text: &str) -> Expr {
    if mutant::on("literal-quotes") {
        return Expr::Value(Value::SingleQuotedString(text.to_owned()).into());
    }
    Expr::Value(Value::SingleQuotedString(text.replace('\'', "''")).into())
}

/// `left AND right`.
pub fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

/// All of the conditions; `None` for none.
pub fn all(conditions: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(and)
}

/// `left = right`.
pub fn equals(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Eq, right: Box::new(right) }
}

/// `expression::type`, the type by its plain name.
pub fn cast(expression: Expr, type_name: &str) -> Expr {
    Expr::Cast {
        kind: CastKind::DoubleColon,
        expr: Box::new(expression),
        data_type: DataType::Custom(ObjectName::from(vec![Ident::new(type_name)]), Vec::new()),
        format: None,
    }
}

/// `qualifier.column`.
pub fn column(qualifier: &str, column: &str) -> Expr {
    Expr::CompoundIdentifier(vec![ident(qualifier), ident(column)])
}

/// `CASE WHEN condition THEN (then) ELSE otherwise END`.
pub fn case(condition: Expr, then: Expr, otherwise: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result: Expr::Nested(Box::new(then)) }],
        else_result: Some(Box::new(otherwise)),
    }
}

/// `CASE WHEN condition THEN (then) ELSE false END`: a row that fails the condition never meets
/// `then` (PostgreSQL manual, 4.2.14: CASE forces the order of evaluation).
pub fn shield(condition: Expr, then: Expr) -> Expr {
    case(condition, then, Expr::Value(Value::Boolean(false).into()))
}

/// The type in which the tenant is written for a table's column: the column's own where it is a
/// kind of the policy's type, else the policy's.
fn literal_type(table: &Table<'_>, column: &str, tenant_type: TenantType) -> &'static str {
    let actual = table.relation.and_then(|relation| relation.column(column));
    match (tenant_type, actual.map(|column| column.type_name.as_str())) {
        (TenantType::Uuid, _) => "uuid",
        (TenantType::Text, Some("bpchar")) => "bpchar",
        (TenantType::Text, _) => "text",
        (TenantType::Int, Some("int2")) => "int2",
        (TenantType::Int, Some("int4")) => "int4",
        (TenantType::Int, _) => "int8",
    }
}

/// The tenant as a literal for a table's tenant column.
///
/// # Errors
/// HR2009 when the claim is no value of the column's type.
pub fn tenant_literal(
    env: Env<'_>,
    table: &Table<'_>,
    column: &str,
    tenant_type: TenantType,
) -> Result<Expr, Denial> {
    let text = env.tenant_text(tenant_type)?;
    let literal_type = literal_type(table, column, tenant_type);
    let fits = match literal_type {
        "int2" => text.parse::<i16>().is_ok(),
        "int4" => text.parse::<i32>().is_ok(),
        _ => true,
    };
    if !fits {
        return Err(Denial::new(DenialCode::TokenTenant));
    }
    Ok(cast(string(&text), literal_type))
}

/// The conditions under which a row of `table`, visible as `qualifier`, belongs to the tenant: the
/// tenant predicate, and the policy's own condition shielded by it.
///
/// # Errors
/// HR2009 without a usable tenant, HR1009 for chains of parents that do not end, HR4002 for a
/// condition that cannot be read.
pub fn guards(env: Env<'_>, table: &Table<'_>, qualifier: &str) -> Result<Vec<Expr>, Denial> {
    guards_at(env, table, qualifier, 0)
}

fn guards_at(
    env: Env<'_>,
    table: &Table<'_>,
    qualifier: &str,
    depth: u8,
) -> Result<Vec<Expr>, Denial> {
    let belongs = match &table.policy.protection {
        Protection::Tenant { column: tenant, tenant_type } => {
            let literal = tenant_literal(env, table, tenant, *tenant_type)?;
            Some(equals(column(qualifier, tenant), literal))
        }
        Protection::TenantThrough { column: key, .. } => {
            let parents = parent_keys(env, table, depth)?;
            Some(Expr::InSubquery {
                expr: Box::new(column(qualifier, key)),
                subquery: Box::new(parents),
                negated: false,
            })
        }
        Protection::Shared => None,
        Protection::Deny => return Err(Denial::new(DenialCode::RelationDenied)),
    };
    let mut guards: Vec<Expr> = belongs.into_iter().collect();
    if let Some(own) = &table.policy.condition
        && !mutant::on("policy-condition")
    {
        let condition = condition::bind(own, env, qualifier)?;
        guards.push(match guards.first() {
            Some(belongs) if !mutant::on("policy-unshielded") => shield(belongs.clone(), condition),
            Some(_) | None => Expr::Nested(Box::new(condition)),
        });
    }
    Ok(guards)
}

/// `SELECT key FROM parent WHERE …`: the keys of the tenant's parents.
///
/// # Errors
/// As [`guards`].
pub fn parent_keys(env: Env<'_>, table: &Table<'_>, depth: u8) -> Result<Query, Denial> {
    let Protection::TenantThrough { parent, parent_column, .. } = &table.policy.protection else {
        return Err(Denial::new(DenialCode::Internal));
    };
    if depth >= MAX_PARENTS {
        return Err(Denial::new(DenialCode::LeakPossible));
    }
    let Resolved::Table(parent) = env.resolve(None, Some(&parent.schema), &parent.name)? else {
        return Err(Denial::new(DenialCode::RelationDenied));
    };
    keys_of(env, &parent, parent_column, depth)
}

/// `SELECT key FROM table WHERE …`: the keys of a table's rows that are the tenant's.
///
/// # Errors
/// As [`guards`].
pub fn keys_of(env: Env<'_>, table: &Table<'_>, key: &str, depth: u8) -> Result<Query, Denial> {
    let alias = format!("{PARENT}_{depth}");
    let conditions = guards_at(env, table, &alias, depth + 1)?;
    let selection = all(conditions).ok_or(Denial::new(DenialCode::LeakPossible))?;
    let selection = Some(selection).filter(|_| !mutant::on("parents-of-all"));
    Ok(select_from(
        table_factor(&table.name.schema, &table.name.name, Some(&alias)),
        SelectItem::UnnamedExpr(column(&alias, key)),
        selection,
    ))
}

/// `SELECT item FROM factor WHERE selection`.
pub fn select_from(factor: TableFactor, item: SelectItem, selection: Option<Expr>) -> Query {
    select_of(factor, vec![item], selection)
}

/// `SELECT items FROM factor WHERE selection`.
pub fn select_of(factor: TableFactor, items: Vec<SelectItem>, selection: Option<Expr>) -> Query {
    let mut select = empty_select();
    select.projection = items;
    select.from = vec![TableWithJoins { relation: factor, joins: Vec::new() }];
    select.selection = selection;
    query(SetExpr::Select(Box::new(select)))
}

/// `VALUES (value)`.
pub fn values(value: Expr) -> Query {
    query(SetExpr::Values(sqlparser::ast::Values {
        explicit_row: false,
        value_keyword: false,
        rows: vec![sqlparser::ast::Parens::with_empty_span(vec![value])],
    }))
}

/// A query of nothing but a body.
pub fn query(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
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

/// A SELECT of nothing.
pub fn empty_select() -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: Vec::new(),
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: sqlparser::ast::GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: sqlparser::ast::SelectFlavor::Standard,
    }
}

/// `schema.name AS alias`, all quoted.
pub fn table_factor(schema: &str, name: &str, alias: Option<&str>) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(vec![ident(schema), ident(name)]),
        alias: alias.map(table_alias),
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

/// `name`, quoted: a CTE.
pub fn own_factor(name: &str) -> TableFactor {
    TableFactor::Table {
        name: ObjectName::from(vec![ident(name)]),
        alias: None,
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

/// `AS name`.
pub fn table_alias(name: &str) -> sqlparser::ast::TableAlias {
    sqlparser::ast::TableAlias { explicit: true, name: ident(name), columns: Vec::new(), at: None }
}

/// An expression that always raises error 22P02, carrying the code and the value's own text. Typed
/// as `type_name`. It depends on `value`, so that the planner cannot evaluate it ahead.
fn raise(code: DenialCode, value: Expr, type_name: &str) -> Expr {
    let text = Expr::BinaryOp {
        left: Box::new(string(&format!("{MARKER}{} ", code.code()))),
        op: BinaryOperator::StringConcat,
        right: Box::new(coalesce_text(value)),
    };
    let fail = cast(Expr::Nested(Box::new(text)), "int4");
    cast(cast(fail, "text"), type_name)
}

fn coalesce_text(value: Expr) -> Expr {
    use sqlparser::ast::{Function, FunctionArg, FunctionArgExpr, FunctionArgumentList};
    let arguments = [cast(value, "text"), string("null")];
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("coalesce")]),
        uses_odbc_syntax: false,
        parameters: sqlparser::ast::FunctionArguments::None,
        args: sqlparser::ast::FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments
                .into_iter()
                .map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)))
                .collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Whether an expression is the guard of a table without a tenant column, as a plain IN, which the
/// planner makes a semi-join.
fn is_semi_join(expression: &Expr) -> bool {
    let Expr::InSubquery { subquery, negated: false, .. } = expression else { return false };
    let SetExpr::Select(select) = &*subquery.body else { return false };
    matches!(
        select.from.as_slice(),
        [TableWithJoins { relation: TableFactor::Table { alias: Some(alias), .. }, .. }]
            if alias.name.value.starts_with(PARENT)
    )
}

/// Calls `change` for each top-level conjunct of WHERE and of every ON of the level.
fn each_conjunct(
    selection: Option<&mut Expr>,
    from: &mut [TableWithJoins],
    change: &mut impl FnMut(&mut Expr),
) {
    fn conjuncts(condition: &mut Expr, change: &mut impl FnMut(&mut Expr)) {
        match condition {
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                conjuncts(left, change);
                conjuncts(right, change);
            }
            other => change(other),
        }
    }
    fn joins(item: &mut TableWithJoins, change: &mut impl FnMut(&mut Expr)) {
        use sqlparser::ast::{JoinConstraint, JoinOperator};
        if let TableFactor::NestedJoin { table_with_joins, .. } = &mut item.relation {
            joins(table_with_joins, change);
        }
        for join in &mut item.joins {
            if let TableFactor::NestedJoin { table_with_joins, .. } = &mut join.relation {
                joins(table_with_joins, change);
            }
            if let JoinOperator::Join(JoinConstraint::On(on))
            | JoinOperator::Inner(JoinConstraint::On(on))
            | JoinOperator::Left(JoinConstraint::On(on))
            | JoinOperator::LeftOuter(JoinConstraint::On(on))
            | JoinOperator::Right(JoinConstraint::On(on))
            | JoinOperator::RightOuter(JoinConstraint::On(on)) = &mut join.join_operator
            {
                conjuncts(on, change);
            }
        }
    }
    if let Some(selection) = selection {
        conjuncts(selection, change);
    }
    for item in from {
        joins(item, change);
    }
}

/// Whether a guard of the level is a semi-join.
pub fn has_semi_join(selection: Option<&mut Expr>, from: &mut [TableWithJoins]) -> bool {
    let mut found = false;
    each_conjunct(selection, from, &mut |conjunct| found |= is_semi_join(conjunct));
    found
}

/// Makes every semi-join guard of the level a filter on its table (`… IN (…) IS TRUE`). A semi-join
/// may be done after the rows were sorted or handed to a function, and then what was computed for
/// that has met every tenant's rows.
pub fn fix_semi_joins(selection: Option<&mut Expr>, from: &mut [TableWithJoins]) {
    each_conjunct(selection, from, &mut |conjunct| {
        if is_semi_join(conjunct) && !mutant::on("semi-join-free") {
            let guard = std::mem::replace(conjunct, Expr::Wildcard(AttachedToken::empty()));
            *conjunct = Expr::IsTrue(Box::new(Expr::Nested(Box::new(guard))));
        }
    });
}

/// The name under which a checked value is looked at.
pub const CHECKED: &str = "hedgerow_value";
/// The alias of the sub-select that evaluates a checked value once.
pub const CHECK: &str = "hedgerow_check";

/// A written value, checked when it is known: `(SELECT CASE WHEN test(v) THEN v ELSE <raise> END
/// FROM (SELECT value::type AS v) …)`. The value is evaluated once.
pub fn checked(
    value: Expr,
    type_name: &str,
    test: impl FnOnce(Expr) -> Expr,
    code: DenialCode,
) -> Expr {
    let seen = || column(CHECK, CHECKED);
    let inner = {
        let mut select = empty_select();
        select.projection = vec![SelectItem::ExprWithAlias {
            expr: cast(Expr::Nested(Box::new(value)), type_name),
            alias: ident(CHECKED),
        }];
        let mut inner = query(SetExpr::Select(Box::new(select)));
        // Were it merged, the planner would evaluate the failing branch for a constant value.
        super::keep_apart(&mut inner);
        inner
    };
    let derived = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(inner),
        alias: Some(table_alias(CHECK)),
        sample: None,
    };
    let verdict = case(test(seen()), seen(), raise(code, seen(), type_name));
    Expr::Subquery(Box::new(select_from(derived, SelectItem::UnnamedExpr(verdict), None)))
}

/// A written value that carries the test of its row: `(SELECT CASE WHEN test THEN v ELSE <raise> END
/// FROM (SELECT items) …)`, where `v` is the item of the name `carrier`.
pub fn checked_row(items: Vec<SelectItem>, carrier: &str, test: Expr, type_name: &str) -> Expr {
    let mut select = empty_select();
    select.projection = items;
    let mut inner = query(SetExpr::Select(Box::new(select)));
    super::keep_apart(&mut inner);
    let derived = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(inner),
        alias: Some(table_alias(CHECK)),
        sample: None,
    };
    let seen = || column(CHECK, carrier);
    let refusal = raise(DenialCode::WriteOutsideTenant, seen(), type_name);
    let verdict = case(test, seen(), refusal);
    Expr::Subquery(Box::new(select_from(derived, SelectItem::UnnamedExpr(verdict), None)))
}

/// The plain type name in which a column's checked value is cast: a built-in scalar type, else
/// `None`, and then the value cannot be checked.
pub fn checkable_type(type_name: &str) -> Option<&'static str> {
    Some(match totality::class_of(type_name)? {
        Class::Uuid => "uuid",
        Class::Integer => "int8",
        Class::Text => "text",
        Class::Numeric => "numeric",
        Class::Oid
        | Class::Float
        | Class::Bool
        | Class::Date
        | Class::Timestamp
        | Class::Timestamptz
        | Class::Time
        | Class::Timetz
        | Class::Interval
        | Class::Bytes
        | Class::Jsonb
        | Class::Document
        | Class::Array
        | Class::Range
        | Class::TextSearch
        | Class::Network
        | Class::Unknown
        | Class::Reused => return None,
    })
}

/// The guard of a null-supplied relation, true for null-extended rows too. A row of a table has a
/// `tableoid`, always; a view's row is told by the column that the guard reads.
pub fn or_null_extended(whole: Expr, table: &Table<'_>, visible: &str) -> Result<Expr, Denial> {
    let witness = match &table.policy.protection {
        _ if table.has_system_columns() => "tableoid",
        Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. } => column,
        Protection::Shared | Protection::Deny => return Err(Denial::new(DenialCode::LeakPossible)),
    };
    if mutant::on("null-extended-lost") {
        return Ok(whole);
    }
    let absent = Expr::IsNull(Box::new(column(visible, witness)));
    Ok(Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(Expr::Nested(Box::new(whole))),
        op: BinaryOperator::Or,
        right: Box::new(absent),
    })))
}

/// Replaces a table by `(SELECT * FROM table AS visible WHERE guard OFFSET 0) AS alias`.
pub fn set_apart(factor: &mut TableFactor, visible: &str, whole: Expr) -> Result<(), Denial> {
    let TableFactor::Table { alias, .. } = factor else {
        return Err(Denial::new(DenialCode::Internal));
    };
    let outer = alias.take().unwrap_or_else(|| table_alias(visible));
    *alias = Some(table_alias(visible));
    let whole = Some(whole).filter(|_| !mutant::on("apart-unfiltered"));
    let all_columns = SelectItem::Wildcard(sqlparser::ast::WildcardAdditionalOptions::default());
    let mut subquery: Query = select_from(factor.clone(), all_columns, whole);
    super::keep_apart(&mut subquery);
    *factor = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(subquery),
        alias: Some(outer),
        sample: None,
    };
    Ok(())
}
