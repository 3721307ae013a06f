//! Renewing a token that is still valid: nobody waits for it, and nothing is lost when it fails.

use std::time::Duration;

use alvys_auth_core::{Change, Lifecycle, Timestamp, Token, TokenResponse};

use crate::support::{
    answer, at, complete, fetched, granted, holding, just_before, lifecycle, obtain, refused, unreachable_server, used,
    waited, with,
};

mod support;

/// A lifecycle whose token, granted for an hour at the origin, has just become due for renewal.
fn due() -> (Lifecycle, Token) {
    let mut lifecycle = holding("old", 3600);
    let token = used(&mut lifecycle, at(0));
    (lifecycle, token)
}

fn after(moment: Timestamp, seconds: u64) -> Timestamp {
    moment.saturating_add(Duration::from_secs(seconds))
}

#[test]
fn a_renewal_never_blocks_a_reader() {
    let (mut lifecycle, token) = due();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    assert!(attempt.is_renewal());
    for seconds in 0..15 {
        assert_eq!(used(&mut lifecycle, after(token.renewal_at(), seconds)).access_token(), "old");
    }
    let done = complete(&mut lifecycle, attempt.answered(&granted("new", 3600)), after(token.renewal_at(), 5));
    assert!(matches!(done, Change::Renewed(token) if token.access_token() == "new"));
    assert_eq!(used(&mut lifecycle, after(token.renewal_at(), 5)).access_token(), "new");
}

#[test]
fn a_renewed_token_counts_from_when_its_attempt_started() {
    let (mut lifecycle, token) = due();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    complete(&mut lifecycle, attempt.answered(&granted("new", 3600)), after(token.renewal_at(), 9));
    let renewed = used(&mut lifecycle, after(token.renewal_at(), 9));
    assert_eq!(renewed.expires_at(), after(token.renewal_at(), 3600));
}

