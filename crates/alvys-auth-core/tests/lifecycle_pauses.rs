//! How long nothing is asked: while somebody waits, while a token is held, after an answer that has cost a token, and when
//! somebody ends a pause. And tokens that must last.

use std::time::Duration;

use alvys_auth_core::{Change, Lifecycle, Policy, Step, Timestamp, TokenResponse};
use http::Response;

use crate::support::{
    answer, at, complete, fetched, granted, half_an_answer, holding, just_before, lifecycle, obtain, refused, seconds,
    unreachable_server, used, waited, with, with_policy,
};

mod support;

/// The pause after an attempt at `now` that ends with `response`.
fn pause(lifecycle: &mut Lifecycle, response: &Response<Vec<u8>>, now: Timestamp) -> Duration {
    let attempt = fetched(lifecycle, now);
    match complete(lifecycle, attempt.answered(response), now) {
        Change::Paused { until, .. } => until.saturating_duration_since(now),
        other => panic!("expected a pause, not {other:?}"),
    }
}

/// The pauses after that many failures in a row, each tried again the moment it may be.
fn pauses(lifecycle: &mut Lifecycle, response: &Response<Vec<u8>>, count: usize, mut now: Timestamp) -> Vec<Duration> {
    let mut pauses = Vec::new();
    for _ in 0..count {
        let next = pause(lifecycle, response, now);
        pauses.push(next);
        now = now.saturating_add(next);
    }
    pauses
}

/// The shortest and the longest of each of ten pauses in a row, over many seeds.
fn spread(lifecycle: impl Fn(u64) -> (Lifecycle, Timestamp)) -> [(Duration, Duration); 10] {
    let mut spread = [(Duration::MAX, Duration::ZERO); 10];
    for seed in 0..300 {
        let (mut lifecycle, now) = lifecycle(seed);
        for (step, pause) in pauses(&mut lifecycle, &answer(503, ""), 10, now).into_iter().enumerate() {
            spread[step] = (spread[step].0.min(pause), spread[step].1.max(pause));
        }
    }
    spread
}

#[track_caller]
fn assert_spread(spread: [(Duration, Duration); 10], ceilings: [u64; 10]) {
    for (step, ((shortest, longest), ceiling)) in spread.into_iter().zip(ceilings).enumerate() {
        let ceiling = Duration::from_millis(ceiling);
        assert!(longest <= ceiling && longest > ceiling * 9 / 10, "{step}: {longest:?} of {ceiling:?}");
        assert!(shortest < ceiling / 10 && !shortest.is_zero(), "{step}: {shortest:?} of {ceiling:?}");
    }
}

#[test]
fn while_a_caller_waits_a_pause_is_a_part_of_one_and_a_half_seconds_at_the_most() {
    let ceilings = [500, 1000, 1500, 1500, 1500, 1500, 1500, 1500, 1500, 1500];
    assert_spread(spread(|seed| (with_policy(Policy::new(), seed), at(0))), ceilings);
}

