//! GoogleSQL that sqlparser does not read, said in words that it does. Pure.
//!
//! - ``@`name` `` is `@name`.
//! - A raw literal with a backslash before a quote (`r'a\'b'`), which sqlparser ends too early, is an
//!   escaped one: `"a\\'b"`.
//! - A part of a path that begins with a digit (`project-x.set.2026_t`) stands in backticks.
//! - `.5` is `0.5`.
//! - `CAST(x AS STRING FORMAT ('YYYY'))` goes without the inner parentheses.
//!
//! SECURITY: what comes out is taken for the client's text, gated, parsed, decided and checked like
//! any other. A mistake here could change what a query says, and not what it is shown. A text that the
//! lexer cannot read is left as it is, and refused by the gate.

use std::borrow::Cow;

use super::lexer::{Cursor, token};

/// The text in plain words.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !may_need_it(text) {
        return Cow::Borrowed(text);
    }
    let mut cursor = Cursor::new(text);
    let mut starts = Vec::new();
    let mut plain = String::with_capacity(text.len());
    let mut before = Before::default();
    while let Some(c) = cursor.peek() {
        let begin = cursor.rest();
        if is_blank(begin) {
            before.blank = true;
        } else if let Some((words, rest)) = said_otherwise(begin, &before) {
            plain.push_str(&words);
            before.push(begin, rest);
            cursor.go_on_at(rest);
            continue;
        }
        if token(&mut cursor, c, &mut starts).is_err() {
            return Cow::Borrowed(text);
        }
        let passed = begin.get(..begin.len() - cursor.rest().len()).unwrap_or_default();
        plain.push_str(passed);
        if !is_blank(begin) {
            before.push(begin, cursor.rest());
        }
    }
    Cow::Owned(plain)
}

/// Whether a text has anything in it that could be said otherwise. Most have not.
fn may_need_it(text: &str) -> bool {
    let has = |sign: &str, follows: fn(u8) -> bool| {
        text.match_indices(sign)
            .any(|(at, _)| text.as_bytes().get(at + sign.len()).copied().is_some_and(follows))
    };
    let quote = |byte: u8| matches!(byte, b'\'' | b'"' | b'\\');
    let format = |byte: u8| matches!(byte, b'O' | b'o');
    text.contains("@`")
        || has("\\", quote)
        || has(".", |byte| byte.is_ascii_digit())
        || has("F", format)
        || has("f", format)
}

fn is_blank(text: &str) -> bool {
    text.starts_with([' ', '\t', '\n', '\r', '#'])
        || text.starts_with("--")
        || text.starts_with("/*")
}

/// One token.
#[derive(Clone, Copy, Default)]
struct Piece<'a> {
    text: &'a str,
    /// Whether nothing stands between it and the token before.
    glued: bool,
}

impl Piece<'_> {
    fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }

    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '`'))
            && !self.text.ends_with(['\'', '"'])
    }
}

/// The three tokens before a place, the last one first.
#[derive(Default)]
struct Before<'a> {
    last: Piece<'a>,
    second: Piece<'a>,
    third: Piece<'a>,
    /// Whether blanks or a comment stand behind the last.
    blank: bool,
}

impl<'a> Before<'a> {
    /// Adds the token that lies between two rests of the text.
    fn push(&mut self, begin: &'a str, rest: &str) {
        let text = begin.get(..begin.len() - rest.len()).unwrap_or_default();
        let piece = Piece { text, glued: !self.blank };
        self.third = std::mem::replace(&mut self.second, std::mem::replace(&mut self.last, piece));
        self.blank = false;
    }

    /// Whether a point here goes on with a path: a keyword may stand in front of a number (`SELECT.5`),
    /// but not behind another point, and not in backticks.
    fn is_path(&self) -> bool {
        let name = self.last.is_name() && !self.blank;
        let behind_a_point =
            self.last.glued && self.second.text == "." && self.second.glued && self.third.is_name();
        name && (behind_a_point || self.last.text.starts_with('`'))
    }