#[test]
fn a_failed_renewal_keeps_the_valid_token() {
    let failures = [
        answer(401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#),
        answer(403, ""),
        answer(429, ""),
        answer(500, ""),
        answer(200, r#"{"access_token":null}"#),
        answer(200, r#"{"access_token":"new","expires_in":0}"#),
        answer(200, "<html>"),
    ];
    for failure in failures {
        let (mut lifecycle, token) = due();
        let attempt = fetched(&mut lifecycle, token.renewal_at());
        let done = complete(&mut lifecycle, attempt.answered(&failure), token.renewal_at());
        assert!(matches!(done, Change::Paused { .. }), "{failure:?}");
        assert_eq!(used(&mut lifecycle, token.renewal_at()).access_token(), "old", "{failure:?}");
        assert!(lifecycle.snapshot().usable(token.renewal_at()).is_some(), "{failure:?}");
        let status = lifecycle.snapshot().status(token.renewal_at());
        assert!(status.is_ready() && status.last_error.is_some() && status.paused_for.is_some(), "{failure:?}");
    }
}

#[test]
fn a_failed_renewal_is_tried_again_after_its_pause_and_not_before() {
    let (mut lifecycle, token) = due();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    let outcome = attempt.answered(&with(answer(429, ""), "retry-after", "60"));
    complete(&mut lifecycle, outcome, token.renewal_at());
    for seconds in [0, 1, 30, 59] {
        used(&mut lifecycle, after(token.renewal_at(), seconds));
    }
    assert!(fetched(&mut lifecycle, after(token.renewal_at(), 60)).is_renewal());
}

#[test]
fn a_pause_that_outlasts_the_token_is_kept_to_its_end() {
    let (mut lifecycle, token) = due();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    let outcome = attempt.answered(&with(answer(503, ""), "retry-after", "3600"));
    complete(&mut lifecycle, outcome, token.renewal_at());
    let until = after(token.renewal_at(), 3600);

    assert_eq!(used(&mut lifecycle, at(3599)).access_token(), "old");
    assert!(lifecycle.snapshot().usable(at(3600)).is_none());
    let wait = waited(&mut lifecycle, at(3600));
    assert_eq!(wait.until(), until);
    assert!(!wait.is_in_flight() && wait.error().is_some());
    let _ = fetched(&mut lifecycle, until);
}

#[test]
fn a_refused_renewal_is_reported_once_the_token_is_gone() {
    let (mut lifecycle, _) = due();
    let attempt = fetched(&mut lifecycle, at(3599));
    complete(&mut lifecycle, attempt.answered(&answer(401, "")), at(3599));
    used(&mut lifecycle, at(3599));
    assert_eq!(refused(&mut lifecycle, at(3600)).status().map(|status| status.as_u16()), Some(401));
}

#[test]
fn readers_wait_for_a_renewal_that_outlasts_the_token() {
    let (mut lifecycle, _) = due();
    let attempt = fetched(&mut lifecycle, at(3595));
    used(&mut lifecycle, at(3599));
    let wait = waited(&mut lifecycle, at(3600));
    assert!(wait.is_in_flight());
    assert_eq!(wait.until(), Timestamp::from_millis(3_610_001));
    let done = complete(&mut lifecycle, attempt.answered(&granted("new", 3600)), at(3601));
    assert!(matches!(done, Change::Obtained(_)));
    assert_eq!(used(&mut lifecycle, at(3601)).access_token(), "new");
}

#[test]
fn a_silent_renewal_is_taken_over_without_disturbing_readers() {
    let (mut lifecycle, token) = due();
    let _silent = fetched(&mut lifecycle, token.renewal_at());
    used(&mut lifecycle, after(token.renewal_at(), 15));
    assert!(fetched(&mut lifecycle, after(token.renewal_at(), 16)).is_renewal());
    used(&mut lifecycle, after(token.renewal_at(), 16));
}

#[test]
fn an_abandoned_renewal_is_taken_over_at_once() {
    let (mut lifecycle, token) = due();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    complete(&mut lifecycle, attempt.abandoned(), token.renewal_at());
    assert!(fetched(&mut lifecycle, token.renewal_at()).is_renewal());
    used(&mut lifecycle, token.renewal_at());
}

#[test]
fn a_late_token_of_the_first_attempt_serves_instead_of_the_old_one() {
    let (mut lifecycle, token) = due();
    let late = fetched(&mut lifecycle, token.renewal_at());
    let successor = fetched(&mut lifecycle, after(token.renewal_at(), 20));
    complete(&mut lifecycle, late.answered(&granted("late", 3600)), after(token.renewal_at(), 21));
    assert_eq!(used(&mut lifecycle, after(token.renewal_at(), 21)).access_token(), "late");

    let done = complete(&mut lifecycle, successor.failed(unreachable_server()), after(token.renewal_at(), 22));
    assert!(matches!(done, Change::Paused { .. }));
    assert_eq!(used(&mut lifecycle, after(token.renewal_at(), 22)).access_token(), "late");
}

#[test]
fn a_renewal_may_shorten_the_lifetime() {
    let (mut lifecycle, token) = due();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    complete(&mut lifecycle, attempt.answered(&granted("new", 60)), token.renewal_at());
    let renewed = used(&mut lifecycle, token.renewal_at());
    assert_eq!((renewed.access_token(), renewed.expires_at()), ("new", after(token.renewal_at(), 60)));
}

#[test]
fn a_token_too_short_for_a_margin_is_still_renewed_before_its_end() {
    let mut lifecycle = lifecycle();
    let token = obtain(&mut lifecycle, "short", 1, at(0));
    assert!(token.renewal_at() < at(1) && token.renewal_at() >= Timestamp::from_millis(800));
    assert!(fetched(&mut lifecycle, token.renewal_at()).is_renewal());
}

/// A lifecycle whose token, granted for an hour at the origin, came with these quotas.
fn with_quotas(quotas: &[(&'static str, &str)]) -> (Lifecycle, Token) {
    let mut lifecycle = lifecycle();
    let answer = quotas.iter().fold(granted("old", 3600), |answer, (name, value)| with(answer, name, value));
    let attempt = fetched(&mut lifecycle, at(0));
    complete(&mut lifecycle, attempt.answered(&answer), at(0));
    let token = used(&mut lifecycle, at(0));
    (lifecycle, token)
}

const CLIENT: &str = "auth0-client-quota-limit";
const ORGANIZATION: &str = "auth0-organization-quota-limit";

#[test]
fn a_renewal_that_can_wait_does_while_few_token_requests_are_left() {
    // The margin is 5 minutes, and the last tenth of it is what a renewal gets at least.
    let due_as_always = 3300..=3450;
    let cases = [
        (vec![], due_as_always.clone()),
        (vec![(CLIENT, "b=per_hour;q=10;r=2;t=3540")], due_as_always.clone()),
        (vec![(CLIENT, "b=per_hour;q=10;r=1;t=1800")], due_as_always.clone()),
        (vec![(CLIENT, "b=per_hour;q=10;r=1;t=3500")], 3500..=3500),
        (vec![(CLIENT, "q=10;r=0;t=3500")], 3500..=3500),
        (vec![(CLIENT, "r=1;t=3500")], 3500..=3500),
        (vec![(CLIENT, "r=2;t=3500")], due_as_always.clone()),
        (vec![(CLIENT, "q=99;r=10;t=3500")], due_as_always.clone()),
        (vec![(CLIENT, "b=per_hour;q=10;r=9;t=3540,b=per_day;q=50;r=5;t=43200")], 3570..=3585),
        (vec![(ORGANIZATION, "q=100;r=10;t=3500")], 3500..=3500),
        (vec![(CLIENT, "q=10;r=0;t=3480"), (ORGANIZATION, "q=100;r=10;t=3500")], 3500..=3500),
        (vec![(CLIENT, "q=10;r=none;t=3500"), (ORGANIZATION, "nonsense;;=")], due_as_always),
    ];
    for (quotas, due) in cases {
        let (mut lifecycle, token) = with_quotas(&quotas);
        let renewal_at = token.renewal_at().as_millis() / 1000;
        assert!(due.contains(&renewal_at), "{quotas:?}: {renewal_at} is not in {due:?}");
        assert_eq!(used(&mut lifecycle, just_before(token.renewal_at())).access_token(), "old");
        assert!(fetched(&mut lifecycle, token.renewal_at()).is_renewal(), "{quotas:?}");
    }
}

#[test]
fn what_is_left_of_a_low_quota_is_told_until_it_is_counted_anew() {
    let (lifecycle, token) = with_quotas(&[(CLIENT, "q=30;r=3;t=3500"), (ORGANIZATION, "q=100;r=4;t=60")]);
    let told = token.low_quota().map(|quota| (quota.left, quota.resets_in));
    assert_eq!(told, Some((3, Duration::from_secs(3500))));
    let left = |seconds| lifecycle.snapshot().status(at(seconds)).low_quota.map(|quota| quota.resets_in.as_secs());
    assert_eq!([left(0), left(3499), left(3500)], [Some(3500), Some(1), None]);
    let (lifecycle, _) = with_quotas(&[(CLIENT, "q=30;r=20;t=3500")]);
    assert!(lifecycle.snapshot().status(at(0)).low_quota.is_none());
}

#[test]
fn a_token_that_is_needed_does_not_wait_for_the_quota() {
    let (mut lifecycle, token) = with_quotas(&[(CLIENT, "q=10;r=0;t=43200")]);
    assert!(lifecycle.reject(&token, at(60)), "it is old enough to be given up");
    assert!(!fetched(&mut lifecycle, at(60)).is_renewal());
}

#[test]
fn others_hear_of_a_low_quota_through_the_store() {
    let (_, token) = with_quotas(&[(CLIENT, "q=10;r=1;t=3500")]);
    let again = TokenResponse::from_entry(&token.to_entry(), Duration::from_secs(3600)).expect("an entry");
    assert_eq!(again.low_quota(), token.low_quota());
    let (_, token) = with_quotas(&[]);
    assert!(!token.to_entry().contains("quota"));
}
