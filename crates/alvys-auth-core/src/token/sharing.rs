//! What a lifecycle decides about the shared store, if its token is shared through one.
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

/// How soon the store is asked again while another process holds the lease: the shortest wait and the random part on
/// top, in milliseconds. First for an attempt without a held token, then for a renewal.
const ASK_AGAIN: [(u64, f64); 2] = [(20, 80.0), (500, 500.0)];
/// How long a store that has failed is not asked: after the first failure, and at most. Each further failure doubles
/// the time.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// After so many unusable entries in a row, the attempt goes on without the store.
const USELESS: u32 = 3;
/// How many times a token is offered to a store that fails.
const OFFERS: u32 = 5;
/// How many tokens that the API refused are remembered.
const REFUSED: usize = 8;

/// What the lifecycle knows of the store.
#[derive(Debug)]
pub(super) struct Sharing {
    /// The name of this lifecycle at the store.
    owner: Id,
    /// How many tokens this lifecycle has given an id.
    named: u64,
    /// The id of the last token that was taken from the store or offered to it. The next token must be another one.
    last: Option<Id>,
    /// Whether the API refused that token, and the store was not told so yet.
    rejected: bool,
    /// The ids of tokens that the API refused. A store that could not be reached at that time was not told, and may
    /// still hold them.
    refused: VecDeque<Id>,
    /// Whether a person has ended the pause. The pause at the store then ends for everybody.
    pause_ended: bool,
    /// When the store is asked again after a failure, and how many times it failed in a row.
    rests_until: Timestamp,
    failures: u32,
    /// The store's failure, until it was reported to the driver.
    untold: Option<Error>,
}

/// What an attempt knows of the store.
#[derive(Debug, Default)]
pub(crate) struct AtStore {
    /// The id of the token at the store that cannot be used.
    unwanted: Option<Id>,
    /// Whether the attempt owns the lease.
    claimed: bool,
    /// Whether the attempt has reported that another process asks for the token.
    told_of_others: bool,
    /// While the attempt claims: how many entries were unusable. While it publishes: how many times the token was
    /// offered.
    tries: u32,
    /// A refusal that the store is told first; the provider is asked after that.
    refusal: Option<Error>,
    /// How the attempt has ended. This is reported only when the store has the result. So a process that exits as soon
    /// as it has its token leaves the token to the others, and leaves no lease behind.
    ended: Option<Change>,
}

/// Which operation the store was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Reject,
    Claim,
    Publish,
    Fail,
}

impl AtStore {
    /// What the attempt reports last: how it has ended, or `otherwise` if that was reported before.
    pub(super) fn end(&mut self, otherwise: Change) -> Change {
        self.ended.take().unwrap_or(otherwise)
    }
}

impl Lifecycle {
    /// Shares the token with other processes through a store. `owner` names this lifecycle at the store: give each
    /// lifecycle 128 random bits of its own.
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

    /// Whether the store must be asked before this attempt's request is sent.
    pub(super) fn is_shared(&self, attempt: &Attempt, now: Timestamp) -> bool {
        let usable = |sharing: &Sharing| sharing.rests_until <= now && attempt.store.tries < USELESS;
        !attempt.store.claimed && self.sharing.as_deref().is_some_and(usable)
    }

