//! The agenda, and the plan for renewing many members by a few workers.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use alvys_auth_core::Timestamp;
use alvys_auth_driver::{Agenda, Member, Next, RenewalPlan, now};

const SECOND: Duration = Duration::from_secs(1);

/// A source that is due when it is told.
type Source = Mutex<Option<Timestamp>>;
type Plan = RenewalPlan<Source>;

fn due(at: Option<Timestamp>) -> Arc<Member<Source>> {
    Arc::new(Member::new(Mutex::new(at)))
}

fn next(plan: &Plan) -> Next<Arc<Member<Source>>> {
    plan.next(|source| *source.lock().unwrap())
}

fn idle<T>(next: Next<T>) -> Duration {
    match next {
        Next::Idle(wait) => wait,
        Next::Due(_) => panic!("nothing is due"),
    }
}

fn taken<T>(next: Next<T>) -> T {
    match next {
        Next::Due(item) => item,
        Next::Idle(wait) => panic!("nothing is due for {wait:?}"),
    }
}

fn plan() -> Plan {
    Plan::new(|| {})
}

/// A plan that counts how often it wakes the workers.
fn counting() -> (Plan, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let wake = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    (Plan::new(wake), woken)
}

/// Until new members, and those put back, are looked at.
fn soon() {
    thread::sleep(Duration::from_millis(1_020));
}

#[test]
fn what_is_due_is_taken_in_the_order_of_its_times() {
    let agenda = Agenda::new();
    let past = now();
    thread::sleep(Duration::from_millis(20));
    for (at, item) in [(3, 'd'), (1, 'b'), (0, 'a'), (1, 'c')] {
        agenda.add(past.saturating_add(Duration::from_millis(at)), item);
    }
    let order: String = (0..4).map(|_| taken(agenda.next())).collect();
    assert_eq!(order, "abcd", "and of equal ones the first that was put down");
    assert!(agenda.is_empty());
}

#[test]
fn what_is_not_due_is_left_where_it_is() {
    let agenda = Agenda::default();
    assert_eq!(idle(agenda.next()), 60 * SECOND, "nothing there");
    agenda.add(now().saturating_add(3_600 * SECOND), 'b');
    assert_eq!(idle(agenda.next()), 60 * SECOND, "clocks may jump in suspend");
    agenda.add(now().saturating_add(5 * SECOND), 'a');
    let wait = idle(agenda.next());
    assert!(wait <= 5 * SECOND && wait > 4 * SECOND, "{wait:?}");
    assert_eq!(agenda.len(), 2);
}

#[test]
fn sleepers_are_to_be_woken_for_what_comes_first_and_for_nothing_else() {
    let agenda = Agenda::new();
    let later = now().saturating_add(SECOND);
    assert!(agenda.add(later, 'b'));
    assert!(!agenda.add(later, 'c'));
    assert!(!agenda.add(later.saturating_add(SECOND), 'd'));
    assert!(agenda.add(now(), 'a'));
}

#[test]
fn what_is_not_worth_keeping_is_dropped() {
    let agenda = Agenda::new();
    for number in 0..10 {
        agenda.add(now(), number);
    }
    agenda.retain(|number| number % 5 == 0);
    assert_eq!(agenda.len(), 2);
    assert_eq!((taken(agenda.next()), taken(agenda.next())), (0, 5));
    assert_eq!(format!("{agenda:?}"), "Agenda { len: 0 }");
}

#[test]
fn a_member_that_nobody_has_used_since_its_renewal_is_left_alone() {
    let ((plan, woken), member) = (counting(), due(Some(now())));
    plan.add(&member);
    assert_eq!(woken.load(Ordering::SeqCst), 1, "a sleeping worker is to look at it");
    let wait = idle(next(&plan));
    assert!(wait <= SECOND, "a new member is looked at soon: {wait:?}");
    soon();
    plan.put_back(&taken(next(&plan)), true);
    assert!(idle(next(&plan)) <= SECOND);
    soon();
    let wait = idle(next(&plan));
    assert!(wait > 25 * SECOND && wait <= 30 * SECOND, "nobody has used it: {wait:?}");
    assert_eq!(plan.len(), 1);
}

#[test]
fn a_member_that_was_used_since_its_renewal_is_renewed_again() {
    let (plan, member) = (plan(), due(Some(now())));
    plan.add(&member);
    soon();
    let renewing = taken(next(&plan));
    member.touch();
    plan.put_back(&renewing, true);
    soon();
    taken(next(&plan));
}

