//! Verdicts that were reached before, bounded by bytes. Layer 3, pure.
//!
//! SECURITY: an entry is found again only by the very question it answers. [`Key`] is made in one
//! place, from the whole [`Question`]; what is put in is what the caller made of that same question.
//! Refusals are not kept: each is decided anew, and recorded.
//!
//! Applications that write literals into their statements never send a text twice. Their texts share
//! a *shape* ([`split`]); when a shape comes for the second time, it is found out whether one verdict
//! holds for all its texts ([`super::form`]), and then they cost no decision any more.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::Equivalent;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::Context;
use crate::catalog::Catalog;
use crate::claims::{Claims, Principal, TenantClaim};
use crate::ids::{CatalogEpoch, PolicyEpoch};
use crate::mutant;
use crate::policy::Policy;
use crate::sql::Limits;
use crate::sql::postgres::totality::Parameter;
use crate::sql::postgres::{Form, Guarded, Split, split};

/// Claims that differ from token to token of one caller. No decision sees them, so that all tokens
/// of one caller share their verdicts; whether a token still holds is not a question of SQL.
const OF_ONE_TOKEN: [&str; 4] = ["exp", "iat", "jti", "nbf"];
/// Longest text whose verdict is kept, in bytes: longer ones are loads of data, and never come again.
const MAX_KEPT_TEXT: usize = 64 << 10;
/// Most entries of one session, and the longest text of one, in bytes.
const RECENT: (usize, usize) = (8, 2 << 10);
/// What an entry takes beside its text and value: key, nodes of the table, counters.
const ENTRY_BYTES: usize = 512;

/// From where a text is judged: all that a decision depends on and that stays while a session keeps
/// its identity. A new identity is a new viewpoint.
#[derive(Clone, Debug)]
pub struct Viewpoint {
    standing: Arc<Standing>,
    principal: Arc<Principal>,
    limits: Limits,
}

/// The part of a viewpoint that is compared.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// Of the other fields, so that it is found once for all questions.
    hash: u64,
    database: Box<str>,
    tenant: Option<TenantClaim>,
    /// Of all claims that a decision sees, in the issuer's order and spelling. (RFC 8785 would not
    /// do: it reads numbers as floats, and takes neighbours above 2^53 for one.)
    claims: [u8; 32],
    /// Break-glass has a limit.
    lifetime_seconds: u64,
    max_statement: usize,
}

impl Hash for Standing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Standing {
    fn hashed(mut self) -> Arc<Self> {
        let Self { hash: _, database, tenant, claims, lifetime_seconds, max_statement } = &self;
        let mut hasher = DefaultHasher::new();
        (database, tenant, claims, lifetime_seconds, max_statement).hash(&mut hasher);
        self.hash = hasher.finish();
        Arc::new(self)
    }
}

impl Viewpoint {
    /// The viewpoint of a caller on one database. The claims of one token only (`exp`, `iat`,
    /// `jti`, `nbf`) are left out: for policies they are claims that the token does not have.
    pub fn new(principal: &Principal, database: &str, limits: Limits) -> Self {
        let Principal { tenant, claims, lifetime_seconds } = principal;
        let lifetime_seconds = *lifetime_seconds;
        let mut claims = claims.clone();
        claims.0.retain(|name, _| !OF_ONE_TOKEN.contains(&name.as_str()));
        let standing = Standing {
            hash: 0,
            database: database.into(),
            tenant: tenant.clone().filter(|_| !mutant::on("verdict-tenant")),
            claims: if mutant::on("verdict-claims") { [0; 32] } else { digest(&claims) },
            lifetime_seconds,
            max_statement: limits.max_statement,
        };
        let principal = Arc::new(Principal { tenant: tenant.clone(), claims, lifetime_seconds });
        Self { standing: standing.hashed(), principal, limits }
    }

    /// Another bound on the length of statements.
    pub fn set_max_statement(&mut self, max_statement: usize) {
        if self.limits.max_statement == max_statement {
            return;
        }
        self.limits.max_statement = max_statement;
        let Standing { hash: _, database, tenant, claims, lifetime_seconds, max_statement: _ } =
            &*self.standing;
        let standing = Standing {
            hash: 0,
            database: database.clone(),
            tenant: tenant.clone(),
            claims: *claims,
            lifetime_seconds: *lifetime_seconds,
            max_statement,
        };
        self.standing = standing.hashed();
    }

