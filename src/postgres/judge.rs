//! Asks for decisions: policy and catalog snapshots, stack, panics. Layer 5.
//!
//! The decision itself is [`crate::decide`]; here it gets a stack that deep statements cannot
//! overflow, and a panic in it becomes a denial. What was decided before under the same key is not
//! decided again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::facts::Facts;
use super::limits::Met;
use super::meters::Meters;
use crate::audit::RelationRule;
use crate::catalog::Catalog;
use crate::catalog_load::{Catalogs, Followed};
use crate::decide::{
    Made, Question, Recent, Refusal, Source, Verdicts, Viewpoint, decide_in_session, form,
};
use crate::error::{Denial, DenialCode};
use crate::ids::{CatalogEpoch, PolicyEpoch};
use crate::limiter::{Admitted, Demand, Limiter, Rules};
use crate::mutant;
use crate::policy::Policy;
use crate::sql::postgres::{Form, Guarded, Split, is_tenant_column};
use crate::sql::temporary::Temporary;
use crate::sql::{Decided, Fingerprint};
use crate::wire::backend::RowColumn;

/// Stack that must be left before a decision begins. Runtimes whose threads have
/// [`DECIDING_STACK_BYTES`] never need to switch.
const MIN_STACK_BYTES: usize = 8 << 20;
/// Stack that a decision gets when less is left.
const DECIDING_STACK_BYTES: usize = 16 << 20;

/// Facts of all statements of a text.
pub(super) type Decision = Arc<[Arc<Facts>]>;

/// Decides for one session.
pub(super) struct Judge {
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) catalogs: Catalogs,
    /// The catalogs of the session's database, once there is one.
    pub(super) followed: Option<Followed>,
    pub(super) verdicts: Arc<Verdicts<Decision>>,
    pub(super) recent: Recent<Decision>,
    /// Whoever takes on another identity takes on another viewpoint.
    pub(super) viewpoint: Viewpoint,
    pub(super) meters: Arc<Meters>,
    /// The temporary tables that the session has on its backend.
    pub(super) temporary: Temporary,
    pub(super) limiter: Limiter,
}

/// A refused text, and under what it was refused.
pub(super) struct Refused {
    pub(super) denial: Denial,
    pub(super) fingerprint: Fingerprint,
    /// The relations that the refused statement names.
    pub(super) relations: Arc<[RelationRule]>,
    pub(super) policy_epoch: PolicyEpoch,
    pub(super) catalog_epoch: CatalogEpoch,
}

impl Refused {
    /// A refusal that needed no decision.
    pub(super) fn of(denial: Denial) -> Self {
        Self {
            denial,
            fingerprint: Fingerprint::default(),
            relations: Arc::default(),
            policy_epoch: PolicyEpoch::default(),
            catalog_epoch: CatalogEpoch::default(),
        }
    }

    /// The refusal of a statement that was decided, for another reason than what it says.
    pub(super) fn about(denial: Denial, facts: &Facts) -> Self {
        let recorded = &facts.recorded;
        Self {
            denial,
            fingerprint: Fingerprint {
                hash: recorded.fingerprint.to_string(),
                normalized: recorded.normalized.to_string(),
            },
            relations: Arc::clone(&recorded.relations),
            policy_epoch: recorded.policy_epoch,
            catalog_epoch: recorded.catalog_epoch,
        }
    }

    /// The refusal of a statement by its decision.
    fn decided(refusal: Refusal, policy: &Policy, catalog: &Catalog) -> Self {
        let relations = refusal.relations.into_iter().map(|named| RelationRule {
            relation: named.relation.into(),
            rule: named.rule.map_or_else(|| RelationRule::NO_RULE.into(), Into::into),
        });
        Self {
            denial: refusal.denial,
            fingerprint: refusal.fingerprint,
            relations: relations.collect(),
            policy_epoch: policy.epoch,
            catalog_epoch: catalog.epoch,
        }
    }
}

impl Judge {
    /// Decides a text. All its statements may run, or none. `types` are those that a Parse declares
    /// for the parameters, as they came.
    pub(super) async fn decide(&mut self, text: &str, types: &[u8]) -> Result<Decision, Refused> {
        if text.len() > self.viewpoint.limits().max_statement && !mutant::on("long-statement") {
            Met::MaxStatement.count();
            return Err(Refused::of(Denial::new(DenialCode::StatementTooLarge)));
        }
        // The name of a relation that is not known may be younger than the catalog.
        let is_young = |refusal: &Refusal| refusal.denial.code == DenialCode::UnknownRelation;
        let policy = Arc::clone(&self.policy);
        if let Some(followed) = self.followed.clone() {
            let policy = policy.load();
            let verdict = followed.with(|catalog| {
                self.ask(text, types, &policy, catalog).map_err(|refusal| {
                    let young = is_young(&refusal);
                    (young, Refused::decided(refusal, &policy, catalog))
                })
            });
            match verdict {
                Some(Ok(decision)) => return Ok(decision),
                Some(Err((false, refused))) => return Err(refused),
                Some(Err((true, _))) | None => {}
            }
        }
        let policy = policy.load_full();
        let mut catalog = self.catalog().await?;
        let mut verdict = self.ask(text, types, &policy, &catalog);
        if verdict.as_ref().is_err_and(is_young) {
            match self.catalogs.refresh(self.viewpoint.database()).await {
                Ok(fresh) if fresh.epoch != catalog.epoch => {
                    catalog = fresh;
                    verdict = self.ask(text, types, &policy, &catalog);
                }
                Ok(_unchanged) => {}
                Err(error) => tracing::warn!(%error, "the catalog could not be refreshed"),
            }
        }
        verdict.map_err(|refusal| Refused::decided(refusal, &policy, &catalog))
    }

