//! Rate shaping keeps its limits in any stretch of time, for whoever shares them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use alvys_auth_core::{
    Api, Call, CallOptions, Credentials, Endpoint, ErrorKind, Flow, Lifecycle, Policy, Step, Timestamp, TokenRequest,
    TokenResponse, Verdict,
};
use alvys_auth_driver::{Limit, Pace, RateLimits};
use http::{HeaderMap, Method, Response, StatusCode, Uri};

const HOUR: Duration = Duration::from_secs(3600);

fn endpoint(method: Method, path: &str) -> Endpoint {
    let uri: Uri = format!("https://api.alvys.com/api/p/v1/{path}").parse().expect("a URL");
    Endpoint::of(&method, &uri)
}

fn get(path: &str) -> Endpoint {
    endpoint(Method::GET, path)
}

/// How long a new request to `endpoint` would have to wait; none when it has gone.
fn turn(pace: &Pace, endpoint: &Endpoint) -> Option<Duration> {
    pace.turn(endpoint).wait()
}

/// Sends as fast as the pace allows and gives the moments between which each was let go.
fn send(pace: &Pace, endpoint: &Endpoint, requests: usize) -> Vec<[Instant; 2]> {
    let one = |_| {
        let mut turn = pace.turn(endpoint);
        loop {
            let before = Instant::now();
            let Some(wait) = turn.wait() else { return [before, Instant::now()] };
            assert!(!wait.is_zero(), "no wait is zero");
            sleep(wait);
        }
    };
    (0..requests).map(one).collect()
}

/// No closed stretch of `per` may hold more than `most` moments, so the one after the last lies beyond it.
fn assert_within(moments: &[[Instant; 2]], most: usize, per: Duration) {
    // The pace counts in whole milliseconds.
    let per = per - Duration::from_millis(2);
    for ([early, _], [_, late]) in moments.iter().zip(&moments[most..]) {
        assert!(*late - *early >= per, "{} in {:?}", most + 1, *late - *early);
    }
}

#[test]
fn a_limit_holds_in_any_stretch_of_time_whatever_the_burst() {
    let per = Duration::from_millis(150);
    let runs: Vec<_> = [1, 2, 5, 9, 10, 1000]
        .map(|burst| {
            std::thread::spawn(move || {
                let pace = Pace::new(RateLimits::none().lists([Limit::new(10, per).burst(burst)]));
                let moments = send(&pace, &get("loads"), 25);
                assert_within(&moments, 10, per);
            })
        })
        .into();
    for run in runs {
        run.join().expect("within the limit");
    }
}

#[test]
fn as_many_as_the_burst_go_at_once() {
    for burst in [1_u32, 3, 10] {
        let pace = Pace::new(RateLimits::none().lists([Limit::new(10, HOUR).burst(burst)]));
        let went = (0..20).filter(|_| turn(&pace, &get("loads")).is_none()).count();
        assert_eq!(went, burst as usize);
    }
}

#[test]
fn a_burst_of_everything_leaves_nothing_for_the_stretch_that_follows() {
    let pace = Pace::new(RateLimits::none().lists([Limit::new(10, HOUR).burst(10)]));
    while turn(&pace, &get("loads")).is_none() {}
    assert!(turn(&pace, &get("loads")).is_some_and(|wait| wait > HOUR - Duration::from_secs(60)));
}

#[test]
fn nonsense_becomes_the_nearest_sense() {
    let pace = Pace::new(RateLimits::none().lists([Limit::new(0, Duration::ZERO).burst(0)]));
    let moments = send(&pace, &get("loads"), 50);
    assert!(moments[49][1] - moments[0][0] >= Duration::from_millis(45), "one in a millisecond");
}

#[test]
fn a_limit_of_any_length_and_burst_is_reckoned_with() {
    for (requests, burst) in [(1, 1), (10, 10), (u32::MAX, 1), (u32::MAX, u32::MAX), (u32::MAX, u32::MAX - 1)] {
        for per in [Duration::MAX, HOUR * 24 * 365 * 400, HOUR * 24, HOUR] {
            let pace = Pace::new(RateLimits::none().lists([Limit::new(requests, per).burst(burst)]));
            assert_eq!(turn(&pace, &get("loads")), None, "{requests} in {per:?}, {burst} at once");
            let second = turn(&pace, &get("loads"));
            assert_eq!(second.is_some_and(|wait| wait > HOUR / 2), requests == 1, "{second:?}");
        }
    }
}

#[test]
fn without_limits_nobody_waits() {
    let pace = Pace::new(RateLimits::none());
    assert!((0..1000).all(|_| turn(&pace, &get("loads")).is_none()));
}

