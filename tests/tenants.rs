//! Many tenants in one process, each on its own: the same scenarios against both drivers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Error, ErrorKind, Flow, Policy};
use alvys_auth_driver::ManualClock;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::many::{Async, Blocking, Many, Wanted, client_id, current, knowing, owner, secret};
use alvys_auth_tests::{both_drivers, credentials, eventually};

both_drivers![
    each_tenant_gets_its_own_token,
    both_flows_serve_side_by_side,
    a_hundred_first_callers_cost_one_look_and_one_request,
    a_wrong_secret_stops_nobody_else,
    a_back_off_delays_nobody_else,
    a_server_that_hangs_delays_nobody_else,
    patience_and_policy_hold_for_every_tenant,
    a_provider_that_fails_for_one_fails_for_no_other,
    a_provider_that_takes_its_time_for_one_delays_no_other,
    a_provider_that_hangs_is_not_waited_for_for_ever,
    a_slow_provider_is_queued_for,
    changes_are_told_with_their_tenant,
    an_unknown_tenant_pushes_nobody_out,
    the_tenant_goes_that_was_kept_longest_and_not_used_lately,
    there_is_room_for_one_at_least,
    a_forgotten_tenant_is_looked_up_again,
];

fn each_tenant_gets_its_own_token<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let tenants = M::new(&directory);
    assert_eq!(tenants.count(), 0);
    for tenant in ["aa111", "bb222", "aa111"] {
        let token = tenants.token(tenant).expect("a token");
        let owner = owner(&sandbox, &token);
        assert!(owner.contains(tenant), "{owner}");
    }
    assert_eq!(tenants.count(), 2);
    assert_eq!(sandbox.tokens_issued(), 2, "the third caller shares the first token");
}

fn both_flows_serve_side_by_side<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    directory.give("bb222", Flow::legacy("bb222").endpoint(sandbox.legacy_token_url()), &secret("bb222"));
    let tenants = M::new(&directory);
    tenants.token("aa111").expect("a token by the current flow");
    tenants.token("bb222").expect("a token by the legacy flow");
    let requests = sandbox.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path()).collect();
    assert_eq!(paths, ["/oauth/token", "/api/authentication/bb222/token"]);
}

fn a_hundred_first_callers_cost_one_look_and_one_request<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    sandbox.inject(Route::Token, Fault::late(Duration::from_millis(100)));
    let tenants = M::new(&directory);
    let start = Barrier::new(100);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                start.wait();
                tenants.token("aa111").expect("a token");
            });
        }
    });
    assert_eq!((directory.asked("aa111"), sandbox.token_requests(), tenants.count()), (1, 1, 1));
    assert_eq!(directory.questions(), 1, "what it gave is not asked about again before the first request");
}

fn a_wrong_secret_stops_nobody_else<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    directory.give("bb222", current(&sandbox), "wrong");
    let tenants = M::new(&directory);
    for _ in 0..3 {
        assert_eq!(tenants.token("bb222").expect_err("a wrong secret").kind(), ErrorKind::Credentials);
    }
    assert_eq!(sandbox.token_requests(), 1, "its cool-down holds for it");
    tenants.token("aa111").expect("a token");
    assert_eq!(sandbox.token_requests(), 2);
}

fn a_back_off_delays_nobody_else<M: Many>() {
    let (_sandbox, directory) = knowing(&["aa111"]);
    let busy = Sandbox::start().expect("another sandbox");
    busy.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(60)));
    directory.add(&busy, "bb222");
    let tenants = M::new(&directory);
    for _ in 0..2 {
        let error = tenants.token("bb222").expect_err("a wait of a minute");
        assert!(error.retry_after().is_some(), "{error}");
    }
    assert_eq!(busy.token_requests(), 1);
    tenants.token("aa111").expect("a token");
}

