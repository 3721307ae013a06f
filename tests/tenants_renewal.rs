//! Renewal of many tenants' tokens in the background: the same scenarios against both drivers.

use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::many::{Async, Blocking, CHANGES, Many, Wanted, knowing};
use alvys_auth_tests::{both_drivers, eventually};

both_drivers![
    used_tenants_are_renewed_in_the_background_and_others_left_alone,
    without_background_renewal_nothing_is_asked_for,
    background_renewal_stays_within_its_concurrency,
    a_tenant_that_hangs_does_not_stall_the_renewal_of_others,
    a_provider_that_panics_does_not_end_background_renewal,
];

/// Tokens of this lifetime are renewed after 3.2 to 3.6 seconds.
const SHORT: Duration = Duration::from_secs(4);
/// When they have been.
const RENEWED: Duration = Duration::from_millis(3_800);

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
    const LATENCY: Duration = Duration::from_millis(60);
    let names: Vec<String> = (0..12).map(|number| format!("aa{number}")).collect();
    let (sandbox, directory) = knowing(&names.iter().map(String::as_str).collect::<Vec<_>>());
    sandbox.set_lifetime(SHORT);
    let tenants = M::build(Wanted { workers: LIMIT, ..Wanted::default() }, &directory);
    for name in &names {
        tenants.token(name).expect("a token");
    }
    let due = Instant::now();
    sandbox.clear_log();
    sandbox.inject(Route::Token, Fault::late(LATENCY));
    sleep_until(due + RENEWED);
    eventually("all are renewed", || sandbox.tokens_issued() == names.len());
    assert!(due.elapsed() < SHORT, "a stall: renewed only after {:?}", due.elapsed());
    // Each of them takes the latency at least, so one more than the limit within it would be one too many at once.
    let times: Vec<Duration> = sandbox.requests().iter().map(|request| request.at()).collect();
    let at_once = times.windows(LIMIT + 1).filter(|window| window[LIMIT] - window[0] < LATENCY).count();
    assert_eq!(at_once, 0, "{times:?}");
    let together = times.windows(LIMIT).filter(|window| window[LIMIT - 1] - window[0] < LATENCY).count();
    assert!(together > 0, "as many at once as may be: {times:?}");
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
    sleep_until(began + RENEWED);
    assert_eq!(hanging.token_requests(), 2, "its renewal was begun");
    eventually("the others are renewed", || sandbox.tokens_issued() == 6);
    assert!(began.elapsed() < SHORT, "renewed only after {:?}", began.elapsed());
}

fn a_provider_that_panics_does_not_end_background_renewal<M: Many>() {
    let (sandbox, directory) = knowing(&[CHANGES, "bb222"]);
    sandbox.set_lifetime(SHORT);
    let tenants = M::build(Wanted { workers: 1, ..Wanted::default() }, &directory);
    tenants.token(CHANGES).expect("a token");
    // Falls due later than the other one, whatever the jitter makes of the two.
    thread::sleep(Duration::from_millis(500));
    tenants.token("bb222").expect("a token");
    directory.set(CHANGES, || panic!("on purpose: the provider panics"));
    directory.changed();
    let old = tenants.with_token("bb222", |token| token.header().clone()).expect("its token");
    let began = Instant::now();
    eventually("the provider has panicked", || directory.asked(CHANGES) == 2);
    sleep_until(began + RENEWED);
    let new = tenants.with_token("bb222", |token| token.header().clone()).expect("its token");
    assert_ne!(old, new, "the renewal of the other goes on");
}
