//! What an attempt does at a shared store, step by step.

mod support;

use std::time::Duration;

use alvys_auth_core::share::{Answer, Id, Operation, Outcome, SharedToken};
use alvys_auth_core::{
    Attempt, Change, Credentials, Error, ErrorKind, Flow, Lifecycle, Next, Policy, Step, Timestamp, TokenResponse,
};
use support::{answer, at, denied, fetched, given, granted, request, seconds, unreachable_server, used, with};

type Command = Operation<TokenResponse, Error>;
type Answered = Answer<TokenResponse, Error>;

const HOUR: Duration = Duration::from_secs(3600);

fn shared() -> Lifecycle {
    Lifecycle::new(request(Flow::current()), Policy::new(), 7).with_store(id(100))
}

fn id(number: u8) -> Id {
    Id::from_bytes([number; 16])
}

fn token(text: &str, left: Duration) -> TokenResponse {
    TokenResponse::new(text, left, "load:read").expect("a token")
}

/// An answer without anything there.
fn nothing(outcome: Outcome) -> Answered {
    Answer { outcome, token: None, busy_for: Duration::ZERO, pause: None }
}

/// The answer that there is this token, which is a minute old and good for an hour more.
fn newer(generation: u8, text: Option<&str>) -> Answered {
    let found = SharedToken {
        generation: id(generation),
        age: seconds(60),
        left: HOUR,
        token: text.map(|text| token(text, HOUR + seconds(60))),
    };
    Answer { token: Some(found), ..nothing(Outcome::Newer) }
}

/// The operation that the attempt must do at the store now.
#[track_caller]
fn told(lifecycle: &mut Lifecycle, attempt: Attempt, now: Timestamp) -> (Attempt, Command) {
    match lifecycle.next(attempt, now) {
        Next::Store(attempt, command) => (attempt, *command),
        other => panic!("expected an operation, not {other:?}"),
    }
}

/// Hands an answer of the store in, after which the attempt must do this at the store.
#[track_caller]
fn then(lifecycle: &mut Lifecycle, attempt: Attempt, answer: Answered, now: Timestamp) -> (Attempt, Command) {
    told(lifecycle, attempt.stored(Ok(answer)), now)
}

#[track_caller]
fn sent(lifecycle: &mut Lifecycle, attempt: Attempt, now: Timestamp) -> Attempt {
    support::sent(lifecycle, attempt, now)
}

#[track_caller]
fn over(lifecycle: &mut Lifecycle, attempt: Attempt, now: Timestamp) -> Change {
    support::complete(lifecycle, attempt, now)
}

#[track_caller]
fn waiting(lifecycle: &mut Lifecycle, attempt: Attempt, now: Timestamp) -> (Attempt, Timestamp) {
    match lifecycle.next(attempt, now) {
        Next::Wait(attempt, until) => (attempt, until),
        other => panic!("expected a wait, not {other:?}"),
    }
}

/// An attempt that has claimed and may send now.
#[track_caller]
fn claimed(lifecycle: &mut Lifecycle, now: Timestamp) -> Attempt {
    let attempt = fetched(lifecycle, now);
    let (attempt, command) = told(lifecycle, attempt, now);
    assert!(matches!(command, Operation::Claim { .. }), "{command:?}");
    sent(lifecycle, attempt.stored(Ok(nothing(Outcome::Claimed))), now)
}

/// A lifecycle that has got `abc` at `at(0)`, for an hour, and published it; the id that it has at the store.
fn publishing() -> (Lifecycle, Id) {
    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(0)).answered(&granted("abc", 3600));
    let (attempt, command) = told(&mut lifecycle, attempt, at(0));
    let Operation::Publish { generation, .. } = command else { panic!("{command:?}") };
    let _ = over(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Published))), at(0));
    (lifecycle, generation)
}

fn failed() -> Error {
    Error::timed_out("the store did not answer in time")
}

