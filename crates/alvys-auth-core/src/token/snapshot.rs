//! What is known of a token without polling the lifecycle: for readers on the hot path and for health endpoints.

use std::sync::Arc;
use std::time::Duration;

use crate::token::lifecycle::Failure;
use crate::{Error, Quota, Timestamp, Token};

/// A copy of a lifecycle's state, for a driver to publish to its readers.
///
/// ```
/// use alvys_auth_core::{Credentials, Flow, TokenResponse, Lifecycle, Policy, Timestamp, TokenRequest};
/// use std::time::Duration;
///
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let mut lifecycle = Lifecycle::new(request, Policy::new(), 0);
/// let now = Timestamp::from_millis(0);
/// assert!(lifecycle.snapshot().usable(now).is_none());
///
/// lifecycle.adopt(TokenResponse::new("an.access.token", Duration::from_secs(3600), "")?, now);
/// let snapshot = lifecycle.snapshot();
/// assert!(snapshot.usable(now).is_some());
/// assert_eq!(snapshot.status(now).expires_in, Some(Duration::from_secs(3600)));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) token: Option<Token>,
    pub(crate) usable_until: Timestamp,
    pub(crate) in_flight: bool,
    pub(crate) failure: Option<Arc<Failure>>,
}

impl Snapshot {
    /// The state of a source that holds `token` and has nothing to do.
    pub fn holding(token: Token) -> Self {
        Self { usable_until: token.expires_at(), token: Some(token), ..Self::default() }
    }

    /// The token that may be used at `now` without polling; none when the lifecycle must be polled.
    #[inline]
    pub fn usable(&self, now: Timestamp) -> Option<&Token> {
        self.token.as_ref().filter(|_| now < self.usable_until)
    }

    /// The token that may be lent at `now` although its renewal is due, if a worker will renew it.
    ///
    /// None in the last quarter of the time between the due renewal and the token's expiry. In that quarter a caller
    /// renews the token, because no worker has done so.
    pub fn deferrable(&self, now: Timestamp) -> Option<&Token> {
        self.token.as_ref().filter(|token| {
            let window = token.expires_at().saturating_duration_since(token.renewal_at());
            now.saturating_add(window / 4) < token.expires_at()
        })
    }

    /// The state at `now` in plain values.
    pub fn status(&self, now: Timestamp) -> Status {
        let left = |until: Timestamp| Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero());
        let expires_in = self.token.as_ref().and_then(|token| left(token.expires_at()));
        let failure = self.failure.as_deref();
        Status {
            expires_in,
            in_flight: self.in_flight,
            paused_for: failure
                .and_then(|failure| left(if expires_in.is_some() { failure.until } else { failure.soon })),
            last_error: failure.map(|failure| failure.error.clone()),
            low_quota: self.token.as_ref().and_then(|token| {
                let quota = token.low_quota()?;
                let resets_in = left(token.obtained_at()?.saturating_add(quota.resets_in))?;
                Some(Quota { resets_in, ..quota })
            }),
        }
    }
}

/// The state of a token source at one moment, for health endpoints and metrics. Holds no secret.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// How long the held token may still be used; none when none is held.
    pub expires_in: Option<Duration>,
    /// Whether a token request is on its way.
    pub in_flight: bool,
    /// How long no token request is sent because of the last failure; none when requests are allowed.
    pub paused_for: Option<Duration>,
    /// The last failure, until a token arrives.
    pub last_error: Option<Error>,
    /// The server's quota of token requests, if the server said with the held token that little is left. Renewals that
    /// can wait are put off then.
    pub low_quota: Option<Quota>,
}

impl Status {
    /// Whether a usable token is held.
    pub fn is_ready(&self) -> bool {
        self.expires_in.is_some()
    }
    /// The state in one word, for logs and metrics:
    ///
    /// - `ready`: a usable token is held, and no request is on its way;
    /// - `renewing`: a usable token is held, and a request for the next one is on its way;
    /// - `fetching`: no usable token is held, and a request for one is on its way;
    /// - `paused`: no usable token is held, and none is asked for until the pause after a failure has ended;
    /// - `empty`: no usable token is held, and the next caller asks for one.
    pub fn as_str(&self) -> &'static str {
        match (self.is_ready(), self.in_flight) {
            (true, false) => "ready",
            (true, true) => "renewing",
            (false, true) => "fetching",
            (false, false) if self.paused_for.is_some() => "paused",
            (false, false) => "empty",
        }
    }
}
