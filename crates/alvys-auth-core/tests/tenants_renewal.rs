//! The plan for renewing the tokens of many tenants: which is next, and which are left alone.

use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Due, Renewal, RenewalPlan, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn tenant(name: &str) -> Arc<str> {
    Arc::from(name)
}

/// A plan with tenants that were used and are due at these seconds.
fn plan(tenants: &[(&str, u64)]) -> RenewalPlan {
    let mut plan = RenewalPlan::new();
    for (name, due) in tenants {
        plan.used(&tenant(name), at(*due));
    }
    plan
}

fn taken(plan: &mut RenewalPlan, now: Timestamp) -> Renewal {
    match plan.due(now) {
        Due::Renew(renewal) => renewal,
        Due::Sleep(until) => panic!("nothing is due before {until:?}"),
    }
}

fn asleep(plan: &mut RenewalPlan, now: Timestamp) -> Timestamp {
    match plan.due(now) {
        Due::Sleep(until) => until,
        Due::Renew(renewal) => panic!("{} is due", renewal.tenant()),
    }
}

#[test]
fn tenants_are_renewed_in_the_order_of_their_times() {
    let mut plan = plan(&[("d", 40), ("b", 20), ("a", 10), ("c", 20)]);
    let order: String = (0..4).map(|_| taken(&mut plan, at(40)).tenant().to_string()).collect();
    assert_eq!(order, "abcd");
}

#[test]
fn a_tenant_is_not_taken_before_its_time_nor_twice() {
    let mut plan = plan(&[("a", 50)]);
    assert_eq!(asleep(&mut plan, at(10)), at(50));
    assert_eq!(asleep(&mut plan, Timestamp::from_millis(49_999)), at(50));
    let _renewal = taken(&mut plan, at(50));
    assert_eq!(asleep(&mut plan, at(50)), at(50).saturating_add(MINUTE), "taken by one worker and by no other");
}

#[test]
fn workers_look_at_the_clock_once_a_minute() {
    let mut plan = plan(&[("a", 10_000)]);
    assert_eq!(asleep(&mut plan, at(10)), at(70));
}

#[test]
fn a_tenant_that_nobody_has_used_since_its_renewal_leaves_the_plan() {
    let mut plan = plan(&[("a", 50)]);
    let renewal = taken(&mut plan, at(50));
    assert!(!plan.done(renewal, true, Some(at(100)), at(51)));
    assert!(plan.is_empty());
    assert!(plan.used(&tenant("a"), at(100)), "sleeping workers hear of it once somebody uses it");
    assert_eq!(taken(&mut plan, at(100)).tenant(), &tenant("a"));
}

#[test]
fn a_tenant_that_is_used_during_its_renewal_is_renewed_again() {
    let mut plan = plan(&[("a", 50)]);
    for report in [RenewalPlan::hurry, |plan: &mut _, tenant: &_| RenewalPlan::used(plan, tenant, at(50))] {
        let renewal = taken(&mut plan, at(100));
        assert!(!plan.knows("a"));
        assert!(!report(&mut plan, &tenant("a")));
        assert!(plan.knows("a"));
        assert_eq!(asleep(&mut plan, at(100)), at(160), "but not before the first renewal is over");
        plan.done(renewal, true, Some(at(100)), at(51));
    }
    assert_eq!(plan.len(), 1);
}

#[test]
fn however_often_a_tenant_is_used_it_has_one_entry() {
    let mut plan = RenewalPlan::new();
    assert!(!plan.knows("a"));
    for second in 0..1_000 {
        plan.used(&tenant("a"), at(50 + second));
        assert!(plan.knows("a"));
    }
    assert_eq!((plan.len(), asleep(&mut plan, at(0))), (1, at(50)));
}

#[test]
fn a_failure_does_not_end_the_renewals_of_a_tenant() {
    let mut plan = plan(&[("a", 50)]);
    for second in [50, 60, 70] {
        let renewal = taken(&mut plan, at(second));
        plan.done(renewal, false, Some(at(second + 10)), at(second));
    }
    assert_eq!(asleep(&mut plan, at(70)), at(80));
}

#[test]
fn a_tenant_that_always_fails_at_once_is_tried_once_a_second_at_most() {
    let mut plan = plan(&[("a", 50)]);
    let renewal = taken(&mut plan, at(50));
    plan.done(renewal, false, Some(at(50)), at(50));
    assert_eq!(asleep(&mut plan, at(50)), at(51));
}

#[test]
fn a_tenant_without_a_token_leaves_the_plan() {
    let mut plan = plan(&[("a", 50)]);
    let renewal = taken(&mut plan, at(50));
    plan.used(&tenant("a"), at(50));
    assert!(!plan.done(renewal, false, None, at(60)));
    assert!(plan.is_empty());
}

#[test]
fn sleeping_workers_are_woken_for_what_comes_first_and_for_nothing_else() {
    let mut plan = plan(&[("b", 50)]);
    assert!(!plan.used(&tenant("c"), at(50)));
    assert!(!plan.used(&tenant("d"), at(51)));
    assert!(plan.used(&tenant("a"), at(49)));
    let first = taken(&mut plan, at(49));
    assert!(!plan.done(first, false, Some(at(60)), at(49)));
    let second = taken(&mut plan, at(50));
    assert!(plan.done(second, false, Some(at(50)), at(48)), "it comes before the others again");
}

#[test]
fn a_tenant_that_somebody_asks_for_goes_before_those_that_are_due_for_longer() {
    let mut plan = plan(&[("a", 10), ("b", 20), ("c", 30)]);
    assert!(plan.hurry(&tenant("c")));
    assert!(!plan.hurry(&tenant("c")), "workers are woken once, however many ask for it");
    let order: String = (0..3).map(|_| taken(&mut plan, at(40)).tenant().to_string()).collect();
    assert_eq!(order, "cab");
}

#[test]
fn a_tenant_that_somebody_asks_for_is_due_at_once_even_if_the_plan_did_not_know_it() {
    let mut plan = RenewalPlan::new();
    assert!(plan.hurry(&tenant("a")));
    assert_eq!(taken(&mut plan, at(10)).tenant(), &tenant("a"));
}

#[test]
fn a_forgotten_tenant_is_not_renewed() {
    let mut plan = plan(&[("a", 10), ("b", 20)]);
    plan.forget(&tenant("a"));
    plan.forget(&tenant("unknown"));
    assert_eq!((asleep(&mut plan, at(15)), plan.len()), (at(20), 1));
}

#[test]
fn the_report_of_a_worker_says_nothing_about_a_tenant_that_was_forgotten_meanwhile() {
    let mut plan = plan(&[("a", 10)]);
    let before = taken(&mut plan, at(10));
    plan.forget(&tenant("a"));
    plan.used(&tenant("a"), at(20));
    let after = taken(&mut plan, at(20));
    assert!(!plan.done(before, false, Some(at(1)), at(20)));
    assert_eq!(asleep(&mut plan, at(20)), at(80), "another worker is at it");
    plan.done(after, false, Some(at(30)), at(20));
    assert_eq!(asleep(&mut plan, at(20)), at(30));
}

#[test]
fn debug_shows_how_many_there_are_and_not_who() {
    assert_eq!(format!("{:?}", plan(&[("va336", 10)])), "RenewalPlan { tenants: 1, .. }");
}