#[test]
fn each_kind_of_endpoint_has_its_own_limits() {
    let limit = |requests| [Limit::new(requests, HOUR).burst(requests)];
    let limits = RateLimits::none()
        .endpoints(limit(2))
        .lists(limit(3))
        .endpoint("POST loads/search", limit(9))
        .endpoint("POST loads/search", limit(4))
        .endpoint("GET trips/{id}/stops", limit(5));
    let pace = Pace::new(limits);
    let went = |endpoint: &Endpoint| (0..20).filter(|_| turn(&pace, endpoint).is_none()).count();
    assert_eq!(went(&get("loads/load-1")), 2);
    assert_eq!(went(&get("loads/load-2")), 0, "another item is the same endpoint");
    assert_eq!(went(&get("loads")), 3);
    assert_eq!(went(&endpoint(Method::POST, "loads/search")), 4, "the name given last counts");
    assert_eq!(went(&get("trips/17/stops")), 5);
    assert_eq!(went(&endpoint(Method::PUT, "loads/load-1")), 2, "another method is another endpoint");
}

#[test]
fn every_limit_of_an_endpoint_holds() {
    let short = Duration::from_millis(150);
    let limits = [Limit::new(4, HOUR).burst(4), Limit::new(1, short)];
    let pace = Pace::new(RateLimits::none().lists(limits));
    let moments = send(&pace, &get("loads"), 4);
    assert_within(&moments, 1, short);
    assert!(turn(&pace, &get("loads")).is_some_and(|wait| wait > HOUR / 2));
}

#[test]
fn the_token_limits_all_endpoints_together() {
    let pace = Pace::new(RateLimits::none().token([Limit::new(6, HOUR).burst(6)]));
    let went = (0..20).filter(|number| turn(&pace, &get(["loads", "trips", "me"][number % 3])).is_none()).count();
    assert_eq!(went, 6);
}

#[test]
fn another_token_shares_what_the_organization_is_limited_to_and_nothing_else() {
    let limit = |requests| [Limit::new(requests, HOUR).burst(requests)];
    let limits = RateLimits::none().token(limit(4)).organization(limit(6)).lists(limit(3));
    let one = Pace::new(limits);
    let other = one.for_another_token();
    let went = |pace: &Pace, path| (0..20).filter(|_| turn(pace, &get(path)).is_none()).count();
    assert_eq!(went(&one, "loads"), 3, "the limit of the list");
    assert_eq!(went(&other, "loads"), 3, "its own limit of the list, and the rest of the organization's");
    assert_eq!(went(&one, "trips"), 0, "nothing is left of the organization's");

    let one = Pace::new(RateLimits::none().token(limit(4)));
    let other = one.for_another_token();
    assert_eq!((went(&one, "loads"), went(&other, "loads")), (4, 4), "each token has its own");
    assert_eq!(went(&one.clone(), "trips"), 0, "a clone shares the token");
}

#[test]
fn a_request_that_waits_for_one_limit_pays_the_others_once() {
    let limits = RateLimits::none().lists([Limit::new(3, HOUR).burst(3)]).token([Limit::new(1, HOUR)]);
    let pace = Pace::new(limits);
    assert_eq!(turn(&pace, &get("loads")), None);
    let mut waiting = pace.turn(&get("loads"));
    for _ in 0..10 {
        assert!(waiting.wait().is_some(), "the token's limit is spent");
    }
    let for_the_third = pace.turn(&get("loads")).wait().expect("the token's limit is spent");
    assert!(for_the_third <= HOUR, "asking again and again took nothing from the list's limit: {for_the_third:?}");
}

fn call(method: Method) -> Call {
    let api = Api::production();
    let uri = api.url("loads").expect("a URL");
    api.call(&method, &uri, &HeaderMap::new(), CallOptions::new()).expect("allowed").expect("a call")
}

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status")
}

/// The verdict on an answer of this status with this `Retry-After` in seconds.
fn verdict(status: u16, retry_after: Option<u64>, method: Method) -> Verdict {
    let request =
        TokenRequest::new(Flow::current(), Credentials::new("a", "b").expect("acceptable")).expect("acceptable");
    let (mut lifecycle, now) = (Lifecycle::new(request, Policy::new(), 0), Timestamp::from_millis(0));
    lifecycle.adopt(TokenResponse::new("abc", HOUR, "load:read").expect("acceptable"), now);
    let Step::Use(token) = lifecycle.poll(now) else { panic!("a token") };
    let mut call = call(method);
    let mut answer = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
    }
    call.judge(&answer.body(b"").expect("an answer"), &token, |_| true)
}

