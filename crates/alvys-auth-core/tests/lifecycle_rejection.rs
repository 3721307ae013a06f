//! When the API says 401, a token is given up, or the credentials change.

use std::time::Duration;

use alvys_auth_core::{Change, Credentials, Flow, Given, Lifecycle, Mark, Policy, Timestamp, Token, TokenResponse};

use crate::support::{
    answer, asked, at, complete, denied, fetched, given, granted, holding, lifecycle, obtain, request, sent, used,
    waited, with,
};

mod support;

/// A lifecycle that holds a token granted at the origin, and that token.
fn held() -> (Lifecycle, Token) {
    let mut lifecycle = holding("old", 3600);
    let token = used(&mut lifecycle, at(0));
    (lifecycle, token)
}

fn stored(token: &str, seconds: u64) -> TokenResponse {
    TokenResponse::new(token, Duration::from_secs(seconds), "").expect("a legal token")
}

#[test]
fn a_rejected_token_is_given_up_and_renewed() {
    let (mut lifecycle, token) = held();
    assert!(lifecycle.reject(&token, at(60)));
    assert!(lifecycle.snapshot().usable(at(60)).is_none());
    assert!(!fetched(&mut lifecycle, at(60)).is_renewal());
}

#[test]
fn any_number_of_rejections_cost_one_fetch() {
    let (mut lifecycle, token) = held();
    for _ in 0..50 {
        assert!(lifecycle.reject(&token, at(60)));
    }
    let attempt = fetched(&mut lifecycle, at(60));
    for _ in 0..50 {
        assert!(lifecycle.reject(&token, at(61)));
        assert!(waited(&mut lifecycle, at(61)).is_in_flight());
    }
    complete(&mut lifecycle, attempt.answered(&granted("new", 3600)), at(62));
    for _ in 0..50 {
        assert!(lifecycle.reject(&token, at(63)), "a retry with the new token is worth it");
        assert_eq!(used(&mut lifecycle, at(63)).access_token(), "new");
    }
}

#[test]
fn rejecting_any_token_but_the_held_one_changes_nothing() {
    let (mut lifecycle, old) = held();
    lifecycle.reject(&old, at(60));
    let new = obtain(&mut lifecycle, "new", 3600, at(60));
    assert!(lifecycle.reject(&old, at(600)));
    assert_eq!(used(&mut lifecycle, at(600)).access_token(), "new");
    assert!(lifecycle.reject(&new, at(600)));
    let _ = fetched(&mut lifecycle, at(600));
}

#[test]
fn a_token_that_served_until_its_end_makes_the_grace_short_again() {
    let mut lifecycle = holding("first", 3600);
    let first = used(&mut lifecycle, at(0));
    assert!(!lifecycle.reject(&first, at(5)), "too young");
    assert!(lifecycle.reject(&first, at(10)), "and doubles the grace of the next");
    obtain(&mut lifecycle, "second", 60, at(10));
    let third = obtain(&mut lifecycle, "third", 3600, at(70));
    assert!(lifecycle.reject(&third, at(80)), "nobody has refused the second one");
}

#[test]
fn a_token_that_is_seconds_old_survives_a_rejection() {
    let (mut lifecycle, token) = held();
    for now in [at(0), at(5), Timestamp::from_millis(9999)] {
        assert!(!lifecycle.reject(&token, now), "then the 401 is about permission");
        assert_eq!(used(&mut lifecycle, now).access_token(), "old");
    }
    assert!(lifecycle.reject(&token, at(10)));
}

#[test]
fn the_age_of_a_token_counts_from_when_it_was_asked_for() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    complete(&mut lifecycle, attempt.answered(&granted("old", 3600)), at(9));
    let token = used(&mut lifecycle, at(9));
    assert!(!lifecycle.reject(&token, at(9)));
    assert!(lifecycle.reject(&token, at(10)));
}

