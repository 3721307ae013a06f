//! A refusal that is remembered: who looks behind it, how often, and when nothing is sent.

use std::time::Duration;

use alvys_auth_core::{
    Attempt, Change, Credentials, Error, ErrorKind, Flow, Given, Lifecycle, Mark, Next, Policy, Step, Timestamp,
    TokenResponse,
};

use http::Response;

use crate::support::{
    answer, asked, at, complete, denied, fetched, given, granted, holding, just_before, lifecycle, obtain, refused,
    request, sent, used, waited, with,
};

mod support;

const TIME_LIMIT: Duration = Duration::from_secs(5);

fn provided() -> Lifecycle {
    lifecycle().with_provider(Some(Mark::new(1)), None, TIME_LIMIT)
}

/// A lifecycle whose credentials were refused at `now`, and whose provider had no others.
fn refused_at(now: Timestamp) -> Lifecycle {
    let mut lifecycle = provided();
    refuse(&mut lifecycle, now, &denied());
    lifecycle
}

/// A lifecycle whose credentials were refused at the origin by a server that wants to be left alone for ten minutes.
fn shut_out() -> Lifecycle {
    let mut lifecycle = provided();
    refuse(&mut lifecycle, at(0), &with(denied(), "retry-after", "600"));
    lifecycle
}

/// Carries out an attempt with a provider that has nothing new and a server that answers with `response`.
fn refuse(lifecycle: &mut Lifecycle, now: Timestamp, response: &Response<Vec<u8>>) -> Change {
    let mut attempt = fetched(lifecycle, now);
    loop {
        attempt = match lifecycle.next(attempt, now) {
            Next::Ask(attempt, _) => attempt.provided(Some(Ok(Given::Unchanged))),
            Next::Send(attempt) => attempt.answered(response),
            Next::Over(change) => return change,
            other => panic!("{other:?}"),
        }
    }
}

/// The attempt that looks behind the refusal now, and asks the provider with the mark in use.
#[track_caller]
fn looking(lifecycle: &mut Lifecycle, now: Timestamp) -> Attempt {
    let attempt = fetched(lifecycle, now);
    let (attempt, known) = asked(lifecycle, attempt, now);
    assert!(known.is_some());
    attempt
}

#[test]
fn a_remembered_refusal_is_looked_behind_by_one_caller_and_the_others_wait() {
    let mut lifecycle = shut_out();
    for now in [at(0), at(1), just_before(at(5))] {
        assert_eq!(refused(&mut lifecycle, now).kind(), ErrorKind::Credentials, "it was asked after the refusal");
    }
    let look = looking(&mut lifecycle, at(5));
    for _ in 0..10 {
        assert!(waited(&mut lifecycle, at(5)).is_in_flight());
    }
    let change = complete(&mut lifecycle, look.provided(Some(Ok(Given::Unchanged))), at(5));
    assert!(matches!(change, Change::Unchanged), "{change:?}");
    for now in [at(5), at(6), just_before(at(10))] {
        assert_eq!(refused(&mut lifecycle, now).kind(), ErrorKind::Credentials);
    }
    let _ = looking(&mut lifecycle, at(10));
}

#[test]
fn a_look_comes_every_five_seconds_while_a_long_cool_down_lasts() {
    let mut lifecycle = refused_at(at(0));
    // Four refusals more, and the cool-down lasts for 80 s.
    for now in [5, 15, 35, 75] {
        refuse(&mut lifecycle, at(now), &denied());
    }
    let (mut looks, mut failures) = (Vec::new(), 0);
    for second in 76..155 {
        match lifecycle.poll(at(second)) {
            Step::Fetch(attempt) => {
                looks.push(second);
                let (attempt, _) = asked(&mut lifecycle, attempt, at(second));
                complete(&mut lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), at(second));
            }
            _ => failures += 1,
        }
    }
    assert_eq!(looks, (80..155).step_by(5).collect::<Vec<_>>());
    assert_eq!(failures, 79 - looks.len());
}

