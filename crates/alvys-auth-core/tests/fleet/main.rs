//! What a fleet does that shares a token through a store: hundreds of nodes, virtual time, and every fault of a store.

#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use alvys_auth_core::{Change, ErrorKind};

use world::{Dice, Faults, LIFETIME, PATIENCE, Point, Server, World, ms};

const NODES: usize = 100;
/// How long a lease lasts with the default policy: one and a half times a token request.
const LEASE: Duration = Duration::from_secs(15);
const MINUTE: Duration = Duration::from_secs(60);

/// A fleet that has a token.
fn started(nodes: usize, seed: u64) -> World {
    let mut world = World::new(nodes, seed);
    world.all_want(ms(200));
    world.run(MINUTE);
    assert_eq!(world.asked.len(), 1, "seed {seed}");
    world
}

fn distinct(world: &World) -> usize {
    world.held().into_iter().flatten().collect::<BTreeSet<_>>().len()
}

/// Everybody was served, and has the same token.
#[track_caller]
fn all_are_well(world: &World, seed: u64) {
    assert!(world.failed.is_empty(), "seed {seed}: {}", world.failed[0]);
    let held = world.held();
    assert!(held.iter().all(Option::is_some), "seed {seed}: a node has no token");
    assert_eq!(distinct(world), 1, "seed {seed}");
}

/// In the end everybody was served, and has the same token: nodes renew at different moments, so it takes up to a lifetime.
#[track_caller]
fn settles(world: &mut World, seed: u64) {
    let mut left = LIFETIME.as_secs() / 5;
    while distinct(world) > 1 && left > 0 {
        world.all_want(Duration::from_secs(4));
        world.run(Duration::from_secs(5));
        left -= 1;
    }
    all_are_well(world, seed);
}

#[test]
fn a_cold_start_of_any_number_of_nodes_costs_one_token() {
    for seed in 0..10 {
        let world = started(NODES, seed);
        all_are_well(&world, seed);
        assert_eq!(world.issued, 1);
    }
}

#[test]
fn a_used_token_costs_no_operation_at_the_store() {
    let mut world = started(NODES, 1);
    let before = world.operations;
    for _ in 0..50 {
        world.all_want(ms(100));
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.operations, before);
    assert_eq!(world.served, 51 * NODES as u64);
}

#[test]
fn a_renewal_is_done_by_one_node_for_all() {
    for seed in 0..5 {
        let mut world = started(NODES, seed);
        for _ in 0..(3 * LIFETIME.as_secs() / 5) {
            world.all_want(Duration::from_secs(4));
            world.run(Duration::from_secs(5));
        }
        settles(&mut world, seed);
        let lifetimes = 3;
        assert!((3..=lifetimes + 1).contains(&(world.issued - 1)), "seed {seed}: {} tokens", world.issued);
    }
}

#[test]
fn nodes_that_were_idle_beyond_the_end_of_a_token_get_one_for_all() {
    let mut world = started(NODES, 3);
    world.run(LIFETIME + MINUTE);
    world.all_want(ms(500));
    world.run(MINUTE);
    all_are_well(&world, 3);
    assert_eq!(world.issued, 2);
}

/// The next one asks when the lease has ended, so it takes longer than a caller waits by default; nobody else fails.
#[test]
fn a_leader_that_dies_at_any_step_costs_one_request_more_at_the_most() {
    for point in [Point::Claim, Point::Claimed, Point::Send, Point::Answered, Point::Publish] {
        for seed in 0..10 {
            let mut world = World::new(50, seed);
            world.fatal = Some(point);
            world.all_want(ms(200));
            world.run(LEASE + ms(100));
            world.all_want(ms(200));
            world.run(MINUTE);
            assert_eq!(world.deaths, 1, "{point:?}");
            assert!(world.asked.len() <= 2, "{point:?} {seed}: {} requests", world.asked.len());
            assert!(world.held().iter().all(Option::is_some), "{point:?} {seed}");
            assert_eq!(distinct(&world), 1, "{point:?} {seed}");
        }
    }
}

#[test]
fn a_refusal_of_the_api_that_all_nodes_see_costs_one_token() {
    for seed in 0..10 {
        let mut world = started(NODES, seed);
        world.run(MINUTE);
        for node in 0..NODES {
            let (token, now) = (world.nodes[node].used.clone().expect("a token"), world.local(node));
            assert!(world.nodes[node].lifecycle.reject(&token, now), "another token is worth a try");
        }
        world.all_want(ms(100));
        world.run(MINUTE);
        all_are_well(&world, seed);
        assert_eq!(world.issued, 2, "seed {seed}");
    }
}

