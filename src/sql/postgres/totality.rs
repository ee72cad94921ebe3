//! What is *total*: for every row it returns a value, without an error and without an effect. Layer 2.
//!
//! An auditor reads this file. Only what is total may be evaluated on a row before the guard has
//! seen whose row it is ([`rewrite`](super::rewrite)); whatever is not listed here stands behind the
//! guard. A row that makes a listed operator or function raise, for any value of any type of its
//! class, is a leak: `tests/integration/totality.rs` tries all of them against PostgreSQL with the
//! extreme values of each type.
//!
//! Stack and size belong to it. Beside a condition on the row, what fails by an operand that the client chose
//! tells of the row, not of the operand: `note LIKE 'x%' AND (note IS NULL OR $1 LIKE '%e%e…')` would say
//! whether somebody has such a note. So what goes into itself as deep as an operand is ([`Bound`]) is total only
//! beside a shallow literal ([`depth`](super::depth)). A parameter has at most the 64 MiB of a Bind, and nothing
//! listed makes more than sixteen times that of a value as it comes; what makes a text of bytes or of an array,
//! several times as long, is not listed.
//!
//! Left out on purpose: running out of memory, and stored values of more than a hundred million characters,
//! for which `lower`, `upper`, the trims, ILIKE and the text of a jsonb fail. Whoever can store such values may
//! deny tenants that (`access`), or the disk.

/// What a built-in type is, for the question what is total on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Whole numbers.
    Integer,
    /// `oid`: whole numbers become one by a cast that can fail.
    Oid,
    /// Decimal numbers: total with whole numbers; not with floats (out of range).
    Numeric,
    /// Floating-point numbers.
    Float,
    /// Character strings.
    Text,
    /// Truth values.
    Bool,
    /// UUIDs.
    Uuid,
    /// Days.
    Date,
    /// Points in time without a zone.
    Timestamp,
    /// Points in time.
    Timestamptz,
    /// Times of day.
    Time,
    /// Times of day with a zone.
    Timetz,
    /// Spans of time.
    Interval,
    /// Byte strings.
    Bytes,
    /// jsonb
    Jsonb,
    /// json and xml: nothing compares them.
    Document,
    /// Arrays whose elements can be compared.
    Array,
    /// Ranges and multiranges.
    Range,
    /// Documents of full text search. Its queries are of no class: they are trees, and comparing, printing and
    /// matching them goes as deep as they are.
    TextSearch,
    /// Network addresses.
    Network,
    /// A NULL, an untyped string, or a parameter without a type that is used once: it takes the type of
    /// the other side when the statement is parsed, before any row is read.
    Unknown,
    /// A parameter without a type that is used more than once: its first use gives it a type, and the
    /// others may cast.
    Reused,
}

macro_rules! types {
    ($($class:ident: $($name:literal)|+ $(, also $($alias:literal)|+)?;)*) => {
        /// The types of each class, by `pg_type.typname`. Arrays of all of them but `json` and `xml`
        /// are of the class [`Class::Array`].
        pub const TYPES: &[(Class, &[&str])] = &[$((Class::$class, &[$($name),+]),)*];

        fn scalar_class(name: &str) -> Option<Class> {
            match name {
                $($($name)|+ $(| $($alias)|+)? => Some(Class::$class),)*
                _ => None,
            }
        }
    };
}

types! {
    Integer: "int2" | "int4" | "int8", also "smallint" | "integer" | "int" | "bigint";
    Oid: "oid";
    Numeric: "numeric", also "decimal";
    Float: "float4" | "float8", also "real";
    Text: "text" | "varchar" | "bpchar" | "name" | "char";
    Bool: "bool", also "boolean";
    Uuid: "uuid";
    Date: "date";
    Timestamp: "timestamp";
    Timestamptz: "timestamptz";
    Time: "time";
    Timetz: "timetz";
    Interval: "interval";
    Bytes: "bytea";
    Jsonb: "jsonb";
    Document: "json" | "xml";
    TextSearch: "tsvector";
    Network: "inet" | "cidr";
    Range: "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange"
        | "int4multirange" | "int8multirange" | "nummultirange" | "tsmultirange"
        | "tstzmultirange" | "datemultirange";
}