#[test]
fn a_look_that_finds_nothing_new_sends_nothing_and_lengthens_nothing() {
    let mut lifecycle = shut_out();
    let look = looking(&mut lifecycle, at(5));
    complete(&mut lifecycle, look.provided(Some(Ok(given("my-client", "s3cret", 2)))), at(5));
    assert_eq!(lifecycle.snapshot().status(at(5)).paused_for, Some(Duration::from_secs(595)));
    let attempt = fetched(&mut lifecycle, at(600));
    let (attempt, known) = asked(&mut lifecycle, attempt, at(600));
    assert_eq!(known, None, "after the cool-down the provider is asked for what it has, whatever the mark");
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "s3cret", 2)))), at(600));
    let change = complete(&mut lifecycle, attempt.answered(&denied()), at(600));
    assert!(matches!(change, Change::Paused { until, .. } if until == at(610)), "it was asked before: {change:?}");
}

#[test]
fn a_look_that_fails_or_is_not_answered_sends_nothing() {
    let mut lifecycle = shut_out();
    let look = looking(&mut lifecycle, at(5));
    let change = complete(&mut lifecycle, look.provided(Some(Err(Error::timed_out("the vault is locked")))), at(5));
    assert!(matches!(&change, Change::ProviderFailed(error) if error.what().contains("vault")), "{change:?}");
    let look = looking(&mut lifecycle, at(10));
    let change = complete(&mut lifecycle, look.provided(None), at(13));
    assert!(matches!(change, Change::Unchanged), "{change:?}");
    refused(&mut lifecycle, at(20));
}

#[test]
fn a_look_that_finds_other_credentials_sends_them_once() {
    let mut lifecycle = shut_out();
    let look = looking(&mut lifecycle, at(5));
    let mut attempt = sent(&mut lifecycle, look.provided(Some(Ok(given("my-client", "second", 2)))), at(5));
    assert!(matches!(attempt.take_news(), Some(Change::CredentialsChanged)));
    let change = complete(&mut lifecycle, attempt.answered(&denied()), at(5));
    assert!(matches!(change, Change::Paused { until, .. } if until == at(10)), "reported, not asked about: {change:?}");
    refused(&mut lifecycle, at(9));
}

#[test]
fn looks_behind_a_refusal_stay_five_seconds_apart_whatever_they_find() {
    let mut lifecycle = shut_out();
    for (now, secret) in [(5, "second"), (10, "third"), (15, "fourth")] {
        let look = looking(&mut lifecycle, at(now));
        let attempt = sent(&mut lifecycle, look.provided(Some(Ok(given("my-client", secret, now)))), at(now));
        complete(&mut lifecycle, attempt.answered(&with(denied(), "retry-after", "30")), at(now));
        refused(&mut lifecycle, just_before(at(now + 5)));
    }
}

#[test]
fn only_a_refusal_that_other_credentials_may_mend_is_looked_behind() {
    for response in [answer(302, ""), answer(404, "<html>"), answer(200, r#"{"access_token":null}"#)] {
        let mut lifecycle = provided();
        refuse(&mut lifecycle, at(0), &with(response, "retry-after", "60"));
        refused(&mut lifecycle, at(6));
    }
    let mut lifecycle = lifecycle();
    refuse(&mut lifecycle, at(0), &with(denied(), "retry-after", "60"));
    refused(&mut lifecycle, at(6));
}

#[test]
fn nobody_looks_while_a_token_is_held() {
    let mut lifecycle = holding("abc", 3600).with_provider(Some(Mark::new(1)), None, TIME_LIMIT);
    let due = used(&mut lifecycle, at(0)).renewal_at();
    refuse(&mut lifecycle, due, &with(denied(), "retry-after", "60"));
    let later = due.saturating_add(Duration::from_secs(6));
    assert_eq!(used(&mut lifecycle, later).access_token(), "abc");
    assert!(lifecycle.snapshot().usable(later).is_some());
}

#[test]
fn an_abandoned_look_is_not_repeated_at_once() {
    let mut lifecycle = shut_out();
    let look = looking(&mut lifecycle, at(5));
    assert!(matches!(complete(&mut lifecycle, look.abandoned(), at(6)), Change::Abandoned));
    lifecycle.provider_answered();
    refused(&mut lifecycle, at(9));
    let _ = looking(&mut lifecycle, at(10));
}

#[test]
fn an_attempt_after_a_refusal_asks_for_what_there_is_and_goes_on_with_it() {
    let mut lifecycle = refused_at(at(0));
    let attempt = fetched(&mut lifecycle, at(5));
    let (attempt, known) = asked(&mut lifecycle, attempt, at(5));
    assert_eq!(known, None);
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "second", 1)))), at(5));
    let change = complete(&mut lifecycle, attempt.answered(&denied()), at(5));
    assert!(matches!(change, Change::Paused { until, .. } if until == at(10)), "the row starts anew: {change:?}");
}

