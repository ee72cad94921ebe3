//! Tokens of plain SQL, by rules that are a strict part of PostgreSQL's own (manual, 4.1). Layer 2.
//!
//! What is read here as one token is one token to PostgreSQL. Everything with a second meaning ends
//! the reading: comments, `$$…$$`, `E'…'`, `U&…`, backslashes, doubled quotes in names, strings that
//! go on after a newline, numbers with exponents, operators beyond a short list, control characters.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word of ASCII letters, digits and underscores: keyword or name.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string in single quotes; a doubled quote inside stands for one.
    Text,
    /// Digits without a leading zero.
    Whole,
    /// Digits, a point, digits.
    Decimal,
    /// `$` and digits.
    Parameter,
    /// `= < > <= >= <> !=`
    Comparison,
    /// Any other operator of the list.
    Operator,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.` between names
    Dot,
    /// `::`
    Cast,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot<'t> {
    /// What it is.
    pub(super) token: Token,
    /// Its first byte in the text.
    pub(super) start: usize,
    /// Its spelling.
    pub(super) text: &'t str,
}

impl Spot<'_> {
    /// The byte behind it.
    pub(super) const fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is that keyword.
    pub(super) fn is_word(&self, keyword: &str) -> bool {
        self.token == Token::Word && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// Something stands in the text that is not plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotPlain;

/// Reads a text token by token.
pub(super) struct Tokens<'t> {
    text: &'t str,
    at: usize,
    previous: Option<Token>,
}

impl<'t> Tokens<'t> {
    pub(super) const fn of(text: &'t str) -> Self {
        Self { text, at: 0, previous: None }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// How many bytes from `from` on are of a kind.
    fn run(&self, from: usize, of_kind: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.as_bytes().get(from..).unwrap_or_default();
        rest.iter().position(|byte| !of_kind(*byte)).unwrap_or(rest.len())
    }

    /// The next token; `None` at the end of the text.
    pub(super) fn next(&mut self) -> Result<Option<Spot<'t>>, NotPlain> {
        self.at += self.run(self.at, |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        let Some(first) = self.byte(self.at) else { return Ok(None) };
        let start = self.at;
        let (token, length) = self.read(first)?;
        let text = self.text.get(start..start + length).ok_or(NotPlain)?;
        // `'a'` newline `'b'` is one string to PostgreSQL.
        if token == Token::Text && self.previous == Some(Token::Text) {
            return Err(NotPlain);
        }
        self.at += length;
        self.previous = Some(token);
        Ok(Some(Spot { token, start, text }))
    }

    fn read(&self, first: u8) -> Result<(Token, usize), NotPlain> {
        let plain = |token| Ok((token, 1));
        match first {
            b'(' => plain(Token::Open),
            b')' => plain(Token::Close),
            b'[' => plain(Token::OpenBracket),
            b']' => plain(Token::CloseBracket),
            b',' => plain(Token::Comma),
            b';' => plain(Token::Semicolon),
            b'.' => self.dot(),
            b':' if self.byte(self.at + 1) == Some(b':')
                && self.byte(self.at + 2) != Some(b':') =>
            {
                Ok((Token::Cast, 2))
            }
            b'\'' => self.quote(),
            b'"' => self.name(),
            b'$' => self.number(1).map(|(_, length)| (Token::Parameter, length)),
            b'0'..=b'9' => self.number(0),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let length = self.run(self.at, is_word);
                self.stands_alone(length)?;
                Ok((Token::Word, length))
            }
            _ => self.operator(),
        }
    }

    /// Nothing may stick to a token that could make it another one.
    fn stands_alone(&self, length: usize) -> Result<(), NotPlain> {
        match self.byte(self.at + length) {
            Some(byte) if is_word(byte) || matches!(byte, b'\'' | b'"' | b'$' | b'&' | 0x80..) => {
                Err(NotPlain)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A point that joins names, or a name and `*`.
    fn dot(&self) -> Result<(Token, usize), NotPlain> {
        let joins = matches!(self.previous, Some(Token::Word | Token::Quoted));
        match self.byte(self.at + 1) {
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'"' | b'*') if joins => Ok((Token::Dot, 1)),
            Some(_) | None => Err(NotPlain),
        }
    }

    fn quote(&self) -> Result<(Token, usize), NotPlain> {
        let mut length = 1;
        loop {
            length +=
                self.run(self.at + length, |byte| !matches!(byte, b'\'' | b'\\' | 0..=0x1f | 0x7f));
            match (self.byte(self.at + length), self.byte(self.at + length + 1)) {
                (Some(b'\''), Some(b'\'')) => length += 2,
                (Some(b'\''), _) => {
                    length += 1;
                    self.stands_alone(length)?;
                    return Ok((Token::Text, length));
                }
                (Some(_) | None, _) => return Err(NotPlain),
            }
        }
    }

    fn name(&self) -> Result<(Token, usize), NotPlain> {
        let inside = self
            .run(self.at + 1, |byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\'));
        if inside == 0 || self.byte(self.at + 1 + inside) != Some(b'"') {
            return Err(NotPlain);
        }
        self.stands_alone(inside + 2)?;
        Ok((Token::Quoted, inside + 2))
    }

    /// Digits behind `skip` bytes, with a fraction or not.
    fn number(&self, skip: usize) -> Result<(Token, usize), NotPlain> {
        let whole = self.run(self.at + skip, |byte| byte.is_ascii_digit());
        let leading_zero = whole > 1 && self.byte(self.at + skip) == Some(b'0');
        if whole == 0 || leading_zero {
            return Err(NotPlain);
        }
        let mut length = skip + whole;
        let mut token = Token::Whole;
        if self.byte(self.at + length) == Some(b'.') {
            let fraction = self.run(self.at + length + 1, |byte| byte.is_ascii_digit());
            if fraction == 0 || skip > 0 {
                return Err(NotPlain);
            }
            length += 1 + fraction;
            token = Token::Decimal;
        }
        if self.byte(self.at + length) == Some(b'.') {
            return Err(NotPlain);
        }
        self.stands_alone(length)?;
        Ok((token, length))
    }

    fn operator(&self) -> Result<(Token, usize), NotPlain> {
        // PostgreSQL takes the longest run of these; so a run that is not in the list is not read.
        let length = self.run(self.at, |byte| b"+-*/<>=~!@#%^&|`?".contains(&byte));
        match self.text.get(self.at..self.at + length) {
            Some("=" | "<" | ">" | "<=" | ">=" | "<>" | "!=") => Ok((Token::Comparison, length)),
            Some("+" | "-" | "*" | "/" | "%" | "||" | "->" | "->>" | "@>" | "<@") => {
                Ok((Token::Operator, length))
            }
            Some(_) | None => Err(NotPlain),
        }
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::{NotPlain, Token, Tokens};

    fn read(text: &str) -> Result<Vec<(Token, &str)>, NotPlain> {
        let mut tokens = Tokens::of(text);
        let mut found = Vec::new();
        while let Some(spot) = tokens.next()? {
            assert_eq!(text.get(spot.start..spot.end()), Some(spot.text));
            found.push((spot.token, spot.text));
        }
        Ok(found)
    }

    #[test]
    fn plain_text_is_read_as_postgresql_reads_it() {
        use Token::{Cast, Comparison, Decimal, Dot, Operator, Quoted, Text, Whole, Word};
        assert_eq!(
            read("a.\"b C\">=1.50-2||'it''s é'::text").unwrap(),
            [
                (Word, "a"),
                (Dot, "."),
                (Quoted, "\"b C\""),
                (Comparison, ">="),
                (Decimal, "1.50"),
                (Operator, "-"),
                (Whole, "2"),
                (Operator, "||"),
                (Text, "'it''s é'"),
                (Cast, "::"),
                (Word, "text"),
            ]
        );
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn whatever_has_a_second_meaning_ends_the_reading() {
        for text in [
            "E'a'",
            "e'a'",
            "U&'a'",
            "u&\"a\"",
            "N'a'",
            "B'1'",
            "x'1f'",
            "'a\\b'",
            "'a",
            "\"a",
            "\"\"",
            "\"a\"\"b\"",
            "'a' 'b'",
            "'a'\n'b'",
            "-- c",
            "/* c */ 1",
            "1 --2",
            "$$a$$",
            "$a$a$a$",
            "a$1",
            "$1a",
            "$",
            "$01",
            "$1.5",
            "1e5",
            "1.",
            ".5",
            "1..2",
            "1.5.2",
            "007",
            "0x1F",
            "1_000",
            "1a",
            "5.e",
            "a.5",
            "1.a",
            "=-1",
            "@-1",
            "~ 1",
            "!!",
            "a:b",
            "a:=1",
            "a:::b",
            "a\u{a0}b",
            "é",
            "a\u{1}",
            "'\u{1}'",
            "a\0b",
            "\u{b}",
            "'a'b",
            "'a'\"b\"",
            "\"a\"'b'",
            "'a'é",
            "a\\b",
            "`",
            "{",
            "?",
            "a?",
        ] {
            assert_eq!(read(text), Err(NotPlain), "{text:?}");
        }
    }
}
