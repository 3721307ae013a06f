//! Carrying out an attempt: when the provider is asked, which credentials the request is sent with, and who may install them.

use std::time::Duration;

use alvys_auth_core::{Attempt, Change, Credentials, Error, ErrorKind, Given, Lifecycle, Mark, Next, Timestamp};
use serde_json::Value;

use crate::support::{
    answer, asked, at, complete, denied, fetched, given, granted, just_before, lifecycle, obtain, refused, sent,
    unreachable_server, used, waited,
};

mod support;

/// How long the provider may take, and the lease of an attempt that asks it, under the default policy.
const TIME_LIMIT: Duration = Duration::from_secs(5);
const LEASE: Timestamp = Timestamp::from_millis(20_001);

/// A lifecycle whose credentials come from a provider, at its first mark.
fn provided() -> Lifecycle {
    lifecycle().with_provider(Some(Mark::new(1)), None, TIME_LIMIT)
}

/// The secret that the attempt's request is sent with.
fn secret(attempt: &Attempt) -> String {
    let body: Value = serde_json::from_slice(attempt.to_http().body()).expect("a JSON body");
    body["client_secret"].as_str().expect("a secret").to_owned()
}

/// The attempt of a first caller, which asks the provider.
fn asking(lifecycle: &mut Lifecycle, now: Timestamp) -> Attempt {
    let attempt = fetched(lifecycle, now);
    asked(lifecycle, attempt, now).0
}

/// The attempt of a first caller, with the request sent after the provider said that nothing has changed.
fn sending(lifecycle: &mut Lifecycle, now: Timestamp) -> Attempt {
    let attempt = asking(lifecycle, now);
    sent(lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), now)
}

fn unreadable() -> Error {
    Error::configuration("the secret file is empty", "write the secret into it")
}

#[test]
fn fixed_credentials_are_sent_without_a_question() {
    let mut lifecycle = lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    let mut attempt = sent(&mut lifecycle, attempt, at(0));
    assert!(attempt.take_news().is_none());
    let change = complete(&mut lifecycle, attempt.answered(&denied()), at(1));
    assert!(matches!(change, Change::Paused { .. }), "a refusal is reported at once: {change:?}");
}

#[test]
fn an_unchanged_mark_sends_at_once_with_the_credentials_in_use() {
    let mut lifecycle = provided();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, known) = asked(&mut lifecycle, attempt, at(0));
    assert_eq!(known, Some(Mark::new(1)));
    let mut attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), at(0));
    assert_eq!(secret(&attempt), "s3cret");
    assert!(attempt.take_news().is_none());
    assert!(matches!(complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(0)), Change::Obtained(_)));
}

#[test]
fn the_provider_is_asked_before_the_request_and_again_after_a_refusal_and_then_no_more() {
    let mut lifecycle = provided();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, known) = asked(&mut lifecycle, attempt, at(0));
    assert_eq!(known, Some(Mark::new(1)));
    let mut attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "second", 2)))), at(0));
    assert_eq!(secret(&attempt), "second");
    assert!(matches!(attempt.take_news(), Some(Change::CredentialsChanged)) && attempt.take_news().is_none());

    let (attempt, known) = asked(&mut lifecycle, attempt.answered(&denied()), at(1));
    assert_eq!(known, None, "whatever the mark says, the credentials in use are refused");
    let mut attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "third", 3)))), at(1));
    assert_eq!(secret(&attempt), "third");
    assert!(matches!(attempt.take_news(), Some(Change::CredentialsChanged)));

    let change = complete(&mut lifecycle, attempt.answered(&denied()), at(2));
    assert!(matches!(&change, Change::Paused { until, error }
        if *until == at(7) && error.kind() == ErrorKind::Credentials));
    assert_eq!(lifecycle.request().credentials(), Credentials::new("my-client", "third").unwrap());
}

