//! Rows that come in without SQL: the tenant of each is checked, or filled in. Layer 5, pure.
//!
//! What goes upstream is written anew: one JSON object a line, or CSV in one fixed spelling, so that no
//! other reader can find other rows or other columns in it than this one did. Values pass as they
//! stand, digits of numbers too.

use bytes::Bytes;

use super::fault::Fault;
use super::rows;
use crate::claims::TenantClaim;
use crate::error::{Denial, DenialCode};
use crate::policy::{Protection, TablePolicy, TenantType};

/// The tenant's mark in a table that tenants share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The tenant column.
    pub(super) column: String,
    /// Its type, as a schema has it.
    pub(super) column_type: &'static str,
    /// The tenant, as text.
    text: String,
    number: bool,
}

impl Mark {
    /// The mark of a table's rows.
    ///
    /// # Errors
    /// HR1009 for a table whose rows cannot be told apart by a column of their own, or on which the
    /// policy has a condition; HR2009 for a tenant that is no value of the column.
    pub(super) fn of(rule: &TablePolicy, tenant: &TenantClaim) -> Result<Self, Denial> {
        let form = |what: &str| Denial::of(DenialCode::LeakPossible, what);
        if rule.condition.is_some() {
            return Err(form("a condition of the policy on a written table"));
        }
        let Protection::Tenant { column, tenant_type } = &rule.protection else {
            return Err(form("rows of a table without tenant column"));
        };
        let unusable = || Denial::new(DenialCode::TokenTenant);
        let (text, number) = match (tenant_type, tenant) {
            (TenantType::Int, TenantClaim::Integer(number)) => (number.to_string(), true),
            (TenantType::Int, TenantClaim::Text(text)) => {
                (text.parse::<i64>().map_err(|_| unusable())?.to_string(), true)
            }
            (TenantType::Uuid, TenantClaim::Text(text)) => {
                (uuid::Uuid::try_parse(text).map_err(|_| unusable())?.to_string(), false)
            }
            (TenantType::Text, tenant) => (tenant.to_string(), false),
            (TenantType::Uuid, TenantClaim::Integer(_)) => return Err(unusable()),
        };
        let column_type = if number { "INTEGER" } else { "STRING" };
        Ok(Self { column: column.clone(), column_type, text, number })
    }

    /// Whether a name is the tenant column's: BigQuery does not tell cases of columns apart.
    pub(super) fn is_column(&self, name: &str) -> bool {
        name.to_lowercase() == self.column.to_lowercase()
    }

    /// Whether a text of a CSV file is the tenant's value.
    pub(super) fn is_text(&self, text: &str) -> bool {
        text == self.text
    }

    /// A value of a JSON row.
    fn is_value(&self, value: &[u8]) -> bool {
        match serde_json::from_slice(value) {
            Ok(serde_json::Value::String(text)) => text == self.text,
            Ok(serde_json::Value::Number(number)) => self.number && number.to_string() == self.text,
            Ok(
                serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_),
            )
            | Err(_) => false,
        }
    }

    fn json(&self) -> String {
        let text = serde_json::Value::from(self.text.as_str()).to_string();
        if self.number { self.text.clone() } else { text }
    }
}

fn outside() -> Fault {
    Denial::new(DenialCode::WriteOutsideTenant).into()
}

/// One row as a JSON object, with its tenant.
///
/// # Errors
/// HR1011 for a row of another tenant; HR5002 for what is no object.
pub(super) fn json_row(row: &Bytes, mark: &Mark) -> Result<Vec<u8>, Fault> {
    let unreadable = || Fault::form("a row that is no JSON object");
    // Strict before it is cut: what is cut out below is well formed.
    serde_json::from_slice::<serde::de::IgnoredAny>(row).map_err(|_| unreadable())?;
    let members = rows::members(row).ok_or_else(unreadable)?;
    let mut marked = false;
    let mut built = vec![b'{'];
    for (name, value) in &members {
        if mark.is_column(name) {
            // SECURITY: of two values the service might take the other one.
            if marked || !mark.is_value(value) {
                return Err(outside());
            }
            marked = true;
        }
        push_member(&mut built, name, value);
    }
    if !marked {
        push_member(&mut built, &mark.column, mark.json().as_bytes());
    }
    built.push(b'}');
    Ok(built)
}

