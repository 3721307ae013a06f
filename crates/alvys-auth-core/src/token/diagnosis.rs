//! Finds the likely cause of a refusal: a table of what the token endpoints of Alvys answer, and what to do about it.

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::error::Inner;
use crate::retry_after::retry_after;
use crate::transport::{CORRECT_PROXY, PROXY_REFUSES};
use crate::words::{self, Problem};
use crate::{Error, ErrorKind, TokenRequest};

/// An answer of the token endpoint, and the request that it answers.
pub(crate) struct Answer<'a> {
    pub(crate) request: &'a TokenRequest,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// What a refusal means.
struct Meaning {
    kind: ErrorKind,
    retryable: bool,
    what: &'static str,
    hint: &'static str,
}

/// Turns an answer that carries no token into an error.
pub(crate) fn diagnose(answer: &Answer<'_>) -> Error {
    let Problem { code, said, uri } = Problem::read(answer.body);
    let code = code.as_deref();
    let Meaning { kind, retryable, what, hint } = meaning(answer, code.unwrap_or_default(), &said);
    Error::build(Inner {
        retryable,
        retry_after: retry_after(answer.status, answer.headers),
        status: Some(answer.status),
        oauth_code: code.map(|code| answer.cleaned(code)),
        server_said: Some(answer.cleaned(&said)).filter(|said| !said.is_empty()),
        error_uri: uri.and_then(|uri| words::plain_uri(uri, answer.secret())),
        support_headers: answer.support_headers(),
        ..Inner::new(kind, what, hint)
    })
}

