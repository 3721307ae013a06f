//! Renewal of many tenants' tokens in the background: the same scenarios against both drivers, on a clock that stands still
//! until it is moved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use alvys_auth_driver::ManualClock;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::many::{Async, Blocking, CHANGES, Directory, Many, Wanted, knowing};
use alvys_auth_tests::{both_drivers, eventually};

both_drivers![
    used_tenants_are_renewed_in_the_background_and_others_left_alone,
    a_token_that_was_fetched_through_its_source_is_renewed_in_the_background,
    a_failure_does_not_end_background_renewal,
    without_background_renewal_nothing_is_asked_for,
    background_renewal_stays_within_its_concurrency,
    callers_that_keep_asking_leave_renewal_to_the_workers,
    a_tenant_first_used_again_near_its_end_is_renewed_at_once,
    what_the_workers_cannot_renew_is_renewed_by_who_asks_before_it_expires,
    a_removed_tenant_is_forgotten_when_its_renewal_is_due,
    a_tenant_that_hangs_does_not_stall_the_renewal_of_others,
    a_store_that_is_away_does_not_stall_the_renewal_of_others,
    a_provider_that_panics_does_not_end_background_renewal,
];

/// Tokens of this lifetime are due for renewal after 16 to 18 seconds.
const LIFETIME: Duration = Duration::from_secs(20);
/// When they all are. Callers leave that to the workers until 19 seconds.
const DUE: Duration = Duration::from_secs(18);

/// Tenants with so many workers, and the clock that they live by.
fn renewed<M: Many>(workers: usize, sandbox: &Sandbox, directory: &Directory) -> (Arc<ManualClock>, M) {
    sandbox.set_lifetime(LIFETIME);
    let clock = Arc::new(ManualClock::new());
    let tenants = M::build(Wanted { workers, ..Wanted::on(&clock) }, directory);
    (clock, tenants)
}

/// Waits for the workers to look, in case they do something that they should not.
fn let_the_workers_look<M: Many>(clock: &ManualClock, tenants: &M, other: &str, sandbox: &Sandbox) {
    // They renew the other tenant, which they come to later.
    let issued = sandbox.tokens_issued();
    clock.advance(Duration::from_millis(1));
    tenants.token(other).expect("a token");
    eventually("the other tenant has a token", || sandbox.tokens_issued() > issued);
}

fn used_tenants_are_renewed_in_the_background_and_others_left_alone<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222", "zz999"]);
    let (clock, tenants) = renewed::<M>(1, &sandbox, &directory);
    let old = tenants.token("aa111").expect("a token");
    tenants.token("bb222").expect("a token");
    clock.advance(DUE);
    eventually("both are renewed, because both were used", || sandbox.tokens_issued() == 4);
    eventually("the token is there before anybody asks", || {
        tenants.with_token("aa111", |token| token.header() != old.header()) == Some(true)
    });
    clock.advance(DUE);
    eventually("the one that was used since is renewed", || {
        // The worker may hear of the token after the others, and then comes again a second later.
        clock.advance(Duration::from_millis(10));
        sandbox.tokens_issued() == 5
    });
    let_the_workers_look(&clock, &tenants, "zz999", &sandbox);
    clock.advance(LIFETIME - DUE);
    assert_eq!(sandbox.tokens_issued(), 6, "only the one that was used since");
    assert!(tenants.holds("aa111"));
    assert!(!tenants.holds("bb222"), "its token has run out");
    tenants.token("bb222").expect("a token for the one who asks again");
}

fn a_token_that_was_fetched_through_its_source_is_renewed_in_the_background<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let (clock, tenants) = renewed::<M>(1, &sandbox, &directory);
    tenants.token_of_source("aa111").expect("a token");
    clock.advance(DUE);
    eventually("it is renewed", || sandbox.tokens_issued() == 2);
}

