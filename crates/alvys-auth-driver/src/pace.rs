//! Rate shaping: waiting a little before each request instead of being shut out for minutes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alvys_auth_core::{Call, Endpoint, Error, Timestamp, Token, Verdict};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::{Response, StatusCode};

use crate::limits::{Limit, RateLimits};
use crate::{Time, events};

/// The shortest wait: the clock counts in milliseconds.
const LEAST: Duration = Duration::from_millis(1);
/// How long to let those pass who are about to go, and the longest such wait, when they are late.
const STEP: Duration = Duration::from_millis(5);
const LONG_STEP: Duration = Duration::from_millis(100);

/// Who has not come again this long after the time it was told is passed by those behind, as a future that nobody polls.
const GRACE: Duration = Duration::from_secs(3);

/// With this many endpoints remembered, those whose limits have recovered are forgotten; with twice as many as were left,
/// again.
const MANY: usize = 1024;

/// Keeps the calls made with one token within [`RateLimits`]. Cheap to clone; clones share the limits.
///
/// ```
/// use alvys_auth_core::Endpoint;
/// use alvys_auth_driver::{Pace, RateLimits};
/// use http::{Method, Uri};
///
/// let pace = Pace::new(RateLimits::published());
/// let loads = Endpoint::of(&Method::GET, &Uri::from_static("https://api.alvys.com/api/p/v1/loads"));
/// assert!(pace.turn(&loads).wait().is_none(), "the first request goes at once");
/// assert!(pace.turn(&loads).wait().is_some(), "the second one does not");
/// ```
#[derive(Clone)]
pub struct Pace(Arc<Inner>);

struct Inner {
    limits: RateLimits,
    clock: DriverClock,
    token: Limiters,
    organization: Limiters,
    endpoints: Mutex<Lanes>,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, DriverClock, NoOpMiddleware<Duration>>;
type Limiters = Arc<[Limiter]>;

/// The endpoints remembered.
#[derive(Default)]
struct Lanes {
    by_name: HashMap<String, Lane>,
    left: usize,
    tickets: u64,
}

/// What is known of one endpoint.
struct Lane {
    limiters: Limiters,
    recovers_in: Duration,
    /// Who waits, in the order of arrival, and when each was told to come again.
    queue: BTreeMap<u64, Timestamp>,
    /// What each limit on the way last said to the first in the queue.
    refusals: Vec<Refusal>,
    held_until: Timestamp,
    /// The status with which the API asked for that.
    held_by: StatusCode,
    forget_at: Timestamp,
}

/// When a limit would let the next request pass, its burst being used up; those after that one pass at the even rate, or
/// later, whatever happens.
#[derive(Clone, Copy)]
struct Refusal {
    next_at: Timestamp,
    interval: Duration,
}

/// One request's way through the limits; from [`Pace::turn`].
///
/// Whoever does not ask again within three seconds of the time it was told keeps its place, but holds up nobody else.
#[must_use = "a turn holds nothing back unless it is waited for"]
pub struct Turn {
    pace: Pace,
    endpoint: Endpoint,
    ticket: u64,
    ahead: [Limiters; 3],
    passed: usize,
    asked_by: Option<StatusCode>,
}

impl Pace {
    /// Starts with unused limits.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self::with_clock(limits, DriverClock(|| Time::boot().now()))
    }

    /// Limits for another token of the same organization: they share what the organization is limited to.
    #[must_use]
    pub fn for_another_token(&self) -> Self {
        let Inner { limits, clock, organization, .. } = &*self.0;
        Self(Arc::new(Inner {
            limits: limits.clone(),
            clock: clock.clone(),
            token: limiters(&limits.token, clock),
            organization: Arc::clone(organization),
            endpoints: Mutex::default(),
        }))
    }

