//! Calls under limits, whatever happens to them: no stretch of time sees too many, and everybody goes in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use alvys_auth_core::{Api, Call, CallOptions, CallStep, Endpoint, Limit, Limiter, RateLimits, Ticket, Timestamp};
use http::{HeaderMap, Method};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::pace::{get, millis};
use crate::support::{answer, cases, reader, with};

#[path = "support/pace.rs"]
mod pace;
mod support;

const PATHS: [&str; 3] = ["loads", "trips", "loads/4711"];
const GRACE: Duration = Duration::from_secs(3);

/// What happens to one call.
#[derive(Debug, Clone)]
struct Arrival {
    after: u64,
    token: u64,
    path: usize,
    /// How late it asks, each time.
    late: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Goes,
    /// It is dropped so long after it queued, unless it has gone before.
    DroppedAfter(u64),
    /// Nobody drives it any more after it was asked so many times, and it stays in the queue.
    Rests(u8),
}

fn limit() -> impl Strategy<Value = Limit> {
    (1_u32..6, 1_u64..8000).prop_map(|(requests, per)| Limit::new(requests, millis(per)))
}

fn limits() -> impl Strategy<Value = [Vec<Limit>; 4]> {
    [vec(limit(), 0..3), vec(limit(), 0..2), vec(limit(), 0..2), vec(limit(), 0..3)]
}

fn arrivals(fates: impl Strategy<Value = Fate>) -> impl Strategy<Value = Vec<Arrival>> {
    let after = prop_oneof![4 => Just(0), 4 => 0_u64..500, 1 => 0_u64..20_000];
    let late = prop_oneof![3 => Just(0), 1 => 0_u64..2000];
    let arrival = (after, 0_u64..2, 0..PATHS.len(), late, fates).prop_map(|(after, token, path, late, fate)| Arrival {
        after,
        token,
        path,
        late,
        fate,
    });
    vec(arrival, 1..40)
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Goes),
        2 => (0_u64..10_000).prop_map(Fate::DroppedAfter),
        1 => (0_u8..4).prop_map(Fate::Rests),
    ]
}

/// One call that is under way.
struct Underway {
    arrival: Arrival,
    ticket: Ticket,
    queued: Timestamp,
    asks_at: Timestamp,
    asked: u8,
}

/// A call that has gone.
#[derive(Debug, Clone, PartialEq)]
struct Gone {
    at: Timestamp,
    token: u64,
    path: usize,
    order: usize,
    late: bool,
}

/// Lets them all come, ask, go, be dropped and rest, and gives those that have gone in their order.
///
/// Whoever waits asks again when somebody before it has left. `jumps` are moments at which the machine sleeps for so long.
fn run(limits: [Vec<Limit>; 4], arrivals: &[Arrival], mut jumps: Vec<(u64, u64)>) -> Vec<Gone> {
    let [token, organization, lists, endpoints] = limits;
    let limits = RateLimits::none().token(token).organization(organization).lists(lists).endpoints(endpoints);
    let mut limiter = Limiter::new(limits);
    let mut now = Timestamp::from_millis(1_000_000);
    let mut coming: Vec<_> = arrivals
        .iter()
        .scan(now, |at, arrival| {
            *at = at.saturating_add(millis(arrival.after));
            Some((*at, arrival.clone()))
        })
        .collect();
    coming.reverse();
    let (mut underway, mut gone) = (BTreeMap::<usize, Underway>::new(), Vec::new());
    jumps.sort_unstable();
    jumps.reverse();
    for _ in 0..200_000 {
        let drops_at = |call: &Underway| match call.arrival.fate {
            Fate::DroppedAfter(after) => Some(call.queued.saturating_add(millis(after))),
            _ => None,
        };
        let rests = |call: &Underway| matches!(call.arrival.fate, Fate::Rests(asks) if call.asked >= asks);
        let asks_at = |call: &Underway| (!rests(call)).then_some(call.asks_at);
        let next = [
            coming.last().map(|(at, _)| *at),
            underway.values().filter_map(drops_at).min(),
            underway.values().filter_map(asks_at).min(),
        ];
        let Some(next) = next.into_iter().flatten().min() else { return gone };
        now = now.max(next);
        if let Some((_, slept)) = jumps.pop_if(|(at, _)| Timestamp::from_millis(1_000_000 + *at) <= now) {
            now = now.saturating_add(millis(slept));
        }
        if let Some((_, arrival)) = coming.pop_if(|(at, _)| *at <= now) {
            let ticket = limiter.queue(arrival.token, &get(PATHS[arrival.path]), now);
            let asks_at = now.saturating_add(millis(arrival.late));
            let order = arrivals.len() - coming.len();
            underway.insert(order, Underway { arrival, ticket, queued: now, asks_at, asked: 0 });
            continue;
        }
        if let Some(dropped) = underway.iter().find_map(|(order, call)| (drops_at(call)? <= now).then_some(*order)) {
            let dropped = underway.remove(&dropped).expect("it is there");
            if limiter.leave(dropped.ticket) {
                underway.values_mut().for_each(|call| call.asks_at = call.asks_at.min(now));
            }
            continue;
        }
        let due = underway.iter().filter(|(_, call)| asks_at(call).is_some_and(|at| at <= now));
        let Some(order) = due.min_by_key(|(_, call)| call.asks_at).map(|(order, _)| *order) else { continue };
        let call = underway.get_mut(&order).expect("it is there");
        match limiter.ask(call.ticket, now) {
            Some(hold) => {
                assert!(hold.ask_at > now && hold.ask_at <= hold.until, "no wait is zero or longer than it need be");
                call.asked += 1;
                call.asks_at = hold.ask_at.saturating_add(millis(call.arrival.late));
            }
            None => {
                let Arrival { token, path, late, .. } = call.arrival;
                gone.push(Gone { at: now, token, path, order, late: millis(late) >= GRACE });
                underway.remove(&order);
            }
        }
    }
    panic!("somebody asks for ever");
}

