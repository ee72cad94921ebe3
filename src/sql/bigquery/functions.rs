//! Functions of GoogleSQL that a tenant may call, and expressions that cannot raise an error.
//!
//! Not on the list, and so denied (HR1005): what reads a table or another service by its arguments
//! (`EXTERNAL_QUERY`, `ML.*`, `AI.*`, `VECTOR_SEARCH`, `APPENDS`), what tells of keys and identities
//! (`KEYS.*`, `AEAD.*`, `SECURE_CONTEXT`), and every function with a dataset before its name that the
//! policy does not allow; and `ST_REGIONSTATS`, which reads a raster by its address. On the list: what GoogleSQL's reference describes as a function of its
//! arguments alone.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DateTimeField, DuplicateTreatment, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Interval, ObjectName,
    Subscript, UnaryOperator, Value, WindowSpec, WindowType,
};

use super::names::Env;
use crate::mutant;

/// Functions without a prefix, in lower case, sorted; with them the words of subscripts (`OFFSET(1)`)
/// and of date parts (`WEEK(MONDAY)`).
#[rustfmt::skip] // one word a line would be pages of nothing
const PLAIN: &[&str] = &[
    "abs", "acos", "acosh", "add_months", "any_value", "approx_count_distinct", "approx_quantiles",
    "approx_top_count", "approx_top_sum", "array", "array_agg", "array_avg", "array_concat",
    "array_concat_agg", "array_filter", "array_find", "array_find_all", "array_first",
    "array_first_n", "array_includes", "array_includes_all", "array_includes_any",
    "array_is_distinct", "array_last", "array_last_n", "array_length", "array_max", "array_min",
    "array_offset", "array_offsets", "array_remove_first", "array_remove_first_n",
    "array_remove_last", "array_remove_last_n", "array_reverse", "array_slice", "array_sum",
    "array_to_string", "array_transform", "array_zip", "ascii", "asin", "asinh", "atan", "atan2",
    "atanh", "avg", "bit_and", "bit_cast_to_int32", "bit_cast_to_int64", "bit_cast_to_uint32",
    "bit_cast_to_uint64", "bit_count", "bit_or", "bit_xor", "bool", "bool_array", "byte_length",
    "cbrt", "ceil", "ceiling", "char_length", "character_length", "chr", "coalesce",
    "code_points_to_bytes", "code_points_to_string", "collate", "concat", "contains_substr", "corr",
    "cos", "cosh", "cosine_distance", "cot", "coth", "count", "countif", "covar_pop", "covar_samp",
    "csc", "csch", "cume_dist", "current_date", "current_datetime", "current_time",
    "current_timestamp", "date", "date_add", "date_bucket", "date_diff", "date_from_unix_date",
    "date_sub", "date_trunc", "datetime", "datetime_add", "datetime_bucket", "datetime_diff",
    "datetime_sub", "datetime_trunc", "dense_rank", "div", "dot_product", "double", "double_array",
    "edit_distance", "elementwise_avg", "elementwise_sum", "ends_with", "error",
    "euclidean_distance", "exp", "extract", "farm_fingerprint", "first_value", "flatten", "float",
    "float64", "float64_array", "float_array", "floor", "format", "format_date", "format_datetime",
    "format_time", "format_timestamp", "from_base32", "from_base64", "from_hex", "generate_array",
    "generate_date_array", "generate_range_array", "generate_timestamp_array", "generate_uuid",
    "greatest", "grouping", "ieee_divide", "if", "iferror", "ifnull", "initcap", "instr", "int32",
    "int32_array", "int64", "int64_array", "is_first", "is_inf", "is_last", "is_nan", "iserror",
    "json_array", "json_array_append", "json_array_insert", "json_contains", "json_extract",
    "json_extract_array", "json_extract_scalar", "json_extract_string_array", "json_flatten",
    "json_keys", "json_object", "json_query", "json_query_array", "json_remove", "json_set",
    "json_strip_nulls", "json_type", "json_value", "json_value_array", "justify_days",
    "justify_hours", "justify_interval", "l1_norm", "l1_norm_distance", "l2_norm",
    "l2_norm_distance", "lag", "last_day", "last_value", "lax_bool", "lax_bool_array", "lax_double",
    "lax_double_array", "lax_float", "lax_float64", "lax_float64_array", "lax_float_array",
    "lax_int32", "lax_int32_array", "lax_int64", "lax_int64_array", "lax_string",
    "lax_string_array", "lax_uint32", "lax_uint32_array", "lax_uint64", "lax_uint64_array", "lead",
    "least", "left", "length", "ln", "log", "log10", "logical_and", "logical_or", "lower", "lpad",
    "ltrim", "make_interval", "manhattan_distance", "max", "max_by", "md5", "min", "min_by", "mod",
    "months_between", "new_uuid", "next_day", "normalize", "normalize_and_casefold", "nth_value",
    "ntile", "nullif", "nulliferror", "nullifzero", "octet_length", "offset", "ordinal",
    "parse_bignumeric", "parse_date", "parse_datetime", "parse_interval", "parse_json",
    "parse_numeric", "parse_time", "parse_timestamp", "percent_rank", "percentile_cont",
    "percentile_disc", "pi", "pi_bignumeric", "pi_numeric", "pow", "power", "rand", "range",
    "range_bucket", "range_contains", "range_end", "range_intersect", "range_overlaps",
    "range_start", "rank", "regexp_contains", "regexp_extract", "regexp_extract_all",
    "regexp_extract_groups", "regexp_instr", "regexp_replace", "regexp_substr", "repeat", "replace",
    "reverse", "right", "round", "row_number", "rpad", "rtrim", "s2_cellidfrompoint",
    "s2_coveringcellids", "safe_add", "safe_convert_bytes_to_string", "safe_divide",
    "safe_multiply", "safe_negate", "safe_offset", "safe_ordinal", "safe_subtract", "search", "sec",
    "sech", "sha1", "sha256", "sha512", "sign", "sin", "sinh", "soundex", "split", "split_substr",
    "sqrt", "st_angle", "st_area", "st_asbinary", "st_asgeojson", "st_astext", "st_azimuth",
    "st_boundary", "st_boundingbox", "st_buffer", "st_bufferwithtolerance", "st_centroid",
    "st_centroid_agg", "st_closestpoint", "st_clusterdbscan", "st_contains", "st_convexhull",
    "st_coveredby", "st_covers", "st_difference", "st_dimension", "st_disjoint", "st_distance",
    "st_dump", "st_dwithin", "st_endpoint", "st_equals", "st_extent", "st_exteriorring",
    "st_geogfrom", "st_geogfromgeojson", "st_geogfromtext", "st_geogfromwkb", "st_geogpoint",
    "st_geogpointfromgeohash", "st_geohash", "st_geometrytype", "st_hausdorffdistance",
    "st_hausdorffdwithin", "st_interiorrings", "st_intersection", "st_intersects",
    "st_intersectsbox", "st_isclosed", "st_iscollection", "st_isempty", "st_isring",
    "st_isvaliddetail", "st_length", "st_lineinterpolatepoint", "st_linelocatepoint",
    "st_linesubstring", "st_makeline", "st_makepolygon", "st_makepolygonoriented", "st_maxdistance",
    "st_npoints", "st_numgeometries", "st_numpoints", "st_perimeter", "st_pointn", "st_simplify",
    "st_snaptogrid", "st_startpoint", "st_touches", "st_union", "st_union_agg", "st_within", "st_x",
    "st_y", "starts_with", "stddev", "stddev_pop", "stddev_samp", "string", "string_agg",
    "string_array", "strpos", "struct", "substr", "substring", "sum", "tan", "tanh", "time",
    "time_add", "time_diff", "time_sub", "time_trunc", "timestamp", "timestamp_add",
    "timestamp_bucket", "timestamp_diff", "timestamp_micros", "timestamp_millis",
    "timestamp_seconds", "timestamp_sub", "timestamp_trunc", "to_base32", "to_base64",
    "to_code_points", "to_hex", "to_json", "to_json_string", "translate", "trim", "trunc", "typeof",
    "uint32", "uint32_array", "uint64", "uint64_array", "unicode", "unix_date", "unix_micros",
    "unix_millis", "unix_seconds", "unnest", "upper", "var_pop", "var_samp", "variance", "week",
    "zeroifnull",
];