#[test]
fn a_failure_does_not_end_the_renewals_of_a_member() {
    let (plan, member) = (plan(), due(Some(now())));
    plan.add(&member);
    for _ in 0..2 {
        soon();
        plan.put_back(&taken(next(&plan)), false);
    }
    assert_eq!(plan.len(), 1);
}

#[test]
fn a_member_is_looked_at_when_it_is_due_and_used_until_then() {
    let (plan, member) = (plan(), due(Some(now().saturating_add(2 * SECOND))));
    plan.add(&member);
    soon();
    let wait = idle(next(&plan));
    assert!(wait <= SECOND && wait > SECOND / 2, "{wait:?}");
    thread::sleep(wait);
    assert!(Arc::ptr_eq(&taken(next(&plan)), &member), "to look at it was no renewal");
    assert!(plan.is_empty(), "taken by one worker and by no other");
}

#[test]
fn a_member_without_a_token_waits_and_counts_as_used_still() {
    let (plan, member, other) = (plan(), due(None), due(Some(now())));
    plan.add(&member);
    plan.add(&other);
    soon();
    assert!(Arc::ptr_eq(&taken(next(&plan)), &other), "it holds nobody up");
    let wait = idle(next(&plan));
    assert!(wait > 25 * SECOND && wait <= 30 * SECOND, "{wait:?}");
    *member.source.lock().unwrap() = Some(now());
    // Planned anew, as if it were time.
    plan.add(&member);
    soon();
    taken(next(&plan));
}

#[test]
fn members_that_are_gone_drop_out_when_they_are_due() {
    let plan = plan();
    plan.add(&due(Some(now())));
    assert_eq!(plan.len(), 1);
    soon();
    assert_eq!(idle(next(&plan)), 60 * SECOND);
    assert!(plan.is_empty());
}

#[test]
fn members_that_come_and_go_do_not_pile_up() {
    let plan = plan();
    let staying: Vec<_> = (0..100).map(|_| due(Some(now()))).collect();
    for member in &staying {
        plan.add(member);
    }
    for _ in 0..10_000 {
        plan.add(&due(Some(now())));
    }
    let planned = plan.len();
    assert!((100..=300).contains(&planned), "{planned} planned for 100 members");
    soon();
    let renewed = staying.iter().filter(|_| matches!(next(&plan), Next::Due(_))).count();
    assert_eq!(renewed, 100, "and those that stay are all there");
}

#[test]
fn sleeping_workers_hear_of_a_member_that_comes_before_the_others_again() {
    let (plan, woken) = counting();
    let woken = move || woken.swap(0, Ordering::SeqCst);
    let (early, late) = (due(Some(now())), due(Some(now().saturating_add(60 * SECOND))));
    plan.add(&early);
    plan.add(&late);
    soon();
    woken();
    let early = taken(next(&plan));
    assert_eq!(woken(), 0, "taken, and nothing put down yet");
    assert!(idle(next(&plan)) > 50 * SECOND);
    assert_eq!(woken(), 1, "the late one has its time, which is the first now");
    plan.put_back(&early, true);
    assert_eq!(woken(), 1, "the one put back comes before it");
}

#[test]
fn a_member_that_somebody_has_met_goes_before_those_that_are_due_for_longer() {
    let plan = plan();
    let members = [due(Some(now())), due(Some(now())), due(Some(now()))];
    for member in &members {
        plan.add(member);
        thread::sleep(Duration::from_millis(5));
    }
    soon();
    plan.hurry(&members[2]);
    for expected in [2, 0, 1] {
        assert!(Arc::ptr_eq(&taken(next(&plan)), &members[expected]), "{expected}");
    }
}

#[test]
fn a_member_that_somebody_has_met_is_looked_at_at_once() {
    let ((plan, woken), member) = (counting(), due(None));
    plan.add(&member);
    soon();
    assert!(idle(next(&plan)) > 25 * SECOND, "it has no token yet");
    *member.source.lock().unwrap() = Some(now());
    let before = woken.load(Ordering::SeqCst);
    for _ in 0..1_000 {
        plan.hurry(&member);
    }
    assert_eq!((woken.load(Ordering::SeqCst) - before, plan.len()), (1, 2), "however many have met it");
    let renewing = taken(next(&plan));
    assert!(Arc::ptr_eq(&renewing, &member));
    plan.put_back(&renewing, true);
    soon();
    plan.hurry(&member);
    member.touch();
    taken(next(&plan));
    assert!(idle(next(&plan)) > SECOND, "and once for all that have met it");
}
