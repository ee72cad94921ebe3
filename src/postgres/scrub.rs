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

/// Whether errors of this class may quote values of rows. Fails closed: a class that is not known to
/// speak of the statement, the session or the server alone is scrubbed.
fn may_quote_rows(code: &str) -> bool {
    let Some(class) = code.get(..2) else { return true };
    !matches!(
        class,
        "00" | "01"
            | "02"
            | "03"
            | "08"
            | "0A"
            | "0B"
            | "20"
            | "25"
            | "26"
            | "28"
            | "2B"
            | "2D"
            | "34"
            | "3B"
            | "3D"
            | "3F"
            | "40"
            | "42"
            | "53"
            | "54"
            | "55"
            | "57"
            | "58"
    )
}

/// Scrubs an error of a statement on protected relations.
pub(super) fn error(fields: &mut ErrorFields<'_>, known: &Known<'_>) {
    // RAISE may choose any SQLSTATE.
    let raised = fields.text(field::ROUTINE) == "exec_stmt_raise";
    if mutant::on("scrub") || !raised && !may_quote_rows(fields.text(field::CODE)) {
        return;
    }
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
    let is_name = |text: &str| {
        [field::TABLE, field::COLUMN, field::CONSTRAINT, field::DATA_TYPE]
            .iter()
            .any(|code| !text.is_empty() && fields.text(*code) == text)
    };
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
        let message = "relation \"nothing\" does not exist";
        assert_eq!(scrub("42P01", message, ""), message);
        assert_eq!(scrub("99999", "x \"secret\"", ""), "x \"…\"");
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