#[test]
fn credentials_that_the_provider_gave_just_before_are_not_asked_for_again() {
    let new = |given_at| lifecycle().with_provider(Some(Mark::new(1)), Some(given_at), TIME_LIMIT);
    let mut lifecycle = new(at(0));
    let attempt = fetched(&mut lifecycle, just_before(at(5)));
    let attempt = sent(&mut lifecycle, attempt, just_before(at(5)));
    let (attempt, known) = asked(&mut lifecycle, attempt.answered(&denied()), at(5));
    assert_eq!(known, None, "but after a refusal");
    complete(&mut lifecycle, attempt.provided(None), at(5));

    let mut lifecycle = new(at(0));
    let attempt = fetched(&mut lifecycle, at(0));
    let attempt = sent(&mut lifecycle, attempt, at(0));
    complete(&mut lifecycle, attempt.failed(unreachable_server()), at(0));
    let again = waited(&mut lifecycle, at(0)).until();
    let attempt = fetched(&mut lifecycle, again);
    assert_eq!(asked(&mut lifecycle, attempt, again).1, Some(Mark::new(1)), "but before every further request");

    let mut lifecycle = new(at(0));
    let attempt = fetched(&mut lifecycle, at(5));
    assert_eq!(asked(&mut lifecycle, attempt, at(5)).1, Some(Mark::new(1)), "but when they are seconds old");
}

#[test]
fn the_next_attempt_shows_the_mark_of_the_credentials_in_use() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "second", 2)))), at(0));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(0));
    let attempt = fetched(&mut lifecycle, at(60));
    let (_, known) = asked(&mut lifecycle, attempt, at(60));
    assert_eq!(known, Some(Mark::new(2)));
}

#[test]
fn the_same_credentials_under_another_mark_are_no_change() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    let mut attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "s3cret", 2)))), at(0));
    assert!(attempt.take_news().is_none());
    let (attempt, _) = asked(&mut lifecycle, attempt.answered(&denied()), at(0));
    let change = complete(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "s3cret", 3)))), at(0));
    assert!(matches!(change, Change::Paused { .. }), "{change:?}");
    lifecycle.end_pause();
    let attempt = fetched(&mut lifecycle, at(1));
    assert_eq!(asked(&mut lifecycle, attempt, at(1)).1, Some(Mark::new(3)));
}

#[test]
fn a_provider_whose_mark_is_not_known_is_asked_for_what_there_is() {
    let mut lifecycle = lifecycle().with_provider(None, None, TIME_LIMIT);
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, known) = asked(&mut lifecycle, attempt, at(0));
    assert_eq!(known, None);
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "s3cret", 9)))), at(0));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(0));
    let attempt = fetched(&mut lifecycle, at(60));
    assert_eq!(asked(&mut lifecycle, attempt, at(60)).1, Some(Mark::new(9)));
}

