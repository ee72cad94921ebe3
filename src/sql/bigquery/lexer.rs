//! The gate in front of the parser: a small GoogleSQL lexer whose tokens must begin where
//! sqlparser's do. Pure.
//!
//! sqlparser reads some GoogleSQL literals and comments otherwise than BigQuery does: it ends raw and
//! byte literals at a backslash-quote, lets a comment run over a lone carriage return, and takes
//! `@5` for a parameter. Each of these hides a table from the decision. What this lexer does not
//! know, or reads otherwise than sqlparser, is denied (HR1001 and HR1008).
//!
//! The rules are those of the GoogleSQL reference, "Lexical structure and syntax".

use sqlparser::tokenizer::{Token, Whitespace};

use crate::error::{Denial, DenialCode};
use crate::mutant;

/// Most tokens of a text: a parser's tree of more would be walked for too long.
const MAX_TOKENS: usize = 20_000;

/// Where a word, a literal or a parameter begins: line and column, counted from one in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    line: u64,
    column: u64,
}

/// Reads the text, and demands that sqlparser's tokens begin at the same places.
///
/// # Errors
/// HR1001 for what is no GoogleSQL that this lexer knows, HR1008 where sqlparser reads other tokens,
/// HR4003 over a limit.
pub fn gate(text: &str) -> Result<(), Denial> {
    let ours = starts(text)?;
    if ours.len() > MAX_TOKENS {
        return Err(Denial::of(DenialCode::StatementTooLarge, "tokens"));
    }
    let theirs = super::dialect::tokens(text)?;
    let theirs = theirs
        .iter()
        .filter(|token| is_text(&token.token))
        .map(|token| Start { line: token.span.start.line, column: token.span.start.column });
    if theirs.eq(ours.iter().copied()) || mutant::on("bq-gate") {
        Ok(())
    } else {
        Err(Denial::new(DenialCode::ParsersDisagree))
    }
}

/// Whether a token is a word, a literal or a parameter: what may hide a name. Operators may be cut
/// in other places (`>>` of a nested type) without harm.
fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::TripleSingleQuotedByteStringLiteral(_)
            | Token::TripleDoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::TripleSingleQuotedRawStringLiteral(_)
            | Token::TripleDoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Placeholder(_)
            | Token::Char(_)
    ) && !matches!(token, Token::Whitespace(Whitespace::Space))
}

/// A cursor over the text that knows line and column.
pub struct Cursor<'a> {
    rest: &'a str,
    at: Start,
}

impl<'a> Cursor<'a> {
    /// At the beginning of a text.
    pub const fn new(text: &'a str) -> Self {
        Self { rest: text, at: Start { line: 1, column: 1 } }
    }

