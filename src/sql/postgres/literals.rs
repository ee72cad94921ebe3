//! Takes the literals out of a statement, so that texts which differ in them only share a verdict.
//! Layer 2.
//!
//! [`split`] is a pass over the tokens, no parser. It takes a literal out only where tokens alone
//! tell that it is a value: beside a comparison or an arithmetic operator, in `IN (…)`, in a row of
//! `VALUES`, in `ARRAY[…]`, behind BETWEEN, AND, LIMIT, OFFSET. Every other literal stays, and so
//! does its spelling in the [`Split::shape`]. Whether verdicts may be shared for a shape is not
//! decided here: see [`super::forms`].

use super::tokens::{NotPlain, Spot, Token, Tokens};

/// Longest text that is split, in bytes.
const MAX_TEXT: usize = 16 << 10;
/// Most literals that are taken out of a text.
const MAX_LITERALS: usize = 1_000;
/// Deepest brackets: one bit each.
const MAX_OPEN: u32 = 60;

/// What is known of a literal without its value: PostgreSQL's type of it follows from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// Fits `int4`.
    Small = 1,
    /// Fits `int8`.
    Large = 2,
    /// `numeric`.
    Decimal = 3,
    /// `'…'`, of unknown type.
    Text = 4,
    /// As above, with a minus sign.
    NegativeSmall = 5,
    NegativeLarge = 6,
    NegativeDecimal = 7,
}

/// A literal of a plain text, verbatim: one token, or a minus sign and a number. Only [`split`]
/// makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal<'t> {
    text: &'t str,
    kind: Kind,
}

impl<'t> Literal<'t> {
    /// Its spelling.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Whether it begins with a minus sign, so that what stands beside it could take hold of it.
    pub const fn is_signed(&self) -> bool {
        match self.kind {
            Kind::NegativeSmall | Kind::NegativeLarge | Kind::NegativeDecimal => true,
            Kind::Small | Kind::Large | Kind::Decimal | Kind::Text => false,
        }
    }

    /// The value of a string.
    pub fn string(&self) -> Option<String> {
        let inside = self.text.strip_prefix('\'')?.strip_suffix('\'')?;
        (self.kind == Kind::Text).then(|| inside.replace("''", "'"))
    }
}

/// A text and its literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<'t> {
    shape: String,
    literals: Vec<Literal<'t>>,
}

impl<'t> Split<'t> {
    /// The text with a control character for each literal, which tells its kind. Plain text has no
    /// control characters but white space, so that two texts of one shape differ in literals only.
    pub fn shape(&self) -> &str {
        &self.shape
    }

    /// The literals, in their order.
    pub fn literals(&self) -> &[Literal<'t>] {
        &self.literals
    }

    /// The text with parameters in place of the literals: what is decided on that was decided
    /// without knowing them.
    pub fn blind(&self) -> String {
        let mut blind = String::with_capacity(self.shape.len() + 4 * self.literals.len());
        let mut number = 0;
        for letter in self.shape.chars() {
            if matches!(letter, '\u{1}'..='\u{7}') {
                number += 1;
                blind.push('$');
                blind.push_str(&number.to_string());
            } else {
                blind.push(letter);
            }
        }
        blind
    }
}

/// Splits a text; `None` when it is not plain, or there is nothing to take out.
pub fn split(text: &str) -> Option<Split<'_>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let mut splitter = Splitter {
        text,
        tokens: Tokens::of(text),
        split: Split { shape: String::with_capacity(text.len()), literals: Vec::with_capacity(8) },
        copied: 0,
        open: 0,
        lists: 0,
        rows: 0,
    };
    splitter.run().ok()?;
    let Splitter { mut split, copied, .. } = splitter;
    split.shape.push_str(text.get(copied..)?);
    (!split.literals.is_empty()).then_some(split)
}

struct Splitter<'t> {
    text: &'t str,
    tokens: Tokens<'t>,
    split: Split<'t>,
    /// How much of the text is in the shape.
    copied: usize,
    open: u32,
    /// For each open bracket a bit: what it holds is a list of values.
    lists: u64,
    /// For each open bracket, and the outermost level: a row of VALUES was the last thing in it.
    rows: u64,
}

