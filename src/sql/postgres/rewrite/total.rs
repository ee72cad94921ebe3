//! Which expressions are total: for every row, whoever owns it, they return a value without error
//! and without effect. Only such an expression may be evaluated on a row before the guard has seen
//! it, so only such a conjunct may stand beside the guard unshielded. Layer 2.
//!
//! The judgement is by type class ([`lists`](super::super::lists)); what is not known is not total.

use sqlparser::ast::{
    Array, BinaryOperator, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, ObjectName, UnaryOperator, Value,
};

use super::super::lists::{self, Class};
use super::level::{Level, name_of};

/// The operand of an operator: constants take the type of the other side when the statement is
/// parsed, so that no row can make them fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    Constant,
    Typed(Class),
}

/// Whether every sub-query of the expression was found clean when it was rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subqueries {
    /// No sub-query, or all of them are total throughout.
    Clean,
    /// Some expression within is not total.
    Unclean,
}

/// The class of the expression's value if it is total.
pub fn class(expression: &Expr, level: &Level<'_>, subqueries: Subqueries) -> Option<Class> {
    let class_here = |inner: &Expr| class(inner, level, subqueries);
    let condition = |inner: &Expr| (class_here(inner)? == Class::Bool).then_some(Class::Bool);
    match expression {
        Expr::Identifier(column) => level.find(std::slice::from_ref(column)).class,
        Expr::CompoundIdentifier(parts) => level.find(parts).class,
        Expr::Nested(inner) => class_here(inner),
        Expr::Value(value) => match &value.value {
            Value::Boolean(_) => Some(Class::Bool),
            Value::Number(..) => Some(Class::Integer),
            Value::SingleQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::Null
            | Value::Placeholder(_) => Some(Class::Unknown),
            _ => None,
        },
        Expr::TypedString(typed) => type_class(&typed.data_type),
        Expr::Interval(_) => constant(expression).then_some(Class::Time),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => cast_class(expr, data_type, level, subqueries),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            condition(left).and(condition(right))
        }
        Expr::BinaryOp { left, op, right } => operator_class(left, op, right, level, subqueries),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => condition(expr),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, .. } => {
            constant(expression).then_some(Class::Integer)
        }
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => class_here(inner).map(|_| Class::Bool),
        Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner) => condition(inner),
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
            compare(left, right, level, subqueries)
        }
        Expr::InList { expr, list, .. } => list
            .iter()
            .all(|item| compare(expr, item, level, subqueries).is_some())
            .then_some(Class::Bool),
        Expr::Between { expr, low, high, .. } => {
            compare(expr, low, level, subqueries).and(compare(expr, high, level, subqueries))
        }
        Expr::Like { any: false, expr, pattern, escape_char: None, .. }
        | Expr::ILike { any: false, expr, pattern, escape_char: None, .. } => {
            let text = matches!(class_here(expr)?, Class::Text);
            (text && plain_pattern(pattern)).then_some(Class::Bool)
        }
        Expr::AnyOp { left, compare_op, right, .. } | Expr::AllOp { left, compare_op, right } => {
            let left = operand(left, level, subqueries)?;
            let elements = is_comparison(compare_op) && constant_array(right);
            let left_total = match left {
                Operand::Constant => true,
                Operand::Typed(class) => lists::comparable(Class::Unknown, class),
            };
            (elements && left_total).then_some(Class::Bool)
        }
        Expr::Exists { .. } => (subqueries == Subqueries::Clean).then_some(Class::Bool),
        Expr::InSubquery { expr, .. } => {
            (subqueries == Subqueries::Clean && class_here(expr).is_some()).then_some(Class::Bool)
        }
        Expr::Function(function) => function_class(function, level, subqueries),
        Expr::Case { operand: None, conditions, else_result, .. } => {
            let mut result = else_result.as_deref().map(class_here);
            for when in conditions {
                condition(&when.condition)?;
                let arm = class_here(&when.result);
                result = match result {
                    None => Some(arm),
                    Some(before) if before == arm => Some(arm),
                    Some(_) => return None,
                };
            }
            result.flatten()
        }
        _ => None,
    }
}

/// Whether a conjunct is total.
pub fn is_total(conjunct: &Expr, level: &Level<'_>, subqueries: Subqueries) -> bool {
    class(conjunct, level, subqueries).is_some()
}

