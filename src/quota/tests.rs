//! Rules and tenants: which hold, what is shared, what is given up.

use super::*;

const SECOND: u64 = 1_000_000_000;
const ONE: Demand = Demand { statements: 1, place: true };

fn quota(tenant: Option<&str>, rate: Option<f64>, concurrent: Option<u32>) -> Quota {
    Quota {
        tenant: tenant.map(str::to_owned),
        statements_per_second: rate,
        burst: None,
        concurrent,
        mode: Mode::Enforce,
    }
}

fn rules(quotas: &[Quota]) -> Rules<'_> {
    Rules { epoch: PolicyEpoch(1), quotas }
}

fn passes(quotas: &Quotas, rules: Rules<'_>, tenant: &str, tries: usize, now: u64) -> usize {
    (0..tries).filter(|_| quotas.admit(rules, tenant, ONE, Moment(now)).is_ok()).count()
}

#[test]
fn every_rule_that_names_the_tenant_holds_and_each_tenant_has_its_own_bucket() {
    let list = [quota(None, Some(20.0), None), quota(Some("free-*"), Some(5.0), None)];
    let quotas = Quotas::default();
    assert_eq!(passes(&quotas, rules(&list), "free-1", 50, 0), 5);
    assert_eq!(passes(&quotas, rules(&list), "free-2", 50, 0), 5);
    assert_eq!(passes(&quotas, rules(&list), "paying", 50, 0), 20);
    // What the narrow rule refused was not taken from the wide one.
    let wide = Rules { epoch: PolicyEpoch(2), quotas: &list[..1] };
    assert_eq!(passes(&quotas, wide, "free-1", 50, 0), 15);
}

#[test]
fn a_place_is_given_up_when_it_is_dropped() {
    let list = [quota(None, None, Some(2))];
    let quotas = Quotas::default();
    let admit = || quotas.admit(rules(&list), "a", ONE, Moment(0));
    let first = admit().unwrap();
    let _second = admit().unwrap();
    assert_eq!(admit().unwrap_err().code, DenialCode::QuotaConcurrent);
    let held = Demand { statements: 1, place: false };
    assert!(quotas.admit(rules(&list), "a", held, Moment(0)).is_ok(), "who has a place goes on");
    assert!(quotas.admit(rules(&list), "b", ONE, Moment(0)).is_ok(), "others have their own");
    drop(first);
    assert!(admit().is_ok());
}

#[test]
fn a_refusal_takes_nothing() {
    let list = [quota(None, Some(3.0), Some(1))];
    let quotas = Quotas::default();
    let held = quotas.admit(rules(&list), "a", ONE, Moment(0)).unwrap();
    for _ in 0..10 {
        assert!(quotas.admit(rules(&list), "a", ONE, Moment(0)).is_err());
    }
    drop(held);
    assert_eq!(passes(&quotas, rules(&list), "a", 10, 0), 2);
}

#[test]
fn what_is_only_monitored_is_let_through_and_told() {
    let list = [Quota { mode: Mode::Monitor, ..quota(None, Some(1.0), Some(1)) }];
    let quotas = Quotas::default();
    let first = quotas.admit(rules(&list), "a", ONE, Moment(0)).unwrap();
    assert!(first.would_deny.is_none());
    let second = quotas.admit(rules(&list), "a", ONE, Moment(0)).unwrap();
    assert_eq!(second.would_deny.unwrap().code, DenialCode::QuotaConcurrent);
    drop((first, second.place));
    let third = quotas.admit(rules(&list), "a", ONE, Moment(0)).unwrap();
    assert_eq!(third.would_deny.unwrap().code, DenialCode::Quota);
}

#[test]
fn a_reload_keeps_the_buckets_of_rates_that_stay() {
    let list = [quota(None, Some(4.0), None)];
    let quotas = Quotas::default();
    assert_eq!(passes(&quotas, rules(&list), "a", 10, 0), 4);
    let same = Rules { epoch: PolicyEpoch(2), quotas: &list };
    assert_eq!(passes(&quotas, same, "a", 10, 0), 0);
    let wider = [quota(None, Some(6.0), None)];
    assert_eq!(passes(&quotas, Rules { epoch: PolicyEpoch(3), quotas: &wider }, "a", 10, 0), 6);
}