fn a_failure_does_not_end_background_renewal<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let (clock, tenants) = renewed::<M>(1, &sandbox, &directory);
    sandbox.set_lifetime(Duration::from_secs(10_000));
    tenants.token("aa111").expect("a token");
    sandbox.inject(Route::Token, Fault::status(503).times(3));
    // Due after 9,700 to 9,850 seconds; a pause is a minute long at the most.
    clock.advance(Duration::from_secs(9_850));
    eventually("it is renewed after three failures", || {
        clock.advance(Duration::from_secs(1));
        sandbox.tokens_issued() == 2
    });
    assert_eq!(sandbox.token_requests(), 5);
    assert!(tenants.holds("aa111"));
}

fn without_background_renewal_nothing_is_asked_for<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "zz999"]);
    let (clock, tenants) = renewed::<M>(0, &sandbox, &directory);
    tenants.token("aa111").expect("a token");
    clock.advance(DUE);
    let_the_workers_look(&clock, &tenants, "zz999", &sandbox);
    assert_eq!(sandbox.token_requests(), 2);
}

fn background_renewal_stays_within_its_concurrency<M: Many>() {
    const LIMIT: usize = 3;
    const LATENCY: Duration = Duration::from_millis(100);
    let names: Vec<String> = (0..30).map(|number| format!("aa{number}")).collect();
    let (sandbox, directory) = knowing(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (clock, tenants) = renewed::<M>(LIMIT, &sandbox, &directory);
    for name in &names {
        tenants.token(name).expect("a token");
    }
    sandbox.clear_log();
    sandbox.inject(Route::Token, Fault::late(LATENCY));
    clock.advance(DUE);
    eventually("all are renewed", || sandbox.tokens_issued() == names.len());
    // Each of them takes the latency at least, so one more than the limit within it would be one too many at once.
    let times: Vec<Duration> = sandbox.requests().iter().map(|request| request.at()).collect();
    let at_once = times.windows(LIMIT + 1).filter(|window| window[LIMIT] - window[0] < LATENCY).count();
    assert_eq!(at_once, 0, "{times:?}");
    let together = times.windows(LIMIT).filter(|window| window[LIMIT - 1] - window[0] < LATENCY).count();
    assert!(together > 0, "never {LIMIT} at once: {times:?}");
}

fn callers_that_keep_asking_leave_renewal_to_the_workers<M: Many>() {
    const LATENCY: Duration = Duration::from_millis(100);
    let names: Vec<String> = (0..10).map(|number| format!("aa{number}")).collect();
    let (sandbox, directory) = knowing(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (clock, tenants) = renewed::<M>(2, &sandbox, &directory);
    for name in &names {
        tenants.token(name).expect("a token");
    }
    sandbox.clear_log();
    sandbox.inject(Route::Token, Fault::late(LATENCY));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    for name in &names {
                        assert!(tenants.holds(name), "somebody would have to wait for {name}");
                        tenants.token(name).expect("a token");
                        tenants.token_of_source(name).expect("a token");
                    }
                }
            });
        }
        clock.advance(DUE);
        eventually("all are renewed", || sandbox.tokens_issued() == names.len());
        over.store(true, Ordering::SeqCst);
    });
    let times: Vec<Duration> = sandbox.requests().iter().map(|request| request.at()).collect();
    assert_eq!(times.len(), names.len(), "each was renewed once");
    let at_once = times.windows(3).filter(|window| window[2] - window[0] < LATENCY).count();
    assert_eq!(at_once, 0, "by two workers: {times:?}");
}

fn a_tenant_first_used_again_near_its_end_is_renewed_at_once<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "zz999"]);
    sandbox.set_lifetime(LIFETIME);
    let (clock, changes) = (Arc::new(ManualClock::new()), Arc::new(Mutex::new(Vec::new())));
    let wanted = Wanted { workers: 1, changes: Some(Arc::clone(&changes)), ..Wanted::on(&clock) };
    let tenants = M::build(wanted, &directory);
    tenants.token("aa111").expect("a token");
    clock.advance(DUE);
    // The time must not go on before the token is there: that would count against its lifetime.
    let renewed = || changes.lock().expect("no panic").iter().any(|change| change == "renewed aa111");
    eventually("it is renewed, because it was used", renewed);
    clock.advance(DUE);
    let_the_workers_look(&clock, &tenants, "zz999", &sandbox);
    assert_eq!(sandbox.tokens_issued(), 3, "nobody has used it since");
    tenants.token("aa111").expect("the token that is there");
    eventually("it is renewed", || sandbox.tokens_issued() == 4);
}