#[test]
fn an_attempt_after_a_refusal_whose_provider_does_not_answer_tries_what_is_in_use() {
    let mut lifecycle = refused_at(at(0));
    let attempt = fetched(&mut lifecycle, at(5));
    let (attempt, _) = asked(&mut lifecycle, attempt, at(5));
    let attempt = sent(&mut lifecycle, attempt.provided(None), at(8));
    complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), at(8));
    assert_eq!(used(&mut lifecycle, at(8)).access_token(), "abc");
}

#[test]
fn an_unknown_tenant_gives_the_held_token_up_and_is_reported() {
    let mut lifecycle = provided();
    let due = obtain(&mut lifecycle, "abc", 3600, at(0)).renewal_at();
    let attempt = fetched(&mut lifecycle, due);
    let (attempt, _) = asked(&mut lifecycle, attempt, due);
    let change = complete(&mut lifecycle, attempt.provided(Some(Err(Error::unknown_tenant("va336")))), due);
    let Change::Paused { until, error } = change else { panic!("{change:?}") };
    assert_eq!((error.kind(), until), (ErrorKind::UnknownTenant, due.saturating_add(Duration::from_secs(5))));
    assert!(lifecycle.held().is_none() && lifecycle.snapshot().usable(due).is_none());
    let stored = TokenResponse::new("abc", Duration::from_secs(7200), "").unwrap();
    assert!(!lifecycle.adopt(stored, due), "nor does a store bring it back");
}

#[test]
fn a_tenant_that_is_known_again_is_served_again_even_with_the_credentials_it_had() {
    for known_again in [Given::Unchanged, given("my-client", "s3cret", 1), given("my-client", "s3cret", 2)] {
        let mut lifecycle = provided();
        let mut now = at(0);
        // A tenant that has long been unknown has a long cool-down.
        for _ in 0..6 {
            let attempt = fetched(&mut lifecycle, now);
            let (attempt, _) = asked(&mut lifecycle, attempt, now);
            complete(&mut lifecycle, attempt.provided(Some(Err(Error::unknown_tenant("va336")))), now);
            now = now.saturating_add(Duration::from_secs(5));
        }
        let look = fetched(&mut lifecycle, now);
        let (look, _) = asked(&mut lifecycle, look, now);
        let attempt = sent(&mut lifecycle, look.provided(Some(Ok(known_again))), now);
        complete(&mut lifecycle, attempt.answered(&granted("abc", 60)), now);
        assert_eq!(used(&mut lifecycle, now).access_token(), "abc");
    }
}

#[test]
fn nothing_is_sent_for_an_unknown_tenant_while_nobody_says_that_it_is_known_again() {
    for silent in [false, true] {
        let mut lifecycle = provided();
        let attempt = fetched(&mut lifecycle, at(0));
        let (attempt, _) = asked(&mut lifecycle, attempt, at(0));
        complete(&mut lifecycle, attempt.provided(Some(Err(Error::unknown_tenant("va336")))), at(0));
        let attempt = fetched(&mut lifecycle, at(5));
        let (attempt, _) = asked(&mut lifecycle, attempt, at(5));
        let heard = if silent {
            attempt.provided(None)
        } else {
            attempt.provided(Some(Err(Error::timed_out("the store is shut"))))
        };
        let change = complete(&mut lifecycle, heard, at(5));
        assert!(matches!(change, Change::Paused { error, .. } if error.kind() == ErrorKind::UnknownTenant));
    }
}

