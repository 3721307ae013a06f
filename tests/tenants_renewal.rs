//! Renewal of many tenants' tokens in the background: the same scenarios against both drivers.

use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::Policy;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::many::{Async, Blocking, CHANGES, Many, Wanted, knowing};
use alvys_auth_tests::{both_drivers_at_once, eventually};

both_drivers_at_once![
    used_tenants_are_renewed_in_the_background_and_others_left_alone,
    without_background_renewal_nothing_is_asked_for,
    background_renewal_stays_within_its_concurrency,
    callers_that_keep_asking_leave_renewal_to_the_workers,
    a_tenant_first_used_again_near_its_end_is_renewed_at_once,
    what_the_workers_cannot_renew_is_renewed_by_who_asks_before_it_expires,
    a_removed_tenant_is_forgotten_when_its_renewal_is_due,
    a_tenant_that_hangs_does_not_stall_the_renewal_of_others,
    a_provider_that_panics_does_not_end_background_renewal,
];

/// Tokens of this lifetime are due for renewal after 16 to 18 seconds, and a busy machine has two more for it.
const SHORT: Duration = Duration::from_secs(20);
/// When they all are.
const DUE: Duration = Duration::from_millis(18_100);

fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn used_tenants_are_renewed_in_the_background_and_others_left_alone<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    sandbox.set_lifetime(SHORT);
    let tenants = M::build(Wanted { workers: 1, ..Wanted::default() }, &directory);
    let old = tenants.token("aa111").expect("a token");
    tenants.token("bb222").expect("a token");
    let began = Instant::now();
    eventually("both are renewed, because both were used", || sandbox.tokens_issued() == 4);
    assert!(began.elapsed() < SHORT, "renewed only after {:?}", began.elapsed());
    let renewed = Instant::now();
    eventually("the token is there before anybody asks", || {
        tenants.with_token("aa111", |token| token.header() != old.header()) == Some(true)
    });
    eventually("only the one that was used since is renewed", || sandbox.tokens_issued() == 5);
    assert!(renewed.elapsed() < SHORT, "renewed only after {:?}", renewed.elapsed());
    sleep_until(renewed + SHORT);
    assert!(tenants.holds("aa111"));
    assert!(!tenants.holds("bb222"), "its token has run out");
    assert_eq!(sandbox.tokens_issued(), 5);
    tenants.token("bb222").expect("a token for the one who asks again");
}

fn without_background_renewal_nothing_is_asked_for<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    sandbox.set_lifetime(Duration::from_secs(2));
    let tenants = M::new(&directory);
    tenants.token("aa111").expect("a token");
    thread::sleep(Duration::from_millis(2_200));
    assert_eq!(sandbox.token_requests(), 1);
}

fn background_renewal_stays_within_its_concurrency<M: Many>() {
    const LIMIT: usize = 3;
    const LATENCY: Duration = Duration::from_millis(150);
    // Due between 32 and 36 seconds, which is enough for three at once most of the time.
    let lifetime = 2 * SHORT;
    let names: Vec<String> = (0..60).map(|number| format!("aa{number}")).collect();
    let (sandbox, directory) = knowing(&names.iter().map(String::as_str).collect::<Vec<_>>());
    sandbox.set_lifetime(lifetime);
    let tenants = M::build(Wanted { workers: LIMIT, ..Wanted::default() }, &directory);
    for name in &names {
        tenants.token(name).expect("a token");
    }
    let last = Instant::now();
    sandbox.clear_log();
    sandbox.inject(Route::Token, Fault::late(LATENCY));
    sleep_until(last + 2 * DUE);
    eventually("all are renewed", || sandbox.tokens_issued() == names.len());
    assert!(last.elapsed() < lifetime, "a stall: renewed only after {:?}", last.elapsed());
    // Each of them takes the latency at least, so one more than the limit within it would be one too many at once.
    let times: Vec<Duration> = sandbox.requests().iter().map(|request| request.at()).collect();
    let at_once = times.windows(LIMIT + 1).filter(|window| window[LIMIT] - window[0] < LATENCY).count();
    assert_eq!(at_once, 0, "{times:?}");
    let together = times.windows(LIMIT).filter(|window| window[LIMIT - 1] - window[0] < LATENCY).count();
    assert!(together > 0, "as many at once as may be: {times:?}");
}

/// How many of these intervals of `length` overlap at most.
fn most_at_once(begins: &[Duration], length: Duration) -> usize {
    let during =
        |moment: Duration| begins.iter().filter(|begin| **begin <= moment && moment < **begin + length).count();
    begins.iter().map(|begin| during(*begin)).max().unwrap_or_default()
}

