//! The last net under errors: takes values that a client's own statement does not hold out of what
//! the server says of a statement on protected relations. Layer 5; pure.
//!
//! Guards in the statement keep other tenants' values from ever being evaluated where an error could
//! be seen; this is for what they missed. A unique violation's DETAIL, for one, prints the other
//! tenant's row.

use crate::error::DenialCode;
use crate::mutant;
use crate::wire::ErrorFields;
use crate::wire::error_fields::field;

/// What takes the place of a value.
const REMOVED: &str = "…";

/// What a client knows already.
pub(super) struct Known<'a> {
    /// The text of its statement.
    pub(super) statement: &'a str,
    /// The parameters that it bound, as they came.
    pub(super) parameters: &'a [u8],
}

impl Known<'_> {
    /// Whether a name, or each part of a qualified one, stands there in some spelling: PostgreSQL folds it.
    fn names(&self, name: &str) -> bool {
        let statement = self.statement.to_ascii_lowercase();
        let spelled =
            |part: &str| self.holds(part) || statement.contains(part.to_ascii_lowercase().as_str());
        self.holds(name) || name.split('.').all(spelled)
    }

    fn holds(&self, value: &str) -> bool {
        value.is_empty()
            || self.statement.contains(value)
            || crate::wire::frontend::parameter_values(self.parameters).any(|parameter| {
                std::str::from_utf8(parameter).is_ok_and(|parameter| parameter.contains(value))
            })
    }
}

/// The denial that a runtime check of the rewriter's asked for, if the error is one: the check casts
/// `hedgerow:HR1011 …` to something that it is not.
pub(super) fn runtime_denial(fields: &ErrorFields<'_>) -> Option<DenialCode> {
    if fields.text(field::CODE) != "22P02" {
        return None;
    }
    let message = fields.text(field::MESSAGE);
    if message.contains("hedgerow:HR1011") {
        Some(DenialCode::WriteOutsideTenant)
    } else if message.contains("hedgerow:HR1012") {
        Some(DenialCode::TenantColumnChange)
    } else {
        None
    }
}

/// What an error may hold, by its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpeaksOf {
    /// Values of rows, in any field.
    Rows,
    /// Names: of the statement, or of what a function was given for a name, which may be a row's value
    /// (`has_table_privilege(secret, …)` and `secret::regrole` say that there is no such thing).
    Names,
    /// The session or the server alone.
    Server,
}

impl SpeaksOf {
    /// Fails closed: a class that is not known to speak of anything else speaks of rows.
    fn of_class(code: &str) -> Self {
        match code.get(..2) {
            // The name of a prepared statement, which stands in no text.
            Some("42") if code == "42P05" => Self::Server,
            Some("0A" | "3D" | "3F" | "42" | "55" | "58") => Self::Names,
            Some(
                "00" | "01" | "02" | "03" | "08" | "0B" | "20" | "25" | "26" | "28" | "2B" | "2D"
                | "34" | "3B" | "40" | "53" | "54" | "57",
            ) => Self::Server,
            Some(_) | None => Self::Rows,
        }
    }
}

/// Scrubs an error of a statement on protected relations, while it says where in the text it is.
pub(super) fn error(fields: &mut ErrorFields<'_>, known: &Known<'_>) {
    if mutant::on("scrub") {
        return;
    }
    // RAISE may choose any SQLSTATE.
    let raised = fields.text(field::ROUTINE) == "exec_stmt_raise";
    match SpeaksOf::of_class(fields.text(field::CODE)) {
        _ if raised => of_rows(fields, known, raised),
        SpeaksOf::Rows => of_rows(fields, known, raised),
        SpeaksOf::Names if is_of_the_text(fields) || mutant::on("scrub-names") => {}
        SpeaksOf::Names => of_names(fields, known),
        SpeaksOf::Server => {}
    }
}

