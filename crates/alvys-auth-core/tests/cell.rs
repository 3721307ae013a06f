//! What a store keeps for one token, on a clock that is read anew after a restart of the machine.

use std::time::Duration;

use alvys_auth_core::Timestamp;
use alvys_auth_core::share::{Answer, Cell, Id, Operation, Outcome};

type Answered = Answer<String, String>;

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn id(number: u8) -> Id {
    Id::from_bytes([number; 16])
}

fn claim(owner: u8, unwanted: Option<Id>) -> Operation<String, String> {
    Operation::Claim { owner: id(owner), unwanted, lease: seconds(15) }
}

/// A token that was put there at 1,000 seconds for an hour, and a lease from 1,590 seconds on.
fn kept() -> Cell {
    let mut cell = Cell::default();
    let token = Operation::Publish {
        owner: id(1),
        replaced: None,
        generation: id(9),
        token: "sealed".to_owned(),
        lifetime: seconds(3600),
    };
    assert_eq!(cell.run(token, at(1000)).outcome, Outcome::Published);
    assert_eq!(cell.run(claim(2, Some(id(9))), at(1590)).outcome, Outcome::Claimed);
    cell
}

fn look(mut cell: Cell, now: Timestamp) -> Answered {
    cell.run(Operation::Look, now)
}

#[test]
fn a_token_keeps_its_age_and_its_end_on_another_clock() {
    let found = look(kept().restarted(at(1600), at(5000)), at(5010)).token.expect("the token");
    assert_eq!((found.age, found.left), (seconds(610), seconds(2990)));
}

#[test]
fn a_token_keeps_its_end_on_a_clock_that_is_younger_than_the_token() {
    let found = look(kept().restarted(at(1600), at(50)), at(60)).token.expect("the token");
    assert_eq!((found.age, found.left), (seconds(60), seconds(2990)), "as old as the clock at the most");
    assert!(look(kept().restarted(at(1600), at(50)), at(50 + 3000)).token.is_none(), "its hour is over");
}

#[test]
fn a_token_that_ended_before_the_restart_is_gone_after_it() {
    assert!(look(kept().restarted(at(4601), at(50)), at(50)).token.is_none());
}

#[test]
fn a_pause_goes_on_after_a_restart_and_a_lease_does_not() {
    let mut cell = kept();
    assert_eq!(look(cell.clone(), at(1600)).busy_for, seconds(5));
    assert_eq!(look(cell.clone().restarted(at(1600), at(50)), at(50)).busy_for, Duration::ZERO);
    let failure = Operation::Fail { owner: id(2), failure: "sealed".to_owned(), pause: seconds(100) };
    assert_eq!(cell.run(failure, at(1600)).outcome, Outcome::Failed);
    let (_, left) = look(cell.restarted(at(1640), at(50)), at(60)).pause.expect("the pause");
    assert_eq!(left, seconds(50));
}
