//! What a lifecycle decides about the store that it shares its token through.
//!
//! An attempt goes to the store before its request and after it:
//!
//! ```text
//!           ┌─ busy: Wait ◀─┐
//!           ▼               │
//!   ──▶ Store(Claim) ───────┼─ claimed ──▶ Send ──▶ answered ──▶ Store(Publish or Fail) ──▶ Over
//!                           ├─ newer ────▶ Over, with that token
//!                           ├─ paused ───▶ Over, with that failure
//!                           └─ the store failed ──▶ Send, alone
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::share::{Answer, Id, Operation, Outcome, STORE_TIME, SharedToken};
use crate::token::attempt::{Attempt, Change, Next, Purpose, Stage};
use crate::token::lifecycle::{Failure, is_mendable};
use crate::{Error, Lifecycle, Timestamp, TokenResponse};

/// How soon a busy store is asked again: the least, and what is drawn on top. First for who has no token, then for a renewal.
const ASK_AGAIN: [(u64, f64); 2] = [(20, 80.0), (500, 500.0)];
/// How long nothing is asked of a store that has failed; doubled by each further failure.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How many entries in a row may be of no use before the store is left aside.
const USELESS: u32 = 3;
/// How often a token is offered to a store that fails.
const OFFERS: u32 = 5;
/// How many tokens that the API refused are remembered.
const REFUSED: usize = 8;

/// What is known of the store.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Who this process is there.
    owner: Id,
    /// How many tokens were given an id.
    named: u64,
    /// The id of the last token that came from there or went there: the next one is to be another.
    last: Option<Id>,
    /// Whether the API refused that token, and the store has not heard of it.
    rejected: bool,
    /// Tokens that the API refused. A store that was away, and others in its place, does not know it, and still has them.
    refused: VecDeque<Id>,
    /// Whether a person has ended the pause, which then ends for everybody.
    pause_ended: bool,
    /// When a store that has failed is asked again, and how often it failed in a row.
    rests_until: Timestamp,
    failures: u32,
    /// That it has failed, until that is told.
    untold: Option<Error>,
}

/// What an attempt has to do with the store.
#[derive(Debug, Default)]
pub(crate) struct AtStore {
    /// The token there that is of no use.
    unwanted: Option<Id>,
    /// Whether the attempt owns the lease.
    claimed: bool,
    /// Whether it was told that others ask.
    told_of_others: bool,
    /// How many entries were of no use, and then how often the token was offered.
    tries: u32,
    /// The refusal that the store is told of before the provider is asked because of it.
    refusal: Option<Error>,
    /// How the attempt has ended. It is told once the store knows it: a process that ends as soon as it has its token leaves
    /// that to the others, and no lease.
    ended: Option<Change>,
}

/// Why the store was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Reject,
    Claim,
    Publish,
    Fail,
}

impl AtStore {
    /// What there is to tell in the end: how the attempt has ended, or `otherwise` where that was told before.
    pub(super) fn end(&mut self, otherwise: Change) -> Change {
        self.ended.take().unwrap_or(otherwise)
    }
}

impl Lifecycle {
    /// Shares the token with others through a store. `owner` names this lifecycle there: give it 128 random bits of its own.
    pub fn with_store(mut self, owner: Id) -> Self {
        self.sharing = Some(Box::new(Sharing {
            owner,
            named: 0,
            last: None,
            rejected: false,
            refused: VecDeque::new(),
            pause_ended: false,
            rests_until: Timestamp::default(),
            failures: 0,
            untold: None,
        }));
        self
    }

    /// Whether the store is to be asked before a request is sent.
    pub(super) fn is_shared(&self, attempt: &Attempt, now: Timestamp) -> bool {
        let usable = |sharing: &Sharing| sharing.rests_until <= now && attempt.store.tries < USELESS;
        !attempt.store.claimed && self.sharing.as_deref().is_some_and(usable)
    }

    /// Asks the store for the right to send a request, or for the token of others.
    pub(super) fn claim(&mut self, mut attempt: Attempt, now: Timestamp) -> Next {
        let (lease, grace) = (self.policy.lease(), self.policy.rejection_grace);
        self.keep_lease(STORE_TIME, Duration::MAX, now);
        let Some(sharing) = &mut self.sharing else { return self.send(attempt, now) };
        let unwanted = attempt.store.unwanted.or(sharing.last);
        let (asked, operation) = match sharing.last.filter(|_| std::mem::take(&mut sharing.rejected)) {
            Some(generation) => (Asked::Reject, Operation::Reject { generation, grace }),
            None => (Asked::Claim, Operation::Claim { owner: sharing.owner, unwanted, lease }),
        };
        attempt.store.unwanted = unwanted;
        attempt.stage = Stage::AtStore(asked, now);
        Next::Store(attempt, Box::new(operation))
    }

