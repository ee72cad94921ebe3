//! Prepared statements and portals of one session, by name, with what is known of each. Layer 5.
//!
//! The server knows best what exists; this knows what was decided. Requests under way may still come to
//! nothing, so a name has what holds for sure and, in order, what each of them will make of it: an
//! answer to an earlier request never undoes what a later one made, nor brings back what it replaced.

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
    pub(super) statement: Option<Arc<str>>,
    /// Whether Hedgerow runs it itself, and the server does not know it.
    pub(super) place: RunsAt,
    /// Whether it was executed before.
    pub(super) progress: Progress,
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
    pub(super) fn new(facts: Arc<Facts>, parameters: Option<Arc<[u8]>>, watch: Watch) -> Self {
        let (place, progress) = (RunsAt::Server, Progress::New);
        Self { facts, parameters, watch, statement: None, place, progress }
    }
}

/// A request that will change a name, if the server carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Its number.
    pub(super) number: u64,
    /// The part of the pipeline that it belongs to.
    pub(super) segment: u64,
}

/// What a request will make of a name.
#[derive(Debug)]
struct Change<T> {
    by: Request,
    becomes: Option<T>,
}

/// What is known of one name.
#[derive(Debug)]
struct Entry<T> {
    /// What the server has, for all that was answered.
    settled: Option<T>,
    /// What requests under way will make of that, oldest first.
    pending: Vec<Change<T>>,
}

impl<T> Entry<T> {
    const fn now(&self) -> Option<&T> {
        match self.pending.as_slice() {
            [] => self.settled.as_ref(),
            [.., last] => last.becomes.as_ref(),
        }
    }

    fn now_mut(&mut self) -> Option<&mut T> {
        match self.pending.as_mut_slice() {
            [] => self.settled.as_mut(),
            [.., last] => last.becomes.as_mut(),
        }
    }

    const fn is_empty(&self) -> bool {
        self.settled.is_none() && self.pending.is_empty()
    }
}

#[derive(Debug)]
struct Table<T>(HashMap<Arc<str>, Entry<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Table<T> {
    fn now(&self, name: &str) -> Option<&T> {
        self.0.get(name)?.now()
    }

    fn now_mut(&mut self, name: &str) -> Option<&mut T> {
        self.0.get_mut(name)?.now_mut()
    }

    fn entry(&mut self, name: Arc<str>) -> Result<&mut Entry<T>, TooMany> {
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(&name) {
            return Err(TooMany);
        }
        Ok(self.0.entry(name).or_insert_with(|| Entry { settled: None, pending: Vec::new() }))
    }

    fn change(&mut self, name: Arc<str>, by: Request, becomes: Option<T>) -> Result<(), TooMany> {
        let entry = self.entry(name)?;
        // Nearly always there is one at a time, and an idle session holds next to no memory.
        entry.pending.reserve_exact(1);
        entry.pending.push(Change { by, becomes });
        Ok(())
    }

    /// The server carried a request out.
    fn settle(&mut self, name: &str, number: u64) {
        let Some(entry) = self.0.get_mut(name) else { return };
        let Some(place) = entry.pending.iter().position(|change| change.by.number == number) else {
            return;
        };
        if let Some(change) = entry.pending.drain(..=place).next_back() {
            entry.settled = change.becomes;
        }
        self.tidy(name);
    }

    /// The server did not carry a request out.
    fn undo(&mut self, name: &str, number: u64) {
        if let Some(entry) = self.0.get_mut(name) {
            entry.pending.retain(|change| change.by.number != number);
        }
        self.tidy(name);
    }

    fn tidy(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(entry) if entry.is_empty() => {
                self.0.remove(name);
            }
            Some(entry) if entry.pending.is_empty() => entry.pending = Vec::new(),
            Some(_) | None => {}
        }
    }

    /// What was settled is gone, for the names that `goes` picks.
    fn clear(&mut self, goes: impl Fn(&str) -> bool) {
        self.0.retain(|name, entry| {
            if goes(name) {
                entry.settled = None;
            }
            !entry.is_empty()
        });
    }
}

/// Of which kind a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Statement,
    Portal,
}

/// A change of a name that waits for its answer.
#[derive(Debug)]
pub(super) struct Undo {
    kind: Kind,
    /// The client's name.
    pub(super) name: Arc<str>,
    number: u64,
}

impl Undo {
    /// Whether it is about the unnamed statement.
    pub(super) fn is_of_the_unnamed_statement(&self) -> bool {
        self.kind == Kind::Statement && self.name.is_empty()
    }
}

pub(super) struct Names {
    statements: Table<Prepared>,
    portals: Table<Portal>,
    unnamed: Arc<str>,
}

impl Default for Names {
    fn default() -> Self {
        Self { statements: Table::default(), portals: Table::default(), unnamed: "".into() }
    }
}

impl Names {
    pub(super) fn statement(&self, name: &str) -> Option<&Prepared> {
        self.statements.now(name)
    }

