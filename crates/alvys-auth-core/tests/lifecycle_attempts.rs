//! Attempts that say nothing, say it late, or are given up: who takes over, and what a late word is worth.

use std::time::Duration;

use alvys_auth_core::{Attempt, Change, Given, Lifecycle, Mark, Policy, Timestamp};

use crate::support::{
    answer, asked, at, complete, denied, fetched, given, granted, just_before, lifecycle, obtain, sent,
    unreachable_server, used, waited, with, with_policy,
};

mod support;

/// The lease under the default policy: half as long again as a request may take.
const LEASE: Timestamp = Timestamp::from_millis(15_001);

#[test]
fn a_silent_attempt_is_taken_over_when_its_lease_ends() {
    let bad_news: [fn(Attempt) -> Attempt; 3] =
        [|late| late.failed(unreachable_server()), Attempt::abandoned, |late| late.answered(&answer(401, ""))];
    for late in bad_news {
        let mut lifecycle = lifecycle();
        let silent = fetched(&mut lifecycle, at(0));
        assert!(waited(&mut lifecycle, just_before(LEASE)).is_in_flight());
        let successor = fetched(&mut lifecycle, LEASE);
        assert_eq!(waited(&mut lifecycle, LEASE).until(), Timestamp::from_millis(30_002));

        // Whatever the silent one says now changes nothing.
        assert!(matches!(complete(&mut lifecycle, late(silent), at(16)), Change::Superseded));
        assert!(waited(&mut lifecycle, at(16)).is_in_flight());
        complete(&mut lifecycle, successor.answered(&granted("abc", 3600)), at(17));
        assert_eq!(used(&mut lifecycle, at(17)).access_token(), "abc");
    }
}

#[test]
fn the_lease_follows_the_request_timeout() {
    let mut lifecycle = with_policy(Policy::new().request_timeout(Duration::from_secs(2)), 7);
    assert_eq!(lifecycle.policy().timeout(), Duration::from_secs(2));
    let _ = fetched(&mut lifecycle, at(0));
    assert_eq!(waited(&mut lifecycle, at(0)).until(), Timestamp::from_millis(3001));

    let longest = Policy::new().request_timeout(Duration::MAX);
    assert_eq!(longest.timeout(), Duration::from_secs(3600));
}

#[test]
fn a_late_token_serves_while_nothing_better_is_there() {
    let mut lifecycle = lifecycle();
    let late = fetched(&mut lifecycle, at(0));
    let successor = fetched(&mut lifecycle, at(20));
    let done = complete(&mut lifecycle, late.answered(&granted("late", 3600)), at(21));
    assert!(matches!(done, Change::Obtained(_)));
    assert_eq!(used(&mut lifecycle, at(21)).access_token(), "late");
    assert!(lifecycle.snapshot().status(at(21)).in_flight, "the successor is still on its way");

    let done = complete(&mut lifecycle, successor.answered(&granted("newer", 3600)), at(22));
    assert!(matches!(done, Change::Renewed(_)));
    assert_eq!(used(&mut lifecycle, at(22)).access_token(), "newer");
}

#[test]
fn a_late_token_counts_only_when_it_expires_later() {
    for (lifetime, counts) in [(3600, false), (3620, false), (3621, true)] {
        let mut lifecycle = lifecycle();
        let late = fetched(&mut lifecycle, at(0));
        obtain(&mut lifecycle, "newer", 3600, at(20));
        let done = complete(&mut lifecycle, late.answered(&granted("late", lifetime)), at(21));
        assert_eq!(matches!(done, Change::Renewed(_)), counts, "{lifetime}: {done:?}");
        assert_eq!(matches!(done, Change::Superseded), !counts, "{lifetime}: {done:?}");
        let expected = if counts { "late" } else { "newer" };
        assert_eq!(used(&mut lifecycle, at(21)).access_token(), expected);
    }
}