#[test]
fn a_short_run_does_not_wait_for_the_renewal_of_others() {
    let policy = Policy::new().wait_for_renewal(seconds(5));
    let mut lifecycle = Lifecycle::new(request(Flow::current()), policy, 7).with_store(id(100));
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let _ = over(&mut lifecycle, attempt.stored(Ok(newer(1, Some("abc")))), at(0));
    let due = used(&mut lifecycle, at(0)).renewal_at();
    let attempt = fetched(&mut lifecycle, due);
    let (attempt, _) = told(&mut lifecycle, attempt, due);
    assert!(matches!(lifecycle.poll(due), Step::Wait(_)), "it may be this one's to renew");
    let busy = Answered { busy_for: seconds(10), ..nothing(Outcome::Busy) };
    let (mut attempt, until) = waiting(&mut lifecycle, attempt.stored(Ok(busy.clone())), due);
    assert!(matches!(attempt.take_news(), Some(Change::AskedByOthers)), "who waits is woken");
    assert_eq!(used(&mut lifecycle, due).access_token(), "abc");
    let (attempt, _) = told(&mut lifecycle, attempt, until);
    let (mut attempt, _) = waiting(&mut lifecycle, attempt.stored(Ok(busy)), until);
    assert!(attempt.take_news().is_none(), "that is told once");
}

#[test]
fn a_token_is_claimed_fetched_used_at_once_and_published() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, command) = told(&mut lifecycle, attempt, at(0));
    let Operation::Claim { owner, unwanted: None, lease } = command else { panic!("{command:?}") };
    assert_eq!((owner, lease), (id(100), Duration::from_millis(15_001)));
    let attempt = sent(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Claimed))), at(1));
    let (attempt, command) = told(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(2));
    let Operation::Publish { owner, replaced: None, generation, token, lifetime } = command else { panic!("publish") };
    assert_eq!(owner, id(100));
    assert_ne!(generation, id(100));
    assert!(token.to_entry().contains("abc"));
    // The lifetime counts from when the request was sent.
    assert_eq!(lifetime, seconds(3599));
    assert_eq!(used(&mut lifecycle, at(2)).access_token(), "abc", "who asks now does not wait for the store");
    let change = over(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Published))), at(3));
    assert!(matches!(change, Change::Obtained(_)), "{change:?}");
}

#[test]
fn a_newer_token_is_adopted_with_its_age_and_ends_a_pause() {
    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(100)).answered(&answer(503, "{}"));
    let (attempt, _) = told(&mut lifecycle, attempt, at(100));
    let _ = over(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Failed))), at(100));
    assert!(lifecycle.snapshot().status(at(100)).last_error.is_some());

    let attempt = fetched(&mut lifecycle, at(200));
    let (attempt, _) = told(&mut lifecycle, attempt, at(200));
    let change = over(&mut lifecycle, attempt.stored(Ok(newer(1, Some("theirs")))), at(200));
    assert!(matches!(change, Change::Adopted(_)), "{change:?}");
    let token = used(&mut lifecycle, at(200));
    assert_eq!(token.access_token(), "theirs");
    assert_eq!(token.obtained_at(), Some(at(140)));
    assert_eq!(token.expires_in(at(200)), HOUR);
    assert!(lifecycle.snapshot().status(at(200)).last_error.is_none());
}

/// A short-lived process that took it as its own would never renew it.
#[test]
fn an_adopted_token_near_its_end_is_due_at_once() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(9000));
    let (attempt, _) = told(&mut lifecycle, attempt, at(9000));
    let found = SharedToken {
        generation: id(1),
        age: seconds(3500),
        left: seconds(100),
        token: Some(token("theirs", seconds(3600))),
    };
    let near = Answer { token: Some(found), ..nothing(Outcome::Newer) };
    let _ = over(&mut lifecycle, attempt.stored(Ok(near)), at(9000));
    let attempt = fetched(&mut lifecycle, at(9000));
    assert!(attempt.is_renewal());
    let (_, command) = told(&mut lifecycle, attempt, at(9000));
    assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == id(1)));
    assert_eq!(used(&mut lifecycle, at(9000)).expires_in(at(9000)), seconds(100));
}

#[test]
fn a_token_that_has_ended_on_the_way_is_not_taken() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(9000));
    let (attempt, _) = told(&mut lifecycle, attempt, at(9000));
    let found = SharedToken {
        generation: id(1),
        age: seconds(3600),
        left: Duration::ZERO,
        token: Some(token("theirs", seconds(3600))),
    };
    let ended = Answer { token: Some(found), ..nothing(Outcome::Newer) };
    let (_, command) = then(&mut lifecycle, attempt, ended, at(9000));
    assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == id(1)));
}