/// Whether the error is one of the statement's text, which says where: no row was read yet; or of the
/// portal that the client's own message names (42P03). What a function runs has a CONTEXT, and a position
/// within.
fn is_of_the_text(fields: &ErrorFields<'_>) -> bool {
    let of_a_portal = fields.text(field::CODE) == "42P03";
    (of_a_portal || !fields.text(field::POSITION).is_empty())
        && fields.text(field::CONTEXT).is_empty()
}

fn of_rows(fields: &mut ErrorFields<'_>, known: &Known<'_>, raised: bool) {
    let message = scrubbed(fields, known);
    if let Some(message) = message {
        fields.set(field::MESSAGE, message);
    }
    fields.retain(|code| {
        code == field::DETAIL && mutant::on("scrub-detail")
            || !matches!(
                code,
                field::DETAIL
                    | field::CONTEXT
                    | field::INTERNAL_QUERY
                    | field::INTERNAL_POSITION
                    | field::SCHEMA
                    | field::FILE
                    | field::LINE
                    | field::ROUTINE
            )
    });
    if raised {
        fields.remove(field::HINT);
    }
}

/// Quoted names that the client does not know go, and what a function ran.
fn of_names(fields: &mut ErrorFields<'_>, known: &Known<'_>) {
    for code in [field::MESSAGE, field::DETAIL, field::HINT] {
        let text = fields.text(code);
        let told = without_unknown(text, is_quote, is_quote, |name| {
            is_name(fields, name) || known.names(name)
        });
        let told =
            if code == field::MESSAGE { without_operator(fields, told, known) } else { told };
        if told != fields.text(code) {
            fields.set(code, told);
        }
    }
    for code in [field::CONTEXT, field::INTERNAL_QUERY, field::INTERNAL_POSITION] {
        fields.remove(code);
    }
}

/// What was given for an operator's name (`secret::regoper`) is quoted by nothing.
fn without_operator(fields: &ErrorFields<'_>, message: String, known: &Known<'_>) -> String {
    if !fields.text(field::ROUTINE).starts_with("regoper") {
        return message;
    }
    let parts = message.split_once(": ").or_else(|| message.split_once(" named "));
    match parts {
        Some((_, name)) if known.names(name) => message,
        Some((head, name)) => {
            let said = message.len().saturating_sub(name.len());
            format!("{}{REMOVED}", message.get(..said).unwrap_or(head))
        }
        None => REMOVED.to_owned(),
    }
}

/// Whether the server tells of a text that it is a name of the schema.
fn is_name(fields: &ErrorFields<'_>, text: &str) -> bool {
    [field::TABLE, field::COLUMN, field::CONSTRAINT, field::DATA_TYPE]
        .iter()
        .any(|code| !text.is_empty() && fields.text(*code) == text)
}

/// Scrubs a notice of a statement on protected relations.
pub(super) fn notice(fields: &mut ErrorFields<'_>) {
    fields.retain(|code| {
        !matches!(
            code,
            field::DETAIL | field::CONTEXT | field::INTERNAL_QUERY | field::INTERNAL_POSITION
        )
    });
}

const fn is_quote(character: char) -> bool {
    matches!(character, '"' | '«' | '»' | '„' | '“' | '”')
}

/// The message without values that the client does not know; `None` when it stays as it is.
fn scrubbed(fields: &ErrorFields<'_>, known: &Known<'_>) -> Option<String> {
    let message = fields.text(field::MESSAGE);
    let is_name = |text: &str| is_name(fields, text);
    let scrubbed =
        without_unknown(message, is_quote, is_quote, |text| is_name(text) || known.holds(text));
    let scrubbed = without_unknown(
        &scrubbed,
        |character| character == '(',
        |character| character == ')',
        |text| is_name(text) || known.holds(text) || is_type_modifier(&scrubbed, text),
    );
    (scrubbed != message).then_some(scrubbed)
}

/// Whether `(text)` in `message` is the length of a type: `character varying(10)`.
fn is_type_modifier(message: &str, text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
        && ["varying", "character", "bit", "numeric", "time", "timestamp", "interval"]
            .iter()
            .any(|name| message.contains(&format!("{name}({text})")))
}

