//! Decides from the head of a request whether it is accepted, before anything else happens.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN, REFERER};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, StatusCode, Version};

use crate::headers::{KEY, came_round, is_coded};
use crate::problem::Problem;
use crate::settings::Settings;

/// The header in which a browser says whether the page that makes the request is of the same site as its destination.
const SITE: &str = "sec-fetch-site";

/// The kind of socket that a connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// A TCP port. Everybody who can reach it can connect.
    Tcp,
    /// A Unix socket. The file system decides who can connect.
    Unix,
    /// The port that only answers health checks.
    Health,
}

/// Accepts a request, or says why not.
pub(crate) fn check<B>(settings: &Settings, door: Door, request: &Request<B>) -> Result<(), Problem> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            "this proxy does not accept CONNECT and TRACE",
            "this is a reverse proxy: call its own address, such as http://127.0.0.1:8350/api/p/v1/loads",
        )
        .allow("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"));
    }
    if is_coded(request.headers()) {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "transfer_encoding",
            "the request body has a transfer coding other than chunked",
            "send it with Transfer-Encoding: chunked alone, or with a Content-Length",
        )
        .closes());
    }
    let host = host(request)?;
    if door == Door::Tcp && !is_known(settings, &host) {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host",
            "the request calls the proxy by a host name that it does not accept",
            "call it as localhost or 127.0.0.1, or add the name to its settings (--name, Settings::name)",
        ));
    }
    check_browser(request.headers(), &host)?;
    if came_round(request.headers()) {
        return Err(Problem::new(
            StatusCode::LOOP_DETECTED,
            "loop",
            "the request has passed through such a proxy before",
            "set the base URL of the proxy's API to the API itself",
        ));
    }
    check_key(settings, request.headers())
}

/// The host of the request, as it is written there. There must be exactly one.
fn host<B>(request: &Request<B>) -> Result<Authority, Problem> {
    let bad = |detail: &'static str, hint: &'static str| {
        Err(Problem::new(StatusCode::BAD_REQUEST, "request_target", detail, hint))
    };
    let uri = request.uri();
    let http2 = request.version() == Version::HTTP_2;
    if !http2 && (uri.scheme().is_some() || uri.authority().is_some()) {
        return bad(
            "the request target is a full URL, as for a forward proxy",
            "call this proxy's own address, and do not set it as an HTTP proxy",
        );
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = hosts.next().map(|value| Authority::try_from(value.as_bytes()));
    let host = match (uri.authority(), header) {
        (Some(authority), None) => authority.clone(),
        (None, Some(Ok(host))) => host,
        (Some(authority), Some(Ok(host))) if *authority == host => host,
        _ => return bad("the Host header is missing, malformed, or not the host of the URL", "send one Host header"),
    };
    if hosts.next().is_some() || host.as_str().contains('@') {
        return bad(
            "there is more than one Host header, or it has user information",
            "send one Host header with a host alone",
        );
    }
    Ok(host)
}

/// Whether the proxy accepts this host name. In DNS rebinding, a browser sends the name of another site.
fn is_known(settings: &Settings, host: &Authority) -> bool {
    let name = host.host().to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    name == "localhost"
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || settings.names.iter().any(|known| *known == name || known == address)
}

/// Refuses requests that a page of another site makes in a browser on this machine.
fn check_browser(headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
    let foreign = headers.get_all(SITE).iter().any(|site| !matches!(site.as_bytes(), b"none" | b"same-origin"));
    let own = |origin: &[u8]| {
        origin.strip_prefix(b"http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_str().as_bytes()))
    };
    // Old browsers send neither header with a GET, and no browser does to a host without TLS.
    let referer = headers.get_all(REFERER).iter().any(|referer| {
        let origin = referer.as_bytes().splitn(4, |byte| *byte == b'/').take(3).collect::<Vec<_>>().join(&b'/');
        !own(&origin)
    });
    let foreign = foreign || referer && !headers.contains_key(SITE) && !headers.contains_key(ORIGIN);
    if foreign || headers.get_all(ORIGIN).iter().any(|origin| !own(origin.as_bytes())) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "a page of another site must not use this proxy",
            "call the proxy from a program, not from a page in a browser",
        ));
    }
    Ok(())
}

fn check_key(settings: &Settings, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(key) = &settings.key else { return Ok(()) };
    let mut presented = headers.get_all(KEY).iter();
    match (presented.next(), presented.next()) {
        (Some(presented), None) if key.is(presented.as_bytes()) => Ok(()),
        (presented, _) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "key",
            "the request does not have the proxy's key",
            "send the key in the header X-Alvys-Proxy-Key",
        )
        .guessed(presented.is_some())),
    }
}
