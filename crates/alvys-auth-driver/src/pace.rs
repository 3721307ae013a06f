//! Rate limits that many callers share: a [`Limiter`] behind a lock, with a clock and a bell.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alvys_auth_core::share::{Operation, Outcome, claim_wait, tell_wait, told_wait};
use alvys_auth_core::{Endpoint, Hold, Limit, Limiter, RateLimits, Ticket, Timestamp, Verdict};
use event_listener::EventListener;
use http::StatusCode;

use crate::sharing::Shared as Told;
use crate::{Bell, Time, Waits, engine};

/// Keeps the calls made with one token within [`RateLimits`]. Cheap to clone; clones share the limits.
///
/// ```
/// use alvys_auth_core::{Endpoint, RateLimits};
/// use alvys_auth_driver::Pace;
/// use http::{Method, Uri};
///
/// let pace = Pace::new(RateLimits::published());
/// let loads = Endpoint::of(&Method::GET, &Uri::from_static("https://api.alvys.com/api/p/v1/loads"));
/// assert!(pace.turn(&loads).wait().is_none(), "the first request goes at once");
/// assert!(pace.turn(&loads).wait().is_some(), "the second one a second later");
/// ```
#[derive(Clone)]
pub struct Pace {
    shared: Arc<Shared>,
    token: u64,
    /// Tells other processes of the waits that the API asks for, and learns of the waits that they were asked for.
    waits: Option<Arc<dyn Waits>>,
}

struct Shared {
    limiter: Mutex<(Limiter, u64)>,
    time: Time,
    bell: Bell,
}

/// A call's turn within the limits; from [`Pace::turn`]. If it is dropped before the call may go, the call leaves the
/// queue.
#[must_use = "a turn holds nothing back unless it is waited for"]
pub struct Turn {
    pace: Pace,
    ticket: Ticket,
}

impl Pace {
    /// Starts with unused limits, by the system's clock.
    pub fn new(limits: RateLimits) -> Self {
        Self::with_clock(limits, Time::boot())
    }

    /// Starts with unused limits, by another clock, such as a [`ManualClock`](crate::ManualClock) in tests.
    pub fn with_clock(limits: RateLimits, clock: impl Into<Time>) -> Self {
        let time = clock.into();
        let (limiter, bell) = (Mutex::new((Limiter::new(limits), 0)), time.bell());
        Self { shared: Arc::new(Shared { limiter, time, bell }), token: 0, waits: None }
    }

    /// Makes the limits for another token of the same organization. The limits of the organization are shared.
    pub fn for_another_token(&self) -> Self {
        let (_, tokens) = &mut *self.lock();
        *tokens += 1;
        Self { shared: Arc::clone(&self.shared), token: *tokens, waits: None }
    }

    /// The limits of calls to `endpoint`, apart from the limits of the token and the organization.
    pub fn limits(&self, endpoint: &Endpoint) -> Vec<Limit> {
        self.lock().0.limits().of(endpoint).to_vec()
    }

    /// Whether this pace says no more than a new one would: no call counts any more, nobody waits, and no clone of it
    /// exists.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.shared) == 1 && self.lock().0.is_idle(self.time().now())
    }

    /// Shares the waits that the API asks for with all processes that share the token through the store of its source.
    /// A client does this by itself when its source has a store.
    ///
    /// The first call to an endpoint waits for a look at the store. Later looks run beside the calls, at most once a
    /// second.
    #[must_use]
    pub fn sharing(mut self, waits: Option<Arc<dyn Waits>>) -> Self {
        self.waits = waits;
        self
    }

    /// Queues one call to `endpoint`. Calls to an endpoint go in the order in which they queued.
    pub fn turn(&self, endpoint: &Endpoint) -> Turn {
        self.look(endpoint);
        let ticket = self.lock().0.queue(self.token, endpoint, self.time().now());
        Turn { pace: self.clone(), ticket }
    }

    /// Looks at the waits of other processes, if such a look is due.
    fn look(&self, endpoint: &Endpoint) {
        let Some(waits) = &self.waits else { return };
        if !self.lock().0.look(self.token, endpoint, self.time().now()) {
            return;
        }
        let (this, called) = (self.clone(), endpoint.clone());
        let told = move |answer: Told| {
            let told = answer.ok().as_ref().and_then(told_wait);
            this.lock().0.looked(this.token, &called, told, this.time().now());
            this.bell().ring();
        };
        waits.begin(endpoint, Operation::Look, false, Box::new(told));
    }

    /// Takes in the verdict on an answer for all other calls: while the API asks to be left alone, nobody calls
    /// `endpoint`.
    pub(crate) fn heed(&self, endpoint: &Endpoint, status: StatusCode, verdict: &Verdict, now: Timestamp) {
        let wait = self.lock().0.heed(self.token, endpoint, status, verdict, now);
        let (Some(wait), Some(waits)) = (wait, &self.waits) else { return };
        let (owner, telling, called) = (engine::id(), Arc::clone(waits), endpoint.clone());
        let claimed = move |answer: Told| {
            if answer.is_ok_and(|answer| answer.outcome == Outcome::Claimed) {
                telling.begin(&called, tell_wait(owner, status, wait), true, Box::new(drop));
            }
        };
        waits.begin(endpoint, claim_wait(owner), true, Box::new(claimed));
    }

    /// The clock.
    pub fn time(&self) -> &Time {
        &self.shared.time
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.shared.bell
    }

    /// The limiter, and how many tokens have been numbered.
    fn lock(&self) -> MutexGuard<'_, (Limiter, u64)> {
        self.shared.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// How long to wait before asking again; none when the call may go now.
    #[must_use = "the call may go only when this is none"]
    pub fn wait(&mut self) -> Option<Duration> {
        Some(self.ask()?.ask_at.saturating_duration_since(self.pace.time().now()).max(Duration::from_millis(1)))
    }

    /// Whether the call is held back, and until when; none when it may go now.
    #[must_use = "the call may go only when this is none"]
    pub fn ask(&mut self) -> Option<Hold> {
        self.pace.lock().0.ask(self.ticket, self.pace.time().now())
    }

    /// Begins to listen for other calls that leave the queue. Call this before [`ask`](Self::ask), so that none is
    /// missed.
    pub fn listen(&self) -> EventListener {
        self.pace.bell().listen()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let others_wait = self.pace.lock().0.leave(self.ticket);
        if others_wait {
            self.pace.bell().ring();
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limiter, _) = &*self.lock();
        let (limits, endpoints) = (limiter.limits(), limiter.endpoints());
        f.debug_struct("Pace").field("limits", limits).field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
