//! Calls that are dropped half-way.

use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Limit, RateLimits};
use alvys_auth_driver::{ManualClock, Pace};
use alvys_auth_sandbox::{Fault, Route};
use alvys_auth_tests::caller::{Call, Setup};
use alvys_auth_tests::stacks::AsyncCaller;
use alvys_auth_tests::{eventually, flying};

use crate::calls::start;

pub(crate) fn a_call_dropped_while_the_api_is_silent_wedges_nothing<C: AsyncCaller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    sandbox.inject(Route::Api, Fault::hang().once());
    let call = caller.start(Call::get("loads"));
    eventually("the call is on its way", || sandbox.api_requests() == 1);
    call.abort();
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (2, 1));
}

pub(crate) fn a_call_dropped_while_its_token_is_fetched_wedges_nothing<C: AsyncCaller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    sandbox.inject(Route::Token, Fault::late(Duration::from_secs(1)).once());
    let call = caller.start(Call::get("loads"));
    eventually("the token is on its way", || sandbox.token_requests() == 1);
    call.abort();
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (1, 1), "the token was not lost");
}

pub(crate) fn a_call_dropped_while_it_waits_for_its_turn_wedges_nothing<C: AsyncCaller>() {
    let sandbox = start();
    let clock = Arc::new(ManualClock::new());
    let limits = RateLimits::none().lists([Limit::new(1, Duration::from_secs(3))]);
    let pace = Pace::with_clock(limits, Arc::clone(&clock));
    let caller = C::build(Setup::of(&sandbox).pace(&pace));
    caller.call(Call::get("loads")).expect("an answer");
    let calls: Vec<_> = (0..10).map(|_| caller.start(Call::get("loads"))).collect();
    for call in calls {
        call.abort();
    }
    let (reply, _) = flying(&clock, || caller.call(Call::get("loads")));
    assert_eq!(reply.expect("an answer").status, 200);
    assert_eq!(sandbox.api_requests(), 2, "what was dropped took nobody's turn");
}

pub(crate) fn a_call_dropped_between_a_401_and_its_replay_wedges_nothing<C: AsyncCaller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    caller.call(Call::get("loads")).expect("an answer");
    sandbox.reject_tokens();
    sandbox.inject(Route::Token, Fault::late(Duration::from_secs(1)).once());
    let call = caller.start(Call::get("loads"));
    eventually("another token is on its way", || sandbox.token_requests() == 2);
    call.abort();
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (3, 2));
}