/// The class of a built-in type by its `typname` or its name in SQL; `None` for every other type.
pub fn class_of(type_name: &str) -> Option<Class> {
    match type_name.strip_prefix('_') {
        None => scalar_class(type_name),
        Some(element) => {
            scalar_class(element).filter(|class| *class != Class::Document).map(|_| Class::Array)
        }
    }
}

/// What is known of a parameter's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parameter {
    /// The client left it open.
    Open,
    /// It is open, and used more than once in ways that may give it different types.
    Reused,
    /// It is a built-in type of that name.
    Typed(&'static str),
    /// It is some other type, of that OID; 0 where it goes by a name.
    Foreign(u32),
}

/// OIDs of the built-in types that drivers declare parameters with (`pg_type.dat`: they never change).
pub const TYPE_OIDS: &[(u32, &str)] = &[
    (16, "bool"),
    (17, "bytea"),
    (18, "char"),
    (19, "name"),
    (20, "int8"),
    (21, "int2"),
    (23, "int4"),
    (25, "text"),
    (26, "oid"),
    (114, "json"),
    (142, "xml"),
    (650, "cidr"),
    (651, "_cidr"),
    (700, "float4"),
    (701, "float8"),
    (869, "inet"),
    (1000, "_bool"),
    (1001, "_bytea"),
    (1003, "_name"),
    (1005, "_int2"),
    (1007, "_int4"),
    (1009, "_text"),
    (1014, "_bpchar"),
    (1015, "_varchar"),
    (1016, "_int8"),
    (1021, "_float4"),
    (1022, "_float8"),
    (1028, "_oid"),
    (1041, "_inet"),
    (1042, "bpchar"),
    (1043, "varchar"),
    (1082, "date"),
    (1083, "time"),
    (1114, "timestamp"),
    (1115, "_timestamp"),
    (1182, "_date"),
    (1183, "_time"),
    (1184, "timestamptz"),
    (1185, "_timestamptz"),
    (1186, "interval"),
    (1187, "_interval"),
    (1231, "_numeric"),
    (1266, "timetz"),
    (1270, "_timetz"),
    (1700, "numeric"),
    (2950, "uuid"),
    (2951, "_uuid"),
    (3614, "tsvector"),
    (3802, "jsonb"),
    (3807, "_jsonb"),
    (3904, "int4range"),
    (3906, "numrange"),
    (3908, "tsrange"),
    (3910, "tstzrange"),
    (3912, "daterange"),
    (3926, "int8range"),
    (4451, "int4multirange"),
    (4532, "nummultirange"),
    (4533, "tsmultirange"),
    (4534, "tstzmultirange"),
    (4535, "datemultirange"),
    (4536, "int8multirange"),
];

/// `unknown`, by which libpq says that it leaves the type open.
const UNKNOWN_OID: u32 = 705;

impl Parameter {
    /// Of the type OID in a Parse message.
    pub fn of_oid(oid: u32) -> Self {
        match TYPE_OIDS.iter().find(|(known, _)| *known == oid) {
            Some((_, name)) => Self::Typed(name),
            None if oid == 0 || oid == UNKNOWN_OID => Self::Open,
            None => Self::Foreign(oid),
        }
    }