#[test]
fn a_late_failure_never_disturbs_a_held_token() {
    let mut lifecycle = lifecycle();
    let late = fetched(&mut lifecycle, at(0));
    obtain(&mut lifecycle, "newer", 3600, at(20));
    let done = complete(&mut lifecycle, late.failed(unreachable_server()), at(21));
    assert!(matches!(done, Change::Superseded));
    assert_eq!(used(&mut lifecycle, at(21)).access_token(), "newer");
    assert!(lifecycle.snapshot().status(at(21)).last_error.is_none());
}

#[test]
fn an_attempt_that_was_taken_over_before_it_sent_its_request_sends_none() {
    let mut lifecycle = lifecycle();
    let silent = fetched(&mut lifecycle, at(0));
    let successor = fetched(&mut lifecycle, LEASE);
    assert!(matches!(complete(&mut lifecycle, silent, LEASE), Change::Superseded));
    let _ = sent(&mut lifecycle, successor, LEASE);
}

#[test]
fn a_request_is_given_its_time_from_when_it_is_sent() {
    let mut lifecycle = with_policy(Policy::new().hedge_after(Duration::MAX), 7);
    let attempt = fetched(&mut lifecycle, at(0));
    let _ = sent(&mut lifecycle, attempt, at(10));
    assert_eq!(waited(&mut lifecycle, at(10)).until(), Timestamp::from_millis(25_001));
}

/// The attempt of a caller who has just been told to fetch, with its request on the way.
fn sending(lifecycle: &mut Lifecycle, now: Timestamp) -> Attempt {
    let attempt = fetched(lifecycle, now);
    sent(lifecycle, attempt, now)
}

#[test]
fn a_request_that_is_not_answered_is_joined_by_a_second_one_while_somebody_waits_and_by_no_third() {
    let mut lifecycle = lifecycle();
    let first = sending(&mut lifecycle, at(0));
    assert_eq!(waited(&mut lifecycle, at(0)).until(), at(3));
    assert_eq!(lifecycle.attempt_due(), Some(at(3)));
    assert!(waited(&mut lifecycle, just_before(at(3))).is_in_flight());
    let second = sending(&mut lifecycle, at(3));
    assert_eq!(waited(&mut lifecycle, at(3)).until(), Timestamp::from_millis(18_001));

    assert!(matches!(complete(&mut lifecycle, first.failed(unreachable_server()), at(10)), Change::Superseded));
    complete(&mut lifecycle, second.answered(&granted("abc", 3600)), at(11));
    assert_eq!(used(&mut lifecycle, at(11)).access_token(), "abc");
}

#[test]
fn a_wait_that_one_of_two_requests_is_told_is_kept_when_the_other_fails() {
    let limited = || with(answer(429, ""), "retry-after", "60");
    let mut lifecycle = lifecycle();
    let (first, second) = (sending(&mut lifecycle, at(0)), sending(&mut lifecycle, at(3)));
    let change = complete(&mut lifecycle, first.answered(&limited()), at(4));
    assert!(matches!(change, Change::Paused { until, .. } if until == at(64)), "{change:?}");
    assert!(waited(&mut lifecycle, at(4)).is_in_flight(), "the second one may still bring a token");
    complete(&mut lifecycle, second.failed(unreachable_server()), at(5));
    assert_eq!(waited(&mut lifecycle, at(5)).until(), at(64));

    let mut lifecycle = self::lifecycle();
    let (first, second) = (sending(&mut lifecycle, at(0)), sending(&mut lifecycle, at(3)));
    complete(&mut lifecycle, first.answered(&limited()), at(4));
    complete(&mut lifecycle, second.answered(&granted("abc", 3600)), at(5));
    assert_eq!(used(&mut lifecycle, at(5)).access_token(), "abc");
    assert!(lifecycle.snapshot().status(at(5)).paused_for.is_none(), "the token shows that the wait is over");
}

