//! A limiter keeps its limits in any stretch of time, for whoever shares them, and holds back nobody longer than it must.

use std::time::Duration;

use alvys_auth_core::{CallOptions, Limit, RateLimits, Verdict};
use http::{Method, StatusCode};

use crate::pace::{Bench, HOUR, counts, endpoint, get, millis};
use crate::support::{Steps, answer, call, reader, seconds, with};

#[path = "support/pace.rs"]
mod pace;
mod support;

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn lists(limits: impl IntoIterator<Item = Limit>) -> Bench {
    Bench::new(RateLimits::none().lists(limits))
}

#[test]
fn five_lists_go_a_second_apart_and_the_sixth_after_the_minute() {
    let went = Bench::new(RateLimits::published()).send("loads", 7);
    let margin = Limit::MARGIN;
    let expected = [millis(0), SECOND + margin, (SECOND + margin) * 2, (SECOND + margin) * 3, (SECOND + margin) * 4];
    assert_eq!(went[..5], expected);
    assert_eq!(went[5], MINUTE + margin);
    assert_eq!(went[6], MINUTE + margin + SECOND + margin);
    assert!(margin <= millis(100), "the margin is small");
}

#[test]
fn ten_of_ten_a_second_go_at_once() {
    let mut bench = Bench::new(RateLimits::published());
    let paths =
        ["loads", "trips", "drivers", "trucks", "trailers", "customers", "carriers", "invoices", "tenders", "users"];
    assert!(paths.iter().all(|path| bench.turn(path).is_none()));
    assert_eq!(bench.turn("fuel"), Some(counts(SECOND)), "and the eleventh a second later");
    bench.pass(counts(SECOND));
    assert_eq!(bench.turn("fuel"), None);
}

#[test]
fn a_limit_of_any_size_holds_in_any_stretch_of_time() {
    for requests in [1, 2, 7, 20] {
        let went = lists([Limit::new(requests, MINUTE)]).send("loads", 100);
        for (first, beyond) in went.iter().zip(&went[requests as usize..]) {
            assert_eq!(*beyond - *first, counts(MINUTE));
        }
    }
}

#[test]
fn as_many_as_the_limit_says_go_at_once_and_leave_nothing_for_the_stretch_that_follows() {
    for requests in [1_u32, 3, 10] {
        let mut bench = lists([Limit::new(requests, HOUR)]);
        assert_eq!(bench.at_once(0, &get("loads")), requests as usize);
        bench.pass(counts(HOUR) - millis(1));
        assert_eq!(bench.turn("loads"), Some(millis(1)));
        bench.pass(millis(1));
        assert_eq!(bench.at_once(0, &get("loads")), requests as usize);
    }
}

#[test]
fn nonsense_becomes_the_nearest_sense() {
    let went = lists([Limit::new(0, Duration::ZERO)]).send("loads", 3);
    assert_eq!(went, [Duration::ZERO, Limit::MARGIN, Limit::MARGIN * 2], "one, and the next one after the margin");
}

#[test]
fn a_limit_of_any_length_is_reckoned_with() {
    for requests in [1, 10, 1024, 1025, 1_000_000_000, u32::MAX] {
        for per in [Duration::MAX, HOUR * 24 * 365 * 400, HOUR * 24 * 365, HOUR] {
            let mut bench = lists([Limit::new(requests, per)]);
            assert_eq!(bench.turn("loads"), None, "{requests} in {per:?}");
            let second = bench.turn("loads");
            assert_eq!(second.is_some_and(|wait| wait > HOUR / 2), requests == 1, "{second:?}");
        }
    }
}

#[test]
fn a_limit_of_very_many_requests_is_kept_to_a_thousandth_and_never_exceeded() {
    for requests in [1023_u32, 1024, 1025, 5000, 100_000] {
        let mut bench = lists([Limit::new(requests, HOUR)]);
        let mut went = 0;
        while bench.turn("loads").is_none() {
            went += 1;
            if went % (requests / 50 + 1) == 0 {
                bench.pass(millis(1));
            }
        }
        assert!(went <= requests && went + requests / 1000 + 1 >= requests, "{went} of {requests}");
        bench.pass(HOUR);
        let again = (0..requests).take_while(|_| bench.turn("loads").is_none()).count();
        assert!(again == 0, "{again} go before the first have stopped counting");
    }
}