/// Pure functions behind a prefix, by the prefix. One by one: an unknown name behind such a prefix
/// would be a routine of a dataset with that name.
#[rustfmt::skip]
const PREFIXED: &[(&str, &[&str])] = &[
    ("hll_count", &["extract", "init", "merge", "merge_partial"]),
    ("kll_quantiles", &[
        "extract_double", "extract_float64", "extract_int64", "extract_point_double",
        "extract_point_float64", "extract_point_int64", "extract_point_uint64", "extract_uint64",
        "init_double", "init_float64", "init_int64", "init_uint64", "merge_double", "merge_float64",
        "merge_int64", "merge_partial", "merge_point_double", "merge_point_float64",
        "merge_point_int64", "merge_point_uint64", "merge_uint64",
    ]),
    ("net", &[
        "format_ip", "format_packed_ip", "host", "ip_from_string", "ip_in_net", "ip_net_mask",
        "ip_to_string", "ip_trunc", "ipv4_from_int64", "ipv4_to_int64", "make_net", "parse_ip",
        "parse_packed_ip", "public_suffix", "reg_domain", "safe_ip_from_string",
    ]),
];

/// Aggregates among them, in lower case, sorted; with their prefix.
#[rustfmt::skip]
const AGGREGATES: &[&str] = &[
    "any_value", "approx_count_distinct", "approx_quantiles", "approx_top_count", "approx_top_sum",
    "array_agg", "array_concat_agg", "avg", "bit_and", "bit_or", "bit_xor", "corr", "count",
    "countif", "covar_pop", "covar_samp", "elementwise_avg", "elementwise_sum", "grouping",
    "hll_count.init", "hll_count.merge", "hll_count.merge_partial", "kll_quantiles.init_double",
    "kll_quantiles.init_float64", "kll_quantiles.init_int64", "kll_quantiles.init_uint64",
    "kll_quantiles.merge_double", "kll_quantiles.merge_float64", "kll_quantiles.merge_int64",
    "kll_quantiles.merge_partial", "kll_quantiles.merge_point_double",
    "kll_quantiles.merge_point_float64", "kll_quantiles.merge_point_int64",
    "kll_quantiles.merge_point_uint64", "kll_quantiles.merge_uint64", "logical_and", "logical_or",
    "max", "max_by", "min", "min_by", "st_centroid_agg", "st_extent", "st_union_agg", "stddev",
    "stddev_pop", "stddev_samp", "string_agg", "sum", "var_pop", "var_samp", "variance",
];

