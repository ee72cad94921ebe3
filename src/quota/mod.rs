//! Quotas: how fast and how much at once a tenant may ask. Layer 1; arithmetic only: no clock, no
//! I/O, time is an argument.
//!
//! Every rule that names the tenant holds. Each tenant has its own bucket for each such rule, and
//! one count of what runs. A statement is let through only if all of them have room, and takes from
//! none of them otherwise.
//!
//! Memory is bounded: accounts in which nothing is left to remember are given up by
//! [`Quotas::sweep`], and over [`MAX_TENANTS`] a tenant without an account is refused.
//!
//! Sidecars that share quotas tell each other what they let through and what is at work
//! ([`Quotas::usage`], [`Quotas::charge`], [`Quotas::elsewhere`]); nobody is asked before a statement
//! runs.

mod bucket;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

pub use bucket::Moment;
use bucket::{Bucket, Rate};

use crate::error::{Denial, DenialCode};
use crate::ids::PolicyEpoch;
use crate::policy::{Mode, Quota, wildcard};

/// Most tenants with an account.
pub const MAX_TENANTS: usize = 1 << 20;
/// How long an account is kept after the tenant's last statement, at the least: what other sidecars
/// say of it counts only as long as there is one.
const KEPT: u64 = Duration::from_secs(60).as_nanos() as u64;

/// The rules in force: those of a policy, in any order.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The policy's version: accounts made under another are fitted to the rules anew.
    pub epoch: PolicyEpoch,
    /// The rules.
    pub quotas: &'a [Quota],
}

/// What a caller wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Statements that begin.
    pub statements: u32,
    /// Whether a place among those at work is needed: not for one who holds a [`Place`] already.
    pub place: bool,
}

/// A demand that was met.
#[derive(Debug, Default)]
pub struct Admitted {
    /// The place among the tenant's at work, if one was asked for and is counted.
    pub place: Option<Place>,
    /// A rule that is only monitored would have refused.
    pub would_deny: Option<Denial>,
}

/// What a tenant used, for other sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Statements let through since its account was opened.
    pub consumed: u64,
    /// Its places at work here; `None` where no rule bounds them.
    pub at_work: Option<u32>,
    /// A place was refused because of what is at work elsewhere.
    pub refused: bool,
}

