//! Which expressions are total: for every row, whoever owns it, they return a value without error
//! and without effect. Only such an expression may be evaluated on a row before the guard has seen
//! it, so only such a conjunct may stand beside the guard unshielded. Layer 2.
//!
//! The judgement is by type class, by the lists of [`totality`]; what is not known is not total.

use sqlparser::ast::{
    Array, BinaryOperator, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, ObjectName, TimezoneInfo, UnaryOperator, Value,
};

use super::super::depth;
use super::super::totality::{self, Bound, Class, Parameter};
use super::level::{Level, name_of};
use super::parameters::number_of;
use crate::mutant;

/// The operand of an operator: literals take the type of the other side when the statement is parsed,
/// so that no row can make them fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    Literal,
    Typed(Class),
}

/// Whether every sub-query of the expression was found clean when it was rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subqueries {
    /// No sub-query, or all of them are total throughout; with the class of the only column of the
    /// only one.
    Clean(Option<Class>),
    /// Some expression within is not total.
    Unclean,
}

/// The class of the expression's value if it is total.
pub fn class(expression: &Expr, level: &Level<'_>, subqueries: Subqueries) -> Option<Class> {
    let class_here = |inner: &Expr| class(inner, level, subqueries);
    let condition = |inner: &Expr| {
        matches!(class_here(inner)?, Class::Bool | Class::Unknown).then_some(Class::Bool)
    };
    match expression {
        Expr::Identifier(column) => level.find(std::slice::from_ref(column)).class,
        Expr::CompoundIdentifier(parts) => level.find(parts).class,
        Expr::Nested(inner) => class_here(inner),
        Expr::Value(value) => match &value.value {
            Value::Boolean(_) => Some(Class::Bool),
            Value::Number(digits, _) if digits.parse::<i64>().is_ok() => Some(Class::Integer),
            Value::Number(..) => Some(Class::Numeric),
            Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) | Value::Null => {
                Some(Class::Unknown)
            }
            Value::Placeholder(name) => parameter_class(name, level),
            _ => None,
        },
        Expr::TypedString(typed) => type_class(&typed.data_type),
        Expr::Interval(interval) => literal(&interval.value).then_some(Class::Interval),
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
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => {
            number_literal(expr).then(|| class_here(expr)).flatten()
        }
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => class_here(inner).map(|_| Class::Bool),
        Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner) => condition(inner),
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
            compare("=", left, right, level, subqueries)
        }
        Expr::InList { expr, list, .. } => in_list(expr, list, level, subqueries),
        Expr::Between { expr, low, high, negated } => {
            let (of_low, of_high) = if *negated { ("<", ">") } else { (">=", "<=") };
            compare(of_low, expr, low, level, subqueries)
                .and(compare(of_high, expr, high, level, subqueries))
        }
        Expr::Like { any: false, expr, pattern, escape_char: None, .. }
        | Expr::ILike { any: false, expr, pattern, escape_char: None, .. } => {
            let text = matches!(class_here(expr)?, Class::Text);
            let own = ["~~", "!~~", "~~*", "!~~*"].iter().all(|symbol| is_own(symbol, level));
            (text && own && plain_pattern(pattern)).then_some(Class::Bool)
        }
        Expr::AnyOp { left, compare_op, right, .. } | Expr::AllOp { left, compare_op, right } => {
            any_class(left, compare_op, right, level, subqueries)
        }
        Expr::Exists { .. } if mutant::on("subquery-total") => Some(Class::Bool),
        Expr::Exists { .. } => matches!(subqueries, Subqueries::Clean(_)).then_some(Class::Bool),
        Expr::InSubquery { expr, .. } => {
            let Subqueries::Clean(Some(column)) = subqueries else { return None };
            let total = match operand(expr, level, subqueries)? {
                Operand::Literal => column != Class::Document,
                Operand::Typed(class) => totality::comparable(class, column),
            };
            (total && is_own("=", level)).then_some(Class::Bool)
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
            result.flatten().filter(|class| totality::is_mergeable(*class))
        }
        _ => None,
    }
}