#[test]
fn renewals_that_do_not_help_become_ever_rarer() {
    let mut lifecycle = lifecycle();
    let mut now = at(0);
    let mut ages = Vec::new();
    for round in 0..9 {
        let token = obtain(&mut lifecycle, &format!("token-{round}"), 3600, now);
        let asked = now;
        while !lifecycle.reject(&token, now) {
            now = now.saturating_add(Duration::from_secs(1));
        }
        ages.push(now.saturating_duration_since(asked).as_secs());
    }
    assert_eq!(ages, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
}

#[test]
fn a_renewal_whose_token_was_good_at_first_leaves_the_grace_as_it_is() {
    let mut lifecycle = lifecycle();
    for round in 0..5 {
        let token = obtain(&mut lifecycle, &format!("token-{round}"), 3600, at(10 * round));
        assert!(lifecycle.reject(&token, at(10 * round + 10)), "the server ended it: {round}");
    }
    let refused = obtain(&mut lifecycle, "refused", 3600, at(50));
    assert!(!lifecycle.reject(&refused, at(51)) && lifecycle.reject(&refused, at(60)));
    let next = obtain(&mut lifecycle, "next", 3600, at(60));
    assert!(!lifecycle.reject(&next, at(79)) && lifecycle.reject(&next, at(80)), "that renewal did not help");
    let good = obtain(&mut lifecycle, "good", 3600, at(80));
    assert!(!lifecycle.reject(&good, at(119)) && lifecycle.reject(&good, at(120)), "nor did this one");
    let served = obtain(&mut lifecycle, "served", 3600, at(120));
    assert!(lifecycle.reject(&served, at(200)));
    let last = obtain(&mut lifecycle, "last", 3600, at(200));
    assert!(lifecycle.reject(&last, at(210)), "one that helped ends the row");
}

#[test]
fn a_token_that_served_until_its_margin_ends_the_row_of_rejections() {
    let (mut lifecycle, token) = held();
    assert!(lifecycle.reject(&token, at(60)));
    let good = obtain(&mut lifecycle, "good", 3600, at(60));
    let attempt = fetched(&mut lifecycle, good.renewal_at());
    complete(&mut lifecycle, attempt.answered(&granted("new", 3600)), good.renewal_at());
    let new = used(&mut lifecycle, good.renewal_at());
    assert!(lifecycle.reject(&new, good.renewal_at().saturating_add(Duration::from_secs(10))));
}

#[test]
fn a_token_that_served_until_its_end_ends_the_row_of_rejections() {
    let (mut lifecycle, token) = held();
    assert!(lifecycle.reject(&token, at(60)));
    obtain(&mut lifecycle, "good", 3600, at(60));
    let new = obtain(&mut lifecycle, "new", 3600, at(9000));
    assert!(lifecycle.reject(&new, at(9010)));
}

#[test]
fn the_grace_of_the_policy_is_obeyed() {
    let policy = Policy::new().rejection_grace(Duration::from_secs(90));
    let mut lifecycle = Lifecycle::new(request(Flow::current()), policy, 7);
    let token = obtain(&mut lifecycle, "abc", 3600, at(0));
    assert!(!lifecycle.reject(&token, at(89)));
    assert!(lifecycle.reject(&token, at(90)));

    let policy = Policy::new().rejection_grace(Duration::ZERO);
    let mut lifecycle = Lifecycle::new(request(Flow::current()), policy, 7);
    let token = obtain(&mut lifecycle, "abc", 3600, at(0));
    assert!(lifecycle.reject(&token, at(0)));
}

#[test]
fn a_rejection_does_not_undercut_the_servers_word() {
    let (mut lifecycle, token) = held();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    let outcome = attempt.answered(&with(answer(429, ""), "retry-after", "600"));
    complete(&mut lifecycle, outcome, token.renewal_at());
    assert!(lifecycle.reject(&token, token.renewal_at()));
    let until = token.renewal_at().saturating_add(Duration::from_secs(600));
    assert_eq!(waited(&mut lifecycle, token.renewal_at()).until(), until);
}

#[test]
fn a_rejection_during_a_renewal_waits_for_that_renewal() {
    let (mut lifecycle, token) = held();
    let attempt = fetched(&mut lifecycle, token.renewal_at());
    assert!(lifecycle.reject(&token, token.renewal_at()));
    assert!(waited(&mut lifecycle, token.renewal_at()).is_in_flight());
    complete(&mut lifecycle, attempt.answered(&granted("new", 3600)), token.renewal_at());
    assert_eq!(used(&mut lifecycle, token.renewal_at()).access_token(), "new");
}

#[test]
fn a_store_cannot_hand_a_rejected_token_back() {
    let (mut lifecycle, token) = held();
    lifecycle.reject(&token, at(60));
    assert!(!lifecycle.adopt(stored("old", 7200), at(60)));
    assert!(lifecycle.adopt(stored("another", 60), at(60)));
    assert_eq!(used(&mut lifecycle, at(60)).access_token(), "another");
}

#[test]
fn a_stored_token_may_be_rejected_at_once_because_nobody_knows_its_age() {
    let mut lifecycle = lifecycle();
    assert!(lifecycle.adopt(stored("stale", 1800), at(0)));
    let token = used(&mut lifecycle, at(0));
    assert!(lifecycle.reject(&token, at(1)));
    let _ = fetched(&mut lifecycle, at(1));
}

#[test]
fn a_token_fetched_after_a_stored_one_has_its_grace_again() {
    let mut lifecycle = lifecycle();
    assert!(lifecycle.adopt(stored("stored", 1800), at(0)));
    let due = used(&mut lifecycle, at(0)).renewal_at();
    let attempt = fetched(&mut lifecycle, due);
    complete(&mut lifecycle, attempt.answered(&granted("fetched", 3600)), due);
    let token = used(&mut lifecycle, due);
    assert!(!lifecycle.reject(&token, due.saturating_add(Duration::from_secs(9))));
}

#[test]
fn an_invalidated_token_is_gone_at_once() {
    let (mut lifecycle, _) = held();
    lifecycle.invalidate();
    assert!(lifecycle.snapshot().usable(at(0)).is_none());
    assert!(!lifecycle.adopt(stored("old", 7200), at(0)));
    let _ = fetched(&mut lifecycle, at(0));
    lifecycle.invalidate();
    assert!(waited(&mut lifecycle, at(0)).is_in_flight());
}

#[test]
fn invalidating_does_not_undercut_the_servers_word() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    complete(&mut lifecycle, attempt.answered(&with(answer(429, ""), "retry-after", "600")), at(0));
    lifecycle.invalidate();
    assert_eq!(waited(&mut lifecycle, at(1)).until(), at(600));
}