    /// A statement's name, to keep.
    pub(super) fn kept(&self, name: &str) -> Arc<str> {
        if name.is_empty() {
            return Arc::clone(&self.unnamed);
        }
        self.statements
            .0
            .get_key_value(name)
            .map_or_else(|| name.into(), |(key, _)| Arc::clone(key))
    }

    /// Whether a name stands for a statement that was prepared by protocol.
    pub(super) fn by_protocol(&self, name: &str) -> bool {
        self.statement(name).is_some_and(|prepared| prepared.content.is_some())
    }

    /// Whether what a statement's name stands for is up to another part of the pipeline than this one,
    /// which may still fail.
    pub(super) fn is_doubtful(&self, name: &str, segment: u64) -> bool {
        let last = self.statements.0.get(name).and_then(|entry| entry.pending.last());
        last.is_some_and(|change| change.by.segment != segment)
    }

    /// Whether there is an unnamed statement, or may be one once the pipeline is answered.
    pub(super) fn may_have_unnamed(&self) -> bool {
        self.statements.0.contains_key("")
    }

    /// Where the columns of a statement come from; for one that is not known, nobody knows yet.
    pub(super) fn shape(&self, name: &str) -> Shape {
        self.statement(name).map(|prepared| prepared.shape.clone()).unwrap_or_default()
    }

    pub(super) fn portal(&self, name: &str) -> Option<&Portal> {
        self.portals.now(name)
    }

    /// Notes a statement that is being prepared.
    pub(super) fn prepare(
        &mut self,
        name: &str,
        (facts, content): (Arc<Facts>, Option<Arc<Content>>),
        identity: u64,
        by: Request,
    ) -> Result<Undo, TooMany> {
        let prepared = Prepared { facts, shape: Shape::default(), content, identity };
        let name = self.kept(name);
        self.statements.change(Arc::clone(&name), by, Some(prepared))?;
        Ok(Undo { kind: Kind::Statement, name, number: by.number })
    }

    /// Notes a statement that SQL prepared.
    pub(super) fn prepared_by_sql(
        &mut self,
        name: &str,
        facts: Arc<Facts>,
        identity: u64,
    ) -> Result<(), TooMany> {
        let shape = Shape::default();
        let prepared = Prepared { facts, shape, content: None, identity };
        let name = self.kept(name);
        self.statements.entry(name)?.settled = Some(prepared);
        Ok(())
    }

    /// A request was carried out.
    pub(super) fn settle(&mut self, undo: &Undo) {
        match undo.kind {
            Kind::Statement => self.statements.settle(&undo.name, undo.number),
            Kind::Portal => self.portals.settle(&undo.name, undo.number),
        }
    }

    /// A request was not carried out: what it would have changed is as if it had not been.
    pub(super) fn undo(&mut self, undo: &Undo) {
        match undo.kind {
            Kind::Statement => self.statements.undo(&undo.name, undo.number),
            Kind::Portal => self.portals.undo(&undo.name, undo.number),
        }
    }

    /// Notes that a statement is being closed. Closing what is not there is no error, and no change.
    pub(super) fn close_statement(&mut self, name: &str, by: Request) -> Undo {
        let name = self.kept(name);
        if self.statements.0.contains_key(&name) {
            let _there_is_room = self.statements.change(Arc::clone(&name), by, None);
        }
        Undo { kind: Kind::Statement, name, number: by.number }
    }

    /// The statement under a newer policy, or for another identity.
    pub(super) fn renew(
        &mut self,
        name: &str,
        (facts, content): (&Arc<Facts>, &Option<Arc<Content>>),
        identity: u64,
    ) {
        if let Some(prepared) = self.statements.now_mut(name) {
            prepared.facts = Arc::clone(facts);
            // Which columns hold a tenant may be another question now.
            prepared.shape = Shape::default();
            prepared.content = content.clone();
            prepared.identity = identity;
        }
    }

    /// Notes a portal that is being made.
    pub(super) fn bind(
        &mut self,
        name: &str,
        portal: Portal,
        by: Request,
    ) -> Result<Undo, TooMany> {
        let name = if name.is_empty() { Arc::clone(&self.unnamed) } else { name.into() };
        self.portals.change(Arc::clone(&name), by, Some(portal))?;
        Ok(Undo { kind: Kind::Portal, name, number: by.number })
    }

    /// Notes that a portal is executed.
    pub(super) fn begun(&mut self, name: &str) {
        if let Some(portal) = self.portals.now_mut(name) {
            portal.progress = Progress::Begun;
        }
    }

    /// Notes that a portal is being closed.
    pub(super) fn close_portal(&mut self, name: &str, by: Request) -> Undo {
        let name: Arc<str> = if name.is_empty() { Arc::clone(&self.unnamed) } else { name.into() };
        if self.portals.0.contains_key(&name) {
            let _there_is_room = self.portals.change(Arc::clone(&name), by, None);
        }
        Undo { kind: Kind::Portal, name, number: by.number }
    }

