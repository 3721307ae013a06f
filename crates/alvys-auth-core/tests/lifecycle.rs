//! Getting and holding a token: who fetches, who waits, how long a token serves, and what readers are told.

use std::time::Duration;

use alvys_auth_core::{Change, Error, ErrorKind, Flow, Lifecycle, Policy, Step, Timestamp, TokenResponse};
use serde_json::json;

use crate::support::{
    answer, at, complete, fetched, granted, holding, just_before, jwt, lifecycle, obtain, request, unreachable_server,
    used, waited, with_policy,
};

mod support;

/// The lease under the default policy: half as long again as a request may take.
const LEASE: Timestamp = Timestamp::from_millis(15_001);

#[test]
fn the_first_caller_fetches_and_the_others_wait() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    assert!(!attempt.is_renewal());
    for _ in 0..50 {
        let wait = waited(&mut lifecycle, at(0));
        assert_eq!(wait.until(), LEASE);
        assert!(wait.is_in_flight() && wait.error().is_none());
        assert_eq!(wait.give_up().expect_err("no token").kind(), ErrorKind::TimedOut);
    }
    let done = complete(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(1));
    assert!(matches!(done, Change::Obtained(token) if token.access_token() == "abc"));
    for _ in 0..50 {
        assert_eq!(used(&mut lifecycle, at(1)).header(), "Bearer abc");
    }
}

#[test]
fn an_attempt_sends_the_request_of_the_lifecycle() {
    let mut lifecycle = lifecycle();
    let expected = lifecycle.request().to_http();
    let sent = fetched(&mut lifecycle, at(0)).to_http();
    assert_eq!((sent.uri(), sent.body()), (expected.uri(), expected.body()));
}

#[test]
fn a_lifetime_counts_from_when_the_attempt_started() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(100));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(109));
    let token = used(&mut lifecycle, at(109));
    assert_eq!((token.obtained_at(), token.expires_at()), (Some(at(100)), at(3700)));
    assert_eq!(token.expires_in(at(109)), Duration::from_secs(3591));
    assert_eq!(token.expires_in(at(9999)), Duration::ZERO);
}

#[test]
fn a_fresh_token_is_used_without_asking_again() {
    let mut lifecycle = holding("abc", 3600);
    let due = used(&mut lifecycle, at(0)).renewal_at();
    for now in [at(1), at(60), at(1800), at(3299), just_before(due)] {
        used(&mut lifecycle, now);
    }
    assert!(matches!(lifecycle.poll(due), Step::Fetch(_)));
}

#[test]
fn an_expired_token_is_never_used() {
    let mut lifecycle = holding("abc", 3600);
    let _ = fetched(&mut lifecycle, just_before(at(3600)));
    assert_eq!(used(&mut lifecycle, just_before(at(3600))).access_token(), "abc");
    assert!(waited(&mut lifecycle, at(3600)).is_in_flight());

    let mut unasked = holding("abc", 3600);
    assert!(unasked.snapshot().usable(at(3600)).is_none());
    assert!(!fetched(&mut unasked, at(3600)).is_renewal());
}

#[test]
fn a_renewal_may_be_left_to_others_until_the_last_quarter_of_its_time() {
    let mut lifecycle = holding("abc", 3600);
    let (due, end) = (used(&mut lifecycle, at(0)).renewal_at(), at(3600));
    let last = end.saturating_sub(end.saturating_duration_since(due) / 4);
    let snapshot = lifecycle.snapshot();
    assert!(snapshot.usable(due).is_none());
    for now in [at(0), due, just_before(last)] {
        assert!(snapshot.deferrable(now).is_some(), "{now:?}");
    }
    for now in [last, just_before(end), end] {
        assert!(snapshot.deferrable(now).is_none(), "{now:?}");
    }
    assert!(lifecycle.snapshot().deferrable(at(86_400)).is_none());
}

#[test]
fn nothing_is_fetched_while_nobody_asks() {
    let mut lifecycle = holding("abc", 60);
    let snapshot = lifecycle.snapshot();
    assert!(!snapshot.status(at(86_400)).in_flight && !snapshot.status(at(86_400)).is_ready());
    assert!(!fetched(&mut lifecycle, at(86_400)).is_renewal());
}

#[test]
fn the_margin_is_at_most_a_fifth_of_the_lifetime_and_at_least_half_of_itself() {
    let margins = |policy: &Policy, lifetime: u64| -> Vec<Duration> {
        let margin = |seed| {
            let token = obtain(&mut with_policy(policy.clone(), seed), "abc", lifetime, at(0));
            token.expires_at().saturating_duration_since(token.renewal_at())
        };
        (0..200).map(margin).collect()
    };
    let ms = Duration::from_millis;
    for (policy, lifetime, whole) in [
        (Policy::new(), 3600, ms(300_000)),
        (Policy::new(), 86_400, ms(300_000)),
        (Policy::new(), 600, ms(120_000)),
        (Policy::new(), 1, ms(200)),
        (Policy::new().margin(ms(30_000)), 3600, ms(30_000)),
        (Policy::new().margin(Duration::MAX), 3600, ms(720_000)),
        (Policy::new().margin(Duration::ZERO), 3600, ms(0)),
    ] {
        let drawn = margins(&policy, lifetime);
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(*most <= whole && *least >= whole / 2, "{lifetime}: {least:?} to {most:?} of {whole:?}");
        assert!(*most > whole * 9 / 10 || whole.is_zero(), "{lifetime}: spread up to {most:?} only");
        assert!(*least < whole * 6 / 10 || whole.is_zero(), "{lifetime}: spread from {least:?} only");
    }
}

