//! Fifty processes that need a token at the same moment.

use std::time::Duration;

use alvys_auth_sandbox::{Fault, Route};
use alvys_auth_tests::eventually;

use crate::crew::{Fleet, Setup};
use crate::servers::{Program, Server, on_each_server};

const FIFTY: usize = 50;
const HOUR: Duration = Duration::from_secs(3600);

on_each_server!(buy_one_token_each_time_they_need_one);

fn buy_one_token_each_time_they_need_one(program: &Program) {
    let server = Server::start(program, &[]);
    buy_one_token_each_time(&Setup::redis(server.url()));
}

#[test]
fn buy_one_token_through_files_each_time_they_need_one() {
    buy_one_token_each_time(&Setup::files());
}

fn buy_one_token_each_time(setup: &Setup) {
    let mut fleet = Fleet::start(setup, FIFTY);
    let first = fleet.all_share("token", 1, "nobody has one");
    assert_eq!(fleet.all_share("token", 0, "everybody has one"), first);
    assert_ne!(fleet.all_are_refused(1, "the API answers 401 to all"), first);

    // One of them buys a token that ends soon. The others have it too, or the next one, if they are as slow as that.
    let before = fleet.sandbox.token_requests();
    fleet.sandbox.set_lifetime(Duration::from_secs(5));
    fleet.sandbox.reject_tokens();
    let ends_soon = fleet.need(0..1, "refused").remove(0).unwrap();
    fleet.sandbox.set_lifetime(HOUR);
    fleet.all("refused");
    eventually("the token ends", || fleet.api_refuses(&ends_soon));
    eventually("everybody has the next one", || fleet.all("token").0.iter().all(|token| *token != ends_soon));
    fleet.agree();
    assert_eq!(fleet.sandbox.token_requests() - before, 2, "one token that ends soon, and one at its end");

    fleet.sandbox.rotate_secret(fleet.sandbox.application().client_id(), "the next secret");
    fleet.write_secret("the next secret");
    fleet.all_share("token", 0, "the secret is rotated, and the token still good");
    fleet.all_are_refused(1, "the secret is rotated");

    let wait = Duration::from_secs(3);
    fleet.sandbox.inject(Route::Token, Fault::status(429).retry_after(wait).once());
    fleet.all_are_refused(2, "one is told to wait, and then one asks");
    let asked: Vec<_> =
        fleet.sandbox.requests().iter().filter(|one| one.path() == "/oauth/token").map(|one| one.at()).collect();
    assert!(asked[asked.len() - 1] - asked[asked.len() - 2] >= wait, "nobody asks before the end of the wait");

    fleet.sandbox.inject(Route::Token, Fault::status(429).retry_after(HOUR).once());
    fail_alike(&mut fleet, "RateLimited");
}

/// All of them need a token, one asks, and everybody has the failure.
fn fail_alike(fleet: &mut Fleet, kind: &str) {
    let before = fleet.sandbox.token_requests();
    fleet.sandbox.reject_tokens();
    let answers = fleet.need(0..FIFTY, "refused");
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|failed| failed == kind)), "{answers:?}");
    assert_eq!(fleet.sandbox.token_requests() - before, 1, "one is told {kind}, and nobody asks again");
}

#[test]
fn with_a_wrong_secret_ask_once() {
    let mut fleet = Fleet::start(&Setup::files(), FIFTY);
    fleet.all_share("token", 1, "nobody has one");
    fleet.write_secret("a wrong secret");
    fail_alike(&mut fleet, "Credentials");
}