    /// Of a type's name (`PREPARE name (type, …)`).
    pub fn of_name(name: &str) -> Self {
        let listed = |known: &&(u32, &'static str)| known.1 == name;
        TYPE_OIDS.iter().find(listed).map_or(Self::Foreign(0), |(_, name)| Self::Typed(name))
    }
}

/// The class of an array's elements, by its `typname`.
pub fn element_of(type_name: &str) -> Option<Class> {
    type_name.strip_prefix('_').and_then(class_of)
}

/// Operators that are total between the classes that [`comparable`] pairs.
pub const COMPARISONS: &[&str] = &["=", "<>", "!=", "<", ">", "<=", ">="];

/// Whether comparing two classes by an operator is total. Within a class, because comparing looks at
/// two values of one kind and has an answer for each pair; across classes where PostgreSQL has an
/// operator for the pair, or widens one side by a cast that cannot fail.
///
/// Not total: `numeric` with a float (the numeric is cast and may be out of range, with its value in
/// the message); `oid` with a whole number (`OID out of range`); anything with an element type that
/// has no order. A parameter without a type takes that of the other side.
pub fn comparable(left: Class, right: Class) -> bool {
    use Class::{Date, Document, Float, Integer, Numeric, Reused, Timestamp, Timestamptz, Unknown};
    match (left, right) {
        _ if crate::mutant::on("comparable") => true,
        (Document, _) | (_, Document) => false,
        (Reused, Unknown | Reused) | (Unknown, Reused) => false,
        (Reused, other) | (other, Reused) => has_no_failing_cast(other),
        (Unknown, _) | (_, Unknown) => true,
        (Integer, Numeric | Float) | (Numeric | Float, Integer) => true,
        // Cross-type operators of their own, which know the limits of both sides.
        (Date | Timestamp | Timestamptz, Date | Timestamp | Timestamptz) => true,
        (left, right) => left == right,
    }
}

/// Whether nothing that a parameter of another type could be cast to or from by itself fails.
fn has_no_failing_cast(class: Class) -> bool {
    match class {
        Class::Text
        | Class::Bool
        | Class::Uuid
        | Class::Date
        | Class::Timestamp
        | Class::Timestamptz
        | Class::Time
        | Class::Timetz
        | Class::Interval
        | Class::Bytes
        | Class::Jsonb
        | Class::Range
        | Class::TextSearch
        | Class::Network => true,
        Class::Integer
        | Class::Oid
        | Class::Numeric
        | Class::Float
        | Class::Document
        | Class::Array
        | Class::Unknown
        | Class::Reused => false,
    }
}

/// Whether values of two classes can be brought to one type without failing, as IN does: there the
/// row's value may be cast to the common type of all. A date cast to a timestamp may be out of range,
/// so that less is possible than for [`comparable`].
pub fn unifiable(left: Class, right: Class) -> bool {
    use Class::{Date, Timestamp};
    match (left, right) {
        (Date | Timestamp, other) | (other, Date | Timestamp) => {
            left == right || other == Class::Unknown
        }
        (left, right) => comparable(left, right),
    }
}

/// Whether two values of the class can be brought to one type without failing, as CASE, coalesce and
/// UNION do. Not so for arrays: `int8[]` and `oid[]` are both of one class.
pub fn is_mergeable(class: Class) -> bool {
    match class {
        Class::Array | Class::Document | Class::Reused => false,
        Class::Integer
        | Class::Oid
        | Class::Numeric
        | Class::Float
        | Class::Text
        | Class::Bool
        | Class::Uuid
        | Class::Date
        | Class::Timestamp
        | Class::Timestamptz
        | Class::Time
        | Class::Timetz
        | Class::Interval
        | Class::Bytes
        | Class::Jsonb
        | Class::Range
        | Class::TextSearch
        | Class::Network
        | Class::Unknown => true,
    }
}

/// Operators other than comparisons: between a left and a right class.
#[derive(Clone, Copy, Debug)]
pub struct TotalOperator {
    /// The symbols.
    pub symbols: &'static [&'static str],
    /// The class of the left operand.
    pub left: Class,
    /// The classes of the right operand; a constant is always of the one that fits.
    pub right: &'static [Class],
    /// The class of the result.
    pub gives: Class,
    /// What bounds how deep PostgreSQL goes into itself.
    pub bound: Bound,
    /// Why it cannot fail.
    pub why: &'static str,
}

/// What an operator needs so as not to run out of stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Nothing: it does not go into itself.
    Flat,
    /// One side is a literal that is a shallow document: containment goes as deep as the shallower one.
    /// Stored documents are no bound, for the tenant's own may be as deep as he likes, and joined to any row.
    Document,
    /// The right side is a literal that is a shallow text search query.
    Query,
}