#[test]
fn what_others_let_through_counts_here() {
    let list = [quota(None, Some(10.0), None)];
    let quotas = Quotas::default();
    assert_eq!(passes(&quotas, rules(&list), "a", 3, 0), 3);
    let usage = Usage { consumed: 3, at_work: None, refused: false };
    assert_eq!(quotas.usage(), [("a".into(), usage)]);
    quotas.charge("a", 5, Moment(0));
    assert_eq!(passes(&quotas, rules(&list), "a", 10, 0), 2);
    quotas.charge("unknown", 5, Moment(0));
    assert_eq!(quotas.tenants(), 1);
}

#[test]
fn places_at_work_elsewhere_count_here_until_their_time_is_over() {
    let list = [quota(None, None, Some(5))];
    let quotas = Quotas::default();
    let admit = |now| quotas.admit(rules(&list), "a", ONE, Moment(now));
    let first = admit(0).unwrap();
    quotas.elsewhere("a", 3, Moment(8 * SECOND));
    let _second = admit(SECOND).unwrap();
    assert_eq!(admit(SECOND).unwrap_err().code, DenialCode::QuotaConcurrent);
    let told = |refused| {
        let usage = quotas.usage();
        assert_eq!(usage, [("a".into(), Usage { consumed: 2, at_work: Some(2), refused })]);
    };
    told(true);
    told(false);
    quotas.elsewhere("a", 4, Moment(8 * SECOND));
    drop(first);
    assert!(admit(7 * SECOND).is_err(), "one here, four elsewhere");
    let freed = admit(8 * SECOND);
    assert!(freed.is_ok(), "nobody told anything for so long: they are gone");
    quotas.elsewhere("unknown", 4, Moment(8 * SECOND));
    assert_eq!(quotas.tenants(), 1);
}

#[test]
fn a_place_that_is_missing_here_is_not_held_against_the_others() {
    let list = [quota(None, None, Some(1))];
    let quotas = Quotas::default();
    let _held = quotas.admit(rules(&list), "a", ONE, Moment(0)).unwrap();
    assert!(quotas.admit(rules(&list), "a", ONE, Moment(0)).is_err());
    assert!(!quotas.usage()[0].1.refused);
}

#[test]
fn an_account_is_given_up_only_when_nothing_is_left_to_remember() {
    let list = [quota(None, Some(0.01), Some(5))];
    let quotas = Quotas::default();
    let place = quotas.admit(rules(&list), "held", ONE, Moment(0)).unwrap();
    assert_eq!(passes(&quotas, rules(&list), "spent", 1, 0), 1);
    quotas.sweep(Moment(70 * SECOND));
    assert_eq!(quotas.tenants(), 2, "the bucket of a hundred seconds is not empty");
    quotas.sweep(Moment(101 * SECOND));
    assert_eq!(quotas.tenants(), 1, "a place is held");
    drop(place);
    quotas.sweep(Moment(101 * SECOND));
    assert_eq!(quotas.tenants(), 0);
    let fast = [quota(None, Some(1000.0), None)];
    assert_eq!(passes(&quotas, rules(&fast), "recent", 1, 200 * SECOND), 1);
    quotas.sweep(Moment(259 * SECOND));
    assert_eq!(quotas.tenants(), 1, "others' news of it would be lost");
}

#[test]
fn threads_never_take_more_than_there_is() {
    let list = [quota(None, Some(500.0), Some(3))];
    let quotas = Quotas::default();
    let passed = AtomicUsize::new(0);
    let most = AtomicU32::new(0);
    let at_work = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    if let Ok(admitted) = quotas.admit(rules(&list), "a", ONE, Moment(0)) {
                        let now = at_work.fetch_add(1, Ordering::AcqRel) + 1;
                        most.fetch_max(now, Ordering::AcqRel);
                        passed.fetch_add(1, Ordering::AcqRel);
                        at_work.fetch_sub(1, Ordering::AcqRel);
                        drop(admitted);
                    }
                    quotas.sweep(Moment(0));
                }
            });
        }
    });
    assert_eq!(passed.load(Ordering::Acquire), 500);
    assert!(most.load(Ordering::Acquire) <= 3);
}