/// Two nodes that reject each other's tokens would renew for ever.
#[test]
fn a_node_that_rejects_an_old_token_takes_the_newer_one() {
    let mut world = started(NODES, 1);
    world.run(MINUTE);
    for node in [0, 1] {
        let (token, now) = (world.nodes[node].used.clone().expect("a token"), world.local(node));
        assert!(world.nodes[node].lifecycle.reject(&token, now));
        world.want(node, Duration::ZERO);
        world.run(MINUTE);
    }
    assert_eq!(world.issued, 2);
    assert_eq!(world.held()[0], world.held()[1]);
}

#[test]
fn a_rate_limit_that_one_node_is_told_holds_for_all() {
    for seed in 0..10 {
        let mut world = World::new(NODES, seed);
        world.server = Server::Limits(40);
        world.all_want(ms(200));
        world.run(Duration::from_secs(10));
        world.server = Server::Grants;
        assert_eq!(world.asked.len(), 1, "seed {seed}");
        assert_eq!(world.failed.len(), NODES);
        for error in &world.failed {
            assert_eq!(error.kind(), ErrorKind::RateLimited);
            let left = error.retry_after().expect("a wait");
            assert!(left <= Duration::from_secs(40) && left > Duration::from_secs(29), "{left:?}");
        }
        world.all_want(ms(200));
        world.run(Duration::from_secs(20));
        assert_eq!(world.asked.len(), 1, "seed {seed}: the wait is not over");
        world.run(Duration::from_secs(10));
        world.failed.clear();
        world.all_want(ms(200));
        world.run(MINUTE);
        all_are_well(&world, seed);
        assert_eq!(world.asked.len(), 2, "seed {seed}");
    }
}

#[test]
fn a_person_who_ends_a_pause_ends_it_for_everybody() {
    let mut world = World::new(NODES, 5);
    world.server = Server::Limits(80_000);
    world.all_want(ms(200));
    world.run(MINUTE);
    world.failed.clear();
    world.server = Server::Grants;
    world.nodes[7].lifecycle.end_pause();
    world.want(7, Duration::ZERO);
    world.run(Duration::from_secs(5));
    assert_eq!(world.asked.len(), 2);
    assert_eq!(world.failed.len(), 0);
    // The others still remember the pause of their own; who starts anew does not meet one.
    world.kill(8);
    world.want(8, Duration::ZERO);
    world.run(Duration::from_secs(5));
    assert_eq!((world.asked.len(), world.failed.len()), (2, 0));
}

#[test]
fn a_refusal_is_shared_with_its_reason() {
    let mut world = World::new(NODES, 2);
    world.server = Server::Denies;
    world.all_want(ms(200));
    world.run(Duration::from_secs(4));
    assert_eq!(world.asked.len(), 1);
    assert_eq!(world.failed.len(), NODES);
    assert!(world.failed.iter().all(|error| error.kind() == ErrorKind::Credentials && error.status().is_some()));
    assert!(world.failed.iter().all(|error| error.oauth_code() == Some("access_denied")));
}

#[test]
fn a_held_token_serves_on_while_the_server_refuses_its_renewal() {
    let mut world = started(NODES, 4);
    world.server = Server::Limits(30);
    world.run(LIFETIME - Duration::from_secs(61 + 40));
    for _ in 0..8 {
        world.all_want(ms(500));
        world.run(Duration::from_secs(5));
    }
    assert!(world.failed.is_empty(), "{}", world.failed[0]);
    assert!((2..=4).contains(&world.asked.len()), "{} requests", world.asked.len());
}

#[test]
fn an_outage_of_the_store_makes_nobody_fail_and_is_told_once() {
    for seed in 0..10 {
        let mut world = World::new(NODES, seed);
        world.store_up = false;
        world.all_want(ms(200));
        world.run(MINUTE);
        assert!(world.failed.is_empty(), "seed {seed}: {}", world.failed[0]);
        assert!(world.held().iter().all(Option::is_some));
        assert_eq!(world.asked.len(), NODES, "each node asks for a token of its own, once");
        for node in &world.nodes {
            let told = node.told.iter().filter(|change| matches!(change, Change::StoreFailed(_))).count();
            assert_eq!(told, 1);
        }
        // The store is back: with the next renewal all have the same token again.
        world.store_up = true;
        for _ in 0..(2 * LIFETIME.as_secs() / 5) {
            world.all_want(Duration::from_secs(4));
            world.run(Duration::from_secs(5));
        }
        settles(&mut world, seed);
        let bought = world.asked.len() - NODES;
        assert!(bought <= 4, "seed {seed}: {bought} more");
    }
}

