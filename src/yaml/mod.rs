//! YAML with positions: what configuration and policy files are read from. Layer 0, pure.
//!
//! A text becomes a tree of [`Node`]s that know where they stand; [`read`] takes sections out of
//! the tree and collects *every* [`Fault`], so that an operator mends a file in one round. Refuses
//! duplicate keys, merge keys, several documents, and files beyond [`MAX_FILE_BYTES`].
//!
//! The YAML library is named in this file alone.

pub mod read;

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

/// Longest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Deepest nesting of lists and maps.
const MAX_DEPTH: usize = 32;
/// Most YAML events that a file may hold, and that aliases may repeat.
const MAX_EVENTS: usize = 400_000;
/// Longest part of a value that a message quotes, in characters.
const QUOTED_CHARS: usize = 60;

/// Where something stands in a file; lines and columns count from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePosition {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Something wrong in a file: where, and what was expected. Its text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{at}: {message}")]
pub struct Fault {
    /// Where.
    pub at: SourcePosition,
    /// What, in plain words.
    pub message: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(at: &SourcePosition, message: impl Into<String>) -> Self {
        Self { at: at.clone(), message: message.into() }
    }
}

/// A value, where it stands and what it is called (`identity.issuers[0].issuer`).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: SourcePosition,
    /// Its path from the top of the file; empty for the whole file.
    pub path: Arc<str>,
    /// What it holds.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`; `yes` and `no` are text.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map in file order, each key once.
    Map(Vec<(Key, Node)>),
}

/// A key of a map and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where.
    pub at: SourcePosition,
    /// The key.
    pub text: String,
}

impl Node {
    /// What the node is, for a message: `the number 7`, `a list`, `` `abc` ``.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(flag) => format!("`{flag}`"),
            Value::Integer(number) => format!("the number {number}"),
            Value::Number(number) => format!("the number {number}"),
            Value::Text(text) if text.is_empty() => "empty text".to_owned(),
            Value::Text(text) => quoted(text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// The node's name in a message.
    pub fn name(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("`{}`", self.path) }
    }
}

/// Text as a message may quote it: in backticks, shortened, control characters escaped.
pub fn quoted(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(QUOTED_CHARS)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(QUOTED_CHARS).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

/// Parses one YAML document. Duplicate keys are added to `faults` and their later values left out.
///
/// # Errors
/// The fault at which the text stops being YAML, or exceeds a limit.
pub fn parse(file: &str, text: &str, faults: &mut Vec<Fault>) -> Result<Node, Fault> {
    let file: Arc<str> = file.into();
    let start = SourcePosition { file: file.clone(), line: 1, column: 1 };
    if text.len() > MAX_FILE_BYTES {
        return Err(Fault::new(&start, format!("the file is longer than {MAX_FILE_BYTES} bytes")));
    }
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Node { at: start, path: "".into(), value: Value::Null });
    }
    let read = |error: serde_saphyr::Error| {
        let at = error.location().map_or_else(|| start.clone(), |at| position(&file, at));
        Fault::new(&at, format!("not readable as YAML: {}", plain(&error)))
    };
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::LastWins))
            .map_err(read)?;
    let before = faults.len();
    let node = convert(&file, raw, String::new(), faults);
    if faults.len() == before {
        // The lenient pass lets us list every duplicate, but may fold duplicates beside a numeric
        // key; the strict pass lets none by.
        serde_saphyr::from_str_with_options::<IgnoredAny>(text, options(DuplicateKeyPolicy::Error))
            .map_err(read)?;
    }
    Ok(node)
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: MAX_DEPTH,
            max_events: MAX_EVENTS,
        },
    }
}

fn position(file: &Arc<str>, at: serde_saphyr::Location) -> SourcePosition {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    SourcePosition { file: file.clone(), line: count(at.line()), column: count(at.column()) }
}