/// Replaces what stands between delimiters and is not known. A value may itself hold delimiters, so
/// as soon as one piece is not known, everything up to the last delimiter goes; and pieces that look
/// known are so only if what stands between them is the server's own.
fn without_unknown(
    message: &str,
    opens: impl Fn(char) -> bool,
    closes: impl Fn(char) -> bool,
    known: impl Fn(&str) -> bool,
) -> String {
    let Some((first, opener)) = message.char_indices().find(|(_, character)| opens(*character))
    else {
        return message.to_owned();
    };
    let inner_start = first.saturating_add(opener.len_utf8());
    let inner_end = message
        .char_indices()
        .rev()
        .find(|(at, character)| *at >= inner_start && closes(*character))
        .map_or(message.len(), |(at, _)| at);
    let inner = message.get(inner_start..inner_end).unwrap_or_default();
    let pieces: Vec<&str> =
        inner.split(|character| opens(character) || closes(character)).collect();
    // Every second piece was between delimiters; the others are the server's words.
    let balanced = pieces.len() % 2 == 1 && inner_end < message.len();
    if balanced && (known(inner) || pieces.iter().step_by(2).all(|piece| known(piece))) {
        return message.to_owned();
    }
    let head = message.get(..inner_start).unwrap_or_default();
    let tail = message.get(inner_end..).unwrap_or_default();
    format!("{head}{REMOVED}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;
    use crate::wire::Severity;

    fn scrub(code: &'static str, message: &'static str, statement: &str) -> String {
        let mut fields = ErrorFields::new(Severity::Error, SqlState(code), message);
        fields.set(field::TABLE, "orders");
        fields.set(field::CONSTRAINT, "orders_pkey");
        error(&mut fields, &Known { statement, parameters: b"\0\x01\0\0\0\x05bound" });
        fields.text(field::MESSAGE).to_owned()
    }

    #[test]
    fn a_value_that_the_statement_does_not_hold_is_removed() {
        let message = "invalid input syntax for type integer: \"hunter2\"";
        assert_eq!(
            scrub("22P02", message, "SELECT 1"),
            "invalid input syntax for type integer: \"…\""
        );
        assert_eq!(scrub("22P02", message, "SELECT 'hunter2'::int"), message);
        assert_eq!(
            scrub("22P02", "invalid input syntax for type integer: \"bound\"", ""),
            "invalid input syntax for type integer: \"bound\""
        );
    }

    #[test]
    fn names_of_the_schema_stay() {
        let message = "duplicate key value violates unique constraint \"orders_pkey\"";
        assert_eq!(scrub("23505", message, ""), message);
        let message = "insert on table \"orders\" violates foreign key constraint \"orders_pkey\"";
        assert_eq!(scrub("23503", message, ""), message);
    }

    #[test]
    fn a_value_with_quotes_of_its_own_is_removed_as_a_whole() {
        assert_eq!(scrub("22P02", "bad: \"a\" secret \"b\"", "SELECT 'x'"), "bad: \"…\"");
        assert_eq!(scrub("22P02", "bad: \"a\" secret", "a"), "bad: \"a\" secret");
        assert_eq!(scrub("22P02", "bad: \"a\"b\"", "a"), "bad: \"…\"");
        assert_eq!(scrub("P0001", "row (7,secret) (x)", "x"), "row (…)");
        assert_eq!(scrub("P0001", "open \"secret", ""), "open \"…");
    }

    #[test]
    fn lengths_of_types_and_other_classes_stay() {
        let message = "value too long for type character varying(10)";
        assert_eq!(scrub("22001", message, ""), message);
        let message = "prepared statement \"nothing\" does not exist";
        assert_eq!(scrub("26000", message, ""), message);
        assert_eq!(scrub("99999", "x \"secret\"", ""), "x \"…\"");
    }

    #[test]
    fn what_was_given_for_a_name_is_removed_unless_the_statement_names_it() {
        for (code, message) in [
            ("42P01", "relation \"b-secret-101\" does not exist"),
            ("3F000", "schema \"b-secret-101\" does not exist"),
            ("42704", "role \"b-secret-101\" does not exist"),
            ("3D000", "database \"b-secret-101\" does not exist"),
            ("0A000", "cross-database references are not implemented: \"b-secret-101\""),
            ("55000", "\"b-secret-101\" is not a sequence"),
        ] {
            let unsaid = message.replace("b-secret-101", "…");
            assert_eq!(scrub(code, message, "SELECT secret::regclass FROM t"), unsaid);
            assert_eq!(scrub(code, message, "SELECT 'B-Secret-101'::regclass"), message);
        }
        let message = "relation \"other.orders\" does not exist";
        assert_eq!(scrub("42P01", message, "LOCK Other . \"orders\""), message);
        assert_eq!(scrub("42P01", message, "LOCK orders"), "relation \"…\" does not exist");
        let message = "could not obtain lock on row in relation \"orders\"";
        assert_eq!(scrub("55P03", message, ""), message);
        let message = "canceling statement due to lock timeout";
        assert_eq!(scrub("55P03", message, ""), message);
    }

    #[test]
    fn an_operator_that_a_row_names_is_removed() {
        for (message, expected) in [
            ("operator does not exist: b secret: x", "operator does not exist: …"),
            ("more than one operator named b secret", "more than one operator named …"),
            ("Operator gibt es nicht", "…"),
        ] {
            let mut fields = ErrorFields::new(Severity::Error, SqlState("42883"), message);
            fields.set(field::ROUTINE, "regoperin");
            error(&mut fields, &Known { statement: "SELECT s::regoper", parameters: &[] });
            assert_eq!(fields.text(field::MESSAGE), expected);
        }
    }

    #[test]
    fn an_error_that_says_where_it_is_in_the_text_speaks_of_the_text() {
        let message = "column \"nam\" does not exist";
        let hint = "Perhaps you meant to reference the column \"customers.name\".";
        let read = |context: &'static str, position: &'static str| {
            let mut fields = ErrorFields::new(Severity::Error, SqlState("42703"), message);
            fields.set(field::HINT, hint);
            fields.set(field::INTERNAL_QUERY, "SELECT secret");
            for (code, text) in [(field::CONTEXT, context), (field::POSITION, position)] {
                if !text.is_empty() {
                    fields.set(code, text);
                }
            }
            error(&mut fields, &Known { statement: "SELECT 1", parameters: &[] });
            [field::MESSAGE, field::HINT, field::CONTEXT].map(|code| fields.text(code).to_owned())
        };
        assert_eq!(read("", "8"), [message, hint, ""]);
        let removed =
            ["column \"…\" does not exist", "Perhaps you meant to reference the column \"…\".", ""];
        assert_eq!(read("", ""), removed);
        assert_eq!(read("SQL function \"f\" during startup", "8"), removed);
    }

    #[test]
    fn detail_and_context_go_and_names_stay() {
        let mut fields = ErrorFields::new(Severity::Error, SqlState("23505"), "duplicate");
        for code in
            [field::DETAIL, field::CONTEXT, field::INTERNAL_QUERY, field::SCHEMA, field::FILE]
        {
            fields.set(code, "secret");
        }
        fields.set(field::CONSTRAINT, "orders_pkey");
        error(&mut fields, &Known { statement: "", parameters: &[] });
        assert_eq!(fields.text(field::CONSTRAINT), "orders_pkey");
        for code in
            [field::DETAIL, field::CONTEXT, field::INTERNAL_QUERY, field::SCHEMA, field::FILE]
        {
            assert_eq!(fields.text(code), "");
        }
    }

    #[test]
    fn a_runtime_check_becomes_a_denial() {
        let message = "invalid input syntax for type boolean: \"hedgerow:HR1011 public.orders\"";
        let fields = ErrorFields::new(Severity::Error, SqlState("22P02"), message);
        assert_eq!(runtime_denial(&fields), Some(DenialCode::WriteOutsideTenant));
        let fields = ErrorFields::new(Severity::Error, SqlState("23505"), message);
        assert_eq!(runtime_denial(&fields), None);
    }
}