/// No closed stretch of the limit's length, nor one that is longer by less than the margin, sees more than the limit says.
fn assert_within<'a>(limits: &[Limit], gone: impl Iterator<Item = &'a Gone>) -> Result<(), TestCaseError> {
    let went: Vec<_> = gone.map(|gone| gone.at).collect();
    for limit in limits {
        let shown = limit.to_string();
        let (requests, _) = shown.split_once(" in ").expect("both");
        let requests: usize = requests.parse().expect("a number");
        let counts = Duration::from_millis(per(limit)) + Limit::MARGIN;
        for (first, beyond) in went.iter().zip(went.iter().skip(requests)) {
            prop_assert!(beyond.saturating_duration_since(*first) >= counts, "more than {} at {:?}", shown, beyond);
        }
    }
    Ok(())
}

/// The length of a limit in milliseconds.
fn per(limit: &Limit) -> u64 {
    (1..8000).find(|per| (1..6).any(|requests| *limit == Limit::new(requests, millis(*per)))).expect("one of these")
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_stretch_of_time_sees_more_than_the_limits_allow_and_everybody_goes(
        limits in limits(),
        arrivals in arrivals(any_fate()),
        jumps in vec((0_u64..30_000, 0_u64..100_000), 0..4),
    ) {
        let gone = run(limits.clone(), &arrivals, jumps);
        let lists = |path: usize| PATHS[path] != "loads/4711";
        assert_within(&limits[1], gone.iter())?;
        for token in 0..2 {
            assert_within(&limits[0], gone.iter().filter(|gone| gone.token == token))?;
            for path in 0..PATHS.len() {
                let own = if lists(path) { &limits[2] } else { &limits[3] };
                assert_within(own, gone.iter().filter(|gone| gone.token == token && gone.path == path))?;
            }
        }
        let must_go = arrivals.iter().filter(|arrival| arrival.fate == Fate::Goes).count();
        prop_assert!(gone.len() >= must_go, "all that were neither dropped nor left to themselves");
    }

    #[test]
    fn who_asks_when_told_goes_in_the_order_of_arrival(limits in limits(), arrivals in arrivals(Just(Fate::Goes))) {
        let arrivals: Vec<_> = arrivals.into_iter().map(|arrival| Arrival { late: 0, ..arrival }).collect();
        let gone = run(limits, &arrivals, Vec::new());
        prop_assert_eq!(gone.len(), arrivals.len());
        for token in 0..2 {
            for path in 0..PATHS.len() {
                let own: Vec<_> = gone.iter().filter(|gone| gone.token == token && gone.path == path).collect();
                for pair in own.windows(2) {
                    prop_assert!(pair[0].order < pair[1].order || pair[0].at == pair[1].at, "{:?}", pair);
                }
            }
        }
    }

    #[test]
    fn calls_that_are_dropped_before_they_go_cost_nobody_anything(
        limits in limits(),
        arrivals in arrivals(Just(Fate::Goes)),
        dropped in vec((0..40_usize, 0_u64..2), 0..10),
    ) {
        // Some more come among the others and are dropped at the same moment, before or after they were asked.
        let arrivals: Vec<_> = arrivals.into_iter().map(|arrival| Arrival { late: 0, ..arrival }).collect();
        let mut with_dropped = arrivals.clone();
        for (at, token) in dropped {
            let at = at.min(with_dropped.len());
            let fate = Fate::DroppedAfter(0);
            with_dropped.insert(at, Arrival { after: 0, token, path: at % PATHS.len(), late: 0, fate });
        }
        let alone = run(limits.clone(), &arrivals, Vec::new());
        let beside = run(limits, &with_dropped, Vec::new());
        let times = |gone: &[Gone]| gone.iter().map(|gone| (gone.at, gone.token, gone.path)).collect::<Vec<_>>();
        prop_assert_eq!(times(&alone), times(&beside));
    }

    #[test]
    fn calls_end_within_their_patience_however_they_are_dropped_and_answered(
        limits in limits(),
        calls in vec((0_u64..3000, 0..PATHS.len(), prop::sample::select(vec![200_u16, 401, 429, 503]), 0_u8..12), 1..30),
        patience in 0_u64..60_000,
    ) {
        simulate(limits, &calls, millis(patience))?;
    }
}