/// Whether a conjunct is total.
pub fn is_total(conjunct: &Expr, level: &Level<'_>, subqueries: Subqueries) -> bool {
    class(conjunct, level, subqueries).is_some()
}

fn parameter(name: &str, level: &Level<'_>) -> Parameter {
    let known = number_of(name).and_then(|number| level.env.parameters.get(number));
    known.copied().unwrap_or(Parameter::Foreign(0))
}

fn parameter_class(name: &str, level: &Level<'_>) -> Option<Class> {
    match parameter(name, level) {
        Parameter::Open => Some(Class::Unknown),
        Parameter::Reused => Some(Class::Reused),
        Parameter::Typed(type_name) => totality::class_of(type_name),
        Parameter::Foreign(_) => None,
    }
}

/// Whether an operator of that symbol is PostgreSQL's own: no other is defined between built-in types
/// (intarray has a `&&` that fails for a null element).
fn is_own(symbol: &str, level: &Level<'_>) -> bool {
    !level.env.catalog.user_operators.contains(symbol)
}

/// The class of a type without modifiers, by name.
pub fn type_class(data_type: &DataType) -> Option<Class> {
    match data_type {
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let name = plain_name(name)?;
            totality::class_of(&name)
        }
        DataType::Array(_) => {
            let text = data_type.to_string().to_ascii_lowercase();
            let element = text.strip_suffix("[]")?;
            totality::class_of(element)
                .filter(|class| !matches!(class, Class::Document | Class::Array))
                .map(|_| Class::Array)
        }
        DataType::Timestamp(None, TimezoneInfo::None) => Some(Class::Timestamp),
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone) => Some(Class::Timestamptz),
        DataType::Time(None, TimezoneInfo::None) => Some(Class::Time),
        DataType::Time(None, TimezoneInfo::WithTimeZone) => Some(Class::Timetz),
        DataType::Interval { fields: None, precision: None } => Some(Class::Interval),
        DataType::DoublePrecision => Some(Class::Float),
        DataType::Varchar(None) | DataType::CharacterVarying(None) | DataType::Text => {
            Some(Class::Text)
        }
        other => totality::class_of(&other.to_string().to_ascii_lowercase()),
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

/// A literal without a type.
fn literal(expression: &Expr) -> bool {
    match expression {
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::Nested(inner) => literal(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => {
            number_literal(expr)
        }
        _ => false,
    }
}

fn number_literal(expression: &Expr) -> bool {
    match expression {
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        Expr::Nested(inner) => number_literal(inner),
        _ => false,
    }
}

/// A literal, or one with a type's name: its value is made when the statement is parsed. (Not so the
/// cast of a cast: that may be evaluated with the rows.)
fn constant(expression: &Expr) -> bool {
    match expression {
        Expr::TypedString(_) => true,
        Expr::Nested(inner) => constant(inner),
        Expr::Interval(interval) => literal(&interval.value),
        Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, .. } => literal(expr),
        other => literal(other),
    }
}

fn placeholder(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => Some(name),
            _ => None,
        },
        Expr::Nested(inner) => placeholder(inner),
        _ => None,
    }
}

fn operand(expression: &Expr, level: &Level<'_>, subqueries: Subqueries) -> Option<Operand> {
    if literal(expression) {
        return Some(Operand::Literal);
    }
    class(expression, level, subqueries).map(Operand::Typed)
}

fn compare(
    symbol: &str,
    left: &Expr,
    right: &Expr,
    level: &Level<'_>,
    subqueries: Subqueries,
) -> Option<Class> {
    let total = match (operand(left, level, subqueries)?, operand(right, level, subqueries)?) {
        (Operand::Literal, Operand::Typed(class)) | (Operand::Typed(class), Operand::Literal) => {
            class != Class::Document
        }
        (Operand::Literal, Operand::Literal) => true,
        (Operand::Typed(left), Operand::Typed(right)) => totality::comparable(left, right),
    };
    (total && is_own(symbol, level)).then_some(Class::Bool)
}

