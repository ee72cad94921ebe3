//! JSON read strictly: one object, no name twice at any depth, nothing behind it. Layer 1.
//!
//! Two readers that pick different ones of two equal names see different tokens (RFC 8725, 2.4;
//! RFC 7519, 4). Errors carry no text of the input, as it may be a token or a private key.

use std::fmt;

use crate::mutant;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use thiserror::Error;

/// The text is not one JSON object with distinct names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JsonFault {
    /// Not JSON, or JSON that is no object.
    #[error("is not a JSON object")]
    NotAnObject,
    /// A name stands twice in one object.
    #[error("holds a name twice in one object")]
    DuplicateName,
}

/// What the visitor says when a name comes again; told from other errors by this text, which no
/// error of the parser itself contains.
const DUPLICATE: &str = "hedgerow: duplicate name";

/// Reads one object. Nesting is bounded by the parser (128 levels); the caller bounds the length.
///
/// # Errors
/// [`JsonFault`], without any text of the input.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut deserializer).map_err(|error| {
        if error.to_string().contains(DUPLICATE) {
            JsonFault::DuplicateName
        } else {
            JsonFault::NotAnObject
        }
    })?;
    deserializer.end().map_err(|_| JsonFault::NotAnObject)?;
    match value {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(JsonFault::NotAnObject)
        }
    }
}

/// Builds a [`Value`], refusing a name that comes twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(Strict)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if map.contains_key(&name) && !mutant::on("claim-twice") {
                return Err(A::Error::custom(DUPLICATE));
            }
            let value = access.next_value_seed(Strict)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text =
            br#" {"a": [1, -2, 1.5, 18446744073709551615, null, true, {"b": "\u00e9"}], "c": {}} "#;
        assert_eq!(
            Value::Object(object(text).unwrap()),
            serde_json::from_slice::<Value>(text).unwrap()
        );
    }

    #[test]
    fn a_name_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"x":[[{"a":1,"a":2}]]}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(JsonFault::DuplicateName), "{text}");
        }
        assert!(object(br#"{"a":{"a":{"a":1}},"A":2}"#).is_ok());
    }

    #[test]
    fn other_text_is_refused() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        for text in [
            "",
            " ",
            "null",
            "[]",
            "1",
            "{",
            "{}x",
            "{} {}",
            "{\"a\":1,}",
            "{\"a\":1e999}",
            "{a:1}",
            "{\"a\":\"\\ud800\"}",
            "\u{feff}{}",
            deep.as_str(),
        ] {
            assert_eq!(object(text.as_bytes()), Err(JsonFault::NotAnObject));
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(JsonFault::NotAnObject));
    }
}