    /// Whether facts were found under the policy and catalog that hold now.
    pub(super) async fn is_current(&mut self, facts: &Facts) -> Result<bool, Refused> {
        let known = self.followed.as_ref().and_then(|followed| followed.with(|now| now.epoch));
        let catalog = match known {
            Some(epoch) => epoch,
            None => self.catalog().await?.epoch,
        };
        Ok((facts.recorded.policy_epoch == self.policy.load().epoch
            || mutant::on("stale-statement"))
            && facts.recorded.catalog_epoch == catalog)
    }

    /// Takes up a change of the schema. A catalog that cannot be had now is had by the watch.
    pub(super) async fn refresh_catalog(&self) {
        if let Err(error) = self.catalogs.refresh(self.viewpoint.database()).await {
            tracing::warn!(%error, "the catalog could not be refreshed after a schema change");
        }
    }

    /// Which columns of a result are a protected table's tenant column, by table and number, whatever the
    /// statement called them. None for a caller who sees every tenant.
    pub(super) fn tenant_columns(&self, columns: &[RowColumn]) -> Vec<usize> {
        let policy = self.policy.load();
        if policy.breaks_glass(self.viewpoint.claims()) {
            return Vec::new();
        }
        let held = |catalog: &Catalog| {
            let is_held = |column: &RowColumn| {
                is_tenant_column(&policy, catalog, column.table, column.number)
            };
            let columns = columns.iter().enumerate();
            columns.filter(|(_, column)| is_held(column)).map(|(position, _)| position).collect()
        };
        match &self.followed {
            Some(followed) => followed.with(held).unwrap_or_default(),
            None => {
                let known = self.catalogs.known(self.viewpoint.database());
                known.as_deref().map(held).unwrap_or_default()
            }
        }
    }

    /// Whether the tenant's quotas let so many statements begin. A caller without a tenant has none.
    pub(super) fn admit(&self, statements: u32, place: bool) -> Result<Admitted, Denial> {
        let policy = self.policy.load();
        let Some(tenant) = self.viewpoint.tenant().filter(|_| !policy.quotas.is_empty()) else {
            return Ok(Admitted::default());
        };
        let rules = Rules { epoch: policy.epoch, quotas: &policy.quotas };
        self.limiter.admit(rules, &tenant.text(), Demand { statements, place })
    }

    /// Whether the caller may do something without a tenant.
    pub(super) fn is_privileged(&self) -> bool {
        let policy = self.policy.load();
        let claims = self.viewpoint.claims();
        policy.may_change_schema(claims) || policy.breaks_glass(claims)
    }

    /// Whether the caller sees every tenant: then each statement is on record before it runs.
    pub(super) fn breaks_glass(&self) -> bool {
        self.policy.load().breaks_glass(self.viewpoint.claims())
    }

    async fn catalog(&mut self) -> Result<Arc<Catalog>, Refused> {
        #[cfg(test)]
        if super::tests::scripted() {
            return Ok(Arc::default());
        }
        let database = self.viewpoint.database();
        let catalog = self.catalogs.current(database).await.map_err(|error| {
            tracing::error!(%error, "no catalog: statements are denied");
            Refused::of(Denial::new(DenialCode::Internal))
        })?;
        self.followed = self.catalogs.follow(database);
        Ok(catalog)
    }

    fn ask(
        &mut self,
        text: &str,
        types: &[u8],
        policy: &Policy,
        catalog: &Catalog,
    ) -> Result<Decision, Refusal> {
        // A count of none is as good as no count.
        let types = if types == [0, 0] { &[] } else { types };
        let Self { viewpoint, meters, verdicts, recent, .. } = self;
        let question = Question { text, types, policy, catalog, viewpoint };
        if !self.temporary.is_empty() {
            // Its names mean something that no other session knows: nothing of it is kept.
            let begun = Instant::now();
            let decided = think(question, None, &self.temporary);
            meters.decided(begun.elapsed());
            return decided.map(|(decided, form)| prepare(question, decided, form).verdict);
        }
        let make = |question: Question<'_>, split: Option<&Split<'_>>| {
            let begun = Instant::now();
            let decided = think(question, split, Temporary::NONE);
            meters.decided(begun.elapsed());
            decided.map(|(decided, form)| prepare(question, decided, form))
        };
        let (source, verdict) = verdicts.answer_session(question, recent, make, spell);
        match source {
            Source::Known => meters.verdict_known(),
            Source::Made => meters.verdict_made(verdicts.bytes()),
        }
        verdict
    }
}