fn callers_that_keep_asking_leave_renewal_to_the_workers<M: Many>() {
    const LATENCY: Duration = Duration::from_millis(50);
    let names: Vec<String> = (0..20).map(|number| format!("aa{number}")).collect();
    let (sandbox, directory) = knowing(&names.iter().map(String::as_str).collect::<Vec<_>>());
    // Renewal is due after 24 to 27 seconds, and takes the two workers half a second; callers see to it themselves from
    // 28.5 seconds on.
    let lifetime = Duration::from_secs(30);
    sandbox.set_lifetime(lifetime);
    let tenants = M::build(Wanted { workers: 2, ..Wanted::default() }, &directory);
    let first = Instant::now();
    for name in &names {
        tenants.token(name).expect("a token");
    }
    let last = Instant::now();
    sandbox.clear_log();
    sandbox.inject(Route::Token, Fault::late(LATENCY));
    sleep_until(first + Duration::from_secs(23));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while last.elapsed() < lifetime + Duration::from_secs(1) {
                    for name in &names {
                        assert!(tenants.holds(name), "somebody would have to wait for {name}");
                        tenants.token(name).expect("a token");
                        tenants.token_of_source(name).expect("a token");
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
    let times: Vec<Duration> = sandbox.requests().iter().map(|request| request.at()).collect();
    assert_eq!(times.len(), names.len(), "each was renewed once");
    assert!(most_at_once(&times, LATENCY) <= 2, "{times:?}");
}

fn a_tenant_first_used_again_near_its_end_is_renewed_at_once<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    sandbox.set_lifetime(SHORT);
    let tenants = M::build(Wanted { workers: 1, ..Wanted::default() }, &directory);
    tenants.token("aa111").expect("a token");
    eventually("it is renewed, because it was used", || sandbox.tokens_issued() == 2);
    let began = Instant::now();
    // Once it is due, the worker finds that nobody has used it since, and looks again only after half a minute.
    sleep_until(began + DUE);
    assert_eq!(sandbox.tokens_issued(), 2);
    tenants.token("aa111").expect("the token that is there");
    eventually("it is renewed", || sandbox.tokens_issued() == 3);
    assert!(began.elapsed() < SHORT, "renewed only after {:?}", began.elapsed());
}

fn what_the_workers_cannot_renew_is_renewed_by_who_asks_before_it_expires<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let hanging = Sandbox::start().expect("another sandbox");
    directory.add(&hanging, "dd444");
    hanging.set_lifetime(Duration::from_secs(6));
    let policy = Policy::new().request_timeout(Duration::from_secs(60));
    let tenants = M::build(Wanted { policy, workers: 1, ..Wanted::default() }, &directory);
    tenants.token("dd444").expect("a token");
    hanging.inject(Route::Token, Fault::hang());
    eventually("the one worker hangs", || hanging.token_requests() == 2);
    // Callers see to the renewal themselves after 38 to 39 seconds.
    let lifetime = Duration::from_secs(40);
    sandbox.set_lifetime(lifetime);
    let began = Instant::now();
    tenants.token("aa111").expect("a token, which nobody has to wait for");
    while sandbox.tokens_issued() == 1 {
        assert!(began.elapsed() < lifetime, "it has expired");
        tenants.token("aa111").expect("a token");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(began.elapsed() > lifetime.mul_f64(0.8), "before it was due");
}

fn a_removed_tenant_is_forgotten_when_its_renewal_is_due<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES]);
    sandbox.set_lifetime(SHORT);
    let tenants = M::build(Wanted { workers: 1, ..Wanted::default() }, &directory);
    let began = Instant::now();
    tenants.token(CHANGES).expect("a token");
    directory.set(CHANGES, || Ok(None));
    directory.changed();
    eventually("it is forgotten", || tenants.count() == 0);
    assert!(began.elapsed() < SHORT && !tenants.holds(CHANGES), "its token has run out: {:?}", began.elapsed());
    assert_eq!(sandbox.token_requests(), 1);
}

fn a_tenant_that_hangs_does_not_stall_the_renewal_of_others<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222", "cc333"]);
    let hanging = Sandbox::start().expect("another sandbox");
    directory.add(&hanging, "dd444");
    for sandbox in [&sandbox, &hanging] {
        sandbox.set_lifetime(SHORT);
    }
    let tenants = M::build(Wanted { workers: 2, ..Wanted::default() }, &directory);
    for tenant in ["dd444", "aa111", "bb222", "cc333"] {
        tenants.token(tenant).expect("a token");
    }
    hanging.inject(Route::Token, Fault::hang());
    let began = Instant::now();
    sleep_until(began + DUE);
    eventually("its renewal was begun", || hanging.token_requests() == 2);
    eventually("the others are renewed", || sandbox.tokens_issued() == 6);
    assert!(began.elapsed() < SHORT, "renewed only after {:?}", began.elapsed());
}

fn a_provider_that_panics_does_not_end_background_renewal<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES, "bb222"]);
    sandbox.set_lifetime(SHORT);
    let tenants = M::build(Wanted { workers: 1, ..Wanted::default() }, &directory);
    tenants.token(CHANGES).expect("a token");
    // Falls due later than the other one, whatever the jitter makes of the two.
    thread::sleep(SHORT / 8);
    tenants.token("bb222").expect("a token");
    directory.set(CHANGES, || panic!("on purpose: the provider panics"));
    directory.changed();
    let old = tenants.with_token("bb222", |token| token.header().clone()).expect("its token");
    eventually("the provider has panicked", || directory.asked(CHANGES) == 2);
    eventually("the renewal of the other goes on", || {
        tenants.with_token("bb222", |token| *token.header() != old) == Some(true)
    });
}