#[test]
fn a_rotated_secret_keeps_the_token_and_is_used_from_the_next_fetch_on() {
    let (mut lifecycle, token) = held();
    lifecycle.set_credentials(Credentials::new("my-client", "rotated").unwrap()).unwrap();
    assert_eq!(used(&mut lifecycle, at(1)).access_token(), "old");
    assert!(lifecycle.snapshot().usable(at(1)).is_some());
    let body = fetched(&mut lifecycle, token.renewal_at()).to_http().into_body();
    assert!(String::from_utf8(body).unwrap().contains(r#""client_secret":"rotated""#));
}

#[test]
fn another_client_id_drops_the_token() {
    let (mut lifecycle, _) = held();
    lifecycle.set_credentials(Credentials::new("another", "s3cret").unwrap()).unwrap();
    assert!(lifecycle.snapshot().usable(at(1)).is_none());
    assert!(!lifecycle.snapshot().status(at(1)).is_ready());
    let body = fetched(&mut lifecycle, at(1)).to_http().into_body();
    assert!(String::from_utf8(body).unwrap().contains(r#""client_id":"another""#));
}

#[test]
fn another_client_from_the_provider_keeps_the_token() {
    let (lifecycle, token) = held();
    let mut lifecycle = lifecycle.with_provider(Some(Mark::new(1)), None, Duration::from_secs(5));
    let due = token.renewal_at();
    let attempt = fetched(&mut lifecycle, due);
    let (attempt, _) = asked(&mut lifecycle, attempt, due);
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("another", "s3cret", 2)))), due);
    assert!(attempt.is_renewal());
    assert!(String::from_utf8(attempt.to_http().into_body()).unwrap().contains(r#""client_id":"another""#));
    assert_eq!(used(&mut lifecycle, due).access_token(), "old");
    let (attempt, _) = asked(&mut lifecycle, attempt.answered(&denied()), due);
    complete(&mut lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), due);
    assert_eq!(used(&mut lifecycle, due).access_token(), "old", "until the new client has proved good");
}

#[test]
fn outcomes_of_the_old_credentials_do_not_count() {
    let outcomes = [
        |attempt: alvys_auth_core::Attempt| attempt.answered(&granted("foreign", 86_400)),
        |attempt: alvys_auth_core::Attempt| attempt.answered(&answer(401, "")),
        |attempt: alvys_auth_core::Attempt| attempt.abandoned(),
    ];
    for outcome in outcomes {
        for asked_again in [false, true] {
            let mut lifecycle = lifecycle();
            let old = fetched(&mut lifecycle, at(0));
            lifecycle.set_credentials(Credentials::new("my-client", "rotated").unwrap()).unwrap();
            let new = asked_again.then(|| fetched(&mut lifecycle, at(0)));
            assert!(matches!(complete(&mut lifecycle, outcome(old), at(1)), Change::Superseded));
            match new {
                Some(_) => assert!(waited(&mut lifecycle, at(1)).is_in_flight()),
                None => drop(fetched(&mut lifecycle, at(1))),
            }
        }
    }
}

#[test]
fn new_credentials_reset_the_row_of_rejections() {
    let (mut lifecycle, token) = held();
    lifecycle.reject(&token, at(60));
    lifecycle.set_credentials(Credentials::new("my-client", "rotated").unwrap()).unwrap();
    let token = obtain(&mut lifecycle, "new", 3600, at(60));
    assert!(lifecycle.reject(&token, at(70)));
}