fn push_member(built: &mut Vec<u8>, name: &str, value: &[u8]) {
    if built.len() > 1 {
        built.push(b',');
    }
    built.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
    built.push(b':');
    // Between tokens, line breaks are blanks; within strings JSON has none.
    built.extend(value.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
}

/// Rows as JSON objects, one a line.
///
/// # Errors
/// As [`json_row`].
pub(super) fn json_lines(text: &Bytes, mark: &Mark) -> Result<Vec<u8>, Fault> {
    let mut built = Vec::with_capacity(text.len() + text.len() / 8);
    let mut begin = 0;
    while begin < text.len() {
        let rest = text.get(begin..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = text.slice(begin..begin + length);
        begin += length + 1;
        if !line.iter().all(u8::is_ascii_whitespace) {
            built.extend_from_slice(&json_row(&line, mark)?);
            built.push(b'\n');
        }
    }
    Ok(built)
}

/// How a CSV text is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CsvForm {
    /// Between fields.
    pub(super) delimiter: char,
    /// Around fields; `None`: nothing is.
    pub(super) quote: Option<char>,
    /// Lines at the beginning that hold no rows.
    pub(super) skip: u64,
    /// Whether fields may hold line breaks.
    pub(super) line_breaks: bool,
}

/// A field, and whether it stood in quotes: an empty one that did is no null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Field {
    text: String,
    quoted: bool,
}

/// Rows as CSV, in the spelling that is always sent: `,`, `"`, one line with the columns' names. `columns`: those of the file,
/// in order; the tenant's is filled behind them if it is not among them, and then the second value is
/// true.
///
/// # Errors
/// HR1011 for a row of another tenant; HR5002 for a text that could be read in two ways.
pub(super) fn csv_lines(
    text: &[u8],
    form: &CsvForm,
    columns: &[String],
    mark: &Mark,
) -> Result<(Vec<u8>, bool), Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::form("a file that is not UTF-8"))?;
    let mut places = columns.iter().enumerate().filter(|(_, name)| mark.is_column(name));
    let place = places.next().map(|(place, _)| place);
    if places.next().is_some() || columns.is_empty() {
        return Err(Fault::form("schema.fields"));
    }
    let mut built = Vec::with_capacity(text.len() + text.len() / 8);
    let mut header = columns.to_vec();
    header.extend(place.is_none().then(|| mark.column.clone()));
    let header: Vec<Field> = header.into_iter().map(|text| Field { text, quoted: true }).collect();
    push_row(&mut built, header.iter());
    let mut reader = Csv { rest: text, form };
    let mut count = 0_u64;
    while let Some(row) = reader.row()? {
        count += 1;
        let blank = matches!(row.as_slice(), [only] if only.text.is_empty() && !only.quoted);
        if count <= form.skip || blank {
            continue;
        }
        let held = place.map(|place| row.get(place).is_some_and(|field| mark.is_text(&field.text)));
        if held == Some(false) {
            return Err(outside());
        }
        // A shorter or longer row would hold the tenant in another column.
        if held.is_none() && row.len() != columns.len() {
            return Err(Fault::form("a row with another number of columns"));
        }
        let own = Field { text: mark.text.clone(), quoted: false };
        let filled = place.is_none().then_some(&own);
        push_row(&mut built, row.iter().chain(filled));
    }
    Ok((built, place.is_none()))
}

fn push_row<'a>(built: &mut Vec<u8>, fields: impl Iterator<Item = &'a Field>) {
    for (index, field) in fields.enumerate() {
        if index > 0 {
            built.push(b',');
        }
        push_field(built, field);
    }
    built.push(b'\n');
}

fn push_field(built: &mut Vec<u8>, field: &Field) {
    let plain = |c: char| !matches!(c, ',' | '"' | '\n' | '\r') && !c.is_whitespace();
    if !field.quoted && field.text.chars().all(|c| plain(c) || c == ' ') {
        built.extend_from_slice(field.text.as_bytes());
        return;
    }
    built.push(b'"');
    built.extend_from_slice(field.text.replace('"', "\"\"").as_bytes());
    built.push(b'"');
}

struct Csv<'a> {
    rest: &'a str,
    form: &'a CsvForm,
}