#[test]
fn a_held_token_serves_on_while_the_store_is_away() {
    let mut world = started(NODES, 6);
    world.store_up = false;
    for _ in 0..60 {
        world.all_want(ms(500));
        world.run(Duration::from_secs(5));
    }
    assert!(world.failed.is_empty());
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn a_store_that_was_emptied_costs_one_token_and_no_quarrel() {
    for seed in 0..10 {
        let mut world = started(NODES, seed);
        world.cells.clear();
        for _ in 0..(2 * LIFETIME.as_secs() / 5) {
            world.all_want(Duration::from_secs(4));
            world.run(Duration::from_secs(5));
        }
        settles(&mut world, seed);
        assert!(world.issued <= 4, "seed {seed}: {} tokens", world.issued);
    }
}

#[test]
fn the_workers_of_two_secrets_do_not_disturb_one_another() {
    let mut world = started(NODES, 9);
    let rotated = alvys_auth_core::Credentials::new("my-client", "n3w").expect("credentials");
    for node in 0..NODES / 2 {
        world.nodes[node].lifecycle.set_credentials(rotated.clone()).expect("legal");
        world.nodes[node].lifecycle.invalidate();
    }
    for _ in 0..20 {
        world.all_want(ms(500));
        world.run(Duration::from_secs(5));
    }
    assert!(world.failed.is_empty());
    let held = world.held();
    assert!(held[..NODES / 2].iter().flatten().all(|token| token.starts_with("token.of.n3w.")));
    assert!(held[NODES / 2..].iter().flatten().all(|token| token.starts_with("token.of.s3cret.")));
    assert_eq!(world.issued, 2);
}

/// Half an hour of everything at once; then peace, and everybody has the same token.
#[test]
fn whatever_happens_to_store_server_and_nodes_all_end_with_the_same_token() {
    let mut met = BTreeSet::new();
    for seed in 0..24 {
        let mut world = World::new(20, seed);
        let mut dice = Dice(seed ^ 0xfeed);
        for _ in 0..360 {
            world.faults = Faults {
                lost: dice.below(30),
                unanswered: dice.below(30),
                twice: dice.below(30),
                slow: dice.below(60),
                refused: dice.below(20),
            };
            match dice.below(40) {
                0 => world.store_up = false,
                1..=3 => world.store_up = true,
                4 => world.cells.clear(),
                5 => world.server = Server::Unavailable,
                6 => world.server = Server::Limits(dice.below(20)),
                7 => world.server = Server::Silent,
                8 => world.server = Server::Denies,
                9..=13 => world.server = Server::Grants,
                14..=18 => world.kill(dice.below(20) as usize),
                19 | 20 => world.sleep(dice.below(20) as usize, Duration::from_secs(dice.below(900))),
                21..=24 => {
                    let node = dice.below(20) as usize;
                    if let Some(token) = world.nodes[node].used.clone() {
                        let now = world.local(node);
                        let _ = world.nodes[node].lifecycle.reject(&token, now);
                    }
                }
                _ => {}
            }
            world.all_want(Duration::from_secs(4));
            world.run(Duration::from_secs(5));
        }
        // No request is without a reason: a token that ended, was refused, or an attempt whose end nobody knew.
        assert!(world.asked.len() < 20 * 360 / 2, "seed {seed}: {} requests", world.asked.len());
        (world.faults, world.store_up, world.server) = (Faults::default(), true, Server::Grants);
        // Until the last one that sleeps has woken up.
        world.run(Duration::from_secs(900) + PATIENCE);
        for _ in 0..(LIFETIME.as_secs() / 5) {
            world.failed.clear();
            world.all_want(Duration::from_secs(4));
            world.run(Duration::from_secs(5));
        }
        settles(&mut world, seed);
        met.append(&mut world.met);
    }
    for kind in ["obtained", "renewed", "paused", "adopted", "store failed", "shared", "superseded", "wait"] {
        assert!(met.contains(kind), "{kind} has not occurred");
    }
}

/// While the store answers, no two nodes are at the token endpoint at the same time, however slow and forgetful the way to the
/// store is, and whoever dies or sleeps: unless a lease has ended.
#[test]
fn there_is_one_request_for_each_lease_while_the_store_answers() {
    for seed in 0..12 {
        let mut world = World::new(30, seed);
        let mut dice = Dice(seed ^ 0xbead);
        world.faults = Faults { twice: 20, ..Faults::default() };
        for _ in 0..200 {
            if dice.below(10) == 0 {
                world.kill(dice.below(30) as usize);
            }
            world.all_want(Duration::from_secs(4));
            world.run(Duration::from_secs(5));
        }
        let mut requests = world.asked.clone();
        requests.sort_by_key(|asked| asked.at);
        for pair in requests.windows(2) {
            let apart = pair[1].at.saturating_duration_since(pair[0].at);
            // A request follows another one when its token is due, or when its lease has ended.
            assert!(apart >= LEASE - ms(100), "seed {seed}: {pair:?}");
        }
    }
}
