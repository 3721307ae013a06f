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
    pub(crate) waiting: Duration,
}

/// The shortest duration that a policy takes: the core counts in milliseconds.
const TICK: Duration = Duration::from_millis(1);
/// The pauses after answers that have cost a token and could not be read, from the second one on.
const COSTLY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
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
            waiting: Duration::from_secs(2),
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
    ///
    /// While a caller waits for a token, the pause is no longer than [`pause_while_waiting`](Self::pause_while_waiting).
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first.max(TICK), longest.max(first).max(TICK));
        self
    }

    /// The longest pause after a transient failure while a caller waits for a token; 2 seconds, of which a random part is
    /// taken.
    ///
    /// It decides how soon after an outage there is a token again. However many callers wait, one request is sent for all of
    /// them. A longer wait that the server asked for is obeyed.
    #[must_use]
    pub fn pause_while_waiting(mut self, longest: Duration) -> Self {
        self.waiting = longest.max(TICK);
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

    /// How long nobody asks again after `error`, which follows `before` others like it: while a token is held, and while
    /// somebody waits for one. Neither is shorter than the server says.
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