/// The class of a type without modifiers, by name.
pub fn type_class(data_type: &DataType) -> Option<Class> {
    match data_type {
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let name = plain_name(name)?;
            lists::class_of(&name)
        }
        DataType::Array(_) => {
            let text = data_type.to_string().to_ascii_lowercase();
            let element = text.strip_suffix("[]")?;
            lists::class_of(element).map(|_| Class::Array)
        }
        DataType::Timestamp(
            None,
            sqlparser::ast::TimezoneInfo::None | sqlparser::ast::TimezoneInfo::WithTimeZone,
        ) => Some(Class::Moment),
        DataType::Time(None, _) | DataType::Interval { precision: None, .. } => Some(Class::Time),
        DataType::DoublePrecision => Some(Class::Float),
        DataType::Varchar(None) | DataType::CharacterVarying(None) | DataType::Text => {
            Some(Class::Text)
        }
        other => lists::class_of(&other.to_string().to_ascii_lowercase()),
    }
}

/// The name of a function or type, `pg_catalog.` left off; `None` under another schema.
fn plain_name(name: &ObjectName) -> Option<String> {
    let parts: Option<Vec<String>> =
        name.0.iter().map(|part| part.as_ident().map(name_of)).collect();
    match parts?.as_slice() {
        [name] => Some(name.clone()),
        [schema, name] if schema == "pg_catalog" => Some(name.clone()),
        _ => None,
    }
}

/// Literals, parameters, and literals cast: no row takes part in them.
fn constant(expression: &Expr) -> bool {
    match expression {
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::TypedString(_) => true,
        Expr::Nested(inner) => constant(inner),
        Expr::Interval(interval) => constant(&interval.value),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => constant(expr),
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, .. } => constant(expr),
        _ => false,
    }
}

fn is_parameter(expression: &Expr) -> bool {
    match expression {
        Expr::Value(value) => matches!(value.value, Value::Placeholder(_)),
        Expr::Nested(inner) => is_parameter(inner),
        _ => false,
    }
}

fn operand(expression: &Expr, level: &Level<'_>, subqueries: Subqueries) -> Option<Operand> {
    if matches!(expression, Expr::Value(_)) && constant(expression) {
        return Some(Operand::Constant);
    }
    class(expression, level, subqueries).map(Operand::Typed)
}

fn is_comparison(op: &BinaryOperator) -> bool {
    lists::COMPARISONS.contains(&op.to_string().as_str())
}

fn compare(left: &Expr, right: &Expr, level: &Level<'_>, subqueries: Subqueries) -> Option<Class> {
    let total = match (operand(left, level, subqueries)?, operand(right, level, subqueries)?) {
        (Operand::Constant, Operand::Typed(class)) | (Operand::Typed(class), Operand::Constant) => {
            class != Class::Document
        }
        (Operand::Constant, Operand::Constant) => true,
        (Operand::Typed(left), Operand::Typed(right)) => lists::comparable(left, right),
    };
    total.then_some(Class::Bool)
}

fn operator_class(
    left: &Expr,
    op: &BinaryOperator,
    right: &Expr,
    level: &Level<'_>,
    subqueries: Subqueries,
) -> Option<Class> {
    if is_comparison(op) {
        return compare(left, right, level, subqueries);
    }
    let left_class = class(left, level, subqueries)?;
    if matches!(op, BinaryOperator::Plus | BinaryOperator::Minus) {
        // `now() - '1 day'::interval`: no row takes part.
        let moment =
            left_class == Class::Moment && matches!(left, Expr::Function(_) | Expr::Cast { .. });
        let rowless = constant(right) && !matches!(right, Expr::Value(_)) && rowless(left);
        return (moment && rowless).then_some(Class::Moment);
    }
    let symbol = op.to_string();
    let (class_of_left, _) = lists::TOTAL_OPERATORS
        .iter()
        .find(|(class, symbols)| *class == left_class && symbols.contains(&symbol.as_str()))?;
    let fits = constant(right)
        || class(right, level, subqueries).is_some_and(|right| match class_of_left {
            Class::Jsonb => matches!(right, Class::Jsonb | Class::Text | Class::Integer),
            other => right == *other,
        });
    let result = match symbol.as_str() {
        "->" | "#>" => Class::Jsonb,
        "->>" | "#>>" => Class::Text,
        _ => Class::Bool,
    };
    fits.then_some(result)
}