    /// Goes on with what the store answered.
    pub(super) fn stored(
        &mut self,
        mut attempt: Attempt,
        (asked, asked_at): (Asked, Timestamp),
        answer: Result<Answer<TokenResponse, Error>, Error>,
        now: Timestamp,
    ) -> Next {
        let answer = match answer {
            Ok(mut answer) => {
                if let Some(found) = &mut answer.token {
                    // It has aged on its way, at the most since the store was asked.
                    found.age = found.age.saturating_add(now.saturating_duration_since(asked_at));
                }
                answer
            }
            Err(error) => {
                self.store_failed(error, now);
                return match asked {
                    Asked::Reject | Asked::Claim => self.go_on(attempt, now),
                    Asked::Publish => self.offer(attempt, now),
                    Asked::Fail => self.told(attempt, now),
                };
            }
        };
        let mut pause_ended = false;
        if let Some(sharing) = &mut self.sharing {
            (sharing.failures, sharing.rests_until) = (0, Timestamp::default());
            // It counts for the pause that is there now, or for none.
            pause_ended = asked == Asked::Claim && std::mem::take(&mut sharing.pause_ended);
        }
        match (asked, answer.outcome) {
            (Asked::Reject, _) => self.go_on(attempt, now),
            (Asked::Publish, Outcome::Lost) => {
                // Not after other credentials were taken: theirs is of the old ones.
                let found = answer.token.filter(|_| attempt.id >= self.oldest);
                let _ = found.and_then(|found| self.take(found, now));
                // What was bought is told, although another token is held now.
                Next::Over(attempt.store.end(Change::Shared))
            }
            (Asked::Publish, _) => Next::Over(attempt.store.end(Change::Shared)),
            (Asked::Fail, _) => self.told(attempt, now),
            // Others have taken over meanwhile. What they need is there, or they ask for it.
            (Asked::Claim, _) if !self.is_current(&attempt) => self.release(attempt, answer.outcome, now),
            (Asked::Claim, Outcome::Newer) => self.newer(attempt, answer.token, now),
            (Asked::Claim, Outcome::Paused) if !pause_ended => match answer.pause {
                Some((Some(failure), left)) => self.paused(attempt, failure, left, now),
                // What cannot be read counts as absent.
                _ => self.dispatch(attempt, now),
            },
            // Whoever has the lease should have been done long ago.
            (Asked::Claim, Outcome::Busy) if now >= attempt.started.saturating_add(self.policy.lease() * 2) => {
                self.dispatch(attempt, now)
            }
            (Asked::Claim, Outcome::Busy) => {
                let (least, drawn) = ASK_AGAIN[usize::from(attempt.renewal)];
                let wait = Duration::from_millis(least + (drawn * self.jitter.draw()) as u64);
                if let Some(current) = &mut self.in_flight {
                    current.renewal_awaited_until = Timestamp::default();
                }
                if !std::mem::replace(&mut attempt.store.told_of_others, true) {
                    attempt.news.push(Change::AskedByOthers);
                }
                let until = now.saturating_add(wait.min(answer.busy_for.saturating_add(Duration::from_millis(1))));
                self.wait(attempt, until, now)
            }
            (Asked::Claim, outcome) => {
                attempt.store.claimed = outcome == Outcome::Claimed;
                self.dispatch(attempt, now)
            }
        }
    }

    /// Goes on after a wait.
    pub(super) fn waited(&mut self, attempt: Attempt, asked: Asked, until: Timestamp, now: Timestamp) -> Next {
        if now < until {
            return self.wait_until(attempt, asked, until);
        }
        if asked == Asked::Publish { self.offer(attempt, now) } else { self.go_on(attempt, now) }
    }

    fn wait(&mut self, attempt: Attempt, until: Timestamp, now: Timestamp) -> Next {
        self.keep_lease(until.saturating_duration_since(now).saturating_add(STORE_TIME), Duration::MAX, now);
        self.wait_until(attempt, Asked::Claim, until)
    }

    fn wait_until(&mut self, mut attempt: Attempt, asked: Asked, until: Timestamp) -> Next {
        attempt.stage = Stage::Waiting(asked, until);
        Next::Wait(attempt, until)
    }

