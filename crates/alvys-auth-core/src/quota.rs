//! Reads the server's quota: how many more token requests it accepts, and when the quota starts again.

use std::time::Duration;

use http::HeaderMap;

/// Auth0 limits the tokens of an application, and of the organization that it belongs to.
const HEADERS: [&str; 2] = ["auth0-client-quota-limit", "auth0-organization-quota-limit"];

/// Says that the server accepts only few more token requests for now; from
/// [`TokenResponse::low_quota`](crate::TokenResponse::low_quota).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// How many more token requests the server accepts.
    pub left: u16,
    /// How long until the quota starts again.
    pub resets_in: Duration,
}

/// One part of a header such as `b=per_hour;q=10;r=0;t=3540,b=per_day;q=50;r=47;t=43200`.
struct Bucket {
    limit: Option<u64>,
    left: u64,
    resets_in: Duration,
}

/// How long a used-up quota stays used up; the longest time of several quotas.
pub(crate) fn spent(headers: &HeaderMap) -> Option<Duration> {
    buckets(headers).filter(|bucket| bucket.left == 0).map(|bucket| bucket.resets_in).max()
}

/// The rest of the quota, if it is low: at most a tenth of the quota, or at most one request if the size of the quota
/// is not known.
pub(crate) fn low(headers: &HeaderMap) -> Option<Quota> {
    // Hardly any answer has a quota, and a look at its few header names is the cheapest test.
    if !headers.keys().any(|name| HEADERS.contains(&name.as_str())) {
        return None;
    }
    let low = buckets(headers).filter(|bucket| bucket.left <= bucket.limit.map_or(1, |limit| limit / 10));
    let quota = |bucket: Bucket| Quota {
        left: u16::try_from(bucket.left).unwrap_or(u16::MAX),
        resets_in: Duration::from_secs(bucket.resets_in.as_secs().min(u32::MAX.into())),
    };
    low.map(quota)
        .reduce(|one, other| Quota { left: one.left.min(other.left), resets_in: one.resets_in.max(other.resets_in) })
}

fn buckets(headers: &HeaderMap) -> impl Iterator<Item = Bucket> {
    HEADERS
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|bucket| {
            let number = |name| field(bucket, name)?.parse().ok();
            let resets_in = Duration::try_from_secs_f64(field(bucket, "t")?.parse().ok()?).ok()?;
            Some(Bucket { limit: number("q"), left: number("r")?, resets_in })
        })
}

fn field<'a>(bucket: &'a str, name: &str) -> Option<&'a str> {
    bucket.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('=')).map(str::trim)
}
