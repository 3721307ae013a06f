//! Attempts that say nothing, say it late, or are given up: who takes over, and what a late word is worth.

use std::time::Duration;

use alvys_auth_core::{Attempt, Change, Policy, Timestamp};

use crate::support::{
    answer, at, complete, fetched, granted, just_before, lifecycle, obtain, unreachable_server, used, waited,
    with_policy,
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
        assert!(
            !lifecycle.extend(&silent, Duration::ZERO, LEASE) && lifecycle.extend(&successor, Duration::ZERO, LEASE)
        );

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
fn an_abandoned_attempt_is_taken_over_at_once() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    assert!(matches!(complete(&mut lifecycle, attempt.abandoned(), at(3)), Change::Abandoned));
    assert!(!lifecycle.snapshot().status(at(3)).in_flight);
    let _ = fetched(&mut lifecycle, at(3));
}
