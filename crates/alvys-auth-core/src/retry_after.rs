//! Reads how long the server asks its clients to wait, from each of the headers that it uses for that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use crate::quota;

/// The longest wait that is obeyed: one wrong header must not stop a process for ever.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait when `Retry-After` is a date and the answer has no `Date` to compare it with. Alvys documents 60 seconds for
/// its rate limits.
const UNDATED: Duration = Duration::from_secs(60);

/// The wait that the server asks for: `Retry-After`; on a 429 without it, the spent quota or `X-RateLimit-Reset`.
///
/// Other answers carry the quota headers too, but there they do not ask for a wait. A date is compared with the `Date` of
/// the same answer, so a wrong clock on this machine does not matter.
pub(crate) fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let wait = match asked_directly(headers) {
        None if status == StatusCode::TOO_MANY_REQUESTS => quota::spent(headers).or_else(|| limit_reset(headers)),
        asked => asked,
    };
    wait.map(|wait| wait.min(LONGEST))
}

/// The longest of several values, because each server on the way may have added its own.
fn asked_directly(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(RETRY_AFTER).iter().filter_map(|value| value.to_str().ok());
    let wait = |value: &str| {
        let by_date = || {
            let date = httpdate::parse_http_date(value.trim()).ok()?;
            Some(server_time(headers).map_or(UNDATED, |now| date.duration_since(now).unwrap_or_default()))
        };
        seconds(value.trim()).or_else(by_date)
    };
    values.filter_map(wait).max()
}

/// `X-RateLimit-Reset`: a time in Unix seconds, by the server's clock.
fn limit_reset(headers: &HeaderMap) -> Option<Duration> {
    let reset: u64 = headers.get("x-ratelimit-reset")?.to_str().ok()?.trim().parse().ok()?;
    let now = server_time(headers)?.duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(reset.saturating_sub(now.as_secs())))
}

fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

/// A whole or fractional number of seconds, zero or more.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}