/// All values of IN are brought to one type.
fn in_list(left: &Expr, list: &[Expr], level: &Level<'_>, subqueries: Subqueries) -> Option<Class> {
    let mut classes = Vec::with_capacity(list.len() + 1);
    for item in std::iter::once(left).chain(list) {
        match operand(item, level, subqueries)? {
            Operand::Literal => {}
            Operand::Typed(class) => {
                if !classes.iter().all(|other| totality::unifiable(*other, class)) {
                    return None;
                }
                classes.push(class);
            }
        }
    }
    let comparable = !classes.contains(&Class::Document);
    (comparable && is_own("=", level) && is_own("<>", level)).then_some(Class::Bool)
}

/// `left op ANY (right)`: constants on the right, or an array of rows' own for a literal on the left.
fn any_class(
    left: &Expr,
    op: &BinaryOperator,
    right: &Expr,
    level: &Level<'_>,
    subqueries: Subqueries,
) -> Option<Class> {
    let symbol = op.to_string();
    if !totality::COMPARISONS.contains(&symbol.as_str()) || !is_own(&symbol, level) {
        return None;
    }
    let total = match operand(left, level, subqueries)? {
        Operand::Literal => {
            constant_array(right, level) || class(right, level, subqueries) == Some(Class::Array)
        }
        Operand::Typed(left) => match array_element(right, level) {
            Some(element) => totality::comparable(left, element),
            None => false,
        },
    };
    total.then_some(Class::Bool)
}

/// The class of the elements of a constant array.
fn array_element(expression: &Expr, level: &Level<'_>) -> Option<Class> {
    if let Some(name) = placeholder(expression) {
        return match parameter(name, level) {
            Parameter::Open => Some(Class::Unknown),
            Parameter::Reused => Some(Class::Reused),
            Parameter::Typed(type_name) => totality::element_of(type_name),
            Parameter::Foreign(_) => None,
        };
    }
    match expression {
        Expr::Nested(inner) => array_element(inner, level),
        Expr::Cast { data_type: DataType::Array(_), .. } | Expr::Array(_)
            if !constant_array(expression, level) =>
        {
            None
        }
        Expr::Cast { data_type, .. } => {
            let text = data_type.to_string().to_ascii_lowercase();
            let element = text.strip_suffix("[]").or_else(|| text.strip_prefix('_'))?;
            totality::class_of(element)
        }
        Expr::Array(Array { elem, .. }) => {
            let mut elements = None;
            for item in elem {
                let class = match placeholder(item) {
                    Some(name) => parameter_class(name, level)?,
                    None => literal_class(item)?,
                };
                if elements.is_some_and(|before| before != class) {
                    return None;
                }
                elements = Some(class);
            }
            Some(elements.unwrap_or(Class::Unknown))
        }
        Expr::Value(_) => Some(Class::Unknown),
        _ => None,
    }
}

/// The class of a constant.
fn literal_class(expression: &Expr) -> Option<Class> {
    match expression {
        Expr::TypedString(typed) => type_class(&typed.data_type),
        Expr::Cast { expr, data_type, .. } => {
            literal(expr).then(|| type_class(data_type)).flatten()
        }
        Expr::Nested(inner) => literal_class(inner),
        Expr::UnaryOp { expr, .. } if literal(expression) => literal_class(expr),
        Expr::Value(value) => match &value.value {
            Value::Boolean(_) => Some(Class::Bool),
            Value::Number(digits, _) if digits.parse::<i64>().is_ok() => Some(Class::Integer),
            Value::Number(..) => Some(Class::Numeric),
            Value::Placeholder(_) => None,
            _ => Some(Class::Unknown),
        },
        _ => None,
    }
}