/// The list.
pub const TOTAL_OPERATORS: &[TotalOperator] = &[
    TotalOperator {
        symbols: &["@>", "<@"],
        left: Class::Jsonb,
        right: &[Class::Jsonb],
        gives: Class::Bool,
        bound: Bound::Document,
        why: "containment walks two parsed documents, as deep as the shallower one; what does not match is false",
    },
    TotalOperator {
        symbols: &["?"],
        left: Class::Jsonb,
        right: &[Class::Text],
        gives: Class::Bool,
        bound: Bound::Flat,
        why: "looks a key up; false where there is none, or no object",
    },
    TotalOperator {
        symbols: &["?|", "?&"],
        left: Class::Jsonb,
        right: &[Class::Array],
        gives: Class::Bool,
        bound: Bound::Flat,
        why: "looks keys up; null elements are passed over",
    },
    TotalOperator {
        symbols: &["->"],
        left: Class::Jsonb,
        right: &[Class::Text, Class::Integer],
        gives: Class::Jsonb,
        bound: Bound::Flat,
        why: "null where there is no such key or element, or no container",
    },
    TotalOperator {
        symbols: &["->>"],
        left: Class::Jsonb,
        right: &[Class::Text, Class::Integer],
        gives: Class::Text,
        bound: Bound::Flat,
        why: "null where there is no such key or element, or no container",
    },
    TotalOperator {
        symbols: &["#>"],
        left: Class::Jsonb,
        right: &[Class::Array],
        gives: Class::Jsonb,
        bound: Bound::Flat,
        why: "null where the path leads nowhere",
    },
    TotalOperator {
        symbols: &["#>>"],
        left: Class::Jsonb,
        right: &[Class::Array],
        gives: Class::Text,
        bound: Bound::Flat,
        why: "null where the path leads nowhere",
    },
    TotalOperator {
        symbols: &["@>", "<@", "&&"],
        left: Class::Array,
        right: &[Class::Array],
        gives: Class::Bool,
        bound: Bound::Flat,
        why: "compares elements by the equality of their one type; nulls match nothing",
    },
    TotalOperator {
        symbols: &["@>", "<@", "&&", "<<", ">>", "-|-"],
        left: Class::Range,
        right: &[Class::Range],
        gives: Class::Bool,
        bound: Bound::Flat,
        why: "compares bounds by the order of their one type",
    },
    TotalOperator {
        symbols: &["@@"],
        left: Class::TextSearch,
        right: &[],
        gives: Class::Bool,
        bound: Bound::Query,
        why: "matches a parsed query with a parsed document, as deep as the query",
    },
    TotalOperator {
        symbols: &["<<", "<<=", ">>", ">>=", "&&"],
        left: Class::Network,
        right: &[Class::Network],
        gives: Class::Bool,
        bound: Bound::Flat,
        why: "compares bits; families that differ are false",
    },
];

/// A function that is total.
#[derive(Clone, Copy, Debug)]
pub struct TotalFunction {
    /// Its name in `pg_catalog`, or the keyword.
    pub name: &'static str,
    /// For each argument the classes that it may be of.
    pub takes: &'static [&'static [Class]],
    /// The class of the result.
    pub gives: Class,
    /// Why it cannot fail.
    pub why: &'static str,
}

