//! Connections that break or fall silent.

use std::time::Duration;

use alvys_auth_core::ErrorKind;
use alvys_auth_sandbox::{Fault, Route};
use alvys_auth_tests::caller::{Call, Caller, Failure, Setup};

use crate::start;

/// Clients of our own say what kind of failure it was; middleware leaves that to the stack.
fn assert_told<C: Caller>(failure: Failure, kind: ErrorKind) {
    match failure {
        Failure::Ours(error) => {
            assert_eq!((error.kind(), error.is_retryable()), (kind, true), "{error}");
            assert!(C::EXPLAINS);
        }
        Failure::Stacks(error) => assert!(!C::EXPLAINS, "{error}"),
    }
}

pub(crate) fn a_reset_connection_is_an_error_and_sent_once<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for (calls, call) in (1..).zip([Call::get("loads"), Call::post("loads")]) {
        sandbox.inject(Route::Api, Fault::reset().once());
        assert_told::<C>(caller.call(call).expect_err("no answer"), ErrorKind::Transport);
        assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (calls, 1));
    }
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
}

pub(crate) fn a_truncated_answer_is_an_error<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    sandbox.inject(Route::Api, Fault::truncate().once());
    let failure = caller.call(Call::get("loads")).expect_err("half an answer");
    assert!(matches!(failure, Failure::Stacks(_)), "the body is read by the stack: {failure:?}");
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (2, 1));
}

pub(crate) fn a_silent_server_ends_in_an_error<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup { timeout: Duration::from_millis(300), ..Setup::of(&sandbox) });
    sandbox.inject(Route::Api, Fault::hang().once());
    assert_told::<C>(caller.call(Call::get("loads")).expect_err("no answer"), ErrorKind::TimedOut);
    assert_eq!(sandbox.api_requests(), 1);
}

pub(crate) fn a_closed_server_ends_in_an_error<C: Caller>() {
    let (sandbox, api) = (start(), start());
    let mut setup = Setup::of(&sandbox);
    setup.api = Setup::of(&api).api;
    let caller = C::build(setup);
    drop(api);
    assert_told::<C>(caller.call(Call::get("loads")).expect_err("no answer"), ErrorKind::Transport);
    assert_eq!(sandbox.token_requests(), 1);
}