#[test]
fn only_a_refusal_that_other_credentials_may_mend_is_asked_about() {
    for (response, asks) in [
        (denied(), true),
        (answer(403, r#"{"error":"access_denied"}"#), true),
        (answer(401, ""), true),
        (answer(407, ""), false),
        (answer(400, r#"{"error":"invalid_client"}"#), true),
        (answer(400, r#"{"error":"unauthorized_client"}"#), true),
        (answer(429, ""), false),
        (answer(503, ""), false),
        (answer(403, "<html>"), false),
        (answer(302, ""), false),
        (answer(200, r#"{"token_type":"Bearer"}"#), false),
    ] {
        let mut lifecycle = provided();
        let attempt = sending(&mut lifecycle, at(0)).answered(&response);
        match lifecycle.next(attempt, at(0)) {
            Next::Ask(_, known) => assert!(asks && known.is_none(), "{response:?}"),
            other => assert!(!asks, "{response:?}: {other:?}"),
        }
    }
    let mut lifecycle = provided();
    let attempt = sending(&mut lifecycle, at(0)).failed(unreachable_server());
    assert!(matches!(complete(&mut lifecycle, attempt, at(0)), Change::Paused { .. }));
}

#[test]
fn everybody_waits_while_the_provider_answers_and_its_time_comes_on_top() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    assert_eq!(waited(&mut lifecycle, at(1)).until(), LEASE);
    assert!(waited(&mut lifecycle, just_before(LEASE)).is_in_flight());
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), at(4));
    assert_eq!(waited(&mut lifecycle, at(4)).until(), at(7), "the request has its own time, and is hedged");
    let (_attempt, _) = asked(&mut lifecycle, attempt.answered(&denied()), at(6));
    assert_eq!(waited(&mut lifecycle, at(6)).until(), Timestamp::from_millis(26_001), "and so has each question");
}

#[test]
fn a_replaced_attempt_whose_provider_answers_late_changes_nothing() {
    for new_in_use in [false, true] {
        let mut lifecycle = provided();
        let replaced = asking(&mut lifecycle, at(0));
        let successor = fetched(&mut lifecycle, LEASE);
        let successor = sent(&mut lifecycle, successor, LEASE);
        if new_in_use {
            lifecycle.set_credentials(Credentials::new("my-client", "newest").unwrap()).unwrap();
        }
        let before = lifecycle.request().credentials();

        let late = replaced.provided(Some(Ok(given("my-client", "older", 2))));
        assert!(matches!(complete(&mut lifecycle, late, at(21)), Change::Superseded));
        assert_eq!(lifecycle.request().credentials(), before);
        if !new_in_use {
            complete(&mut lifecycle, successor.answered(&granted("abc", 60)), at(22));
            let attempt = fetched(&mut lifecycle, at(90));
            assert_eq!(asked(&mut lifecycle, attempt, at(90)).1, Some(Mark::new(1)), "nor does its mark count");
        }
    }
}

#[test]
fn a_replaced_attempt_that_learns_of_an_unknown_tenant_costs_no_token() {
    let mut lifecycle = provided();
    let replaced = asking(&mut lifecycle, at(0));
    let successor = fetched(&mut lifecycle, LEASE);
    complete(&mut lifecycle, successor.answered(&granted("abc", 3600)), at(21));
    let late = replaced.provided(Some(Err(Error::unknown_tenant("va336"))));
    assert!(matches!(complete(&mut lifecycle, late, at(21)), Change::Superseded));
    assert_eq!(used(&mut lifecycle, at(21)).access_token(), "abc");
}

#[test]
fn a_replaced_attempt_neither_asks_nor_sends() {
    let mut lifecycle = provided();
    let begun = fetched(&mut lifecycle, at(0));
    let successor = fetched(&mut lifecycle, LEASE);
    assert!(matches!(complete(&mut lifecycle, begun, LEASE), Change::Superseded));
    let (successor, _) = asked(&mut lifecycle, successor, LEASE);

    lifecycle.set_credentials(Credentials::new("my-client", "newest").unwrap()).unwrap();
    let change = complete(&mut lifecycle, successor.provided(Some(Ok(Given::Unchanged))), LEASE);
    assert!(matches!(change, Change::Superseded), "{change:?}");
}

#[test]
fn a_refusal_of_a_replaced_attempt_is_not_asked_about() {
    let mut lifecycle = provided();
    let replaced = sending(&mut lifecycle, at(0));
    let successor = fetched(&mut lifecycle, LEASE);
    let change = complete(&mut lifecycle, replaced.answered(&denied()), LEASE);
    assert!(matches!(change, Change::Superseded), "{change:?}");
    let _ = asked(&mut lifecycle, successor, LEASE);
}

#[test]
fn an_attempt_whose_lease_is_over_goes_on_while_nobody_has_taken_its_place() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "second", 2)))), at(86_400));
    assert!(waited(&mut lifecycle, at(86_400)).is_in_flight());
    assert!(matches!(
        complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(86_401)),
        Change::Obtained(token) if token.expires_at() == at(86_460)
    ));
}

#[test]
fn a_provider_that_fails_leaves_the_credentials_as_they_are_and_that_is_news() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    let mut attempt = sent(&mut lifecycle, attempt.provided(Some(Err(unreadable()))), at(0));
    assert_eq!(secret(&attempt), "s3cret");
    assert!(
        matches!(attempt.take_news(), Some(Change::ProviderFailed(error)) if error.what().contains("file is empty"))
    );
    complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(0));
    let attempt = fetched(&mut lifecycle, at(60));
    assert_eq!(asked(&mut lifecycle, attempt, at(60)).1, Some(Mark::new(1)), "the mark of what was read last");
}

#[test]
fn a_provider_that_fails_after_a_refusal_lets_the_refusal_be_reported() {
    let mut lifecycle = provided();
    let attempt = sending(&mut lifecycle, at(0));
    let (attempt, _) = asked(&mut lifecycle, attempt.answered(&denied()), at(0));
    let change = complete(&mut lifecycle, attempt.provided(Some(Err(unreadable()))), at(0));
    assert!(matches!(change, Change::Paused { error, .. } if error.kind() == ErrorKind::Credentials));
    assert_eq!(lifecycle.snapshot().status(at(0)).last_error.map(|error| error.kind()), Some(ErrorKind::Credentials));
}