/// The list. `coalesce` is total too, where its arguments are of one class and [`is_mergeable`].
pub const TOTAL_FUNCTIONS: &[TotalFunction] = &[
    TotalFunction {
        name: "lower",
        takes: &[&[Class::Text]],
        gives: Class::Text,
        why: "maps characters; stored text is valid in the database's encoding",
    },
    TotalFunction {
        name: "upper",
        takes: &[&[Class::Text]],
        gives: Class::Text,
        why: "maps characters; stored text is valid in the database's encoding",
    },
    TotalFunction {
        name: "btrim",
        takes: &[&[Class::Text]],
        gives: Class::Text,
        why: "takes blanks off",
    },
    TotalFunction {
        name: "ltrim",
        takes: &[&[Class::Text]],
        gives: Class::Text,
        why: "takes blanks off",
    },
    TotalFunction {
        name: "rtrim",
        takes: &[&[Class::Text]],
        gives: Class::Text,
        why: "takes blanks off",
    },
    TotalFunction {
        name: "length",
        takes: &[&[Class::Text, Class::Bytes]],
        gives: Class::Integer,
        why: "counts; a value is shorter than an integer's limit",
    },
    TotalFunction {
        name: "char_length",
        takes: &[&[Class::Text]],
        gives: Class::Integer,
        why: "counts; a value is shorter than an integer's limit",
    },
    TotalFunction {
        name: "character_length",
        takes: &[&[Class::Text]],
        gives: Class::Integer,
        why: "counts; a value is shorter than an integer's limit",
    },
    TotalFunction {
        name: "octet_length",
        takes: &[&[Class::Text, Class::Bytes]],
        gives: Class::Integer,
        why: "reads the value's size",
    },
    TotalFunction {
        name: "cardinality",
        takes: &[&[Class::Array]],
        gives: Class::Integer,
        why: "reads the array's header",
    },
    TotalFunction {
        name: "jsonb_typeof",
        takes: &[&[Class::Jsonb]],
        gives: Class::Text,
        why: "reads the document's header",
    },
    TotalFunction {
        name: "jsonb_exists",
        takes: &[&[Class::Jsonb], &[Class::Text]],
        gives: Class::Bool,
        why: "the operator ? by its function's name",
    },
    TotalFunction {
        name: "isfinite",
        takes: &[&[Class::Date, Class::Timestamp, Class::Timestamptz]],
        gives: Class::Bool,
        why: "compares with the two infinities",
    },
    TotalFunction {
        name: "isempty",
        takes: &[&[Class::Range]],
        gives: Class::Bool,
        why: "reads the range's flags",
    },
    TotalFunction {
        name: "lower_inc",
        takes: &[&[Class::Range]],
        gives: Class::Bool,
        why: "reads the range's flags",
    },
    TotalFunction {
        name: "upper_inc",
        takes: &[&[Class::Range]],
        gives: Class::Bool,
        why: "reads the range's flags",
    },
    TotalFunction {
        name: "lower_inf",
        takes: &[&[Class::Range]],
        gives: Class::Bool,
        why: "reads the range's flags",
    },
    TotalFunction {
        name: "upper_inf",
        takes: &[&[Class::Range]],
        gives: Class::Bool,
        why: "reads the range's flags",
    },
    TotalFunction { name: "now", takes: &[], gives: Class::Timestamptz, why: "reads the clock" },
    TotalFunction {
        name: "transaction_timestamp",
        takes: &[],
        gives: Class::Timestamptz,
        why: "reads the clock",
    },
    TotalFunction {
        name: "statement_timestamp",
        takes: &[],
        gives: Class::Timestamptz,
        why: "reads the clock",
    },
    TotalFunction {
        name: "current_timestamp",
        takes: &[],
        gives: Class::Timestamptz,
        why: "reads the clock",
    },
    TotalFunction {
        name: "localtimestamp",
        takes: &[],
        gives: Class::Timestamp,
        why: "reads the clock",
    },
    TotalFunction { name: "current_date", takes: &[], gives: Class::Date, why: "reads the clock" },
];

/// Forms of SQL that are total when all that they are made of is: for the page that is rendered of
/// this file. The judgement is that of the rewriter, and of the checker.
pub const TOTAL_FORMS: &[(&str, &str)] = &[
    (
        "a column of a stored table, of a type above",
        "it is read as it stands; not where it has a \
      collation of its own (comparing may fail), nor where it is computed as it is read",
    ),
    ("a literal, also with a type's name", "its value is made when the statement is parsed"),
    (
        "a parameter",
        "it takes the other side's type, or the client has declared one of those above",
    ),
    (
        "AND, OR, NOT, IS [NOT] NULL, IS [NOT] TRUE | FALSE | UNKNOWN",
        "no value is looked at but truth",
    ),
    ("IS [NOT] DISTINCT FROM, BETWEEN", "comparisons, where the classes can be compared"),
    ("IN (list)", "where the row's value needs no cast to the list's type that can fail"),
    (
        "= ANY, <> ALL and their like",
        "of a literal array; of an array column, for a literal on the left",
    ),
    (
        "LIKE, ILIKE",
        "with a literal pattern of at most 64 wildcards (each takes stack) and without a backslash (a \
      trailing one fails)",
    ),
    (
        "@>, <@ of jsonb",
        "beside a literal document that is nested at most 64 deep (each level takes stack)",
    ),
    ("@@", "with a literal query of at most 200 operators (each takes stack)"),
    (
        "EXISTS, IN (query)",
        "where every expression of the query is total; IN compares as an operator would",
    ),
    ("CASE WHEN … ELSE … END", "where all results are of one class, and no arrays"),
    ("coalesce(…)", "where all arguments are of one class, and no arrays"),
    (
        "cast to text",
        "every type above has a text form for each of its values; not for bytea and arrays, whose text is several \
      times as long, nor to \"char\"",
    ),
    ("cast of int2, int4, int8 to int8, numeric, float8", "each holds every whole number"),
    (
        "now() and its like ± a literal interval of at most four digits and one unit below a year",
        "the clock is thousands of years from the limits",
    ),
];

