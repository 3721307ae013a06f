//! Rate limits and outages: waited out where that is safe and short enough.

use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::ErrorKind;
use alvys_auth_driver::ManualClock;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::caller::{Body, Call, Caller, Failure, Reply, Setup, calls_to};
use alvys_auth_tests::flying;
use bytes::Bytes;

use crate::calls::start;

const SECOND: Duration = Duration::from_secs(1);

/// The statuses of all calls.
fn seen(sandbox: &Sandbox) -> Vec<u16> {
    calls_to(sandbox).iter().map(|call| call.status().expect("an answer")).collect()
}

/// Makes a call by a clock that flies, and gives how long it took by that.
fn called<C: Caller>(sandbox: &Sandbox, call: Call) -> (Result<Reply, Failure>, Duration) {
    let clock = Arc::new(ManualClock::new());
    let caller = C::build(Setup::of(sandbox).clock(&clock));
    flying(&clock, || caller.call(call))
}

pub(crate) fn a_rate_limit_in_seconds_is_sat_out<C: Caller>() {
    let sandbox = start();
    sandbox.inject(Route::Api, Fault::status(429).retry_after(20 * SECOND).times(2));
    let (reply, after) = called::<C>(&sandbox, Call::get("loads"));
    assert_eq!(reply.expect("an answer").status, 200);
    assert_eq!(seen(&sandbox), [429, 429, 200]);
    assert!(after >= 40 * SECOND, "{after:?}");
    assert_eq!(sandbox.token_requests(), 1);
}

pub(crate) fn an_outage_with_a_date_is_sat_out<C: Caller>() {
    let sandbox = start();
    // Whole seconds on the server's clock, which is wrong by a day.
    sandbox.set_clock_skew(86_400);
    sandbox.inject(Route::Api, Fault::status(503).retry_after_date(20 * SECOND).once());
    let (reply, after) = called::<C>(&sandbox, Call::get("loads"));
    assert_eq!(reply.expect("an answer").status, 200);
    assert_eq!(seen(&sandbox), [503, 200]);
    assert!(after >= 19 * SECOND, "{after:?}");
}

pub(crate) fn an_outage_without_a_time_is_tried_again<C: Caller>() {
    let sandbox = start();
    sandbox.inject(Route::Api, Fault::status(503).once());
    let (reply, after) = called::<C>(&sandbox, Call::get("loads"));
    assert_eq!(reply.expect("an answer").status, 200);
    assert_eq!(seen(&sandbox), [503, 200]);
    assert!(after >= SECOND, "{after:?}");
}

pub(crate) fn a_wait_beyond_the_patience_is_told_at_once<C: Caller>() {
    let wait = Duration::from_secs(3600);
    for (fault, kind) in [
        (Fault::status(429).retry_after(wait), ErrorKind::RateLimited),
        (Fault::status(503).retry_after_date(wait), ErrorKind::Unavailable),
    ] {
        let sandbox = start();
        sandbox.inject(Route::Api, fault);
        let error = C::build(Setup::of(&sandbox)).call(Call::get("loads")).expect_err("a long wait").ours();
        assert_eq!((error.kind(), error.is_retryable()), (kind, true));
        let asked = error.retry_after().expect("the server's wait");
        assert!(asked <= wait && asked >= wait - 2 * SECOND, "{asked:?}");
        assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (1, 1));
    }
}

pub(crate) fn waits_add_up_to_the_patience_and_no_more<C: Caller>() {
    let sandbox = start();
    sandbox.inject(Route::Api, Fault::status(429).retry_after(40 * SECOND));
    let error = called::<C>(&sandbox, Call::get("loads")).0.expect_err("too many waits").ours();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(40 * SECOND)));
    assert_eq!(sandbox.api_requests(), 2);
}

pub(crate) fn a_post_is_not_repeated_after_an_outage<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for (calls, status) in (1..).zip([429, 503]) {
        sandbox.inject(Route::Api, Fault::status(status).retry_after(SECOND).once());
        let error = caller.call(Call::post("loads")).expect_err("not repeated").ours();
        assert_eq!(error.retry_after(), Some(SECOND));
        assert_eq!(sandbox.api_requests(), calls);
    }
}

pub(crate) fn an_idempotent_post_is_repeated_whole<C: Caller>() {
    let sandbox = start();
    sandbox.inject(Route::Api, Fault::status(503).retry_after(SECOND).once());
    let body = Bytes::from(vec![b'x'; 100_000]);
    let call = Call::post("documents").body(Body::Bytes(body.clone())).idempotent();
    assert_eq!(called::<C>(&sandbox, call).0.expect("an answer").status, 201);
    assert_eq!(seen(&sandbox), [503, 201]);
    assert!(calls_to(&sandbox).iter().all(|call| call.body() == body));
}

pub(crate) fn a_streamed_body_is_not_repeated_even_if_idempotent<C: Caller>() {
    let sandbox = start();
    sandbox.inject(Route::Api, Fault::status(503).retry_after(SECOND).once());
    let body = Bytes::from(vec![b'x'; 2 * 1024 * 1024]);
    let call = Call::post("documents").body(Body::Stream(body)).idempotent();
    let error = C::build(Setup::of(&sandbox)).call(call).expect_err("not repeated").ours();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, Some(SECOND)));
    assert_eq!(sandbox.api_requests(), 1);
}