    /// What has not been passed over.
    pub const fn rest(&self) -> &'a str {
        self.rest
    }

    /// Goes on at another rest, its place left as it is.
    pub const fn go_on_at(&mut self, rest: &'a str) {
        self.rest = rest;
    }

    /// The next character.
    pub fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn looks_at(&self, text: &str) -> bool {
        self.rest.starts_with(text)
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        if next == '\n' {
            self.at = Start { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(next)
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }
}

fn unreadable(what: &str) -> Denial {
    Denial::of(DenialCode::CannotParse, what)
}

fn starts(text: &str) -> Result<Vec<Start>, Denial> {
    let mut cursor = Cursor::new(text);
    let mut starts = Vec::new();
    while let Some(c) = cursor.peek() {
        token(&mut cursor, c, &mut starts)?;
    }
    Ok(starts)
}

/// Passes over one token, blank or comment.
pub fn token(cursor: &mut Cursor<'_>, c: char, starts: &mut Vec<Start>) -> Result<(), Denial> {
    match c {
        ' ' | '\t' | '\n' => cursor.skip(1),
        '\r' if cursor.looks_at("\r\n") => cursor.skip(2),
        '\r' => return Err(unreadable("a carriage return without line feed")),
        '-' if cursor.looks_at("--") => line_comment(cursor)?,
        '#' => line_comment(cursor)?,
        '/' if cursor.looks_at("/*") => block_comment(cursor)?,
        '`' => {
            starts.push(cursor.at);
            quoted_identifier(cursor)?;
        }
        '\'' | '"' => {
            starts.push(cursor.at);
            literal(cursor, false)?;
        }
        'a'..='z' | 'A'..='Z' | '_' => {
            starts.push(cursor.at);
            word(cursor)?;
        }
        '0'..='9' => {
            starts.push(cursor.at);
            number(cursor)?;
        }
        '.' if cursor.rest.chars().nth(1).is_some_and(|next| next.is_ascii_digit()) => {
            return Err(unreadable("a number without digits before the point"));
        }
        '@' => {
            starts.push(cursor.at);
            parameter(cursor)?;
        }
        '?' => {
            starts.push(cursor.at);
            cursor.skip(1);
        }
        '(' | ')' | '[' | ']' | ',' | '.' | ';' | ':' | '=' | '<' | '>' | '!' | '+' | '-' | '*'
        | '/' | '%' | '&' | '|' | '^' | '~' | '{' | '}' => cursor.skip(1),
        _ => return Err(unreadable("a character that is no GoogleSQL")),
    }
    Ok(())
}

/// A comment to the end of the line. A dialect directive other than `#standardSQL` is refused: the
/// service would read another language.
fn line_comment(cursor: &mut Cursor<'_>) -> Result<(), Denial> {
    let line = cursor.rest.split('\n').next().unwrap_or_default();
    let word = line.trim_start_matches('#').trim().to_ascii_lowercase();
    if line.starts_with('#') && word.ends_with("sql") && word != "standardsql" {
        return Err(unreadable("a dialect directive"));
    }
    while let Some(c) = cursor.peek() {
        match c {
            '\n' => return Ok(()),
            '\r' if cursor.looks_at("\r\n") => return Ok(()),
            // BigQuery ends the comment here, sqlparser does not.
            '\r' | '\0' => return Err(unreadable("a carriage return in a comment")),
            _ => cursor.skip(1),
        }
    }
    Ok(())
}

/// A comment up to the first `*/`: GoogleSQL's do not nest, sqlparser's may.
fn block_comment(cursor: &mut Cursor<'_>) -> Result<(), Denial> {
    cursor.skip(2);
    while let Some(c) = cursor.peek() {
        if cursor.looks_at("*/") {
            cursor.skip(2);
            return Ok(());
        }
        if cursor.looks_at("/*") || c == '\0' {
            return Err(unreadable("a comment in a comment"));
        }
        cursor.skip(1);
    }
    Err(unreadable("a comment that is not closed"))
}

/// `` `project.dataset.table` ``. Escapes are refused: the two parsers read them differently.
fn quoted_identifier(cursor: &mut Cursor<'_>) -> Result<(), Denial> {
    cursor.skip(1);
    while let Some(c) = cursor.next() {
        match c {
            '`' => return Ok(()),
            '\\' | '\n' | '\r' | '\0' => return Err(unreadable("an escape in an identifier")),
            _ => {}
        }
    }
    Err(unreadable("an identifier that is not closed"))
}

/// A string or bytes literal, its prefix already read. `raw` literals and those of bytes must hold
/// no backslash before a quote.
fn literal(cursor: &mut Cursor<'_>, prefixed: bool) -> Result<(), Denial> {
    let Some(quote) = cursor.peek() else { return Err(unreadable("a literal")) };
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let triple = cursor.looks_at(&triple).then_some(triple);
    cursor.skip(if triple.is_some() { 3 } else { 1 });
    while let Some(c) = cursor.peek() {
        match (&triple, c) {
            (Some(end), _) if cursor.looks_at(end) => {
                cursor.skip(3);
                return Ok(());
            }
            (None, _) if c == quote => {
                cursor.skip(1);
                // `''` is two literals to BigQuery and one to sqlparser.
                return match cursor.peek() {
                    Some('\'' | '"') => Err(unreadable("two literals in a row")),
                    _ => Ok(()),
                };
            }
            (None, '\n' | '\r') => return Err(unreadable("a line break in a literal")),
            (_, '\0') => return Err(unreadable("a NUL byte")),
            (_, '\r') if !cursor.looks_at("\r\n") => {
                return Err(unreadable("a carriage return in a literal"));
            }
            (_, '\\') => {
                cursor.skip(1);
                match cursor.peek() {
                    Some('\'' | '"' | '\\') if prefixed => {
                        return Err(unreadable(
                            "a backslash before a quote in a raw or bytes literal",
                        ));
                    }
                    Some('\n' | '\r' | '\0') | None => {
                        return Err(unreadable("a backslash at the end of a line"));
                    }
                    Some(_) => cursor.skip(1),
                }
            }
            _ => cursor.skip(1),
        }
    }
    Err(unreadable("a literal that is not closed"))
}

/// A word, or the prefix of a literal with the literal.
fn word(cursor: &mut Cursor<'_>) -> Result<(), Denial> {
    let length = cursor
        .rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(cursor.rest.len());
    let (text, rest) = cursor.rest.split_at(length);
    let quoted = rest.starts_with(['\'', '"']);
    let prefix = matches!(text.to_ascii_lowercase().as_str(), "r" | "b" | "rb" | "br");
    if quoted && text.len() == 2 && prefix {
        return Err(unreadable("a raw bytes literal"));
    }
    // sqlparser knows prefixes (N'…', X'…', U&'…') that GoogleSQL has not.
    if quoted && text.len() == 1 && !prefix {
        return Err(unreadable("a literal with an unknown prefix"));
    }
    let literal_follows = quoted && prefix;
    cursor.skip(length);
    if literal_follows {
        return literal(cursor, true);
    }
    match cursor.peek() {
        Some('$' | '\\') => Err(unreadable("a name with a special character")),
        Some(c) if !c.is_ascii() => Err(unreadable("a name outside backticks that is not ASCII")),
        _ => Ok(()),
    }
}

/// `12`, `1.5`, `1e10`, `0x1F`; never glued to a word.
fn number(cursor: &mut Cursor<'_>) -> Result<(), Denial> {
    let digits = |cursor: &mut Cursor<'_>, accept: fn(&char) -> bool| {
        while cursor.peek().is_some_and(|c| accept(&c)) {
            cursor.skip(1);
        }
    };
    if cursor.looks_at("0x") || cursor.looks_at("0X") {
        cursor.skip(2);
        digits(cursor, char::is_ascii_hexdigit);
    } else {
        digits(cursor, char::is_ascii_digit);
        if cursor.peek() == Some('.') {
            cursor.skip(1);
            digits(cursor, char::is_ascii_digit);
        }
        if matches!(cursor.peek(), Some('e' | 'E')) {
            let mut after = cursor.rest.chars().skip(1);
            let sign = after.clone().next().is_some_and(|c| matches!(c, '+' | '-'));
            if sign {
                after.next();
            }
            if after.next().is_some_and(|c| c.is_ascii_digit()) {
                cursor.skip(if sign { 2 } else { 1 });
                digits(cursor, char::is_ascii_digit);
            }
        }
    }
    match cursor.peek() {
        Some(c) if c.is_alphanumeric() || matches!(c, '_' | '\'' | '"' | '`' | '.') => {
            Err(unreadable("a number that runs into a word"))
        }
        _ => Ok(()),
    }
}