#[test]
fn while_the_api_wants_to_be_left_alone_nobody_calls_the_endpoint() {
    for (method, seconds) in [(Method::GET, 40), (Method::POST, 40), (Method::GET, 4000)] {
        let pace = Pace::new(RateLimits::none());
        let mut queued = pace.turn(&get("loads"));
        pace.heed(&get("loads"), status(429), &verdict(429, Some(seconds), method));
        for wait in [turn(&pace, &get("loads")), queued.wait(), turn(&pace.clone(), &get("loads"))] {
            let wait = wait.expect("a wait");
            assert!(wait <= Duration::from_secs(seconds) && wait > Duration::from_secs(seconds - 20), "{wait:?}");
        }
        assert_eq!(turn(&pace, &get("trips")), None, "others go on");
        assert_eq!(turn(&pace.for_another_token(), &get("loads")), None, "another token is asked separately");
        pace.heed(&get("loads"), status(503), &verdict(503, Some(1), Method::GET));
        assert!(
            turn(&pace, &get("loads")).is_some_and(|wait| wait > Duration::from_secs(seconds - 20)),
            "the longer wait holds"
        );
    }
}

#[test]
fn a_verdict_about_the_token_holds_nobody_back() {
    let pace = Pace::new(RateLimits::none());
    for code in [401, 403] {
        pace.heed(&get("loads"), status(code), &verdict(code, None, Method::GET));
        assert_eq!(turn(&pace, &get("loads")), None);
    }
}

#[test]
fn a_wait_that_is_over_holds_nobody_back_any_more() {
    let pace = Pace::new(RateLimits::none());
    pace.heed(&get("loads"), status(503), &verdict(503, Some(1), Method::GET));
    assert_eq!(send(&pace, &get("loads"), 3).len(), 3);
}

/// A name without digits, so that it is no id.
fn word(mut number: usize) -> String {
    let mut word = String::new();
    loop {
        word.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            return format!("x{word}");
        }
    }
}

#[test]
fn who_comes_later_goes_later() {
    let pace = Pace::new(RateLimits::none().lists([Limit::new(2, Duration::from_secs(40))]));
    assert_eq!(turn(&pace, &get("loads")), None);
    let mut queue = [0; 3].map(|_| pace.turn(&get("loads")));
    let waits = queue.each_mut().map(|turn| turn.wait().expect("a wait"));
    assert!(waits.is_sorted(), "{waits:?}");
    assert!(waits[2] > Duration::from_secs(75), "the third one knows at once how long those before it take: {waits:?}");
    assert!(turn(&pace, &get("loads")).is_some_and(|wait| wait > Duration::from_secs(115)), "nobody barges in");
    let [first, second, mut third] = queue;
    drop((first, second));
    assert!(third.wait().is_some_and(|wait| wait < Duration::from_secs(41)), "who leaves makes room");
}

#[test]
fn a_burst_is_for_those_who_come_together() {
    let patience = Duration::from_secs(3);
    let pace = Pace::new(RateLimits::none().lists([Limit::new(20, HOUR).burst(5)]));
    let mut turns = [0; 7].map(|_| pace.turn(&get("loads")));
    // Whoever asks first, the last of them even: nobody is told to wait for what need not be waited for.
    for turn in turns.iter_mut().rev().take(6) {
        assert!(turn.wait().is_some_and(|wait| !wait.is_zero() && wait < patience));
    }
    let waits = turns.each_mut().map(|turn| turn.wait());
    assert_eq!(waits[..5], [None; 5]);
    assert!(
        waits[5..].iter().all(|wait| wait.is_some_and(|wait| wait > patience)),
        "these are told at once: {waits:?}"
    );
}

#[test]
fn a_burst_that_is_back_is_for_those_who_come_together_then() {
    let interval = Duration::from_millis(300);
    let pace = Pace::new(RateLimits::none().lists([Limit::new(9, interval * 5).burst(4)]));
    while turn(&pace, &get("loads")).is_none() {}
    sleep(interval * 5);
    let mut turns = [0; 4].map(|_| pace.turn(&get("loads")));
    let last = turns[3].wait().expect("it is not the first");
    assert!(last < interval, "what was said before the quiet time holds no more: {last:?}");
    assert_eq!(turns.each_mut().map(|turn| turn.wait()), [None; 4]);
}

#[test]
fn those_behind_are_told_of_the_longer_limit_while_the_first_waits_for_a_shorter_one() {
    let long = Duration::from_millis(500);
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, long)]).token([Limit::new(1, long / 2)]));
    assert_eq!(turn(&pace, &get("loads")), None);
    let mut queue = [0; 21].map(|_| pace.turn(&get("loads")));
    sleep(queue[0].wait().expect("the list was just asked for"));
    while turn(&pace, &get("trips")).is_some() {}
    let _ = queue[0].wait();
    let last = queue[20].wait().expect("it is behind twenty others");
    assert!(last > long * 13, "{last:?}");
}

