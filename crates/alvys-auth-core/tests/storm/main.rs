//! The storm: five minutes with tokens of a minute, many callers, and about every three seconds a fault. What share of the
//! time a token is at hand, how soon there is one once the server is well, and how many requests that costs.
//!
//! `cargo test -p alvys-auth-core --test storm -- --nocapture` prints the figures.

use std::time::Duration;

use alvys_auth_core::Policy;

use crate::world::{Figures, Storm};

#[path = "../support/mod.rs"]
mod support;
mod world;

const RUNS: u64 = 100;
/// What the storms beside the measured one need to be told apart.
const FEW_RUNS: u64 = 25;
/// How many callers each program has. Two programs share the server, as in the storm that is run beside the benchmarks.
const PROGRAMS: [u64; 2] = [16, 8];

/// The figures of many runs, with the shares of the time in order.
fn runs(policy: &Policy, programs: &[u64], runs: u64) -> (Vec<f64>, Figures) {
    let (mut shares, mut all) = (Vec::new(), Figures::default());
    for seed in 1..=runs {
        for figures in Storm::new(policy, programs, seed).run() {
            shares.push(figures.share());
            all.at_hand += figures.at_hand;
            all.time += figures.time;
            all.recoveries.extend(figures.recoveries);
            all.requests += figures.requests;
            all.calls += figures.calls;
            all.failed += figures.failed;
            for (blamed, cost) in figures.costs {
                *all.costs.entry(blamed).or_default() += cost;
            }
        }
    }
    shares.sort_by(f64::total_cmp);
    all.recoveries.sort_unstable();
    (shares, all)
}

fn show(name: &str, shares: &[f64], all: &Figures) {
    let part = |of: usize| all.recoveries[(all.recoveries.len() - 1) * of / 100] as f64 / 1000.0;
    let within = all.recoveries.iter().filter(|recovery| **recovery <= 5_000).count();
    println!(
        "{name}: a token at hand {:.1} % of the time (worst run {:.1} %, best {:.1} %); {} recoveries, \
         half within {:.2} s, 90 of 100 within {:.2} s, 95 within {:.2} s, 99 within {:.2} s; within 5 s: {:.1} %; \
         {:.1} token requests a run; {:.2} % of the calls failed",
        shares[shares.len() / 2],
        shares[0],
        shares[shares.len() - 1],
        all.recoveries.len(),
        part(50),
        part(90),
        part(95),
        part(99),
        within as f64 * 100.0 / all.recoveries.len() as f64,
        all.requests as f64 / shares.len() as f64,
        all.failed as f64 * 100.0 / (all.failed + all.calls) as f64,
    );
    let mut costs: Vec<_> = all.costs.iter().collect();
    costs.sort_by_key(|(_, cost)| std::cmp::Reverse(**cost));
    let costs: Vec<_> = costs
        .into_iter()
        .map(|(blamed, cost)| format!("{blamed} {:.2}", *cost as f64 * 100.0 / all.time as f64))
        .collect();
    println!("    without a token because of: {}", costs.join(", "));
}

#[test]
fn the_defaults_keep_a_token_at_hand_while_it_storms() {
    let (shares, all) = runs(&Policy::new(), &PROGRAMS, RUNS);
    show("the defaults", &shares, &all);
    assert!(shares[shares.len() / 2] >= 85.0, "a token is at hand too rarely");
    let within = all.recoveries.iter().filter(|recovery| **recovery <= 5_000).count();
    assert!(within * 100 >= all.recoveries.len() * 95, "too many recoveries take longer than 5 s");
    let requests = all.requests / shares.len() as u64;
    assert!(requests <= 50, "{requests} token requests in five minutes");
}

#[test]
fn without_its_short_pauses_and_second_requests_a_storm_costs_more() {
    let policy = Policy::new().pause_while_waiting(Duration::from_secs(60)).hedge_after(Duration::from_secs(60));
    let (shares, all) = runs(&policy, &PROGRAMS, FEW_RUNS);
    show("pauses of up to a minute, no second requests", &shares, &all);
    assert!(shares[shares.len() / 2] < 75.0, "the storm does not tell the rules apart");
}

#[test]
fn one_program_that_meets_every_fault_alone_has_a_token_most_of_the_time() {
    let (shares, all) = runs(&Policy::new(), &PROGRAMS[..1], FEW_RUNS);
    show("every fault for one program", &shares, &all);
    assert!(shares[shares.len() / 2] >= 70.0);
}
