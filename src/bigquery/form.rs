//! Bodies: their type, their packing, and the reading of fields off a closed list. Layer 5, pure.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::fault::{BodyFault, Fault};
use super::target::printable;

/// Refuses a type other than JSON in UTF-8. None at all is taken for JSON, which is read strictly.
///
/// # Errors
/// HR5002
pub(super) fn json_type(header: Option<&str>) -> Result<(), Fault> {
    let Some(header) = header else { return Ok(()) };
    let mut parts = header.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let json = essence.eq_ignore_ascii_case("application/json");
    let utf8 = parts.all(|part| match part.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) => false,
        None => part.is_empty(),
    });
    if json && utf8 { Ok(()) } else { Err(Fault::form("header content-type")) }
}

/// Unpacks gzip, up to a bound.
///
/// # Errors
/// [`Fault::Body`]
pub(super) fn unpack(packed: &[u8], bound: usize) -> Result<Bytes, Fault> {
    let mut plain = Vec::new();
    let limit = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(packed)
        .take(limit)
        .read_to_end(&mut plain)
        .map_err(|_| Fault::Body(BodyFault::Broken))?;
    if plain.len() > bound { Err(Fault::Body(BodyFault::TooLarge)) } else { Ok(plain.into()) }
}

/// Fields of an object that are read one by one. What is left at the end is refused.
pub(super) struct Fields {
    path: &'static str,
    map: Map<String, Value>,
}

impl Fields {
    /// Fields of the object that a path names.
    pub(super) fn new(path: &'static str, map: Map<String, Value>) -> Self {
        Self { path, map }
    }

    /// The fields of an object.
    ///
    /// # Errors
    /// HR5002 for anything else.
    pub(super) fn of(path: &'static str, value: Value) -> Result<Self, Fault> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err(Fault::form(path)),
        }
    }

    fn fault(&self, name: &str) -> Fault {
        Fault::form(format!("{}.{}", self.path, printable(name)))
    }

    /// Takes a field; null is the same as none.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.fault(name)),
        }
    }

    /// Takes yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.fault(name)),
        }
    }

    /// Takes a count: a number, or digits in a text, as the API's 64-bit numbers are.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, Fault> {
        let count = match self.take(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(digits)) => digits.parse().ok(),
            Some(_) => None,
        };
        count.map(Some).ok_or_else(|| self.fault(name))
    }

    /// Takes one of a few words, whatever its case; gives it as it is listed.
    pub(super) fn word(
        &mut self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, Fault> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let known = words.iter().find(|word| word.eq_ignore_ascii_case(&text));
        known.copied().map(Some).ok_or_else(|| self.fault(name))
    }

    /// Takes an object's fields.
    pub(super) fn object(&mut self, name: &str, path: &'static str) -> Result<Option<Self>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => Self::of(path, value).map(Some),
        }
    }

    /// Takes a list.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.fault(name)),
        }
    }

    /// Takes an object of texts.
    pub(super) fn texts(&mut self, name: &str) -> Result<Map<String, Value>, Fault> {
        match self.take(name) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) if map.values().all(Value::is_string) => Ok(map),
            Some(_) => Err(self.fault(name)),
        }
    }

    /// Fields that may be there and are of no use.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// The end: nothing may be left but nulls, empty texts and `false`.
    ///
    /// # Errors
    /// HR5002 for the first field that is left.
    pub(super) fn end(self) -> Result<(), Fault> {
        let said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        match self.map.iter().find(|(_, value)| said(value)) {
            Some((name, _)) => Err(self.fault(name)),
            None => Ok(()),
        }
    }
}

/// An identifier of the API (location, time zone): letters, digits and a few marks.
pub(super) fn is_word(text: &str) -> bool {
    let marks = |b: u8| matches!(b, b'-' | b'_' | b'/' | b'+' | b':' | b'.');
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks(b))
}

/// A table's or dataset's name.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !text.is_empty() && text.len() <= 1024 && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn bodies_are_json_in_utf_8() {
        for header in [None, Some("application/json"), Some("application/json; charset=UTF-8")] {
            assert!(json_type(header).is_ok(), "{header:?}");
        }
        for header in [
            "application/json; charset=utf-16",
            "text/plain",
            "application/grpc",
            "multipart/mixed; boundary=x",
            "application/json; charset=utf-8; x=y",
        ] {
            assert!(json_type(Some(header)).is_err(), "{header}");
        }
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_the_bound() {
        let pack = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(&unpack(&pack(b"{}"), 100).unwrap()[..], b"{}");
        assert_eq!(unpack(&pack(&[b'a'; 100]), 100).unwrap().len(), 100);
        assert!(matches!(
            unpack(&pack(&vec![b'a'; 1 << 20]), 100),
            Err(Fault::Body(BodyFault::TooLarge))
        ));
        assert!(matches!(unpack(b"no gzip", 100), Err(Fault::Body(BodyFault::Broken))));
    }

    #[test]
    fn what_is_not_taken_is_refused() {
        let fields = |value: serde_json::Value| Fields::of("body", value).unwrap();
        let mut known = fields(serde_json::json!({"a": "x", "b": null, "c": false, "d": "7"}));
        assert_eq!(known.text("a").unwrap().as_deref(), Some("x"));
        assert_eq!(known.count("d").unwrap(), Some(7));
        assert!(known.end().is_ok());
        assert!(fields(serde_json::json!({"use_legacy_sql": true})).end().is_err());
        assert!(fields(serde_json::json!({"a": 1})).text("a").is_err());
        assert!(Fields::of("body", serde_json::json!([1])).is_err());
    }
}