/// A successful answer whose body is not a token response.
pub(crate) fn unreadable(answer: &Answer<'_>, what: &'static str) -> Error {
    let encoded = answer.headers.get(http::header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
    let hint = if encoded || answer.body.starts_with(b"\x1f\x8b") {
        "the answer is compressed: let the HTTP client decompress answers, or let it send no Accept-Encoding"
    } else {
        "the answer was cut short, or something other than Alvys sent it: check the token URL and any proxy"
    };
    Error::build(Inner {
        retryable: true,
        costly: true,
        retry_after: retry_after(answer.status, answer.headers),
        status: Some(answer.status),
        support_headers: answer.support_headers(),
        ..Inner::new(ErrorKind::InvalidResponse, what, hint)
    })
}

/// The status decides whether the error is retryable. The body decides the rest, and the status where the body says nothing.
fn meaning(answer: &Answer<'_>, code: &str, said: &str) -> Meaning {
    let status = answer.status.as_u16();
    let legacy = answer.request.flow().is_legacy();
    let transient = matches!(status, 408 | 425 | 429 | 500..) && status != 501;
    let html = answer.body.starts_with(b"<");
    let gone = legacy && matches!(status, 404 | 405);
    // A load balancer tells of an outage in HTML too.
    let outage = transient && (status >= 500 || status == 429 && answer.headers.contains_key(RETRY_AFTER));
    // Servers refuse the form of a request in HTML, too.
    let form = matches!(status, 407 | 411 | 413 | 414 | 417 | 431);
    if html && !outage && !gone && !form {
        let hint = "an HTML page came back: check for a proxy, a captive portal or a bot check between here and Alvys";
        // A bot check or a captive portal passes. A page that says that there is nothing at this URL does not.
        return intercepted(!matches!(status, 300..400 | 404 | 405 | 501), hint);
    }
    match by_code(status, code, said) {
        Some(verdict) if verdict.retryable || !transient => verdict,
        _ => by_status(answer, legacy, html, !code.is_empty() || !said.is_empty()),
    }
}

/// The meaning of the error codes and descriptions that the token endpoints are known to send.
fn by_code(status: u16, code: &str, said: &str) -> Option<Meaning> {
    let says = |words| said.contains(words);
    Some(match code {
        // The token endpoint sends this rate limit with the status 500.
        _ if status != 429 && says("Global limit has been reached") => too_many(
            "this is a rate limit, whatever the status says; ask for tokens less often, and share them between processes",
        ),
        "too_many_requests" | "slow_down" => {
            too_many("ask for tokens less often: keep them for their whole lifetime and share them between processes")
        }
        "temporarily_unavailable" | "server_error" => unavailable(WAIT),
        "unsupported_grant_type" => {
            refused("this endpoint does not know the grant type client_credentials: check the token URL")
        }
        "unauthorized_client" => refused(
            "the application may not use the grant type client_credentials: ask an Alvys administrator to allow it",
        ),
        "invalid_client" if says("Missing client_id") => wrong_credentials(
            "no client id arrived: check whether a proxy removes the body or changes its content type",
        ),
        "invalid_client" => wrong_credentials(CHECK_CREDENTIALS),
        "invalid_scope" => {
            refused("remove the scopes from the request: a token always has every scope that was granted")
        }
        "invalid_request" => refused(
            "the server did not understand the request: check the token URL, and whether a proxy changes the body",
        ),
        "access_denied" if says("Service not enabled within domain") => refused(
            "the server does not know the audience: set it to https://api.alvys.com/public/ with the slash at the end",
        ),
        "access_denied" if says("Client is not authorized to access") => refused(
            "the application was not granted this audience: check the audience, or ask an Alvys administrator to grant it",
        ),
        "access_denied" if says("has not been granted scopes") => refused(
            "the application was not granted the requested scopes: remove them from the request, because a token always has \
             every scope that was granted",
        ),
        "access_denied" if says("Non-global clients") => {
            refused("no audience arrived: set it to https://api.alvys.com/public/ with the slash at the end")
        }
        "access_denied" if says("Unauthorized") => wrong_credentials(CHECK_CREDENTIALS),
        _ => return None,
    })
}

/// The meaning of the status, when the body says nothing that is known.
fn by_status(answer: &Answer<'_>, legacy: bool, html: bool, explained: bool) -> Meaning {
    let empty = answer.body.is_empty();
    match answer.status.as_u16() {
        429 => too_many("wait as long as the server says, and share one token between processes"),
        501 => refused("this endpoint does not know the grant type client_credentials: check the token URL"),
        500.. if html => unavailable("an HTML page came back: the server is down, or a proxy cannot reach it"),
        408 | 425 | 500.. => unavailable(WAIT),
        403 if legacy => wrong_credentials(
            "check the client id, the client secret and the tenant; the legacy endpoint answers 403 when one of them is wrong",
        ),
        404 | 405 if legacy => refused(
            "there is no such token endpoint: check the token URL and the tenant; the legacy flow was announced to shut down \
             on 2025-07-31",
        ),
        404 | 405 => refused("there is no such token endpoint: check the token URL"),
        407 => {
            Meaning { kind: ErrorKind::ProxyCredentials, retryable: false, what: PROXY_REFUSES, hint: CORRECT_PROXY }
        }
        415 => refused("the endpoint does not take this content type: choose the other encoding, json or form"),
        300..400 => Meaning {
            what: "the token endpoint answered with a redirect, which was not followed because it would take the secret along",
            ..intercepted(
                false,
                "check the token URL, and check for a captive portal or a proxy between here and Alvys",
            )
        },
        401 => wrong_credentials(CHECK_CREDENTIALS),
        403 => refused(
            "the server knows the application but does not allow the request: check the audience and the application's \
             permissions",
        ),
        411 | 413 | 414 | 417 | 431 => refused(
            "something on the way does not take a request of this form: check the token URL and any proxy in front of it",
        ),
        _ if empty => intercepted(
            false,
            "the body is empty: check for a proxy, a firewall or a captive portal between here and Alvys",
        ),
        400..500 => refused("check the token URL, the tenant and the values sent"),
        _ if explained => refused("the status says success but the body reports an error: act on what the server said"),
        _ => Meaning {
            kind: ErrorKind::InvalidResponse,
            retryable: false,
            what: "the answer of the token endpoint contains no access token",
            hint: "check that the token URL is the Alvys token endpoint",
        },
    }
}

const CHECK_CREDENTIALS: &str = "check the client id and the client secret, and that the application has not expired";
const WAIT: &str = "wait and try again; the trouble is on the server's side";

fn refused(hint: &'static str) -> Meaning {
    let what = "the token endpoint refused the request";
    Meaning { kind: ErrorKind::Refused, retryable: false, what, hint }
}

fn wrong_credentials(hint: &'static str) -> Meaning {
    let what = "the token endpoint refused the credentials";
    Meaning { kind: ErrorKind::Credentials, retryable: false, what, hint }
}

fn too_many(hint: &'static str) -> Meaning {
    let what = "the token endpoint asks for fewer requests";
    Meaning { kind: ErrorKind::RateLimited, retryable: true, what, hint }
}

fn unavailable(hint: &'static str) -> Meaning {
    Meaning { kind: ErrorKind::Unavailable, retryable: true, what: "the token endpoint is unavailable", hint }
}

fn intercepted(retryable: bool, hint: &'static str) -> Meaning {
    let what = "something other than the token endpoint answered";
    Meaning { kind: ErrorKind::Intercepted, retryable, what, hint }
}

impl Answer<'_> {
    /// The response headers that support asks for.
    pub(crate) fn support_headers(&self) -> Vec<(&'static str, String)> {
        words::support_headers(self.headers, self.secret())
    }

    fn cleaned(&self, said: &str) -> String {
        words::cleaned(said, self.secret())
    }

    fn secret(&self) -> &str {
        self.request.client_secret()
    }
}