#[test]
fn an_unknown_tenant_behind_a_refusal_does_not_shorten_the_servers_wait() {
    let mut lifecycle = shut_out();
    let look = looking(&mut lifecycle, at(5));
    let change = complete(&mut lifecycle, look.provided(Some(Err(Error::unknown_tenant("va336")))), at(5));
    assert!(matches!(change, Change::Paused { until, .. } if until == at(600)), "{change:?}");
    refused(&mut lifecycle, at(9));
}

#[test]
fn an_unknown_tenant_after_a_refusal_is_what_is_reported() {
    let mut lifecycle = provided();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = asked(&mut lifecycle, attempt, at(0));
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(Given::Unchanged))), at(0));
    let (attempt, _) = asked(&mut lifecycle, attempt.answered(&denied()), at(0));
    complete(&mut lifecycle, attempt.provided(Some(Err(Error::unknown_tenant("va336")))), at(0));
    assert_eq!(refused(&mut lifecycle, at(1)).kind(), ErrorKind::UnknownTenant);
}

/// A lifecycle that expects another organization than the server's tokens are of.
fn mixed_up() -> Lifecycle {
    let policy = Policy::new().cool_down(Duration::from_secs(5), Duration::from_secs(60));
    Lifecycle::new(request(Flow::current().expect_organization("va336")), policy, 0)
}

#[test]
fn a_token_of_another_organization_is_not_bought_again_before_the_longest_cool_down_is_over() {
    for provider in [false, true] {
        let mut lifecycle = mixed_up();
        if provider {
            lifecycle = lifecycle.with_provider(Some(Mark::new(1)), None, TIME_LIMIT);
        }
        let mut requests = Vec::new();
        let mut reports = Vec::new();
        for second in 0..=75 {
            let now = at(second);
            for _ in 0..3 {
                let Step::Fetch(mut attempt) = lifecycle.poll(now) else { break };
                loop {
                    attempt = match lifecycle.next(attempt, now) {
                        Next::Ask(attempt, _) => attempt.provided(Some(Ok(Given::Unchanged))),
                        Next::Send(attempt) => {
                            requests.push(second);
                            attempt.answered(&granted("opaque", 3600))
                        }
                        Next::Over(Change::Paused { error, .. }) => {
                            assert_eq!(error.kind(), ErrorKind::WrongOrganization);
                            reports.push(second);
                            break;
                        }
                        Next::Over(change) => {
                            assert!(matches!(change, Change::Unchanged), "{change:?}");
                            break;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert_eq!(requests, [0, 75], "{provider}");
        assert_eq!(reports[..4], [0, 5, 15, 35], "and is reported ever more rarely: {provider}");
    }
}

#[test]
fn other_credentials_are_tried_at_once_after_a_token_of_another_organization() {
    let mut lifecycle = mixed_up().with_provider(Some(Mark::new(1)), None, TIME_LIMIT);
    refuse(&mut lifecycle, at(0), &granted("opaque", 3600));
    let attempt = fetched(&mut lifecycle, at(5));
    let (attempt, _) = asked(&mut lifecycle, attempt, at(5));
    let attempt = sent(&mut lifecycle, attempt.provided(Some(Ok(given("another", "s3cret", 2)))), at(5));
    complete(&mut lifecycle, attempt.answered(&granted("opaque", 3600)), at(5));
    lifecycle.set_credentials(Credentials::new("a-third", "s3cret").unwrap()).unwrap();
    let attempt = fetched(&mut lifecycle, at(6));
    let _ = asked(&mut lifecycle, attempt, at(6));
}