impl<'t> Splitter<'t> {
    fn run(&mut self) -> Result<(), NotPlain> {
        let mut before: Option<Spot<'t>> = None;
        let mut previous: Option<Spot<'t>> = None;
        let mut ahead = self.tokens.next()?;
        while let Some(spot) = ahead {
            ahead = self.tokens.next()?;
            let row_before = self.rows >> self.open & 1 == 1;
            match spot.token {
                // They have a meaning in a prepared statement, and theirs is not the literals'.
                Token::Parameter => return Err(NotPlain),
                // Behind it there is nothing.
                Token::Semicolon if ahead.is_some() => return Err(NotPlain),
                Token::Open => self.opened(previous.is_some_and(|previous| {
                    previous.is_word("in")
                        || previous.is_word("values")
                        || previous.token == Token::Comma && row_before
                }))?,
                Token::OpenBracket => {
                    self.opened(previous.is_some_and(|previous| previous.is_word("array")))?;
                }
                Token::Close | Token::CloseBracket => {
                    let list = self.in_list();
                    self.open = self.open.checked_sub(1).ok_or(NotPlain)?;
                    // A list of values in brackets: a row, unless it is IN's.
                    self.rows = self.rows & !(1 << self.open) | u64::from(list) << self.open;
                }
                Token::Comma => {}
                Token::Whole | Token::Decimal | Token::Text => {
                    self.rows &= !(1 << self.open);
                    self.literal(spot, before, previous, ahead);
                }
                Token::Word
                | Token::Quoted
                | Token::Comparison
                | Token::Operator
                | Token::Semicolon
                | Token::Dot
                | Token::Cast => self.rows &= !(1 << self.open),
            }
            before = previous;
            previous = Some(spot);
        }
        if self.open == 0 { Ok(()) } else { Err(NotPlain) }
    }

    fn opened(&mut self, list: bool) -> Result<(), NotPlain> {
        self.open += 1;
        if self.open > MAX_OPEN {
            return Err(NotPlain);
        }
        let bit = 1 << self.open;
        self.lists = self.lists & !bit | u64::from(list) << self.open;
        self.rows &= !bit;
        Ok(())
    }

    const fn in_list(&self) -> bool {
        self.lists >> self.open & 1 == 1
    }

    fn literal(
        &mut self,
        spot: Spot<'t>,
        before: Option<Spot<'t>>,
        previous: Option<Spot<'t>>,
        next: Option<Spot<'t>>,
    ) {
        let Some(previous) = previous else { return };
        let signed = spot.token != Token::Text
            && previous.text == "-"
            && previous.end() == spot.start
            && !before.is_some_and(ends_operand);
        let (holder, start) = if signed {
            match before {
                // What follows must not take hold of the number before the sign does; -0 is 0.
                Some(before) if closes(next) && spot.text != "0" => (before, previous.start),
                Some(_) | None => return,
            }
        } else {
            (previous, spot.start)
        };
        let Some(text) = self.text.get(start..spot.end()) else { return };
        let value = match holder.token {
            // What a document or a query is decides of `@>`, `<@` and `@@` whether they are total.
            Token::Operator if holder.text.contains('@') => false,
            Token::Comparison | Token::Operator => holder.text != "-" || !signed,
            Token::Open | Token::OpenBracket | Token::Comma => self.in_list(),
            Token::Word => {
                ["and", "between", "limit", "offset"].iter().any(|word| holder.is_word(word))
            }
            Token::Quoted
            | Token::Text
            | Token::Whole
            | Token::Decimal
            | Token::Parameter
            | Token::Close
            | Token::CloseBracket
            | Token::Semicolon
            | Token::Dot
            | Token::Cast => false,
        };
        // A sign with a space behind it is an operator of its own.
        let loose_sign = holder.text == "-" && !signed && !before.is_some_and(ends_operand);
        let Some(before_it) = self.text.get(self.copied..start) else { return };
        if !value || loose_sign || self.split.literals.len() == MAX_LITERALS {
            return;
        }
        let kind = kind(spot, signed);
        self.split.shape.push_str(before_it);
        self.split.shape.push(char::from(kind as u8));
        self.split.literals.push(Literal { text, kind });
        self.copied = spot.end();
    }
}

/// Whether an operator behind the token has something on its left.
fn ends_operand(spot: Spot<'_>) -> bool {
    const INNER: [&str; 24] = [
        "select",
        "and",
        "or",
        "not",
        "between",
        "where",
        "on",
        "having",
        "when",
        "then",
        "else",
        "case",
        "in",
        "values",
        "limit",
        "offset",
        "by",
        "set",
        "returning",
        "is",
        "like",
        "ilike",
        "distinct",
        "all",
    ];
    match spot.token {
        Token::Word => !INNER.iter().any(|word| spot.is_word(word)),
        Token::Quoted
        | Token::Text
        | Token::Whole
        | Token::Decimal
        | Token::Parameter
        | Token::Close
        | Token::CloseBracket => true,
        Token::Comparison
        | Token::Operator
        | Token::Open
        | Token::OpenBracket
        | Token::Comma
        | Token::Semicolon
        | Token::Dot
        | Token::Cast => false,
    }
}

/// Whether the token ends the expression before it, so that nothing binds tighter than a sign.
pub(super) fn closes(next: Option<Spot<'_>>) -> bool {
    const ENDS: [&str; 9] =
        ["and", "or", "where", "returning", "from", "order", "limit", "group", "then"];
    match next {
        None => true,
        Some(spot) => match spot.token {
            Token::Close | Token::CloseBracket | Token::Comma | Token::Semicolon => true,
            Token::Word => ENDS.iter().any(|word| spot.is_word(word)),
            Token::Quoted
            | Token::Text
            | Token::Whole
            | Token::Decimal
            | Token::Parameter
            | Token::Comparison
            | Token::Operator
            | Token::Open
            | Token::OpenBracket
            | Token::Dot
            | Token::Cast => false,
        },
    }
}