impl Csv<'_> {
    fn row(&mut self) -> Result<Option<Vec<Field>>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut row = Vec::new();
        loop {
            row.push(self.field()?);
            let mut chars = self.rest.chars();
            match chars.next() {
                None => return Ok(Some(row)),
                Some('\n') => {
                    self.rest = chars.as_str();
                    return Ok(Some(row));
                }
                Some('\r') if self.rest.starts_with("\r\n") => {
                    self.rest = self.rest.get(2..).unwrap_or_default();
                    return Ok(Some(row));
                }
                Some(c) if c == self.form.delimiter => self.rest = chars.as_str(),
                // Two readers could go on in two ways.
                Some(_) => return Err(Fault::form("a field that goes on behind its quote")),
            }
        }
    }

    fn field(&mut self) -> Result<Field, Fault> {
        let mut chars = self.rest.chars();
        let quote = self.form.quote;
        if quote.is_none() || chars.clone().next() != quote {
            let ends = |c: char| c == self.form.delimiter || matches!(c, '\n' | '\r');
            let end = self.rest.find(ends).unwrap_or(self.rest.len());
            let (text, rest) = self.rest.split_at(end);
            if text.contains('\0')
                || quote.is_some_and(|quote| text.contains(quote))
                || rest.starts_with('\r') && !rest.starts_with("\r\n")
            {
                return Err(Fault::form("a field with a quote or control character in it"));
            }
            self.rest = rest;
            return Ok(Field { text: text.to_owned(), quoted: false });
        }
        chars.next();
        let mut text = String::new();
        loop {
            match chars.next() {
                Some(c) if Some(c) == quote => {
                    let mut after = chars.clone();
                    if after.next() == quote {
                        text.push(c);
                        chars = after;
                    } else {
                        self.rest = chars.as_str();
                        return Ok(Field { text, quoted: true });
                    }
                }
                Some('\n' | '\r') if !self.form.line_breaks => {
                    return Err(Fault::form(
                        "a line break in a field, without allowQuotedNewlines",
                    ));
                }
                Some('\0') | None => return Err(Fault::form("a field that is not closed")),
                Some(c) => text.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            column: "tenant_id".to_owned(),
            column_type: "STRING",
            text: "a".to_owned(),
            number: false,
        }
    }

    fn number() -> Mark {
        Mark { column: "t".to_owned(), column_type: "INTEGER", text: "7".to_owned(), number: true }
    }

    fn json(row: &str, mark: &Mark) -> Result<String, String> {
        json_row(&Bytes::from(row.to_owned()), mark)
            .map(|row| String::from_utf8(row).unwrap())
            .map_err(|fault| match fault {
                Fault::Denied(denial) => denial.code.to_string(),
                other => format!("{other:?}"),
            })
    }

    #[test]
    fn a_row_is_the_tenants_or_becomes_it() {
        let own = r#"{"tenant_id":"a","id":1}"#;
        assert_eq!(json(own, &mark()).unwrap(), own);
        assert_eq!(json(r#"{"id": 1}"#, &mark()).unwrap(), r#"{"id":1,"tenant_id":"a"}"#);
        assert_eq!(json("{}", &mark()).unwrap(), r#"{"tenant_id":"a"}"#);
        // Digits that no float holds.
        let long = r#"{"n":12345678901234567890.123456789,"tenant_id":"a"}"#;
        assert_eq!(json(long, &mark()).unwrap(), long);
        for own in [r#"{"t":7}"#, r#"{"t":"7"}"#, r#"{"T":7}"#] {
            assert_eq!(json(own, &number()).unwrap(), own);
        }
    }

    #[test]
    fn a_row_of_another_tenant_is_refused_however_it_is_spelled() {
        for row in [
            r#"{"tenant_id":"b"}"#,
            r#"{"TENANT_ID":"b"}"#,
            r#"{"tenant\u005fid":"b"}"#,
            r#"{"tenant_id":"a","tenant_id":"b"}"#,
            r#"{"tenant_id":"a","Tenant_Id":"b"}"#,
            r#"{"tenant_id":"a","TENANT_ID":"a"}"#,
            r#"{"tenant_id":null}"#,
            r#"{"tenant_id":["a"]}"#,
            r#"{"tenant_id":"A"}"#,
            r#"{"tenant_id":"a "}"#,
        ] {
            assert_eq!(json(row, &mark()).unwrap_err(), "HR1011", "{row}");
        }
        for row in [r#"{"t":8}"#, r#"{"t":7.0}"#, r#"{"t":"07"}"#, r#"{"t":7e0}"#] {
            assert_eq!(json(row, &number()).unwrap_err(), "HR1011", "{row}");
        }
        for row in ["", "[]", "1", "{", r#"{"a":1}{"tenant_id":"b"}"#, r#"{"a":1,}"#, "{'a':1}"] {
            assert_eq!(json(row, &mark()).unwrap_err(), "HR5002", "{row}");
        }
    }

    #[test]
    fn lines_are_rows() {
        let text = Bytes::from_static(b"{\"id\":1}\r\n\n {\"tenant_id\" : \"a\"}");
        let lines = json_lines(&text, &mark()).unwrap();
        let expected = "{\"id\":1,\"tenant_id\":\"a\"}\n{\"tenant_id\":\"a\"}\n";
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
        let two = Bytes::from_static(b"{\"id\":1}\n{\"tenant_id\":\"b\"}\n");
        assert!(json_lines(&two, &mark()).is_err());
    }

    fn csv(text: &str, form: &CsvForm, columns: &[&str]) -> Result<(String, bool), String> {
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        csv_lines(text.as_bytes(), form, &columns, &mark())
            .map(|(text, filled)| {
                let text = String::from_utf8(text).unwrap();
                let (header, rows) = text.split_once('\n').unwrap();
                assert_eq!(
                    header.matches(',').count(),
                    columns.len() - usize::from(!filled),
                    "{text}"
                );
                (rows.to_owned(), filled)
            })
            .map_err(|fault| match fault {
                Fault::Denied(denial) => denial.code.to_string(),
                other => format!("{other:?}"),
            })
    }

    fn form() -> CsvForm {
        CsvForm { delimiter: ',', quote: Some('"'), skip: 0, line_breaks: false }
    }

    #[test]
    fn csv_is_read_and_written_in_one_spelling() {
        let columns = ["id", "tenant_id", "note"];
        let (text, filled) =
            csv("1,a,x\r\n2,\"a\",\"say \"\"hi\"\", ok\"\n\n3,a,", &form(), &columns).unwrap();
        assert_eq!(text, "1,a,x\n2,\"a\",\"say \"\"hi\"\", ok\"\n3,a,\n");
        assert!(!filled);
        let (text, filled) = csv(
            "id;note\n1;\"a;b\"\n2;c,d\n",
            &CsvForm { delimiter: ';', skip: 1, ..form() },
            &["id", "note"],
        )
        .unwrap();
        assert_eq!((text.as_str(), filled), ("1,\"a;b\",a\n2,\"c,d\",a\n", true));
        let breaks = CsvForm { line_breaks: true, ..form() };
        assert_eq!(csv("a,\"x\ny\"\n", &breaks, &["tenant_id", "n"]).unwrap().0, "a,\"x\ny\"\n");
        let bare = CsvForm { quote: None, ..form() };
        assert_eq!(csv("a,\"x\n", &bare, &["tenant_id", "n"]).unwrap().0, "a,\"\"\"x\"\n");
    }

    #[test]
    fn csv_rows_of_another_tenant_are_refused() {
        let columns = ["id", "TENANT_ID"];
        for text in ["1,b\n", "1,a\n2,b\n", "1\n", "1,\n", "1,\"b\"\n", "1, a\n", "1,a\n2,b"] {
            assert_eq!(csv(text, &form(), &columns).unwrap_err(), "HR1011", "{text}");
        }
        for text in ["1,a\r2,b\n", "1,\"a\"x\n", "1,x\"a\n", "1,\"a\n", "1,\"a\n2,b\"\n", "1,a\0\n"]
        {
            assert_eq!(csv(text, &form(), &columns).unwrap_err(), "HR5002", "{text}");
        }
        // Filled: a row with a value too many would hold the tenant elsewhere.
        assert_eq!(csv("1,2,3\n", &form(), &["id", "note"]).unwrap_err(), "HR5002");
        assert_eq!(csv("1\n", &form(), &["id", "note"]).unwrap_err(), "HR5002");
        assert_eq!(csv("1,a\n", &form(), &["tenant_id", "Tenant_Id"]).unwrap_err(), "HR5002");
    }

    #[test]
    fn any_csv_is_read_as_it_is_written() {
        proptest::proptest!(|(text in "[a,\"\n\r x;]{0,40}")| {
            let wide = CsvForm { line_breaks: true, ..form() };
            if let Ok((written, false)) = csv(&text, &wide, &["tenant_id", "n"]) {
                // What is written reads as itself: no row or field is gained or lost.
                let again = csv(&written, &wide, &["tenant_id", "n"]).unwrap();
                proptest::prop_assert_eq!(again.0, written);
            }
        });
    }
}
