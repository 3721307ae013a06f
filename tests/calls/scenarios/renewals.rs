//! What a 401 costs.

use std::time::Duration;

use alvys_auth_core::{ErrorKind, Policy};
use alvys_auth_sandbox::{Fault, Route};
use alvys_auth_tests::caller::{Body, Call, Caller, Setup, calls_to};
use bytes::Bytes;

use crate::calls::start;

pub(crate) fn a_401_to_an_old_token_costs_one_renewal_and_one_replay<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    caller.call(Call::get("loads")).expect("an answer");
    sandbox.reject_tokens();
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);

    let calls = calls_to(&sandbox);
    let statuses: Vec<_> = calls.iter().map(|call| call.status()).collect();
    assert_eq!(statuses, [Some(200), Some(401), Some(200)]);
    let tokens: Vec<_> = calls.iter().map(|call| call.headers().get_all("authorization").iter().count()).collect();
    assert_eq!(tokens, [1, 1, 1]);
    assert_ne!(calls[1].header("authorization"), calls[2].header("authorization"));
    assert_eq!(sandbox.token_requests(), 2);
}

pub(crate) fn a_replayed_body_arrives_whole_again<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    let body = Bytes::from(Vec::from_iter(0..=255).repeat(4096));
    for rejected in [Body::Bytes(body.clone()), Body::Json(serde_json::json!({"a": "b"}))] {
        caller.call(Call::get("loads")).expect("an answer");
        sandbox.reject_tokens();
        sandbox.clear_log();
        let reply = caller.call(Call::post("documents").body(rejected)).expect("an answer");
        assert_eq!(reply.status, 201);
        let [first, second] = &calls_to(&sandbox)[..] else { panic!("two calls") };
        assert!(!first.body().is_empty() && first.body() == second.body());
        assert_eq!(first.header("content-type"), second.header("content-type"));
        assert_eq!(sandbox.token_requests(), 1);
    }
}

pub(crate) fn a_hundred_calls_that_see_401_cost_one_token<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    caller.call(Call::get("loads")).expect("an answer");
    sandbox.reject_tokens();
    // Told late, so that most have gone out with the old token by then.
    sandbox.inject(Route::Api, Fault::late(Duration::from_secs(1)).times(100));
    for reply in caller.together(vec![Call::get("loads"); 100]) {
        assert_eq!(reply.expect("an answer").status, 200);
    }
    let rejected = calls_to(&sandbox).iter().filter(|call| call.status() == Some(401)).count();
    assert!(rejected >= 30, "only {rejected} calls went out with the old token: this shows nothing");
    assert_eq!(sandbox.token_requests(), 2);
}

pub(crate) fn a_second_401_is_an_error_that_names_the_likely_cause<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    sandbox.inject(Route::Api, Fault::status(401));
    let error = caller.call(Call::get("loads")).expect_err("a refusal").ours();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(error.status().map(|status| status.as_u16()), Some(401));
    assert!(error.hint().contains("likely"), "{error}");
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (2, 2));
}

pub(crate) fn a_401_to_a_young_token_is_told_at_once<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    sandbox.inject(Route::Api, Fault::status(401));
    for calls in 1..=3 {
        let error = caller.call(Call::get("loads")).expect_err("a refusal").ours();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (calls, 1));
    }
}

pub(crate) fn a_streamed_body_is_not_sent_again_after_a_401<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    caller.call(Call::get("loads")).expect("an answer");
    sandbox.reject_tokens();
    sandbox.clear_log();
    // Longer than what any stack keeps for a second time.
    let body = Bytes::from(vec![7; 2 * 1024 * 1024]);
    let upload = || caller.call(Call::post("documents").body(Body::Stream(body.clone())));
    let error = upload().expect_err("a refusal").ours();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.is_retryable(), "{error}");
    assert_eq!(sandbox.api_requests(), 1);
    assert_eq!(upload().expect("an answer").status, 201);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (2, 1));
}

pub(crate) fn a_token_that_cannot_be_had_is_told_as_it_is<C: Caller>() {
    let sandbox = start();
    let mut setup = Setup::of(&sandbox);
    setup.tokens = setup.tokens.policy(Policy::new());
    sandbox.remove(sandbox.application().client_id());
    let caller = C::build(setup);
    for _ in 0..2 {
        let error = caller.call(Call::get("loads")).expect_err("no token").ours();
        assert_eq!((error.kind(), error.oauth_code()), (ErrorKind::Credentials, Some("access_denied")));
    }
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (0, 1));
}
