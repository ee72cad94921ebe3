//! A statement as a tree of text: what the grammar makes, and what a reduction cuts down.

use std::collections::BTreeSet;

use crate::tables::Ty;

/// What a tree stands for: a tree may take the place of another of its sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Expression(Ty),
    Relation,
    Query,
    /// An element of a list, or a clause: may be left out.
    Optional,
    Other,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Tree(Tree),
}

/// A piece of a statement.
#[derive(Clone, Debug)]
pub struct Tree {
    sort: Sort,
    feature: Option<&'static str>,
    /// Between the children of a list; children without text are left out.
    separator: Option<&'static str>,
    parts: Vec<Part>,
}

impl Tree {
    /// Text alone.
    pub fn text(sort: Sort, text: impl Into<String>) -> Self {
        Self { sort, feature: None, separator: None, parts: vec![Part::Text(text.into())] }
    }

    /// A template: each `$` stands for the next child.
    pub fn of(sort: Sort, template: &str, children: Vec<Self>) -> Self {
        let mut parts = Vec::new();
        let mut children = children.into_iter();
        for (number, text) in template.split('$').enumerate() {
            if number > 0 {
                parts.push(Part::Tree(children.next().expect("a child for each mark")));
            }
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
        }
        assert!(children.next().is_none(), "a mark for each child: {template}");
        Self { sort, feature: None, separator: None, parts }
    }

    /// An expression by template.
    pub fn expression(ty: Ty, template: &str, children: Vec<Self>) -> Self {
        Self::of(Sort::Expression(ty), template, children)
    }

    /// A clause that may be left out.
    pub fn clause(template: &str, children: Vec<Self>) -> Self {
        Self::of(Sort::Optional, template, children)
    }

    /// Nothing.
    pub fn nothing() -> Self {
        Self::text(Sort::Other, "")
    }

    /// Children with a separator between them.
    pub fn list(separator: &'static str, children: Vec<Self>) -> Self {
        let parts = children.into_iter().map(Part::Tree).collect();
        Self { sort: Sort::Other, feature: None, separator: Some(separator), parts }
    }

    /// Names what the grammar made here, for the count of denials.
    pub fn feature(mut self, feature: &'static str) -> Self {
        self.feature = Some(feature);
        self
    }

    /// As an element that may be left out.
    pub fn optional(self) -> Self {
        Self { sort: Sort::Optional, feature: None, separator: None, parts: vec![Part::Tree(self)] }
    }

    /// The text.
    pub fn render(&self) -> String {
        let texts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Tree(tree) => tree.render(),
        });
        match self.separator {
            None => texts.collect(),
            Some(separator) => {
                texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(separator)
            }
        }
    }

    /// Every feature in it.
    pub fn features(&self) -> BTreeSet<&'static str> {
        let mut found: BTreeSet<_> = self.feature.into_iter().collect();
        for part in &self.parts {
            if let Part::Tree(tree) = part {
                found.extend(tree.features());
            }
        }
        found
    }

    /// Every tree that is this one with one part made smaller, larger cuts first.
    pub fn smaller(&self) -> Vec<Self> {
        let mut paths = vec![Vec::new()];
        let mut all = Vec::new();
        while !paths.is_empty() {
            let mut deeper = Vec::new();
            for path in paths {
                let node = self.at(&path);
                for (index, part) in node.parts.iter().enumerate() {
                    if matches!(part, Part::Tree(_)) {
                        let mut below = path.clone();
                        below.push(index);
                        deeper.push(below);
                    }
                }
                all.push(path);
            }
            paths = deeper;
        }
        let length = self.render().len();
        let mut found = Vec::new();
        for path in &all {
            for replacement in self.at(path).replacements() {
                let mut smaller = self.clone();
                *smaller.at_mut(path) = replacement;
                if smaller.render().len() < length {
                    found.push(smaller);
                }
            }
        }
        found
    }

    fn replacements(&self) -> Vec<Self> {
        let mut found = Vec::new();
        match self.sort {
            Sort::Optional => found.push(Self::text(Sort::Other, "")),
            Sort::Expression(ty) => {
                found.push(Self::text(self.sort, "NULL"));
                found.push(Self::text(self.sort, ty.literal()));
            }
            Sort::Relation | Sort::Query | Sort::Other => {}
        }
        if self.sort != Sort::Other && self.sort != Sort::Optional {
            self.descendants(self.sort, &mut found);
        }
        found
    }

    fn descendants(&self, sort: Sort, found: &mut Vec<Self>) {
        for part in &self.parts {
            if let Part::Tree(tree) = part {
                if tree.sort == sort {
                    found.push(tree.clone());
                }
                tree.descendants(sort, found);
            }
        }
    }

    fn at(&self, path: &[usize]) -> &Self {
        path.iter().fold(self, |tree, index| match &tree.parts[*index] {
            Part::Tree(child) => child,
            Part::Text(_) => tree,
        })
    }

    fn at_mut(&mut self, path: &[usize]) -> &mut Self {
        match path.split_first() {
            None => self,
            Some((index, rest)) => match &mut self.parts[*index] {
                Part::Tree(child) => child.at_mut(rest),
                Part::Text(_) => unreachable!("a path leads through trees"),
            },
        }
    }
}
