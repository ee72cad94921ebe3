//! Two statements side by side: what the second has that the first has not. Layer 5, pure.

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Whether only this statement has it.
    pub(super) only_here: bool,
}

/// Most words that are compared; longer statements are shown without marks.
const MOST: usize = 1_500;

/// Both statements in pieces: the words of either that the other has not are marked. Case and white
/// space make no difference.
pub(super) fn side_by_side(first: &str, second: &str) -> (Vec<Piece>, Vec<Piece>) {
    let (one, two) = (words(first), words(second));
    if one.len() > MOST || two.len() > MOST {
        let whole = |text: &str| vec![Piece { text: text.to_owned(), only_here: false }];
        return (whole(first), whole(second));
    }
    let common = common(&one, &two);
    let marked = |words: &[&str], side: fn(&(usize, usize)) -> usize| {
        let mut shared = common.iter().map(side).peekable();
        let mut pieces: Vec<Piece> = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let only_here = shared.next_if_eq(&index).is_none();
            let space = word.trim().is_empty();
            match pieces.last_mut() {
                // White space belongs to what stands before it.
                Some(last) if last.only_here == only_here || space => last.text.push_str(word),
                Some(_) | None => pieces.push(Piece { text: (*word).to_owned(), only_here }),
            }
        }
        pieces
    };
    (marked(&one, |pair| pair.0), marked(&two, |pair| pair.1))
}

/// Cuts a statement into names, numbers, strings, white space and single signs.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let end = if matches!(first, '\'' | '"') {
            rest.char_indices().skip(1).find(|(_, c)| *c == first).map(|(at, c)| at + c.len_utf8())
        } else if is_name(first) {
            rest.find(|c| !is_name(c))
        } else if first.is_whitespace() {
            rest.find(|c: char| !c.is_whitespace())
        } else {
            Some(first.len_utf8())
        };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = after;
    }
    words
}

/// The longest common subsequence, as pairs of places.
fn common(one: &[&str], two: &[&str]) -> Vec<(usize, usize)> {
    let same = |a: &str, b: &str| {
        let space = a.trim().is_empty() && b.trim().is_empty();
        space || a.trim_matches('"').eq_ignore_ascii_case(b.trim_matches('"'))
    };
    let width = two.len() + 1;
    let mut lengths = vec![0_u16; (one.len() + 1) * width];
    let at = |lengths: &[u16], row: usize, column: usize| {
        lengths.get(row * width + column).copied().unwrap_or(0)
    };
    for (row, a) in one.iter().enumerate().rev() {
        for (column, b) in two.iter().enumerate().rev() {
            let length = if same(a, b) {
                at(&lengths, row + 1, column + 1).saturating_add(1)
            } else {
                at(&lengths, row + 1, column).max(at(&lengths, row, column + 1))
            };
            if let Some(cell) = lengths.get_mut(row * width + column) {
                *cell = length;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut pairs = Vec::new();
    while let (Some(a), Some(b)) = (one.get(row), two.get(column)) {
        if same(a, b) {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if at(&lengths, row + 1, column) >= at(&lengths, row, column + 1) {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_is_what_only_the_second_has() {
        let sent = "SELECT * FROM orders WHERE tenant_id = 'a b'::text AND id = $1";
        let (one, two) = side_by_side("select * from orders where id = $1", sent);
        assert!(one.iter().all(|piece| !piece.only_here), "{one:?}");
        let guard: String = two.iter().filter(|p| p.only_here).map(|p| p.text.as_str()).collect();
        assert!(guard.contains("tenant_id = 'a b'::text"), "{two:?}");
        let all: String = two.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(all, sent);
    }

    #[test]
    fn any_text_is_cut_and_put_together_again() {
        for text in ["", "'", "\"open", "é'ß'中", "a--b /* c */", "\u{0}\n\t"] {
            assert_eq!(words(text).concat(), text);
        }
        let long = "a ".repeat(MOST);
        assert_eq!(side_by_side(&long, "a").0.len(), 1);
    }
}
