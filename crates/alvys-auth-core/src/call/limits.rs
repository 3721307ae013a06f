//! The rate limits of the API, as data.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::Endpoint;

/// A number of requests that may go in any period of a given length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    requests: NonZeroU32,
    per: Duration,
}

impl Limit {
    /// How much longer than the limit's length a request counts. The way to the server takes longer for one request
    /// than for another, so the server may see two requests this much closer together than they were sent.
    pub const MARGIN: Duration = Duration::from_millis(100);

    /// `requests` (at least 1) in any `per`.
    ///
    /// All of them may go at once. The next request may go when `per` plus the [margin](Self::MARGIN) has passed since
    /// the first one.
    pub fn new(requests: u32, per: Duration) -> Self {
        Self { requests: NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN), per }
    }

    /// How many requests may go in any period of the limit's length.
    pub(crate) fn requests(&self) -> usize {
        usize::try_from(self.requests.get()).unwrap_or(usize::MAX)
    }

    /// For how long a request counts.
    pub(crate) fn counts_for(&self) -> Duration {
        self.per.saturating_add(Self::MARGIN)
    }
}

impl fmt::Display for Limit {
    /// `10 in 60s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.requests, self.per)
    }
}

/// The rate limits that requests count against.
///
/// Begin with the [published](Self::published) limits, and replace those that Alvys has changed for you.
///
/// ```
/// use alvys_auth_core::{Limit, RateLimits};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let limits = RateLimits::published()
///     .lists([Limit::new(20, minute)])
///     .endpoint("POST loads/search", [Limit::new(60, minute)]);
/// # let _ = limits;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "its setters give back the changed value"]
pub struct RateLimits {
    pub(crate) token: Vec<Limit>,
    pub(crate) organization: Vec<Limit>,
    pub(crate) endpoints: Vec<Limit>,
    pub(crate) lists: Vec<Limit>,
    pub(crate) named: Vec<(String, Vec<Limit>)>,
}

impl RateLimits {
    /// What Alvys publishes: 10 requests a second with one token and 50 of one organization; at each endpoint 10 a
    /// minute and one in the first second, at lists and searches 5 a minute. A client that exceeds a limit is blocked
    /// for three minutes.
    ///
    /// With these limits, five calls of one list go a second apart, and the sixth goes a minute after the first.
    pub fn published() -> Self {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        Self {
            token: vec![Limit::new(10, second)],
            organization: vec![Limit::new(50, second)],
            endpoints: vec![Limit::new(10, minute), Limit::new(1, second)],
            lists: vec![Limit::new(5, minute), Limit::new(1, second)],
            named: Vec::new(),
        }
    }

    /// No limits. Begin with these to set limits of your own.
    pub fn none() -> Self {
        Self { token: vec![], organization: vec![], endpoints: vec![], lists: vec![], named: vec![] }
    }

    /// Sets the limits of one token.
    pub fn token(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.token = limits.into_iter().collect();
        self
    }

    /// Sets the limits of all tokens of the organization together.
    pub fn organization(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.organization = limits.into_iter().collect();
        self
    }

    /// Sets the limits of each endpoint that is neither a list nor set by its name.
    pub fn endpoints(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.endpoints = limits.into_iter().collect();
        self
    }

    /// Sets the limits of each list and each search that is not set by its name.
    pub fn lists(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.lists = limits.into_iter().collect();
        self
    }

    /// Sets the limits of one endpoint by its [name](Endpoint::name), such as `GET loads/{id}`.
    pub fn endpoint(mut self, name: impl Into<String>, limits: impl IntoIterator<Item = Limit>) -> Self {
        let name = name.into();
        self.named.retain(|(other, _)| *other != name);
        self.named.push((name, limits.into_iter().collect()));
        self
    }

    /// The limits of requests to `endpoint`, apart from the limits of the token and of the organization.
    pub fn of(&self, endpoint: &Endpoint) -> &[Limit] {
        match self.named.iter().find(|(name, _)| name == endpoint.name()) {
            Some((_, limits)) => limits,
            None if endpoint.is_list() => &self.lists,
            None => &self.endpoints,
        }
    }
}
