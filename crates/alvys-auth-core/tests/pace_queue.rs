//! The queue in front of an endpoint: in the order of arrival, and nobody is held up by who does not come.

use std::time::Duration;

use alvys_auth_core::{Limit, RateLimits};

use crate::pace::{Bench, HOUR, counts, get, millis};
use crate::support::seconds;

#[path = "support/pace.rs"]
mod pace;
mod support;

const GRACE: Duration = Duration::from_secs(3);

fn lists(requests: u32, per: Duration) -> Bench {
    Bench::new(RateLimits::none().lists([Limit::new(requests, per)]))
}

#[test]
fn who_comes_later_goes_later_and_knows_at_once_when() {
    let per = seconds(40);
    let mut bench = lists(2, per);
    assert_eq!(bench.turn("loads"), None);
    bench.pass(seconds(10));
    let queue = [0; 5].map(|_| bench.queue("loads"));
    let waits = queue.map(|ticket| bench.wait(ticket));
    let (first, second) = (counts(per) - seconds(10), counts(per));
    assert_eq!(waits, [None, Some(first), Some(second), Some(first + counts(per)), Some(second + counts(per))]);
    assert_eq!(bench.turn("loads"), Some(first + counts(per) * 2), "nobody barges in");
    assert!(bench.limiter.leave(queue[1]) && bench.limiter.leave(queue[2]), "others wait behind them");
    assert_eq!(bench.wait(queue[3]), Some(first), "who leaves makes room");
    assert!(!bench.limiter.leave(queue[4]), "nobody waits behind the last one");
}

#[test]
fn those_who_come_together_go_together_whoever_asks_first() {
    let mut bench = lists(5, HOUR);
    let queue = [0; 7].map(|_| bench.queue("loads"));
    let waits = [6, 5, 4, 3, 2, 1, 0].map(|place| bench.wait(queue[place]));
    assert_eq!(waits, [Some(counts(HOUR)), Some(counts(HOUR)), None, None, None, None, None]);
    bench.pass(counts(HOUR));
    let again = [0; 3].map(|_| bench.queue("loads"));
    assert_eq!([1, 2, 0].map(|place| bench.wait(again[place])), [None; 3], "beside the two who were there before");
    assert_eq!([6, 5].map(|place| bench.wait(queue[place])), [None; 2]);
}

#[test]
fn a_queue_of_two_limits_is_told_of_the_one_that_takes_longer() {
    let limits = RateLimits::none().lists([Limit::new(1, seconds(60))]).token([Limit::new(1, seconds(30))]);
    let mut bench = Bench::new(limits);
    assert_eq!(bench.turn("loads"), None);
    let queue = [0; 21].map(|_| bench.queue("loads"));
    assert!(queue.iter().all(|ticket| bench.wait(*ticket).is_some()));
    bench.pass(counts(seconds(60)) - seconds(15));
    assert_eq!(bench.turn("trips"), None);
    bench.pass(seconds(15));
    let for_the_token = counts(seconds(30)) - seconds(15);
    assert_eq!(bench.wait(queue[0]), Some(for_the_token), "the first one waits for the token's limit");
    assert_eq!(bench.wait(queue[20]), Some(counts(seconds(60)) * 20), "the last one for the list's");
}

#[test]
fn who_was_told_to_come_much_later_is_not_late_until_then() {
    let mut bench = lists(1, seconds(40));
    assert_eq!(bench.turn("loads"), None);
    let queue = [0; 3].map(|_| bench.queue("loads"));
    assert!(queue.iter().all(|ticket| bench.wait(*ticket).is_some()));
    bench.limiter.leave(queue[0]);
    bench.limiter.leave(queue[1]);
    bench.pass(seconds(39));
    assert_eq!(
        bench.turn("loads"),
        Some(counts(seconds(80)) + Limit::MARGIN - seconds(39)),
        "the third one is still expected"
    );
}

#[test]
fn who_never_asks_again_holds_nobody_up_for_longer_than_the_grace() {
    for per in [millis(50), seconds(1), seconds(60)] {
        let mut bench = lists(1, per);
        assert_eq!(bench.turn("loads"), None);
        // Some were never asked again, some were told a time and do not come then.
        let resting = [0; 3].map(|_| bench.queue("loads"));
        bench.wait(resting[0]);
        bench.wait(resting[1]);
        let began = bench.now;
        let next = bench.queue("loads");
        let mut asked = 0;
        while let Some(hold) = bench.ask(next) {
            bench.now = hold.ask_at;
            asked += 1;
        }
        let waited = bench.now.saturating_duration_since(began);
        assert!(waited <= counts(per) + GRACE * 2, "{waited:?} behind two who rest");
        assert!(waited >= GRACE, "they could still have come");
        assert!(asked < 20, "asked {asked} times");
    }
}

#[test]
fn who_comes_after_the_grace_still_goes_before_those_behind() {
    let mut bench = lists(1, seconds(60));
    assert_eq!(bench.turn("loads"), None);
    let (late, behind) = (bench.queue("loads"), bench.queue("loads"));
    assert!(bench.wait(late).is_some() && bench.wait(behind).is_some());
    bench.pass(counts(seconds(60)) + GRACE - millis(1));
    assert!(bench.wait(behind).is_some(), "it may still come");
    assert_eq!(bench.wait(late), None);
    bench.pass(counts(seconds(60)));
    assert_eq!(bench.wait(behind), None);
}

#[test]
fn a_limit_that_endpoints_share_goes_to_those_whose_time_has_come_first() {
    let mut bench = Bench::new(RateLimits::none().token([Limit::new(2, seconds(60))]));
    assert_eq!([bench.turn("loads"), bench.turn("loads")], [None; 2]);
    let (trip, user) = (bench.queue("trips"), bench.queue("users"));
    assert_eq!([bench.wait(trip), bench.wait(user)], [Some(counts(seconds(60))); 2]);
    bench.pass(counts(seconds(60)));
    assert!(bench.turn("loads").is_some(), "these places are for those who were told this time");
    assert_eq!([bench.wait(user), bench.wait(trip)], [None; 2]);
}

#[test]
fn an_endpoint_in_which_many_wait_leaves_the_tokens_places_to_others() {
    let limits = RateLimits::none().lists([Limit::new(1, seconds(60))]).token([Limit::new(10, seconds(1))]);
    let mut bench = Bench::new(limits);
    let crowd = [0; 40].map(|_| bench.queue("loads"));
    let went = crowd.iter().filter(|ticket| bench.wait(**ticket).is_none()).count();
    assert_eq!(went, 1);
    assert_eq!(bench.at_once(0, &get("trips/1")), 9, "the crowd waits for the list's limit, not for the token's");
}

#[test]
fn a_crowd_asks_a_few_times_each_and_goes_as_fast_as_the_limit_allows() {
    let mut bench = lists(1, seconds(1));
    let mut queue: Vec<_> = (0..300).map(|_| (bench.now, bench.queue("loads"))).collect();
    let (began, mut asked) = (bench.now, 0);
    while let Some(next) = (0..queue.len()).min_by_key(|at| queue[*at].0) {
        bench.now = bench.now.max(queue[next].0);
        asked += 1;
        match bench.ask(queue[next].1) {
            Some(hold) => queue[next].0 = hold.ask_at,
            None => drop(queue.remove(next)),
        }
    }
    assert_eq!(bench.now.saturating_duration_since(began), counts(seconds(1)) * 299);
    assert!(asked < 300 * 30, "asked {asked} times");
}