    /// A transaction is over: its portals are gone.
    pub(super) fn transaction_ended(&mut self) {
        self.portals.clear(|_any| true);
    }

    /// A Query, or a Parse of it that failed: the unnamed statement is gone.
    pub(super) fn unnamed_gone(&mut self) {
        self.deallocate("");
    }

    /// DEALLOCATE of a name.
    pub(super) fn deallocate(&mut self, name: &str) {
        if let Some(entry) = self.statements.0.get_mut(name) {
            entry.settled = None;
        }
        self.statements.tidy(name);
    }

    /// DEALLOCATE ALL, DISCARD ALL: those that have a name.
    pub(super) fn deallocate_all(&mut self) {
        self.statements.clear(|name| !name.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Arc<Facts> {
        Arc::new(Facts::unknown())
    }

    fn by(number: u64) -> Request {
        Request { number, segment: number / 10 }
    }

    fn parse(names: &mut Names, name: &str, number: u64) -> (Arc<Facts>, Undo) {
        let facts = facts();
        let undo = names.prepare(name, (Arc::clone(&facts), None), 0, by(number)).unwrap();
        (facts, undo)
    }

    fn is(names: &Names, name: &str, facts: &Arc<Facts>) -> bool {
        names.statement(name).is_some_and(|known| Arc::ptr_eq(&known.facts, facts))
    }

    #[test]
    fn an_undone_parse_brings_back_the_statement_before() {
        let mut names = Names::default();
        let (first, undo) = parse(&mut names, "s", 1);
        names.settle(&undo);
        let (_, undo) = parse(&mut names, "s", 2);
        names.undo(&undo);
        assert!(is(&names, "s", &first));
        let (_, undo) = parse(&mut names, "t", 3);
        names.undo(&undo);
        assert!(names.statement("t").is_none());
    }

    #[test]
    fn what_fails_earlier_in_the_pipeline_undoes_nothing_that_came_later() {
        let mut names = Names::default();
        let (_, bad) = parse(&mut names, "", 1);
        let (good, undo) = parse(&mut names, "", 11);
        names.undo(&bad);
        names.unnamed_gone();
        assert!(is(&names, "", &good));
        names.settle(&undo);
        assert!(is(&names, "", &good));
        // A Close that is skipped does not bring back what a later Close took away.
        let (skipped, closed) =
            (names.close_statement("", by(21)), names.close_statement("", by(31)));
        names.undo(&skipped);
        assert!(names.statement("").is_none());
        names.settle(&closed);
        assert!(names.statement("").is_none() && names.statements.0.is_empty());
    }

    #[test]
    fn a_portal_that_was_never_made_does_not_hide_the_one_before() {
        let mut names = Names::default();
        let (first, second) = (facts(), facts());
        let portal = |facts: &Arc<Facts>| Portal::new(Arc::clone(facts), None, Watch::default());
        let made = names.bind("p", portal(&first), by(1)).unwrap();
        names.settle(&made);
        let skipped = names.bind("p", portal(&second), by(2)).unwrap();
        assert!(Arc::ptr_eq(&names.portal("p").unwrap().facts, &second));
        names.undo(&skipped);
        assert!(Arc::ptr_eq(&names.portal("p").unwrap().facts, &first));
    }

    #[test]
    fn what_a_later_request_makes_stays() {
        let mut names = Names::default();
        let (_, old) = parse(&mut names, "old", 1);
        names.settle(&old);
        parse(&mut names, "new", 3);
        let (unnamed, undo) = parse(&mut names, "", 4);
        names.settle(&undo);
        let portal = || Portal::new(facts(), None, Watch::default());
        let old = names.bind("old", portal(), by(1)).unwrap();
        names.settle(&old);
        let _pending = names.bind("new", portal(), by(3)).unwrap();
        names.deallocate_all();
        names.transaction_ended();
        assert!(names.statement("old").is_none() && names.portal("old").is_none());
        assert!(names.statement("new").is_some() && names.portal("new").is_some());
        assert!(is(&names, "", &unnamed), "as in PostgreSQL");
    }

    #[test]
    fn another_part_of_the_pipeline_makes_a_name_doubtful() {
        let mut names = Names::default();
        let (_, undo) = parse(&mut names, "s", 11);
        assert!(!names.is_doubtful("s", 1) && names.is_doubtful("s", 2));
        names.settle(&undo);
        assert!(!names.is_doubtful("s", 2));
        let closed = names.close_statement("s", by(21));
        assert!(names.is_doubtful("s", 3) && names.statement("s").is_none());
        names.settle(&closed);
        assert!(!names.is_doubtful("s", 3));
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::default();
        for number in 0..MAX_NAMES {
            parse(&mut names, &number.to_string(), 1);
        }
        let more = names.prepare("more", (facts(), None), 0, by(1));
        assert_eq!(more.err(), Some(TooMany));
        assert!(names.prepare("1", (facts(), None), 0, by(1)).is_ok());
    }
}