    /// Asks the store for the lease, or for the token of another process.
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
        Next::Store(attempt, operation)
    }

    /// Goes on with the store's answer.
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
                    // The token grew older while the answer was on its way, at most by the time since the store was
                    // asked.
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
            // The order to end the pause counts for the pause that is there now, and for no later one.
            pause_ended = asked == Asked::Claim && std::mem::take(&mut sharing.pause_ended);
        }
        match (asked, answer.outcome) {
            (Asked::Reject, _) => self.go_on(attempt, now),
            (Asked::Publish, Outcome::Lost) => {
                // If other credentials were installed meanwhile, the token at the store belongs to the old ones and is
                // not taken.
                let found = answer.token.filter(|_| attempt.id >= self.oldest);
                let _ = found.and_then(|found| self.take(found, now));
                // The token that this attempt has bought is reported, although another token is held now.
                Next::Over(attempt.store.end(Change::Shared))
            }
            (Asked::Publish, _) => Next::Over(attempt.store.end(Change::Shared)),
            (Asked::Fail, _) => self.told(attempt, now),
            // Another attempt has taken over, and asks the store for what it needs by itself.
            (Asked::Claim, _) if !self.is_current(&attempt) => self.release(attempt, answer.outcome, now),
            (Asked::Claim, Outcome::Newer) => self.newer(attempt, answer.token, now),
            (Asked::Claim, Outcome::Paused) if !pause_ended => match answer.pause {
                Some((Some(failure), left)) => self.paused(attempt, failure, left, now),
                // A failure that cannot be read counts as absent.
                _ => self.dispatch(attempt, now),
            },
            // The process that holds the lease should have been done long ago.
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

    /// Ends an attempt that nobody waits for any more. If the store gave it the lease, it gives the lease up.
    fn release(&mut self, mut attempt: Attempt, outcome: Outcome, now: Timestamp) -> Next {
        let owner = self.sharing.as_ref().filter(|_| outcome == Outcome::Claimed).map(|sharing| sharing.owner);
        let Some(owner) = owner.filter(|_| !self.has_successor(&attempt)) else {
            return Next::Over(Change::Superseded);
        };
        attempt.stage = Stage::AtStore(Asked::Fail, now);
        Next::Store(attempt, Operation::Fail { owner, failure: given_up(), pause: Duration::ZERO })
    }

    /// Whether another attempt of this lifecycle is in flight for the same entry, and needs the lease.
    fn has_successor(&self, attempt: &Attempt) -> bool {
        attempt.id >= self.oldest && self.in_flight.is_some()
    }

    /// Goes on after the store was told of a failure, or could not be told.
    fn told(&mut self, mut attempt: Attempt, now: Timestamp) -> Next {
        attempt.store.claimed = false;
        match attempt.store.refusal.take() {
            Some(refusal) => self.ask(attempt, Some(refusal), now),
            None => Next::Over(attempt.store.end(Change::Shared)),
        }
    }

    /// Handles a refusal of the credentials. The store is told first, so that other processes with the same credentials
    /// learn of it; after that, the provider is asked for other credentials.
    pub(super) fn refused(&mut self, mut attempt: Attempt, refusal: Error, now: Timestamp) -> Next {
        let owner = self.sharing.as_ref().filter(|_| attempt.store.claimed).map(|sharing| sharing.owner);
        let (Some(owner), true) = (owner, self.provider.is_some() && self.is_current(&attempt)) else {
            return self.ask(attempt, Some(refusal), now);
        };
        self.keep_lease(STORE_TIME, Duration::MAX, now);
        let [_, pause] = self.policy.pauses(&refusal, 0, &mut self.jitter);
        attempt.store.refusal = Some(refusal.clone());
        attempt.stage = Stage::AtStore(Asked::Fail, now);
        Next::Store(attempt, Operation::Fail { owner, failure: refusal, pause })
    }

    /// Handles the answer that the store has another token than the unwanted one.
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

    /// Takes a token from the store into use. None if the token cannot be used.
    fn take(&mut self, found: SharedToken<TokenResponse>, now: Timestamp) -> Option<Change> {
        if self.sharing.as_ref().is_some_and(|sharing| sharing.refused.contains(&found.generation)) {
            return None;
        }
        let response = found.token?.under(self.request.flow())?;
        // The renewal is due when it would be due for a token that was fetched at that time. So a token near its end is
        // due at once, and its renewal is not put off each time somebody takes it.
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

    /// Handles the answer that another process has failed, and that nobody should ask now.
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
            // A failure that the server answered concerns every process, and so does an answer that may have cost a
            // token. A failure of the network may be of this machine alone, so it is not shared.
            Change::Paused { until, error } if error.status().is_some() || error.has_cost_a_token() => {
                let soon = self.failure.as_ref().map_or(*until, |failure| failure.soon);
                (error.clone(), soon.saturating_duration_since(now))
            }
            _ => (given_up(), Duration::ZERO),
        };
        let (failure, pause) = failed;
        attempt.store.ended = Some(change);
        attempt.stage = Stage::AtStore(Asked::Fail, now);
        Next::Store(attempt, Operation::Fail { owner, failure, pause })
    }

    /// Offers the held token to the other processes.
    fn offer(&mut self, mut attempt: Attempt, now: Timestamp) -> Next {
        if attempt.id < self.oldest {
            // Other credentials were installed, and the held token may belong to them.
            return Next::Over(attempt.store.end(Change::Superseded));
        }
        let held = self.held.as_ref().map(|token| (token.response(), token.expires_in(now)));
        let (Some(sharing), Some((token, lifetime))) = (&self.sharing, held) else {
            return Next::Over(attempt.store.end(Change::Superseded));
        };
        // There may be nothing to offer, or the token was replaced meanwhile.
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
        Next::Store(attempt, Operation::Publish { owner, replaced, generation, token, lifetime })
    }

    /// Notes that the store cannot be used now. This is reported once, until the store can be used again.
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

    /// Lets the attempt report that the store has failed. An attempt that is over reports its own end instead; the next
    /// attempt then reports the store's failure.
    pub(super) fn tell_of_store(&mut self, next: &mut Next) {
        if let Some(sharing) = &mut self.sharing
            && let Next::Ask(attempt, _) | Next::Send(attempt) | Next::Store(attempt, _) | Next::Wait(attempt, _) = next
        {
            attempt.news.extend(sharing.untold.take().map(Change::StoreFailed));
        }
    }

    /// Notes that the API refused the held token, so that the store is told with the next attempt.
    pub(super) fn share_rejection(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.rejected = sharing.last.is_some();
            sharing.refused.extend(sharing.last);
            if sharing.refused.len() > REFUSED {
                sharing.refused.pop_front();
            }
        }
    }

    /// Notes that a person has ended the pause, so that it ends at the store too.
    pub(super) fn share_end_of_pause(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.pause_ended = true;
        }
    }

    /// Forgets the last shared token: other credentials share another one.
    pub(super) fn share_anew(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            (sharing.last, sharing.rejected) = (None, false);
        }
    }
}

/// The failure with which an attempt gives the lease up without a pause. Nobody reads it.
fn given_up() -> Error {
    Error::timed_out("the attempt ended without an answer")
}
