//! Rate shaping, against a server that blocks whoever goes too fast.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::ErrorKind;
use alvys_auth_core::{Limit, RateLimits};
use alvys_auth_driver::{ManualClock, Pace};
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::caller::{Call, Caller, Setup, calls_to};
use alvys_auth_tests::{eventually, flying};

use crate::calls::start;

const SECOND: Duration = Duration::from_secs(1);
/// More calls than the server lets pass in a second.
const CROWD: usize = 45;

/// A server that lets 34 calls a second pass at each list and shuts out for a minute who sends more.
fn strict() -> Sandbox {
    let sandbox = start();
    let limits = alvys_auth_sandbox::RateLimits::published().per_token(1000).per_organization(1000);
    sandbox.limit_rates(limits.per_list(34).window(SECOND).block(60 * SECOND));
    sandbox
}

/// Fifteen a second: the server allows two such waves in a second, so that calls may be held up on the way for more than one.
fn pace() -> Pace {
    Pace::new(RateLimits::none().lists([Limit::new(15, SECOND)]))
}

pub(crate) fn a_shaped_crowd_meets_no_limit<C: Caller>() {
    let sandbox = strict();
    let caller = C::build(Setup::of(&sandbox).pace(&pace()));
    for reply in caller.together(vec![Call::get("loads"); CROWD]) {
        assert_eq!(reply.expect("an answer").status, 200);
    }
    let statuses: Vec<_> = calls_to(&sandbox).iter().map(|call| call.status()).collect();
    assert_eq!(statuses, [Some(200); CROWD], "nobody met a limit and sat it out");
}

pub(crate) fn a_shaped_crowd_that_waits_for_a_token_meets_no_limit<C: Caller>() {
    let sandbox = strict();
    sandbox.inject(Route::Token, Fault::late(3 * SECOND));
    let caller = C::build(Setup::of(&sandbox).pace(&pace()));
    for reply in caller.together(vec![Call::get("loads"); CROWD]) {
        assert_eq!(reply.expect("an answer").status, 200);
    }
    let statuses: Vec<_> = calls_to(&sandbox).iter().map(|call| call.status()).collect();
    assert_eq!(statuses, [Some(200); CROWD], "no turn was taken before there was a token");
}

/// A caller of `sandbox` whose token has been lost since it was used.
fn caller_with_a_lost_token<C: Caller>(sandbox: &Sandbox, pace: &Pace) -> C {
    let caller = C::build(Setup::of(sandbox).without_grace().pace(pace));
    caller.call(Call::get("trips")).expect("an answer");
    sandbox.reject_tokens();
    sandbox.clear_log();
    caller
}

pub(crate) fn those_who_queue_behind_a_401_go_out_with_another_token<C: Caller>() {
    let sandbox = start();
    let clock = Arc::new(ManualClock::new());
    let limits = RateLimits::none().lists([Limit::new(1, 10 * SECOND)]).endpoint("GET trips", []);
    let pace = Pace::with_clock(limits, Arc::clone(&clock));
    let caller: C = caller_with_a_lost_token(&sandbox, &pace);
    let (replies, took) = flying(&clock, || caller.together(vec![Call::get("loads"); 4]));
    for reply in replies {
        assert_eq!(reply.expect("an answer").status, 200);
    }
    assert!(took >= 40 * SECOND, "five were sent, ten seconds apart: {took:?}");
    let refused = calls_to(&sandbox).iter().filter(|call| call.status() == Some(401)).count();
    assert_eq!((refused, sandbox.api_requests(), sandbox.token_requests()), (1, 5, 1));
}

pub(crate) fn those_who_queue_while_a_lost_token_is_replaced_meet_no_limit<C: Caller>() {
    let sandbox = strict();
    let caller: C = caller_with_a_lost_token(&sandbox, &pace());
    sandbox.inject(Route::Token, Fault::late(3 * SECOND));
    for reply in caller.together(vec![Call::get("loads"); CROWD]) {
        assert_eq!(reply.expect("an answer").status, 200);
    }
    let limited = calls_to(&sandbox).iter().filter(|call| call.status() == Some(429)).count();
    assert_eq!(limited, 0, "nobody had a turn and waited for a token with it");
}

pub(crate) fn an_unshaped_crowd_is_blocked<C: Caller>() {
    let sandbox = start();
    // However slow this machine is.
    let limits = alvys_auth_sandbox::RateLimits::published().per_token(1000).per_organization(1000);
    sandbox.limit_rates(limits.per_list(34).window(60 * SECOND).block(60 * SECOND));
    let caller = C::build(Setup::of(&sandbox).patience(Duration::ZERO));
    let mut blocked = 0;
    for reply in caller.together(vec![Call::get("loads"); CROWD]) {
        if let Err(error) = reply {
            assert_eq!(error.ours().kind(), ErrorKind::RateLimited);
            blocked += 1;
        }
    }
    assert!(blocked > 0);
}

pub(crate) fn a_blocked_endpoint_is_left_alone_and_others_go_on<C: Caller>() {
    let sandbox = start();
    let pace = Pace::new(RateLimits::none());
    let caller = C::build(Setup::of(&sandbox).pace(&pace).patience(Duration::ZERO));
    sandbox.inject_at("/api/p/v1/loads", Fault::status(429).retry_after(60 * SECOND));
    let told = caller.call(Call::get("loads")).expect_err("a rate limit").ours();
    assert_eq!((told.kind(), told.retry_after()), (ErrorKind::RateLimited, Some(60 * SECOND)));

    for reply in caller.together(vec![Call::get("loads"); 5]) {
        let error = reply.expect_err("held back").ours();
        assert_eq!((error.kind(), error.status(), error.is_retryable()), (ErrorKind::RateLimited, None, true));
        assert!(error.retry_after().is_some_and(|wait| wait > 30 * SECOND && wait <= 60 * SECOND), "{error}");
    }
    assert_eq!(sandbox.api_requests(), 1, "nobody called the blocked endpoint again");
    assert_eq!(caller.call(Call::get("trips")).expect("an answer").status, 200);
    assert_eq!(
        caller.call(Call::post("loads")).expect_err("its path is blocked").ours().kind(),
        ErrorKind::RateLimited
    );
    assert_eq!(sandbox.api_requests(), 3, "another method is another endpoint, whatever this server does");
}