#[test]
fn the_jitter_is_drawn_once_per_token_and_decided_by_the_seed() {
    let due = |seed| obtain(&mut with_policy(Policy::new(), seed), "abc", 3600, at(0)).renewal_at();
    assert_eq!(due(7), due(7));
    assert_ne!(due(7), due(8));

    let mut lifecycle = with_policy(Policy::new(), 7);
    let first = obtain(&mut lifecycle, "abc", 3600, at(0)).renewal_at();
    assert_eq!(used(&mut lifecycle, at(1800)).renewal_at(), first);
    let second = obtain(&mut lifecycle, "def", 3600, at(3600)).renewal_at();
    assert_ne!(second.saturating_duration_since(at(3600)), first.saturating_duration_since(at(0)));
}

#[test]
fn a_missing_lifetime_is_the_policys_default_and_a_jwt_beats_it() {
    let lived = |body: String| {
        let policy = Policy::new().default_lifetime(Duration::from_secs(120));
        let mut lifecycle = with_policy(policy, 7);
        let attempt = fetched(&mut lifecycle, at(0));
        complete(&mut lifecycle, attempt.answered(&answer(200, body)), at(0));
        used(&mut lifecycle, at(0)).expires_at()
    };
    let token = jwt(&json!({"iat": 1_700_000_000, "exp": 1_700_000_900}));
    assert_eq!(lived(r#"{"access_token":"abc"}"#.to_owned()), at(120));
    assert_eq!(lived(json!({"access_token": token}).to_string()), at(900));
    assert_eq!(lived(json!({"access_token": token, "expires_in": 600}).to_string()), at(600));
}

#[test]
fn a_token_that_arrives_late_in_its_life_is_not_due_at_once() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 10)), at(9));
    let token = used(&mut lifecycle, at(9));
    assert!(token.renewal_at() >= Timestamp::from_millis(9500) && token.renewal_at() < token.expires_at());
}

#[test]
fn a_token_from_a_store_serves_at_once() {
    let mut lifecycle = lifecycle();
    let grant = TokenResponse::new("stored", Duration::from_secs(1800), "load:read").unwrap();
    assert!(lifecycle.adopt(grant, at(50)));
    let token = used(&mut lifecycle, at(50));
    assert_eq!((token.access_token(), token.expires_at()), ("stored", at(1850)));
}

#[test]
fn a_token_from_a_store_ends_the_wait_but_not_the_attempt() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    assert!(lifecycle.adopt(TokenResponse::new("stored", Duration::from_secs(1800), "").unwrap(), at(1)));
    assert_eq!(used(&mut lifecycle, at(1)).access_token(), "stored");
    assert!(lifecycle.snapshot().status(at(1)).in_flight);
    complete(&mut lifecycle, attempt.answered(&granted("fetched", 3600)), at(2));
    assert_eq!(used(&mut lifecycle, at(2)).access_token(), "fetched");
}

#[test]
fn a_store_never_replaces_a_token_by_one_that_expires_sooner() {
    let mut lifecycle = holding("abc", 3600);
    assert!(!lifecycle.adopt(TokenResponse::new("stored", Duration::from_secs(3600), "").unwrap(), at(0)));
    assert!(!lifecycle.adopt(TokenResponse::new("stored", Duration::from_secs(60), "").unwrap(), at(60)));
    assert_eq!(used(&mut lifecycle, at(60)).access_token(), "abc");
    assert!(lifecycle.adopt(TokenResponse::new("stored", Duration::from_secs(3600), "").unwrap(), at(60)));
    assert_eq!(used(&mut lifecycle, at(60)).access_token(), "stored");
}

#[test]
fn a_store_cannot_hand_over_a_token_of_another_organization() {
    let stored = |token: &str| TokenResponse::new(token, Duration::from_secs(1800), "").unwrap();
    let guarded = || Lifecycle::new(request(Flow::current().expect_organization("va336")), Policy::new(), 7);
    assert!(guarded().adopt(stored(&jwt(&json!({"org_name": "va336"}))), at(0)));
    assert!(!guarded().adopt(stored(&jwt(&json!({"org_name": "ab123"}))), at(0)));
    assert!(!guarded().adopt(stored("0paque"), at(0)));
}