    /// Whether an operand is expected here, whatever it is.
    fn expects_an_operand(&self) -> bool {
        matches!(self.last.text, "(" | "[" | "," | "=" | "<" | ">" | "+" | "-" | "*" | "/" | "|")
    }

    /// Whether the type of a CAST stands here. `AS STRUCT` and `AS VALUE` may stand before a call.
    fn is_type(&self) -> bool {
        let types = ["STRING", "BYTES", "DATE", "DATETIME", "TIME", "TIMESTAMP"];
        self.second.is("AS") && types.iter().any(|name| self.last.is(name))
    }
}

/// What is said for the words at the beginning of a text, and what follows them.
fn said_otherwise<'a>(text: &'a str, before: &Before<'_>) -> Option<(String, &'a str)> {
    parameter(text)
        .or_else(|| raw_literal(text))
        .or_else(|| part_of_path(text).filter(|_| before.is_path()))
        .or_else(|| number(text).filter(|_| before.expects_an_operand()))
        .or_else(|| format(text).filter(|_| before.is_type()))
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// ``@`name` ``, as SQLAlchemy writes parameters.
fn parameter(text: &str) -> Option<(String, &str)> {
    let (name, rest) = text.strip_prefix("@`")?.split_once('`')?;
    let well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(is_word)
        && !rest.starts_with(|c: char| is_word(c) || matches!(c, '`' | '\'' | '"'));
    well.then(|| (format!("@{name}"), rest))
}

/// A raw literal in which a backslash stands before a quote or a backslash. In a raw literal a backslash
/// keeps what follows from ending it, and both are in its value.
fn raw_literal(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix(['r', 'R'])?;
    let quote = body.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let end = if body.starts_with(&triple) { triple } else { quote.to_string() };
    let mut rest = body.get(end.len()..)?;
    let mut value = String::from('"');
    let mut needed = false;
    loop {
        if let Some(behind) = rest.strip_prefix(&end) {
            value.push('"');
            return needed.then_some((value, behind));
        }
        let mut chars = rest.chars();
        let first = chars.next()?;
        // The character that a backslash keeps.
        let kept = if first == '\\' { Some(chars.next()?) } else { None };
        needed |= matches!(kept, Some('\'' | '"' | '\\'));
        for c in std::iter::once(first).chain(kept) {
            match c {
                '\\' => value.push_str("\\\\"),
                '"' => value.push_str("\\\""),
                '\n' if end.len() == 3 && kept.is_none() => value.push_str("\\n"),
                c if c.is_control() => return None,
                c => value.push(c),
            }
        }
        rest = chars.as_str();
    }
}

/// `.2026_t` behind a path. Not what might be an exponent.
fn part_of_path(text: &str) -> Option<(String, &str)> {
    let part = text.strip_prefix('.')?;
    let length = part.find(|c| !is_word(c)).unwrap_or(part.len());
    let (name, rest) = part.split_at(length);
    let no_number = |c: char| c == '_' || c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E');
    let well = name.starts_with(|c: char| c.is_ascii_digit())
        && name.contains(no_number)
        && !rest.starts_with(['`', '\'', '"', '$', '\\'])
        && rest.chars().next().is_none_or(|c| c.is_ascii());
    well.then(|| (format!(".`{name}`"), rest))
}

/// `.5`
fn number(text: &str) -> Option<(String, &str)> {
    let digits = text.strip_prefix('.')?;
    let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(length);
    (length > 0).then(|| (format!("0.{digits}"), rest))
}

/// `FORMAT ('YYYY')`
fn format(text: &str) -> Option<(String, &str)> {
    let (word, rest) = text.split_at_checked("FORMAT".len())?;
    let literal = rest.trim_ascii_start().strip_prefix('(')?.trim_ascii_start();
    let quote = literal.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (value, rest) = literal.get(1..)?.split_once(quote)?;
    let rest = rest.trim_ascii_start().strip_prefix(')')?;
    let plain = !value.is_empty() && !value.contains(|c: char| c == '\\' || c.is_control());
    (word.eq_ignore_ascii_case("FORMAT") && plain)
        .then(|| (format!("{word} {quote}{value}{quote}"), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sqlparser_does_not_read_is_said_otherwise() {
        for (text, said) in [
            ("SELECT @`a_1`, @b, `c`.d", "SELECT @a_1, @b, `c`.d"),
            (r#"SELECT r'a\'b', R"\"", 'x'"#, r#"SELECT "a\\'b", "\\\"", 'x'"#),
            (r#"SELECT r"""a\"b""""#, r#"SELECT "a\\\"b""#),
            (r#"SELECT r"""ends with \"""""#, r#"SELECT "ends with \\\"""#),
            ("SELECT r'''a'b\n\\\\'''", "SELECT \"a'b\\n\\\\\\\\\""),
            (r"SELECT r'\\' || ' FROM t -- '", r#"SELECT "\\\\" || ' FROM t -- '"#),
            ("SELECT 1 FROM a-b.c_1.311_t", "SELECT 1 FROM a-b.c_1.`311_t`"),
            ("SELECT 1 FROM `a`.311_t AS t", "SELECT 1 FROM `a`.`311_t` AS t"),
            ("SELECT x * .5, (.25), a = -.5e3", "SELECT x * 0.5, (0.25), a = -0.5e3"),
            (
                "SELECT CAST(d AS STRING FORMAT ('YYYY')), CAST(t AS STRING format(\"MM\") AT TIME ZONE 'UTC')",
                "SELECT CAST(d AS STRING FORMAT 'YYYY'), CAST(t AS STRING format \"MM\" AT TIME ZONE 'UTC')",
            ),
        ] {
            assert_eq!(plain(text), said, "{text}");
            assert!(super::super::lexer::gate(said).is_ok(), "{said}");
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for text in [
            "SELECT '@`a`', \"@`a`\", `@x`",
            "SELECT 1 -- @`a` r'\\''\n",
            "SELECT @`a b`",
            "SELECT @`a`b",
            "SELECT @`1`",
            "SELECT @`a",
            // Bytes are no text, and raw literals without such a backslash are read well.
            r"SELECT b'a\'', rb'\'', r'\d+', 'r\'x'",
            "SELECT r'a\\'",
            "SELECT r'a\nb\\'c'",
            // Numbers, and what might be one.
            "SELECT.5",
            "SELECT .5",
            "SELECT a.5",
            "SELECT a.b.1e5",
            "SELECT a .311_t",
            "SELECT 1.5, a.b1",
            "SELECT [1][0].5",
            // Calls.
            "SELECT FORMAT('%d', 1), FORMAT ('x')",
            "SELECT AS STRUCT FORMAT('x')",
            "SELECT 1 AS a, FORMAT('x')",
            "SELECT CAST(d AS STRING FORMAT ('a' || 'b'))",
            "SELECT CAST(d AS STRING FORMAT ('a\\'b'))",
        ] {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn any_text_is_read_without_fault() {
        proptest::proptest!(|(text in "[ -~\\r\\n\u{e4}]{0,60}")| {
            let _ = plain(&text);
        });
    }

    #[test]
    fn a_raw_literal_keeps_its_value() {
        // Read as GoogleSQL reads an escaped literal, what is said has the raw literal's value.
        proptest::proptest!(|(value in "([a-z'\" ]|\\\\[a-z'\"\\\\]){0,20}")| {
            let raw = format!("r'''{value}'''");
            if let Some((said, rest)) = raw_literal(&raw)
                && rest.is_empty()
            {
                let inner = said.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
                let mut read = String::new();
                let mut chars = inner.chars();
                while let Some(c) = chars.next() {
                    assert_ne!(c, '"');
                    read.push(if c == '\\' { chars.next().unwrap() } else { c });
                }
                assert_eq!(read, value);
            }
        });
    }
}