/// Whether a function without OVER is an aggregate of the service.
pub fn is_aggregate(name: &ObjectName) -> bool {
    AGGREGATES.binary_search(&plain_name(name).as_str()).is_ok()
}

/// Aggregates and windows whose outcome needs the rows: no key of the groups, no row alone, tells it. Not
/// among them: those of which a group with one value has that value (`MAX`, `ARRAY_AGG`), the approximate.
const OF_MANY_ROWS: &[&str] = &[
    "count",
    "countif",
    "cume_dist",
    "dense_rank",
    "lag",
    "lead",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
    "sum",
];

/// Whether a call's outcome needs the rows of its group, or of its window.
pub fn needs_rows(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let name = plain_name(&function.name);
    // With one argument it is the row before, or behind; an offset may be none.
    let beside = !matches!(name.as_str(), "lag" | "lead") || list.args.len() == 1;
    let whole = function.over.as_ref().is_none_or(has_no_frame);
    // Of distinct values of a key there is one.
    let all = list.duplicate_treatment != Some(DuplicateTreatment::Distinct);
    OF_MANY_ROWS.contains(&name.as_str())
        && list.clauses.is_empty()
        && (beside && whole && all || mutant::on("bq-needs-rows"))
}

/// A frame may hold the row alone, and so may that of a window which is named.
fn has_no_frame(window: &WindowType) -> bool {
    matches!(
        window,
        WindowType::WindowSpec(WindowSpec { window_name: None, window_frame: None, .. })
    )
}

/// A function's name in lower case, without backticks and `SAFE.`: however it is spelled, it does the same.
pub fn plain_name(name: &ObjectName) -> String {
    let name = name.to_string().replace('`', "").to_ascii_lowercase();
    name.strip_prefix("safe.").map(str::to_owned).unwrap_or(name)
}

