//! Names as small numbers: tenants, services, codes. Layer 5.
//!
//! Names come from clients, and a client can make up any number of them: over the bound a name is
//! counted under [`Names::OTHER`], which the page says.

use std::collections::HashMap;
use std::sync::Arc;

/// A table of names. Number 0 is the empty name, number 1 stands for what the bound kept out.
#[derive(Debug)]
pub(in crate::console) struct Names {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    bytes: usize,
    limit: usize,
}

impl Names {
    /// The empty name.
    pub(in crate::console) const NONE: u32 = 0;
    /// Every name that did not fit.
    pub(in crate::console) const OTHER: u32 = 1;
    /// Shown for [`Names::OTHER`].
    pub(in crate::console) const OTHER_NAME: &str = "(more names than the index keeps)";
    /// What a name costs beside its bytes, roughly.
    const ENTRY_BYTES: usize = 96;
    /// Longest name; the audit writer cuts at the same length.
    const LONGEST: usize = 1024;

    /// A table of at most `limit` bytes.
    pub(in crate::console) fn new(limit: usize) -> Self {
        let names: Vec<Arc<str>> = vec!["".into(), Self::OTHER_NAME.into()];
        let numbers = HashMap::from([("".into(), Self::NONE)]);
        Self { numbers, names, bytes: 0, limit }
    }

    /// The number of a name, a new one if need be.
    pub(in crate::console) fn number(&mut self, name: &str) -> u32 {
        let name = name.split_at(name.floor_char_boundary(Self::LONGEST)).0;
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let cost = name.len().saturating_add(Self::ENTRY_BYTES);
        let Ok(number) = u32::try_from(self.names.len()) else { return Self::OTHER };
        if self.bytes.saturating_add(cost) > self.limit {
            return Self::OTHER;
        }
        self.bytes = self.bytes.saturating_add(cost);
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    /// The number of a name that is there.
    pub(in crate::console) fn find(&self, name: &str) -> Option<u32> {
        if name == Self::OTHER_NAME {
            return Some(Self::OTHER);
        }
        self.numbers.get(name).copied()
    }

    /// The name of a number.
    pub(in crate::console) fn name(&self, number: u32) -> &str {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        self.names.get(index).map_or("", |name| name)
    }

    /// How many numbers there are.
    pub(in crate::console) fn len(&self) -> usize {
        self.names.len()
    }

    /// The numbers of another table's names in this one, by position.
    pub(in crate::console) fn absorb(&mut self, other: &Self) -> Vec<u32> {
        other
            .names
            .iter()
            .enumerate()
            .map(|(index, name)| if index == 1 { Self::OTHER } else { self.number(name) })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_once_and_bounded() {
        let mut names = Names::new(250);
        let first = names.number("acme");
        assert_eq!((names.number("acme"), names.name(first)), (first, "acme"));
        assert_eq!((names.number(""), names.find("nobody")), (Names::NONE, None));
        names.number("globex");
        assert_eq!(names.number("one too many"), Names::OTHER);
        let mut other = Names::new(1 << 20);
        other.number("globex");
        assert_eq!(names.absorb(&other)[2], names.find("globex").unwrap());
    }
}
