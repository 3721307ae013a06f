//! A token in use: ready for the header, with its times on the driver's clock.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::{Policy, Timestamp, TokenResponse};

/// An access token that a [`Lifecycle`](crate::Lifecycle) holds: a [`TokenResponse`] with its times. Cheap to clone, and never
/// shown by `Debug`.
///
/// ```
/// use alvys_auth_core::{Credentials, Flow, TokenResponse, Lifecycle, Policy, Step, Timestamp, TokenRequest};
/// use std::time::Duration;
///
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let mut lifecycle = Lifecycle::new(request, Policy::new(), 0);
/// let now = Timestamp::from_millis(0);
/// lifecycle.adopt(TokenResponse::new("an.access.token", Duration::from_secs(3600), "load:read")?, now);
///
/// let Step::Use(token) = lifecycle.poll(now) else { unreachable!() };
/// assert_eq!(token.header(), "Bearer an.access.token");
/// assert!(token.header().is_sensitive());
/// assert!(token.scopes().contains("load:read"));
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    response: TokenResponse,
    obtained_at: Option<Timestamp>,
    /// When half of the lifetime that was left on arrival is over.
    half_at: Timestamp,
    renewal_at: Timestamp,
    expires_at: Timestamp,
}

impl Token {
    /// Makes a token from a response that you have already. Its lifetime counts from `now`. It is for sources that
    /// always give the same token.
    ///
    /// ```
    /// use alvys_auth_core::{Timestamp, Token, TokenResponse};
    /// use std::time::Duration;
    ///
    /// let response = TokenResponse::new("an.access.token", Duration::from_secs(3600), "load:read")?;
    /// let token = Token::given(response, Timestamp::from_millis(0)).expect("a lifetime");
    /// assert_eq!(token.header(), "Bearer an.access.token");
    /// # Ok::<(), alvys_auth_core::Error>(())
    /// ```
    pub fn given(response: TokenResponse, now: Timestamp) -> Option<Self> {
        Self::new(response, None, now, &Policy::new(), 0.0)
    }

    /// Makes a token with times on the driver's clock from a response; none when nothing is left of its lifetime at
    /// `now`.
    ///
    /// The lifetime counts from when the token was requested, or from `now` when it comes from elsewhere. `jitter`
    /// below 1 spreads the renewals of many holders over the later half of the margin.
    pub(crate) fn new(
        response: TokenResponse,
        obtained_at: Option<Timestamp>,
        now: Timestamp,
        policy: &Policy,
        jitter: f64,
    ) -> Option<Self> {
        let lifetime = response.lifetime().unwrap_or(policy.default_lifetime);
        let expires_at = obtained_at.unwrap_or(now).saturating_add(lifetime);
        if expires_at <= now {
            return None;
        }
        let half = Duration::from_millis(expires_at.saturating_duration_since(now).as_millis() as u64 / 2);
        let margin = policy.margin.as_secs_f64().min(lifetime.as_secs_f64() / 5.0) * (1.0 - jitter / 2.0);
        // Never more than half of what is left, so that a token is not due for renewal the moment it arrives.
        let margin = Duration::from_millis((margin * 1000.0) as u64).min(half);
        let mut renewal_at = expires_at.saturating_sub(margin);
        if let Some(quota) = response.low_quota() {
            // The renewal is not needed yet, and others may need the rest of the quota.
            let counted_anew = obtained_at.unwrap_or(now).saturating_add(quota.resets_in);
            renewal_at = renewal_at.max(counted_anew).min(expires_at.saturating_sub(margin / 10));
        }
        let half_at = expires_at.saturating_sub(half);
        Some(Self(Arc::new(Inner { response, obtained_at, half_at, renewal_at, expires_at })))
    }

    /// When the token was requested, by the driver's clock; none when it comes from elsewhere, so that its age is
    /// unknown.
    pub fn obtained_at(&self) -> Option<Timestamp> {
        self.0.obtained_at
    }

    /// From when on a caller who asks for the token causes its renewal, by the driver's clock.
    pub fn renewal_at(&self) -> Timestamp {
        self.0.renewal_at
    }

    /// From when on the token must not be used, by the driver's clock.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// How long the token may still be used at `now`; zero once it has expired.
    pub fn expires_in(&self, now: Timestamp) -> Duration {
        self.0.expires_at.saturating_duration_since(now)
    }

    /// Whether the token may be used for `least` from `now` on, or was requested here and is in the first half of its
    /// lifetime.
    pub(crate) fn lasts(&self, least: Duration, now: Timestamp) -> bool {
        self.expires_in(now) >= least || self.0.obtained_at.is_some() && now <= self.0.half_at
    }

    pub(crate) fn response(&self) -> TokenResponse {
        self.0.response.clone()
    }

    /// Whether both are the same access token, wherever they came from.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.header() == other.header()
    }
}

impl Deref for Token {
    type Target = TokenResponse;

    fn deref(&self) -> &TokenResponse {
        &self.0.response
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("access_token", &"[redacted]")
            .field("renewal_at", &self.0.renewal_at)
            .field("expires_at", &self.0.expires_at)
            .field("scopes", &self.scopes().to_string())
            .finish()
    }
}