#[test]
fn a_stored_token_of_the_legacy_flow_is_read_only_too() {
    let mut lifecycle = Lifecycle::new(request(Flow::legacy("va336")), Policy::new(), 7);
    let token = jwt(&json!({"sub": "my-client"}));
    lifecycle.adopt(TokenResponse::new(&token, Duration::from_secs(1800), "").unwrap(), at(0));
    assert!(used(&mut lifecycle, at(0)).scopes().is_read_only());
}

#[test]
fn the_snapshot_says_what_a_poll_would() {
    let mut lifecycle = lifecycle();
    let empty = lifecycle.snapshot();
    assert!(empty.usable(at(0)).is_none() && !empty.status(at(0)).is_ready() && !empty.status(at(0)).in_flight);

    let attempt = fetched(&mut lifecycle, at(0));
    assert!(lifecycle.snapshot().status(at(0)).in_flight);
    complete(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(0));

    let fresh = lifecycle.snapshot();
    let due = used(&mut lifecycle, at(0)).renewal_at();
    assert_eq!(fresh.usable(just_before(due)).map(|token| token.access_token()), Some("abc"));
    assert!(fresh.usable(due).is_none(), "one reader has to poll now");
    assert_eq!(fresh.status(due).expires_in, Some(at(3600).saturating_duration_since(due)));
    assert!(fresh.status(due).is_ready());

    let _ = fetched(&mut lifecycle, due);
    let renewing = lifecycle.snapshot();
    let lease_ends = due.saturating_add(Duration::from_millis(15_001));
    assert!(renewing.usable(due).is_some(), "the others need not poll");
    assert!(renewing.usable(just_before(lease_ends)).is_some() && renewing.usable(lease_ends).is_none());
}

#[test]
fn the_wake_up_call_is_when_something_can_be_fetched() {
    let mut lifecycle = lifecycle();
    assert_eq!(lifecycle.attempt_due(), None, "the first caller fetches at once");
    let attempt = fetched(&mut lifecycle, at(0));
    assert_eq!(lifecycle.attempt_due(), Some(LEASE));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(1));
    let token = used(&mut lifecycle, at(1));
    assert_eq!(lifecycle.attempt_due(), Some(token.renewal_at()));

    let renewal = fetched(&mut lifecycle, token.renewal_at());
    assert_eq!(lifecycle.attempt_due(), Some(token.renewal_at().saturating_add(Duration::from_millis(15_001))));
    let done = complete(&mut lifecycle, renewal.failed(Error::timed_out("too slow")), token.renewal_at());
    let Change::Paused { until, .. } = done else { panic!("{done:?}") };
    assert_eq!(lifecycle.attempt_due(), Some(until));
    lifecycle.invalidate();
    assert_eq!(lifecycle.attempt_due(), Some(until));
}

#[test]
fn the_wake_up_call_comes_when_the_token_ends_although_a_longer_pause_would_go_on_while_it_is_held() {
    let mut longer = 0;
    for seed in 0..20 {
        let mut lifecycle = with_policy(Policy::new().backoff(Duration::from_secs(60), Duration::from_secs(60)), seed);
        let attempt = fetched(&mut lifecycle, at(0));
        complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(0));
        let token = used(&mut lifecycle, at(0));
        let renewal = fetched(&mut lifecycle, token.renewal_at());
        let done = complete(&mut lifecycle, renewal.failed(unreachable_server()), token.renewal_at());
        let Change::Paused { until, .. } = done else { panic!("{done:?}") };
        assert_eq!(lifecycle.attempt_due(), Some(until.min(token.expires_at())));
        longer += u32::from(until > token.expires_at());
    }
    assert!(longer > 5, "{longer} of 20 pauses were longer");
}

#[test]
fn the_end_of_time_is_no_overflow() {
    let end = Timestamp::from_millis(u64::MAX);
    let longest = Policy::new()
        .request_timeout(Duration::MAX)
        .default_lifetime(Duration::MAX)
        .margin(Duration::MAX)
        .backoff(Duration::MAX, Duration::MAX)
        .cool_down(Duration::MAX, Duration::MAX)
        .rejection_grace(Duration::MAX);
    for policy in [Policy::new(), longest] {
        for now in [just_before(end), end] {
            let mut lifecycle = with_policy(policy.clone(), 7);
            let attempt = fetched(&mut lifecycle, now);
            complete(&mut lifecycle, attempt.failed(unreachable_server()), now);
            let _ = lifecycle.poll(now);
            lifecycle.adopt(TokenResponse::new("abc", Duration::MAX, "").unwrap(), now);
            let _ = (lifecycle.poll(now), lifecycle.attempt_due(), lifecycle.snapshot().status(now));
        }
    }
    let mut lifecycle = with_policy(Policy::new().default_lifetime(Duration::MAX), 7);
    let attempt = fetched(&mut lifecycle, at(0));
    complete(&mut lifecycle, attempt.answered(&answer(200, r#"{"access_token":"abc"}"#)), at(0));
    let token = used(&mut lifecycle, at(0));
    assert_eq!(token.expires_at(), end);
    let rejected = lifecycle.reject(&token, just_before(end));
    assert!(rejected);
}