/// Whether an expression names no column.
fn rowless(expression: &Expr) -> bool {
    match expression {
        Expr::Function(function) => arguments(function).is_some_and(|list| list.is_empty()),
        other => constant(other),
    }
}

/// A cast that cannot fail: of a constant (it is evaluated when the statement is parsed), of a
/// parameter (it takes the type), of anything total to text, of an integer to a wider number.
fn cast_class(
    inner: &Expr,
    data_type: &DataType,
    level: &Level<'_>,
    subqueries: Subqueries,
) -> Option<Class> {
    let to = type_class(data_type)?;
    if constant(inner) || is_parameter(inner) {
        return Some(to);
    }
    match (class(inner, level, subqueries)?, to) {
        (Class::Unknown, _) => None,
        (_, Class::Text) => Some(Class::Text),
        (Class::Integer, Class::Numeric | Class::Float) => Some(to),
        (Class::Integer, Class::Integer) if data_type_is_widest(data_type) => Some(to),
        (from, _) if from == to && matches!(to, Class::Uuid | Class::Bool | Class::Jsonb) => {
            Some(to)
        }
        (_, _) => None,
    }
}

fn data_type_is_widest(data_type: &DataType) -> bool {
    matches!(data_type.to_string().to_ascii_lowercase().as_str(), "int8" | "bigint")
}

/// A pattern that cannot fail: LIKE complains of a trailing escape only when it gets that far.
fn plain_pattern(pattern: &Expr) -> bool {
    match pattern {
        Expr::Nested(inner) => plain_pattern(inner),
        Expr::Cast { expr, data_type, .. } => {
            type_class(data_type) == Some(Class::Text) && plain_pattern(expr)
        }
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => !text.contains('\\'),
            _ => false,
        },
        _ => false,
    }
}

/// The right side of `= ANY (…)`: a parameter, an array literal, or `ARRAY[…]` of constants.
fn constant_array(expression: &Expr) -> bool {
    match expression {
        Expr::Nested(inner) => constant_array(inner),
        Expr::Array(Array { elem, .. }) => {
            elem.iter().all(|item| constant(item) || is_parameter(item))
        }
        Expr::Cast { expr, data_type, .. } => {
            type_class(data_type) == Some(Class::Array) && constant_array(expr)
        }
        Expr::Value(_) => true,
        _ => false,
    }
}

/// The plain arguments of a call; `None` when the call has any clause.
fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let bare = function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty();
    if !bare {
        return None;
    }
    match &function.args {
        FunctionArguments::None => Some(Vec::new()),
        FunctionArguments::Subquery(_) => None,
        FunctionArguments::List(list) => {
            let plain = list.clauses.is_empty()
                && !matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
            list.args
                .iter()
                .map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) if plain => {
                        Some(expression)
                    }
                    _ => None,
                })
                .collect()
        }
    }
}

fn function_class(function: &Function, level: &Level<'_>, subqueries: Subqueries) -> Option<Class> {
    let name = plain_name(&function.name)?;
    if !lists::is_total_function(&name) {
        return None;
    }
    let classes: Option<Vec<Class>> =
        arguments(function)?.into_iter().map(|inner| class(inner, level, subqueries)).collect();
    match (name.as_str(), classes?.as_slice()) {
        ("lower" | "upper" | "btrim" | "ltrim" | "rtrim" | "md5", [Class::Text]) => {
            Some(Class::Text)
        }
        (
            "length" | "char_length" | "character_length" | "octet_length",
            [Class::Text | Class::Bytes],
        )
        | ("cardinality", [Class::Array]) => Some(Class::Integer),
        ("coalesce", [first, rest @ ..]) => {
            let alike = rest.iter().all(|class| class == first || *class == Class::Unknown);
            (alike && *first != Class::Unknown).then_some(*first)
        }
        (
            "now"
            | "current_timestamp"
            | "statement_timestamp"
            | "transaction_timestamp"
            | "clock_timestamp"
            | "localtimestamp"
            | "current_date",
            [],
        ) => Some(Class::Moment),
        ("jsonb_typeof", [Class::Jsonb]) => Some(Class::Text),
        ("jsonb_exists", [Class::Jsonb, Class::Text | Class::Unknown])
        | ("isfinite", [Class::Moment])
        | ("isempty" | "lower_inc" | "upper_inc" | "lower_inf" | "upper_inf", [Class::Range]) => {
            Some(Class::Bool)
        }
        _ => None,
    }
}
