//! Decides which headers are forwarded, and which are removed.

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The shared key.
pub(crate) const KEY: &str = "x-alvys-proxy-key";
/// The tenant.
pub(crate) const TENANT: &str = "x-alvys-tenant";
/// `true` when sending the request twice has the same effect as sending it once.
pub(crate) const IDEMPOTENT: &str = "x-alvys-idempotent";
/// `true` in a request for the token. A page of another site cannot set this header.
pub(crate) const TOKEN_REQUEST: &str = "x-alvys-token-request";

/// The name of this proxy in `Via` (RFC 9110, section 7.6.3).
const PSEUDONYM: &str = "alvys-auth-proxy";

/// The hop-by-hop headers (RFC 9110, section 7.6.1), even if `Connection` does not name them.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers for this proxy, and those about its caller, which the API does not need.
const ENDS_HERE: [&str; 10] =
    ["authorization", "host", "expect", "origin", "forwarded", "x-real-ip", KEY, TENANT, IDEMPOTENT, TOKEN_REQUEST];
const ENDS_HERE_PREFIXES: [&str; 3] = ["x-forwarded-", "proxy-", "sec-fetch-"];

/// Removes the headers of a request that are not forwarded to the API, and adds `Via`.
pub(crate) fn towards_api(headers: &mut HeaderMap, version: Version) {
    strip_hop_by_hop(headers);
    for name in ENDS_HERE {
        headers.remove(name);
    }
    let prefixed = |name: &&HeaderName| ENDS_HERE_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
    let more: Vec<HeaderName> = headers.keys().filter(prefixed).cloned().collect();
    for name in more {
        headers.remove(name);
    }
    let received = if version == Version::HTTP_2 { "2" } else { "1.1" };
    if let Ok(via) = HeaderValue::try_from(format!("{received} {PSEUDONYM}")) {
        headers.append(header::VIA, via);
    }
}

/// Removes the headers of an answer that are not forwarded to the client, and adds `Via`.
pub(crate) fn towards_client(headers: &mut HeaderMap) {
    // A Content-Length beside a Transfer-Encoding is wrong (RFC 9112, section 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
}

/// Whether an alvys-auth proxy has sent this request. Then the base URL of the API leads back to the proxy.
pub(crate) fn came_round(headers: &HeaderMap) -> bool {
    let words = headers.get_all(header::VIA).iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|value| value.split([',', ' '])).any(|word| word == PSEUDONYM)
}

/// Whether the body has another transfer coding than `chunked` alone, which the proxy would not decode.
pub(crate) fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        _ => true,
    }
}

/// Whether a header is `true`.
pub(crate) fn says_true(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