#[test]
fn who_was_told_to_come_much_later_is_not_late_until_then() {
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, Duration::from_secs(40))]));
    assert_eq!(turn(&pace, &get("loads")), None);
    let mut queue = [0; 3].map(|_| pace.turn(&get("loads")));
    let waits = queue.each_mut().map(|turn| turn.wait().expect("a wait"));
    let [first, second, third] = queue;
    drop((first, second));
    sleep(Duration::from_millis(3500));
    let behind = turn(&pace, &get("loads")).expect("nobody barges in");
    assert!(behind > Duration::from_secs(60), "the one before it comes again after {:?}: {behind:?}", waits[2]);
    drop(third);
}

#[test]
fn who_never_asks_again_holds_nobody_up_for_long() {
    let pace = Pace::new(RateLimits::none().lists([Limit::new(1, Duration::from_millis(50))]));
    assert_eq!(turn(&pace, &get("loads")), None);
    let started = Instant::now();
    let resting = [0; 2].map(|_| pace.turn(&get("loads")));
    let mut looks = 0;
    let mut next = pace.turn(&get("loads"));
    while let Some(wait) = next.wait() {
        assert!(started.elapsed() < Duration::from_secs(60), "still behind those who rest");
        looks += 1;
        sleep(wait);
    }
    assert!(started.elapsed() > Duration::from_secs(2), "they could still have come");
    assert!(looks < 100, "looked {looks} times");
    drop(resting);
}

#[test]
fn a_call_that_is_held_back_is_told_why() {
    for (code, kind) in [(429, ErrorKind::RateLimited), (503, ErrorKind::Unavailable)] {
        let pace = Pace::new(RateLimits::none());
        pace.heed(&get("loads"), status(code), &verdict(code, Some(3600), Method::GET));
        let error = pace.turn(&get("loads")).hold(&mut call(Method::GET)).expect_err("too long a wait");
        assert_eq!(error.kind(), kind);
        assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(3500)));
    }
}

#[test]
fn a_limit_survives_thousands_of_other_endpoints() {
    let pace = Pace::new(RateLimits::none().endpoint("GET loads", [Limit::new(1, HOUR)]));
    assert_eq!(turn(&pace, &get("loads")), None);
    pace.heed(&get("held"), status(429), &verdict(429, Some(600), Method::GET));
    for number in 0..5000 {
        assert_eq!(turn(&pace, &get(&word(number))), None);
    }
    assert!(turn(&pace, &get("loads")).is_some(), "its limit was not forgotten");
    assert!(turn(&pace, &get("held")).is_some(), "its wait was not forgotten");
}

#[test]
fn the_limit_of_an_endpoint_in_which_somebody_waits_is_not_forgotten() {
    let short = Duration::from_millis(100);
    let pace = Pace::new(RateLimits::none().endpoint("GET loads", [Limit::new(1, short)]));
    assert_eq!(turn(&pace, &get("loads")), None);
    let mut first = pace.turn(&get("loads"));
    // By now the first request's limit has recovered, and the endpoint could be forgotten but for who waits.
    sleep(short * 2);
    for number in 0..5000 {
        assert_eq!(turn(&pace, &get(&word(number))), None);
    }
    assert_eq!(first.wait(), None);
    assert!(turn(&pace, &get("loads")).is_some(), "the two met the same limit");
}

#[test]
fn endpoints_whose_limits_have_recovered_are_forgotten() {
    let pace = Pace::new(RateLimits::none().endpoints([Limit::new(1, Duration::from_millis(1))]));
    for number in 0..20_000 {
        let _ = turn(&pace, &get(&format!("{}/x", word(number))));
    }
    let shown = format!("{pace:?}");
    let remembered = shown.split("endpoints: ").last().and_then(|rest| rest.split(&[',', ' '][..]).next());
    let remembered: usize = remembered.and_then(|number| number.parse().ok()).expect("a number");
    assert!((1..10_000).contains(&remembered), "{remembered} are remembered");
}

#[test]
fn many_endpoints_are_remembered_until_their_limits_have_recovered() {
    // None of these recovers during the test. Looking through all of them each time would take a minute.
    let pace = Pace::new(RateLimits::none().endpoints([Limit::new(1, HOUR)]).lists([Limit::new(1, HOUR)]));
    for number in 0..60_000 {
        assert_eq!(turn(&pace, &get(&word(number))), None);
    }
    assert!((0..1000).all(|number| turn(&pace, &get(&word(number))).is_some()), "none was forgotten too early");
}
