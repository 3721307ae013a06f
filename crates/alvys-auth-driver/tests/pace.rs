//! Limits that many share: by any clock, with a place that is given back to who waits.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use alvys_auth_core::share::{Answer, Id, Operation, Outcome, tell_wait};
use alvys_auth_core::{Api, CallOptions, CallStep, Endpoint, Error, Limit, RateLimits, TokenResponse, Verdict};
use alvys_auth_driver::{BlockingTokens, Caller, FixedTokens, ManualClock, Pace, Passage, Shared, Waits};
use event_listener::Listener;
use http::{HeaderMap, Method, Response, StatusCode, Uri};

const HOUR: Duration = Duration::from_secs(3600);

fn loads() -> Endpoint {
    Endpoint::of(&Method::GET, &Uri::from_static("https://api.alvys.com/api/p/v1/loads"))
}

/// One list an hour, by a clock moved by hand.
fn hourly() -> (Pace, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (Pace::with_clock(RateLimits::none().lists([Limit::new(1, HOUR)]), Arc::clone(&clock)), clock)
}

#[test]
fn clones_share_the_limits_and_another_token_has_its_own() {
    let (pace, clock) = hourly();
    assert_eq!(pace.turn(&loads()).wait(), None);
    assert_eq!(pace.clone().turn(&loads()).wait(), Some(HOUR + Limit::MARGIN));
    assert_eq!(pace.for_another_token().turn(&loads()).wait(), None);
    clock.advance(HOUR + Limit::MARGIN);
    assert_eq!(pace.turn(&loads()).wait(), None);
}

#[test]
fn who_waits_behind_a_turn_that_is_dropped_hears_of_it() {
    let (pace, _clock) = hourly();
    assert_eq!(pace.turn(&loads()).wait(), None);
    let (mut first, mut second) = (pace.turn(&loads()), pace.turn(&loads()));
    let heard = second.listen();
    assert!(first.wait() < second.wait());
    drop(first);
    assert!(heard.wait_timeout(HOUR).is_some(), "it is told at once");
    assert_eq!(second.wait(), Some(HOUR + Limit::MARGIN), "and moves up");
}

#[test]
fn who_waits_hears_of_a_clock_that_is_moved() {
    let (pace, clock) = hourly();
    assert_eq!(pace.turn(&loads()).wait(), None);
    let mut turn = pace.turn(&loads());
    let waiting = thread::spawn(move || {
        loop {
            let heard = turn.listen();
            if turn.wait().is_none() {
                return;
            }
            heard.wait();
        }
    });
    while !waiting.is_finished() {
        clock.advance(Duration::from_secs(60));
        thread::yield_now();
    }
    waiting.join().expect("its turn came");
}

#[test]
fn limits_are_idle_once_nothing_counts_and_nobody_shares_them() {
    let (pace, clock) = hourly();
    assert!(pace.is_idle());
    let turn = pace.turn(&loads());
    assert!(!pace.is_idle(), "somebody waits");
    drop(turn);
    assert_eq!(pace.turn(&loads()).wait(), None);
    clock.advance(HOUR);
    assert!(!pace.is_idle(), "its call still counts");
    clock.advance(Limit::MARGIN);
    assert!(pace.is_idle());
    let shared = pace.clone();
    assert!(!pace.is_idle() && !shared.is_idle());
}

#[test]
fn what_is_shown_tells_the_limits_and_how_many_endpoints_are_remembered() {
    let (pace, _clock) = hourly();
    assert_eq!(pace.turn(&loads()).wait(), None);
    assert!(format!("{pace:?}").contains("endpoints: 1"), "{pace:?}");
    assert_eq!(pace.limits(&loads()), [Limit::new(1, HOUR)]);
}

#[test]
fn a_call_whose_own_pause_is_over_finds_its_endpoint_open() {
    let clock = Arc::new(ManualClock::new());
    let tokens = FixedTokens::holding("abc", "load:read").expect("a token");
    let api = Api::production();
    let uri = api.url("loads").expect("a URL");
    let pace = Pace::with_clock(RateLimits::none(), Arc::clone(&clock));
    let caller = Caller { pace: Some(pace), ..Caller::new(tokens, api) };
    let call = caller.begin(&Method::GET, &uri, &HeaderMap::new(), CallOptions::new());
    let mut call = call.expect("allowed").expect("no Authorization of its own");
    let send = |call: &mut Passage| {
        assert!(matches!(call.step(), CallStep::NeedToken));
        assert!(call.token(BlockingTokens::token(&caller.tokens).expect("a token")).is_none());
        assert!(matches!(call.step(), CallStep::Send));
    };
    send(&mut call);
    let busy = Response::builder().status(503).header("retry-after", "7").body("").expect("an answer");
    call.answered(busy.status(), busy.headers(), Some(&uri));
    assert!(matches!(call.step(), CallStep::Look));
    let verdict = call.looked(&busy, |_| unreachable!("no 401"));
    assert!(matches!(verdict, Verdict::Repeat { after } if after == Duration::from_secs(7)));
    let CallStep::Wait(until) = call.step() else { panic!("a wait") };
    let (bell, _) = call.wait(until);
    clock.advance(Duration::from_secs(7));
    assert!(bell.wait_timeout(HOUR).is_some(), "a clock that is moved wakes it");
    send(&mut call);
}

/// A way to a store that keeps what it is asked, and answers when the test says so.
#[derive(Default)]
struct Slow(Mutex<Vec<Asked>>);

type Asked = (Operation<TokenResponse, Error>, bool, Box<dyn FnOnce(Shared) + Send>);

impl Waits for Slow {
    fn begin(
        &self,
        _: &Endpoint,
        operation: Operation<TokenResponse, Error>,
        urgent: bool,
        told: Box<dyn FnOnce(Shared) + Send>,
    ) {
        self.0.lock().expect("no panic").push((operation, urgent, told));
    }
}

impl Slow {
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

#[test]
fn a_store_that_is_slow_holds_the_first_call_up_for_a_second_and_no_other() {
    let (clock, store) = (Arc::new(ManualClock::new()), Arc::new(Slow::default()));
    let pace = Pace::with_clock(RateLimits::none(), Arc::clone(&clock)).sharing(Some(Arc::clone(&store) as _));
    let mut first = pace.turn(&loads());
    assert_eq!(first.wait(), Some(Duration::from_secs(1)));
    let mut asked = store.asked();
    let Some((Operation::Look, false, told)) = asked.pop() else { panic!("expected a look beside the call") };
    clock.advance(Duration::from_secs(1));
    assert_eq!(first.wait(), None);
    assert_eq!(pace.turn(&loads()).wait(), None);
    assert!(store.asked().is_empty(), "the look is still on its way");
    // The answer that comes at last holds for later calls.
    let wait = tell_wait(Id::from_bytes([1; 16]), StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(60));
    let Operation::Fail { failure, pause, .. } = wait else { panic!("expected a failure, not {wait:?}") };
    let pause = Some((Some(failure), pause));
    told(Ok(Answer { outcome: Outcome::Seen, token: None, busy_for: Duration::ZERO, pause }));
    assert_eq!(pace.turn(&loads()).wait(), Some(Duration::from_secs(60)));
}