fn a_server_that_hangs_delays_nobody_else<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let hanging = Sandbox::start().expect("another sandbox");
    hanging.inject(Route::Token, Fault::hang());
    directory.add(&hanging, "cc333");
    let policy = Policy::new().request_timeout(Duration::from_secs(3));
    let tenants = M::build(Wanted { policy, patience: Some(Duration::from_secs(3)), ..Wanted::default() }, &directory);
    let waiting = thread::spawn({
        let tenants = tenants.clone();
        move || tenants.token("cc333")
    });
    eventually("the request is on its way", || hanging.token_requests() == 1);
    for tenant in ["aa111", "bb222"] {
        tenants.token(tenant).expect("a token");
    }
    assert!(!waiting.is_finished(), "they had to wait for the one that hangs");
    assert_eq!(waiting.join().expect("no panic").expect_err("no answer").kind(), ErrorKind::TimedOut);
    assert_eq!(sandbox.token_requests(), 2);
}

fn patience_and_policy_hold_for_every_tenant<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    sandbox.inject(Route::Token, Fault::hang());
    let soon = Duration::from_millis(200);
    let impatient = Wanted { patience: Some(soon), ..Wanted::default() };
    let began = Instant::now();
    M::build(impatient, &directory).token("aa111").expect_err("no answer");
    assert!(began.elapsed() < Duration::from_secs(12), "took {:?}", began.elapsed());

    sandbox.clear_log();
    let policy = Policy::new().request_timeout(soon).backoff(soon, soon);
    let quick = Wanted { policy, patience: Some(Duration::from_secs(5)), ..Wanted::default() };
    M::build(quick, &directory).token("aa111").expect_err("no answer");
    assert!(sandbox.token_requests() > 1, "requests of ten seconds");
}

fn a_provider_that_fails_for_one_fails_for_no_other<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    directory.set("bb222", || Err(Error::configuration("the vault is sealed", "unseal it")));
    let tenants = M::new(&directory);
    for _ in 0..2 {
        let error = tenants.token("bb222").expect_err("no credentials");
        assert!(error.to_string().contains("the vault is sealed"), "{error}");
    }
    assert_eq!((directory.asked("bb222"), tenants.count()), (2, 0));
    tenants.token("aa111").expect("a token");
    directory.add(&sandbox, "bb222");
    tenants.token("bb222").expect("a token, now that the provider gives credentials");
}

fn a_provider_that_takes_its_time_for_one_delays_no_other<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let (asked, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let given = (current(&sandbox), credentials(&client_id("bb222"), &secret("bb222")));
    directory.set("bb222", {
        let (asked, go_on) = (Arc::clone(&asked), Arc::clone(&go_on));
        move || {
            asked.wait();
            go_on.wait();
            Ok(Some(given.clone()))
        }
    });
    let tenants = M::new(&directory);
    let waiting = thread::spawn({
        let tenants = tenants.clone();
        move || tenants.token("bb222")
    });
    asked.wait();
    tenants.token("aa111").expect("a token");
    assert_eq!(tenants.count(), 1);
    go_on.wait();
    waiting.join().expect("no panic").expect("a token");
}

fn a_provider_that_hangs_is_not_waited_for_for_ever<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let go_on = Arc::new(Barrier::new(2));
    directory.set("bb222", {
        let go_on = Arc::clone(&go_on);
        move || {
            go_on.wait();
            Ok(None)
        }
    });
    // Long enough for a provider that answers on a busy machine.
    let policy = Policy::new().request_timeout(Duration::from_secs(1));
    let tenants = M::build(Wanted { policy, ..Wanted::default() }, &directory);
    let error = tenants.token("bb222").expect_err("no answer of the provider");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("tenant provider"), "{error}");
    for _ in 0..20 {
        assert_eq!(tenants.token("bb222").expect_err("still no answer").kind(), ErrorKind::TimedOut);
    }
    assert_eq!(directory.asked("bb222"), 1, "each question would cost another thread");
    tenants.token("aa111").expect("a token of another tenant");
    go_on.wait();
    directory.add(&sandbox, "bb222");
    eventually("a token, once the provider answers", || tenants.token("bb222").is_ok());
}

