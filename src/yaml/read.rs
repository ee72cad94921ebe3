//! Taking typed sections out of a [`Node`] tree, every fault collected. Layer 0, pure.
//!
//! One definition of a section ([`section!`](crate::section)) gives the type, its reader and its
//! JSON schema, so that the three cannot disagree. A key that is unknown is a fault and names the
//! nearest known one.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Fault, Key, Node, SourcePosition, Value, quoted};
use crate::units::{parse_duration, parse_size};

/// A type that can be read from a node.
pub trait FromNode: Sized {
    /// Reads the node; `None` when that failed, and then `faults` grew.
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self>;

    /// Whether the key may be missing without a fault.
    const OPTIONAL: bool = false;

    /// What a missing key stands for; `None`: without it the section cannot be read.
    fn absent() -> Option<Self> {
        None
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: SourcePosition,
}

impl<T: FromNode> FromNode for At<T> {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        Some(Self { value: T::from_node(node, faults)?, at: node.at.clone() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// An optional key. A value that cannot be read is a fault and counts as absent, so that the rest
/// of the section is still checked.
impl<T: FromNode> FromNode for Option<T> {
    const OPTIONAL: bool = true;

    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        Some(T::from_node(node, faults))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A key whose value may not have been readable, which has been reported: as `Option<Present<T>>` it
/// tells "faulty" from "absent", and as `Present<T>` it is required without ending its section.
#[derive(Clone, Debug)]
pub struct Present<T>(pub Option<T>);

impl<T: FromNode> FromNode for Present<T> {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        Some(Self(T::from_node(node, faults)))
    }

    fn absent() -> Option<Self> {
        Some(Self(None))
    }
}

impl<T: JsonSchema> JsonSchema for Present<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return expected(node, "a list", faults);
        };
        let before = faults.len();
        let list: Self = items.iter().filter_map(|item| T::from_node(item, faults)).collect();
        (faults.len() == before || !list.is_empty()).then_some(list)
    }
}

/// A map whose keys the operator chooses, in file order.
#[derive(Clone, Debug)]
pub struct Entries<T>(pub Vec<(Key, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: FromNode> FromNode for Entries<T> {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            return expected(node, "a map", faults);
        };
        Some(Self(
            entries
                .iter()
                .filter_map(|(key, item)| Some((key.clone(), T::from_node(item, faults)?)))
                .collect(),
        ))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({"type": "object", "additionalProperties": item})
    }
}

impl FromNode for String {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text.is_empty() => {
                expected(node, "text that is not empty", faults)
            }
            Value::Text(text) if text.contains('\0') => {
                expected(node, "text without a NUL character", faults)
            }
            Value::Text(text) => Some(text.clone()),
            Value::Bool(_) | Value::Integer(_) | Value::Number(_) => {
                expected(node, "text (put it in quotes)", faults)
            }
            Value::Null | Value::List(_) | Value::Map(_) => expected(node, "text", faults),
        }
    }
}

impl FromNode for bool {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match node.value {
            Value::Bool(flag) => Some(flag),
            Value::Null
            | Value::Integer(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => expected(node, "`true` or `false`", faults),
        }
    }
}

macro_rules! whole_numbers {
    ($($number:ty: $least:expr),*) => {$(
        impl FromNode for $number {
            fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
                let read = match node.value {
                    Value::Integer(number) => <$number>::try_from(number).ok(),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_)
                    | Value::List(_) | Value::Map(_) => None,
                };
                match read.filter(|number| *number >= $least) {
                    Some(number) => Some(number),
                    None => expected(
                        node,
                        &format!("a whole number from {} to {}", $least, <$number>::MAX),
                        faults,
                    ),
                }
            }
        }
    )*};
}

whole_numbers!(u16: 1, u32: 1, u64: 1);

impl FromNode for f64 {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let read = match node.value {
            #[expect(clippy::cast_precision_loss, reason = "rates are small numbers")]
            Value::Integer(number) => Some(number as Self),
            Value::Number(number) => Some(number),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        match read.filter(|number| number.is_finite() && *number > 0.0) {
            Some(number) => Some(number),
            None => expected(node, "a number greater than 0", faults),
        }
    }
}

/// A duration such as `30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl FromNode for DurationText {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => match parse_duration(text) {
                Ok(duration) => Some(Self(duration)),
                Err(error) => at_node(node, &error.to_string(), faults),
            },
            Value::Integer(0) => Some(Self(Duration::ZERO)),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::List(_)
            | Value::Map(_) => {
                expected(node, "a duration with its unit, such as `30s` or `5m`", faults)
            }
        }
    }
}

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "pattern": "^([0-9]+ ?(ms|s|m|h|d)|0)$", "maximum": 0, "examples": ["30s", "5m"]})
    }
}

/// A size in bytes such as `64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeText(pub u64);

impl FromNode for SizeText {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => match parse_size(text) {
                Ok(0) => expected(node, "a size greater than 0", faults),
                Ok(size) => Some(Self(size)),
                Err(error) => at_node(node, &error.to_string(), faults),
            },
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::List(_)
            | Value::Map(_) => {
                expected(node, "a size with its unit, such as `64KiB` or `1MiB`", faults)
            }
        }
    }
}

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$", "examples": ["64KiB", "1MiB"]})
    }
}

