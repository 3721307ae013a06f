//! The rate limits of the API: the published ones, or those that a test sets.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How many API requests are allowed before the server answers 429.
///
/// ```
/// use alvys_auth_sandbox::{RateLimits, Sandbox};
///
/// let sandbox = Sandbox::start()?;
/// sandbox.limit_rates(RateLimits::published().per_token(2));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing until the sandbox is given them"]
pub struct RateLimits {
    per_token: u32,
    per_organization: u32,
    per_endpoint: u32,
    first_second: u32,
    per_list: u32,
    window: Duration,
    block: Duration,
}

impl RateLimits {
    /// The published limits: 10 requests a second with one token, 50 a second for one organization,
    /// 10 a minute at one endpoint, only 1 of them in the first second, and 5 a minute at one list.
    /// An endpoint whose limit was exceeded is blocked for three minutes.
    pub fn published() -> Self {
        Self {
            per_token: 10,
            per_organization: 50,
            per_endpoint: 10,
            first_second: 1,
            per_list: 5,
            window: Duration::from_secs(60),
            block: Duration::from_secs(180),
        }
    }

    /// Sets how many requests a second are allowed with one token.
    pub fn per_token(mut self, requests: u32) -> Self {
        self.per_token = requests;
        self
    }

    /// Sets how many requests a second are allowed for all applications of one tenant together.
    pub fn per_organization(mut self, requests: u32) -> Self {
        self.per_organization = requests;
        self
    }

    /// Sets how many requests one tenant may send to one endpoint in a window, except for lists.
    pub fn per_endpoint(mut self, requests: u32) -> Self {
        self.per_endpoint = requests;
        self
    }

    /// Sets how many of these requests are allowed in the first sixtieth of the window, which is the
    /// first second of a minute. Lists have no such limit.
    pub fn first_second(mut self, requests: u32) -> Self {
        self.first_second = requests;
        self
    }

    /// Sets how many requests one tenant may send to one list or search in a window.
    pub fn per_list(mut self, requests: u32) -> Self {
        self.per_list = requests;
        self
    }

    /// Sets the length of the window for endpoints and lists.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long an endpoint is blocked after its limit was exceeded.
    pub fn block(mut self, block: Duration) -> Self {
        self.block = block;
        self
    }
}

/// Counts requests and says when there are too many.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: RateLimits,
    counters: HashMap<Subject, Counter>,
}

impl Meter {
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self { limits, counters: HashMap::new() }
    }

    /// Counts one request. If it is one too many, the error is how long to wait.
    pub(crate) fn count(
        &mut self,
        token: &str,
        tenant: &str,
        endpoint: &Endpoint,
        now: Instant,
    ) -> Result<(), Duration> {
        let limits = self.limits;
        let quota = if endpoint.list {
            Quota { most: limits.per_list, early: limits.per_list, window: limits.window, block: limits.block }
        } else {
            Quota { most: limits.per_endpoint, early: limits.first_second, window: limits.window, block: limits.block }
        };
        self.forget_the_past(now);
        self.hit(Subject::Token(token.to_owned()), Quota::a_second(limits.per_token), now)?;
        self.hit(Subject::Organization(tenant.to_owned()), Quota::a_second(limits.per_organization), now)?;
        self.hit(Subject::Endpoint(tenant.to_owned(), endpoint.clone()), quota, now)
    }

    fn hit(&mut self, subject: Subject, quota: Quota, now: Instant) -> Result<(), Duration> {
        let opened = Counter { used: 0, since: now, lasts: quota.window, blocked: false };
        let counter = self.counters.entry(subject).or_insert(opened);
        if counter.rest(now).is_zero() {
            *counter = opened;
        }
        if counter.blocked {
            return Err(counter.rest(now));
        }
        let is_early = now.saturating_duration_since(counter.since) < quota.window / 60;
        let most = if is_early { quota.most.min(quota.early) } else { quota.most };
        if counter.used >= most {
            *counter = Counter { lasts: quota.block, blocked: true, ..opened };
            return Err(quota.block);
        }
        counter.used += 1;
        Ok(())
    }

    /// Removes old entries, so that many tokens do not make the table large.
    fn forget_the_past(&mut self, now: Instant) {
        if self.counters.len() > 1024 {
            self.counters.retain(|_, counter| !counter.rest(now).is_zero());
        }
    }
}

/// How many requests are allowed in a window, how many of them in its first sixtieth, and how long
/// the block lasts after that.
#[derive(Clone, Copy, Debug)]
struct Quota {
    most: u32,
    early: u32,
    window: Duration,
    block: Duration,
}

impl Quota {
    fn a_second(most: u32) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        Self { most, early: most, window: SECOND, block: SECOND }
    }
}

/// The endpoint that a request is counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) list: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Subject {
    Token(String),
    Organization(String),
    Endpoint(String, Endpoint),
}

/// The count of requests in a window, or in the block after it.
#[derive(Clone, Copy, Debug)]
struct Counter {
    used: u32,
    since: Instant,
    lasts: Duration,
    blocked: bool,
}

impl Counter {
    /// How much longer the window or the block lasts.
    fn rest(&self, now: Instant) -> Duration {
        self.lasts.saturating_sub(now.saturating_duration_since(self.since))
    }
}