fn operator_class(
    left: &Expr,
    op: &BinaryOperator,
    right: &Expr,
    level: &Level<'_>,
    subqueries: Subqueries,
) -> Option<Class> {
    let symbol = op.to_string();
    if totality::COMPARISONS.contains(&symbol.as_str()) {
        return compare(&symbol, left, right, level, subqueries);
    }
    if !is_own(&symbol, level) {
        return None;
    }
    if symbol == "@@" {
        return matches_query(left, right, level, subqueries);
    }
    let left_class = class(left, level, subqueries)?;
    if mutant::on("arithmetic-total") {
        return Some(left_class);
    }
    if matches!(op, BinaryOperator::Plus | BinaryOperator::Minus) {
        // `now() - '1 day'::interval`: no row takes part, and no result is out of range.
        let clock = matches!(left_class, Class::Timestamptz | Class::Timestamp | Class::Date)
            && is_clock(left);
        return (clock && short_interval(right)).then_some(match left_class {
            Class::Date => Class::Timestamp,
            other => other,
        });
    }
    let right_class = if literal(right) || constant_array(right, level) && !constant(right) {
        None
    } else {
        Some(class(right, level, subqueries)?)
    };
    let listed = totality::total_operator(&symbol, left_class, right_class)?;
    let shallow = match listed.bound {
        Bound::Flat => true,
        Bound::Document => {
            [left, right].into_iter().filter_map(document).any(depth::is_shallow_document)
        }
        // The query's type is no class: it is told here.
        Bound::Query => false,
    };
    (shallow || mutant::on("deep-total")).then_some(listed.gives)
}

/// The text of a literal document, with or without its type.
fn document(expression: &Expr) -> Option<&str> {
    typed_text(expression, |data_type| type_class(data_type) == Some(Class::Jsonb))
}

/// The text of a string literal: bare, or with a type that may be.
fn typed_text(expression: &Expr, may_be: fn(&DataType) -> bool) -> Option<&str> {
    match expression {
        Expr::Nested(inner) => typed_text(inner, may_be),
        Expr::TypedString(typed) if may_be(&typed.data_type) => text_of(&typed.value.value),
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } if may_be(data_type) => match &**expr {
            Expr::Value(value) => text_of(&value.value),
            _ => None,
        },
        Expr::Value(value) => text_of(&value.value),
        _ => None,
    }
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}

/// `document @@ 'query'`: the only place where a query counts, for it is in sight.
fn matches_query(
    left: &Expr,
    right: &Expr,
    level: &Level<'_>,
    subqueries: Subqueries,
) -> Option<Class> {
    let listed = totality::total_operator("@@", class(left, level, subqueries)?, None)?;
    let is_query = |data_type: &DataType| data_type.to_string().eq_ignore_ascii_case("tsquery");
    let query = typed_text(right, is_query)?;
    depth::is_shallow_query(query).then_some(listed.gives)
}

/// A function that reads the clock.
fn is_clock(expression: &Expr) -> bool {
    match expression {
        Expr::Function(function) => arguments(function).is_some_and(|list| list.is_empty()),
        Expr::Nested(inner) => is_clock(inner),
        _ => false,
    }
}

fn short_interval(expression: &Expr) -> bool {
    let text = |value: &Expr| match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => totality::is_short_interval(text),
            _ => false,
        },
        _ => false,
    };
    match expression {
        Expr::Nested(inner) => short_interval(inner),
        Expr::Cast { expr, data_type, .. } => {
            type_class(data_type) == Some(Class::Interval) && text(expr)
        }
        Expr::TypedString(typed) => {
            type_class(&typed.data_type) == Some(Class::Interval)
                && matches!(&typed.value.value, Value::SingleQuotedString(text)
                    if totality::is_short_interval(text))
        }
        Expr::Interval(interval) => interval.leading_field.is_none() && text(&interval.value),
        _ => false,
    }
}

