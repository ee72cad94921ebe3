//! Query parameters: read field by field and written anew. Layer 5, pure.

use serde_json::{Map, Value};

use super::fault::Fault;
use super::form::{Fields, is_word};

/// Deepest nesting of types and values.
const MAX_DEPTH: u32 = 16;
/// Most parameters of one query.
const MAX_PARAMETERS: usize = 10_000;

/// The parameters of a query.
///
/// # Errors
/// HR5002 for anything that is not on the list.
pub(super) fn rebuild(parameters: Vec<Value>) -> Result<Value, Fault> {
    if parameters.len() > MAX_PARAMETERS {
        return Err(Fault::form("queryParameters"));
    }
    parameters.into_iter().map(parameter).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn parameter(value: Value) -> Result<Value, Fault> {
    let mut fields = Fields::of("queryParameters", value)?;
    let mut built = Map::new();
    if let Some(name) = fields.text("name")? {
        built.insert("name".to_owned(), name.into());
    }
    if let Some(of) = fields.take("parameterType") {
        built.insert("parameterType".to_owned(), kind(of, 0)?);
    }
    if let Some(value) = fields.take("parameterValue") {
        built.insert("parameterValue".to_owned(), content(value, 0)?);
    }
    fields.end()?;
    Ok(Value::Object(built))
}

fn deeper(depth: u32) -> Result<u32, Fault> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(Fault::form("queryParameters")) }
}

fn kind(value: Value, depth: u32) -> Result<Value, Fault> {
    let depth = deeper(depth)?;
    let mut fields = Fields::of("parameterType", value)?;
    let mut built = Map::new();
    if let Some(name) = fields.text("type")? {
        if !is_word(&name) {
            return Err(Fault::form("parameterType.type"));
        }
        built.insert("type".to_owned(), name.into());
    }
    if let Some(precision) = fields.count("timestampPrecision")? {
        built.insert("timestampPrecision".to_owned(), precision.to_string().into());
    }
    for name in ["arrayType", "rangeElementType"] {
        if let Some(inner) = fields.take(name) {
            built.insert(name.to_owned(), kind(inner, depth)?);
        }
    }
    if let Some(members) = fields.list("structTypes")? {
        let members =
            members.into_iter().map(|one| member(one, depth)).collect::<Result<_, _>>()?;
        built.insert("structTypes".to_owned(), Value::Array(members));
    }
    fields.end()?;
    Ok(Value::Object(built))
}

fn member(value: Value, depth: u32) -> Result<Value, Fault> {
    let mut fields = Fields::of("structTypes", value)?;
    let mut built = Map::new();
    fields.ignore(&["description"]);
    if let Some(name) = fields.text("name")? {
        built.insert("name".to_owned(), name.into());
    }
    if let Some(of) = fields.take("type") {
        built.insert("type".to_owned(), kind(of, depth)?);
    }
    fields.end()?;
    Ok(Value::Object(built))
}

fn content(value: Value, depth: u32) -> Result<Value, Fault> {
    let depth = deeper(depth)?;
    let mut fields = Fields::of("parameterValue", value)?;
    let mut built = Map::new();
    match fields.take("value") {
        None => {}
        Some(scalar @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
            built.insert("value".to_owned(), scalar);
        }
        Some(_) => return Err(Fault::form("parameterValue.value")),
    }
    if let Some(values) = fields.list("arrayValues")? {
        let values = values.into_iter().map(|one| content(one, depth)).collect::<Result<_, _>>()?;
        built.insert("arrayValues".to_owned(), Value::Array(values));
    }
    match fields.take("structValues") {
        None => {}
        Some(Value::Object(members)) => {
            let members = members
                .into_iter()
                .map(|(name, value)| Ok((name, content(value, depth)?)))
                .collect::<Result<Map<_, _>, Fault>>()?;
            built.insert("structValues".to_owned(), Value::Object(members));
        }
        Some(_) => return Err(Fault::form("parameterValue.structValues")),
    }
    if let Some(mut range) = fields.object("rangeValue", "rangeValue")? {
        let mut ends = Map::new();
        for name in ["start", "end"] {
            if let Some(end) = range.take(name) {
                ends.insert(name.to_owned(), content(end, depth)?);
            }
        }
        range.end()?;
        built.insert("rangeValue".to_owned(), Value::Object(ends));
    }
    fields.end()?;
    Ok(Value::Object(built))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_arrays_structs_and_ranges_are_kept() {
        let parameters = json!([
            {"name": "a", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "1"}},
            {"parameterType": {"type": "INT64"}, "parameterValue": {"value": 1}},
            {"name": "n", "parameterType": {"type": "ARRAY", "arrayType": {"type": "STRING"}},
             "parameterValue": {"arrayValues": [{"value": "x"}, {}]}},
            {"name": "s", "parameterType": {"type": "STRUCT", "structTypes": [{"name": "f", "type": {"type": "BOOL"}}]},
             "parameterValue": {"structValues": {"f": {"value": true}}}},
            {"name": "r", "parameterType": {"type": "RANGE", "rangeElementType": {"type": "DATE"}},
             "parameterValue": {"rangeValue": {"start": {"value": "2026-01-01"}, "end": {}}}},
        ]);
        let list = parameters.as_array().unwrap().clone();
        assert_eq!(rebuild(list).unwrap(), parameters);
    }

    #[test]
    fn unknown_fields_and_deep_nesting_are_refused() {
        for odd in [
            json!({"name": "a", "parameter_type": {"type": "INT64"}}),
            json!({"parameterType": {"type": "x; DROP"}}),
            json!({"parameterValue": {"value": {"x": 1}}}),
            json!({"parameterValue": {"value": "1", "other": 1}}),
            json!("text"),
        ] {
            assert!(rebuild(vec![odd.clone()]).is_err(), "{odd}");
        }
        let mut deep = json!({"value": "1"});
        for _ in 0..MAX_DEPTH + 1 {
            deep = json!({"arrayValues": [deep]});
        }
        assert!(rebuild(vec![json!({"parameterValue": deep})]).is_err());
    }
}
