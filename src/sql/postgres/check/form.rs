//! A checked text with places for literals. Layer 2.
//!
//! What the checker passed was a text with parameters: it could not see the values, and holds for
//! all of them. A literal put in a parameter's place is a constant where a constant of unknown value
//! stood; the form makes sure that it is read as one there, whatever stands beside it.

use super::super::literals::{Literal, closes};
use super::super::tokens::{Spot, Token, Tokens};
use super::Guarded;

/// A checked text with places for literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    text: Box<str>,
    /// Where a literal goes, and which: byte ranges of the text, in order.
    places: Box<[Place]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    start: usize,
    end: usize,
    literal: usize,
}

impl Form {
    /// The form of a text that passed with `$1`, `$2`, … for the literals. `None` where the places
    /// cannot be told by tokens alone, where a literal has none or more than one, or where something
    /// beside it could make another token of it.
    ///
    /// SECURITY: for every list of literals of the same kinds, what is read of the filled text is
    /// what was read of `blind`, but for those constants.
    pub fn of(blind: &Guarded, literals: &[Literal<'_>]) -> Option<Self> {
        let mut tokens = Tokens::of(&blind.0);
        let mut places = Vec::with_capacity(literals.len());
        let mut placed = vec![false; literals.len()];
        let mut previous: Option<Spot<'_>> = None;
        let mut ahead = tokens.next().ok()?;
        while let Some(spot) = ahead {
            ahead = tokens.next().ok()?;
            if spot.token == Token::Parameter {
                let number: usize = spot.text.strip_prefix('$')?.parse().ok()?;
                let literal = number.checked_sub(1)?;
                if !fits(literals.get(literal)?, &blind.0, spot, previous, ahead) {
                    return None;
                }
                let taken = placed.get_mut(literal)?;
                if std::mem::replace(taken, true) {
                    return None;
                }
                places.push(Place { start: spot.start, end: spot.end(), literal });
            }
            previous = Some(spot);
        }
        let complete = placed.into_iter().all(|placed| placed);
        complete.then(|| Self { text: blind.0.as_str().into(), places: places.into() })
    }

    /// The text with these literals; `None` unless there is one for each place.
    pub fn fill(&self, literals: &[Literal<'_>]) -> Option<Guarded> {
        if literals.len() != self.places.len() {
            return None;
        }
        let added: usize = literals.iter().map(|literal| literal.text().len()).sum();
        let mut text = String::with_capacity(self.text.len() + added);
        let mut copied = 0;
        for place in &self.places {
            text.push_str(self.text.get(copied..place.start)?);
            text.push_str(literals.get(place.literal)?.text());
            copied = place.end;
        }
        text.push_str(self.text.get(copied..)?);
        Some(Guarded(text))
    }

    /// The memory that it takes, by estimate.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + size_of_val(&*self.places)
    }
}

/// Whether the literal is read in the parameter's place as one constant.
fn fits(
    literal: &Literal<'_>,
    text: &str,
    spot: Spot<'_>,
    previous: Option<Spot<'_>>,
    next: Option<Spot<'_>>,
) -> bool {
    let bytes = text.as_bytes();
    let before = spot.start.checked_sub(1).and_then(|at| bytes.get(at));
    let apart = matches!(before, Some(b' ' | b'(' | b',' | b'['))
        && matches!(bytes.get(spot.end()), None | Some(b' ' | b')' | b',' | b']' | b':' | b';'));
    // A string behind a name would be another kind of literal (`date '…'`), and two strings are one.
    let own = previous.is_some_and(|previous| match previous.token {
        Token::Comparison | Token::Operator | Token::Open | Token::OpenBracket | Token::Comma => {
            previous.text != "-" || !literal.is_signed()
        }
        Token::Word => {
            ["and", "between", "limit", "offset", "then"].iter().any(|word| previous.is_word(word))
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
    });
    apart && own && (!literal.is_signed() || closes(next))
}

#[cfg(test)]
mod tests {
    use super::super::super::literals::split;
    use super::{Form, Guarded};

    /// What becomes of `blind` with the literals of the text.
    fn filled(blind: &str, text: &str) -> Option<String> {
        let split = split(text)?;
        let form = Form::of(&Guarded(blind.to_owned()), split.literals())?;
        form.fill(split.literals()).map(|guarded| guarded.text().to_owned())
    }

    #[test]
    fn literals_go_where_their_parameters_stood() {
        let two = "SELECT 1 FROM t WHERE b = 17 AND a = 'it''s'";
        assert_eq!(
            filled("SELECT '$1' FROM t WHERE a = $2 AND (b = $1)", two).unwrap(),
            "SELECT '$1' FROM t WHERE a = 'it''s' AND (b = 17)"
        );
        let signed = "UPDATE t SET a = a + -5";
        assert_eq!(filled("UPDATE t SET a = a + $1", signed).unwrap(), "UPDATE t SET a = a + -5");
    }

    #[test]
    fn a_place_where_the_literal_could_be_read_otherwise_is_none() {
        let (one, signed) = ("SELECT 1 FROM t WHERE a = 'x'", "SELECT 1 FROM t WHERE a = -5");
        for blind in [
            "SELECT a WHERE b = $1 OR c = $1",
            "SELECT a WHERE b",
            "SELECT a WHERE b = $2",
            "SELECT a WHERE b = $0",
            "SELECT date $1",
            "SELECT a WHERE b =$1",
            "SELECT a WHERE b = $1.c",
            "SELECT a WHERE b = $1[1]",
            "SELECT a WHERE b = $1 /* c */",
            "SELECT a WHERE b = E'\\'' AND c = $1",
            "SELECT a WHERE b = '' $1",
        ] {
            assert_eq!(filled(blind, one), None, "{blind}");
        }
        for blind in [
            "SELECT a WHERE b = - $1",
            "SELECT a WHERE b = -$1",
            "SELECT a WHERE b = $1::int8",
            "SELECT a WHERE b = $1 ^ 2",
            "SELECT a WHERE b = $1 * 2",
        ] {
            assert_eq!(filled(blind, signed), None, "{blind}");
        }
    }
}
