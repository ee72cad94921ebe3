//! What the types of a statement's parameters are, as far as its text and the client tell. Layer 2.
//!
//! PostgreSQL gives a parameter the type of its first use, and casts it at the others. A cast that
//! fails where a row is looked at tells of the row, so that only a parameter whose type is certain
//! counts as total.

use std::ops::ControlFlow;

use sqlparser::ast::{DataType, Expr, Statement, Value, visit_expressions};

use super::super::totality::{Class, Parameter};
use super::total::type_class;

/// The position of `$n` among the parameters, from 0.
pub fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

/// The `typname` of a plain type.
pub fn type_name(data_type: &DataType) -> Option<String> {
    let class = type_class(data_type)?;
    let written = data_type.to_string().to_ascii_lowercase();
    Some(match (class, written.as_str()) {
        (Class::Array, text) => format!("_{}", scalar(text.strip_suffix("[]")?)),
        (Class::Timestamp, _) => "timestamp".to_owned(),
        (Class::Timestamptz, _) => "timestamptz".to_owned(),
        (Class::Time, _) => "time".to_owned(),
        (Class::Timetz, _) => "timetz".to_owned(),
        (_, text) => scalar(text).to_owned(),
    })
}

fn scalar(written: &str) -> &str {
    match written {
        "smallint" => "int2",
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "decimal" => "numeric",
        "real" => "float4",
        "double precision" => "float8",
        "boolean" => "bool",
        "character varying" => "varchar",
        other => other,
    }
}

/// The parameters of a statement, given what the client declared. `text` is what `statement` was
/// read from.
pub fn of_statement(statement: &Statement, text: &str, declared: &[Parameter]) -> Vec<Parameter> {
    let mut casts: Vec<Cast> = Vec::new();
    let mut highest = 0;
    let _: ControlFlow<()> = visit_expressions(statement, |expression| {
        if let Some(number) = parameter(expression) {
            highest = highest.max(number + 1);
        }
        if let Expr::Cast { expr, data_type, .. } = expression
            && let Some(number) = parameter(expr)
        {
            casts.push(Cast { number, type_name: type_name(data_type) });
        }
        ControlFlow::Continue(())
    });
    (0..highest)
        .map(|number| match declared.get(number).copied().unwrap_or(Parameter::Open) {
            Parameter::Open => undeclared(number, text, &casts),
            known @ (Parameter::Typed(_) | Parameter::Foreign(_) | Parameter::Reused) => known,
        })
        .collect()
}

/// A cast of a parameter.
struct Cast {
    number: usize,
    /// `None` for a type that no class has.
    type_name: Option<String>,
}

fn undeclared(number: usize, text: &str, casts: &[Cast]) -> Parameter {
    let uses = occurrences(text, number + 1);
    if uses == 1 {
        return Parameter::Open;
    }
    let mut own = casts.iter().filter(|cast| cast.number == number);
    let Some(first) = own.next() else { return Parameter::Reused };
    let (mut count, mut alike) = (1, true);
    for cast in own {
        count += 1;
        alike &= cast.type_name == first.type_name;
    }
    match &first.type_name {
        Some(type_name) if alike && count == uses => Parameter::of_name(type_name),
        Some(_) | None => Parameter::Reused,
    }
}

/// How often `$n` stands in a text; within literals too, for too many is the safe side.
fn occurrences(text: &str, number: usize) -> usize {
    let name = format!("${number}");
    text.match_indices(&name)
        .filter(|(at, name)| {
            let next = text.as_bytes().get(at + name.len());
            !next.is_some_and(u8::is_ascii_digit)
        })
        .count()
}

fn parameter(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => number_of(name),
            _ => None,
        },
        Expr::Nested(inner) => parameter(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Parameter> {
        of_statement(&super::super::parse(text).unwrap().statement, text, &[])
    }

    #[test]
    fn a_parameter_is_certain_when_it_is_used_once_or_always_cast_alike() {
        assert_eq!(of("SELECT 1 FROM t WHERE a = $1"), [Parameter::Open]);
        assert_eq!(of("SELECT 1 FROM t WHERE a = $1 AND b = $1"), [Parameter::Reused]);
        let typed = of("SELECT 1 FROM t WHERE a = $1::uuid AND b = $1::uuid");
        assert_eq!(typed, [Parameter::Typed("uuid")]);
        let mixed = of("SELECT 1 FROM t WHERE a = $1::int8 AND b = $1::oid");
        assert_eq!(mixed, [Parameter::Reused]);
        let partly = of("SELECT 1 FROM t WHERE a = $1::int8 AND b = $1");
        assert_eq!(partly, [Parameter::Reused]);
        assert_eq!(of("SELECT 1 FROM t WHERE a = $2 AND b = $12").len(), 12);
        assert_eq!(of("SELECT 1 FROM t LIMIT $1"), [Parameter::Open]);
    }

    #[test]
    fn what_the_client_declares_counts() {
        let text = "SELECT 1 FROM t WHERE a = $1 AND b = $1";
        let declared = [Parameter::Typed("oid")];
        let statement = super::super::parse(text).unwrap().statement;
        assert_eq!(of_statement(&statement, text, &declared), declared);
    }
}
