//! What sidecars tell each other through Redis: how many statements each let through, by tenant and
//! slot of time. Layer 4.
//!
//! A key `hedgerow:quota:<engine>:{<tenant>}:<slot>` counts the statements of a tenant in two seconds
//! of Redis's own clock, and is forgotten after a minute. The braces keep a tenant's keys on one node
//! of a cluster. What the others counted is charged here as of the time when it was let through, so
//! that a sidecar that meets a tenant for the first time knows what it used elsewhere.
//!
//! Without Redis each sidecar goes on with what it knows; what it could not tell, it tells later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use tokio::task::JoinSet;

use super::Limiter;
use crate::quota::Moment;
use crate::store::{Connection, Store};

/// Between two exchanges.
const INTERVAL: Duration = Duration::from_millis(250);
/// The same where Redis cannot be had.
const RETRY: Duration = Duration::from_secs(1);
/// A tenant that lets nothing through here is asked about at each such exchange only.
const QUIET_TURN: u64 = 8;
/// Length of a slot.
const SLOT: Duration = Duration::from_secs(2);
/// Slots that are looked at: the present one and those before it.
const SLOTS: u64 = 8;
/// How long Redis keeps a slot, in seconds.
const KEPT_SECONDS: i64 = 60;
/// Tenants asked about at a time.
const AT_A_TIME: usize = 128;

/// What was exchanged about one tenant.
#[derive(Default)]
struct Known {
    /// Of the account's count, what Redis has been told.
    told: u64,
    asked: bool,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    number: u64,
    /// Let through here.
    own: u64,
    /// Let through by others, and charged.
    others: u64,
}

/// One question to Redis.
struct Ask {
    tenant: Arc<str>,
    /// Let through since the last exchange.
    fresh: u64,
}

