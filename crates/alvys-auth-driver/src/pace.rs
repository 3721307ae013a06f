//! Rate shaping: waiting a little before each request instead of being shut out for minutes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alvys_auth_core::{Endpoint, Timestamp, Verdict};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::limits::{Limit, RateLimits};
use crate::now;

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
}

/// What is known of one endpoint.
struct Lane {
    limiters: Limiters,
    recovers_in: Duration,
    held_until: Timestamp,
    forget_at: Timestamp,
}

/// One request's way through the limits; from [`Pace::turn`].
#[must_use = "a turn holds nothing back unless it is waited for"]
pub struct Turn {
    pace: Pace,
    name: String,
    ahead: Vec<Limiters>,
    passed: usize,
}

impl Pace {
    /// Starts with unused limits.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self::with_clock(limits, DriverClock(now))
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

    /// Queues one request to `endpoint`.
    pub fn turn(&self, endpoint: &Endpoint) -> Turn {
        let own = Arc::clone(&self.lane(&mut self.lanes(), endpoint).limiters);
        // The limit that takes longest to recover comes first, so that the shorter ones are passed when it is time.
        let ahead = vec![own, Arc::clone(&self.0.organization), Arc::clone(&self.0.token)];
        Turn { pace: self.clone(), name: endpoint.name().to_owned(), ahead, passed: 0 }
    }

    /// Draws what follows from a verdict for everybody else: while the API wants to be left alone, nobody calls `endpoint`.
    pub fn heed(&self, endpoint: &Endpoint, verdict: &Verdict) {
        let wait = match verdict {
            Verdict::Repeat { after } => Some(*after),
            Verdict::Fail(error) => error.retry_after(),
        };
        let Some(wait) = wait.filter(|wait| !wait.is_zero()) else { return };
        let until = self.0.clock.timestamp().saturating_add(wait);
        let lanes = &mut self.lanes();
        let lane = self.lane(lanes, endpoint);
        lane.held_until = lane.held_until.max(until);
        lane.forget_at = lane.forget_at.max(until);
    }

    fn lane<'a>(&self, lanes: &'a mut Lanes, endpoint: &Endpoint) -> &'a mut Lane {
        let Inner { limits, clock, .. } = &*self.0;
        let now = clock.timestamp();
        if lanes.by_name.len() >= MANY.max(lanes.left * 2) {
            // Nor one in which somebody waits: limits that were made anew would let others pass at once.
            lanes.by_name.retain(|_, lane| lane.forget_at > now || Arc::strong_count(&lane.limiters) > 1);
            lanes.left = lanes.by_name.len();
        }
        let limits = limits.of(endpoint);
        lanes.by_name.entry(endpoint.name().to_owned()).or_insert_with(|| Lane {
            limiters: limiters(limits, clock),
            recovers_in: limits.iter().map(|limit| limit.per).max().unwrap_or_default(),
            held_until: now,
            forget_at: now,
        })
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.0.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// How long to wait before asking again; none when the request may go now.
    #[must_use = "the request may go only when this is none"]
    pub fn wait(&mut self) -> Option<Duration> {
        let clock = &self.pace.0.clock;
        let now = clock.timestamp();
        if let Some(lane) = self.pace.lanes().by_name.get_mut(&self.name) {
            let held = lane.held_until.saturating_duration_since(now);
            if !held.is_zero() {
                return Some(held);
            }
            // Whatever it passes now takes as long to recover.
            lane.forget_at = lane.forget_at.max(now.saturating_add(lane.recovers_in));
        }
        for limiter in self.ahead.iter().flat_map(|limiters| limiters.iter()).skip(self.passed) {
            if let Err(refused) = limiter.check() {
                return Some(refused.wait_time_from(clock.now()).max(Duration::from_millis(1)));
            }
            self.passed += 1;
        }
        None
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.lanes().by_name.len();
        f.debug_struct("Pace").field("limits", &self.0.limits).field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("endpoint", &self.name).field("passed", &self.passed).finish_non_exhaustive()
    }
}

fn limiters(limits: &[Limit], clock: &DriverClock) -> Limiters {
    let quotas =
        limits.iter().filter_map(|limit| Quota::with_period(limit.interval())?.allow_burst(limit.burst).into());
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
