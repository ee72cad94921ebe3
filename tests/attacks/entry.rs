//! The data file as types. An unknown field is an error: nothing of an entry is passed over.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attacks {
    pub tenant_a: String,
    pub tenant_b: String,
    pub schema: String,
    pub rls_overlay: String,
    pub policy: String,
    pub attacks: Vec<Entry>,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    Deny,
    OwnRowsOnly,
    NoEffectOnOthers,
    NoLeakInError,
}

/// One attack.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub id: String,
    pub class: String,
    pub title: String,
    pub sql: Vec<String>,
    pub expect: Expect,
    #[serde(default, rename = "note")]
    _note: Value,
    #[serde(default)]
    pub observed: Value,
    #[serde(default)]
    pub setup: Vec<String>,
    #[serde(default)]
    pub as_b: Vec<String>,
    #[serde(default)]
    pub same_backend_b: Vec<String>,
    #[serde(default)]
    pub b_after: Vec<String>,
    pub copy_data: Option<String>,
    pub follow: Option<String>,
    pub wire: Option<Wire>,
    #[serde(default)]
    pub claims: Option<Map<String, Value>>,
    pub expect_rows: Option<usize>,
    pub leak_regex: Option<String>,
    #[serde(default)]
    pub oracle: bool,
}

/// What is sent otherwise than by simple Query.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wire {
    #[serde(default)]
    pub startup: Map<String, Value>,
    #[serde(default)]
    pub messages: Vec<Message>,
    #[serde(default)]
    pub coalesce: bool,
    pub split: Option<usize>,
}

/// A message by its type letter and arguments.
#[derive(Clone, Debug)]
pub enum Message {
    Query(String),
    Parse { name: String, sql: String, types: Vec<u32> },
    Bind { portal: String, statement: String, parameters: Vec<Option<String>> },
    Execute { portal: String, rows: u32 },
    Describe { kind: u8, name: String },
    Sync,
    Flush,
    FunctionCall { signature: String, arguments: Vec<Option<String>> },
    CopyData(String),
    Raw { tag: u8, body: String },
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Vec::<Value>::deserialize(deserializer)?;
        Self::from_parts(&parts)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown message {parts:?}")))
    }
}

impl Message {
    fn from_parts(parts: &[Value]) -> Option<Self> {
        let text = |at: usize| parts.get(at)?.as_str().map(str::to_owned);
        let number = |at: usize| u32::try_from(parts.get(at)?.as_u64()?).ok();
        let texts = |at: usize| {
            let values = parts.get(at)?.as_array()?;
            Some(values.iter().map(|value| value.as_str().map(str::to_owned)).collect())
        };
        Some(match text(0)?.as_str() {
            "Q" => Self::Query(text(1)?),
            "P" => Self::Parse {
                name: text(1)?,
                sql: text(2)?,
                types: parts.get(3)?.as_array()?.iter().map(as_oid).collect::<Option<_>>()?,
            },
            "B" => Self::Bind { portal: text(1)?, statement: text(2)?, parameters: texts(3)? },
            "E" => Self::Execute { portal: text(1)?, rows: number(2)? },
            "D" => Self::Describe { kind: *text(1)?.as_bytes().first()?, name: text(2)? },
            "S" => Self::Sync,
            "H" => Self::Flush,
            "F" => Self::FunctionCall { signature: text(1)?, arguments: texts(2)? },
            "d" => Self::CopyData(text(1)?),
            "raw" => Self::Raw { tag: *text(1)?.as_bytes().first()?, body: text(2)? },
            _ => return None,
        })
    }
}

fn as_oid(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

impl Attacks {
    /// Reads `HEDGEROW_ATTACKS`, or the file beside this one.
    pub fn load() -> Self {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/postgres.yaml");
        let path = std::env::var_os("HEDGEROW_ATTACKS").map_or(beside, PathBuf::from);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let attacks: Self = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(attacks.tenant_a, crate::support::TENANT_A);
        assert_eq!(attacks.tenant_b, crate::support::TENANT_B);
        attacks
    }
}
