//! The durations that decide when to renew, how long to wait and when to try again.

use std::time::Duration;

use crate::Error;
use crate::jitter::Jitter;

/// How long a [`Lifecycle`](crate::Lifecycle) keeps, renews and waits. The defaults suit production.
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
/// A longer limit is as good as none, and HTTP clients may fail to add it to their clocks.
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

    /// Sets how long before its end a token is renewed; 5 minutes by default, but at most a fifth of the token's lifetime.
    ///
    /// The renewal begins at a random moment in the second half of this margin, so that the processes of a fleet do not all
    /// renew at the same time.
    #[must_use]
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// Sets the lifetime of a token when neither the answer nor the token tells it; 5 minutes by default.
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime.max(TICK);
        self
    }

    /// Sets how long one token request may take, from connecting to the last byte; 10 seconds by default, at most an hour.
    ///
    /// An attempt that has not reported its outcome after 1.5 times this time counts as lost. The next caller then starts
    /// another one.
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

    /// Sets the pause after a permanent failure such as wrong credentials; 5 seconds and 5 minutes by default.
    ///
    /// During the pause the failure is reported and no token request is sent. Each further failure doubles the pause, from
    /// `first` up to `longest`.
    #[must_use]
    pub fn cool_down(mut self, first: Duration, longest: Duration) -> Self {
        self.cool_down = (first.max(TICK), longest.max(first).max(TICK));
        self
    }

    /// Sets how old a token must be before a 401 of the API makes the lifecycle renew it; 10 seconds by default.
    ///
    /// A new token that was refused would be refused again: age is not the reason. Each renewal that did not help doubles
    /// this time, up to 64 times.
    #[must_use]
    pub const fn rejection_grace(mut self, grace: Duration) -> Self {
        self.rejection_grace = grace;
        self
    }

    /// The value of [`request_timeout`](Self::request_timeout). A driver must end its token request by then.
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
