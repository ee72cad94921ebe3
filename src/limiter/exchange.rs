//! What sidecars tell each other through Redis: how many statements each let through, by tenant and
//! slot of time, and how many places of a tenant each has given out. Layer 4.
//!
//! A key `hedgerow:quota:<engine>:{<tenant>}:<slot>` counts the statements of a tenant in two seconds
//! of Redis's own clock, and is forgotten after a minute. The braces keep a tenant's keys on one node
//! of a cluster. What the others counted is charged here as of the time when it was let through, so
//! that a sidecar that meets a tenant for the first time knows what it used elsewhere.
//!
//! A hash `hedgerow:quota:<engine>:{<tenant>}:work` has a field a sidecar: its places at work, and when
//! it said so by Redis's clock. Who has places says so anew every two seconds; what is older than
//! [`LEASE`] does not count, so that the share of a sidecar that crashed comes free.
//!
//! Without Redis each sidecar goes on with what it knows; what it could not tell, it tells later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use tokio::task::JoinSet;

use super::Limiter;
use crate::quota::{Moment, Usage};
use crate::store::{Connection, Store};

/// Between two exchanges.
const INTERVAL: Duration = Duration::from_millis(250);
/// The same where Redis cannot be had.
const RETRY: Duration = Duration::from_secs(1);
/// A tenant of which there is no news here is asked about after so many exchanges.
const QUIET_TURN: u64 = 8;
/// Length of a slot.
const SLOT: Duration = Duration::from_secs(2);
/// Slots that are looked at: the present one and those before it.
const SLOTS: u64 = 8;
/// How long Redis keeps a slot, and what was said of places, in seconds.
const KEPT_SECONDS: i64 = 60;
/// For how long places count after their sidecar told of them: four times what it takes to tell anew.
const LEASE: Duration = Duration::from_secs(8);
/// Tenants asked about at a time.
const AT_A_TIME: usize = 128;

/// What was exchanged about one tenant.
#[derive(Default)]
struct Known {
    /// Of the account's count, what Redis has been told.
    told: u64,
    /// Places at work, as Redis was told last; `None`: never.
    told_places: Option<u32>,
    /// The turn at which it was last asked about.
    asked: Option<u64>,
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
    /// Places at work here, where they are bounded.
    places: Option<u32>,
}

/// What Redis says of one tenant.
struct Answer {
    ask: Ask,
    /// When it was asked.
    now: Clock,
    /// Statements, by slot.
    counts: Vec<Option<u64>>,
    /// What each sidecar said of its places.
    said: HashMap<String, String>,
}