fn a_slow_provider_is_queued_for<M: Many>() {
    const AT_ONCE: usize = 256;
    let names: Vec<String> = (0..AT_ONCE + 20).map(|number| format!("aa{number}")).collect();
    let (sandbox, directory) = knowing(&[]);
    let (open, asked) = (Arc::new((Mutex::new(false), Condvar::new())), Arc::new(AtomicUsize::new(0)));
    for name in &names {
        directory.add(&sandbox, name);
        let given = (current(&sandbox), credentials(&client_id(name), &secret(name)));
        let (open, asked) = (Arc::clone(&open), Arc::clone(&asked));
        directory.set(name, move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let (open, opened) = &*open;
            drop(opened.wait_while(open.lock().expect("a flag"), |open| !*open).expect("a flag"));
            Ok(Some(given.clone()))
        });
    }
    let policy = Policy::new().request_timeout(Duration::from_secs(60));
    let tenants = M::build(Wanted { policy, patience: Some(Duration::from_secs(60)), ..Wanted::default() }, &directory);
    thread::scope(|scope| {
        let callers: Vec<_> = names.iter().map(|name| scope.spawn(|| tenants.token(name))).collect();
        eventually("as many are asked as may block at a time", || asked.load(Ordering::SeqCst) == AT_ONCE);
        *open.0.lock().expect("a flag") = true;
        open.1.notify_all();
        for caller in callers {
            caller.join().expect("no panic").expect("a token, although the provider was busy at first");
        }
    });
    assert_eq!((asked.load(Ordering::SeqCst), tenants.count()), (names.len(), names.len()));
}

fn changes_are_told_with_their_tenant<M: Many>() {
    let (_sandbox, directory) = knowing(&["aa111", "bb222"]);
    let (clock, changes) = (Arc::new(ManualClock::new()), Arc::new(Mutex::default()));
    let tenants = M::build(Wanted { changes: Some(Arc::clone(&changes)), ..Wanted::on(&clock) }, &directory);
    for tenant in ["aa111", "bb222"] {
        tenants.token(tenant).expect("a token");
    }
    clock.advance(Duration::from_secs(24 * 60 * 60));
    tenants.token("aa111").expect("another token");
    let told = ["obtained aa111", "obtained bb222", "obtained aa111"];
    eventually("all are told", || *changes.lock().expect("a list") == told);
}

fn an_unknown_tenant_pushes_nobody_out<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111"]);
    let tenants = M::build(Wanted { capacity: Some(1), ..Wanted::default() }, &directory);
    tenants.token("aa111").expect("a token");
    for number in 0..200 {
        tenants.token(&format!("zz{number}")).expect_err("nobody knows it");
    }
    tenants.token("aa111").expect("the same token");
    assert_eq!((directory.asked("aa111"), sandbox.token_requests(), tenants.count()), (1, 1, 1));
}

fn the_tenant_goes_that_was_kept_longest_and_not_used_lately<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222", "cc333", "dd444"]);
    let tenants = M::build(Wanted { capacity: Some(2), ..Wanted::default() }, &directory);
    let token = |tenant| drop(tenants.token(tenant).expect("a token"));
    token("aa111");
    token("bb222");
    token("aa111");
    token("cc333");
    assert!(!tenants.holds("bb222"), "it was not used since it came");
    assert!(tenants.holds("aa111"), "lending a token is a use too");
    token("dd444");
    assert!(!tenants.holds("cc333"));
    assert!(tenants.holds("aa111"));
    assert_eq!((tenants.count(), sandbox.token_requests()), (2, 4));
    token("bb222");
    assert_eq!((directory.asked("bb222"), sandbox.token_requests()), (2, 5));
}

fn there_is_room_for_one_at_least<M: Many>() {
    let (_sandbox, directory) = knowing(&["aa111"]);
    let tenants = M::build(Wanted { capacity: Some(0), ..Wanted::default() }, &directory);
    tenants.token("aa111").expect("a token");
    assert!(tenants.holds("aa111"));
}

fn a_forgotten_tenant_is_looked_up_again<M: Many>() {
    let (sandbox, directory) = knowing(&["aa111", "bb222"]);
    let tenants = M::new(&directory);
    assert!(!tenants.forget("aa111"));
    let old = tenants.token("aa111").expect("a token");
    tenants.token("bb222").expect("a token");
    assert!(tenants.forget("aa111"));
    assert!(!tenants.holds("aa111") && tenants.holds("bb222"));
    directory.give("aa111", Flow::legacy("aa111").endpoint(sandbox.legacy_token_url()), &secret("aa111"));
    let new = tenants.token("aa111").expect("a token by the changed flow");
    assert_ne!(old.header(), new.header());
    assert_eq!(directory.asked("aa111"), 2);
    assert!(sandbox.requests().last().is_some_and(|last| last.path().contains("aa111")));
}
