//! Faults: what the server does instead of its normal answer, or before it.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{action::Action, clock::Clock, reply, route::Route};

/// A failure for a test. Put it in place with [`Sandbox::inject`] or [`Sandbox::inject_at`].
///
/// A fault applies to all requests until it is cleared, or to a number of requests with
/// [`once`](Self::once) and [`times`](Self::times).
///
/// ```
/// use std::time::Duration;
///
/// use alvys_auth_sandbox::{Fault, Route, Sandbox};
///
/// let sandbox = Sandbox::start()?;
/// let busy = Fault::status(429).retry_after(Duration::from_secs(60)).once();
/// sandbox.inject(Route::Token, busy);
///
/// let answer = ureq::post(sandbox.token_url())
///     .config()
///     .http_status_as_error(false)
///     .build()
///     .send_empty()
///     .unwrap();
/// assert_eq!(answer.status(), 429);
/// assert_eq!(answer.headers()["retry-after"], "60");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// [`Sandbox::inject`]: crate::Sandbox::inject
/// [`Sandbox::inject_at`]: crate::Sandbox::inject_at
#[derive(Clone)]
#[must_use = "a fault does nothing until it is injected"]
pub struct Fault {
    action: Action,
    delay: Duration,
    lag: Duration,
    headers: Vec<Extra>,
    times: Option<u32>,
}

impl Fault {
    /// The normal answer, made `delay` after the request was read.
    pub fn delay(delay: Duration) -> Self {
        Self::new(Action::Serve).after(delay)
    }

    /// The normal answer, made at once but sent `lag` later, so that a token in it is older when it
    /// arrives.
    pub fn late(lag: Duration) -> Self {
        Self { lag, ..Self::new(Action::Serve) }
    }

    /// An answer of this status, with the body that this part of the server would send with it.
    ///
    /// A 401 of the API has `WWW-Authenticate: Bearer error="invalid_token"`. A 403 of the API has
    /// `insufficient_scope`, without the name of the scope.
    ///
    /// # Panics
    ///
    /// If `status` is not within 200 to 999.
    pub fn status(status: u16) -> Self {
        Self::new(Action::Status(checked(status)))
    }