/// Whether a function is one of the service's own.
pub fn is_of_the_service(name: &ObjectName) -> bool {
    let parts: Vec<String> =
        name.to_string().replace('`', "").split('.').map(str::to_owned).collect();
    is_built_in(&parts)
}

/// Whether a function may be called, by the parts of its name: one of the lists above, or a routine
/// of a dataset that the policy allows by name.
pub fn is_allowed(parts: &[String], env: Env<'_>) -> bool {
    is_built_in(parts) || is_of_policy(parts, env)
}

/// Routines are found by their full name. One word alone is never a routine: no default dataset is
/// sent along.
fn is_of_policy(parts: &[String], env: Env<'_>) -> bool {
    let name = match parts {
        [dataset, name] => [&env.place.project, dataset, name],
        [project, dataset, name] => [project, dataset, name],
        _ => return false,
    };
    let name = name.map(String::as_str).join(".");
    env.policy.functions.contains(&name)
}

fn is_built_in(parts: &[String]) -> bool {
    let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    let plain = |name: &String| PLAIN.binary_search(&name.as_str()).is_ok();
    let prefixed = |prefix: &String, name: &String| {
        PREFIXED.iter().any(|(known, names)| known == prefix && names.contains(&name.as_str()))
    };
    match lower.as_slice() {
        [name] => plain(name),
        [safe, name] if safe == "safe" => plain(name),
        [prefix, name] => prefixed(prefix, name),
        [safe, prefix, name] if safe == "safe" => prefixed(prefix, name),
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
            total && is_total(left) && is_total(right) || is_small_sum(left, op, right)
        }
        Expr::Between { expr, low, high, .. } => is_total(expr) && is_total(low) && is_total(high),
        Expr::InList { expr, list, .. } => is_total(expr) && list.iter().all(is_total),
        Expr::Cast { kind: CastKind::SafeCast, expr, format: None, .. } => is_total(expr),
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
            is_total(left) && is_total(right)
        }
        // A pattern may end in a backslash; a plain one does not.
        Expr::Like { any: false, expr, pattern, escape_char: None, .. } => {
            is_total(expr) && text_of(pattern).is_some_and(|text| !text.contains('\\'))
        }
        Expr::InUnnest { expr, array_expr, .. } => {
            let constants = match array_expr.as_ref() {
                Expr::Value(_) => true,
                Expr::Identifier(name) => name.value.starts_with('@'),
                Expr::Array(array) => array.elem.iter().all(is_total),
                _ => false,
            };
            constants && is_total(expr)
        }
        // A date or time of a timestamp is one of the session's time zone, in which it may be past the last.
        Expr::Extract {
            field: DateTimeField::Date | DateTimeField::Datetime | DateTimeField::Time,
            ..
        } => false,
        Expr::Extract { expr, .. } => is_total(expr),
        Expr::Trim { trim_where: None, trim_what: None, expr, trim_characters } => {
            is_total(expr) && trim_characters.iter().flatten().all(is_total)
        }
        Expr::Case { operand, conditions, else_result, .. } => {
            operand.iter().all(|operand| is_total(operand))
                && conditions.iter().all(|when| is_total(&when.condition) && is_total(&when.result))
                && else_result.iter().all(|value| is_total(value))
        }
        // `ARRAY_AGG(…)[SAFE_OFFSET(0)]`
        Expr::CompoundFieldAccess { root, access_chain } => {
            is_total(root) && access_chain.iter().all(is_safe_access)
        }
        Expr::Function(function) if is_total_array(function) => true,
        Expr::Function(function) => {
            let arguments = match &function.args {
                FunctionArguments::None => Vec::new(),
                FunctionArguments::Subquery(_) => return false,
                FunctionArguments::List(list) if list.clauses.is_empty() => list
                    .args
                    .iter()
                    .map(|argument| match argument {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                        FunctionArg::Unnamed(_)
                        | FunctionArg::Named { .. }
                        | FunctionArg::ExprNamed { .. } => None,
                    })
                    .collect(),
                FunctionArguments::List(_) => return false,
            };
            let plain =
                function.over.as_ref().is_none_or(is_total_window) && function.filter.is_none();
            let name = function.name.to_string().to_ascii_lowercase();
            plain
                && match (name.as_str(), arguments.as_slice()) {
                    // With an argument it is a time zone, and one that is none raises an error.
                    ("current_date" | "current_timestamp" | "current_datetime", []) => true,
                    ("date" | "datetime" | "timestamp", [Some(at)]) => is_date(at) || is_now(at),
                    (
                        "date_sub" | "date_add" | "datetime_sub" | "datetime_add" | "timestamp_sub"
                        | "timestamp_add",
                        [Some(now), Some(Expr::Interval(interval))],
                    ) => is_now(now) && is_short(interval),
                    (
                        "lower" | "upper" | "coalesce" | "ifnull" | "nullif" | "if" | "length"
                        | "starts_with" | "ends_with" | "ltrim" | "rtrim" | "safe_divide" | "max"
                        | "min" | "max_by" | "min_by" | "any_value" | "count" | "countif"
                        | "logical_and" | "logical_or" | "bit_and" | "bit_or" | "first_value"
                        | "last_value" | "row_number" | "rank" | "dense_rank",
                        all,
                    ) => all.iter().all(|argument| argument.is_some_and(is_total)),
                    _ => false,
                }
        }
        _ => false,
    }
}