fn kind(spot: Spot<'_>, signed: bool) -> Kind {
    let plain = match spot.token {
        Token::Text => return Kind::Text,
        Token::Decimal => Kind::Decimal,
        _ => match spot.text.parse::<u64>() {
            Ok(number) if i32::try_from(number).is_ok() => Kind::Small,
            Ok(number) if i64::try_from(number).is_ok() => Kind::Large,
            Ok(_) | Err(_) => Kind::Decimal,
        },
    };
    match plain {
        Kind::Small if signed => Kind::NegativeSmall,
        Kind::Large if signed => Kind::NegativeLarge,
        Kind::Decimal if signed => Kind::NegativeDecimal,
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    /// The text as it is decided on without its literals, and the literals.
    fn blind(text: &str) -> Option<(String, Vec<&str>)> {
        let split = split(text)?;
        Some((split.blind(), split.literals().iter().map(|literal| literal.text()).collect()))
    }

    #[test]
    fn values_are_taken_out_and_nothing_else() {
        for (text, shape, literals) in [
            (
                "SELECT abalance FROM a WHERE aid = 17",
                "SELECT abalance FROM a WHERE aid = $1",
                &["17"][..],
            ),
            (
                "SELECT 1, 'x' FROM t WHERE a='it''s' LIMIT 5",
                "SELECT 1, 'x' FROM t WHERE a=$1 LIMIT $2",
                &["'it''s'", "5"],
            ),
            (
                "INSERT INTO t (a, b) VALUES (1, 'x'), (-2, 'y')",
                "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)",
                &["1", "'x'", "-2", "'y'"],
            ),
            (
                "UPDATE t SET a = a + -5 WHERE b IN (1, 2)",
                "UPDATE t SET a = a + $1 WHERE b IN ($2, $3)",
                &["-5", "1", "2"],
            ),
            (
                "SELECT a - 5 FROM t WHERE b BETWEEN 1 AND 2.5;",
                "SELECT a - $1 FROM t WHERE b BETWEEN $2 AND $3;",
                &["5", "1", "2.5"],
            ),
            (
                "SELECT 1 FROM t WHERE a = ANY (ARRAY[1,2]) AND f(3) > 4",
                "SELECT 1 FROM t WHERE a = ANY (ARRAY[$1,$2]) AND f(3) > $3",
                &["1", "2", "4"],
            ),
            (
                "SELECT 1 FROM t WHERE a = '2020-01-01'::date",
                "SELECT 1 FROM t WHERE a = $1::date",
                &["'2020-01-01'"],
            ),
        ] {
            assert_eq!(blind(text), Some((shape.to_owned(), literals.to_vec())), "{text}");
        }
    }

    #[test]
    fn literals_whose_place_tokens_do_not_tell_stay() {
        for text in [
            "SELECT 5",
            "SELECT a FROM t ORDER BY 1, 2",
            "SELECT a FROM t WHERE b LIKE 'x%'",
            "SELECT a FROM t WHERE f(1, 'x')",
            "SELECT set_config('a', 'b', false)",
            "SELECT date '2020-01-01'",
            "SELECT a::varchar(20), b[1] FROM t",
            "SELECT CASE WHEN a THEN 1 ELSE 2 END FROM t",
            "SELECT extract('year' FROM a) FROM t",
            "SELECT a FROM t WHERE (a, b) IN ((1, 2), (3, 4))",
            "SELECT a FROM t WHERE b = - 5",
            "SELECT a FROM t WHERE b = -5::int8",
            "SELECT a FROM t WHERE b = -5 * c",
            "SELECT a FROM t WHERE b = 1 AND c = $1",
            "SELECT a FROM t WHERE b = 1; SELECT 2",
            "SELECT a FROM t WHERE b = 1)",
            "SELECT a FROM t WHERE b = 1 -- x",
            "SELECT 1 FROM t WHERE a = E'x'",
        ] {
            assert_eq!(blind(text), None, "{text}");
        }
    }

    #[test]
    fn kinds_keep_shapes_apart() {
        let of = |value: &str| {
            let text = format!("SELECT a FROM t WHERE b = {value}");
            split(&text).map(|split| split.shape().to_owned())
        };
        let kinds = ["1", "2147483648", "9223372036854775808", "'1'", "-1", "-2147483648", "-1.5"];
        for (at, kind) in kinds.iter().enumerate() {
            assert!(of(kind).is_some(), "{kind}");
            for other in kinds.iter().skip(at + 1) {
                assert_ne!(of(kind), of(other), "{kind} and {other}");
            }
        }
        for (one, other) in [("1", "2147483647"), ("'a'", "''"), ("1.5", "99999999999999999999")] {
            assert_eq!(of(one), of(other), "{one} and {other}");
        }
    }
}
