//! What is known of a statement that was decided, as long as it can be run: for the scrubber, the
//! egress guard, the record, and for deciding anew when policy or catalog changed. Layer 5.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crate::audit::{RelationRule, StatementFacts};
use crate::catalog::Catalog;
use crate::error::{Denial, DenialCode};
use crate::policy::{ColumnRule, Policy};
use crate::sql::postgres::written;
use crate::sql::{Decided, Guarded, Kind, Residue, TokenChange, TokenScope};

/// Facts of one statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    /// The whole text that the client sent.
    pub(super) client_text: Arc<str>,
    /// The parameter types that its Parse declared, as they came.
    pub(super) types: Arc<[u8]>,
    /// What was sent instead; `None` for a statement whose decision this session does not know.
    pub(super) guarded: Option<Guarded>,
    pub(super) kind: Kind,
    pub(super) residue: Residue,
    /// The change of identity that the statement is; it is never sent.
    pub(super) token: Option<Arc<TokenChange>>,
    /// The columns that its relations had, and their masks.
    pub(super) shape: u64,
    pub(super) protected: bool,
    pub(super) rewritten: bool,
    /// What it would have been denied for, were that not only monitored.
    pub(super) would_deny: Option<Denial>,
    pub(super) tenant_columns: Arc<[usize]>,
    /// What records say of it.
    pub(super) recorded: Arc<StatementFacts>,
}

impl Facts {
    pub(super) fn new(
        client_text: &Arc<str>,
        types: &Arc<[u8]>,
        decided: Decided,
        policy: &Policy,
        catalog: &Catalog,
    ) -> Self {
        let shape = shape(&decided, policy, catalog);
        let recorded = StatementFacts {
            kind: decided.kind.word(),
            fingerprint: decided.fingerprint.hash.into(),
            normalized: decided.fingerprint.normalized.into(),
            relations: decided
                .relations
                .into_iter()
                .map(|used| RelationRule {
                    relation: used.relation.to_string().into(),
                    rule: used.rule,
                })
                .collect(),
            policy_epoch: policy.epoch,
            catalog_epoch: catalog.epoch,
        };
        Self {
            shape,
            token: None,
            client_text: Arc::clone(client_text),
            types: Arc::clone(types),
            guarded: Some(decided.guarded),
            kind: decided.kind,
            residue: decided.residue,
            protected: decided.protected,
            rewritten: decided.rewritten,
            would_deny: decided.would_deny,
            tenant_columns: decided.tenant_columns.into(),
            recorded: Arc::new(recorded),
        }
    }

    /// The same for a text that differs in literals only, for which `guarded` is sent.
    pub(super) fn spelled(&self, client_text: Arc<str>, guarded: Option<Guarded>) -> Self {
        Self {
            types: Arc::clone(&self.types),
            client_text,
            guarded,
            kind: self.kind.clone(),
            residue: self.residue.clone(),
            token: None,
            shape: self.shape,
            protected: self.protected,
            rewritten: self.rewritten,
            would_deny: self.would_deny.clone(),
            tenant_columns: Arc::clone(&self.tenant_columns),
            recorded: Arc::clone(&self.recorded),
        }
    }

    /// The memory that it takes besides the text that the client sent, by estimate.
    pub(super) fn bytes(&self) -> usize {
        /// What an allocation costs beside what is in it.
        const ALLOCATION: usize = 32;
        let guarded = self.guarded.as_ref().map_or(0, |guarded| guarded.text().len());
        let relations: usize = self
            .recorded
            .relations
            .iter()
            .map(|used| size_of_val(used) + used.relation.len() + ALLOCATION)
            .sum();
        size_of::<Self>()
            + size_of::<StatementFacts>()
            + 7 * ALLOCATION
            + guarded
            + relations
            + size_of_val(&*self.tenant_columns)
            + self.recorded.fingerprint.len()
            + self.recorded.normalized.len()
    }

    /// For a portal that SQL made (DECLARE) or a name that SQL prepared: nothing is known, so the
    /// worst is assumed.
    pub(super) fn unknown() -> Self {
        Self {
            client_text: Arc::default(),
            types: Arc::default(),
            guarded: None,
            kind: Kind::Cursor,
            residue: Residue::Nothing,
            token: None,
            shape: 0,
            protected: true,
            rewritten: false,
            would_deny: None,
            tenant_columns: Arc::default(),
            recorded: Arc::new(recorded(Kind::Cursor.word(), "")),
        }
    }