/// One call in the simulation.
struct Driven {
    call: Call,
    endpoint: Endpoint,
    ticket: Option<Ticket>,
    wakes_at: Timestamp,
    began: Timestamp,
    first_answer: u16,
    sent: u32,
    /// After so many steps it is dropped.
    steps_left: u8,
}

/// Drives calls, as the drivers do, with a refusal as their first answers, and drops them after some of their steps.
fn simulate(limits: [Vec<Limit>; 4], calls: &[(u64, usize, u16, u8)], patience: Duration) -> Result<(), TestCaseError> {
    let [token, organization, lists, endpoints] = limits.clone();
    let rates = RateLimits::none().token(token).organization(organization).lists(lists).endpoints(endpoints);
    let (mut limiter, api) = (Limiter::new(rates), Api::production().patience(patience));
    let mut now = Timestamp::from_millis(5_000_000);
    let mut at = now;
    let mut driven: Vec<Driven> = calls
        .iter()
        .map(|(after, path, first_answer, steps_left)| {
            at = at.saturating_add(millis(*after));
            let uri = api.url(PATHS[*path]).expect("a URL");
            let call = api.call(&Method::GET, &uri, &HeaderMap::new(), CallOptions::new());
            let call = call.expect("allowed").expect("no Authorization of its own");
            let (endpoint, first_answer, steps_left) = (call.endpoint(), *first_answer, *steps_left);
            Driven { call, endpoint, ticket: None, wakes_at: at, began: at, first_answer, sent: 0, steps_left }
        })
        .collect();
    let mut sent: Vec<Gone> = Vec::new();
    for _ in 0..100_000 {
        let Some(next) = (0..driven.len()).min_by_key(|at| driven[*at].wakes_at) else { break };
        now = now.max(driven[next].wakes_at);
        let one = &mut driven[next];
        let last_step = one.steps_left == 0;
        // Eleven stands for calls that are never dropped.
        one.steps_left = if one.steps_left >= 11 { 11 } else { one.steps_left.saturating_sub(1) };
        let mut over = last_step;
        match one.call.next(now) {
            _ if last_step => {}
            CallStep::NeedToken => {
                let (endpoint, ticket) = (one.endpoint.clone(), &mut one.ticket);
                let turn = || {
                    let ticket = *ticket.get_or_insert_with(|| limiter.queue(0, &endpoint, now));
                    limiter.ask(ticket, now)
                };
                one.call.token(reader(), now, turn);
            }
            CallStep::Wait(until) => {
                prop_assert!(until > now, "no wait is zero");
                one.wakes_at = until;
            }
            CallStep::Send => {
                let path = PATHS.iter().position(|path| get(path) == one.endpoint).expect("one of them");
                sent.push(Gone { at: now, token: 0, path, order: next, late: false });
                one.ticket = None;
                one.sent += 1;
                let status = if one.sent == 1 { one.first_answer } else { 200 };
                let uri = api.url(PATHS[path]).expect("a URL");
                one.call.answered(status.try_into().expect("a status"), &HeaderMap::new(), Some(&uri));
            }
            CallStep::Look => {
                let refused = with(answer(one.first_answer, ""), "retry-after", "2");
                let verdict = one.call.looked(&refused, now, |_| true);
                limiter.heed(0, &one.endpoint, refused.status(), &verdict, now);
            }
            CallStep::Deliver => over = true,
            CallStep::Fail(error) => {
                prop_assert!(error.retry_after().is_some_and(|wait| wait > Duration::ZERO), "{}", error);
                over = true;
            }
        }
        if over {
            prop_assert!(one.sent <= 2, "one try and one more");
            let waited = now.saturating_duration_since(one.began);
            prop_assert!(waited <= patience, "{:?} is longer than {:?}", waited, patience);
            let left = driven.remove(next);
            if left.ticket.is_some_and(|ticket| limiter.leave(ticket)) {
                driven.iter_mut().filter(|one| one.ticket.is_some()).for_each(|one| one.wakes_at = now);
            }
        }
    }
    prop_assert!(driven.is_empty(), "every call ends");
    assert_within(&limits[0], sent.iter())?;
    assert_within(&limits[1], sent.iter())?;
    for (path, name) in PATHS.iter().enumerate() {
        let own = if *name == "loads/4711" { &limits[3] } else { &limits[2] };
        assert_within(own, sent.iter().filter(|gone| gone.path == path))?;
    }
    let much_later = now.saturating_add(Duration::from_secs(3600));
    prop_assert!(limiter.is_idle(much_later), "nothing is left of any of them");
    Ok(())
}