/// `1200 + 11`: numbers that no sum or product of two leads out of their type.
fn is_small_sum(left: &Expr, op: &BinaryOperator, right: &Expr) -> bool {
    let small = |expr: &Expr| {
        matches!(expr, Expr::Value(value) if matches!(&value.value, Value::Number(digits, _)
            if digits.len() <= 9 && digits.bytes().all(|digit| digit.is_ascii_digit())))
    };
    let plain =
        matches!(op, BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply);
    plain && small(left) && small(right)
}

/// A field, or an element of an array that is NULL where there is none.
fn is_safe_access(access: &AccessExpr) -> bool {
    match access {
        AccessExpr::Dot(field) => matches!(field, Expr::Identifier(_)),
        AccessExpr::Subscript(Subscript::Index { index: Expr::Function(place) }) => {
            let FunctionArguments::List(list) = &place.args else { return false };
            let word = plain_name(&place.name);
            matches!(word.as_str(), "safe_offset" | "safe_ordinal")
                && matches!(
                    list.args.as_slice(),
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(_)))]
                )
        }
        AccessExpr::Subscript(_) => false,
    }
}

/// `ARRAY_AGG` of what cannot raise an error. (It may hold NULL: only a result may not.)
fn is_total_array(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = list.args.as_slice() else {
        return false;
    };
    let clause = |clause: &FunctionArgumentClause| match clause {
        FunctionArgumentClause::IgnoreOrRespectNulls(_) => true,
        FunctionArgumentClause::OrderBy(orders) => orders.iter().all(|by| is_total(&by.expr)),
        FunctionArgumentClause::Limit(count) => matches!(count, Expr::Value(_)),
        _ => false,
    };
    plain_name(&function.name) == "array_agg"
        && function.over.is_none()
        && function.filter.is_none()
        && list.clauses.iter().all(clause)
        && is_total(value)
}

/// A window without a frame of its own, of expressions that cannot raise an error.
fn is_total_window(window: &WindowType) -> bool {
    match window {
        WindowType::WindowSpec(WindowSpec {
            window_name: None,
            partition_by,
            order_by,
            window_frame: None,
        }) => {
            partition_by.iter().all(is_total) && order_by.iter().all(|order| is_total(&order.expr))
        }
        WindowType::WindowSpec(_) | WindowType::NamedWindow(_) => false,
    }
}

/// The text of a plain string literal.
fn text_of(expr: &Expr) -> Option<&str> {
    let Expr::Value(value) = expr else { return None };
    match &value.value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(text),
        _ => None,
    }
}

/// A literal that is a date, maybe with a time, whatever the calendar.
fn is_date(expr: &Expr) -> bool {
    let Some(text) = text_of(expr) else { return false };
    let (date, time) = text.split_at_checked(10).unwrap_or((text, "-"));
    let parts = |text: &str, sign: char, most: &[u32]| {
        let parts: Vec<&str> = text.split(sign).collect();
        parts.len() == most.len()
            && parts.iter().zip(most).all(|(part, most)| {
                part.len() >= 2
                    && part.bytes().all(|digit| digit.is_ascii_digit())
                    && part.parse::<u32>().is_ok_and(|number| number <= *most)
            })
    };
    let known = parts(date, '-', &[9999, 12, 28])
        && date.split('-').all(|part| part.bytes().any(|digit| digit != b'0'));
    let time = time
        .strip_prefix([' ', 'T'])
        .map_or(time.is_empty(), |time| time.len() == 8 && parts(time, ':', &[23, 59, 59]));
    known && time
}