    fn with_clock(limits: RateLimits, clock: DriverClock) -> Self {
        Self(Arc::new(Inner {
            token: limiters(&limits.token, &clock),
            organization: limiters(&limits.organization, &clock),
            endpoints: Mutex::default(),
            limits,
            clock,
        }))
    }

    /// What the calls to `endpoint` are limited to, beside those of the token and the organization.
    #[must_use]
    pub fn limits(&self, endpoint: &Endpoint) -> &[Limit] {
        self.0.limits.of(endpoint)
    }

    /// Queues one request to `endpoint`: those who come later go later. Dropping the turn leaves the queue.
    pub fn turn(&self, endpoint: &Endpoint) -> Turn {
        let mut lanes = self.lanes();
        lanes.tickets += 1;
        let ticket = lanes.tickets;
        let lane = self.lane(&mut lanes, endpoint);
        lane.queue.insert(ticket, self.0.clock.timestamp());
        // The limit that takes longest to recover comes first, so that the shorter ones are passed when it is time.
        let ahead = [Arc::clone(&lane.limiters), Arc::clone(&self.0.organization), Arc::clone(&self.0.token)];
        Turn { pace: self.clone(), endpoint: endpoint.clone(), ticket, ahead, passed: 0, asked_by: None }
    }

    /// Draws what follows from the verdict on an answer of this status for everybody else: while the API wants to be left
    /// alone, nobody calls `endpoint`.
    pub fn heed(&self, endpoint: &Endpoint, status: StatusCode, verdict: &Verdict) {
        let wait = match verdict {
            Verdict::Repeat { after } => Some(*after),
            Verdict::Fail(error) => error.retry_after(),
        };
        let Some(wait) = wait.filter(|wait| !wait.is_zero()) else { return };
        let until = self.0.clock.timestamp().saturating_add(wait);
        let lanes = &mut self.lanes();
        let lane = self.lane(lanes, endpoint);
        if until > lane.held_until {
            lane.held_until = until;
            lane.held_by = status;
        }
        lane.forget_at = lane.forget_at.max(until);
    }

    fn lane<'a>(&self, lanes: &'a mut Lanes, endpoint: &Endpoint) -> &'a mut Lane {
        let Inner { limits, clock, token, organization, .. } = &*self.0;
        let now = clock.timestamp();
        if lanes.by_name.len() >= MANY.max(lanes.left * 2) {
            // Nor one in which somebody waits: limits that were made anew would let others pass at once.
            lanes.by_name.retain(|_, lane| lane.forget_at > now || !lane.queue.is_empty());
            lanes.left = lanes.by_name.len();
        }
        let limits = limits.of(endpoint);
        lanes.by_name.entry(endpoint.name().to_owned()).or_insert_with(|| Lane {
            limiters: limiters(limits, clock),
            recovers_in: limits.iter().map(|limit| limit.per).max().unwrap_or_default(),
            queue: BTreeMap::new(),
            refusals: vec![
                Refusal { next_at: now, interval: Duration::ZERO };
                limits.len() + organization.len() + token.len()
            ],
            held_until: now,
            held_by: StatusCode::TOO_MANY_REQUESTS,
            forget_at: now,
        })
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// How long others go before the holder of this ticket; none when it is the first in the queue.
    ///
    /// No longer than the limits make it: what is left of a burst shows only when the first one asks for it.
    fn behind(&self, ticket: u64, now: Timestamp) -> Option<Duration> {
        let mut before = self.queue.range(..ticket).filter(|(_, due)| due.saturating_add(GRACE) > now);
        let (_, &first_due) = before.next()?;
        let between = u32::try_from(before.count()).unwrap_or(u32::MAX);
        let passes_at = |limit: &Refusal| limit.next_at.saturating_add(limit.interval.saturating_mul(between));
        let until = self.refusals.iter().map(passes_at).fold(first_due, Timestamp::max);
        let late = now.saturating_duration_since(first_due);
        Some(until.saturating_duration_since(now).max((late / 4).clamp(STEP, LONG_STEP)))
    }
}