    /// The empty statement.
    pub(super) fn empty() -> Self {
        Self {
            kind: Kind::Empty,
            protected: false,
            recorded: Arc::new(recorded(Kind::Empty.word(), "")),
            ..Self::unknown()
        }
    }

    /// A change of identity. The text, which holds a token, is not kept.
    pub(super) fn token(change: TokenChange) -> Self {
        let text = match (change.scope, &change.token) {
            (TokenScope::Session, Some(_)) => "SET hedgerow.token TO $1",
            (TokenScope::Transaction, Some(_)) => "SET LOCAL hedgerow.token TO $1",
            (TokenScope::Session, None) => "SET hedgerow.token TO DEFAULT",
            (TokenScope::Transaction, None) => "SET LOCAL hedgerow.token TO DEFAULT",
            (TokenScope::Reset, _) => "RESET hedgerow.token",
        };
        Self {
            kind: Kind::Setting,
            protected: false,
            token: Some(Arc::new(change)),
            recorded: Arc::new(recorded(Kind::Setting.word(), text)),
            ..Self::unknown()
        }
    }

    /// The parts of the name of the relation that it writes, if it is one.
    pub(super) fn written(&self) -> Option<Vec<String>> {
        written(&self.recorded.normalized)
    }

    /// A denial of what it writes, by the server's word.
    pub(super) fn write_denied(&self, code: DenialCode) -> Denial {
        let only = match &*self.recorded.relations {
            [only] => Some(only.relation.to_string()),
            _ => None,
        };
        let object = self.written().map(|parts| parts.join(".")).or(only);
        Denial { code, object }
    }

    /// Whether what the server says of it may come from a protected relation: also where the relation
    /// was named by an earlier statement (a commit runs deferred checks).
    pub(super) fn may_touch_protected(&self) -> bool {
        self.protected
            || matches!(
                self.kind,
                Kind::Cursor | Kind::Execute(_) | Kind::Begin(_) | Kind::End(_) | Kind::Transaction
            )
    }

    /// Whether rows of a protected relation may come of it.
    pub(super) fn may_return_tenants(&self) -> bool {
        self.protected || matches!(self.kind, Kind::Cursor | Kind::Execute(_))
    }

    /// Whether positions in the sent text are positions in the client's.
    pub(super) fn sent_as_written(&self) -> bool {
        self.guarded.as_ref().is_some_and(|guarded| guarded.text() == &*self.client_text)
    }

    /// Whether who prepared the one may go on with the other and notice nothing: the same kind of
    /// statement over relations of the same columns and masks. Guards change neither the parameters, which
    /// stand where they stood and are compared with what they were, nor the columns of a result.
    pub(super) fn answers_alike(&self, other: &Self) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (Kind::CopyIn(one), Kind::CopyIn(two)) => {
                one.columns == two.columns && one.format == two.format
            }
            (one, two) => one == two,
        };
        same_kind && self.shape == other.shape
    }

    /// Whether a new decision on the same text came out alike.
    pub(super) fn same_decision(&self, other: &Self) -> bool {
        self.guarded == other.guarded
            && self.kind == other.kind
            && self.protected == other.protected
            && self.tenant_columns == other.tenant_columns
            && self.shape == other.shape
    }
}

/// What records say of a statement that was not decided.
fn recorded(kind: &'static str, normalized: &str) -> StatementFacts {
    StatementFacts { kind, normalized: normalized.into(), ..StatementFacts::default() }
}

/// A hash of the columns of a statement's relations and of their masks: a result may look otherwise when
/// it changes.
fn shape(decided: &Decided, policy: &Policy, catalog: &Catalog) -> u64 {
    let mut hasher = DefaultHasher::new();
    for used in &decided.relations {
        let Some(relation) = catalog.relations.get(&used.relation) else { continue };
        for column in &relation.columns {
            (&column.name, &column.type_name).hash(&mut hasher);
        }
        match policy.table(&used.relation) {
            Some(rule) => {
                for (column, rule) in &rule.columns {
                    let mask = match rule {
                        ColumnRule::Deny => None,
                        ColumnRule::Mask { expression, unless } => Some((&expression.text, unless)),
                    };
                    (column, mask).hash(&mut hasher);
                }
            }
            // A partition: its table's masks are not looked for here.
            None => policy.epoch.hash(&mut hasher),
        }
    }
    hasher.finish()
}