/// A claim path such as `org.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPathText(pub crate::claims::ClaimPath);

impl FromNode for ClaimPathText {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let text = String::from_node(node, faults)?;
        match crate::claims::ClaimPath::parse(&text) {
            Some(path) => Some(Self(path)),
            None => expected(
                node,
                "a claim path such as `tenant_id`, `org.id` or `\"https://example.com/claims\".tenant`",
                faults,
            ),
        }
    }
}

impl JsonSchema for ClaimPathText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClaimPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "examples": ["tenant_id", "org.id"]})
    }
}

/// Records that the node is not what it must be; always `None`.
pub fn expected<T>(node: &Node, what: &str, faults: &mut Vec<Fault>) -> Option<T> {
    let message = format!("{} must be {what}, not {}", node.name(), node.shown());
    faults.push(Fault::new(&node.at, message));
    None
}

/// Records a message about the node; always `None`.
pub fn at_node<T>(node: &Node, message: &str, faults: &mut Vec<Fault>) -> Option<T> {
    faults.push(Fault::new(&node.at, format!("{}: {message}", node.name())));
    None
}

/// One section while it is read.
pub struct SectionReader<'a> {
    node: &'a Node,
    entries: &'a [(Key, Node)],
    faults: &'a mut Vec<Fault>,
}

impl<'a> SectionReader<'a> {
    /// Opens a section that knows the keys `known`; every other key is a fault.
    pub fn open(
        node: &'a Node,
        known: &[&str],
        faults: &'a mut Vec<Fault>,
    ) -> Option<SectionReader<'a>> {
        let Value::Map(entries) = &node.value else {
            let keys = list(known);
            return expected(node, &format!("a map with the keys {keys}"), faults);
        };
        for (key, _) in entries {
            let name = key.text.as_str();
            if known.iter().any(|known| plain_key(known) == name) {
                continue;
            }
            let place = if node.path.is_empty() {
                "the file".to_owned()
            } else {
                format!("`{}`", node.path)
            };
            let advice = match nearest(name, known.iter().map(|known| plain_key(known))) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys: {}", list(known)),
            };
            let message = format!("{place} has no key {}; {advice}", quoted(name));
            faults.push(Fault::new(&key.at, message));
        }
        Some(SectionReader { node, entries, faults })
    }

    /// Reads the value of `key`. `None` when it is missing though required, or cannot be read.
    pub fn field<T: FromNode>(&mut self, key: &str) -> Option<T> {
        let key = plain_key(key);
        match self.entries.iter().find(|(known, _)| known.text == key) {
            Some((at, node)) if node.value == Value::Null => {
                let message = format!("`{}` has no value", node.path);
                self.faults.push(Fault::new(&at.at, message));
                T::absent()
            }
            Some((_, node)) => T::from_node(node, self.faults),
            None => {
                if !T::OPTIONAL {
                    let message = format!("{} lacks the key `{key}`", self.node.name());
                    self.faults.push(Fault::new(&self.node.at, message));
                }
                T::absent()
            }
        }
    }
}

/// `in` of `r#in`.
fn plain_key(key: &str) -> &str {
    key.strip_prefix("r#").unwrap_or(key)
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{}`", plain_key(key))).collect::<Vec<_>>().join(", ")
}

/// The known word nearest to a mistyped one, if any is near: at most a third of it wrong.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let most = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|known| (distance(&word.to_lowercase(), known), known))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein's distance in characters.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut next = vec![index + 1];
        for ((to, diagonal), above) in to.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(from != *to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Declares a section of a file: a struct whose fields are its keys, with reader and schema.
#[macro_export]
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        impl $crate::yaml::read::FromNode for $name {
            fn from_node(
                node: &$crate::yaml::Node,
                faults: &mut Vec<$crate::yaml::Fault>,
            ) -> Option<Self> {
                let mut section = $crate::yaml::read::SectionReader::open(
                    node,
                    &[$(stringify!($field)),*],
                    faults,
                )?;
                $(let $field = section.field::<$kind>(stringify!($field));)*
                Some(Self { $($field: $field?,)* })
            }
        }
    };
}

/// Declares a choice between words: an enum with reader and schema.
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
        pub enum $name {
            $($(#[$variant_meta])* #[schemars(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every word of the choice, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word in a file.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl $crate::yaml::read::FromNode for $name {
            fn from_node(
                node: &$crate::yaml::Node,
                faults: &mut Vec<$crate::yaml::Fault>,
            ) -> Option<Self> {
                if let $crate::yaml::Value::Text(text) = &node.value {
                    $(if text == $word { return Some(Self::$variant); })*
                }
                let words: Vec<String> =
                    Self::WORDS.iter().map(|word| format!("`{word}`")).collect();
                let what = match words.split_last() {
                    Some((last, [])) => last.clone(),
                    Some((last, first)) => format!("{} or {last}", first.join(", ")),
                    None => String::new(),
                };
                $crate::yaml::read::expected(node, &what, faults)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_only_when_it_is_near() {
        let known = ["leeway", "issuers", "tenant_claim"];
        assert_eq!(nearest("leway", known), Some("leeway"));
        assert_eq!(nearest("Issuer", known), Some("issuers"));
        assert_eq!(nearest("tenantclaim", known), Some("tenant_claim"));
        assert_eq!(nearest("password", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }
}