/// A place among a tenant's at work; given up when dropped.
#[derive(Debug)]
pub struct Place(Arc<Account>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is known of one tenant.
#[derive(Debug, Default)]
struct Account {
    /// Places given out.
    running: AtomicU32,
    /// Places that other sidecars have given out, as far as they told.
    elsewhere: AtomicU32,
    /// [`Moment`] until which that counts: one that tells nothing any more is gone.
    elsewhere_until: AtomicU64,
    /// Whether a rule bounds the places.
    bounded: AtomicBool,
    /// Whether a place was refused that would be there but for the other sidecars, since
    /// [`Quotas::usage`] was asked.
    refused: AtomicBool,
    /// Statements let through since the account was opened.
    consumed: AtomicU64,
    /// [`Moment`] of the last demand.
    touched: AtomicU64,
    state: Mutex<State>,
}

/// The rules that name the tenant.
#[derive(Debug, Default)]
struct State {
    /// The policy that they are of; `None`: none was looked at yet.
    epoch: Option<PolicyEpoch>,
    buckets: Vec<(Mode, Bucket)>,
    /// Least bound on what is at work, of enforced and of monitored rules.
    concurrent: [Option<u32>; 2],
}

impl Account {
    /// Places at work at other sidecars.
    fn elsewhere(&self, now: Moment) -> u32 {
        let known = now.0 < self.elsewhere_until.load(Ordering::Acquire);
        if known { self.elsewhere.load(Ordering::Acquire) } else { 0 }
    }
}

impl State {
    /// Takes up another policy. A rate that stays as it was keeps its bucket.
    fn fit(&mut self, rules: Rules<'_>, tenant: &str) {
        let mut before = std::mem::take(&mut self.buckets);
        self.concurrent = [None, None];
        for quota in rules.quotas {
            let named = quota.tenant.as_ref().is_none_or(|pattern| wildcard(pattern, tenant));
            if !named {
                continue;
            }
            if let Some(per_second) = quota.statements_per_second {
                let rate = Rate::new(per_second, quota.burst);
                let known = before.iter().position(|(_, bucket)| bucket.rate == rate);
                let bucket = known.map_or_else(|| Bucket::new(rate), |at| before.swap_remove(at).1);
                self.buckets.push((quota.mode, bucket));
            }
            if let Some(most) = quota.concurrent {
                let [enforced, monitored] = &mut self.concurrent;
                let bound = match quota.mode {
                    Mode::Enforce => enforced,
                    Mode::Monitor => monitored,
                };
                *bound = Some(bound.map_or(most, |known| known.min(most)));
            }
        }
        self.epoch = Some(rules.epoch);
    }

    fn is_idle(&self, now: Moment) -> bool {
        self.buckets.iter().all(|(_, bucket)| bucket.is_empty(now))
    }
}

/// The accounts of all tenants.
#[derive(Debug, Default)]
pub struct Quotas {
    accounts: DashMap<Arc<str>, Arc<Account>>,
    /// How many there are; asking the map would lock all of it.
    count: AtomicUsize,
}

impl Quotas {
    /// Lets statements of a tenant through, or does not: then nothing is taken.
    ///
    /// # Errors
    /// HR3001 over a rate, HR3002 over a number at work; HR3001 too for a tenant without an account
    /// when there are [`MAX_TENANTS`].
    pub fn admit(
        &self,
        rules: Rules<'_>,
        tenant: &str,
        demand: Demand,
        now: Moment,
    ) -> Result<Admitted, Denial> {
        if rules.quotas.is_empty() {
            return Ok(Admitted::default());
        }
        let account = self.account(tenant)?;
        account.touched.store(now.0, Ordering::Relaxed);
        // Places are counted only under this lock; they are given up without it.
        let mut state = lock(&account.state);
        if state.epoch != Some(rules.epoch) {
            state.fit(rules, tenant);
            let bounded = state.concurrent.iter().any(Option::is_some);
            account.bounded.store(bounded, Ordering::Release);
        }
        let statements = u64::from(demand.statements);
        let mut would_deny = None;
        let full = state
            .buckets
            .iter()
            .filter(|(_, bucket)| statements > 0 && !bucket.has_room(statements, now));
        for (mode, _) in full {
            let denial = Denial::of(DenialCode::Quota, "statements per second");
            match mode {
                Mode::Enforce => return Err(denial),
                Mode::Monitor => would_deny = Some(denial),
            }
        }
        if demand.place {
            let here = account.running.load(Ordering::Acquire);
            let running = here.saturating_add(account.elsewhere(now));
            let over = |bound: Option<u32>| bound.is_some_and(|most| running >= most);
            let [enforced, monitored] = state.concurrent;
            if over(enforced) {
                if enforced.is_some_and(|most| here < most) {
                    account.refused.store(true, Ordering::Release);
                }
                return Err(Denial::new(DenialCode::QuotaConcurrent));
            }
            if over(monitored) {
                would_deny = Some(Denial::new(DenialCode::QuotaConcurrent));
            }
        }
        for (_, bucket) in &mut state.buckets {
            // One that is over a monitored bound is not pushed further over it.
            if bucket.has_room(statements, now) {
                bucket.fill(statements, now);
            }
        }
        account.consumed.fetch_add(statements, Ordering::Relaxed);
        let place = demand.place.then(|| {
            account.running.fetch_add(1, Ordering::AcqRel);
            Place(Arc::clone(&account))
        });
        drop(state);
        Ok(Admitted { place, would_deny })
    }

    fn account(&self, tenant: &str) -> Result<Arc<Account>, Denial> {
        if let Some(account) = self.accounts.get(tenant) {
            return Ok(Arc::clone(&account));
        }
        if self.count.load(Ordering::Relaxed) >= MAX_TENANTS {
            return Err(Denial::of(DenialCode::Quota, "too many tenants"));
        }
        Ok(match self.accounts.entry(tenant.into()) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(vacant) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                Arc::clone(&vacant.insert(Arc::default()))
            }
        })
    }

    /// Gives up the accounts that are as good as new: nothing at work, every bucket empty, no
    /// statement for a minute.
    pub fn sweep(&self, now: Moment) {
        self.accounts.retain(|_, account| {
            // INVARIANT: whoever uses an account holds it, and it is taken out of the map under the
            // lock of its shard: so nobody goes on with an account that others no longer find.
            let used = Arc::strong_count(account) > 1
                || account.touched.load(Ordering::Relaxed).saturating_add(KEPT) > now.0
                || !lock(&account.state).is_idle(now);
            if !used {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            used
        });
    }

    /// What each tenant used since its account was opened and has at work: what other sidecars should
    /// know of.
    pub fn usage(&self) -> Vec<(Arc<str>, Usage)> {
        let entries = self.accounts.iter();
        entries
            .map(|entry| {
                let usage = Usage {
                    consumed: entry.consumed.load(Ordering::Relaxed),
                    at_work: entry
                        .bounded
                        .load(Ordering::Acquire)
                        .then(|| entry.running.load(Ordering::Acquire)),
                    refused: entry.refused.swap(false, Ordering::AcqRel),
                };
                (Arc::clone(entry.key()), usage)
            })
            .collect()
    }

    /// Takes up how many of a tenant's places other sidecars have given out. It counts until `until`,
    /// so that the share of one that is gone comes free.
    pub fn elsewhere(&self, tenant: &str, places: u32, until: Moment) {
        if let Some(account) = self.accounts.get(tenant) {
            account.elsewhere.store(places, Ordering::Release);
            account.elsewhere_until.store(until.0, Ordering::Release);
        }
    }

    /// Takes up statements of a tenant that other sidecars let through.
    pub fn charge(&self, tenant: &str, statements: u64, now: Moment) {
        if let Some(account) = self.accounts.get(tenant) {
            for (_, bucket) in &mut lock(&account.state).buckets {
                bucket.owe(statements, now);
            }
        }
    }

    /// How many tenants have an account.
    pub fn tenants(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
