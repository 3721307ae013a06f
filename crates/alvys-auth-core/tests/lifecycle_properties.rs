//! What holds in every history: random callers, answers, silences, rejections and leaps in time, checked step by step
//! against a small model.

use std::collections::BTreeSet;

use alvys_auth_core::{Flow, Lifecycle, Policy, Step, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::simulation::{World, event, rules};
use crate::support::{answer, cases, complete, granted, request};

mod simulation;
mod support;

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn every_history_keeps_every_promise(
        events in vec(event(), 1..120),
        rules in rules(),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(rules, seed);
        for event in &events {
            world.happen(event);
        }
        world.recover();
    }

    #[test]
    fn a_sick_server_is_asked_ever_more_rarely(
        seed in any::<u64>(),
        statuses in vec(prop::sample::select(vec![401, 403, 429, 500, 503]), 40),
    ) {
        let mut lifecycle = Lifecycle::new(request(Flow::current()), Policy::new(), seed);
        let mut asked = 0;
        for second in 0..600_u64 {
            let now = Timestamp::from_millis(second * 1000);
            if let Step::Fetch(attempt) = lifecycle.poll(now) {
                let status = statuses[asked % statuses.len()];
                asked += 1;
                complete(&mut lifecycle, attempt.answered(&answer(status, "")), now);
            }
        }
        prop_assert!(asked < 100, "asked {} times in ten minutes", asked);
    }

    #[test]
    fn a_fleet_of_callers_costs_one_fetch_per_token(
        callers in 1..40,
        lifetime in 10_u64..7200,
        seed in any::<u64>(),
    ) {
        let mut lifecycle = Lifecycle::new(request(Flow::current()), Policy::new(), seed);
        let mut fetches = 0;
        let step = lifetime * 1000 / 50;
        for tick in 0..200_u64 {
            let now = Timestamp::from_millis(tick * step);
            for _ in 0..callers {
                if let Step::Fetch(attempt) = lifecycle.poll(now) {
                    fetches += 1;
                    complete(&mut lifecycle, attempt.answered(&granted(&format!("token-{fetches}"), lifetime)), now);
                }
            }
        }
        // 200 ticks are four lifetimes; each token serves at least four fifths of its own.
        prop_assert!((4..=6).contains(&fetches), "{} fetches", fetches);
    }
}

#[test]
fn the_histories_meet_every_kind_of_step() {
    // A model that never gets into a state proves nothing about it.
    let steps = ["use", "fetch", "fetch to renew", "look", "hedge", "wait for an attempt", "wait for a pause", "fail"];
    let parts = ["ask", "send", "ask after a refusal", "send again", "credentials of the provider", "unknown tenant"];
    let ends = ["obtained", "renewed", "paused", "abandoned", "superseded", "unchanged"];
    let all: BTreeSet<_> = steps.into_iter().chain(parts).chain(ends).collect();
    let mut runner = TestRunner::deterministic();
    let mut met = BTreeSet::new();
    // Which numbers are drawn depends on the width of the machine's words.
    for seed in 0..3000 {
        let history = (vec(event(), 1..120), rules()).new_tree(&mut runner);
        let (events, rules) = history.expect("a history").current();
        let mut world = World::new(rules, seed);
        for event in &events {
            world.happen(event);
        }
        met.append(&mut world.met);
        if met == all {
            return;
        }
    }
    assert_eq!(met, all);
}
