//! The steps of a call: each state, what leads to it, and what comes next.

use std::cell::Cell;
use std::time::Duration;

use alvys_auth_core::{Api, Call, CallOptions, CallStep, ErrorKind, Hold, Timestamp};
use http::{HeaderMap, StatusCode, Uri};

use crate::support::{HERE, answer, at, call, call_of, get, reader, seconds, token, with};

mod support;

/// Drives a call to the point at which its request is sent.
fn sent(call: &mut Call, now: Timestamp) {
    assert!(matches!(call.next(now), CallStep::NeedToken));
    call.token(reader(), now, || None);
    assert!(matches!(call.next(now), CallStep::Send));
}

fn held(until: u64, ask_at: u64) -> Option<Hold> {
    Some(Hold { until: at(until), ask_at: at(ask_at), asked_by: None })
}

/// Lets an answer of this status come from the URL that was called.
fn answered(call: &mut Call, status: u16) {
    call.answered(StatusCode::from_u16(status).expect("a status"), &HeaderMap::new(), Some(&Uri::from_static(HERE)));
}

#[test]
fn a_call_needs_a_token_is_sent_and_its_answer_delivered() {
    let mut call = get();
    sent(&mut call, at(0));
    let mut headers = HeaderMap::new();
    call.authorize(&mut headers);
    assert_eq!(headers["authorization"], "Bearer abc");
    answered(&mut call, 200);
    assert!(matches!(call.next(at(1)), CallStep::Deliver));
}

#[test]
fn asking_what_is_next_changes_nothing_where_something_else_has_to_come_first() {
    let mut call = get();
    for _ in 0..3 {
        assert!(matches!(call.next(at(0)), CallStep::NeedToken));
    }
    call.token(reader(), at(0), || None);
    for _ in 0..3 {
        assert!(matches!(call.next(at(0)), CallStep::Send));
    }
    answered(&mut call, 503);
    for _ in 0..3 {
        assert!(matches!(call.next(at(0)), CallStep::Look));
    }
    call.looked(&answer(503, ""), at(0), |_| unreachable!("no 401"));
    for _ in 0..3 {
        assert!(matches!(call.next(at(0)), CallStep::Wait(until) if until == at(1)), "woken early, it waits on");
    }
    sent(&mut call, at(1));
    answered(&mut call, 404);
    for _ in 0..3 {
        assert!(matches!(call.next(at(1)), CallStep::Deliver));
    }
}

#[test]
fn nothing_is_on_a_request_before_there_is_a_token() {
    let mut headers = HeaderMap::new();
    get().authorize(&mut headers);
    assert!(headers.is_empty());
}

#[test]
fn a_call_that_is_held_back_gets_a_token_again_before_it_asks_again() {
    let mut call = get();
    assert!(matches!(call.next(at(0)), CallStep::NeedToken));
    call.token(reader(), at(0), || held(10, 10));
    assert!(matches!(call.next(at(0)), CallStep::Wait(until) if until == at(10)));
    assert!(matches!(call.next(at(10)), CallStep::NeedToken), "the one at hand may have been rejected meanwhile");
    call.token(token("newer", "load:read"), at(10), || None);
    assert!(matches!(call.next(at(10)), CallStep::Send), "and is sent as soon as its turn comes");
    let mut headers = HeaderMap::new();
    call.authorize(&mut headers);
    assert_eq!(headers["authorization"], "Bearer newer");
}

#[test]
fn a_call_that_is_woken_before_its_time_asks_for_its_turn_at_once() {
    let mut call = get();
    call.token(reader(), at(0), || held(50, 50));
    assert!(matches!(call.next(at(0)), CallStep::Wait(_)));
    assert!(matches!(call.next(at(5)), CallStep::NeedToken), "somebody before it has left");
    // 5 of 60 seconds are spent: what it was woken from is not waited for.
    call.token(reader(), at(5), || held(61, 61));
    assert!(matches!(call.next(at(5)), CallStep::Fail(error) if error.kind() == ErrorKind::RateLimited));
    let mut call = get();
    call.token(reader(), at(0), || held(50, 50));
    let _ = (call.next(at(0)), call.next(at(5)));
    call.token(reader(), at(5), || held(60, 60));
    assert!(matches!(call.next(at(5)), CallStep::Wait(_)), "55 are left");
}

#[test]
fn a_call_fails_at_once_where_its_turn_comes_too_late_however_soon_it_is_to_ask_again() {
    let mut call = call_of(&Api::production().patience(seconds(10)), "GET", "loads", CallOptions::new());
    call.token(reader(), at(0), || held(11, 3));
    let CallStep::Fail(error) = call.next(at(0)) else { panic!("a failure") };
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(seconds(11))));
}

