//! Prepared statements and portals of one session, by name, with what is known of each. Layer 5.
//!
//! The server knows best what exists; this knows what was decided. Each entry carries the sequence
//! number of the request that made it, so that an answer to an earlier request never removes what a
//! later one made.

use std::collections::HashMap;
use std::sync::Arc;

use super::egress::{Shape, Watch};
use super::facts::Facts;
use super::statements::Content;

/// Most prepared statements of a session, and most portals.
pub(super) const MAX_NAMES: usize = 10_000;

/// The table is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// A prepared statement.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) facts: Arc<Facts>,
    pub(super) shape: Shape,
    /// What backends are sent; `None` for a statement that SQL prepared, which one backend has.
    pub(super) content: Option<Arc<Content>>,
    /// The identity that it was decided for, by its number in the session.
    pub(super) identity: u64,
    /// The part of the pipeline in which it was prepared, until the client hears that it was.
    pub(super) unheard: Option<u64>,
    pub(super) made: u64,
}

/// What an answer that never came must put back.
#[derive(Debug)]
pub(super) struct Undo {
    name: Box<str>,
    before: Option<Prepared>,
}

impl Undo {
    /// Whether it is about the unnamed statement.
    pub(super) fn is_of_the_unnamed(&self) -> bool {
        self.name.is_empty()
    }
}

/// A portal.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) facts: Arc<Facts>,
    /// Parameters of the Bind, kept for the scrubber of a protected statement.
    pub(super) parameters: Option<Arc<[u8]>>,
    /// The watch over its rows, with the formats of the Bind.
    pub(super) watch: Watch,
    /// The backend's name of its statement.
    pub(super) statement: Option<Box<str>>,
    /// Whether Hedgerow runs it itself, and the server does not know it.
    pub(super) place: RunsAt,
    /// Whether it was executed before.
    pub(super) progress: Progress,
    made: u64,
}

/// How far a portal has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    New,
    /// An Execute of it was sent: another one asks for more of the same.
    Begun,
}

/// Who runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunsAt {
    Server,
    Here,
}

impl Portal {
    pub(super) fn new(
        facts: Arc<Facts>,
        parameters: Option<Arc<[u8]>>,
        watch: Watch,
        made: u64,
    ) -> Self {
        let (place, progress) = (RunsAt::Server, Progress::New);
        Self { facts, parameters, watch, statement: None, place, progress, made }
    }
}

#[derive(Default)]
pub(super) struct Names {
    statements: HashMap<Box<str>, Prepared>,
    portals: HashMap<Box<str>, Portal>,
}

impl Names {
    /// The client's name of a statement that backends know by a shared one.
    pub(super) fn of_shared(&self, shared: &str) -> Option<&str> {
        let is_it = |prepared: &Prepared| {
            prepared.content.as_ref().is_some_and(|content| content.shared_name() == shared)
        };
        // The unnamed one is sent without a name.
        let named =
            self.statements.iter().filter(|(name, prepared)| !name.is_empty() && is_it(prepared));
        named.map(|(name, _)| &**name).min()
    }

    pub(super) fn statement(&self, name: &str) -> Option<&Prepared> {
        self.statements.get(name)
    }

    /// Whether a name stands for a statement that was prepared by protocol.
    pub(super) fn by_protocol(&self, name: &str) -> bool {
        self.statements.get(name).is_some_and(|prepared| prepared.content.is_some())
    }

    /// Where the columns of a statement come from; for one that is not known, nobody knows yet.
    pub(super) fn shape(&self, name: &str) -> Shape {
        self.statements.get(name).map(|prepared| prepared.shape.clone()).unwrap_or_default()
    }

    pub(super) fn portal(&self, name: &str) -> Option<&Portal> {
        self.portals.get(name)
    }

    /// Notes a statement that is being prepared.
    pub(super) fn prepare(
        &mut self,
        name: &str,
        (facts, content): (Arc<Facts>, Option<Arc<Content>>),
        identity: u64,
        made: u64,
    ) -> Result<Undo, TooMany> {
        if self.statements.len() >= MAX_NAMES && !self.statements.contains_key(name) {
            return Err(TooMany);
        }
        let shape = Shape::default();
        let prepared = Prepared { facts, shape, content, identity, unheard: None, made };
        let before = self.statements.insert(name.into(), prepared);
        Ok(Undo { name: name.into(), before })
    }