    /// The claims that decisions see.
    pub fn claims(&self) -> &Claims {
        &self.principal.claims
    }

    /// The tenant; `None` for a caller without one.
    pub fn tenant(&self) -> Option<&TenantClaim> {
        self.principal.tenant.as_ref()
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.standing.database
    }

    /// On whose behalf.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Bounds on what is looked at.
    pub const fn limits(&self) -> Limits {
        self.limits
    }
}

fn digest(claims: &Claims) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (name, value) in &claims.0 {
        // A value's JSON ends by itself; the name is JSON too, so that no two lists of claims run
        // into the same bytes.
        hasher.update(serde_json::Value::String(name.clone()).to_string());
        hasher.update(":");
        hasher.update(value.to_string());
        hasher.update(",");
    }
    hasher.finalize().into()
}

/// A text, and everything that its verdict depends on.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The whole text.
    pub text: &'a str,
    /// Count and OIDs of the parameter types that a Parse declares, as they came; empty for none.
    pub types: &'a [u8],
    /// The policy snapshot.
    pub policy: &'a Policy,
    /// The catalog snapshot.
    pub catalog: &'a Catalog,
    /// Who asks, and where.
    pub viewpoint: &'a Viewpoint,
}

impl<'a> Question<'a> {
    /// What the decision gets to see.
    pub fn context(&self) -> Context<'a> {
        Context {
            policy: self.policy,
            catalog: self.catalog,
            principal: &self.viewpoint.principal,
            limits: self.viewpoint.limits,
        }
    }

    /// The types of the parameters.
    pub fn declared(&self) -> Vec<Parameter> {
        let oids = self.types.get(2..).unwrap_or_default().as_chunks::<4>().0;
        oids.iter().map(|oid| Parameter::of_oid(u32::from_be_bytes(*oid))).collect()
    }
}

/// A question's key, borrowed to look up and owned to keep.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key<S, T, B> {
    standing: S,
    policy: PolicyEpoch,
    catalog: CatalogEpoch,
    /// Whether the text is a shape.
    shape: bool,
    text: T,
    types: B,
}

type Borrowed<'a> = Key<&'a Arc<Standing>, &'a str, &'a [u8]>;
type Owned = Key<Arc<Standing>, Arc<str>, Arc<[u8]>>;

impl<'a> Borrowed<'a> {
    /// The one way to a key. What a verdict depends on and is not in here would leak from one caller
    /// to another.
    fn of(question: Question<'a>) -> Self {
        let Question { text, types, policy, catalog, viewpoint } = question;
        let standing = &viewpoint.standing;
        Self { standing, policy: policy.epoch, catalog: catalog.epoch, shape: false, text, types }
    }

    /// The key of all texts of one shape, asked from one standing.
    fn of_shape(self, split: &'a Split<'_>) -> Self {
        Self { shape: true, text: split.shape(), ..self }
    }

    fn kept(&self) -> Owned {
        Key {
            standing: Arc::clone(self.standing),
            policy: self.policy,
            catalog: self.catalog,
            shape: self.shape,
            text: self.text.into(),
            types: self.types.into(),
        }
    }
}

impl Equivalent<Owned> for Borrowed<'_> {
    fn equivalent(&self, kept: &Owned) -> bool {
        // The text is compared in full: a hash alone decides nothing.
        (self.policy == kept.policy || mutant::on("verdict-policy"))
            && self.catalog == kept.catalog
            && self.shape == kept.shape
            && *self.standing == kept.standing
            && self.text == &*kept.text
            && self.types == &*kept.types
    }
}

/// What is known.
#[derive(Clone)]
enum Entry<V> {
    /// The verdict on a text.
    Verdict(V),
    /// A shape that came once.
    Seen,
    /// A shape whose texts are decided one by one.
    Unfit,
    /// The verdict on every text of a shape, and what is sent for them.
    Form(V, Arc<Form>),
}

/// An entry and the memory that it takes.
#[derive(Clone)]
struct Kept<V> {
    entry: Entry<V>,
    bytes: u32,
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was known.
    Known,
    /// It was made now.
    Made,
}

/// A verdict that was made.
pub struct Made<V> {
    /// The verdict.
    pub verdict: V,
    /// The memory that it takes.
    pub bytes: usize,
    /// What is sent for all texts of its shape, where that was asked and may be.
    pub form: Option<Form>,
}

/// Verdicts of the whole process. `V` is what a front makes of them: cheap to clone.
pub struct Verdicts<V> {
    cache: Cache<Owned, Kept<V>>,
    bytes: Arc<AtomicU64>,
}

