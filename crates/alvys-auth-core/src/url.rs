//! Checks the URLs that a secret or a token would be sent to.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::{Authority, Scheme};
use percent_encoding::percent_decode_str;

use crate::Error;

/// The origin of a URL: scheme, host and port. It decides which server receives a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?;
        let https = *scheme == Scheme::HTTPS;
        if !https && *scheme != Scheme::HTTP {
            return None;
        }
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host: uri.host()?.to_ascii_lowercase(), port })
    }
}

/// Parses `url`, which errors call `name`. Refuses it when it would send a secret unencrypted, or to another host than a
/// reader would think.
pub(crate) fn check_url(name: &str, example: &str, url: &str) -> Result<Uri, Error> {
    let refused = |what: &str, hint: String| Err(Error::configuration(format!("the {name} {what}"), hint));
    if url.contains(['{', '}', '<', '>']) {
        return refused(
            "still holds a placeholder",
            "replace it with the value; only {tenant_id} is replaced for you, and only in the legacy flow".to_owned(),
        );
    }
    if url.contains('#') {
        return refused("has a fragment", "remove the # and everything after it".to_owned());
    }
    let Ok(uri) = url.parse::<Uri>() else {
        return refused("is not a URL", format!("give a full URL such as {example}"));
    };
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return refused("is not a full URL", format!("give the scheme and the host too, such as {example}"));
    };
    if authority.as_str().contains('@') {
        return refused(
            "has user information before its host",
            "remove everything from the scheme's // to the @; the credentials are sent in the body".to_owned(),
        );
    }
    if !has_host_and_port(authority) {
        return refused(
            "has a malformed host or port",
            "give a host name or an IP address, and a port from 1 to 65535 if it needs one".to_owned(),
        );
    }
    if *scheme == Scheme::HTTPS || *scheme == Scheme::HTTP && is_loopback(authority.host()) {
        return Ok(uri);
    }
    refused(
        "would send secrets unencrypted",
        "use https; plain http is allowed only to localhost, 127.0.0.0/8 and [::1]".to_owned(),
    )
}

/// How often a path is decoded to find out what it hides. One that hides more is refused.
const MOST_LAYERS: usize = 8;

/// What some servers read as a dot, as a slash and as a backslash: the `%u` escapes of old servers, UTF-8 in more bytes than it
/// needs, and the letters that Unicode calls compatible (`．`, `․`, `／`, `＼`).
const DOTS: [&str; 5] = ["%u002e", "%uff0e", "%c0%ae", "\u{ff0e}", "\u{2024}"];
const SLASHES: [&str; 4] = ["%u002f", "%uff0f", "%c0%af", "\u{ff0f}"];
const BACKSLASHES: [&str; 4] = ["%u005c", "%uff3c", "%c1%9c", "\u{ff3c}"];

/// Whether somebody may read `path` as one with `.` or `..` segments.
///
/// Some servers decode a path before they split it into segments, some more than once. Some take a backslash for a slash, some
/// ignore what stands after a semicolon, and some ignore white space. So a segment of nothing but one or two dots is refused in
/// any of these spellings (`.%20.`, `%uff0e%uff0e`), between separators in any spelling.
///
/// Separators alone pass: `a%2fb` and `a%5cb` may be the id of one item, and whoever splits it stays below the place of that
/// item. So do all other letters in any spelling, and segments of three dots and more.
pub(crate) fn has_dot_segments(path: &str) -> bool {
    let mut path = path.to_owned();
    for _ in 0..MOST_LAYERS {
        let mut read = path.to_ascii_lowercase();
        for (spellings, plain) in [(&DOTS[..], "."), (&SLASHES, "/"), (&BACKSLASHES, "/")] {
            spellings.iter().for_each(|spelling| read = read.replace(spelling, plain));
        }
        let dots = |segment: &str| {
            let name = segment.split(';').next().unwrap_or_default();
            let shown = |c: &char| !c.is_whitespace() && !c.is_control();
            matches!(name.chars().filter(shown).collect::<String>().as_str(), "." | "..")
        };
        if read.split(['/', '\\']).any(dots) {
            return true;
        }
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if decoded == path {
            return false;
        }
        path = decoded;
    }
    true
}

/// Whether a client can connect to `authority`. `http::Uri` accepts hosts and ports that no client can use.
pub(crate) fn has_host_and_port(authority: &Authority) -> bool {
    let host = authority.host();
    let named = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let named = named && (!numeric || host.parse::<Ipv4Addr>().is_ok());
    let addressed = || bracketed(host).is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let rest = authority.as_str().get(host.len()..).unwrap_or_default();
    let port = rest.strip_prefix(':').and_then(|port| port.parse::<u16>().ok());
    (named || addressed()) && (rest.is_empty() || port.is_some_and(|port| port > 0))
}

/// Whether `host`, as it is written in a URL, is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = bracketed(host).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}