#[test]
fn a_renewal_wants_another_token_than_the_held_one() {
    let (mut lifecycle, generation) = publishing();
    let due = used(&mut lifecycle, at(1)).renewal_at();
    let attempt = fetched(&mut lifecycle, due);
    let (attempt, command) = told(&mut lifecycle, attempt, due);
    assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == generation));
    let attempt = sent(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Claimed))), due);
    let (_, command) = told(&mut lifecycle, attempt.answered(&granted("def", 3600)), due);
    let Operation::Publish { replaced, generation: next, .. } = command else { panic!("{command:?}") };
    assert_eq!(replaced, Some(generation));
    assert_ne!(next, generation);
}

#[test]
fn a_busy_store_is_asked_again_soon_and_not_after_the_lease() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let busy = Answer { busy_for: seconds(9), ..nothing(Outcome::Busy) };
    let (attempt, until) = waiting(&mut lifecycle, attempt.stored(Ok(busy)), at(0));
    let wait = until.saturating_duration_since(at(0));
    assert!(wait >= Duration::from_millis(20) && wait < Duration::from_millis(100), "{wait:?}");
    let (attempt, again) = waiting(&mut lifecycle, attempt, at(0));
    assert_eq!(again, until, "too early changes nothing");
    let (attempt, command) = told(&mut lifecycle, attempt, until);
    assert!(matches!(command, Operation::Claim { .. }));
    let nearly_over = Answer { busy_for: Duration::from_millis(3), ..nothing(Outcome::Busy) };
    let (_, until) = waiting(&mut lifecycle, attempt.stored(Ok(nearly_over)), until);
    assert!(until <= at(0).saturating_add(wait + Duration::from_millis(4)));
}

/// Nobody waits for it, so it does not hurry.
#[test]
fn a_renewal_asks_a_busy_store_less_often() {
    let (mut lifecycle, _) = publishing();
    let due = used(&mut lifecycle, at(1)).renewal_at();
    let attempt = fetched(&mut lifecycle, due);
    let (attempt, _) = told(&mut lifecycle, attempt, due);
    let busy = Answer { busy_for: seconds(9), ..nothing(Outcome::Busy) };
    let (_, until) = waiting(&mut lifecycle, attempt.stored(Ok(busy)), due);
    assert!(until.saturating_duration_since(due) >= Duration::from_millis(500));
    assert!(matches!(lifecycle.poll(due), Step::Use(_)), "the held token serves on");
}

#[test]
fn a_shared_pause_brings_the_failure_and_what_is_left_of_it() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let limited = support::refusal_of(429);
    let failure = Error::from_entry(&limited.to_entry(), seconds(30));
    let paused = Answer { pause: Some((failure, seconds(30))), ..nothing(Outcome::Paused) };
    let change = over(&mut lifecycle, attempt.stored(Ok(paused)), at(0));
    let Change::Paused { until, error } = change else { panic!("{change:?}") };
    assert_eq!((until, error.kind()), (at(30), ErrorKind::RateLimited));
    let wait = support::waited(&mut lifecycle, at(1));
    assert_eq!((wait.until(), wait.error().and_then(Error::retry_after)), (at(30), Some(seconds(30))));
    let attempt = fetched(&mut lifecycle, at(30));
    assert!(matches!(told(&mut lifecycle, attempt, at(30)).1, Operation::Claim { .. }));
}

#[test]
fn a_pause_whose_failure_cannot_be_read_counts_as_absent() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let paused = Answer { pause: Some((None, seconds(86_400))), ..nothing(Outcome::Paused) };
    let _ = sent(&mut lifecycle, attempt.stored(Ok(paused)), at(0));
}