fn what_the_workers_cannot_renew_is_renewed_by_who_asks_before_it_expires<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let hanging = Sandbox::start().expect("another sandbox");
    directory.add(&hanging, "dd444");
    let (clock, tenants) = renewed::<M>(1, &sandbox, &directory);
    hanging.set_lifetime(Duration::from_secs(5));
    tenants.token("dd444").expect("a token");
    tenants.token("aa111").expect("a token");
    hanging.inject(Route::Token, Fault::hang());
    clock.advance(Duration::from_millis(4_500));
    eventually("the one worker hangs", || hanging.token_requests() == 2);
    clock.advance(DUE - Duration::from_millis(4_500));
    tenants.token("aa111").expect("the token that is held, and left to the worker");
    // From the last quarter of the time between renewal and end on, callers do not rely on the workers.
    clock.advance(Duration::from_millis(1_900));
    eventually("a caller renews it", || {
        tenants.token("aa111").expect("a token, which nobody has to wait for");
        sandbox.tokens_issued() == 2
    });
}

fn a_removed_tenant_is_forgotten_when_its_renewal_is_due<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    let (clock, tenants) = renewed::<M>(1, &sandbox, &directory);
    tenants.token(CHANGES).expect("a token");
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    clock.advance(DUE);
    eventually("it is forgotten, before its token has run out", || tenants.count() == 0);
    assert!(!tenants.holds(CHANGES));
    assert_eq!(sandbox.token_requests(), 1);
}

fn a_tenant_that_hangs_does_not_stall_the_renewal_of_others<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222", "cc333"]);
    let hanging = Sandbox::start().expect("another sandbox");
    directory.add(&hanging, "dd444");
    let (clock, tenants) = renewed::<M>(2, &sandbox, &directory);
    hanging.set_lifetime(LIFETIME);
    for tenant in ["dd444", "aa111", "bb222", "cc333"] {
        tenants.token(tenant).expect("a token");
    }
    hanging.inject(Route::Token, Fault::hang());
    clock.advance(DUE);
    eventually("its renewal was begun", || hanging.token_requests() == 2);
    eventually("the others are renewed", || sandbox.tokens_issued() == 6);
}

fn a_store_that_is_away_does_not_stall_the_renewal_of_others<M: Many>() {
    let names = ["aa111", "bb222", "cc333"];
    let (sandbox, directory) = knowing(&names);
    sandbox.set_lifetime(LIFETIME);
    let clock = Arc::new(ManualClock::new());
    let tenants = M::build(Wanted { workers: 1, without_its_store: true, ..Wanted::on(&clock) }, &directory);
    for tenant in names {
        tenants.token(tenant).expect("a token");
    }
    clock.advance(DUE);
    // The store is to be offered each new token once it is back, which is after a pause on a clock that stands still.
    eventually("one worker renews all of them", || sandbox.tokens_issued() == 6);
}

fn a_provider_that_panics_does_not_end_background_renewal<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES, "bb222"]);
    let (clock, tenants) = renewed::<M>(1, &sandbox, &directory);
    tenants.token(CHANGES).expect("a token");
    // Falls due later than the other one, whatever the jitter makes of the two.
    let later = Duration::from_millis(2_500);
    clock.advance(later);
    tenants.token("bb222").expect("a token");
    directory.set(CHANGES, || panic!("on purpose: the provider panics"));
    directory.changed();
    let old = tenants.with_token("bb222", |token| token.header().clone()).expect("its token");
    clock.advance(DUE - later);
    eventually("the provider has panicked", || directory.asked(CHANGES) == 2);
    clock.advance(later);
    eventually("the renewal of the other goes on", || {
        tenants.with_token("bb222", |token| *token.header() != old) == Some(true)
    });
}