#[test]
fn while_a_token_is_held_the_pauses_double_up_to_a_minute() {
    let holding = |seed| {
        let mut lifecycle = with_policy(Policy::new().margin(Duration::MAX), seed);
        let due = obtain(&mut lifecycle, "abc", 86_400, at(0)).renewal_at();
        (lifecycle, due)
    };
    assert_spread(spread(holding), [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
}

#[test]
fn the_longest_pause_while_somebody_waits_is_the_policys() {
    let policy = Policy::new().pause_while_waiting(Duration::from_millis(100));
    let ceilings = [100; 10];
    assert_spread(spread(|seed| (with_policy(policy.clone(), seed), at(0))), ceilings);
}

#[test]
fn a_long_pause_while_a_token_is_held_is_a_short_one_once_that_is_gone() {
    let mut lifecycle = with_policy(Policy::new().backoff(seconds(3600), seconds(3600)), 7);
    let due = obtain(&mut lifecycle, "abc", 3600, at(0)).renewal_at();
    let long = pause(&mut lifecycle, &answer(503, ""), due);
    assert!(long > seconds(2), "{long:?}");
    assert_eq!(lifecycle.snapshot().status(due).paused_for, Some(long));
    lifecycle.invalidate();
    let wait = waited(&mut lifecycle, due);
    assert!(!wait.is_in_flight() && wait.until() <= due.saturating_add(seconds(2)));
    assert_eq!(lifecycle.attempt_due(), Some(wait.until()));
    let paused_for = lifecycle.snapshot().status(due).paused_for;
    assert_eq!(paused_for, Some(wait.until().saturating_duration_since(due)));
    let _ = fetched(&mut lifecycle, wait.until());
}

#[test]
fn the_status_tells_of_the_pause_that_holds_once_the_token_has_expired() {
    let mut lifecycle = with_policy(Policy::new().backoff(seconds(3600), seconds(3600)), 7);
    obtain(&mut lifecycle, "abc", 60, at(0));
    assert!(pause(&mut lifecycle, &answer(503, ""), at(57)) > seconds(5));
    let snapshot = lifecycle.snapshot();
    assert!(snapshot.status(at(57)).paused_for > Some(seconds(5)) && snapshot.status(at(60)).paused_for.is_none());
    let _ = fetched(&mut lifecycle, at(60));
}

#[test]
fn a_renewal_that_fails_after_the_token_has_expired_pauses_as_for_those_who_wait() {
    let mut lifecycle = with_policy(Policy::new().backoff(seconds(3600), seconds(3600)), 7);
    obtain(&mut lifecycle, "abc", 60, at(0));
    let attempt = fetched(&mut lifecycle, at(59));
    let change = complete(&mut lifecycle, attempt.failed(unreachable_server()), at(61));
    assert!(matches!(change, Change::Paused { until, .. } if until <= at(63)), "{change:?}");
}

#[test]
fn the_servers_own_wait_holds_whether_or_not_somebody_waits() {
    let limited = with(answer(429, ""), "retry-after", "30");
    assert_eq!(pause(&mut lifecycle(), &limited, at(0)), seconds(30));
    let mut lifecycle = holding("abc", 3600);
    let due = used(&mut lifecycle, at(0)).renewal_at();
    assert_eq!(pause(&mut lifecycle, &limited, due), seconds(30));
    lifecycle.invalidate();
    assert_eq!(waited(&mut lifecycle, due).until(), due.saturating_add(seconds(30)));
}

#[test]
fn after_an_answer_that_has_cost_a_token_it_is_asked_once_more_at_once_and_then_rarely() {
    let expected: Vec<_> = [0, 5, 10, 20, 40, 60, 60].map(seconds).into();
    for held in [false, true] {
        let mut lifecycle = with_policy(Policy::new().margin(Duration::MAX), 7);
        let now = if held { obtain(&mut lifecycle, "abc", 86_400, at(0)).renewal_at() } else { at(0) };
        let paused = pauses(&mut lifecycle, &answer(200, "{\"access_tok"), 7, now);
        assert_eq!(paused[0], Duration::from_millis(1), "{held}");
        assert_eq!(paused[1..], expected[1..], "{held}");
    }
}

#[test]
fn an_answer_that_broke_off_has_cost_a_token_too() {
    let mut lifecycle = lifecycle();
    let mut now = at(0);
    for expected in [Duration::from_millis(1), seconds(5), seconds(10)] {
        let attempt = fetched(&mut lifecycle, now);
        let change = complete(&mut lifecycle, attempt.failed(half_an_answer()), now);
        let Change::Paused { until, .. } = change else { panic!("{change:?}") };
        assert_eq!(until.saturating_duration_since(now), expected);
        now = until;
    }
}

#[test]
fn a_page_of_somebody_else_costs_no_token_and_passes() {
    let mut lifecycle = lifecycle();
    let paused = pauses(&mut lifecycle, &answer(200, "<html>Just a moment..."), 20, at(0));
    assert!(paused.iter().all(|pause| *pause <= seconds(2)), "{paused:?}");
}

#[test]
fn an_outage_does_not_lengthen_the_cool_down_of_a_refusal_after_it() {
    let mut lifecycle = lifecycle();
    let outage: Duration = pauses(&mut lifecycle, &answer(503, ""), 60, at(0)).iter().sum();
    let after = at(0).saturating_add(outage);
    assert_eq!(pauses(&mut lifecycle, &answer(401, ""), 3, after), [5, 10, 20].map(seconds));
}

#[test]
fn refusals_become_ever_rarer_whatever_comes_between_them() {
    let (mut lifecycle, mut now, mut cool_downs) = (lifecycle(), at(0), Vec::new());
    for _ in 0..4 {
        cool_downs.push(pause(&mut lifecycle, &answer(401, ""), now));
        now = now.saturating_add(cool_downs[cool_downs.len() - 1]);
        now = now.saturating_add(pause(&mut lifecycle, &answer(503, ""), now));
    }
    assert_eq!(cool_downs, [5, 10, 20, 40].map(seconds));
}

#[test]
fn answers_that_cost_tokens_become_ever_rarer_whatever_comes_between_them() {
    let (mut lifecycle, mut now, mut costly) = (lifecycle(), at(0), Vec::new());
    for _ in 0..4 {
        costly.push(pause(&mut lifecycle, &answer(200, "garbage"), now));
        now = now.saturating_add(costly[costly.len() - 1]);
        now = now.saturating_add(pause(&mut lifecycle, &answer(503, ""), now));
    }
    assert_eq!(costly[1..], [5, 10, 20].map(seconds));
}

#[test]
fn a_caller_asks_twice_where_answers_cannot_be_read_and_no_more() {
    for nonsense in [answer(200, "garbage"), with(answer(200, "garbage"), "retry-after", "1")] {
        let mut lifecycle = lifecycle();
        pause(&mut lifecycle, &nonsense, at(0));
        let first = waited(&mut lifecycle, at(0));
        let told = nonsense.headers().contains_key("retry-after");
        assert_eq!(
            first.is_in_vain(at(15), at(0)),
            told,
            "asked for once more at once, unless the server asks for a wait"
        );
        let again = first.until();
        pause(&mut lifecycle, &nonsense, again);
        let second = waited(&mut lifecycle, again);
        assert!(second.is_in_vain(at(60), again), "each answer may cost a token");
    }
}

#[test]
fn a_token_ends_every_row() {
    let mut lifecycle = lifecycle();
    let _ = pauses(&mut lifecycle, &answer(200, "garbage"), 3, at(0));
    obtain(&mut lifecycle, "abc", 60, at(100));
    assert_eq!(pause(&mut lifecycle, &answer(200, "garbage"), at(200)), Duration::from_millis(1));
}

#[test]
fn a_pause_that_somebody_ends_is_over_at_once_whatever_it_was_for() {
    for response in [with(answer(429, ""), "retry-after", "86400"), answer(401, ""), answer(503, "")] {
        let mut lifecycle = lifecycle();
        pause(&mut lifecycle, &response, at(0));
        lifecycle.end_pause();
        let status = lifecycle.snapshot().status(at(0));
        assert!(status.paused_for.is_none() && status.last_error.is_none());
        let _ = fetched(&mut lifecycle, at(0));
    }
    let mut lifecycle = holding("abc", 3600);
    let due = used(&mut lifecycle, at(0)).renewal_at();
    pause(&mut lifecycle, &with(answer(429, ""), "retry-after", "86400"), due);
    lifecycle.end_pause();
    assert!(fetched(&mut lifecycle, due).is_renewal());
    lifecycle.end_pause();
    assert!(lifecycle.snapshot().status(due).in_flight, "an attempt on its way is not a pause");
}

#[test]
fn a_caller_gives_up_at_once_when_its_patience_ends_before_the_pause_does() {
    let mut lifecycle = lifecycle();
    pause(&mut lifecycle, &with(answer(429, ""), "retry-after", "30"), at(0));
    let wait = waited(&mut lifecycle, at(0));
    assert!(wait.is_in_vain(just_before(at(30)), at(0)));
    assert!(!wait.is_in_vain(at(30), at(0)) && !wait.is_in_vain(at(31), at(30)));
    assert!(wait.is_in_vain(at(30), at(30)), "its patience is over");
}

#[test]
fn a_caller_waits_for_an_attempt_on_its_way_until_its_patience_is_over() {
    let mut lifecycle = lifecycle();
    let _attempt = fetched(&mut lifecycle, at(0));
    let wait = waited(&mut lifecycle, at(0));
    assert!(wait.until() > at(5));
    assert!(!wait.is_in_vain(at(5), at(0)) && !wait.is_in_vain(at(5), just_before(at(5))));
    assert!(wait.is_in_vain(at(5), at(5)));
}

/// What a caller who needs a token for `least` is told at `now`.
fn step(lifecycle: &mut Lifecycle, least: u64, now: Timestamp) -> Step {
    lifecycle.poll_for(seconds(least), now)
}

#[test]
fn a_caller_who_needs_a_token_for_longer_gets_a_newer_one() {
    let mut lifecycle = holding("abc", 3600);
    assert!(matches!(step(&mut lifecycle, 600, at(3000)), Step::Use(_)));
    let Step::Fetch(attempt) = step(&mut lifecycle, 601, at(3000)) else { panic!("too little is left") };
    assert!(attempt.is_renewal());
    assert!(matches!(step(&mut lifecycle, 601, at(3000)), Step::Wait(wait) if wait.is_in_flight()));
    assert_eq!(used(&mut lifecycle, at(3000)).access_token(), "abc", "who needs it now is lent it");
    complete(&mut lifecycle, attempt.answered(&granted("def", 3600)), at(3001));
    assert!(matches!(step(&mut lifecycle, 601, at(3001)), Step::Use(token) if token.access_token() == "def"));
}

#[test]
fn a_token_in_the_first_half_of_its_life_is_always_good_enough() {
    let mut lifecycle = holding("abc", 60);
    for now in [at(0), at(15), at(30)] {
        assert!(matches!(step(&mut lifecycle, 3600, now), Step::Use(_)), "{now:?}");
    }
    assert!(matches!(step(&mut lifecycle, 3600, Timestamp::from_millis(30_001)), Step::Fetch(_)));
}

#[test]
fn a_token_that_took_long_to_arrive_is_good_enough_for_half_of_what_is_left() {
    let mut lifecycle = with_policy(Policy::new().margin(Duration::ZERO), 7);
    let Step::Fetch(attempt) = step(&mut lifecycle, 60, at(0)) else { panic!("nothing is held") };
    complete(&mut lifecycle, attempt.answered(&granted("abc", 10)), at(8));
    assert!(matches!(step(&mut lifecycle, 60, at(9)), Step::Use(_)), "or a slow server would be asked again and again");
    assert!(matches!(step(&mut lifecycle, 60, Timestamp::from_millis(9001)), Step::Fetch(_)));
}

#[test]
fn a_stored_token_whose_age_nobody_knows_is_good_for_what_is_left_of_it() {
    let mut lifecycle = lifecycle();
    lifecycle.adopt(TokenResponse::new("stored", seconds(60), "").unwrap(), at(0));
    assert!(matches!(step(&mut lifecycle, 60, at(0)), Step::Use(_)));
    assert!(matches!(step(&mut lifecycle, 61, at(0)), Step::Fetch(_)));
}

#[test]
fn a_caller_who_needs_a_token_for_longer_keeps_to_every_pause() {
    let mut lifecycle = holding("abc", 3600);
    let Step::Fetch(attempt) = step(&mut lifecycle, 1000, at(3000)) else { panic!("too little is left") };
    complete(&mut lifecycle, attempt.failed(unreachable_server()), at(3000));
    let Step::Wait(wait) = step(&mut lifecycle, 1000, at(3000)) else { panic!("a pause") };
    assert!(!wait.is_in_flight() && wait.until() <= at(3002));
    assert!(matches!(step(&mut lifecycle, 1000, just_before(wait.until())), Step::Wait(_)));
    let Step::Fetch(attempt) = step(&mut lifecycle, 1000, wait.until()) else { panic!("the pause is over") };
    complete(&mut lifecycle, attempt.answered(&answer(401, "")), at(3002));
    assert!(matches!(step(&mut lifecycle, 1000, at(3003)), Step::Fail(_)));
    assert_eq!(used(&mut lifecycle, at(3003)).access_token(), "abc");
}

#[test]
fn a_refusal_is_reported_when_the_token_held_meanwhile_is_gone() {
    let mut lifecycle = holding("abc", 3600);
    pause(&mut lifecycle, &answer(401, ""), at(3599));
    refused(&mut lifecycle, at(3600));
}