/// Somebody may have a very long lease, or have put one there.
#[test]
fn a_store_that_is_busy_beyond_every_lease_is_left_aside() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (mut attempt, _) = told(&mut lifecycle, attempt, at(0));
    let busy = || Answer { busy_for: seconds(86_400), ..nothing(Outcome::Busy) };
    let mut now = at(0);
    while now < at(30) {
        let (waits, until) = waiting(&mut lifecycle, attempt.stored(Ok(busy())), now);
        (attempt, _) = told(&mut lifecycle, waits, until);
        now = until;
    }
    let _ = sent(&mut lifecycle, attempt.stored(Ok(busy())), at(31));
}

#[test]
fn a_token_of_new_credentials_is_not_published_under_the_old_name() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let first = sent(&mut lifecycle, attempt.stored(Err(failed())), at(0));
    let (first, until) = waiting(&mut lifecycle, first.answered(&granted("old", 3600)), at(0));
    lifecycle.set_credentials(Credentials::new("another-client", "n3w").expect("legal")).expect("legal");
    let second = fetched(&mut lifecycle, at(0));
    let second = sent(&mut lifecycle, second, at(0));
    let (_second, _) = waiting(&mut lifecycle, second.answered(&granted("new", 3600)), at(0));
    let _ = over(&mut lifecycle, first, until);
}

#[test]
fn an_answer_that_may_have_cost_a_token_pauses_everybody() {
    let mut lifecycle = shared();
    let unreadable =
        || Error::on_the_way(alvys_auth_core::TransportFault::Unreadable, "the token endpoint", "bad chunk");
    let attempt = claimed(&mut lifecycle, at(0)).failed(unreadable());
    let (_, command) = told(&mut lifecycle, attempt, at(0));
    assert!(matches!(command, Operation::Fail { pause, .. } if !pause.is_zero()), "{command:?}");
}

/// An attempt that is dropped, as by a panic, while the store is told of its end.
#[test]
fn what_became_of_an_attempt_is_told_although_nobody_tells_the_store() {
    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(0)).answered(&granted("abc", 3600));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    assert!(matches!(over(&mut lifecycle, attempt.abandoned(), at(0)), Change::Obtained(_)));
}

/// The first operation that fails may be the last one of its attempt.
#[test]
fn a_store_that_fails_at_the_end_of_an_attempt_is_told_by_the_next_one() {
    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(0)).answered(&answer(503, "{}"));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    assert!(matches!(over(&mut lifecycle, attempt.stored(Err(failed())), at(0)), Change::Paused { .. }));
    let attempt = fetched(&mut lifecycle, at(60));
    let (mut attempt, _) = told(&mut lifecycle, attempt, at(60));
    assert!(matches!(attempt.take_news(), Some(Change::StoreFailed(_))));
}

#[test]
fn what_the_server_answers_pauses_everybody_and_a_dead_network_does_not() {
    let limited = with(answer(429, "{}"), "retry-after", "40");
    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(0)).answered(&limited);
    let (_, command) = told(&mut lifecycle, attempt, at(0));
    let Operation::Fail { owner, failure, pause } = command else { panic!("{command:?}") };
    assert_eq!((owner, failure.kind(), pause), (id(100), ErrorKind::RateLimited, seconds(40)));

    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(0)).failed(unreachable_server());
    let (attempt, command) = told(&mut lifecycle, attempt, at(0));
    assert!(matches!(command, Operation::Fail { pause: Duration::ZERO, .. }), "{command:?}");
    let change = over(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Failed))), at(0));
    assert!(matches!(change, Change::Paused { .. }), "{change:?}");
}

#[test]
fn a_rejected_token_is_removed_before_the_next_one_is_claimed() {
    let (mut lifecycle, generation) = publishing();
    let token = used(&mut lifecycle, at(20));
    assert!(lifecycle.reject(&token, at(20)));
    let attempt = fetched(&mut lifecycle, at(20));
    let (attempt, command) = told(&mut lifecycle, attempt, at(20));
    assert!(matches!(command, Operation::Reject { generation: given, grace }
        if given == generation && grace == seconds(10)));
    let (attempt, command) = then(&mut lifecycle, attempt, nothing(Outcome::Rejected), at(20));
    assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == generation));
    let _ = over(&mut lifecycle, attempt.stored(Ok(newer(1, Some("theirs")))), at(20));
    let theirs = used(&mut lifecycle, at(21));
    assert!(lifecycle.reject(&theirs, at(21)));
    let attempt = fetched(&mut lifecycle, at(21));
    let (_, command) = told(&mut lifecycle, attempt, at(21));
    assert!(matches!(command, Operation::Reject { generation, .. } if generation == id(1)));
}