/// The function of that name and those argument classes, if it is total.
pub fn total_function(name: &str, arguments: &[Class]) -> Option<Class> {
    let fits = |listed: &&TotalFunction| {
        listed.name == name
            && listed.takes.len() == arguments.len()
            && listed.takes.iter().zip(arguments).all(|(accepted, given)| accepted.contains(given))
    };
    TOTAL_FUNCTIONS.iter().find(fits).map(|listed| listed.gives)
}

/// Whether the list has a function of that name.
pub fn is_total_name(name: &str) -> bool {
    TOTAL_FUNCTIONS.iter().any(|listed| listed.name == name)
}

/// The operator between two classes, if it is total; `None` on the right is a literal.
pub fn total_operator(
    symbol: &str,
    left: Class,
    right: Option<Class>,
) -> Option<&'static TotalOperator> {
    let fits = |listed: &&TotalOperator| {
        listed.left == left
            && listed.symbols.contains(&symbol)
            && right.is_none_or(|right| listed.right.contains(&right))
    };
    TOTAL_OPERATORS.iter().find(fits)
}

/// Whether the list has an operator of that symbol.
pub fn is_total_symbol(symbol: &str) -> bool {
    COMPARISONS.contains(&symbol)
        || TOTAL_OPERATORS.iter().any(|listed| listed.symbols.contains(&symbol))
}

/// Whether the text of an interval literal is so short a span that the clock plus or minus it is a
/// point in time: `30 days`, `-2 weeks`, `01:30:00`.
pub fn is_short_interval(text: &str) -> bool {
    const UNITS: &[&str] = &["second", "minute", "hour", "day", "week", "month"];
    const MAX_DIGITS: usize = 4;
    let text = text.trim();
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = |text: &str| {
        !text.is_empty() && text.len() <= MAX_DIGITS && text.bytes().all(|b| b.is_ascii_digit())
    };
    match unsigned.split_once(' ') {
        Some((number, unit)) => {
            let unit = unit.trim().to_ascii_lowercase();
            let year = matches!(unit.as_str(), "year" | "years") && number.len() < MAX_DIGITS;
            digits(number) && (year || UNITS.contains(&unit.strip_suffix('s').unwrap_or(&unit)))
        }
        None => {
            unsigned.split(':').count() <= 3
                && unsigned.contains(':')
                && unsigned.split(':').all(digits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_meet_only_where_no_cast_can_fail() {
        assert!(comparable(Class::Numeric, Class::Integer));
        assert!(!comparable(Class::Numeric, Class::Float));
        assert!(!comparable(Class::Oid, Class::Integer));
        assert!(!unifiable(Class::Date, Class::Timestamptz));
        assert!(comparable(Class::Date, Class::Timestamptz));
        assert!(!unifiable(Class::Numeric, Class::Float));
    }

    #[test]
    fn arrays_of_what_cannot_be_compared_are_of_no_class() {
        assert_eq!(class_of("_text"), Some(Class::Array));
        assert_eq!(class_of("_json"), None);
        assert_eq!(class_of("_xml"), None);
        assert_eq!(class_of("__int4"), None);
        assert_eq!(class_of("money"), None);
        assert_eq!((class_of("tsquery"), class_of("_tsquery")), (None, None));
        assert_eq!(Parameter::of_oid(3615), Parameter::Foreign(3615));
    }

    #[test]
    fn only_short_intervals_are_short() {
        for short in
            ["30 days", "1 day", "-2 weeks", "9999 hours", "01:30:00", "12:00", "999 years"]
        {
            assert!(is_short_interval(short), "{short}");
        }
        for long in [
            "300000 years",
            "9999 years",
            "1 millennium",
            "1e9 days",
            "99999 days",
            "P1Y",
            "1 day 1 year",
            "",
            "day",
            "1",
        ] {
            assert!(!is_short_interval(long), "{long}");
        }
    }

    #[test]
    fn every_listed_function_is_one_that_may_be_called() {
        for listed in TOTAL_FUNCTIONS {
            assert!(super::super::functions::is_allowed(listed.name), "{}", listed.name);
            assert!(listed.why.len() > 5);
        }
    }
}
