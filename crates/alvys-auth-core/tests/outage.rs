//! How many requests an outage of ten minutes costs while callers wait.
//!
//! `cargo test -p alvys-auth-core --test outage -- --nocapture` prints the figures.

use std::time::Duration;

use alvys_auth_core::{Attempt, Error, Next, Policy, Step, Timestamp};

use crate::support::{answer, at, denied, half_an_answer, html, with, with_policy};

mod support;

/// How many requests are sent in ten minutes to a server that answers every one so after `takes`, while callers wait.
fn requests(takes: Duration, outcome: impl Fn(Attempt) -> Attempt) -> usize {
    let (mut lifecycle, mut now, mut requests) = (with_policy(Policy::new(), 7), at(0), 0);
    let mut open: Vec<(Timestamp, Attempt)> = Vec::new();
    while now < at(600) {
        while let Some(due) = open.iter().position(|(due, _)| *due <= now) {
            let (_, attempt) = open.remove(due);
            assert!(matches!(lifecycle.next(outcome(attempt), now), Next::Over(_)));
        }
        let until = match lifecycle.poll(now) {
            Step::Fetch(attempt) => {
                if let Next::Send(attempt) = lifecycle.next(attempt, now) {
                    requests += 1;
                    open.push((now.saturating_add(takes), attempt));
                }
                continue;
            }
            Step::Wait(wait) => wait.until(),
            Step::Fail(_) => now.saturating_add(Duration::from_millis(50)),
            Step::Use(token) => panic!("{token:?} during an outage"),
        };
        now = open.iter().map(|(due, _)| *due).fold(until, Timestamp::min);
    }
    requests
}

#[test]
fn an_outage_of_ten_minutes_costs_a_bounded_number_of_requests() {
    let latency = Duration::from_millis(50);
    let unavailable = requests(latency, |attempt| attempt.answered(&answer(503, "")));
    let page = requests(latency, |attempt| attempt.answered(&html(200)));
    let limited = requests(latency, |attempt| attempt.answered(&with(answer(429, ""), "retry-after", "60")));
    let denied = requests(latency, |attempt| attempt.answered(&denied()));
    let unreadable = requests(latency, |attempt| attempt.answered(&answer(200, "{\"access_tok")));
    let cut_short = requests(latency, |attempt| attempt.failed(half_an_answer()));
    let hang = requests(Duration::from_secs(10), |attempt| attempt.failed(Error::timed_out("no answer")));
    println!(
        "requests in ten minutes of nothing but 503: {unavailable}, pages: {page}, 429: {limited}, \
         wrong credentials: {denied}, unreadable: {unreadable}, cut short: {cut_short}, hangs: {hang}"
    );
    assert!(unavailable <= 900 && page <= 900, "about four in three seconds");
    assert!(limited <= 10, "as often as the server allows");
    assert!(denied <= 8, "as rarely as the cool-down says");
    assert!(unreadable <= 15 && cut_short <= 15, "as rarely as tokens may be lost");
    assert!(hang <= 100, "two for each time that a request may take");
}