impl<V: Clone + Send + Sync + 'static> Verdicts<V> {
    /// What is kept takes about `capacity` bytes at most.
    pub fn new(capacity: u64) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_key: &Owned, kept: &Kept<V>| kept.bytes)
            .eviction_listener(move |_key, kept: Kept<V>, _cause| {
                counter.fetch_sub(u64::from(kept.bytes), Ordering::Relaxed);
            })
            .build();
        Self { cache, bytes }
    }

    /// The verdict on a question: the one that is known, or the one that `make` comes to. `make` is
    /// given the text's literals when it shall look for a form too. `spell` makes of the verdict on
    /// one text of a shape that on another, for which the given text is sent. A refusal is not kept.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn answer<E>(
        &self,
        question: Question<'_>,
        make: impl FnOnce(Question<'_>, Option<&Split<'_>>) -> Result<Made<V>, E>,
        spell: impl FnOnce(&V, &str, Guarded) -> V,
    ) -> (Source, Result<V, E>) {
        self.answer_session(question, &mut Recent::default(), make, spell)
    }

    /// [`Verdicts::answer`] for a session that asks again what it asked a moment ago.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn answer_session<E>(
        &self,
        question: Question<'_>,
        recent: &mut Recent<V>,
        make: impl FnOnce(Question<'_>, Option<&Split<'_>>) -> Result<Made<V>, E>,
        spell: impl FnOnce(&V, &str, Guarded) -> V,
    ) -> (Source, Result<V, E>) {
        let Question { text, .. } = question;
        let key = Key::of(question);
        if let Some(Entry::Verdict(verdict)) = recent.get(&key) {
            return (Source::Known, Ok(verdict.clone()));
        }
        // A form is proved for open parameters only.
        let split_now = || if question.types.is_empty() { split(text) } else { None };
        let early = recent.has_forms().then(split_now);
        if let Some(Some(split)) = &early
            && let Some(Entry::Form(verdict, form)) = recent.get(&key.clone().of_shape(split))
            && let Some(guarded) = form.fill(split.literals())
        {
            return (Source::Known, Ok(spell(verdict, text, guarded)));
        }
        if let Some(Kept { entry: Entry::Verdict(verdict), .. }) = self.cache.get(&key) {
            recent.note(&key, Entry::Verdict(verdict.clone()));
            return (Source::Known, Ok(verdict));
        }
        let split = early.unwrap_or_else(split_now);
        let shape = split.as_ref().map(|split| (split, key.clone().of_shape(split)));
        let entry = shape.as_ref().and_then(|(_, key)| self.cache.get(key)).map(|kept| kept.entry);
        let wanted = match (&entry, &shape) {
            (Some(Entry::Form(verdict, form)), Some((split, key))) => {
                if let Some(guarded) = form.fill(split.literals()) {
                    recent.note(key, Entry::Form(verdict.clone(), Arc::clone(form)));
                    return (Source::Known, Ok(spell(verdict, text, guarded)));
                }
                None
            }
            (Some(Entry::Seen), Some((split, _))) => Some(*split),
            (Some(_) | None, _) => None,
        };
        let made = make(question, wanted).map(|Made { verdict, bytes, form }| {
            match (entry, shape) {
                (None, Some((_, shape))) => self.keep(&shape, Entry::Seen, 0),
                (Some(Entry::Seen), Some((_, shape))) => match form {
                    Some(form) => {
                        let bytes = bytes.saturating_add(form.bytes());
                        self.keep(&shape, Entry::Form(verdict.clone(), Arc::new(form)), bytes);
                    }
                    None => self.keep(&shape, Entry::Unfit, 0),
                },
                (_, _) => {}
            }
            self.keep(&key, Entry::Verdict(verdict.clone()), bytes);
            verdict
        });
        (Source::Made, made)
    }

    fn keep(&self, key: &Borrowed<'_>, entry: Entry<V>, bytes: usize) {
        if key.text.len() > MAX_KEPT_TEXT {
            return;
        }
        let bytes = bytes.saturating_add(key.text.len()).saturating_add(ENTRY_BYTES);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes.fetch_add(bytes.into(), Ordering::Relaxed);
        self.cache.insert(key.kept(), Kept { entry, bytes });
    }

    /// Memory that the kept verdicts take, by estimate.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What one session asked last, in front of what all share: that costs more to find, and is fought for