#[test]
fn the_token_that_was_given_up_is_not_taken_back_under_another_id() {
    let (mut lifecycle, _) = publishing();
    let token = used(&mut lifecycle, at(20));
    assert!(lifecycle.reject(&token, at(20)));
    let attempt = fetched(&mut lifecycle, at(20));
    let (attempt, _) = told(&mut lifecycle, attempt, at(20));
    let (attempt, _) = then(&mut lifecycle, attempt, nothing(Outcome::Rejected), at(20));
    let (_, command) = then(&mut lifecycle, attempt, newer(5, Some("abc")), at(20));
    assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == id(5)));
}

/// The store was away when the API refused its token, and another one, such as files below it, has served meanwhile.
#[test]
fn a_token_that_was_refused_before_is_not_taken_when_the_store_is_back() {
    let (mut lifecycle, refused) = publishing();
    let mut now = at(0);
    for generation in 1..=8 {
        now = now.saturating_add(seconds(20));
        let held = used(&mut lifecycle, now);
        assert!(lifecycle.reject(&held, now));
        let attempt = fetched(&mut lifecycle, now);
        let (attempt, _) = told(&mut lifecycle, attempt, now);
        let (attempt, _) = then(&mut lifecycle, attempt, nothing(Outcome::Newer), now);
        if generation == 8 {
            let back =
                SharedToken { generation: refused, age: seconds(60), left: HOUR, token: Some(token("abc", HOUR)) };
            let back = Answer { token: Some(back), ..nothing(Outcome::Newer) };
            let (attempt, command) = then(&mut lifecycle, attempt, back, now);
            assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == refused));
            let _ = sent(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Claimed))), now);
        } else {
            let _ =
                over(&mut lifecycle, attempt.stored(Ok(newer(generation, Some(&format!("other{generation}"))))), now);
        }
    }
}

#[test]
fn a_token_of_a_slow_store_ends_no_later_for_that() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(100));
    let (attempt, _) = told(&mut lifecycle, attempt, at(100));
    let _ = over(&mut lifecycle, attempt.stored(Ok(newer(1, Some("theirs")))), at(104));
    assert_eq!(used(&mut lifecycle, at(104)).expires_in(at(104)), HOUR - seconds(4));

    let mut late = shared();
    let attempt = claimed(&mut late, at(100)).answered(&granted("mine", 3600));
    let (attempt, _) = told(&mut late, attempt, at(101));
    let lost = Answer { outcome: Outcome::Lost, ..newer(1, Some("theirs")) };
    let _ = over(&mut late, attempt.stored(Ok(lost)), at(105));
    assert_eq!(used(&mut late, at(105)).expires_in(at(105)), HOUR - seconds(4));
}

#[test]
fn entries_that_are_of_no_use_are_passed_and_in_the_end_the_store_is_left_aside() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let (attempt, command) = then(&mut lifecycle, attempt, newer(1, None), at(0));
    assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == id(1)));
    let (attempt, command) = then(&mut lifecycle, attempt, newer(2, None), at(0));
    assert!(matches!(command, Operation::Claim { unwanted: Some(unwanted), .. } if unwanted == id(2)));
    let attempt = sent(&mut lifecycle, attempt.stored(Ok(newer(3, None))), at(0));
    let (_, command) = told(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(0));
    assert!(matches!(command, Operation::Publish { replaced: Some(replaced), .. } if replaced == id(3)));
}

#[test]
fn a_token_of_another_organization_is_not_taken() {
    let flow = Flow::current().expect_organization("va336");
    let mut lifecycle = Lifecycle::new(request(flow), Policy::new(), 7).with_store(id(100));
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let (_, command) = then(&mut lifecycle, attempt, newer(1, Some("of.nobody")), at(0));
    assert!(matches!(command, Operation::Claim { .. }));
}