#[test]
fn requests_that_are_counted_as_one_count_for_as_long_as_the_last_of_them() {
    let mut bench = lists([Limit::new(2048, HOUR)]);
    assert_eq!(bench.turn("loads"), None);
    bench.pass(HOUR / 2);
    assert!((1..2048).all(|_| bench.turn("loads").is_none()));
    bench.pass(counts(HOUR / 2));
    assert_eq!(
        bench.turn("loads"),
        Some(HOUR / 2),
        "2,047 went in the last half hour, and the first counts with the second"
    );
}

#[test]
fn without_limits_nobody_waits() {
    let mut bench = Bench::new(RateLimits::none());
    assert!((0..1000).all(|_| bench.turn("loads").is_none()));
}

#[test]
fn each_kind_of_endpoint_has_its_own_limits() {
    let limit = |requests| [Limit::new(requests, HOUR)];
    let limits = RateLimits::none()
        .endpoints(limit(2))
        .lists(limit(3))
        .endpoint("POST loads/search", limit(9))
        .endpoint("POST loads/search", limit(4))
        .endpoint("GET trips/{id}/stops", limit(5));
    let mut bench = Bench::new(limits);
    assert_eq!(bench.at_once(0, &get("loads/load-1")), 2);
    assert_eq!(bench.at_once(0, &get("loads/load-2")), 0, "another item is the same endpoint");
    assert_eq!(bench.at_once(0, &get("loads")), 3);
    assert_eq!(bench.at_once(0, &endpoint(Method::POST, "loads/search")), 4, "the name given last counts");
    assert_eq!(bench.at_once(0, &get("trips/17/stops")), 5);
    assert_eq!(bench.at_once(0, &endpoint(Method::PUT, "loads/load-1")), 2, "another method is another endpoint");
}

#[test]
fn the_token_limits_all_endpoints_together() {
    let mut bench = Bench::new(RateLimits::none().token([Limit::new(6, HOUR)]));
    let went = (0..20).filter(|number| bench.turn(["loads", "trips", "me"][number % 3]).is_none()).count();
    assert_eq!(went, 6);
}

#[test]
fn another_token_shares_what_the_organization_is_limited_to_and_nothing_else() {
    let limit = |requests| [Limit::new(requests, HOUR)];
    let mut bench = Bench::new(RateLimits::none().token(limit(4)).organization(limit(6)).lists(limit(3)));
    assert_eq!(bench.at_once(0, &get("loads")), 3, "the limit of the list");
    assert_eq!(bench.at_once(1, &get("loads")), 3, "its own limit of the list, and the rest of the organization's");
    assert_eq!(bench.at_once(0, &get("trips")), 0, "nothing is left of the organization's");

    let mut bench = Bench::new(RateLimits::none().token(limit(4)));
    assert_eq!([0, 1].map(|token| bench.at_once(token, &get("loads"))), [4, 4], "each token has its own");
}

#[test]
fn a_call_that_one_limit_refuses_costs_the_others_nothing() {
    let limits = RateLimits::none()
        .lists([Limit::new(2, HOUR)])
        .token([Limit::new(1, SECOND)])
        .organization([Limit::new(3, HOUR)]);
    let mut bench = Bench::new(limits);
    assert_eq!(bench.turn("loads"), None);
    for _ in 0..10 {
        let refused = bench.queue("loads");
        assert_eq!(bench.wait(refused), Some(counts(SECOND)), "the token's limit is spent");
        bench.limiter.leave(refused);
    }
    bench.pass(counts(SECOND));
    assert_eq!(bench.turn("loads"), None, "its place in the limit of the list is still there");
    bench.pass(counts(SECOND));
    assert_eq!(bench.turn("trips"), None, "and so is the one in the limit of the organization");
    bench.pass(counts(SECOND));
    assert!(bench.turn("users").is_some_and(|wait| wait > HOUR / 2), "three have gone");
}

/// What is decided about an answer of this status with this `Retry-After` in seconds.
fn verdict(status: u16, retry_after: Option<u64>, method: &str) -> Verdict {
    let mut refused = answer(status, "");
    if let Some(seconds) = retry_after {
        refused = with(refused, "retry-after", &seconds.to_string());
    }
    call(method, "loads", CallOptions::new()).judge(&refused, &reader(), |_| true)
}

impl Bench {
    fn heed(&mut self, path: &str, status: u16, verdict: &Verdict) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.limiter.heed(0, &get(path), status, verdict, self.now);
    }
}

