//! One rate: a leaky bucket as one number, the generic cell rate algorithm (ITU-T I.371). Layer 1;
//! pure arithmetic.

use std::time::Duration;

/// How far a bucket may be in debt beyond its size, for what other sidecars of the tenant used. What
/// is over is forgotten, so that a tenant is never shut out for longer.
const MAX_DEBT_NANOS: u64 = Duration::from_secs(10).as_nanos() as u64;
const NANOS_PER_SECOND: f64 = 1e9;

/// A point in time: nanoseconds since a start that the caller chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment at which so much has passed since the start.
    pub fn since_start(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) const fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

/// How fast, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Nanoseconds that one statement takes to be made up for.
    increment: u64,
    /// The bucket's size, in nanoseconds.
    capacity: u64,
}

impl Rate {
    /// Without a burst, the bucket holds what the rate gives in a second, and at least one.
    pub(super) fn new(per_second: f64, burst: Option<u32>) -> Self {
        // Bounded: casts from floats saturate. A rate over 10^9 counts as that.
        let increment = ((NANOS_PER_SECOND / per_second) as u64).max(1);
        let burst =
            burst.map_or((per_second.ceil() as u64).max(1), |burst| u64::from(burst.max(1)));
        Self { increment, capacity: increment.saturating_mul(burst) }
    }
}

/// A bucket, and the moment at which it will have leaked out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub(super) rate: Rate,
    empty_at: Moment,
}

impl Bucket {
    pub(super) const fn new(rate: Rate) -> Self {
        Self { rate, empty_at: Moment(0) }
    }

    /// Whether there is room for so many statements. More than the bucket holds fit into an empty
    /// one: they are made up for afterwards.
    pub(super) fn has_room(&self, statements: u64, now: Moment) -> bool {
        let wanted = self.rate.increment.saturating_mul(statements).min(self.rate.capacity);
        self.empty_at.max(now).plus(wanted) <= now.plus(self.rate.capacity)
    }

    /// Takes up statements that were let through.
    pub(super) fn fill(&mut self, statements: u64, now: Moment) {
        let filled = self.rate.increment.saturating_mul(statements);
        self.empty_at = self.empty_at.max(now).plus(filled);
    }

    /// Takes up statements that others let through.
    pub(super) fn owe(&mut self, statements: u64, now: Moment) {
        self.fill(statements, now);
        let most = now.plus(self.rate.capacity.saturating_add(MAX_DEBT_NANOS));
        self.empty_at = self.empty_at.min(most);
    }

    /// Whether it holds nothing: it is as good as a new one.
    pub(super) fn is_empty(&self, now: Moment) -> bool {
        self.empty_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn take(bucket: &mut Bucket, statements: u64, now: u64) -> bool {
        let room = bucket.has_room(statements, Moment(now));
        if room {
            bucket.fill(statements, Moment(now));
        }
        room
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let mut bucket = Bucket::new(Rate::new(10.0, Some(3)));
        let passed: Vec<bool> = (0..5).map(|_| take(&mut bucket, 1, SECOND)).collect();
        assert_eq!(passed, [true, true, true, false, false]);
        assert!(!take(&mut bucket, 1, SECOND + SECOND / 10 - 1));
        assert!(take(&mut bucket, 1, SECOND + SECOND / 10));
        assert!(!take(&mut bucket, 1, SECOND + SECOND / 10));
    }

    #[test]
    fn without_a_burst_a_seconds_worth_passes_at_once() {
        let mut bucket = Bucket::new(Rate::new(2.5, None));
        let passed = (0..10).filter(|_| take(&mut bucket, 1, SECOND)).count();
        assert_eq!(passed, 3);
        let mut slow = Bucket::new(Rate::new(0.1, None));
        assert!(take(&mut slow, 1, 0) && !take(&mut slow, 1, 9 * SECOND));
        assert!(take(&mut slow, 1, 10 * SECOND));
    }

    #[test]
    fn more_than_the_bucket_holds_passes_when_it_is_empty_and_is_made_up_for() {
        let mut bucket = Bucket::new(Rate::new(1.0, Some(2)));
        assert!(take(&mut bucket, 5, 0));
        assert!(!take(&mut bucket, 1, 3 * SECOND));
        assert!(take(&mut bucket, 1, 4 * SECOND));
    }

    #[test]
    fn what_others_used_is_owed_up_to_a_bound() {
        let mut bucket = Bucket::new(Rate::new(1.0, Some(1)));
        bucket.owe(1_000_000, Moment(0));
        assert!(!take(&mut bucket, 1, 10 * SECOND));
        assert!(take(&mut bucket, 1, 11 * SECOND));
    }

    proptest! {
        /// Over any time, no more passes than the burst and what the rate gives.
        #[test]
        fn a_bucket_never_lets_more_through_than_burst_and_rate(
            rate in 1_u32..1000,
            burst in 1_u32..100,
            steps in prop::collection::vec((0_u64..200_000_000, 1_u64..4), 1..200),
        ) {
            let mut bucket = Bucket::new(Rate::new(f64::from(rate), Some(burst)));
            let (mut now, mut passed) = (0, 0);
            for (pause, statements) in steps {
                now += pause;
                if take(&mut bucket, statements, now) {
                    passed += statements;
                }
            }
            // What is over the bucket's size is let through once at most: three statements here.
            let bound = f64::from(burst) + 3.0 + f64::from(rate) * now as f64 / 1e9 * 1.000_001;
            prop_assert!(passed as f64 <= bound + 1.0, "{passed} of {bound}");
        }
    }
}