pub(crate) fn a_blocked_endpoint_is_called_again_once_the_block_is_over<C: Caller>() {
    let sandbox = start();
    let clock = Arc::new(ManualClock::new());
    let pace = Pace::with_clock(RateLimits::none(), Arc::clone(&clock));
    let impatient = C::build(Setup::of(&sandbox).pace(&pace).patience(Duration::ZERO));
    let patient = C::build(Setup::of(&sandbox).pace(&pace));
    sandbox.inject_at("/api/p/v1/loads", Fault::status(503).retry_after(20 * SECOND).once());
    impatient.call(Call::get("loads")).expect_err("an outage");
    let (replies, took) = flying(&clock, || patient.together(vec![Call::get("loads"); 5]));
    for reply in replies {
        assert_eq!(reply.expect("an answer").status, 200);
    }
    assert!(took >= 20 * SECOND, "{took:?}");
    assert_eq!(sandbox.api_requests(), 6);
}

pub(crate) fn a_limit_beyond_the_patience_is_told_and_nothing_sent<C: Caller>() {
    let sandbox = start();
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, 30 * SECOND)]));
    let caller = C::build(Setup::of(&sandbox).pace(&pace).patience(SECOND));
    caller.call(Call::get("loads")).expect("an answer");
    let error = caller.call(Call::get("loads")).expect_err("held back").ours();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, true));
    assert!(error.retry_after().is_some_and(|wait| wait > SECOND && wait <= 30 * SECOND + Limit::MARGIN), "{error}");
    assert!(error.status().is_none() && error.hint().contains("nothing was sent"), "{error}");
    assert_eq!(sandbox.api_requests(), 1);
}

pub(crate) fn a_call_that_is_held_back_when_it_is_repeated_says_that_it_was_sent<C: Caller>() {
    let sandbox = start();
    let pace = Pace::new(RateLimits::none().endpoint("POST loads", [Limit::new(1, 30 * SECOND)]));
    sandbox.inject_at("/api/p/v1/loads", Fault::status(503).retry_after(SECOND).once());
    let caller = C::build(Setup::of(&sandbox).pace(&pace).patience(5 * SECOND));
    let error = caller.call(Call::post("loads").idempotent()).expect_err("held back").ours();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, true));
    assert!(
        error.retry_after().is_some_and(|wait| wait > 5 * SECOND && wait <= 30 * SECOND + Limit::MARGIN),
        "{error}"
    );
    assert_eq!(error.status().map(|status| status.as_u16()), Some(503));
    assert!(error.hint().contains("sent once") && !error.to_string().contains("nothing was sent"), "{error}");
    assert_eq!(sandbox.api_requests(), 1);
}

pub(crate) fn a_block_is_known_to_all_who_share_the_token<C: Caller>() {
    let (sandbox, directory) = (start(), tempfile::tempdir().expect("a directory"));
    let process = || {
        let pace = Pace::new(RateLimits::none());
        C::build(Setup::of(&sandbox).store(&directory.path().join("tokens")).patience(SECOND).pace(&pace))
    };
    let (first, running) = (process(), process());
    assert_eq!(running.call(Call::get("loads")).expect("an answer").status, 200);
    sandbox.inject_at("/api/p/v1/loads", Fault::status(429).header("retry-after", "60"));
    let is_told = |caller: &C| {
        let before = calls_to(&sandbox).len();
        caller.call(Call::get("loads")).is_err() && calls_to(&sandbox).len() == before
    };
    let told = first.call(Call::get("loads")).expect_err("a block").ours();
    assert_eq!((told.kind(), told.retry_after()), (ErrorKind::RateLimited, Some(60 * SECOND)));
    // One that starts now is told before its first call, whether the first process has told the others or is about to.
    let mut later = process();
    eventually("the block is known", || {
        later = process();
        is_told(&later)
    });
    let before = calls_to(&sandbox).len();
    let held = later.call(Call::get("loads")).expect_err("the block of the other process").ours();
    assert_eq!(held.kind(), ErrorKind::RateLimited);
    assert!(held.retry_after().is_some_and(|left| left > 30 * SECOND && left <= 60 * SECOND), "{held}");
    assert_eq!(calls_to(&sandbox).len(), before, "nothing was sent");
    assert_eq!(later.call(Call::get("trips")).expect("an answer").status, 200, "other endpoints are not blocked");
    // One that has called the endpoint before looks again a second later.
    eventually("a process that runs hears of it", || is_told(&running));
    assert_eq!(sandbox.token_requests(), 1);
}

pub(crate) fn a_store_that_cannot_be_used_holds_no_call_up<C: Caller>() {
    let (sandbox, directory) = (start(), tempfile::tempdir().expect("a directory"));
    let tokens = directory.path().join("tokens");
    let caller = C::build(Setup::of(&sandbox).store(&tokens).pace(&Pace::new(RateLimits::none())));
    fs::remove_dir(&tokens).expect("an empty directory");
    fs::write(&tokens, "a file in its place").expect("a file");
    for path in ["loads", "loads", "trips"] {
        assert_eq!(caller.call(Call::get(path)).expect("an answer").status, 200);
    }
}