#[test]
fn a_token_that_came_too_late_gives_way_to_the_published_one() {
    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(0)).answered(&granted("mine", 3600));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let lost = Answer { outcome: Outcome::Lost, ..newer(1, Some("theirs")) };
    let change = over(&mut lifecycle, attempt.stored(Ok(lost)), at(0));
    assert!(matches!(change, Change::Obtained(token) if token.access_token() == "mine"), "what was bought is told");
    assert_eq!(used(&mut lifecycle, at(0)).access_token(), "theirs");
}

#[test]
fn a_token_that_was_published_with_old_credentials_is_not_taken_for_the_new_ones() {
    let mut lifecycle = shared();
    let attempt = claimed(&mut lifecycle, at(0)).answered(&granted("mine", 3600));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    lifecycle.set_credentials(Credentials::new("another-client", "n3w").expect("legal")).expect("legal");
    let lost = Answer { outcome: Outcome::Lost, ..newer(1, Some("theirs")) };
    let _ = over(&mut lifecycle, attempt.stored(Ok(lost)), at(0));
    assert!(lifecycle.held().is_none(), "it is the token of another client");
}

#[test]
fn a_pause_that_was_ended_by_hand_is_ended_once() {
    let mut lifecycle = shared();
    lifecycle.end_pause();
    let attempt = claimed(&mut lifecycle, at(0)).answered(&granted("abc", 60));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let _ = over(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Published))), at(0));
    // A later pause is none that anybody has ended.
    let attempt = fetched(&mut lifecycle, at(100));
    let (attempt, _) = told(&mut lifecycle, attempt, at(100));
    let failure = Error::from_entry(&support::refusal_of(429).to_entry(), seconds(30));
    let paused = Answer { pause: Some((failure, seconds(30))), ..nothing(Outcome::Paused) };
    assert!(matches!(over(&mut lifecycle, attempt.stored(Ok(paused)), at(100)), Change::Paused { .. }));
}

#[test]
fn a_store_that_fails_is_told_once_and_left_alone_until_it_has_rested() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let mut attempt = sent(&mut lifecycle, attempt.stored(Err(failed())), at(0));
    assert!(matches!(attempt.take_news(), Some(Change::StoreFailed(_))));
    // The token is offered when the store has rested, five times at the most, and with longer and longer rests.
    let (mut attempt, mut until) = waiting(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(0));
    assert!(matches!(attempt.take_news(), Some(Change::Obtained(_))));
    let mut rests = vec![until.saturating_duration_since(at(0))];
    loop {
        let (asked, command) = told(&mut lifecycle, attempt, until);
        assert!(matches!(command, Operation::Publish { .. }));
        match lifecycle.next(asked.stored(Err(failed())), until) {
            Next::Wait(mut next, then) => {
                assert!(next.take_news().is_none(), "it was told already");
                rests.push(then.saturating_duration_since(until));
                (attempt, until) = (next, then);
            }
            Next::Over(Change::Superseded) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rests, [1, 2, 4, 8, 16].map(seconds));
}

#[test]
fn a_store_that_is_back_is_told_of_again_when_it_fails_again() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    let attempt = sent(&mut lifecycle, attempt.stored(Err(failed())), at(0)).failed(unreachable_server());
    let _ = over(&mut lifecycle, attempt, at(0));
    let attempt = claimed(&mut lifecycle, at(60)).failed(unreachable_server());
    let (attempt, _) = told(&mut lifecycle, attempt, at(60));
    let _ = over(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Failed))), at(60));
    let attempt = fetched(&mut lifecycle, at(120));
    let (attempt, _) = told(&mut lifecycle, attempt, at(120));
    let mut attempt = sent(&mut lifecycle, attempt.stored(Err(failed())), at(120));
    assert!(matches!(attempt.take_news(), Some(Change::StoreFailed(_))));
}

#[test]
fn an_attempt_that_was_replaced_gives_its_lease_up_and_sends_nothing() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    lifecycle.set_credentials(Credentials::new("my-client", "n3w").expect("legal")).expect("legal");
    let (attempt, command) = then(&mut lifecycle, attempt, nothing(Outcome::Claimed), at(0));
    assert!(matches!(command, Operation::Fail { pause: Duration::ZERO, .. }), "{command:?}");
    assert!(attempt.request().client_secret() == "s3cret", "under the old name");
    let _ = over(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Failed))), at(0));
}