#[test]
fn a_machine_that_sleeps_while_a_call_waits_costs_it_the_wait_and_no_more() {
    let mut call = get();
    call.token(reader(), at(0), || held(20, 20));
    assert!(matches!(call.next(at(0)), CallStep::Wait(_)));
    assert!(matches!(call.next(at(100_000)), CallStep::NeedToken));
    call.token(reader(), at(100_000), || held(100_040, 100_040));
    assert!(matches!(call.next(at(100_000)), CallStep::Wait(_)), "40 seconds are left");
}

#[test]
fn a_turn_is_not_asked_for_without_the_scopes_that_the_caller_requires() {
    let mut call = call("POST", "loads", CallOptions::new().require(["load:create"]));
    let asked = Cell::new(false);
    call.token(reader(), at(0), || {
        asked.set(true);
        None
    });
    assert!(matches!(call.next(at(0)), CallStep::Fail(error) if error.kind() == ErrorKind::MissingScope));
    assert!(!asked.get(), "it would have cost the others a place");
}

#[test]
fn a_refused_token_leads_to_another_one_at_once_and_an_outage_to_a_pause_first() {
    let mut call = get();
    sent(&mut call, at(0));
    answered(&mut call, 401);
    assert!(matches!(call.next(at(0)), CallStep::Look));
    call.looked(&answer(401, ""), at(0), |token| token.access_token() == "abc");
    sent(&mut call, at(0));
    answered(&mut call, 503);
    assert!(matches!(call.next(at(0)), CallStep::Look));
    call.looked(&with(answer(503, ""), "retry-after", "7"), at(0), |_| unreachable!("no 401"));
    assert!(matches!(call.next(at(0)), CallStep::Wait(until) if until == at(7)));
    assert!(matches!(call.next(at(6)), CallStep::Wait(until) if until == at(7)));
    sent(&mut call, at(7));
    answered(&mut call, 200);
    assert!(matches!(call.next(at(7)), CallStep::Deliver));
}

#[test]
fn waits_for_turns_and_pauses_share_one_patience() {
    let mut call = get();
    call.token(reader(), at(0), || held(30, 30));
    let _ = (call.next(at(0)), call.next(at(30)));
    call.token(reader(), at(30), || None);
    answered(&mut call, 429);
    call.looked(&with(answer(429, ""), "retry-after", "31"), at(30), |_| unreachable!("no 401"));
    assert!(matches!(call.next(at(30)), CallStep::Fail(error) if error.retry_after() == Some(seconds(31))));
}

#[test]
fn a_redirect_without_the_token_says_nothing_about_it() {
    for status in [200, 401, 403, 429, 503] {
        let mut call = get();
        sent(&mut call, at(0));
        call.answered(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), None);
        assert!(matches!(call.next(at(0)), CallStep::Deliver), "{status}");
    }
}

#[test]
fn an_error_of_the_http_client_is_the_callers_where_nobody_knows_what_the_server_has_seen() {
    for method in ["GET", "POST"] {
        let mut call = call(method, "loads", CallOptions::new().idempotent());
        sent(&mut call, at(0));
        assert!(!call.failed(false), "{method}");
    }
}

#[test]
fn a_request_that_a_kept_connection_swallowed_is_sent_again_once_where_that_is_safe() {
    let idempotent = || CallOptions::new().idempotent();
    for (method, options, again) in [
        ("GET", CallOptions::new(), true),
        ("HEAD", CallOptions::new(), true),
        ("POST", CallOptions::new(), false),
        ("PUT", CallOptions::new(), false),
        ("POST", idempotent(), true),
        ("POST", idempotent().single_use_body(), false),
        ("GET", CallOptions::new().single_use_body(), false),
    ] {
        let mut call = call(method, "loads", options);
        sent(&mut call, at(0));
        assert_eq!(call.failed(true), again, "{method}");
        if again {
            // With a token and a turn of its own: the server may have counted the first one.
            sent(&mut call, at(0));
            assert!(!call.failed(true), "once");
        }
    }
}

#[test]
fn an_answer_to_a_call_without_a_token_is_a_mistake_that_is_told() {
    let mut call = get();
    call.looked(&answer(401, ""), at(0), |_| unreachable!("there is no token"));
    assert!(matches!(call.next(at(0)), CallStep::Fail(error) if error.kind() == ErrorKind::Configuration));
}

#[test]
fn a_wait_ends_at_its_time_and_not_a_moment_later() {
    let mut call = get();
    let until = at(0).saturating_add(Duration::from_millis(1));
    call.token(reader(), at(0), || Some(Hold { until, ask_at: until, asked_by: None }));
    assert!(matches!(call.next(at(0)), CallStep::Wait(told) if told == until));
    assert!(matches!(call.next(until), CallStep::NeedToken));
}