    fn go_on(&mut self, attempt: Attempt, now: Timestamp) -> Next {
        if self.is_current(&attempt) { self.send(attempt, now) } else { Next::Over(Change::Superseded) }
    }

    /// An attempt that nobody waits for any more gives a lease up that it was given.
    fn release(&mut self, mut attempt: Attempt, outcome: Outcome, now: Timestamp) -> Next {
        let owner = self.sharing.as_ref().filter(|_| outcome == Outcome::Claimed).map(|sharing| sharing.owner);
        let Some(owner) = owner.filter(|_| !self.has_successor(&attempt)) else {
            return Next::Over(Change::Superseded);
        };
        attempt.stage = Stage::AtStore(Asked::Fail, now);
        Next::Store(attempt, Box::new(Operation::Fail { owner, failure: given_up(), pause: Duration::ZERO }))
    }

    /// Whether another attempt of this process is on its way under the same name, and needs the lease.
    fn has_successor(&self, attempt: &Attempt) -> bool {
        attempt.id >= self.oldest && self.in_flight.is_some()
    }

    /// The store knows of the failure, or cannot be told.
    fn told(&mut self, mut attempt: Attempt, now: Timestamp) -> Next {
        attempt.store.claimed = false;
        match attempt.store.refusal.take() {
            Some(refusal) => self.ask(attempt, Some(refusal), now),
            None => Next::Over(attempt.store.end(Change::Shared)),
        }
    }

    /// The server refused the credentials. Others with the same ones hear of it before the provider is asked for better ones.
    pub(super) fn refused(&mut self, mut attempt: Attempt, refusal: Error, now: Timestamp) -> Next {
        let owner = self.sharing.as_ref().filter(|_| attempt.store.claimed).map(|sharing| sharing.owner);
        let (Some(owner), true) = (owner, self.provider.is_some() && self.is_current(&attempt)) else {
            return self.ask(attempt, Some(refusal), now);
        };
        self.keep_lease(STORE_TIME, Duration::MAX, now);
        let [_, pause] = self.policy.pauses(&refusal, 0, &mut self.jitter);
        attempt.store.refusal = Some(refusal.clone());
        attempt.stage = Stage::AtStore(Asked::Fail, now);
        Next::Store(attempt, Box::new(Operation::Fail { owner, failure: refusal, pause }))
    }

    /// There is another token at the store than the one that is not wanted.
    fn newer(&mut self, mut attempt: Attempt, found: Option<SharedToken<TokenResponse>>, now: Timestamp) -> Next {
        attempt.store.tries += 1;
        attempt.store.unwanted = found.as_ref().map(|found| found.generation);
        match found.and_then(|found| self.take(found, now)) {
            Some(change) => {
                (self.in_flight, self.failure) = (None, None);
                Next::Over(change)
            }
            None => self.send(attempt, now),
        }
    }

    /// Takes a token from the store into use, if it is of any.
    fn take(&mut self, found: SharedToken<TokenResponse>, now: Timestamp) -> Option<Change> {
        if self.sharing.as_ref().is_some_and(|sharing| sharing.refused.contains(&found.generation)) {
            return None;
        }
        let response = found.token?.under(self.request.flow())?;
        // Its margin is that of a token that was fetched then: near its end it is due at once, and not later and later.
        let obtained = now.saturating_sub(found.age);
        let token = self.token(response, Some(obtained), obtained).ok().filter(|token| now < token.expires_at())?;
        if self.discarded.as_ref().is_some_and(|discarded| discarded.is_same_as(&token)) {
            return None;
        }
        if let Some(sharing) = &mut self.sharing {
            (sharing.last, sharing.rejected) = (Some(found.generation), false);
        }
        self.held = Some(token.clone());
        Some(Change::Adopted(token))
    }

    /// The store tells of a failure of others.
    fn paused(&mut self, attempt: Attempt, error: Error, left: Duration, now: Timestamp) -> Next {
        if attempt.purpose == Purpose::Token && is_mendable(&error) {
            return self.ask(attempt, Some(error), now);
        }
        let until = now.saturating_add(left.max(Duration::from_millis(1)));
        let rows = self.failure.as_ref().map(|failure| failure.rows).unwrap_or_default();
        let failure = Failure { error: error.clone(), asked: attempt.started, until, soon: until, rows };
        self.failure = Some(Arc::new(failure));
        Next::Over(self.given_up(&attempt, Change::Paused { until, error }))
    }