/// by all threads. Found by the same key.
pub struct Recent<V> {
    /// Room is taken with the first.
    entries: Vec<(Owned, Entry<V>)>,
    /// The one that gives way next.
    next: usize,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: 0 }
    }
}

impl<V> Recent<V> {
    fn get(&self, key: &Borrowed<'_>) -> Option<&Entry<V>> {
        self.entries.iter().find(|(kept, _)| key.equivalent(kept)).map(|(_, entry)| entry)
    }

    fn has_forms(&self) -> bool {
        self.entries.iter().any(|(_, entry)| matches!(entry, Entry::Form(..)))
    }

    fn note(&mut self, key: &Borrowed<'_>, entry: Entry<V>) {
        let (most, longest) = RECENT;
        if key.text.len() > longest {
            return;
        }
        let noted = (key.kept(), entry);
        if self.entries.len() < most {
            self.entries.push(noted);
        } else if let Some(slot) = self.entries.get_mut(self.next) {
            *slot = noted;
            self.next = (self.next + 1) % most;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TEXT: &str = "SELECT 1";

    fn viewpoint(tenant: Option<TenantClaim>, claims: Value, database: &str) -> Viewpoint {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let principal = Principal::assumed(tenant, Claims(claims));
        Viewpoint::new(&principal, database, Limits::default())
    }

    fn of(tenant: &str, claims: Value) -> Viewpoint {
        viewpoint(Some(TenantClaim::Text(tenant.to_owned())), claims, "d")
    }

    fn snapshots(policy: u64, catalog: u64) -> (Policy, Catalog) {
        (
            Policy { epoch: PolicyEpoch(policy), ..Policy::default() },
            Catalog { epoch: CatalogEpoch(catalog), ..Catalog::default() },
        )
    }

    /// Asks; a verdict that must be made is `name`.
    fn ask(
        verdicts: &Verdicts<&'static str>,
        viewpoint: &Viewpoint,
        (policy, catalog): &(Policy, Catalog),
        text: &str,
        name: &'static str,
    ) -> (Source, &'static str) {
        let question = Question { text, types: &[], policy, catalog, viewpoint };
        let made = Made { verdict: name, bytes: 0, form: None };
        let (source, verdict) =
            verdicts.answer(question, |_, _| Ok::<_, ()>(made), |_, _, _| unreachable!());
        (source, verdict.unwrap())
    }

    #[test]
    fn whatever_a_verdict_depends_on_keeps_entries_apart() {
        let verdicts = Verdicts::new(1 << 20);
        let claims = || json!({"role": "reader", "n": 9_007_199_254_740_992_i64});
        let snapshot = snapshots(1, 1);
        let short = Limits { max_statement: 10 };
        let same = Principal::assumed(
            Some(TenantClaim::Text("1".to_owned())),
            of("1", claims()).principal.claims.clone(),
        );
        let integer = Some(TenantClaim::Integer(1));
        let text = |tenant: &str| Some(TenantClaim::Text(tenant.to_owned()));
        let questions = [
            ("first", of("1", claims()), &snapshot, TEXT),
            ("other tenant", of("2", claims()), &snapshot, TEXT),
            ("longer tenant", of("1 ", claims()), &snapshot, TEXT),
            ("tenant of another type", viewpoint(integer, claims(), "d"), &snapshot, TEXT),
            ("no tenant", viewpoint(None, claims(), "d"), &snapshot, TEXT),
            ("other database", viewpoint(text("1"), claims(), "e"), &snapshot, TEXT),
            ("no claims", of("1", json!({})), &snapshot, TEXT),
            ("other claim", of("1", json!({"role": "admin"})), &snapshot, TEXT),
            ("a list", of("1", json!({"role": ["admin"]})), &snapshot, TEXT),
            ("other name", of("1", json!({"rol": "eadmin"})), &snapshot, TEXT),
            ("a JSON text", of("1", json!({"role": "\"admin\""})), &snapshot, TEXT),
            ("text for number", of("1", json!({"role": "1"})), &snapshot, TEXT),
            ("number for text", of("1", json!({"role": 1})), &snapshot, TEXT),
            ("float", of("1", json!({"role": 1.0})), &snapshot, TEXT),
            ("nested", of("1", json!({"a": {"exp": 1}})), &snapshot, TEXT),
            ("nested otherwise", of("1", json!({"a": {"exp": 2}})), &snapshot, TEXT),
            (
                "a number that as a float is the same",
                of("1", json!({"role": "reader", "n": 9_007_199_254_740_993_i64})),
                &snapshot,
                TEXT,
            ),
            ("other limits", Viewpoint::new(&same, "d", short), &snapshot, TEXT),
            ("newer policy", of("1", claims()), &snapshots(2, 1), TEXT),
            ("newer catalog", of("1", claims()), &snapshots(1, 2), TEXT),
            ("longer text", of("1", claims()), &snapshot, "SELECT 1 "),
            ("shorter text", of("1", claims()), &snapshot, "SELECT "),
            ("other letter", of("1", claims()), &snapshot, "SELECT 2"),
            ("other case", of("1", claims()), &snapshot, "SELECt 1"),
            ("empty text", of("1", claims()), &snapshot, ""),
        ];
        for (name, viewpoint, snapshot, text) in &questions {
            assert_eq!(ask(&verdicts, viewpoint, snapshot, text, name), (Source::Made, *name));
        }
        for (name, viewpoint, snapshot, text) in &questions {
            let again = ask(&verdicts, viewpoint, snapshot, text, "foreign");
            assert_eq!(again, (Source::Known, *name));
        }
        // What a session keeps for itself is told apart by the same.
        let mut recent = Recent::default();
        for _ in 0..3 {
            for (name, viewpoint, (policy, catalog), text) in &questions {
                let question = Question { text, types: &[], policy, catalog, viewpoint };
                let (source, verdict) = verdicts.answer_session(
                    question,
                    &mut recent,
                    |_, _| Err("it is known"),
                    |_, _, _| "",
                );
                assert_eq!((source, verdict), (Source::Known, Ok(*name)));
                assert!(
                    matches!(recent.get(&Key::of(question)), Some(Entry::Verdict(v)) if v == name)
                );
                assert!(recent.entries.len() <= RECENT.0);
            }
        }
    }

    #[test]
    fn the_declared_types_of_parameters_keep_entries_apart() {
        let verdicts = Verdicts::<&'static str>::new(1 << 20);
        let (policy, catalog) = snapshots(1, 1);
        let viewpoint = of("1", json!({}));
        let oid = [0, 1, 0, 0, 0, 26];
        for (types, made) in [(&oid[..], "oid"), (&[0, 0], "open"), (&[], "none"), (&oid, "oid")] {
            let question = Question {
                text: TEXT,
                types,
                policy: &policy,
                catalog: &catalog,
                viewpoint: &viewpoint,
            };
            let answer = Made { verdict: made, bytes: 0, form: None };
            let (_, verdict) = verdicts.answer(question, |_, _| Ok::<_, ()>(answer), |_, _, _| "");
            assert_eq!(verdict, Ok(made));
            let declared = if types == oid { vec![Parameter::Typed("oid")] } else { Vec::new() };
            assert_eq!(question.declared(), declared);
        }
    }

    #[test]
    fn claims_do_not_run_into_each_other() {
        let verdicts = Verdicts::new(1 << 20);
        let snapshot = snapshots(1, 1);
        let lists = [
            json!({"a": "b", "c": "d"}),
            json!({"a": "b\",\"c\":\"d"}),
            json!({"a\":\"b\",\"c": "d"}),
            json!({"a": ["b", "c"]}),
            json!({"a": ["b"], "c": []}),
            json!({"a": null}),
            json!({"a": "null"}),
        ];
        for claims in &lists {
            let (source, _) = ask(&verdicts, &of("1", claims.clone()), &snapshot, TEXT, "made");
            assert_eq!(source, Source::Made, "{claims}");
        }
    }

    #[test]
    fn tokens_of_one_caller_share_verdicts_and_no_decision_sees_what_tells_them_apart() {
        let verdicts = Verdicts::new(1 << 20);
        let snapshot = snapshots(1, 1);
        let token = |n: i64| json!({"sub": "u", "exp": n, "iat": n, "nbf": n, "jti": n.to_string(), "role": "r"});
        let (first, second) = (of("1", token(1)), of("1", token(2)));
        assert_eq!(ask(&verdicts, &first, &snapshot, TEXT, "x").0, Source::Made);
        assert_eq!(ask(&verdicts, &second, &snapshot, TEXT, "y"), (Source::Known, "x"));
        let seen: Vec<_> = first.principal.claims.0.keys().map(String::as_str).collect();
        assert_eq!(seen, ["sub", "role"]);
    }

    #[test]
    fn a_refusal_is_decided_anew() {
        let verdicts = Verdicts::<()>::new(1 << 20);
        let (policy, catalog) = snapshots(1, 1);
        let viewpoint = of("1", json!({}));
        let question = Question {
            text: TEXT,
            types: &[],
            policy: &policy,
            catalog: &catalog,
            viewpoint: &viewpoint,
        };
        for _ in 0..2 {
            let (source, refused) = verdicts.answer(question, |_, _| Err("no"), |_, _, _| ());
            assert_eq!((source, refused), (Source::Made, Err("no")));
        }
        assert_eq!(verdicts.bytes(), 0);
    }

    #[test]
    fn texts_that_differ_in_literals_are_decided_twice_and_then_no_more() {
        let verdicts = Verdicts::<(String, String)>::new(1 << 20);
        let snapshot = snapshots(1, 1);
        let mut recent = Recent::default();
        let mut ask = |viewpoint: &Viewpoint, text: &str| {
            let (policy, catalog) = (&snapshot.0, &snapshot.1);
            let question = Question { text, types: &[], policy, catalog, viewpoint };
            let make = |question: Question<'_>, split: Option<&Split<'_>>| {
                let decided = super::super::decide(text, question.context()).unwrap();
                let form = split.and_then(|split| {
                    super::super::form(split, text, &decided, question.context())
                });
                let verdict = (text.to_owned(), decided[0].guarded.text().to_owned());
                Ok::<_, ()>(Made { verdict, bytes: 100, form })
            };
            let spell =
                |_: &_, text: &str, guarded: Guarded| (text.to_owned(), guarded.text().to_owned());
            let (source, verdict) = verdicts.answer_session(question, &mut recent, make, spell);
            let (asked, sent) = verdict.unwrap();
            assert_eq!((asked.as_str(), sent.as_str()), (text, text), "the text itself is sent");
            source
        };
        let (a, b) = (of("1", json!({})), of("2", json!({})));
        let text = |n: i32| format!("SELECT 1 WHERE 1 = {n} AND 'x' <> '{n}'");
        assert_eq!(ask(&a, &text(1)), Source::Made);
        assert_eq!(ask(&a, &text(2)), Source::Made);
        assert_eq!(ask(&a, &text(3)), Source::Known);
        assert_eq!(ask(&a, &text(4)), Source::Known);
        assert_eq!(ask(&a, "SELECT 1 WHERE 1 = 5 AND 'y' <> '5'"), Source::Known);
        assert_eq!(ask(&a, "SELECT 2 WHERE 1 = 5 AND 'x' <> '5'"), Source::Made, "it stays");
        assert_eq!(ask(&a, "SELECT 1 WHERE 1 = 5.5 AND 'x' <> '5'"), Source::Made, "its kind");
        assert_eq!(ask(&b, &text(3)), Source::Made, "another tenant's");
        let unfit = |n: i32| format!("SELECT 1 WHERE true AND {n}");
        for n in 1..5 {
            assert_eq!(ask(&a, &unfit(n)), Source::Made, "it is no operator's value");
        }
        let before = verdicts.bytes();
        assert_eq!(ask(&a, &text(1000)), Source::Known);
        assert_eq!(verdicts.bytes(), before, "what is spelled is not kept");
    }

    #[test]
    fn memory_is_bounded_and_counted() {
        let verdicts = Verdicts::<()>::new(64 << 10);
        let (policy, catalog) = snapshots(1, 1);
        let viewpoint = of("1", json!({}));
        let asked = |text: &str| {
            let question = Question {
                text,
                types: &[],
                policy: &policy,
                catalog: &catalog,
                viewpoint: &viewpoint,
            };
            let made = Made { verdict: (), bytes: 1000, form: None };
            let _made = verdicts.answer(question, |_, _| Ok::<_, ()>(made), |_, _, _| ());
        };
        for n in 0..5_000 {
            asked(&n.to_string());
            asked(&format!("SELECT a{n} FROM t WHERE b = {n}"));
        }
        verdicts.cache.run_pending_tasks();
        assert!(verdicts.bytes() > 0 && verdicts.bytes() <= 64 << 10, "{}", verdicts.bytes());
        assert_eq!(verdicts.bytes(), verdicts.cache.weighted_size());
        let before = verdicts.bytes();
        asked(&"x".repeat(MAX_KEPT_TEXT + 1));
        assert_eq!(verdicts.bytes(), before, "loads of data are not kept");
    }
}
