//! How long the server asks to be left alone, in every spelling it uses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

/// The longest wait that is believed, so that one absurd header cannot silence a process for ever.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait when a date is given and nothing tells how far off it is: what Alvys documents for its rate limits.
const UNDATED: Duration = Duration::from_secs(60);

/// The server's own word: `Retry-After`, else, on a 429, the spent quota or `X-RateLimit-Reset`.
///
/// The latter two come with other answers as well, where they ask for nothing. Dates are read against the `Date` of the
/// same answer, so that no clock has to agree with the server's.
pub(crate) fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let wait = match asked_directly(headers) {
        None if status == StatusCode::TOO_MANY_REQUESTS => spent_quota(headers).or_else(|| limit_reset(headers)),
        asked => asked,
    };
    wait.map(|wait| wait.min(LONGEST))
}

fn asked_directly(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(wait) = seconds(value) {
        return Some(wait);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let Some(now) = server_time(headers) else {
        return Some(UNDATED);
    };
    Some(date.duration_since(now).unwrap_or_default())
}

/// `X-RateLimit-Reset`: Unix seconds on the server's clock.
fn limit_reset(headers: &HeaderMap) -> Option<Duration> {
    let reset: u64 = headers.get("x-ratelimit-reset")?.to_str().ok()?.trim().parse().ok()?;
    let now = server_time(headers)?.duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(reset.saturating_sub(now.as_secs())))
}

/// `b=per_hour;q=10;r=0;t=3540,b=per_day;…`: the longest `t` (seconds) among the buckets with nothing remaining.
fn spent_quota(headers: &HeaderMap) -> Option<Duration> {
    ["auth0-client-quota-limit", "auth0-organization-quota-limit"]
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|bucket| field(bucket, "r") == Some("0"))
        .filter_map(|bucket| seconds(field(bucket, "t")?))
        .max()
}

fn field<'a>(bucket: &'a str, name: &str) -> Option<&'a str> {
    bucket.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('=')).map(str::trim)
}

fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

/// Whole or fractional seconds that are zero or more.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}