    /// Tells the store what became of an attempt that has just ended with `change`.
    pub(super) fn report(&mut self, mut attempt: Attempt, change: Change, now: Timestamp) -> Next {
        let Some(sharing) = &mut self.sharing else { return Next::Over(change) };
        let owner = sharing.owner;
        let failed = match &change {
            Change::Obtained(_) | Change::Renewed(_) => {
                sharing.named += 1;
                sharing.last = Some(sharing.owner.numbered(sharing.named));
                attempt.store.tries = 0;
                attempt.store.ended = Some(change);
                return self.offer(attempt, now);
            }
            _ if !attempt.store.claimed || self.has_successor(&attempt) => return Next::Over(change),
            // What the server has answered is of interest to everybody, and so is that an answer may have cost a token. A network
            // that fails may be this machine's alone.
            Change::Paused { until, error } if error.status().is_some() || error.has_cost_a_token() => {
                let soon = self.failure.as_ref().map_or(*until, |failure| failure.soon);
                (error.clone(), soon.saturating_duration_since(now))
            }
            _ => (given_up(), Duration::ZERO),
        };
        let (failure, pause) = failed;
        attempt.store.ended = Some(change);
        attempt.stage = Stage::AtStore(Asked::Fail, now);
        Next::Store(attempt, Box::new(Operation::Fail { owner, failure, pause }))
    }

    /// Gives the held token to the others.
    fn offer(&mut self, mut attempt: Attempt, now: Timestamp) -> Next {
        if attempt.id < self.oldest {
            // Other credentials were taken, and what is held may be of them.
            return Next::Over(attempt.store.end(Change::Superseded));
        }
        let held = self.held.as_ref().map(|token| (token.response(), token.expires_in(now)));
        let (Some(sharing), Some((token, lifetime))) = (&self.sharing, held) else {
            return Next::Over(attempt.store.end(Change::Superseded));
        };
        // It may be that nothing was to be offered, or that the token was replaced meanwhile.
        let generation = sharing.last.filter(|last| *last == sharing.owner.numbered(sharing.named));
        let Some(generation) = generation.filter(|_| attempt.store.tries < OFFERS && !lifetime.is_zero()) else {
            return Next::Over(attempt.store.end(Change::Superseded));
        };
        if now < sharing.rests_until {
            attempt.news.extend(attempt.store.ended.take());
            let until = sharing.rests_until;
            return self.wait_until(attempt, Asked::Publish, until);
        }
        attempt.store.tries += 1;
        attempt.stage = Stage::AtStore(Asked::Publish, now);
        let (owner, replaced) = (sharing.owner, attempt.store.unwanted);
        Next::Store(attempt, Box::new(Operation::Publish { owner, replaced, generation, token, lifetime }))
    }

    /// The store cannot be used now. It is told once, until the store is back.
    fn store_failed(&mut self, error: Error, now: Timestamp) {
        let Some(sharing) = &mut self.sharing else { return };
        let (first, longest) = REST;
        let rest = first.saturating_mul(1 << sharing.failures.min(10)).min(longest);
        sharing.rests_until = now.saturating_add(rest);
        sharing.failures += 1;
        if sharing.failures == 1 {
            sharing.untold = Some(error);
        }
    }

    /// Lets the attempt tell that the store has failed. One that is over tells of its end; the next one does it then.
    pub(super) fn tell_store_failure(&mut self, next: &mut Next) {
        if let Some(sharing) = &mut self.sharing
            && let Next::Ask(attempt, _) | Next::Send(attempt) | Next::Store(attempt, _) | Next::Wait(attempt, _) = next
        {
            attempt.news.extend(sharing.untold.take().map(Change::StoreFailed));
        }
    }

    /// The API refused the held token, which was given up.
    pub(super) fn share_rejection(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.rejected = sharing.last.is_some();
            sharing.refused.extend(sharing.last);
            if sharing.refused.len() > REFUSED {
                sharing.refused.pop_front();
            }
        }
    }

    /// A person has ended a pause.
    pub(super) fn share_end_of_pause(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.pause_ended = true;
        }
    }

    /// Other credentials share another token.
    pub(super) fn share_anew(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            (sharing.last, sharing.rejected) = (None, false);
        }
    }
}

/// Gives the lease up, and tells of nothing.
fn given_up() -> Error {
    Error::timed_out("the attempt ended without an answer")
}
