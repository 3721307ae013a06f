//! When the token endpoint does not answer with a token: how long nothing is asked, and who hears of it.

use std::time::Duration;

use alvys_auth_core::{Change, Credentials, Error, ErrorKind, Lifecycle, Policy, Timestamp, TokenResponse};
use http::Response;

use crate::support::{
    answer, at, complete, denied, fetched, granted, half_an_answer, just_before, lifecycle, obtain, refused,
    unreachable_server, used, waited, with, with_policy,
};

mod support;

/// Lets an attempt at `now` fail with `response`; until when nothing is asked.
fn fail(lifecycle: &mut Lifecycle, response: &Response<Vec<u8>>, now: Timestamp) -> Timestamp {
    let attempt = fetched(lifecycle, now);
    match complete(lifecycle, attempt.answered(response), now) {
        Change::Paused { until, .. } => until,
        other => panic!("expected a pause, not {other:?}"),
    }
}

/// The pauses after that many failures in a row, each tried again the moment it may be.
fn pauses(lifecycle: &mut Lifecycle, response: &Response<Vec<u8>>, count: usize) -> Vec<Duration> {
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..count {
        let until = fail(lifecycle, response, now);
        pauses.push(until.saturating_duration_since(now));
        now = until;
    }
    pauses
}

/// A policy whose pauses are not cut short while somebody waits.
fn patient() -> Policy {
    Policy::new().pause_while_waiting(Duration::MAX)
}

#[test]
fn the_state_is_one_word() {
    let mut lifecycle = lifecycle();
    let state = |lifecycle: &Lifecycle, now| lifecycle.snapshot().status(now).as_str();
    assert_eq!(state(&lifecycle, at(0)), "empty");
    let attempt = fetched(&mut lifecycle, at(0));
    assert_eq!(state(&lifecycle, at(0)), "fetching");
    let Change::Paused { until, .. } = complete(&mut lifecycle, attempt.answered(&answer(503, "")), at(0)) else {
        panic!("expected a pause");
    };
    assert_eq!((state(&lifecycle, at(0)), state(&lifecycle, until)), ("paused", "empty"));

    let token = obtain(&mut lifecycle, "one", 3600, until);
    assert_eq!(state(&lifecycle, until), "ready");
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    assert_eq!(state(&lifecycle, token.renewal_at()), "renewing");
    complete(&mut lifecycle, attempt.answered(&answer(503, "")), token.renewal_at());
    assert_eq!(state(&lifecycle, token.renewal_at()), "ready", "a pause that nobody notices");
    assert_eq!(state(&lifecycle, token.expires_at()), "empty");
}

#[test]
fn a_transient_failure_pauses_everybody_with_the_same_error() {
    let mut lifecycle = lifecycle();
    let until = fail(&mut lifecycle, &answer(503, ""), at(0));
    for _ in 0..50 {
        let wait = waited(&mut lifecycle, at(0));
        assert_eq!(wait.until(), until);
        assert!(!wait.is_in_flight());
        let error = wait.clone().give_up().expect_err("no token");
        assert_eq!((error.kind(), error.status().map(|status| status.as_u16())), (ErrorKind::Unavailable, Some(503)));
        assert_eq!(wait.error().map(Error::to_string), Some(error.to_string()));
    }
    waited(&mut lifecycle, just_before(until));
    let _ = fetched(&mut lifecycle, until);
}

#[test]
fn every_transient_failure_is_waited_for() {
    let disguised = r#"{"error":"access_denied","error_description":"Global limit has been reached"}"#;
    let (page, garbage) = ("<html>Just a moment...", "garbage");
    for response in [
        answer(429, ""),
        answer(500, ""),
        answer(500, disguised),
        answer(502, page),
        answer(503, ""),
        answer(200, page),
        answer(403, page),
        answer(200, garbage),
    ] {
        let mut lifecycle = lifecycle();
        fail(&mut lifecycle, &response, at(0));
        assert!(waited(&mut lifecycle, at(0)).error().is_some_and(Error::is_retryable));
    }
    for error in [unreachable_server(), Error::timed_out("too slow"), half_an_answer()] {
        let mut lifecycle = lifecycle();
        let attempt = fetched(&mut lifecycle, at(0));
        complete(&mut lifecycle, attempt.failed(error), at(0));
        assert!(!waited(&mut lifecycle, at(0)).is_in_flight());
    }
}

