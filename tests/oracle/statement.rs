//! A statement as it is sent: what made it, its text, its parameters, and what of its answer is
//! settled by the data alone.

use crate::random::Random;
use crate::tree::Tree;
use crate::twist;

/// What made a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Grammar,
    /// The grammar's, wrapped or spelled in another way.
    Twisted,
    Corpus,
    Sqlsmith,
    File,
}

/// A whole statement.
#[derive(Clone)]
pub struct Statement {
    pub source: Source,
    pub tree: Tree,
    /// Values of the parameters; the tree names them by the places that they have here.
    pub parameters: Vec<String>,
    /// Its rows come in an order of their own.
    pub ordered: bool,
    /// May change rows.
    pub writes: bool,
    /// The data alone settles its rows; else a LIMIT, an order or a plan does as well.
    pub settled: bool,
    /// How its text is spelled.
    pub spelling: Option<(twist::Kind, Random)>,
}

impl Statement {
    /// One of the grammar's.
    pub fn of_grammar(tree: Tree, parameters: Vec<String>, ordered: bool, writes: bool) -> Self {
        let source = Source::Grammar;
        Self { source, tree, parameters, ordered, writes, settled: true, spelling: None }
    }

    /// One that came as text.
    pub fn of_text(source: Source, sql: &str) -> Self {
        let upper = sql.to_ascii_uppercase();
        let writes =
            ["INSERT", "UPDATE ", "DELETE", "MERGE"].iter().any(|word| upper.contains(word));
        Self {
            source,
            tree: Tree::text(crate::tree::Sort::Other, sql),
            parameters: Vec::new(),
            ordered: false,
            writes,
            settled: source == Source::File || is_settled(&upper),
            spelling: None,
        }
    }

    /// Text and parameters as they are sent: a reduction may have cut parameters out.
    pub fn text(&self) -> (String, Vec<String>) {
        let mut text = self.tree.render();
        if let Some((kind, random)) = &self.spelling {
            text = kind.apply(&text, &mut random.clone());
        }
        number_parameters(&text, &self.parameters)
    }
}

/// Whether the text has nothing in it whose outcome hangs on an order that is not told or on the
/// order in which conditions are asked.
fn is_settled(upper: &str) -> bool {
    const UNSETTLED: &[&str] = &[
        "LIMIT",
        "FETCH",
        "OFFSET",
        "DISTINCT ON",
        "OVER",
        "AGG",
        "RANDOM",
        "NOW(",
        "STATEMENT_TIME",
        "TRANSACTION_TIME",
        "CURRENT_",
        "LOCALTIME",
        "CLOCK_",
        "SAMPLE",
        "CTID",
        "TABLEOID",
        "XMIN",
        "FLOAT",
        "RATIO",
        "SUM(",
        "AVG(",
        "STDDEV",
        "VAR",
        "CORR(",
        "REGR_",
    ];
    // Which of several matches an UPDATE takes is the plan's choice.
    let joined = upper.trim_start().starts_with("UPDATE") && upper.contains(" FROM ");
    !joined && !UNSETTLED.iter().any(|word| upper.contains(word))
}

/// Numbers the parameters that are left from 1, in the order in which they stand.
fn number_parameters(text: &str, values: &[String]) -> (String, Vec<String>) {
    if values.is_empty() {
        return (text.to_owned(), Vec::new());
    }
    let mut kept: Vec<usize> = Vec::new();
    let mut out = String::with_capacity(text.len());
    for (index, piece) in text.split('$').enumerate() {
        if index == 0 {
            out.push_str(piece);
            continue;
        }
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let Ok(number) = piece[..digits].parse::<usize>() else {
            out.push('$');
            out.push_str(piece);
            continue;
        };
        let place = kept.iter().position(|old| *old == number).unwrap_or_else(|| {
            kept.push(number);
            kept.len() - 1
        });
        out.push_str(&format!("${}", place + 1));
        out.push_str(&piece[digits..]);
    }
    (out, kept.iter().filter_map(|number| values.get(number - 1).cloned()).collect())
}