/// The library's message on one line, its own mention of the place left off.
fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = match line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, message)) => message,
        None => line,
    };
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn convert(file: &Arc<str>, raw: Spanned<Raw>, path: String, faults: &mut Vec<Fault>) -> Node {
    let at = position(file, raw.referenced);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(flag) => Value::Bool(flag),
        Raw::Integer(number) => Value::Integer(number),
        Raw::Number(number) => Value::Number(number),
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => Value::List(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| convert(file, item, format!("{path}[{index}]"), faults))
                .collect(),
        ),
        Raw::Map(entries) => {
            let mut seen = std::collections::HashMap::new();
            let mut map = Vec::with_capacity(entries.len());
            for (key, item) in entries {
                let key = Key { at: position(file, key.referenced), text: key.value };
                if let Some(first) = seen.insert(key.text.clone(), key.at.clone()) {
                    faults.push(Fault::new(
                        &key.at,
                        format!("{} is given twice; first at {first}", quoted(&key.text)),
                    ));
                    seen.insert(key.text, first);
                    continue;
                }
                let inner =
                    if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                let item = convert(file, item, inner, faults);
                map.push((key, item));
            }
            Value::Map(map)
        }
    };
    Node { at, path: path.into(), value }
}

/// The tree as the library hands it over.
enum Raw {
    Null,
    Bool(bool),
    Integer(i128),
    Number(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn faults_of(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if let Err(fault) = parse("f.yaml", text, &mut faults) {
            faults.push(fault);
        }
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let mut faults = Vec::new();
        let node = parse("f.yaml", "a:\n  b: [1, x]\n  c: {d: yes}\n", &mut faults).unwrap();
        let Value::Map(top) = &node.value else { panic!("{node:?}") };
        let Value::Map(a) = &top[0].1.value else { panic!("{node:?}") };
        let Value::List(b) = &a[0].1.value else { panic!("{node:?}") };
        assert_eq!(b[1].at.to_string(), "f.yaml:2:10");
        assert_eq!(&*b[1].path, "a.b[1]");
        let Value::Map(c) = &a[1].1.value else { panic!("{node:?}") };
        assert_eq!(c[0].0.at.to_string(), "f.yaml:3:7");
        assert_eq!(c[0].1.value, Value::Text("yes".into()));
        assert!(faults.is_empty());
    }

    #[test]
    fn every_duplicate_key_is_named_with_both_places() {
        assert_eq!(
            faults_of("a: 1\nb: {c: 1, c: 2}\na: 2\n"),
            [
                "f.yaml:2:11: `c` is given twice; first at f.yaml:2:5",
                "f.yaml:3:1: `a` is given twice; first at f.yaml:1:1",
            ]
        );
        assert_eq!(faults_of("1: x\na: 1\na: 2\n").len(), 1);
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        for text in [
            "a: [1",
            "a: b: c",
            "a:\n\tb: 1",
            "a: 1\n---\nb: 2\n",
            "a: &x {b: 1}\nc: {<<: *x}\n",
            "a: *nowhere",
            "a: !unknown 1",
            "{[a]: 1}",
            "a: \"x",
            "a: .nan",
        ] {
            let faults = faults_of(text);
            assert_eq!(faults.len(), 1, "{text}: {faults:?}");
            assert!(faults[0].starts_with("f.yaml:"), "{faults:?}");
            println!("{}", faults[0]);
            assert!(!faults[0].contains('\n'), "{faults:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let deep = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(faults_of(&deep).len(), 1);
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(9);
            laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert_eq!(faults_of(&laughs).len(), 1);
        assert_eq!(faults_of(&"x".repeat(MAX_FILE_BYTES + 1)).len(), 1);
    }

    #[test]
    fn an_empty_file_is_nothing() {
        for text in ["", "\n", "# only a comment\n"] {
            assert_eq!(parse("f.yaml", text, &mut Vec::new()).unwrap().value, Value::Null);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-a-c:{}\\[\\],&*!#|>'\" \n\t0-9~?%@`]{0,80}") {
            let _ = faults_of(&text);
        }
    }
}