#[test]
fn an_attempt_sends_nothing_once_the_request_of_another_was_told_to_wait() {
    let mut lifecycle = lifecycle().with_provider(Some(Mark::new(1)), None, Duration::from_secs(5));
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = asked(&mut lifecycle, attempt, at(0));
    let first = sent(&mut lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), at(0));
    let attempt = fetched(&mut lifecycle, at(3));
    let (second, _) = asked(&mut lifecycle, attempt, at(3));
    complete(&mut lifecycle, first.answered(&with(answer(429, ""), "retry-after", "60")), at(4));
    let change = complete(&mut lifecycle, second.provided(Some(Ok(Given::Unchanged))), at(5));
    assert!(matches!(change, Change::Superseded), "{change:?}");
    assert_eq!(waited(&mut lifecycle, at(5)).until(), at(64));
    let _ = fetched(&mut lifecycle, at(64));
}

#[test]
fn of_two_requests_the_answer_that_arrives_first_is_used() {
    let mut lifecycle = lifecycle();
    let first = sending(&mut lifecycle, at(0));
    let second = sending(&mut lifecycle, at(3));
    assert!(matches!(complete(&mut lifecycle, first.answered(&granted("first", 60)), at(4)), Change::Obtained(_)));
    assert_eq!(used(&mut lifecycle, at(4)).access_token(), "first");
    let change = complete(&mut lifecycle, second.failed(unreachable_server()), at(5));
    assert!(matches!(change, Change::Paused { .. }));
    assert_eq!(used(&mut lifecycle, at(5)).access_token(), "first");
}

#[test]
fn the_renewal_of_a_valid_token_is_joined_by_no_second_request_before_that_has_expired() {
    let mut lifecycle = lifecycle();
    obtain(&mut lifecycle, "abc", 60, at(0));
    let _renewal = sending(&mut lifecycle, at(55));
    for now in [at(55), at(58), just_before(at(60))] {
        assert_eq!(used(&mut lifecycle, now).access_token(), "abc");
        assert!(lifecycle.snapshot().usable(now).is_some());
    }
    assert!(!fetched(&mut lifecycle, at(60)).is_renewal());
}

#[test]
fn a_request_after_a_refusal_is_joined_by_no_second_one() {
    let mut lifecycle = lifecycle();
    let refused = sending(&mut lifecycle, at(0)).answered(&denied());
    complete(&mut lifecycle, refused, at(0));
    let _again = sending(&mut lifecycle, at(5));
    assert_eq!(waited(&mut lifecycle, at(9)).until(), Timestamp::from_millis(20_001));
}

#[test]
fn a_request_with_other_credentials_may_be_joined_again() {
    let mut lifecycle = lifecycle().with_provider(Some(Mark::new(1)), None, Duration::from_secs(5));
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = asked(&mut lifecycle, attempt, at(0));
    assert_eq!(waited(&mut lifecycle, at(0)).until(), Timestamp::from_millis(20_001), "a question is not repeated");
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), at(1));
    let (attempt, _) = asked(&mut lifecycle, attempt.answered(&denied()), at(2));
    assert_eq!(waited(&mut lifecycle, at(2)).until(), Timestamp::from_millis(22_001));
    let _attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "second", 2)))), at(2));
    assert_eq!(waited(&mut lifecycle, at(2)).until(), at(5));
}

#[test]
fn how_soon_a_second_request_comes_is_the_policys_and_never_later_than_the_lease_ends() {
    for (hedge_after, until) in [(1, at(1)), (12, at(12)), (20, LEASE)] {
        let policy = Policy::new().hedge_after(Duration::from_secs(hedge_after));
        let mut lifecycle = with_policy(policy, 7);
        let _first = sending(&mut lifecycle, at(0));
        assert_eq!(waited(&mut lifecycle, at(0)).until(), until);
    }
}

#[test]
fn a_request_whose_end_nobody_knows_is_not_sent_twice() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    let sending = sent(&mut lifecycle, attempt, at(0));
    assert!(matches!(complete(&mut lifecycle, sending, at(1)), Change::Abandoned));
    let _ = fetched(&mut lifecycle, at(1));
}

#[test]
fn an_abandoned_attempt_is_taken_over_at_once() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    assert!(matches!(complete(&mut lifecycle, attempt.abandoned(), at(3)), Change::Abandoned));
    assert!(!lifecycle.snapshot().status(at(3)).in_flight);
    let _ = fetched(&mut lifecycle, at(3));
}