    /// An answer of this status with exactly these bytes. It has the headers `Date` and
    /// `Content-Length`; add others with [`header`](Self::header).
    ///
    /// # Panics
    ///
    /// If `status` is not within 200 to 999.
    pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(Action::Reply(checked(status), Bytes::from(body.into())))
    }

    /// An answer of this status with the content type JSON and without a body.
    ///
    /// # Panics
    ///
    /// If `status` is not within 200 to 999.
    pub fn empty(status: u16) -> Self {
        Self::reply(status, "").header("content-type", "application/json")
    }

    /// The HTML page of a bot check.
    ///
    /// # Panics
    ///
    /// If `status` is not within 200 to 999.
    pub fn challenge(status: u16) -> Self {
        Self::reply(status, CHALLENGE).header("content-type", "text/html; charset=UTF-8")
    }

    /// A redirect to `location`.
    ///
    /// # Panics
    ///
    /// If `status` is not within 200 to 999 or `location` cannot be a header value.
    pub fn redirect(status: u16, location: impl AsRef<str>) -> Self {
        Self::reply(status, "").header("location", location)
    }

    /// 429 `too_many_requests` with the three `X-RateLimit` headers: no requests remain, and the
    /// limit ends after `reset`. It has no `Retry-After`.
    pub fn rate_limited(reset: Duration) -> Self {
        Self::status(429).header("x-ratelimit-limit", "10").header("x-ratelimit-remaining", "0").rate_limit_reset(reset)
    }

    /// A rate limit that looks like another failure: 500 `access_denied` with "Global limit has been
    /// reached", although the headers say that requests remain.
    pub fn disguised_rate_limit() -> Self {
        Self::new(Action::OAuth(StatusCode::INTERNAL_SERVER_ERROR, "access_denied", "Global limit has been reached"))
            .header("x-ratelimit-limit", "100")
            .header("x-ratelimit-remaining", "57")
    }

    /// 429 with `Auth0-Client-Quota-Limit`: the tokens of this hour are spent, and the next hour
    /// begins after `reset`, rounded up to whole seconds.
    pub fn quota_spent(reset: Duration) -> Self {
        let seconds = whole_seconds(reset);
        Self::new(Action::OAuth(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Client quota exceeded"))
            .header("auth0-client-quota-limit", format!("b=per_hour;q=10;r=0;t={seconds},b=per_day;q=50;r=47;t=43200"))
    }

    /// 503 `temporarily_unavailable`.
    pub fn unavailable() -> Self {
        Self::status(503)
    }

    /// The first half of the normal answer: `Content-Length` announces all of it, but the connection
    /// closes before.
    pub fn truncate() -> Self {
        Self::new(Action::Truncate)
    }

    /// A reset of the connection (TCP RST) before the first byte of the answer.
    pub fn reset() -> Self {
        Self::new(Action::Reset)
    }

    /// No answer. The connection stays open until the client or the sandbox closes it.
    pub fn hang() -> Self {
        Self::new(Action::Hang)
    }

    /// Waits for `delay` after the request was read, before anything else happens.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Ends the fault after the next request.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Ends the fault after the next `requests` requests.
    pub fn times(mut self, requests: u32) -> Self {
        self.times = Some(requests);
        self
    }

    /// Adds a header to the answer, and replaces any other of that name.
    ///
    /// # Panics
    ///
    /// If `name` or `value` is not legal in a header.
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let name: HeaderName = name.parse().expect("a legal header name");
        let value = value.as_ref().parse().expect("a legal header value");
        self.headers.push(Extra::Literal(name, value));
        self
    }

    /// Adds `Retry-After` in whole seconds, rounded up.
    pub fn retry_after(self, wait: Duration) -> Self {
        self.header("retry-after", whole_seconds(wait).to_string())
    }

    /// Adds `Retry-After` as a date: the time `wait` from now, by the server's clock.
    pub fn retry_after_date(mut self, wait: Duration) -> Self {
        self.headers.push(Extra::RetryAfterDate(wait));
        self
    }

    /// Adds `X-RateLimit-Reset`: the time `wait` from now in Unix seconds, by the server's clock.
    pub fn rate_limit_reset(mut self, wait: Duration) -> Self {
        self.headers.push(Extra::RateLimitReset(wait));
        self
    }

    pub(crate) fn action(&self) -> &Action {
        &self.action
    }

    /// How long to wait before the answer is made.
    pub(crate) fn delay_before(&self) -> Duration {
        self.delay
    }

    /// How long to wait before the answer is sent.
    pub(crate) fn lag_after(&self) -> Duration {
        self.lag
    }

    /// Adds the headers of this fault to an answer.
    pub(crate) fn decorate(&self, headers: &mut HeaderMap, clock: &Clock) {
        const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
        for extra in &self.headers {
            match extra {
                Extra::Literal(name, value) => headers.insert(name, value.clone()),
                Extra::RetryAfterDate(wait) => {
                    headers.insert(header::RETRY_AFTER, reply::value(&clock.http_date(*wait)))
                }
                Extra::RateLimitReset(wait) => headers.insert(RATE_LIMIT_RESET, clock.unix_seconds(*wait).into()),
            };
        }
    }

    fn new(action: Action) -> Self {
        Self { action, delay: Duration::ZERO, lag: Duration::ZERO, headers: Vec::new(), times: None }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("action", &self.action)
            .field("delay", &self.delay)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// The faults in place, in the order they were injected.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    queue: VecDeque<(Target, Fault)>,
}

impl Faults {
    pub(crate) fn push(&mut self, target: Target, fault: Fault) {
        if fault.times != Some(0) {
            self.queue.push_back((target, fault));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    /// The fault for a request to `path` on `route`: the oldest one that is not used up.
    pub(crate) fn take(&mut self, route: Route, path: &str) -> Option<Fault> {
        let index = self.queue.iter().position(|(target, _)| target.covers(route, path))?;
        let fault = &mut self.queue[index].1;
        match &mut fault.times {
            Some(1) => self.queue.remove(index).map(|(_, fault)| fault),
            Some(left) => {
                *left -= 1;
                Some(fault.clone())
            }
            None => Some(fault.clone()),
        }
    }
}

/// The requests that a fault applies to.
#[derive(Debug)]
pub(crate) enum Target {
    Route(Route),
    /// One path. If it ends in a slash, all paths below it.
    Path(String),
}

impl Target {
    fn covers(&self, route: Route, path: &str) -> bool {
        match self {
            Self::Route(aim) => aim.covers(route),
            Self::Path(aim) if aim.ends_with('/') => path.starts_with(aim.as_str()),
            Self::Path(aim) => path == aim,
        }
    }
}

/// A header of a fault. Some depend on the time when the answer is sent.
#[derive(Clone)]
enum Extra {
    Literal(HeaderName, HeaderValue),
    RetryAfterDate(Duration),
    RateLimitReset(Duration),
}

fn checked(status: u16) -> StatusCode {
    assert!(status >= 200, "an answer needs a status of 200 or more");
    StatusCode::from_u16(status).expect("a status of three digits")
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

const CHALLENGE: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Just a moment...</title>\
    </head><body><h1>Checking your browser before you continue</h1></body></html>\n";