    /// Notes in which part of the pipeline a statement is being prepared.
    pub(super) fn prepared_in(&mut self, name: &str, segment: u64) {
        if let Some(prepared) = self.statements.get_mut(name) {
            prepared.unheard = Some(segment);
        }
    }

    /// The client hears that a request prepared its statement.
    pub(super) fn heard(&mut self, undo: &Undo, request: u64) {
        if let Some(prepared) = self.statements.get_mut(&undo.name)
            && prepared.made <= request
        {
            prepared.unheard = None;
        }
    }

    /// Notes that a statement is being closed.
    pub(super) fn close_statement(&mut self, name: &str) -> Undo {
        Undo { name: name.into(), before: self.statements.remove(name) }
    }

    /// Puts back what was before a request that the server did not carry out.
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo.before {
            Some(before) => self.statements.insert(undo.name, before),
            None => self.statements.remove(&undo.name),
        };
    }

    /// The statement under a newer policy, or for another identity.
    pub(super) fn renew(
        &mut self,
        name: &str,
        (facts, content): (&Arc<Facts>, &Option<Arc<Content>>),
        identity: u64,
    ) {
        if let Some(prepared) = self.statements.get_mut(name) {
            prepared.facts = Arc::clone(facts);
            // Which columns hold a tenant may be another question now.
            prepared.shape = Shape::default();
            prepared.content = content.clone();
            prepared.identity = identity;
        }
    }

    /// Notes a portal that is being made.
    pub(super) fn bind(&mut self, name: &str, portal: Portal) -> Result<(), TooMany> {
        if let Some(known) = self.portals.get_mut(name) {
            *known = portal;
            return Ok(());
        }
        if self.portals.len() >= MAX_NAMES {
            return Err(TooMany);
        }
        self.portals.insert(name.into(), portal);
        Ok(())
    }

    /// Notes that a portal is executed.
    pub(super) fn begun(&mut self, name: &str) {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.progress = Progress::Begun;
        }
    }

    pub(super) fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// A transaction is over: the portals made up to that request are gone.
    pub(super) fn transaction_ended(&mut self, request: u64) {
        self.portals.retain(|_, portal| portal.made > request);
    }

    /// DEALLOCATE of a name.
    pub(super) fn deallocate(&mut self, name: &str, request: u64) {
        if self.statements.get(name).is_some_and(|prepared| prepared.made <= request) {
            self.statements.remove(name);
        }
    }

    /// DEALLOCATE ALL, DISCARD ALL.
    pub(super) fn deallocate_all(&mut self, request: u64) {
        self.statements.retain(|_, prepared| prepared.made > request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Arc<Facts> {
        Arc::new(Facts::unknown())
    }

    #[test]
    fn an_undone_parse_brings_back_the_statement_before() {
        let (mut names, first) = (Names::default(), facts());
        names.prepare("s", (Arc::clone(&first), None), 0, 1).unwrap();
        let undo = names.prepare("s", (facts(), None), 0, 2).unwrap();
        names.undo(undo);
        assert!(Arc::ptr_eq(&names.statement("s").unwrap().facts, &first));
        let undo = names.prepare("t", (facts(), None), 0, 3).unwrap();
        names.undo(undo);
        assert!(names.statement("t").is_none());
    }

    #[test]
    fn what_a_later_request_made_stays() {
        let mut names = Names::default();
        names.prepare("old", (facts(), None), 0, 1).unwrap();
        names.prepare("new", (facts(), None), 0, 3).unwrap();
        names.bind("old", Portal::new(facts(), None, Watch::default(), 1)).unwrap();
        names.bind("new", Portal::new(facts(), None, Watch::default(), 3)).unwrap();
        names.deallocate_all(2);
        names.transaction_ended(2);
        assert!(names.statement("old").is_none() && names.portal("old").is_none());
        assert!(names.statement("new").is_some() && names.portal("new").is_some());
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::default();
        for number in 0..MAX_NAMES {
            names.prepare(&number.to_string(), (facts(), None), 0, 1).unwrap();
        }
        assert_eq!(names.prepare("more", (facts(), None), 0, 1).err(), Some(TooMany));
        assert!(names.prepare("1", (facts(), None), 0, 1).is_ok());
    }
}