/// The decision, on a stack that it cannot overflow; a panic is a denial. With the text's literals,
/// also its form, if there is one.
fn think(
    question: Question<'_>,
    split: Option<&Split<'_>>,
    temporary: &Temporary,
) -> Result<(Vec<Decided>, Option<Form>), Refusal> {
    #[cfg(test)]
    if super::tests::scripted() {
        let decided = super::tests::decide(question.text, question.policy.epoch);
        return decided.map(|decided| (decided, None));
    }
    let (text, context) = (question.text, question.context());
    stacker::maybe_grow(MIN_STACK_BYTES, DECIDING_STACK_BYTES, || {
        catch_unwind(AssertUnwindSafe(|| {
            let declared = question.declared();
            let decided = decide_in_session(text, context, &declared, temporary)?;
            let form = split.and_then(|split| form(split, text, &decided, context));
            Ok((decided, form))
        }))
    })
    .unwrap_or_else(|_panic| {
        // SECURITY: the panic's own text is on standard error already; it is not put in a log
        // record, for it may quote the statement.
        tracing::error!("a decision panicked: the statement is denied");
        Err(Refusal::of(Denial::new(DenialCode::Internal)))
    })
}

/// What a session needs of a decision, and how many bytes that takes.
fn prepare(question: Question<'_>, decided: Vec<Decided>, form: Option<Form>) -> Made<Decision> {
    let client_text: Arc<str> = question.text.into();
    let types: Arc<[u8]> = question.types.into();
    let (policy, catalog) = (question.policy, question.catalog);
    let decision: Decision = decided
        .into_iter()
        .map(|decided| Arc::new(Facts::new(&client_text, &types, decided, policy, catalog)))
        .collect();
    let bytes = decision.iter().map(|facts| facts.bytes()).sum::<usize>();
    Made { verdict: decision, bytes: bytes.saturating_add(client_text.len()), form }
}

/// The decision on a text that differs from the one decided in literals only: one statement, for
/// which `guarded` is sent.
fn spell(known: &Decision, text: &str, guarded: Guarded) -> Decision {
    let mut guarded = Some(guarded);
    known.iter().map(|facts| Arc::new(facts.spelled(text.into(), guarded.take()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::{Claims, Principal, TenantClaim};
    use crate::endpoint::{Binding, Endpoint, TlsMode};
    use crate::sql::Limits;

    fn judge(tenant: &str, verdicts: &Arc<Verdicts<Decision>>) -> Judge {
        let endpoint = Endpoint {
            host: "/nowhere".to_owned(),
            port: 1,
            database: None,
            user: "app".to_owned(),
            password: None,
            tls: TlsMode::Disable,
            channel_binding: Binding::Prefer,
            ca_file: None,
            client_certificate: None,
        };
        let tenant = Some(TenantClaim::Text(tenant.to_owned()));
        let principal = Principal::assumed(tenant, Claims::default());
        Judge {
            policy: Arc::new(ArcSwap::from_pointee(Policy::default())),
            catalogs: Catalogs::new(endpoint),
            followed: None,
            verdicts: Arc::clone(verdicts),
            recent: Recent::default(),
            viewpoint: Viewpoint::new(&principal, "d", Limits { max_statement: 100 }),
            meters: Arc::new(Meters::new()),
            temporary: Temporary::default(),
            limiter: Limiter::default(),
        }
    }

    #[tokio::test]
    async fn a_text_is_decided_once_for_each_tenant_and_policy() {
        let verdicts = Arc::new(Verdicts::new(1 << 20));
        let (mut a, mut b) = (judge("a", &verdicts), judge("b", &verdicts));
        let first = a.decide("SELECT 1; SELECT 2", &[]).await.ok().unwrap();
        assert_eq!(first.len(), 2);
        assert!(Arc::ptr_eq(&first, &a.decide("SELECT 1; SELECT 2", &[]).await.ok().unwrap()));
        let another = judge("a", &verdicts).decide("SELECT 1; SELECT 2", &[]).await.ok().unwrap();
        assert!(Arc::ptr_eq(&first, &another), "sessions share");
        let foreign = b.decide("SELECT 1; SELECT 2", &[]).await.ok().unwrap();
        assert!(!Arc::ptr_eq(&first, &foreign), "tenants do not");
        let newer = Policy { epoch: PolicyEpoch(1), ..Policy::default() };
        a.policy.store(Arc::new(newer));
        let renewed = a.decide("SELECT 1; SELECT 2", &[]).await.ok().unwrap();
        assert!(!Arc::ptr_eq(&first, &renewed), "a policy decides for itself");
        assert!(a.decide("DENY", &[]).await.is_err() && a.decide("DENY", &[]).await.is_err());
    }
}
