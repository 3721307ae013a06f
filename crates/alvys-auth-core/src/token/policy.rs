//! The durations that decide when to renew, how long to wait and when to try again.

use std::time::Duration;

use crate::Error;
use crate::jitter::Jitter;

/// How a [`Lifecycle`](crate::Lifecycle) behaves over time. The defaults suit production.
///
/// ```
/// use alvys_auth_core::Policy;
/// use std::time::Duration;
///
/// let policy = Policy::new().margin(Duration::from_secs(120)).request_timeout(Duration::from_secs(5));
/// assert_eq!(policy.timeout(), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(crate) margin: Duration,
    pub(crate) default_lifetime: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) cool_down: (Duration, Duration),
    pub(crate) rejection_grace: Duration,
}

/// The shortest duration that a policy takes: the core counts in milliseconds.
const TICK: Duration = Duration::from_millis(1);
/// Beyond this a limit is none, and HTTP clients may fail to add it to their clocks.
const LONGEST_REQUEST: Duration = Duration::from_secs(60 * 60);

impl Policy {
    /// The defaults, each stated at its setter.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            margin: Duration::from_secs(300),
            default_lifetime: Duration::from_secs(300),
            request_timeout: Duration::from_secs(10),
            backoff: (Duration::from_millis(500), Duration::from_secs(60)),
            cool_down: (Duration::from_secs(5), Duration::from_secs(300)),
            rejection_grace: Duration::from_secs(10),
        }
    }

    /// How long before its end a token is renewed; 5 minutes.
    ///
    /// Never more than a fifth of the token's lifetime. The exact moment is drawn once per token from the later half of
    /// the margin, so that a fleet does not renew all at once.
    #[must_use]
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// How long a token is taken to live when neither the answer nor the token says so; 5 minutes.
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime.max(TICK);
        self
    }

    /// How long one token request may take, from connecting to the last byte; 10 seconds, at most an hour.
    ///
    /// An attempt that has reported nothing after half as long again counts as lost, and the next caller starts another.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout.clamp(TICK, LONGEST_REQUEST);
        self
    }

    /// The pause after a transient failure: `first`, doubled by each further failure up to `longest`, and of that a random
    /// part; 500 milliseconds and 60 seconds. A longer wait that the server asked for is obeyed.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first.max(TICK), longest.max(first).max(TICK));
        self
    }

    /// How long a permanent failure, such as wrong credentials, is reported without asking again: `first`, doubled by
    /// each further failure up to `longest`; 5 seconds and 5 minutes.
    #[must_use]
    pub fn cool_down(mut self, first: Duration, longest: Duration) -> Self {
        self.cool_down = (first.max(TICK), longest.max(first).max(TICK));
        self
    }

    /// How old a token must be before a 401 of the API is taken as a reason to renew it; 10 seconds.
    ///
    /// A newer one was refused for another reason than its age. Doubled by each renewal that did not help, up to 64 fold.
    #[must_use]
    pub const fn rejection_grace(mut self, grace: Duration) -> Self {
        self.rejection_grace = grace;
        self
    }

    /// What [`request_timeout`](Self::request_timeout) is set to; a driver ends its request by then.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.request_timeout
    }

    /// How long nobody asks again after `error`, which follows `before` others: no shorter than the server says.
    pub(crate) fn pause(&self, error: &Error, before: u32, jitter: &mut Jitter) -> Duration {
        let doubled =
            |(first, longest): (Duration, Duration)| first.saturating_mul(2_u32.saturating_pow(before)).min(longest);
        let pause =
            if error.is_retryable() { doubled(self.backoff).mul_f64(jitter.draw()) } else { doubled(self.cool_down) };
        pause.max(error.retry_after().unwrap_or_default()).max(TICK)
    }

    /// How long an attempt owns the refresh without reporting back: longer than its request may take.
    pub(crate) fn lease(&self) -> Duration {
        self.request_timeout.saturating_add(self.request_timeout / 2).saturating_add(TICK)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