/// The present, as GoogleSQL writes it without a time zone.
fn is_now(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(_))
        && matches!(
            expr.to_string().to_ascii_lowercase().as_str(),
            "current_date()"
                | "current_timestamp()"
                | "current_datetime()"
                | "current_date"
                | "current_timestamp"
                | "current_datetime"
        )
}

/// An interval of less than a thousand years, written as a number: from the present it leads to a date.
fn is_short(interval: &Interval) -> bool {
    let unit = matches!(
        interval.leading_field,
        Some(
            DateTimeField::Microsecond
                | DateTimeField::Millisecond
                | DateTimeField::Second
                | DateTimeField::Minute
                | DateTimeField::Hour
                | DateTimeField::Day
                | DateTimeField::Week(None)
                | DateTimeField::Month
        )
    );
    let Expr::Value(value) = interval.value.as_ref() else { return false };
    let number = matches!(&value.value, Value::Number(digits, _)
        if digits.len() <= 4 && digits.bytes().all(|digit| digit.is_ascii_digit()));
    unit && number && interval.last_field.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_closed() {
        assert!(PLAIN.is_sorted());
        let allowed =
            |name: &str| is_built_in(&name.split('.').map(str::to_owned).collect::<Vec<_>>());
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
            "net.my_routine",
            "hll_count.f",
            "safe.net.f",
        ] {
            assert!(!allowed(name), "{name}");
        }
    }

    #[test]
    fn what_may_raise_an_error_is_not_total() {
        let total = |text: &str| {
            is_total(&super::super::dialect::parser(text).unwrap().parse_expr().unwrap())
        };
        for text in [
            "a = 1",
            "LOWER(a) = 'x'",
            "ts > DATE '2026-01-01'",
            "a < CURRENT_DATE()",
            "ts >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY)",
            "ts >= TIMESTAMP('2026-01-01 00:00:00')",
            "d = DATE('2024-02-28')",
            "name LIKE '%x_'",
            "a IN UNNEST(@list)",
            "EXTRACT(YEAR FROM ts) = 2026",
            "CASE WHEN a > 1 THEN b ELSE c END = 'x'",
            "TRIM(a) IS DISTINCT FROM b",
            "ts > TIMESTAMP(CURRENT_DATE)",
            "MAX(a) OVER (PARTITION BY b ORDER BY c DESC) = 1",
        ] {
            assert!(total(text), "{text}");
        }
        for text in [
            "CAST(a AS INT64) = 1",
            "DATE('x') = d",
            "DATE(a) = d",
            "EXTRACT(DATE FROM ts) = d",
            "DATE('2026-02-29') = d",
            "DATE('2026-00-01') = d",
            "TIMESTAMP('2026-01-01 24:00:00') = d",
            "TIMESTAMP('2026-01-01+00') = d",
            "DATE('2026-01-01', secret) = d",
            "DATE_SUB(d, INTERVAL 1 DAY) = d",
            "DATE_SUB(CURRENT_DATE(), INTERVAL 9999 YEAR) = d",
            "DATE_SUB(CURRENT_DATE(), INTERVAL secret DAY) = d",
            "DATE_SUB(CURRENT_DATE(secret), INTERVAL 1 DAY) = d",
            "name LIKE '%\\\\'",
            "name LIKE secret",
            "a IN UNNEST(SPLIT(b))",
            "CASE WHEN 1 / a > 1 THEN b END = 'x'",
            "DATE(2026, credit, 1) = d",
            "DATE(ts, secret) = d",
            "CURRENT_DATE(secret) = d",
            "CURRENT_DATETIME(secret) = d",
            "1 / a = 1",
            "LOWER(CAST(a AS STRING)) = 'x'",
            "MAX(a) OVER (PARTITION BY 1 / b) = 1",
            "MAX(1 / a) = 1",
            "SUM(a) = 1",
        ] {
            assert!(!total(text), "{text}");
        }
    }
}