pub(super) async fn run(limiter: Limiter, mut store: Store, engine: &'static str) {
    let mut known = HashMap::new();
    let mut turn = 0_u64;
    loop {
        turn = turn.wrapping_add(1);
        let pause = match round(&limiter, &mut store, engine, &mut known, turn).await {
            Ok(()) => INTERVAL,
            Err(_told) => RETRY,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn round(
    limiter: &Limiter,
    store: &mut Store,
    engine: &'static str,
    known: &mut HashMap<Arc<str>, Known>,
    turn: u64,
) -> Result<(), RedisError> {
    let consumed: HashMap<Arc<str>, u64> = limiter.0.quotas.consumed().into_iter().collect();
    known.retain(|tenant, _| consumed.contains_key(tenant));
    let mut asks = Vec::new();
    for (position, (tenant, total)) in consumed.iter().enumerate() {
        let known = known.entry(Arc::clone(tenant)).or_default();
        // An account that was given up and opened again counts from nothing.
        known.told = known.told.min(*total);
        let fresh = total.saturating_sub(known.told);
        let turn = turn.wrapping_add(u64::try_from(position).unwrap_or(0));
        if fresh > 0 || !known.asked || turn.is_multiple_of(QUIET_TURN) {
            asks.push(Ask { tenant: Arc::clone(tenant), fresh });
        }
    }
    store
        .with(async |mut connection| {
            let (seconds, micros): (u64, u64) =
                redis::cmd("TIME").query_async(&mut connection).await?;
            let clock = Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros));
            let now = Clock { redis: clock, here: limiter.now() };
            let mut asks = asks.into_iter();
            let mut running = JoinSet::new();
            loop {
                while running.len() < AT_A_TIME
                    && let Some(ask) = asks.next()
                {
                    running.spawn(exchange(connection.clone(), ask, engine, now.slot()));
                }
                let Some(answered) = running.join_next().await else { return Ok(()) };
                let Ok(answered) = answered else { continue };
                let (ask, counts) = answered?;
                let Some(known) = known.get_mut(&ask.tenant) else { continue };
                known.told = known.told.saturating_add(ask.fresh);
                known.asked = true;
                for (slot, others) in known.learn(now.slot(), ask.fresh, &counts) {
                    limiter.0.quotas.charge(&ask.tenant, others, now.end_of(slot));
                }
            }
        })
        .await
}

/// The same moment on two clocks.
#[derive(Clone, Copy)]
struct Clock {
    /// Since 1970, as Redis says it.
    redis: Duration,
    here: Moment,
}

impl Clock {
    const fn slot(self) -> u64 {
        self.redis.as_secs() / SLOT.as_secs()
    }

    /// When a slot was over here; the present one counts as over now.
    fn end_of(self, slot: u64) -> Moment {
        let end = Duration::from_secs(slot.saturating_add(1).saturating_mul(SLOT.as_secs()));
        let ago = u64::try_from(self.redis.saturating_sub(end).as_nanos()).unwrap_or(u64::MAX);
        Moment(self.here.0.saturating_sub(ago))
    }
}

/// Tells what is fresh, and asks for the slots, oldest first. A tenant's keys lie on one node.
async fn exchange(
    mut connection: Connection,
    ask: Ask,
    engine: &'static str,
    present: u64,
) -> Result<(Ask, Vec<Option<u64>>), RedisError> {
    let key = |slot: u64| format!("hedgerow:quota:{engine}:{{{}}}:{slot}", ask.tenant);
    let mut pipe = redis::pipe();
    if ask.fresh > 0 {
        pipe.incr(key(present), ask.fresh).ignore();
        pipe.expire(key(present), KEPT_SECONDS).ignore();
    }
    let keys: Vec<String> = slots(present).map(key).collect();
    pipe.mget(keys);
    let (counts,): (Vec<Option<u64>>,) = pipe.query_async(&mut connection).await?;
    Ok((ask, counts))
}

fn slots(present: u64) -> impl Iterator<Item = u64> {
    present.saturating_sub(SLOTS - 1)..=present
}

impl Known {
    /// What the others let through beyond what was known, by slot, oldest first.
    fn learn(&mut self, present: u64, fresh: u64, counts: &[Option<u64>]) -> Vec<(u64, u64)> {
        let mut before = std::mem::take(&mut self.slots);
        let mut news = Vec::new();
        for (number, count) in slots(present).zip(counts) {
            let known = before.iter().position(|slot| slot.number == number);
            let mut slot = known.and_then(|at| before.swap_remove_back(at)).unwrap_or(Slot {
                number,
                own: 0,
                others: 0,
            });
            if number == present {
                slot.own = slot.own.saturating_add(fresh);
            }
            // Less than what was known: Redis lost it.
            let others = count.unwrap_or(0).saturating_sub(slot.own);
            let new = others.saturating_sub(slot.others);
            if new > 0 {
                slot.others = others;
                news.push((number, new));
            }
            self.slots.push_back(slot);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_add_is_news_and_only_once() {
        let mut known = Known::default();
        let counts = |pairs: &[(u64, u64)]| -> Vec<Option<u64>> {
            slots(100)
                .map(|slot| pairs.iter().find(|(of, _)| *of == slot).map(|(_, count)| *count))
                .collect()
        };
        assert_eq!(known.learn(100, 3, &counts(&[(98, 7), (100, 5)])), [(98, 7), (100, 2)]);
        assert_eq!(known.learn(100, 0, &counts(&[(98, 7), (100, 5)])), []);
        assert_eq!(known.learn(100, 4, &counts(&[(98, 7), (100, 10)])), [(100, 1)]);
        // Redis was emptied, and begins anew.
        assert_eq!(known.learn(100, 1, &counts(&[(100, 1)])), []);
    }

    #[test]
    fn a_slot_that_is_over_lies_in_the_past() {
        let clock = Clock { redis: Duration::from_millis(21_500), here: Moment(5_000_000_000) };
        assert_eq!(clock.slot(), 10);
        assert_eq!(clock.end_of(10), Moment(5_000_000_000), "not over yet");
        assert_eq!(clock.end_of(9), Moment(3_500_000_000));
        assert_eq!(clock.end_of(1), Moment(0));
    }
}
