//! From a refusal to its likely cause: the table of what Alvys token endpoints answer, and what to do about it.

use http::{HeaderMap, StatusCode};

use crate::error::Inner;
use crate::retry_after::retry_after;
use crate::words::{self, Problem};
use crate::{Error, ErrorKind, TokenRequest};

/// An answer and the request it belongs to.
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
    let Problem { code, said } = Problem::read(answer.body);
    let code = code.as_deref();
    let Meaning { kind, retryable, what, hint } = meaning(answer, code.unwrap_or_default(), &said);
    Error::build(Inner {
        retryable,
        retry_after: retry_after(answer.status, answer.headers),
        status: Some(answer.status),
        oauth_code: code.map(|code| answer.cleaned(code)),
        server_said: Some(answer.cleaned(&said)).filter(|said| !said.is_empty()),
        request_id: answer.request_id(),
        ..Inner::new(kind, what, hint)
    })
}

/// A body that should have been a token response and cannot be read as one.
pub(crate) fn unreadable(answer: &Answer<'_>, what: &'static str) -> Error {
    let encoded = answer.headers.get(http::header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
    let hint = if encoded || answer.body.starts_with(b"\x1f\x8b") {
        "the answer is compressed: let the HTTP client decompress it, or stop it from offering to"
    } else {
        "the answer was cut short or comes from something else than Alvys: check the endpoint and any proxy in between"
    };
    Error::build(Inner {
        retryable: true,
        costly: true,
        retry_after: retry_after(answer.status, answer.headers),
        status: Some(answer.status),
        request_id: answer.request_id(),
        ..Inner::new(ErrorKind::InvalidResponse, what, hint)
    })
}

/// The status decides whether it is worth trying again; within that, what the body says comes first.
fn meaning(answer: &Answer<'_>, code: &str, said: &str) -> Meaning {
    let status = answer.status.as_u16();
    let legacy = answer.request.flow().is_legacy();
    let transient = matches!(status, 408 | 425 | 429 | 500..) && status != 501;
    let html = answer.body.starts_with(b"<");
    let gone = legacy && matches!(status, 404 | 405);
    if html && status != 503 && !gone {
        let hint = "an HTML page came back: a proxy, a captive portal or a bot check stands in between";
        // A bot check or a captive portal passes. A page that says that there is nothing at this URL does not.
        return intercepted(!matches!(status, 300..400 | 404 | 405 | 501), hint);
    }
    match by_code(code, said) {
        Some(verdict) if verdict.retryable || !transient => verdict,
        _ => by_status(answer, legacy, html, !code.is_empty() || !said.is_empty()),
    }
}

/// What the token endpoints are known to say.
fn by_code(code: &str, said: &str) -> Option<Meaning> {
    let says = |words| said.contains(words);
    Some(match code {
        // A rate limit although the status says 500.
        _ if says("Global limit has been reached") => too_many(
            "this is a rate limit although the status says otherwise; ask for tokens less often and share them",
        ),
        "too_many_requests" | "slow_down" => {
            too_many("ask for tokens less often: keep them for their whole lifetime and share them between processes")
        }
        "temporarily_unavailable" | "server_error" => unavailable("wait; it is the server's side that is in trouble"),
        "unsupported_grant_type" => refused("this endpoint does not speak client credentials: check the token URL"),
        "unauthorized_client" => {
            refused("the application may not use client credentials: have an Alvys administrator allow that grant type")
        }
        "invalid_client" if says("Missing client_id") => wrong_credentials(
            "no client id arrived: check that nothing in between strips the body or changes its content type",
        ),
        "invalid_client" => wrong_credentials(CHECK_CREDENTIALS),
        "invalid_scope" => refused("ask for no scopes: a token always carries every scope that was granted"),
        "invalid_request" => {
            refused("the request was not understood: check the token URL, and that nothing in between changes the body")
        }
        "access_denied" if says("Service not enabled within domain") => {
            refused("the audience is not known: it must be https://api.alvys.com/public/ and end in a slash")
        }
        "access_denied" if says("Client is not authorized to access") => refused(
            "this application was not granted the audience: check the audience, or have an Alvys administrator grant it",
        ),
        "access_denied" if says("has not been granted scopes") => refused(
            "this application was not granted the scopes named: ask for none, a token always carries every granted one",
        ),
        "access_denied" if says("Non-global clients") => {
            refused("no audience arrived: it must be https://api.alvys.com/public/ and end in a slash")
        }
        "access_denied" if says("Unauthorized") => wrong_credentials(CHECK_CREDENTIALS),
        _ => return None,
    })
}

/// What the status alone tells.
fn by_status(answer: &Answer<'_>, legacy: bool, html: bool, explained: bool) -> Meaning {
    let empty = answer.body.is_empty();
    match answer.status.as_u16() {
        429 => too_many("wait as long as the server says, and share one token instead of asking for several"),
        501 => refused("this endpoint does not know the grant type: check the token URL"),
        503 if html => unavailable("an HTML page came back: the server is down, or a proxy cannot reach it"),
        408 | 425 | 500.. => unavailable("wait; it is the server's side that is in trouble"),
        403 if legacy => wrong_credentials(
            "check client id, secret and tenant; the legacy endpoint says 403 when one of them is wrong",
        ),
        404 | 405 if legacy => refused(
            "there is no such token endpoint: check URL and tenant; the legacy flow was announced to shut down on 2025-07-31",
        ),
        404 | 405 => refused("there is no such token endpoint: check the token URL"),
        407 => intercepted(false, "the proxy in between wants credentials of its own: check the proxy settings"),
        415 => refused("the endpoint does not take this content type: choose the other encoding"),
        300..400 => Meaning {
            what: "the token endpoint answered with a redirect, which is not followed because the secret would go along",
            ..intercepted(false, "check the token URL; a captive portal or a proxy may stand in between")
        },
        _ if empty => {
            intercepted(false, "the body is empty: a proxy, a firewall or a captive portal may stand in between")
        }
        401 => wrong_credentials(CHECK_CREDENTIALS),
        403 => refused(
            "the application is known, but not allowed this: check the audience and the application's permissions",
        ),
        400..500 => refused("check the token URL, the tenant and the values sent"),
        _ if explained => {
            refused("the server reports an error although the status says success; its own words tell more")
        }
        _ => Meaning {
            kind: ErrorKind::InvalidResponse,
            retryable: false,
            what: "the answer of the token endpoint holds no access token",
            hint: "check that the token URL is the Alvys token endpoint",
        },
    }
}

const CHECK_CREDENTIALS: &str = "check the client id and the secret, and that the application has not expired";

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
    let what = "something else than the token endpoint answered";
    Meaning { kind: ErrorKind::Intercepted, retryable, what, hint }
}

impl Answer<'_> {
    /// The id that support asks for.
    pub(crate) fn request_id(&self) -> Option<String> {
        words::request_id(self.headers).map(|id| self.cleaned(id))
    }

    fn cleaned(&self, said: &str) -> String {
        words::cleaned(said, self.request.credentials().client_secret())
    }
}
