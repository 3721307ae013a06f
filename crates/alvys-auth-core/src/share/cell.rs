//! One shared token as a store keeps it: the five operations as plain state that takes the time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::share::operation::{Answer, Id, Operation, Outcome, SharedToken};

/// What a store keeps for one token: the token, the lease and the pause, each with its end on the store's clock.
///
/// It defines what each [`Operation`] means. A store in memory or in a file runs this code under a lock. A store that
/// is a server of its own must behave in the same way.
///
/// ```
/// use std::time::Duration;
///
/// use alvys_auth_core::Timestamp;
/// use alvys_auth_core::share::{Cell, Id, Operation, Outcome};
///
/// let (mut cell, now) = (Cell::default(), Timestamp::from_millis(0));
/// let [first, second] = [Id::from_bytes([1; 16]), Id::from_bytes([2; 16])];
/// let claim = |owner| Operation::Claim { owner, unwanted: None, lease: Duration::from_secs(15) };
/// assert_eq!(cell.run(claim(first), now).outcome, Outcome::Claimed);
/// assert_eq!(cell.run(claim(second), now).outcome, Outcome::Busy);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    token: Option<Kept>,
    lease: Option<Lease>,
    pause: Option<Pause>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    generation: Id,
    sealed: String,
    from: Timestamp,
    until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    owner: Id,
    until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pause {
    sealed: String,
    until: Timestamp,
}

impl Cell {
    /// Carries an operation out, and says what is there afterwards.
    pub fn run(&mut self, operation: Operation<String, String>, now: Timestamp) -> Answer<String, String> {
        self.end(now);
        let outcome = match operation {
            Operation::Look => Outcome::Seen,
            Operation::Claim { owner, unwanted, lease } => self.claim(owner, unwanted, now.saturating_add(lease)),
            Operation::Publish { owner, replaced, generation, token, lifetime } => {
                let until = now.saturating_add(lifetime);
                self.publish(owner, replaced, Kept { generation, sealed: token, from: now, until })
            }
            Operation::Fail { owner, failure, pause } => self.fail(owner, failure, now.saturating_add(pause)),
            Operation::Reject { generation, grace } => self.reject(generation, grace, now),
        };
        self.end(now);
        self.answer(outcome, now)
    }

    /// When the last of the token, the lease and the pause ends; none when there is none of them.
    pub fn ends(&self) -> Option<Timestamp> {
        let ends = [
            self.token.as_ref().map(|token| token.until),
            self.lease.as_ref().map(|lease| lease.until),
            self.pause.as_ref().map(|pause| pause.until),
        ];
        ends.into_iter().flatten().max()
    }

    /// Moves the cell to another clock, which shows `to` when this one shows `from`. The lease is dropped, because
    /// after a restart of the machine no process is left that could hold it.
    pub fn restarted(mut self, from: Timestamp, to: Timestamp) -> Self {
        let moved = |time: &mut Timestamp| {
            let left = time.saturating_duration_since(from);
            *time = to.saturating_add(left).saturating_sub(from.saturating_duration_since(*time));
        };
        if let Some(token) = &mut self.token {
            moved(&mut token.from);
            moved(&mut token.until);
        }
        if let Some(pause) = &mut self.pause {
            moved(&mut pause.until);
        }
        self.lease = None;
        self
    }

    fn claim(&mut self, owner: Id, unwanted: Option<Id>, until: Timestamp) -> Outcome {
        if self.token.as_ref().is_some_and(|token| Some(token.generation) != unwanted) {
            Outcome::Newer
        } else if self.pause.is_some() {
            Outcome::Paused
        } else if self.lease.as_ref().is_some_and(|lease| lease.owner != owner) {
            Outcome::Busy
        } else {
            self.lease = Some(Lease { owner, until });
            Outcome::Claimed
        }
    }

    fn publish(&mut self, owner: Id, replaced: Option<Id>, token: Kept) -> Outcome {
        let held = self.token.as_ref().map(|held| held.generation);
        let accepted = match &self.lease {
            Some(lease) => lease.owner == owner || held.is_none(),
            None => held.is_none() || held == replaced,
        };
        if !accepted {
            return Outcome::Lost;
        }
        self.token = Some(token);
        self.pause = None;
        self.lease.take_if(|lease| lease.owner == owner);
        Outcome::Published
    }

    fn fail(&mut self, owner: Id, sealed: String, until: Timestamp) -> Outcome {
        if self.lease.take_if(|lease| lease.owner == owner).is_none() {
            return Outcome::Lost;
        }
        if self.pause.as_ref().is_none_or(|pause| pause.until < until) {
            self.pause = Some(Pause { sealed, until });
        }
        Outcome::Failed
    }

    fn reject(&mut self, generation: Id, grace: Duration, now: Timestamp) -> Outcome {
        match &self.token {
            Some(token) if token.generation == generation => {
                if now < token.from.saturating_add(grace) {
                    return Outcome::Young;
                }
                self.token = None;
                Outcome::Rejected
            }
            _ => Outcome::Newer,
        }
    }

    fn end(&mut self, now: Timestamp) {
        self.token.take_if(|token| token.until <= now);
        self.lease.take_if(|lease| lease.until <= now);
        self.pause.take_if(|pause| pause.until <= now);
    }

    fn answer(&self, outcome: Outcome, now: Timestamp) -> Answer<String, String> {
        let left = |until: Timestamp| until.saturating_duration_since(now);
        Answer {
            outcome,
            token: self.token.as_ref().map(|token| SharedToken {
                generation: token.generation,
                age: now.saturating_duration_since(token.from),
                left: left(token.until),
                token: Some(token.sealed.clone()),
            }),
            busy_for: self.lease.as_ref().map(|lease| left(lease.until)).unwrap_or_default(),
            pause: self.pause.as_ref().map(|pause| (Some(pause.sealed.clone()), left(pause.until))),
        }
    }
}
