//! Asks for decisions on GoogleSQL, and remembers those that were made. Layer 5.
//!
//! SECURITY: a verdict is found again only by the very question it answers: text, place, tenant,
//! claims, policy epoch and limit. Refusals are not kept. A panic in a decision is a denial.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::meters::Meters;
use super::recorder::Facts;
use crate::audit::RelationRule;
use crate::claims::{Claims, Principal, TenantClaim};
use crate::error::{Denial, DenialCode};
use crate::policy::BigQueryPolicy;
use crate::sql::Limits;
use crate::sql::bigquery::{Decided, Place, decide};

/// Memory for verdicts of all tenants together, in bytes.
const VERDICT_BYTES: u64 = 64 << 20;
/// Longest text whose verdict is kept, in bytes.
const MAX_KEPT_TEXT: usize = 64 << 10;
/// What an entry takes beside its texts, in bytes.
const ENTRY_BYTES: usize = 1024;
/// Claims that differ from token to token of one caller: no decision sees them.
const OF_ONE_TOKEN: [&str; 4] = ["exp", "iat", "jti", "nbf"];

/// A decided text, as requests need it.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The decision.
    pub(super) decided: Decided,
    /// For the record.
    pub(super) facts: Facts,
}

/// Decides for all requests.
pub(super) struct Judge {
    verdicts: Cache<[u8; 32], Arc<Verdict>>,
    meters: Arc<Meters>,
    limits: Limits,
}

impl Judge {
    pub(super) fn new(meters: Arc<Meters>, limits: Limits) -> Self {
        let weigh = |_: &[u8; 32], verdict: &Arc<Verdict>| {
            let decided = &verdict.decided;
            let bytes = decided.guarded.text().len()
                + 2 * decided.fingerprint.normalized.len()
                + ENTRY_BYTES * (1 + decided.relations.len());
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let verdicts = Cache::builder().max_capacity(VERDICT_BYTES).weigher(weigh).build();
        Self { verdicts, meters, limits }
    }

    /// Decides a text.
    ///
    /// # Errors
    /// The denial.
    pub(super) fn decide(
        &self,
        text: &str,
        policy: &BigQueryPolicy,
        principal: &Principal,
        place: &Place,
    ) -> Result<Arc<Verdict>, Denial> {
        let mut claims = principal.claims.clone();
        claims.0.retain(|name, _| !OF_ONE_TOKEN.contains(&name.as_str()));
        let key = (text.len() <= MAX_KEPT_TEXT)
            .then(|| self.key(text, policy, principal.tenant.as_ref(), &claims, place));
        if let Some(verdict) = key.and_then(|key| self.verdicts.get(&key)) {
            self.meters.known();
            return Ok(verdict);
        }
        let begun = Instant::now();
        let principal = Principal {
            tenant: principal.tenant.clone(),
            claims,
            lifetime_seconds: principal.lifetime_seconds,
        };
        let decided =
            catch_unwind(AssertUnwindSafe(|| decide(text, policy, &principal, place, self.limits)))
                .unwrap_or_else(|_panic| {
                    // SECURITY: the panic's own text may quote the statement; it is not put in a record.
                    tracing::error!("a decision panicked: the statement is denied");
                    Err(Denial::new(DenialCode::Internal))
                });
        self.meters.decided(begun.elapsed());
        let verdict = Arc::new(Verdict::new(decided?));
        if let Some(key) = key {
            self.verdicts.insert(key, Arc::clone(&verdict));
        }
        Ok(verdict)
    }

    fn key(
        &self,
        text: &str,
        policy: &BigQueryPolicy,
        tenant: Option<&TenantClaim>,
        claims: &Claims,
        place: &Place,
    ) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            // INVARIANT: lengths first, so that no two questions run into the same bytes.
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        };
        part(text);
        part(&place.project);
        match &place.default_dataset {
            Some((project, dataset)) => {
                part("dataset");
                part(project);
                part(dataset);
            }
            None => part("none"),
        }
        part(if place.session { "session" } else { "none" });
        match tenant {
            Some(TenantClaim::Text(text)) => {
                part("text");
                part(text);
            }
            Some(TenantClaim::Integer(number)) => {
                part("integer");
                part(&number.to_string());
            }
            None => part("none"),
        }
        for (name, value) in &claims.0 {
            part(name);
            part(&value.to_string());
        }
        hasher.update(policy.epoch.0.to_be_bytes());
        hasher.update((self.limits.max_statement as u64).to_be_bytes());
        hasher.finalize().into()
    }
}

impl Verdict {
    fn new(decided: Decided) -> Self {
        let relations = decided
            .relations
            .iter()
            .map(|used| RelationRule {
                relation: used.table.to_string().into(),
                rule: Arc::clone(&used.rule),
            })
            .collect();
        let kind = match decided.kinds.as_slice() {
            [kind] => kind.word(),
            _ => "script",
        };
        let facts = Facts {
            kind,
            fingerprint: decided.fingerprint.hash.as_str().into(),
            normalized: decided.fingerprint.normalized.as_str().into(),
            relations,
            rewritten: decided.rewritten,
        };
        Self { decided, facts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PolicyEpoch;

    const POLICY: &str = "
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  p.d.t: {tenant: tenant_id}
";

    #[test]
    fn a_verdict_is_one_tenants_and_one_places() {
        let compile = |epoch| {
            let files = [("p.yaml", POLICY)];
            crate::policy::load::compile(&files, PolicyEpoch(epoch)).unwrap().bigquery
        };
        let policy = compile(1);
        let judge = Judge::new(Arc::new(Meters::new()), Limits::default());
        let who = |tenant: &str| {
            Principal::assumed(Some(TenantClaim::Text(tenant.into())), Claims::default())
        };
        let place = |dataset: &str| Place {
            project: "p".into(),
            default_dataset: Some(("p".into(), dataset.into())),
            session: false,
        };
        let ask = |policy: &BigQueryPolicy, tenant: &str, dataset: &str| {
            judge.decide("SELECT x FROM t", policy, &who(tenant), &place(dataset))
        };
        let first = ask(&policy, "a", "d").unwrap();
        assert!(first.decided.guarded.text().contains("'a'"));
        assert!(Arc::ptr_eq(&first, &ask(&policy, "a", "d").unwrap()));
        let other = ask(&policy, "b", "d").unwrap();
        assert!(!Arc::ptr_eq(&first, &other) && other.decided.guarded.text().contains("'b'"));
        assert!(!Arc::ptr_eq(&first, &ask(&compile(2), "a", "d").unwrap()));
        assert!(ask(&policy, "a", "elsewhere").is_err());
    }
}
