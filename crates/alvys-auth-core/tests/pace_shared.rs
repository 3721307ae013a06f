//! What other processes with the same token were told: when that is looked at, and what is made of it.

use std::time::Duration;

use alvys_auth_core::share::{Answer, Cell, Id, Operation, Outcome, Subject, claim_wait, tell_wait, told_wait};
use alvys_auth_core::{Endpoint, Error, RateLimits, TokenResponse, Verdict};
use http::{Method, StatusCode};

use crate::pace::{Bench, endpoint, get, millis};
use crate::support::{at, request, seconds};

#[path = "support/pace.rs"]
mod pace;
mod support;

const LIMITED: StatusCode = StatusCode::TOO_MANY_REQUESTS;

fn looks(bench: &mut Bench, endpoint: &Endpoint) -> bool {
    bench.limiter.look(0, endpoint, bench.now)
}

fn looked(bench: &mut Bench, endpoint: &Endpoint, told: Option<(StatusCode, Duration)>) {
    bench.limiter.looked(0, endpoint, told, bench.now);
}

#[test]
fn a_call_waits_for_the_first_look_and_for_a_second_at_the_most() {
    let (mut bench, loads) = (Bench::new(RateLimits::none()), get("loads"));
    assert!(looks(&mut bench, &loads));
    assert_eq!(bench.turn("loads"), Some(seconds(1)));
    assert_eq!(bench.turn("trips"), None, "calls to another endpoint do not wait");
    looked(&mut bench, &loads, None);
    assert_eq!(bench.turn("loads"), None);
    let mut late = Bench::new(RateLimits::none());
    assert!(looks(&mut late, &loads));
    late.pass(seconds(1));
    assert_eq!(late.turn("loads"), None, "a store that is slow holds up nobody for longer");
}

#[test]
fn after_that_it_is_looked_once_a_second_and_nobody_waits() {
    let (mut bench, loads) = (Bench::new(RateLimits::none()), get("loads"));
    looks(&mut bench, &loads);
    bench.pass(millis(500));
    assert!(!looks(&mut bench, &loads), "the first look is on its way");
    looked(&mut bench, &loads, None);
    bench.pass(millis(999));
    assert!(!looks(&mut bench, &loads));
    bench.pass(millis(1));
    assert!(looks(&mut bench, &loads));
    assert_eq!(bench.turn("loads"), None);
    bench.pass(millis(4_999));
    assert!(!looks(&mut bench, &loads), "one that is late gets none beside it");
    bench.pass(millis(1));
    assert!(looks(&mut bench, &loads), "one that is lost does");
}

#[test]
fn what_others_were_told_holds_here_as_long() {
    let (mut bench, loads) = (Bench::new(RateLimits::none()), get("loads"));
    looks(&mut bench, &loads);
    looked(&mut bench, &loads, Some((StatusCode::SERVICE_UNAVAILABLE, seconds(40))));
    let ticket = bench.queue("loads");
    let hold = bench.ask(ticket).expect("a wait");
    let left = hold.until.saturating_duration_since(bench.now);
    assert_eq!((left, hold.asked_by), (seconds(40), Some(StatusCode::SERVICE_UNAVAILABLE)));
    bench.limiter.leave(ticket);
    bench.pass(seconds(10));
    looked(&mut bench, &loads, Some((LIMITED, seconds(20))));
    assert_eq!(bench.turn("loads"), Some(seconds(30)), "a shorter wait takes nothing away");
    assert!(bench.limiter.look(1, &loads, bench.now), "another token has an entry of its own");
    bench.limiter.looked(1, &loads, None, bench.now);
    assert_eq!(bench.turn_of(1, &loads), None);
}

#[test]
fn a_wait_is_told_to_others_once_and_again_when_it_is_longer() {
    let (mut bench, loads) = (Bench::new(RateLimits::none()), get("loads"));
    let mut heed = |wait| {
        let verdict = Verdict::Repeat { after: wait };
        bench.limiter.heed(0, &loads, LIMITED, &verdict, bench.now)
    };
    assert_eq!(heed(seconds(60)), Some(seconds(60)));
    assert_eq!(heed(seconds(60)), None, "that is known");
    assert_eq!(heed(seconds(61)), Some(seconds(61)));
    assert_eq!(heed(Duration::ZERO), None);
}

#[test]
fn an_endpoint_that_nobody_calls_any_more_is_forgotten_with_its_looks() {
    let mut bench = Bench::new(RateLimits::none());
    for number in 0..1000 {
        let endpoint = get(&format!("resource{}", "x".repeat(number % 39)));
        looks(&mut bench, &endpoint);
        looked(&mut bench, &endpoint, None);
    }
    bench.pass(seconds(2));
    assert!(bench.limiter.is_idle(bench.now));
    assert_eq!(bench.limiter.endpoints(), 0);
}

/// An answer of a store in which nothing is sealed.
fn opened(answer: Answer<String, String>) -> Answer<TokenResponse, Error> {
    let pause = answer.pause.map(|(text, left)| (Error::from_entry(&text.expect("text"), left), left));
    Answer { outcome: answer.outcome, token: None, busy_for: answer.busy_for, pause }
}

fn as_text(operation: Operation<TokenResponse, Error>) -> Operation<String, String> {
    match operation {
        Operation::Claim { owner, unwanted, lease } => Operation::Claim { owner, unwanted, lease },
        Operation::Fail { owner, failure, pause } => Operation::Fail { owner, failure: failure.to_entry(), pause },
        other => panic!("not about a wait: {other:?}"),
    }
}

#[test]
fn a_wait_goes_through_a_store_with_its_status_and_what_is_left() {
    let (mut cell, [one, other]) = (Cell::default(), [Id::from_bytes([1; 16]), Id::from_bytes([2; 16])]);
    assert_eq!(told_wait(&opened(cell.run(Operation::Look, at(0)))), None);
    assert_eq!(cell.run(as_text(claim_wait(one)), at(0)).outcome, Outcome::Claimed);
    assert_eq!(cell.run(as_text(claim_wait(other)), at(0)).outcome, Outcome::Busy, "one is enough");
    cell.run(as_text(tell_wait(one, LIMITED, seconds(60))), at(0));
    assert_eq!(told_wait(&opened(cell.run(Operation::Look, at(15)))), Some((LIMITED, seconds(45))));
    assert_eq!(cell.run(as_text(claim_wait(other)), at(15)).outcome, Outcome::Paused);
    assert_eq!(told_wait(&opened(cell.run(Operation::Look, at(60)))), None);
}

#[test]
fn each_endpoint_and_the_token_itself_have_entries_of_their_own() {
    let about = |endpoint: &Endpoint| Subject::calls(request(alvys_auth_core::Flow::current()), endpoint).identity();
    let token = Subject::from(request(alvys_auth_core::Flow::current()));
    let identities =
        [token.identity(), about(&get("loads")), about(&get("trips")), about(&endpoint(Method::POST, "loads"))];
    for (index, identity) in identities.iter().enumerate() {
        assert!(!identities[..index].contains(identity), "{identity}");
        assert!(!identity.contains("s3cret"), "{identity}");
    }
    assert_eq!(about(&get("loads/4711")), about(&get("loads/4712")), "ids do not matter");
}