#[test]
fn the_backoff_doubles_up_to_its_limit_with_full_jitter() {
    let ceilings = [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000];
    let mut longest = [Duration::ZERO; 10];
    let mut shortest = [Duration::MAX; 10];
    for seed in 0..300 {
        let mut lifecycle = with_policy(patient(), seed);
        for (step, pause) in pauses(&mut lifecycle, &answer(503, ""), 10).into_iter().enumerate() {
            longest[step] = longest[step].max(pause);
            shortest[step] = shortest[step].min(pause);
        }
    }
    for (step, ceiling) in ceilings.into_iter().map(Duration::from_millis).enumerate() {
        assert!(longest[step] <= ceiling, "{step}: {:?}", longest[step]);
        assert!(longest[step] > ceiling * 9 / 10, "{step}: never near {ceiling:?}");
        assert!(shortest[step] < ceiling / 10, "{step}: not spread down from {ceiling:?}");
        assert!(!shortest[step].is_zero(), "{step}: a pause of no length");
    }
}

#[test]
fn a_backoff_of_the_policy_is_obeyed() {
    let policy = patient().backoff(Duration::from_secs(10), Duration::from_secs(15));
    let longest = |step: usize| {
        let pause = |seed| {
            let mut lifecycle = with_policy(policy.clone(), seed);
            pauses(&mut lifecycle, &answer(503, ""), 3)[step]
        };
        (0..200).map(pause).max().unwrap()
    };
    let near = |pause: Duration, seconds: f64| (0.9 * seconds..=seconds).contains(&pause.as_secs_f64());
    assert!(near(longest(0), 10.0) && near(longest(1), 15.0) && near(longest(2), 15.0));
}

#[test]
fn no_pause_is_ever_of_zero_length() {
    let zero = Duration::ZERO;
    let none = Policy::new().backoff(zero, zero).cool_down(zero, zero).pause_while_waiting(zero);
    for response in
        [answer(503, ""), answer(401, ""), answer(200, "garbage"), with(answer(429, ""), "retry-after", "0")]
    {
        let mut lifecycle = with_policy(none.clone(), 7);
        assert!(pauses(&mut lifecycle, &response, 50).iter().all(|pause| !pause.is_zero()));
    }
}

#[test]
fn the_servers_word_is_obeyed_when_it_is_longer() {
    for (response, seconds) in [
        (with(answer(429, ""), "retry-after", "60"), 60),
        (with(answer(503, ""), "retry-after", "3600"), 3600),
        (with(answer(429, ""), "retry-after", "99999999"), 86_400),
        (with(answer(429, ""), "auth0-client-quota-limit", "q=10;r=0;t=3540"), 3540),
        (with(with(answer(429, ""), "x-ratelimit-reset", "1700000090"), "date", "Tue, 14 Nov 2023 22:13:20 GMT"), 90),
    ] {
        let mut lifecycle = lifecycle();
        assert_eq!(fail(&mut lifecycle, &response, at(10)), at(10 + seconds));
        waited(&mut lifecycle, just_before(at(10 + seconds)));
        let _ = fetched(&mut lifecycle, at(10 + seconds));
    }
}

#[test]
fn the_backoff_is_obeyed_when_the_servers_word_is_shorter() {
    let response = with(answer(429, ""), "retry-after", "1");
    let policy = patient().backoff(Duration::from_secs(3600), Duration::from_secs(3600));
    let mut lifecycle = with_policy(policy, 7);
    assert!(fail(&mut lifecycle, &response, at(0)) > at(1));
}

#[test]
fn the_pause_counts_from_the_answer() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    complete(&mut lifecycle, attempt.answered(&with(answer(429, ""), "retry-after", "60")), at(9));
    assert_eq!(waited(&mut lifecycle, at(9)).until(), at(69));
}

#[test]
fn a_token_ends_the_row_of_failures() {
    let mut lifecycle = lifecycle();
    let refusal = answer(401, "");
    assert_eq!(pauses(&mut lifecycle, &refusal, 3).last(), Some(&Duration::from_secs(20)));
    obtain(&mut lifecycle, "abc", 60, at(100));
    assert!(lifecycle.snapshot().status(at(100)).last_error.is_none());
    assert_eq!(fail(&mut lifecycle, &refusal, at(200)), at(205));
}

#[test]
fn a_permanent_failure_fails_at_once_and_cools_down_ever_longer() {
    let mut lifecycle = lifecycle();
    let expected = [5, 10, 20, 40, 80, 160, 300, 300, 300].map(Duration::from_secs);
    assert_eq!(pauses(&mut lifecycle, &answer(401, ""), 9), expected);
}