/// A cast that cannot fail: of a literal (its value is made when the statement is parsed), of an open
/// parameter (it takes the type), of anything total to text, of a whole number to a wider type.
fn cast_class(
    inner: &Expr,
    data_type: &DataType,
    level: &Level<'_>,
    subqueries: Subqueries,
) -> Option<Class> {
    let to = type_class(data_type)?;
    if literal(inner) {
        return Some(to);
    }
    match (class(inner, level, subqueries)?, to) {
        _ if mutant::on("cast-total") => Some(to),
        (Class::Unknown, _) => placeholder(inner).map(|_| to),
        (Class::Reused, _) => None,
        // `"char"` holds a byte: a number beyond one is out of range. The text of bytes and arrays may be
        // several times as long as they are, and too long.
        (_, Class::Text) if is_byte(data_type) && !mutant::on("byte-total") => None,
        (Class::Bytes | Class::Array, Class::Text) => None,
        (_, Class::Text) => Some(Class::Text),
        (Class::Integer, Class::Numeric | Class::Float) => Some(to),
        (Class::Integer, Class::Integer) if data_type_is_widest(data_type) => Some(to),
        // A parameter that every use casts to this type has it.
        (from, _) if from == to && placeholder(inner).is_some() => {
            let name = placeholder(inner)?;
            let same = match parameter(name, level) {
                Parameter::Typed(declared) => {
                    super::parameters::type_name(data_type).as_deref() == Some(declared)
                }
                Parameter::Open | Parameter::Reused | Parameter::Foreign(_) => false,
            };
            same.then_some(to)
        }
        (from, _) if from == to && matches!(to, Class::Uuid | Class::Bool | Class::Jsonb) => {
            Some(to)
        }
        (_, _) => None,
    }
}

/// `"char"`, which is not `char`.
fn is_byte(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Custom(..))
        && matches!(data_type.to_string().as_str(), "\"char\"" | "pg_catalog.\"char\"")
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
            Value::SingleQuotedString(text) => {
                depth::is_shallow_pattern(text) || mutant::on("deep-total")
            }
            _ => false,
        },
        _ => mutant::on("pattern-total"),
    }
}

/// A parameter, an array literal, or `ARRAY[…]` of constants: no row takes part in it.
fn constant_array(expression: &Expr, level: &Level<'_>) -> bool {
    match expression {
        Expr::Nested(inner) => constant_array(inner, level),
        Expr::Array(Array { elem, .. }) => elem.iter().all(|item| match placeholder(item) {
            Some(name) => matches!(parameter(name, level), Parameter::Open | Parameter::Typed(_)),
            None => constant(item),
        }),
        Expr::Cast { expr, data_type, .. } => {
            type_class(data_type) == Some(Class::Array)
                && match placeholder(expr) {
                    Some(name) => parameter(name, level) == Parameter::Open,
                    None => {
                        matches!(&**expr, Expr::Array(array) if array.elem.iter().all(literal))
                            || literal(expr)
                    }
                }
        }
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => {
                matches!(parameter(name, level), Parameter::Open | Parameter::Typed(_))
            }
            _ => true,
        },
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
    // SECURITY: a user's function of that name may be the better match for the arguments.
    if function.name.0.len() == 1 && level.env.is_user_function(&name) {
        return None;
    }
    let classes: Option<Vec<Class>> =
        arguments(function)?.into_iter().map(|inner| class(inner, level, subqueries)).collect();
    let classes = classes?;
    if name == "coalesce" {
        let mut known = classes.iter().filter(|class| **class != Class::Unknown);
        let first = known.next().filter(|class| totality::is_mergeable(**class))?;
        return known.all(|class| class == first).then_some(*first);
    }
    let any = Some(Class::Bool).filter(|_| mutant::on("function-total"));
    totality::total_function(&name, &classes).or(any)
}
