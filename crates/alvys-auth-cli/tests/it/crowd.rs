//! Many runs at once, and runs that die.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use alvys_auth_sandbox::{Fault, Route};

use crate::support::{Ran, World, kill, spawned, token_of};

fn fifty(world: &World, arguments: &[&str]) -> Vec<Ran> {
    let children: Vec<_> = (0..50).map(|_| spawned(&mut world.command(arguments))).collect();
    children.into_iter().map(|child| Ran::from(child.wait_with_output().unwrap())).collect()
}

#[test]
fn fifty_runs_at_once_make_one_request() {
    let world = World::new();
    // Long enough that all of them are there.
    world.sandbox.inject(Route::Token, Fault::delay(Duration::from_millis(1500)));
    let tokens: HashSet<_> = fifty(&world, &["token"]).iter().map(token_of).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(world.sandbox.token_requests(), 1);
    assert_eq!(world.kept("shared").len(), 1);
}

#[test]
fn fifty_runs_share_one_refusal() {
    let world = World::new();
    let slow = Duration::from_millis(1500);
    world.sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(60)).after(slow));
    for ran in fifty(&world, &["token"]) {
        ran.failed(75);
    }
    assert_eq!(world.sandbox.token_requests(), 1);
}

#[test]
fn fifty_runs_share_one_unreachable_server() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::hang());
    let started = Instant::now();
    for ran in fifty(&world, &["token"]) {
        ran.failed(69);
    }
    assert!(started.elapsed() < Duration::from_secs(40), "nobody tries one after the other");
    assert!(world.sandbox.token_requests() <= 4, "{}", world.sandbox.token_requests());
}

#[test]
fn runs_that_want_a_new_token_at_once_share_one() {
    let world = World::new();
    let first = world.token(&[]);
    world.sandbox.inject(Route::Token, Fault::delay(Duration::from_millis(1500)));
    let children: Vec<_> = (0..10).map(|_| spawned(&mut world.command(&["token", "--force"]))).collect();
    for child in children {
        assert_ne!(token_of(&Ran::from(child.wait_with_output().unwrap())), first);
    }
    // Those who came after the first request was sent want a newer one than that.
    let requests = world.sandbox.token_requests() - 1;
    assert!(requests <= 3, "{requests}");
}

#[test]
fn a_good_token_is_had_while_another_run_asks() {
    let world = World::new();
    let first = world.token(&[]);
    world.sandbox.inject(Route::Token, Fault::hang());
    let mut forcing = spawned(&mut world.command(&["token", "--force"]));
    world.asked(2);
    let started = Instant::now();
    assert_eq!(world.token(&[]), first);
    assert!(started.elapsed() < Duration::from_secs(8));
    kill(&forcing, "KILL");
    forcing.wait().unwrap();
}

#[test]
fn a_killed_run_that_asks_costs_the_others_its_lease_and_one_request() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::hang().once());
    let mut holder = spawned(&mut world.command(&["token"]));
    world.asked(1);
    let waiting = spawned(&mut world.command(&["token"]));
    sleep(Duration::from_millis(300));
    assert_eq!(world.sandbox.token_requests(), 1, "the second one waits");
    kill(&holder, "KILL");
    holder.wait().unwrap();
    token_of(&Ran::from(waiting.wait_with_output().unwrap()));
    assert_eq!(world.sandbox.token_requests(), 2);
}

#[test]
fn a_stopped_run_that_asks_costs_eight_others_one_token() {
    let world = World::new();
    world.sandbox.inject(Route::Token, Fault::hang().once());
    let mut holder = spawned(&mut world.command(&["token"]));
    world.asked(1);
    kill(&holder, "STOP");
    let waiting: Vec<_> = (0..8).map(|_| spawned(&mut world.command(&["token"]))).collect();
    let runs: Vec<_> = waiting.into_iter().map(|run| Ran::from(run.wait_with_output().unwrap())).collect();
    // Before anything is asserted: a stopped process would outlive a test that fails.
    kill(&holder, "KILL");
    holder.wait().unwrap();
    assert_eq!(runs.iter().map(token_of).collect::<HashSet<_>>().len(), 1);
    assert_eq!(world.sandbox.token_requests(), 2, "that of the stopped run, and one for all others");
}