pub(super) async fn run(limiter: Limiter, mut store: Store, engine: &'static str) {
    let mut known = HashMap::new();
    let mut turn = 0_u64;
    let here: Arc<str> = uuid::Uuid::new_v4().to_string().into();
    loop {
        turn = turn.wrapping_add(1);
        let at = Place { engine, here: &here };
        let pause = match round(&limiter, &mut store, at, &mut known, turn).await {
            Ok(()) => INTERVAL,
            Err(_told) => RETRY,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Who tells, and of what.
#[derive(Clone, Copy)]
struct Place<'p> {
    engine: &'static str,
    /// This sidecar's field: of this run, so that a crashed one's is another.
    here: &'p Arc<str>,
}

async fn round(
    limiter: &Limiter,
    store: &mut Store,
    place: Place<'_>,
    known: &mut HashMap<Arc<str>, Known>,
    turn: u64,
) -> Result<(), RedisError> {
    let used: HashMap<Arc<str>, Usage> = limiter.0.quotas.usage().into_iter().collect();
    known.retain(|tenant, _| used.contains_key(tenant));
    let mut asks = Vec::new();
    for (tenant, usage) in &used {
        let known = known.entry(Arc::clone(tenant)).or_default();
        // An account that was given up and opened again counts from nothing.
        known.told = known.told.min(usage.consumed);
        let fresh = usage.consumed.saturating_sub(known.told);
        let places = usage.at_work;
        let moved = places != known.told_places || usage.refused;
        let due = known.asked.is_none_or(|asked| turn.wrapping_sub(asked) >= QUIET_TURN);
        if fresh > 0 || moved || due {
            asks.push(Ask { tenant: Arc::clone(tenant), fresh, places });
        }
    }
    store
        .with(async |mut connection| {
            let (seconds, micros): (u64, u64) =
                redis::cmd("TIME").query_async(&mut connection).await?;
            let clock = Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros));
            let began = Clock { redis: clock, here: limiter.now() };
            let mut asks = asks.into_iter();
            let mut running = JoinSet::new();
            loop {
                while running.len() < AT_A_TIME
                    && let Some(ask) = asks.next()
                {
                    let here = Arc::clone(place.here);
                    // Of very many tenants the last are asked about some time after the first.
                    let now = began.at(limiter.now());
                    running.spawn(exchange(connection.clone(), ask, place.engine, here, now));
                }
                let Some(answered) = running.join_next().await else { return Ok(()) };
                let Ok(answered) = answered else { continue };
                let Answer { ask, now, counts, said } = answered?;
                let Some(known) = known.get_mut(&ask.tenant) else { continue };
                known.told = known.told.saturating_add(ask.fresh);
                known.told_places = ask.places;
                known.asked = Some(turn);
                for (slot, others) in known.learn(now.slot(), ask.fresh, &counts) {
                    limiter.0.quotas.charge(&ask.tenant, others, now.end_of(slot));
                }
                if ask.places.is_some() {
                    let elsewhere = elsewhere(&said, place.here, now.redis);
                    limiter.0.quotas.elsewhere(&ask.tenant, elsewhere, now.end_of_lease());
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
    /// The same clocks at a later moment here.
    const fn at(self, here: Moment) -> Self {
        let passed = Duration::from_nanos(here.0.saturating_sub(self.here.0));
        Self { redis: self.redis.saturating_add(passed), here }
    }

    const fn slot(self) -> u64 {
        self.redis.as_secs() / SLOT.as_secs()
    }

    /// Until when here what was said now counts.
    fn end_of_lease(self) -> Moment {
        let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.here.0.saturating_add(lease))
    }

    /// When a slot was over here; the present one counts as over now.
    fn end_of(self, slot: u64) -> Moment {
        let end = Duration::from_secs(slot.saturating_add(1).saturating_mul(SLOT.as_secs()));
        let ago = u64::try_from(self.redis.saturating_sub(end).as_nanos()).unwrap_or(u64::MAX);
        Moment(self.here.0.saturating_sub(ago))
    }
}

/// Tells what is fresh, and asks for the slots, oldest first, and the places. A tenant's keys lie on one
/// node.
async fn exchange(
    mut connection: Connection,
    ask: Ask,
    engine: &'static str,
    here: Arc<str>,
    now: Clock,
) -> Result<Answer, RedisError> {
    let key = |what: &str| format!("hedgerow:quota:{engine}:{{{}}}:{what}", ask.tenant);
    let present = now.slot();
    let mut pipe = redis::pipe();
    if ask.fresh > 0 {
        let slot = key(&present.to_string());
        pipe.incr(&slot, ask.fresh).ignore();
        pipe.expire(&slot, KEPT_SECONDS).ignore();
    }
    let work = key("work");
    match ask.places {
        None => {}
        Some(0) => {
            pipe.hdel(&work, &*here).ignore();
        }
        Some(places) => {
            pipe.hset(&work, &*here, said(places, now.redis)).ignore();
            pipe.expire(&work, KEPT_SECONDS).ignore();
        }
    }
    let keys: Vec<String> = slots(present).map(|slot| key(&slot.to_string())).collect();
    pipe.mget(keys).hgetall(&work);
    let (counts, said): (_, HashMap<String, String>) = pipe.query_async(&mut connection).await?;
    let gone: Vec<&String> =
        said.iter().filter(|(_, said)| is_gone(said, now.redis)).map(|(of, _)| of).collect();
    if !gone.is_empty() {
        let _: () = redis::cmd("HDEL").arg(&work).arg(gone).query_async(&mut connection).await?;
    }
    Ok(Answer { ask, now, counts, said })
}

/// What a sidecar says of its places: how many, and when in milliseconds since 1970.
fn said(places: u32, now: Duration) -> String {
    format!("{places} {}", now.as_millis())
}

/// How many places, and how long ago it was said. What cannot be read was said long ago.
fn heard(said: &str, now: Duration) -> (u32, Duration) {
    let read = || {
        let (places, at) = said.split_once(' ')?;
        Some((places.parse().ok()?, Duration::from_millis(at.parse().ok()?)))
    };
    read().map_or((0, Duration::MAX), |(places, at)| (places, now.saturating_sub(at)))
}

/// Whether a sidecar is gone for so long that its field can go. Far longer than [`LEASE`], so that none is
/// taken away that its sidecar says anew at this moment.
fn is_gone(said: &str, now: Duration) -> bool {
    heard(said, now).1.as_secs() >= KEPT_SECONDS.unsigned_abs()
}

/// The places that others have given out and told of within [`LEASE`].
fn elsewhere(said: &HashMap<String, String>, here: &str, now: Duration) -> u32 {
    let others = said.iter().filter(|(of, _)| of.as_str() != here);
    others
        .map(|(_, said)| heard(said, now))
        .filter(|(_, ago)| *ago < LEASE)
        .fold(0, |sum, (places, _)| sum.saturating_add(places))
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
    fn places_count_while_their_sidecar_tells_of_them() {
        let now = Duration::from_secs(1_000);
        let ago = |seconds| now.saturating_sub(Duration::from_secs(seconds));
        let fields = [
            ("here", said(7, now)),
            ("one", said(2, ago(1))),
            ("two", said(3, ago(7))),
            ("crashed", said(100, ago(8))),
            ("gone", said(100, ago(60))),
            // Another's clock is Redis's too; what seems to come is not older than now.
            ("ahead", said(1, now + Duration::from_secs(1))),
            ("strange", "many".to_owned()),
        ];
        let fields: HashMap<String, String> =
            fields.into_iter().map(|(of, said)| (of.to_owned(), said)).collect();
        assert_eq!(elsewhere(&fields, "here", now), 6);
        assert_eq!(elsewhere(&fields, "one", now), 11);
        let mut gone: Vec<&str> = fields
            .iter()
            .filter(|(_, said)| is_gone(said, now))
            .map(|(of, _)| of.as_str())
            .collect();
        gone.sort_unstable();
        assert_eq!(gone, ["gone", "strange"]);
    }

    #[test]
    fn a_slot_that_is_over_lies_in_the_past() {
        let clock = Clock { redis: Duration::from_millis(21_500), here: Moment(5_000_000_000) };
        assert_eq!(clock.slot(), 10);
        assert_eq!(clock.end_of(10), Moment(5_000_000_000), "not over yet");
        assert_eq!(clock.end_of(9), Moment(3_500_000_000));
        assert_eq!(clock.end_of(1), Moment(0));
        let later = clock.at(Moment(7_000_000_000));
        assert_eq!((later.slot(), later.redis), (11, Duration::from_millis(23_500)));
    }
}
