//! The process that asks for the token of all is killed or stopped, at each step of its way.

use std::thread;
use std::time::Duration;

use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::eventually;

use crate::crew::{Fleet, Setup};
use crate::servers::{Program, Server, on_each_server};
use crate::way::{Manner, Way};

/// A step, and how many requests have reached the server by then, and how many are sent when the process never goes on.
const STEPS: [(&str, usize, usize); 5] = [
    ("after the claim", 0, 1),
    // The connection is there, and nothing has arrived.
    ("before sending", 0, 1),
    ("after sending", 1, 2),
    ("before publishing", 1, 2),
    ("after publishing", 1, 1),
];
const OTHERS: usize = 3;
const DRIVERS: usize = 2;

on_each_server!(that_is_killed_costs_one_request_at_most, that_is_stopped_costs_one_request_at_most);

fn that_is_killed_costs_one_request_at_most(program: &Program) {
    let server = Server::start(program, &[]);
    at_each_step(&Setup::redis(server.url()), killed);
}

fn that_is_stopped_costs_one_request_at_most(program: &Program) {
    let server = Server::start(program, &[]);
    at_each_step(&Setup::redis(server.url()), stopped);
}

#[test]
fn that_is_killed_costs_one_request_at_most_through_files() {
    at_each_step(&Setup::files(), killed);
}

#[test]
fn that_is_stopped_costs_one_request_at_most_through_files() {
    at_each_step(&Setup::files(), stopped);
}

/// Each step with each driver, side by side, each with a fleet and a server for tokens of its own.
fn at_each_step(setup: &Setup, scenario: fn(&Setup, &Step)) {
    // Leases of nine seconds.
    let setup = Setup { timeout: Duration::from_secs(6), ..setup.clone() };
    thread::scope(|scope| {
        for (name, before, in_all) in STEPS {
            for driver in 0..DRIVERS {
                let setup = &setup;
                scope.spawn(move || scenario(setup, &Step { name, driver, before, in_all }));
            }
        }
    });
}

struct Step {
    name: &'static str,
    /// Of the process that asks.
    driver: usize,
    before: usize,
    in_all: usize,
}

impl Step {
    /// A fleet whose first process is at this step, and will be for as long as it is stopped.
    fn reached(&self, setup: &Setup) -> Fleet {
        let sandbox = Sandbox::start().unwrap();
        let way = Way::to(sandbox.address().port(), Manner::Pass);
        let url = format!("http://127.0.0.1:{}/oauth/token", way.port);
        let mut fleet = Fleet::empty(setup, sandbox, url);
        fleet.join_halting(self.driver, self.name);
        fleet.join(OTHERS);
        match self.name {
            "before sending" => way.set(Manner::Swallow),
            "after sending" => fleet.sandbox.inject(Route::Token, Fault::hang().once()),
            _ => {}
        }
        fleet.tell(0..1, "token");
        match self.name {
            "before sending" => eventually("it has a connection", || way.connections() > 0),
            "after sending" => eventually("it has sent", || fleet.sandbox.token_requests() > 0),
            _ => {}
        }
        if matches!(self.name, "before sending" | "after sending") {
            fleet.worker_at(0).stop();
        }
        fleet.worker_at(0).wait_until_stopped();
        way.set(Manner::Pass);
        assert_eq!(fleet.sandbox.token_requests(), self.before, "{}", self.name);
        fleet
    }
}

fn killed(setup: &Setup, step: &Step) {
    let mut fleet = step.reached(setup);
    fleet.tell(1..OTHERS + 1, "token");
    fleet.worker_at(0).kill();
    let token = others_share(&fleet, step);
    assert_eq!(fleet.sandbox.token_requests(), step.in_all, "killed {}", step.name);
    // Who takes its place has that token.
    fleet.join(1);
    assert_eq!(fleet.need(fleet.size() - 1..fleet.size(), "token"), [Ok(token)]);
    assert_eq!(fleet.sandbox.token_requests(), step.in_all, "killed {}, and started again", step.name);
}

/// Two requests at most: its own and one of the others. What it has bought replaces no token of theirs.
fn stopped(setup: &Setup, step: &Step) {
    let mut fleet = step.reached(setup);
    let others = 1..OTHERS + 1;
    fleet.tell(others.clone(), "token");
    let token = others_share(&fleet, step);
    assert_eq!(fleet.sandbox.token_requests(), step.in_all, "stopped {}", step.name);
    fleet.worker_at(0).resume();
    assert!(fleet.answers(0..1)[0].is_ok(), "stopped {}: it fails", step.name);
    fleet.join(1);
    fleet.agree();
    assert_eq!(fleet.need(1..2, "token"), [Ok(token)], "stopped {}: what they had is not replaced", step.name);
    assert!(fleet.sandbox.token_requests() <= 2, "stopped {}, and resumed", step.name);
}

fn others_share(fleet: &Fleet, step: &Step) -> String {
    let mut answers = fleet.answers(1..OTHERS + 1);
    assert!(answers.iter().all(|answer| answer.is_ok() && *answer == answers[0]), "{}: not all have one", step.name);
    answers.remove(0).unwrap()
}
