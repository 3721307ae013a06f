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
#[must_use = "its setters give back the changed value"]
pub struct Policy {
    pub(crate) margin: Duration,
    pub(crate) default_lifetime: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) cool_down: (Duration, Duration),
    pub(crate) rejection_grace: Duration,
    pub(crate) waiting: Duration,
    pub(crate) hedge_after: Duration,
}

/// The shortest duration that a policy takes: the core counts in milliseconds.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// The pauses after answers that have cost a token and could not be read, from the second one on.
const COSTLY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// A longer limit is as good as none, and HTTP clients may fail to add it to their clocks.
const LONGEST_REQUEST: Duration = Duration::from_secs(60 * 60);

impl Policy {
    /// The defaults, each stated at its setter.
    pub const fn new() -> Self {
        Self {
            margin: Duration::from_secs(300),
            default_lifetime: Duration::from_secs(300),
            request_timeout: Duration::from_secs(10),
            backoff: (Duration::from_millis(500), Duration::from_secs(60)),
            cool_down: (Duration::from_secs(5), Duration::from_secs(300)),
            rejection_grace: Duration::from_secs(10),
            waiting: Duration::from_millis(1500),
            hedge_after: Duration::from_secs(3),
        }
    }

    /// Sets how long before its end a token is renewed; 5 minutes by default, but at most a fifth of the token's lifetime.
    ///
    /// The renewal begins at a random moment in the second half of this margin, so that the processes of a fleet do not all
    /// renew at the same time. It begins later while the server says that few token requests are left
    /// ([`low_quota`](crate::TokenResponse::low_quota)).
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// Sets the lifetime of a token when neither the answer nor the token tells it; 5 minutes by default.
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime.max(TICK);
        self
    }

    /// Sets how long one token request may take, from connecting to the last byte; 10 seconds by default, at most an hour.
    ///
    /// An attempt that has not reported its outcome after 1.5 times this time counts as lost. The next caller then starts
    /// another one.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout.clamp(TICK, LONGEST_REQUEST);
        self
    }

    /// Sets the pause after a transient failure; 500 milliseconds and 60 seconds by default.
    ///
    /// Each further failure doubles the pause, from `first` up to `longest`. The pause is a random part of that. While a
    /// caller waits for a token, it is at most [`pause_while_waiting`](Self::pause_while_waiting). A longer wait that the
    /// server asks for is obeyed.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first.max(TICK), longest.max(first).max(TICK));
        self
    }

    /// Sets the longest pause after a transient failure while a caller waits for a token; 1.5 seconds by default.
    ///
    /// The pause is a random part of it. This decides how soon after an outage there is a token again. However many callers
    /// wait, one request is sent for all of them. A longer wait that the server asks for is obeyed.
    pub fn pause_while_waiting(mut self, longest: Duration) -> Self {
        self.waiting = longest.max(TICK);
        self
    }

    /// Sets after how long without an answer a second token request is sent beside the first one; 3 seconds by default.
    ///
    /// This happens only while callers wait for a token, and once at most. The answer that arrives first is used. A request
    /// that got lost then delays the callers by 3 seconds instead of the [`request_timeout`](Self::request_timeout). The
    /// renewal of a token that is still valid gets no second request.
    pub fn hedge_after(mut self, time: Duration) -> Self {
        self.hedge_after = time.max(TICK);
        self
    }

    /// Sets the pause after a permanent failure such as wrong credentials; 5 seconds and 5 minutes by default.
    ///
    /// During the pause the failure is reported and no token request is sent. Each further failure doubles the pause, from
    /// `first` up to `longest`.
    pub fn cool_down(mut self, first: Duration, longest: Duration) -> Self {
        self.cool_down = (first.max(TICK), longest.max(first).max(TICK));
        self
    }

    /// Sets how old a token must be before a 401 of the API makes the lifecycle renew it; 10 seconds by default.
    ///
    /// A new token that was refused would be refused again: age is not the reason. Each renewal that did not help doubles
    /// this time, up to 64 times.
    pub const fn rejection_grace(mut self, grace: Duration) -> Self {
        self.rejection_grace = grace;
        self
    }

    /// The value of [`request_timeout`](Self::request_timeout). A driver must end its token request by then.
    pub const fn timeout(&self) -> Duration {
        self.request_timeout
    }

    /// The pauses after `error`, when it follows `before` errors like it: the first while nobody waits for a token, the
    /// second while a caller does. Neither is shorter than the server asks for.
    pub(crate) fn pauses(&self, error: &Error, before: u32, jitter: &mut Jitter) -> [Duration; 2] {
        let doubled = |(first, longest): (Duration, Duration), times: u32| {
            first.saturating_mul(2_u32.saturating_pow(times)).min(longest)
        };
        let [calm, waiting] = if error.has_cost_a_token() {
            // Asked for once more at once; after that each answer that cannot be read may cost another token.
            [before.checked_sub(1).map_or(TICK, |times| doubled(COSTLY, times)); 2]
        } else if error.is_retryable() {
            let (drawn, pause) = (jitter.draw(), doubled(self.backoff, before));
            [pause.mul_f64(drawn), pause.min(self.waiting).mul_f64(drawn)]
        } else {
            [doubled(self.cool_down, before); 2]
        };
        let least = error.retry_after().unwrap_or_default().max(TICK);
        [calm.max(least), waiting.max(least)]
    }

    /// How long an attempt owns the renewal without reporting back: longer than its request may take.
    pub(crate) fn lease(&self) -> Duration {
        self.request_timeout.saturating_add(self.request_timeout / 2).saturating_add(TICK)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