/// They belong to the same process, so the one that is on its way keeps the lease.
#[test]
fn an_attempt_that_lost_its_place_to_another_one_leaves_it_the_lease() {
    let mut lifecycle = shared();
    let first = fetched(&mut lifecycle, at(0));
    let (first, _) = told(&mut lifecycle, first, at(0));
    let second = fetched(&mut lifecycle, at(60));
    let (_second, _) = told(&mut lifecycle, second, at(60));
    let change = over(&mut lifecycle, first.stored(Ok(nothing(Outcome::Claimed))), at(60));
    assert!(matches!(change, Change::Superseded));
}

#[test]
fn a_replaced_attempt_whose_store_fails_sends_nothing() {
    let mut lifecycle = shared();
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt, at(0));
    lifecycle.set_credentials(Credentials::new("my-client", "n3w").expect("legal")).expect("legal");
    assert!(matches!(over(&mut lifecycle, attempt.stored(Err(failed())), at(0)), Change::Superseded));
}

/// They have the same credentials, and need not find out for themselves.
#[test]
fn a_refusal_is_shared_before_the_provider_is_asked_for_other_credentials() {
    let mut lifecycle = shared().with_provider(Some(alvys_auth_core::Mark::new(0)), None, seconds(4));
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = support::asked(&mut lifecycle, attempt, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt.provided(Some(Ok(alvys_auth_core::Given::Unchanged))), at(0));
    let attempt = sent(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Claimed))), at(0));
    let (attempt, command) = told(&mut lifecycle, attempt.answered(&denied()), at(1));
    let Operation::Fail { failure, pause, .. } = command else { panic!("{command:?}") };
    assert_eq!((failure.kind(), pause), (ErrorKind::Credentials, seconds(5)));
    let (attempt, known) = support::asked(&mut lifecycle, attempt.stored(Ok(nothing(Outcome::Failed))), at(1));
    assert_eq!(known, None);
    let (attempt, command) = told(&mut lifecycle, attempt.provided(Some(Ok(given("my-client", "n3w", 1)))), at(1));
    assert!(matches!(command, Operation::Claim { unwanted: None, .. }), "{command:?}");
    assert!(attempt.request().client_secret() == "n3w");
}

#[test]
fn a_shared_refusal_lets_the_provider_be_asked() {
    let mut lifecycle = shared().with_provider(Some(alvys_auth_core::Mark::new(0)), None, seconds(4));
    let attempt = fetched(&mut lifecycle, at(0));
    let (attempt, _) = support::asked(&mut lifecycle, attempt, at(0));
    let (attempt, _) = told(&mut lifecycle, attempt.provided(Some(Ok(alvys_auth_core::Given::Unchanged))), at(0));
    let failure = Error::from_entry(&support::refusal_of(401).to_entry(), seconds(5));
    let paused = Answer { pause: Some((failure, seconds(5))), ..nothing(Outcome::Paused) };
    let (attempt, _) = support::asked(&mut lifecycle, attempt.stored(Ok(paused)), at(0));
    let change = over(&mut lifecycle, attempt.provided(Some(Ok(alvys_auth_core::Given::Unchanged))), at(0));
    assert!(matches!(change, Change::Paused { until, .. } if until >= at(5)), "{change:?}");
}

#[test]
fn a_token_from_elsewhere_is_not_taken_for_the_one_at_the_store() {
    let (mut lifecycle, _) = publishing();
    assert!(lifecycle.adopt(token("elsewhere", HOUR + HOUR), at(1)));
    let due = used(&mut lifecycle, at(1)).renewal_at();
    let attempt = fetched(&mut lifecycle, due);
    let (_, command) = told(&mut lifecycle, attempt, due);
    assert!(matches!(command, Operation::Claim { unwanted: None, .. }), "{command:?}");
}

#[test]
fn without_a_store_nothing_is_shared() {
    let mut lifecycle = support::lifecycle();
    let attempt = fetched(&mut lifecycle, at(0));
    let attempt = sent(&mut lifecycle, attempt, at(0));
    assert!(matches!(over(&mut lifecycle, attempt.answered(&granted("abc", 3600)), at(0)), Change::Obtained(_)));
}
