//! PostgreSQL's own reading of a text, as one neutral tree. Layer 2.
//!
//! libpg_query's C nodes are typed, some 250 of them. Whoever must not miss a relation cannot
//! afford to miss a field of one of them; so every field is read into a [`Tree`] that code can walk
//! without knowing the node: the fields of common nodes by a table ([`direct`]), those of the others
//! from their complete debug print, which is what the table is held against. Positions are left out,
//! for two texts of one meaning differ in nothing else.

mod direct;

use std::borrow::Cow;

use pg_raw_parse::Node;

use crate::error::{Denial, DenialCode};

/// A node, list or value of a parse tree. Names and numbers borrow from the print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree<'a> {
    /// An absent field.
    None,
    /// `true` or `false`.
    Bool(bool),
    /// A number or an enum's value.
    Number(i64),
    /// A string.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Self>),
    /// A node: its C name and its fields in order.
    Node(&'a str, Vec<(&'a str, Self)>),
}

/// The absent tree, for fields that a node does not have.
static ABSENT: Tree<'static> = Tree::None;

impl<'a> Tree<'a> {
    /// The node's C name, `""` for anything but a node.
    pub fn kind(&self) -> &'a str {
        match self {
            Self::Node(name, _) => name,
            Self::None | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => "",
        }
    }

    /// Whether it is a node of that C name.
    pub fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }

    /// Whether it is absent: no value, or an empty list.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::None => true,
            Self::List(items) => items.is_empty(),
            Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Node(..) => false,
        }
    }

    /// The field of that name; absent when the node has none.
    pub fn at(&self, field: &str) -> &Tree<'a> {
        match self {
            Self::Node(_, fields) => {
                fields.iter().find(|(name, _)| *name == field).map_or(&ABSENT, |(_, value)| value)
            }
            Self::None | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => &ABSENT,
        }
    }

    /// All fields of a node.
    pub fn fields(&self) -> &[(&'a str, Tree<'a>)] {
        match self {
            Self::Node(_, fields) => fields,
            Self::None | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            Self::None | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Node(..) => &[],
        }
    }

    /// The text of a string, or of a `String` node.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Node("String", _) => self.at("sval").text(),
            Self::None | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Node(..) => None,
        }
    }

    /// The value of a number or enum field.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::None | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Node(..) => None,
        }
    }

    /// Whether it is `true`.
    pub fn truth(&self) -> bool {
        *self == Self::Bool(true)
    }

    /// The parts of a list of `String` nodes; `None` when another node stands among them.
    pub fn name_parts(&self) -> Option<Vec<&str>> {
        self.items().iter().map(Tree::text).collect()
    }

    /// The direct children that can hold nodes, lists flattened.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        let (fields, items) = (self.fields(), self.items());
        fields.iter().map(|(_, value)| value).chain(items.iter())
    }

    /// Calls `visit` for this tree and everything below it, parents first, until it fails.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub fn walk<E>(&self, visit: &mut impl FnMut(&Self) -> Result<(), E>) -> Result<(), E> {
        visit(self)?;
        self.children().try_for_each(|child| child.walk(visit))
    }

    /// Reads a statement. `print` is room for its print, where that is needed.
    ///
    /// # Errors
    /// HR4002 when the print is not of the expected form, which denies the statement.
    pub fn of(statement: Node<'a>, print: &'a mut String) -> Result<Self, Denial> {
        if let Some(tree) = direct::node(statement) {
            return Ok(tree);
        }
        *print = format!("{statement:?}");
        Self::read(print)
    }

    /// Reads a complete debug print.
    ///
    /// # Errors
    /// HR4002 when the print is not of the expected form, which denies the statement.
    pub fn read(print: &'a str) -> Result<Self, Denial> {
        let mut reader = Reader { rest: print };
        let tree = reader.value().ok_or(Denial::new(DenialCode::Internal))?;
        if reader.rest.is_empty() { Ok(tree) } else { Err(Denial::new(DenialCode::Internal)) }
    }
}

/// Fields that only tell where something stands in the text.
fn is_position(field: &str) -> bool {
    field == "location"
        || field.ends_with("_location")
        || matches!(
            field,
            "stmt_len" | "list_start" | "list_end" | "rexpr_list_start" | "rexpr_list_end"
        )
}

