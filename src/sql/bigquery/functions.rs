//! Functions of GoogleSQL that a tenant may call, and expressions that cannot raise an error.
//!
//! Not on the list, and so denied (HR1005): what reads a table or another service by its arguments
//! (`EXTERNAL_QUERY`, `ML.*`, `AI.*`, `VECTOR_SEARCH`, `APPENDS`), what tells of keys and identities
//! (`KEYS.*`, `AEAD.*`, `SECURE_CONTEXT`), and every function with a dataset before its name.

use sqlparser::ast::{BinaryOperator, CastKind, Expr, UnaryOperator};

/// Functions without a prefix, in lower case, sorted; with them the words of subscripts (`OFFSET(1)`)
/// and of date parts (`WEEK(MONDAY)`).
#[rustfmt::skip] // one word a line would be pages of nothing
const PLAIN: &[&str] = &[
    "abs", "acos", "acosh", "any_value", "approx_count_distinct", "approx_quantiles",
    "approx_top_count", "approx_top_sum", "array", "array_agg", "array_concat", "array_concat_agg",
    "array_length", "array_reverse", "array_to_string", "ascii", "asin", "asinh", "atan", "atan2",
    "atanh", "avg", "bit_and", "bit_count", "bit_or", "bit_xor", "bool", "bool_array",
    "byte_length", "cbrt", "ceil", "ceiling", "char_length", "character_length", "chr", "coalesce",
    "code_points_to_bytes", "code_points_to_string", "collate", "concat", "contains_substr",
    "corr", "cos", "cosh", "cosine_distance", "cot", "coth", "count", "countif", "covar_pop",
    "covar_samp", "csc", "csch", "cume_dist", "current_date", "current_datetime", "current_time",
    "current_timestamp", "date", "date_add", "date_bucket", "date_diff", "date_from_unix_date",
    "date_sub", "date_trunc", "datetime", "datetime_add", "datetime_bucket", "datetime_diff",
    "datetime_sub", "datetime_trunc", "dense_rank", "div", "edit_distance", "ends_with", "error",
    "euclidean_distance", "exp", "extract", "farm_fingerprint", "first_value", "float64",
    "float64_array", "floor", "format", "format_date", "format_datetime", "format_time",
    "format_timestamp", "from_base32", "from_base64", "from_hex", "generate_array",
    "generate_date_array", "generate_range_array", "generate_timestamp_array", "generate_uuid",
    "greatest", "grouping", "ieee_divide", "if", "ifnull", "initcap", "instr", "int64",
    "int64_array", "is_inf", "is_nan", "json_array", "json_array_append", "json_array_insert",
    "json_extract", "json_extract_array", "json_extract_scalar", "json_extract_string_array",
    "json_keys", "json_object", "json_query", "json_query_array", "json_remove", "json_set",
    "json_strip_nulls", "json_type", "json_value", "json_value_array", "justify_days",
    "justify_hours", "justify_interval", "lag", "last_day", "last_value", "lax_bool",
    "lax_float64", "lax_int64", "lax_string", "lead", "least", "left", "length", "ln", "log",
    "log10", "logical_and", "logical_or", "lower", "lpad", "ltrim", "make_interval", "max",
    "max_by", "md5", "min", "min_by", "mod", "normalize", "normalize_and_casefold", "nth_value",
    "ntile", "nullif", "nullifzero", "octet_length", "offset", "ordinal", "parse_bignumeric",
    "parse_date", "parse_datetime", "parse_json", "parse_numeric", "parse_time", "parse_timestamp",
    "percent_rank", "percentile_cont", "percentile_disc", "pow", "power", "rand", "range",
    "range_bucket", "range_contains", "range_end", "range_intersect", "range_overlaps",
    "range_start", "rank", "regexp_contains", "regexp_extract", "regexp_extract_all",
    "regexp_instr", "regexp_replace", "regexp_substr", "repeat", "replace", "reverse", "right",
    "round", "row_number", "rpad", "rtrim", "safe_add", "safe_convert_bytes_to_string",
    "safe_divide", "safe_multiply", "safe_negate", "safe_offset", "safe_ordinal", "safe_subtract",
    "search", "sec", "sech", "sha1", "sha256", "sha512", "sign", "sin", "sinh", "soundex", "split",
    "sqrt", "starts_with", "stddev", "stddev_pop", "stddev_samp", "string", "string_agg",
    "string_array", "strpos", "struct", "substr", "substring", "sum", "tan", "tanh", "time",
    "time_add", "time_diff", "time_sub", "time_trunc", "timestamp", "timestamp_add",
    "timestamp_bucket", "timestamp_diff", "timestamp_micros", "timestamp_millis",
    "timestamp_seconds", "timestamp_sub", "timestamp_trunc", "to_base32", "to_base64",
    "to_code_points", "to_hex", "to_json", "to_json_string", "translate", "trim", "trunc",
    "typeof", "unicode", "unix_date", "unix_micros", "unix_millis", "unix_seconds", "unnest",
    "upper", "var_pop", "var_samp", "variance", "week", "zeroifnull",
];