#[test]
fn while_the_api_wants_to_be_left_alone_nobody_calls_the_endpoint() {
    for (method, wait) in [("GET", 40), ("POST", 40), ("GET", 4000)] {
        let mut bench = Bench::new(RateLimits::none());
        let queued = bench.queue("loads");
        bench.heed("loads", 429, &verdict(429, Some(wait), method));
        bench.heed("loads", 503, &verdict(503, Some(1), "GET"));
        let hold = bench.ask(queued).expect("the one who queues is held too");
        assert_eq!(
            (hold.until, hold.asked_by),
            (bench.now.saturating_add(seconds(wait)), Some(StatusCode::TOO_MANY_REQUESTS))
        );
        assert_eq!(bench.turn("loads"), Some(seconds(wait)), "the longer wait holds");
        assert_eq!(bench.turn("trips"), None, "others go on");
        assert_eq!(bench.turn_of(1, &get("loads")), None, "another token is asked separately");
        bench.pass(seconds(wait));
        assert_eq!([bench.wait(queued), bench.turn("loads"), bench.turn("loads")], [None; 3], "it is over");
    }
}

#[test]
fn an_outage_and_a_rate_limit_are_told_apart() {
    for code in [429, 503] {
        let mut bench = Bench::new(RateLimits::none());
        bench.heed("loads", code, &verdict(code, Some(60), "GET"));
        let queued = bench.queue("loads");
        assert_eq!(bench.ask(queued).expect("a hold").asked_by.map(|status| status.as_u16()), Some(code));
    }
    let mut bench = lists([Limit::new(1, HOUR)]);
    assert_eq!(bench.turn("loads"), None);
    let queued = bench.queue("loads");
    assert_eq!(bench.ask(queued).expect("a hold").asked_by, None, "nobody asked for that");
    bench.heed("loads", 503, &verdict(503, Some(60), "GET"));
    assert_eq!(bench.ask(queued).expect("a hold").asked_by, None, "the limit takes longer than what the API asked for");
}

#[test]
fn a_verdict_about_the_token_holds_nobody_back() {
    let mut bench = Bench::new(RateLimits::none());
    for code in [401, 403] {
        bench.heed("loads", code, &verdict(code, None, "GET"));
        assert_eq!(bench.turn("loads"), None);
    }
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
fn a_limit_survives_thousands_of_other_endpoints() {
    let mut bench = Bench::new(RateLimits::none().endpoint("GET loads", [Limit::new(1, HOUR)]));
    assert_eq!(bench.turn("loads"), None);
    bench.heed("held", 429, &verdict(429, Some(600), "GET"));
    assert!((0..5000).all(|number| bench.turn(&word(number)).is_none()));
    assert!(bench.turn("loads").is_some(), "its limit was not forgotten");
    assert!(bench.turn("held").is_some(), "its wait was not forgotten");
}

#[test]
fn who_waits_meets_the_same_limit_as_the_others_although_its_endpoint_was_idle() {
    let mut bench = Bench::new(RateLimits::none().endpoint("GET loads", [Limit::new(1, SECOND)]));
    assert_eq!(bench.turn("loads"), None);
    let first = bench.queue("loads");
    bench.pass(SECOND * 2);
    assert!((0..5000).all(|number| bench.turn(&word(number)).is_none()));
    assert_eq!(bench.wait(first), None);
    assert_eq!(bench.turn("loads"), Some(counts(SECOND)));
}

#[test]
fn idle_endpoints_and_tokens_are_forgotten() {
    let limits = RateLimits::none().endpoints([Limit::new(1, MINUTE)]).token([Limit::new(1000, HOUR)]);
    let mut bench = Bench::new(limits);
    let item = |number: usize| get(&format!("{}/x", word(number)));
    for number in 0..500 {
        assert_eq!(bench.turn_of(number as u64, &item(number)), None);
    }
    assert_eq!(bench.limiter.endpoints(), 500, "each still counts");
    bench.pass(counts(MINUTE));
    for number in 500..2000 {
        bench.turn_of(number as u64, &item(number));
        bench.pass(MINUTE);
    }
    assert!(bench.limiter.endpoints() < 300, "{} are remembered", bench.limiter.endpoints());
    assert!(!bench.limiter.is_idle(bench.now), "the tokens' hour is not over");
    bench.pass(counts(HOUR));
    assert!(bench.limiter.is_idle(bench.now));
    assert_eq!(bench.limiter.endpoints(), 0);
}

#[test]
fn many_endpoints_are_remembered_until_they_are_idle() {
    // None of them is idle during the test. To look through all of them each time would take minutes.
    let mut bench = Bench::new(RateLimits::none().lists([Limit::new(1, HOUR)]));
    assert!((0..60_000).all(|number| bench.turn(&word(number)).is_none()));
    assert!((0..1000).all(|number| bench.turn(&word(number)).is_some()), "none was forgotten too early");
}
