//! The rate limits of the API, as data.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use alvys_auth_core::Endpoint;

/// The longest stretch of a limit.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// So many requests in any stretch of so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub(crate) requests: NonZeroU32,
    pub(crate) per: Duration,
    pub(crate) burst: NonZeroU32,
}

impl Limit {
    /// `requests` (at least 1) in any `per` (a millisecond to a year), evenly spaced.
    #[must_use]
    pub fn new(requests: u32, per: Duration) -> Self {
        let requests = NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN);
        Self { requests, per: per.clamp(Duration::from_millis(1), LONGEST), burst: NonZeroU32::MIN }
    }

    /// Lets up to `burst` requests (at most all of them) go at once after a quiet time.
    ///
    /// What goes at once is missing from the even rate, because the limit holds in any stretch of time.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN).min(self.requests);
        self
    }

    /// The time between two requests at the even rate.
    ///
    /// In any closed stretch of `per` at most the burst and as many intervals as fit begin, together the limit.
    pub(crate) fn interval(&self) -> Duration {
        self.per / (self.requests.get() - self.burst.get()).max(1)
    }

    /// The burst, or as much of it as the limiter can reckon with: it counts nanoseconds in 64 bits.
    pub(crate) fn at_once(&self) -> NonZeroU32 {
        let reach = u128::from(u64::MAX / 4) / self.interval().as_nanos().max(1);
        let reach = u32::try_from(reach).unwrap_or(u32::MAX);
        self.burst.min(NonZeroU32::new(reach).unwrap_or(NonZeroU32::MIN))
    }
}

impl fmt::Display for Limit {
    /// `10 in 60s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.requests, self.per)
    }
}

/// Which limits a request falls under.
///
/// The default are the published ones; replace what Alvys grants you differently.
///
/// ```
/// use alvys_auth_driver::{Limit, RateLimits};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let limits = RateLimits::published()
///     .lists([Limit::new(20, minute).burst(5)])
///     .endpoint("POST loads/search", [Limit::new(60, minute)]);
/// # let _ = limits;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimits {
    pub(crate) token: Vec<Limit>,
    pub(crate) organization: Vec<Limit>,
    pub(crate) endpoints: Vec<Limit>,
    pub(crate) lists: Vec<Limit>,
    pub(crate) named: Vec<(String, Vec<Limit>)>,
}

impl RateLimits {
    /// What Alvys publishes: 10 requests a second with one token and 50 of one organization; at each endpoint 10 a minute
    /// and one in the first second, at lists and searches 5 a minute. Who goes beyond is shut out for three minutes.
    ///
    /// So that no stretch of time sees more, at length 5 requests a second go out with one token and 25 of one organization,
    /// one in 6.7 seconds to one endpoint and one in 15 seconds to one list.
    #[must_use]
    pub fn published() -> Self {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        Self {
            token: vec![Limit::new(10, second).burst(5)],
            organization: vec![Limit::new(50, second).burst(25)],
            endpoints: vec![Limit::new(10, minute), Limit::new(1, second)],
            lists: vec![Limit::new(5, minute), Limit::new(1, second)],
            named: Vec::new(),
        }
    }

    /// No limits: a beginning for those of your own.
    #[must_use]
    pub fn none() -> Self {
        Self { token: vec![], organization: vec![], endpoints: vec![], lists: vec![], named: vec![] }
    }

    /// What one token is limited to.
    #[must_use]
    pub fn token(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.token = limits.into_iter().collect();
        self
    }

    /// What all tokens of the organization together are limited to.
    #[must_use]
    pub fn organization(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.organization = limits.into_iter().collect();
        self
    }

    /// What each endpoint that is neither a list nor named is limited to.
    #[must_use]
    pub fn endpoints(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.endpoints = limits.into_iter().collect();
        self
    }

    /// What each list and each search that is not named is limited to.
    #[must_use]
    pub fn lists(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.lists = limits.into_iter().collect();
        self
    }

    /// What one endpoint is limited to, by its [name](Endpoint::name), such as `GET loads/{id}`.
    #[must_use]
    pub fn endpoint(mut self, name: impl Into<String>, limits: impl IntoIterator<Item = Limit>) -> Self {
        let name = name.into();
        self.named.retain(|(other, _)| *other != name);
        self.named.push((name, limits.into_iter().collect()));
        self
    }

    /// The limits of `endpoint` alone.
    pub(crate) fn of(&self, endpoint: &Endpoint) -> &[Limit] {
        match self.named.iter().find(|(name, _)| name == endpoint.name()) {
            Some((_, limits)) => limits,
            None if endpoint.is_list() => &self.lists,
            None => &self.endpoints,
        }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::published()
    }
}