/// `@name` or `@@name`; `@5` and `@{…}` are hints that hide what follows from sqlparser.
fn parameter(cursor: &mut Cursor<'_>) -> Result<(), Denial> {
    cursor.skip(1);
    if cursor.peek() == Some('@') {
        cursor.skip(1);
    }
    match cursor.peek() {
        Some('a'..='z' | 'A'..='Z' | '_') => word(cursor),
        _ => Err(unreadable("a hint")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<DenialCode> {
        gate(text).err().map(|denial| denial.code)
    }

    #[test]
    fn what_applications_write_passes() {
        for text in [
            "SELECT a, 'x', \"y\", `p-1.d.t`.c FROM `acme-prod.app.t` AS t WHERE x = @p AND y > ? -- end",
            "#standardSQL\nSELECT 1",
            "SELECT r'a.b', b'xy', '''tri'ple''', \"\"\"a\"b\"\"\", 'it\\'s', 1.5e10, 0x1F",
            "/* {json: 1} */ SELECT 1 FROM acme-prod.app.t\r\nWHERE TRUE",
            "FROM app.t |> WHERE id > 0 |> SELECT x",
            "SELECT @@project_id, ARRAY<STRUCT<a INT64, b ARRAY<STRING>>>[]",
        ] {
            assert_eq!(code(text), None, "{text}");
        }
    }

    #[test]
    fn the_known_blind_spots_are_closed() {
        for text in [
            "SELECT r'a\\' || ' AS x UNION ALL SELECT s FROM ds.secret -- '",
            "SELECT b'a\\' || ' AS x UNION ALL SELECT s FROM ds.secret -- '",
            "SELECT rb'a'",
            "SELECT 1 --\r FROM ds.secret",
            "SELECT @5 * FROM `a.b`, ds.secret",
            "SELECT @{a=1} 1",
            "#legacySQL\nSELECT 1",
            "SELECT 1FROM app.customers",
            "SELECT 1 AS `a\\`, (SELECT 2) --`",
            "SELECT 'a''b'",
            "SELECT N'a'",
            "SELECT 1\u{a0}FROM t",
            "SELECT 'a",
            "SELECT /* /* */ 1 */ 2",
        ] {
            assert!(code(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_the_parser_would_cut_otherwise_is_denied_as_such() {
        // GoogleSQL has two names side by side here, sqlparser one with a backtick in it.
        assert_eq!(code("SELECT `a``b` FROM app.customers"), Some(DenialCode::ParsersDisagree));
        assert_eq!(code("SELECT `a`, `b` FROM app.customers"), None);
    }

    #[test]
    fn any_text_is_read_without_fault() {
        proptest::proptest!(|(text in "[ -~\\r\\n\u{e4}]{0,60}")| {
            let _ = gate(&text);
        });
    }
}