#[test]
fn a_permanent_failure_is_never_hammered_and_never_wedges() {
    for response in [
        answer(401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#),
        answer(403, r#"{"error":"access_denied","error_description":"Client has not been granted scopes: x"}"#),
        answer(403, r#"{"error":"access_denied","error_description":"Service not enabled within domain: x"}"#),
        answer(501, r#"{"error":"unsupported_grant_type"}"#),
        answer(404, "<html>"),
        answer(302, ""),
    ] {
        let mut lifecycle = lifecycle();
        let until = fail(&mut lifecycle, &response, at(0));
        assert_eq!(until, at(5));
        let first = refused(&mut lifecycle, at(0)).to_string();
        for _ in 0..50 {
            assert_eq!(refused(&mut lifecycle, just_before(until)).to_string(), first);
        }
        assert_eq!(obtain(&mut lifecycle, "abc", 3600, until).access_token(), "abc");
    }
}

#[test]
fn a_permanent_failure_with_a_wait_of_the_servers_is_kept_that_long() {
    let mut lifecycle = lifecycle();
    let response = with(answer(403, ""), "retry-after", "60");
    assert_eq!(fail(&mut lifecycle, &response, at(0)), at(60));
    refused(&mut lifecycle, at(59));
    let _ = fetched(&mut lifecycle, at(60));
}

#[test]
fn new_credentials_clear_a_failure() {
    let mut lifecycle = lifecycle();
    pauses(&mut lifecycle, &answer(401, ""), 4);
    refused(&mut lifecycle, at(40));
    lifecycle.set_credentials(Credentials::new("my-client", "new").unwrap()).unwrap();
    assert!(lifecycle.snapshot().status(at(40)).last_error.is_none());
    let attempt = fetched(&mut lifecycle, at(40));
    assert!(String::from_utf8(attempt.to_http().into_body()).unwrap().contains(r#""client_secret":"new""#));

    complete(&mut lifecycle, attempt.answered(&answer(401, "")), at(40));
    assert_eq!(lifecycle.attempt_due(), Some(at(45)), "the cool-down starts short again");
}

#[test]
fn a_rotated_secret_does_not_undercut_the_servers_word() {
    let mut lifecycle = lifecycle();
    let until = fail(&mut lifecycle, &with(answer(429, ""), "retry-after", "600"), at(0));
    lifecycle.set_credentials(Credentials::new("my-client", "new").unwrap()).unwrap();
    assert_eq!(waited(&mut lifecycle, at(1)).until(), until);
    lifecycle.set_credentials(Credentials::new("another-client", "new").unwrap()).unwrap();
    let _ = fetched(&mut lifecycle, at(1));
}

#[test]
fn the_same_credentials_again_change_nothing() {
    let mut lifecycle = lifecycle();
    let same = lifecycle.request().credentials();
    let attempt = fetched(&mut lifecycle, at(0));
    lifecycle.set_credentials(same.clone()).unwrap();
    assert!(waited(&mut lifecycle, at(0)).is_in_flight());
    complete(&mut lifecycle, attempt.answered(&answer(401, "")), at(0));
    lifecycle.set_credentials(same).unwrap();
    refused(&mut lifecycle, at(1));
}

#[test]
fn an_old_failure_does_not_explain_a_new_silence() {
    let mut lifecycle = lifecycle();
    fail(&mut lifecycle, &answer(503, ""), at(0));
    let _ = fetched(&mut lifecycle, at(8 * 3600));
    assert_eq!(waited(&mut lifecycle, at(8 * 3600)).give_up().expect_err("no token").kind(), ErrorKind::TimedOut);
}

#[test]
fn an_abandoned_attempt_leaves_the_last_failure_known() {
    let mut lifecycle = lifecycle();
    let until = fail(&mut lifecycle, &answer(503, ""), at(0));
    let attempt = fetched(&mut lifecycle, until);
    complete(&mut lifecycle, attempt.abandoned(), until);
    assert!(lifecycle.snapshot().status(until).last_error.is_some());
}

#[test]
fn those_who_wait_for_a_second_attempt_know_what_became_of_the_first() {
    let mut lifecycle = lifecycle();
    let until = fail(&mut lifecycle, &answer(503, ""), at(0));
    let _ = fetched(&mut lifecycle, until);
    let wait = waited(&mut lifecycle, until);
    assert!(wait.is_in_flight());
    assert_eq!(wait.clone().give_up().expect_err("no token").kind(), ErrorKind::Unavailable);
    let lease_ends = wait.until();
    let _ = fetched(&mut lifecycle, lease_ends);
    assert_eq!(waited(&mut lifecycle, lease_ends).give_up().expect_err("no token").kind(), ErrorKind::Unavailable);
}

#[test]
fn a_token_that_is_dead_on_arrival_is_an_error_and_no_loop() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    let done = complete(&mut lifecycle, attempt.answered(&granted("abc", 5)), at(5));
    assert!(matches!(done, Change::Paused { .. }), "{done:?}");
    let error = refused(&mut lifecycle, at(5));
    assert_eq!(error.kind(), ErrorKind::InvalidResponse);
    assert!(error.to_string().contains("expired by the time it arrived"), "{error}");
    let _ = fetched(&mut lifecycle, at(10));
}

#[test]
fn a_token_that_cannot_be_used_is_an_error_and_no_loop() {
    let oversized = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(17_000));
    for body in [
        r#"{"access_token":null}"#,
        r#"{"access_token":""}"#,
        r#"{"access_token":"a b"}"#,
        r#"{"access_token":"abc","expires_in":0}"#,
        r#"{"token_type":"Bearer"}"#,
        &oversized,
    ] {
        let mut lifecycle = lifecycle();
        fail(&mut lifecycle, &answer(200, body), at(0));
        assert_eq!(refused(&mut lifecycle, at(0)).kind(), ErrorKind::InvalidResponse);
        refused(&mut lifecycle, just_before(at(5)));
        let _ = fetched(&mut lifecycle, at(5));
    }
}

#[test]
fn a_token_from_a_store_serves_during_a_cool_down_and_does_not_end_it() {
    let mut lifecycle = lifecycle();
    fail(&mut lifecycle, &answer(401, ""), at(0));
    assert!(lifecycle.adopt(TokenResponse::new("stored", Duration::from_secs(3), "").unwrap(), at(1)));
    assert_eq!(used(&mut lifecycle, just_before(at(4))).access_token(), "stored");
    refused(&mut lifecycle, at(4));
    // Nor does it end the row of failures.
    assert_eq!(fail(&mut lifecycle, &answer(401, ""), at(5)), at(15));
}

#[test]
fn a_token_from_a_store_does_not_undercut_the_servers_word() {
    let mut lifecycle = lifecycle();
    fail(&mut lifecycle, &with(answer(429, ""), "retry-after", "3600"), at(0));
    assert!(lifecycle.adopt(TokenResponse::new("stored", Duration::from_secs(60), "").unwrap(), at(1)));
    assert_eq!(used(&mut lifecycle, at(60)).access_token(), "stored");
    assert_eq!(waited(&mut lifecycle, at(61)).until(), at(3600));
}

#[test]
fn a_late_token_does_not_undercut_the_servers_word() {
    let mut lifecycle = lifecycle();
    let late = fetched(&mut lifecycle, at(0));
    fail(&mut lifecycle, &with(answer(429, ""), "retry-after", "3600"), at(20));
    complete(&mut lifecycle, late.answered(&granted("late", 60)), at(21));
    assert_eq!(used(&mut lifecycle, at(59)).access_token(), "late");
    assert_eq!(waited(&mut lifecycle, at(61)).until(), at(3620));
}

#[test]
fn a_late_failure_does_not_lengthen_a_pause() {
    let mut lifecycle = lifecycle();
    let late = fetched(&mut lifecycle, at(0));
    let until = fail(&mut lifecycle, &answer(401, ""), at(20));
    let done = complete(&mut lifecycle, late.failed(unreachable_server()), at(21));
    assert!(matches!(done, Change::Superseded));
    refused(&mut lifecycle, at(21));
    assert_eq!(lifecycle.attempt_due(), Some(until));
}

#[test]
fn a_late_failure_does_not_count_while_a_newer_attempt_may_still_report() {
    let mut lifecycle = lifecycle();
    let late = fetched(&mut lifecycle, at(0));
    let newest = fetched(&mut lifecycle, at(20));
    assert!(matches!(complete(&mut lifecycle, late.answered(&denied()), at(60)), Change::Superseded));
    assert!(lifecycle.snapshot().status(at(60)).last_error.is_none());
    let change = complete(&mut lifecycle, newest.failed(unreachable_server()), at(61));
    assert!(matches!(change, Change::Paused { .. }), "its lease is over, and nobody has taken its place: {change:?}");
}

#[test]
fn a_late_failure_counts_while_nothing_newer_was_tried() {
    let mut lifecycle = lifecycle();
    let late = fetched(&mut lifecycle, at(0));
    let newest = fetched(&mut lifecycle, at(20));
    complete(&mut lifecycle, newest.abandoned(), at(21));
    let done = complete(&mut lifecycle, late.answered(&answer(401, "")), at(22));
    assert!(matches!(done, Change::Paused { .. }), "{done:?}");
    refused(&mut lifecycle, at(22));
}