/// Reads what `#[derive(Debug)]`-like printing writes.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Option<&'a str> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn value(&mut self) -> Option<Tree<'a>> {
        if self.rest.starts_with('"') {
            return self.string().map(Tree::Text);
        }
        if self.eat("[") {
            return self.list().map(Tree::List);
        }
        let word = self.word()?;
        if self.eat(" { ") {
            return Some(Tree::Node(word, self.fields()?));
        }
        if self.eat("(") {
            let inner = self.value()?;
            if !self.eat(")") {
                return None;
            }
            return Some(match inner {
                // `Some(x)` is x; `SelectStmt(SelectStmt { … })` and `NodeList([…])` are their content.
                inner if word == "Some" || word == "NodeList" || inner.kind() == word => inner,
                inner => Tree::Node(word, vec![("", inner)]),
            });
        }
        Some(match word {
            "None" => Tree::None,
            "true" => Tree::Bool(true),
            "false" => Tree::Bool(false),
            number if number.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                Tree::Number(number.parse().ok()?)
            }
            name => Tree::Node(name, Vec::new()),
        })
    }

    fn list(&mut self) -> Option<Vec<Tree<'a>>> {
        let mut items = Vec::new();
        if self.eat("]") {
            return Some(items);
        }
        loop {
            items.push(self.value()?);
            if self.eat("]") {
                return Some(items);
            }
            if !self.eat(", ") {
                return None;
            }
        }
    }

    fn fields(&mut self) -> Option<Vec<(&'a str, Tree<'a>)>> {
        let mut fields = Vec::new();
        loop {
            if self.eat(".. }") || self.eat("}") {
                return Some(fields);
            }
            let name = self.word()?;
            if !self.eat(": ") {
                return None;
            }
            let value = self.value()?;
            if !is_position(name) {
                fields.push((name, value));
            }
            if !self.eat(", ") {
                return self.eat(" }").then_some(fields);
            }
        }
    }

    /// A string in Rust's debug escapes.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let body = self.rest.strip_prefix('"')?;
        let plain = body.find(['"', '\\'])?;
        if body.as_bytes().get(plain) == Some(&b'"') {
            let text = body.get(..plain)?;
            self.rest = body.get(plain + 1..)?;
            return Some(Cow::Borrowed(text));
        }
        let mut text = String::with_capacity(body.len().min(256));
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = body.get(at + 1..)?;
                    return Some(Cow::Owned(text));
                }
                '\\' => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '0' => '\0',
                    'u' => {
                        let (open, _) = chars.next()?;
                        let close = open + body.get(open..)?.find('}')?;
                        let code = u32::from_str_radix(body.get(open + 1..close)?, 16).ok()?;
                        while chars.next()?.0 < close {}
                        char::from_u32(code)?
                    }
                    other @ ('"' | '\\' | '\'') => other,
                    _ => return None,
                }),
                plain => text.push(plain),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;

    fn with_tree(sql: &str, look: impl FnOnce(&Tree<'_>)) {
        let parsed = pg_raw_parse::parse(sql).unwrap();
        let print = format!("{:?}", parsed.stmts().next().unwrap());
        look(&Tree::read(&print).unwrap());
    }

    #[test]
    fn a_print_reads_back_with_every_relation() {
        with_tree("SELECT * FROM a, LATERAL (SELECT 1 FROM b.c) d", |tree| {
            let mut names = Vec::new();
            let seen: Result<(), ()> = tree.walk(&mut |node| {
                if node.is("RangeVar") {
                    names.push(node.at("relname").text().unwrap().to_owned());
                }
                Ok(())
            });
            assert_eq!((seen, names), (Ok(()), vec!["a".to_owned(), "c".to_owned()]));
        });
    }

    #[test]
    fn strings_come_back_byte_for_byte() {
        for text in ["it''s", "a\"b", "a\\b", "tab\tnew\nline", "é\u{200b}漢\u{1f600}", "\u{1}", ""]
        {
            with_tree(&format!("SELECT '{text}'"), |tree| {
                let value = tree.at("target_list").items()[0].at("val").at("val").at("");
                assert_eq!(value.text(), Some(text.replace("''", "'").as_str()));
            });
        }
    }

    #[test]
    fn positions_do_not_count() {
        let read = |sql: &str| {
            let mut out = String::new();
            with_tree(sql, |tree| out = format!("{tree:?}"));
            out
        };
        assert_eq!(read("SELECT 1 FROM t"), read("select   1\nfrom  t -- x"));
        assert_ne!(read("SELECT 'location: 1'"), read("SELECT 'location: 2'"));
    }
}