impl Turn {
    /// How long to wait before asking again; none when the request may go now.
    #[must_use = "the request may go only when this is none"]
    pub fn wait(&mut self) -> Option<Duration> {
        let now = self.pace.0.clock.timestamp();
        let wait = self.look(now);
        if let Some(lane) = self.pace.lanes().by_name.get_mut(self.endpoint.name()) {
            match wait {
                Some(wait) => lane.queue.insert(self.ticket, now.saturating_add(wait)),
                None => lane.queue.remove(&self.ticket),
            };
        }
        wait
    }

    fn look(&mut self, now: Timestamp) -> Option<Duration> {
        let Inner { clock, .. } = &*self.pace.0;
        self.asked_by = None;
        if let Some(lane) = self.pace.lanes().by_name.get_mut(self.endpoint.name()) {
            let held = lane.held_until.saturating_duration_since(now);
            if !held.is_zero() {
                self.asked_by = Some(lane.held_by);
                return Some(held);
            }
            // Only the first in the queue asks the limits.
            if let Some(wait) = lane.behind(self.ticket, now) {
                return Some(wait);
            }
            // Whatever it passes now takes as long to recover.
            lane.forget_at = lane.forget_at.max(now.saturating_add(lane.recovers_in));
        }
        for limiter in self.ahead.iter().flat_map(|limiters| limiters.iter()).skip(self.passed) {
            if let Err(refused) = limiter.check() {
                let wait = refused.wait_time_from(clock.now()).max(LEAST);
                let interval = refused.quota().replenish_interval();
                if let Some(lane) = self.pace.lanes().by_name.get_mut(self.endpoint.name()) {
                    lane.refusals[self.passed] = Refusal { next_at: now.saturating_add(wait), interval };
                }
                return Some(wait);
            }
            self.passed += 1;
        }
        None
    }

    /// The same for a call, whose patience the wait is taken out of.
    ///
    /// # Errors
    /// As [`Call::spend`].
    pub fn hold(&mut self, call: &mut Call) -> Result<Option<Duration>, Error> {
        let Some(wait) = self.wait() else { return Ok(None) };
        call.spend(wait, self.asked_by)?;
        events::shaped(&self.endpoint, wait);
        Ok(Some(wait))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(lane) = self.pace.lanes().by_name.get_mut(self.endpoint.name()) {
            lane.queue.remove(&self.ticket);
        }
    }
}

/// Judges an answer that is not delivered, says so in an event, and lets `pace` heed what it says.
pub fn judge<B: AsRef<[u8]>>(
    call: &mut Call,
    answer: &Response<B>,
    token: &Token,
    reject: impl FnOnce(&Token) -> bool,
    pace: Option<&Pace>,
) -> Verdict {
    let verdict = call.judge(answer, token, reject);
    let endpoint = call.endpoint();
    events::judged(&endpoint, answer.status(), &verdict);
    if let Some(pace) = pace {
        pace.heed(&endpoint, answer.status(), &verdict);
    }
    verdict
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.lanes().by_name.len();
        f.debug_struct("Pace").field("limits", &self.0.limits).field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("endpoint", &self.endpoint.name())
            .field("passed", &self.passed)
            .finish_non_exhaustive()
    }
}

fn limiters(limits: &[Limit], clock: &DriverClock) -> Limiters {
    let quotas =
        limits.iter().filter_map(|limit| Quota::with_period(limit.interval())?.allow_burst(limit.at_once()).into());
    quotas.map(|quota| RateLimiter::direct_with_clock(quota, clock.clone())).collect()
}

/// The drivers' clock, as the limiter wants to see it.
#[derive(Clone)]
struct DriverClock(fn() -> Timestamp);

impl DriverClock {
    fn timestamp(&self) -> Timestamp {
        (self.0)()
    }
}

impl Clock for DriverClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_millis(self.timestamp().as_millis())
    }
}