#[test]
fn a_provider_that_has_not_answered_is_not_asked_again_before_it_has() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    let attempt = sent(&mut lifecycle, attempt.provided(None), at(5));
    assert_eq!(secret(&attempt), "s3cret");
    let change = complete(&mut lifecycle, attempt.answered(&denied()), at(5));
    assert!(matches!(change, Change::Paused { .. }), "nobody can be asked about the refusal: {change:?}");
    assert_eq!(refused(&mut lifecycle, at(6)).kind(), ErrorKind::Credentials, "nor behind it");
    let attempt = fetched(&mut lifecycle, at(10));
    let attempt = sent(&mut lifecycle, attempt, at(10));
    complete(&mut lifecycle, attempt.answered(&denied()), at(10));

    lifecycle.provider_answered();
    let attempt = fetched(&mut lifecycle, at(11));
    assert_eq!(asked(&mut lifecycle, attempt, at(11)).1, Some(Mark::new(1)));
}

#[test]
fn an_abandoned_question_stays_open_until_it_is_answered() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    assert!(matches!(complete(&mut lifecycle, attempt.abandoned(), at(1)), Change::Abandoned));
    let attempt = fetched(&mut lifecycle, at(1));
    let attempt = sent(&mut lifecycle, attempt, at(1));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(1));
    lifecycle.provider_answered();
    let attempt = fetched(&mut lifecycle, at(61));
    let _ = asked(&mut lifecycle, attempt, at(61));
}

#[test]
fn a_late_answer_of_a_replaced_attempt_does_not_end_the_question_of_another() {
    let mut lifecycle = provided();
    let replaced = asking(&mut lifecycle, at(0));
    // The driver knows that the provider has answered before it hands that in, and another attempt asks in between.
    lifecycle.provider_answered();
    lifecycle.set_credentials(Credentials::new("my-client", "newest").unwrap()).unwrap();
    let open = asking(&mut lifecycle, at(1));
    complete(&mut lifecycle, replaced.provided(Some(Ok(Given::Unchanged))), at(1));
    complete(&mut lifecycle, open.abandoned(), at(2));
    let attempt = fetched(&mut lifecycle, at(2));
    let _ = sent(&mut lifecycle, attempt, at(2));
}

#[test]
fn an_attempt_that_was_handed_out_to_ask_and_comes_back_unchanged_is_over() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    assert!(matches!(complete(&mut lifecycle, attempt, at(1)), Change::Abandoned));
    let _ = fetched(&mut lifecycle, at(1));
}

#[test]
fn credentials_of_the_provider_do_not_cost_the_held_token() {
    let mut lifecycle = provided();
    let due = obtain(&mut lifecycle, "old", 3600, at(0)).renewal_at();
    let attempt = asking(&mut lifecycle, due);
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("another", "second", 2)))), due);
    assert!(attempt.is_renewal());
    assert_eq!(used(&mut lifecycle, due).access_token(), "old");
    complete(&mut lifecycle, attempt.failed(unreachable_server()), due);
    assert_eq!(used(&mut lifecycle, due).access_token(), "old");

    lifecycle.set_credentials(Credentials::new("a-third", "s3cret").unwrap()).unwrap();
    assert!(lifecycle.held().is_none(), "somebody who sets another client id wants no token of the old one");
}

#[test]
fn an_attempt_with_other_credentials_counts_its_token_from_when_they_were_installed() {
    let mut lifecycle = provided();
    let attempt = asking(&mut lifecycle, at(0));
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "second", 2)))), at(4));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(6));
    assert_eq!(used(&mut lifecycle, at(6)).expires_at(), at(64));
}

#[test]
fn an_attempt_is_no_renewal_once_the_held_token_has_expired() {
    let mut lifecycle = provided();
    obtain(&mut lifecycle, "old", 60, at(0));
    let attempt = asking(&mut lifecycle, at(59));
    assert!(attempt.is_renewal());
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "second", 2)))), at(61));
    assert!(!attempt.is_renewal());
}