/// Prefixes under which every function is pure.
const PREFIXES: &[&str] = &["hll_count", "kll_quantiles", "net"];

/// Whether a function may be called, by the parts of its name.
pub fn is_allowed(parts: &[String]) -> bool {
    let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    let plain =
        |name: &String| PLAIN.binary_search(&name.as_str()).is_ok() || name.starts_with("st_");
    match lower.as_slice() {
        [name] => plain(name),
        [safe, name] if safe == "safe" => plain(name),
        [prefix, _] => PREFIXES.contains(&prefix.as_str()),
        [safe, prefix, _] if safe == "safe" => PREFIXES.contains(&prefix.as_str()),
        _ => false,
    }
}

/// Whether evaluating the expression cannot raise an error, whatever row it is given: then it may
/// stand beside a guard, and prune partitions.
pub fn is_total(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Value(_)
        | Expr::TypedString(_) => true,
        Expr::Nested(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner) => is_total(inner),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => is_total(expr),
        Expr::BinaryOp { left, op, right } => {
            let total = matches!(
                op,
                BinaryOperator::And
                    | BinaryOperator::Or
                    | BinaryOperator::Eq
                    | BinaryOperator::NotEq
                    | BinaryOperator::Lt
                    | BinaryOperator::LtEq
                    | BinaryOperator::Gt
                    | BinaryOperator::GtEq
            );
            total && is_total(left) && is_total(right)
        }
        Expr::Between { expr, low, high, .. } => is_total(expr) && is_total(low) && is_total(high),
        Expr::InList { expr, list, .. } => is_total(expr) && list.iter().all(is_total),
        Expr::Cast { kind: CastKind::SafeCast, expr, format: None, .. } => is_total(expr),
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_lowercase();
            let total = matches!(
                name.as_str(),
                "lower"
                    | "upper"
                    | "coalesce"
                    | "ifnull"
                    | "length"
                    | "starts_with"
                    | "ends_with"
                    | "current_date"
                    | "current_timestamp"
                    | "current_datetime"
                    | "date"
            );
            let arguments = match &function.args {
                sqlparser::ast::FunctionArguments::None => true,
                sqlparser::ast::FunctionArguments::Subquery(_) => false,
                sqlparser::ast::FunctionArguments::List(list) => {
                    list.clauses.is_empty()
                        && list.args.iter().all(|argument| match argument {
                            sqlparser::ast::FunctionArg::Unnamed(
                                sqlparser::ast::FunctionArgExpr::Expr(expr),
                            ) => is_total(expr),
                            _ => false,
                        })
                }
            };
            // `DATE('text')` raises, `DATE(column)` of a timestamp does not: only a name is total.
            let date = name != "date" || function.args.to_string().chars().all(is_name);
            total && arguments && date && function.over.is_none() && function.filter.is_none()
        }
        _ => false,
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '`' | '(' | ')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_closed() {
        assert!(PLAIN.is_sorted());
        let allowed =
            |name: &str| is_allowed(&name.split('.').map(str::to_owned).collect::<Vec<_>>());
        assert!(
            allowed("LOWER") && allowed("SAFE.SUBSTR") && allowed("NET.HOST") && allowed("ST_X")
        );
        for name in [
            "external_query",
            "ml.predict",
            "app.get_secret",
            "p.app.f",
            "keys.new_keyset",
            "secure_context",
            "session_user",
            "vector_search",
            "ai.generate",
        ] {
            assert!(!allowed(name), "{name}");
        }
    }
}
