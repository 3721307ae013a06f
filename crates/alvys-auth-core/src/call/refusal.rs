//! Finds out why the API refused a call, and what to do about it.

use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode, Uri};

use crate::error::Inner;
use crate::flow::AUDIENCE;
use crate::words::{self, Problem};
use crate::{Endpoint, Error, ErrorKind, Scope, Token, UnverifiedClaims};

pub(crate) const NOT_REPEATED: &str =
    "wait and call again; the call was not repeated, because it may not be safe to send this method or body twice";
const MAY_BE_DONE: &str = "not repeated: the server redirected the request, so it may already have taken effect; check before \
    you call again";
const READS_ONLY: &str = "tokens of the legacy flow may only read: create an application of the current flow in Alvys, and use its credentials";
pub(crate) const TOO_LONG: &str =
    "wait and call again; the server asks for a longer wait than the patience of the call allows";

/// What was decided about an answer that is not delivered.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The request is sent once more. The token for it is requested from the source again.
    Repeat {
        /// How long the call waits first; zero after a rejected token.
        after: Duration,
    },
    /// The caller gets this error.
    Fail(Error),
}

/// The answer to a refused call, with the token and the URL of the call.
pub(crate) struct Refused<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) token: &'a Token,
    pub(crate) uri: &'a Uri,
}

impl Refused<'_> {
    /// Something other than the API answered. `may_be_done` says that the request may already have taken effect.
    pub(crate) fn intercepted(&self, may_be_done: bool) -> Error {
        let hint = match self.status.as_u16() {
            _ if may_be_done => MAY_BE_DONE,
            404 | 405 | 501 => "check the base URL of the API and the path",
            500.. => "a gateway cannot reach the API; try again later",
            _ => "check for a proxy, a captive portal or a bot check: open the URL in a browser on this machine",
        };
        let what = "an HTML page answered instead of the API";
        // A load balancer reports an outage with an HTML page.
        let outage = self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED;
        let kind = if outage { ErrorKind::Unavailable } else { ErrorKind::Intercepted };
        self.error(Inner { retryable: outage && !may_be_done, ..Inner::new(kind, what, hint) })
    }

    /// A 401 that a new token cannot mend.
    pub(crate) fn unauthorized(&self) -> Error {
        let what = "the API refuses the access token";
        self.error(Inner::new(ErrorKind::Unauthorized, what, self.cause()))
    }

    /// A 401 to a request that cannot be sent again. The next call gets a new token.
    pub(crate) fn renewed_too_late(&self) -> Error {
        self.error(Inner {
            retryable: true,
            ..Inner::new(
                ErrorKind::Unauthorized,
                "the API refuses the access token, and the body cannot be sent again",
                "call again: the next call gets a new token",
            )
        })
    }

    /// A 401 after a redirect, to a request that must not take effect twice.
    pub(crate) fn unauthorized_later(&self) -> Error {
        let what = "the API refuses the access token at the URL that a redirect led to";
        self.error(Inner::new(ErrorKind::Unauthorized, what, MAY_BE_DONE))
    }

    /// A 403: the token is valid, but it does not allow the call.
    pub(crate) fn forbidden(&self, endpoint: &Endpoint) -> Error {
        let scopes = self.token.scopes();
        let told = match self.challenge("scope") {
            Some(listed) => self.scopes_in(&listed),
            None => documented_in(&self.said()),
        };
        let lacks = |scope: &Scope| !scopes.contains(scope);
        let named: Vec<Scope> = told.iter().filter(|scope| lacks(scope)).cloned().collect();
        if scopes.is_read_only() && (!named.is_empty() || endpoint.scope().is_some_and(lacks)) {
            let missing = if named.is_empty() { endpoint.scope().cloned().into_iter().collect() } else { named };
            return self.missing(missing, READS_ONLY.to_owned());
        }
        if !named.is_empty() {
            let hint = grant(&named, "");
            return self.missing(named, hint);
        }
        if scopes.is_known()
            && told.is_empty()
            && let Some(scope) = endpoint.scope().filter(|scope| lacks(scope))
        {
            let missing = vec![scope.clone()];
            let hint = grant(&missing, "most likely ");
            return self.missing(missing, hint);
        }
        let hint = if told.is_empty() {
            "the token does not allow this call: check the application's permissions, and that the item belongs to its \
             organization"
        } else {
            "the token has the scope that the API names: check that the item belongs to the application's organization"
        };
        self.error(Inner::new(ErrorKind::Refused, "the API refuses permission", hint))
    }

    /// A 429 or a 503.
    pub(crate) fn busy(&self, told: Option<Duration>, html: bool, hint: &'static str) -> Error {
        self.error(Inner { retryable: true, ..self.waiting(told, html, hint) })
    }

    /// A 429 or a 503 after a redirect, to a request that must not take effect twice.
    pub(crate) fn busy_later(&self, told: Option<Duration>, html: bool) -> Error {
        self.error(self.waiting(told, html, MAY_BE_DONE))
    }

    fn waiting(&self, told: Option<Duration>, html: bool, hint: &'static str) -> Inner {
        let (kind, what) = match self.status {
            StatusCode::TOO_MANY_REQUESTS => (ErrorKind::RateLimited, "the API asks for fewer requests"),
            _ if html => (ErrorKind::Unavailable, "the API is unavailable: an HTML page answered in its place"),
            _ => (ErrorKind::Unavailable, "the API, or this endpoint of it, is unavailable"),
        };
        Inner { retry_after: told, ..Inner::new(kind, what, hint) }
    }

    /// Whether a 401 is about the token: it has a `Bearer` challenge.
    pub(crate) fn is_about_token(&self) -> bool {
        self.bearer().next().is_some()
    }

    fn missing(&self, scopes: Vec<Scope>, hint: String) -> Error {
        let what = format!("the access token lacks {}", listed(&scopes));
        self.error(Inner { missing_scopes: scopes, ..Inner::new(ErrorKind::MissingScope, what, hint) })
    }

    /// Adds what the answer says about the error.
    fn error(&self, inner: Inner) -> Error {
        let secret = self.token.access_token();
        let problem = Problem::read(self.body);
        let said = words::cleaned(&self.said(), secret);
        let code = self.challenge("error").filter(|code| words::is_word(code)).or(problem.code);
        let uri = self.challenge("error_uri").or(problem.uri);
        Error::build(Inner {
            status: Some(self.status),
            oauth_code: code.map(|code| words::cleaned(&code, secret)),
            server_said: Some(said).filter(|said| !said.is_empty()),
            error_uri: uri.and_then(|uri| words::plain_uri(uri, secret)),
            support_headers: words::support_headers(self.headers, secret),
            ..inner
        })
    }

    /// The description for people: from the body, or from the challenge when the body has none.
    fn said(&self) -> String {
        let said = Problem::read(self.body).said;
        if said.is_empty() { self.challenge("error_description").unwrap_or_default() } else { said }
    }

    /// The scopes in a list, without those that must not be shown.
    fn scopes_in(&self, listed: &str) -> Vec<Scope> {
        let shown = |scope: &&str| words::cleaned(scope, self.token.access_token()) == **scope;
        distinct(listed.split_ascii_whitespace().filter(shown).map(Scope::from).filter(Scope::is_well_formed))
    }

    /// The likely cause when a new token is refused: the audience, the tenant or the credentials.
    fn cause(&self) -> String {
        let said = self.said().to_ascii_lowercase();
        let legacy = self.token.scopes().is_read_only();
        let Some(claims) = self.token.unverified_claims() else {
            return format!(
                "likely the audience: the token is opaque, as it is without one; set the audience to {AUDIENCE}"
            );
        };
        let audience = claims.audiences.first().filter(|_| !legacy);
        if let Some(audience) = audience.filter(|_| !claims.audiences.iter().any(|one| one == AUDIENCE)) {
            let audience = words::cleaned(audience, self.token.access_token());
            return format!("likely the audience: the token is for {audience}; set the audience to {AUDIENCE}");
        }
        let issued = claims.issuer.as_deref().and_then(is_test);
        let called = self.uri.host().and_then(is_test);
        if issued.is_some() && called.is_some() && issued != called {
            return "likely the environment: one of the token and the API is of production, the other of QA; set both to the \
                    same one, for example with ALVYS_ENV"
                .to_owned();
        }
        if said.contains("audience") && !legacy {
            return match audience {
                Some(_) => {
                    "likely the base URL of the API: check it, because the token has the audience of the public API"
                        .to_owned()
                }
                None => format!("likely the audience: set it to {AUDIENCE} with the slash at the end"),
            };
        }
        let whose = self.organization(&claims);
        if ["tenant", "organization", "organisation", "company"].iter().any(|word| said.contains(word)) {
            return format!(
                "likely the tenant: check that the call is for the tenant that the credentials belong to{whose}"
            );
        }
        if legacy {
            return format!(
                "likely the tenant: check it, and check that Alvys still accepts tokens of the legacy flow{whose}"
            );
        }
        format!(
            "likely the credentials: check in Alvys that the application is still active and has not expired{whose}"
        )
    }

    fn organization(&self, claims: &UnverifiedClaims) -> String {
        let name = claims.organization_name.as_ref().or(claims.organization_id.as_ref());
        let name = name.map(|name| words::cleaned(name, self.token.access_token()));
        name.map(|name| format!(" (the token says {name})")).unwrap_or_default()
    }

    /// A parameter of the `Bearer` challenge in `WWW-Authenticate` (RFC 6750, section 3). There may be other challenges too.
    fn challenge(&self, parameter: &str) -> Option<String> {
        self.bearer().find_map(|(name, text)| {
            let text = text.filter(|_| name.eq_ignore_ascii_case(parameter))?;
            Some(unquoted(text.trim()))
        })
    }

    /// The parameters of the `Bearer` challenges: the name, and the value if there is one.
    fn bearer(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| {
            let mut bearer = false;
            elements(value).filter(|element| !element.trim().is_empty()).filter_map(move |element| {
                let (name, text) = element.split_once('=').map_or((element, None), |(name, text)| (name, Some(text)));
                // A new scheme comes before its first parameter, separated by a space, or it has no parameters.
                let (scheme, name) = match name.trim().split_once([' ', '\t']) {
                    Some((scheme, name)) => (Some(scheme), name.trim_start()),
                    None if text.is_none() => (Some(name.trim()), ""),
                    None => (None, name.trim()),
                };
                bearer = scheme.map_or(bearer, |scheme| scheme.eq_ignore_ascii_case("bearer"));
                bearer.then_some((name, text))
            })
        })
    }
}

/// Splits at the commas outside of quoted strings.
fn elements(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |c| {
        let separates = c == ',' && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        separates
    })
}

/// Removes the quotes and the escapes of a quoted string (RFC 9110, section 5.6.4). Other text stays as it is.
fn unquoted(text: &str) -> String {
    let Some(quoted) = text.strip_prefix('"') else {
        return text.to_owned();
    };
    let mut rest = quoted.chars();
    let unescaped = || match rest.next()? {
        '"' => None,
        '\\' => rest.next(),
        c => Some(c),
    };
    std::iter::from_fn(unescaped).collect()
}

/// The token lacks scopes that the caller requires, so the request is not sent, or not sent again.
pub(crate) fn required(token: &Token, missing: Vec<Scope>, answered: Option<StatusCode>) -> Error {
    let hint = if token.scopes().is_read_only() { READS_ONLY.to_owned() } else { grant(&missing, "") };
    let what = format!("the access token lacks {}; {}", listed(&missing), so_far(answered));
    Error::build(Inner { status: answered, missing_scopes: missing, ..Inner::new(ErrorKind::MissingScope, what, hint) })
}

/// The rate limits, or the API itself, require a longer wait than the call allows.
pub(crate) fn held_back(wait: Duration, asked_by: Option<StatusCode>, answered: Option<StatusCode>) -> Error {
    let (kind, what, hint) = match asked_by {
        Some(StatusCode::SERVICE_UNAVAILABLE) => (
            ErrorKind::Unavailable,
            "the call would have to wait too long, because the API said a moment ago that it is unavailable",
            "wait and call again",
        ),
        Some(_) => (
            ErrorKind::RateLimited,
            "the call would have to wait too long, because the API asked a moment ago for fewer requests",
            "wait and call again",
        ),
        None => (
            ErrorKind::RateLimited,
            "the call would have to wait too long to stay within the rate limits",
            "call less often, or allow the call more patience",
        ),
    };
    let hint = format!("{hint}; {}", so_far(answered));
    let inner = Inner::new(kind, what, hint);
    Error::build(Inner { status: answered, retryable: true, retry_after: Some(wait), ..inner })
}

/// A sentence that says whether the request was sent before. It is for a request that is not sent now.
fn so_far(answered: Option<StatusCode>) -> String {
    match answered {
        None => "nothing was sent".to_owned(),
        Some(status) => format!("it was sent once, answered {}, and not sent again", status.as_u16()),
    }
}

/// What to do about missing scopes. A token keeps the scopes it was issued with, so a new one is needed too.
fn grant(missing: &[Scope], how_sure: &str) -> String {
    format!(
        "{how_sure}an Alvys administrator must grant {} to the application; only tokens issued after that have it",
        listed(missing)
    )
}

fn listed(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(", ")
}

/// The documented scopes that a text names.
fn documented_in(said: &str) -> Vec<Scope> {
    let words = said.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')));
    distinct(
        words.filter_map(|word| {
            Scope::DOCUMENTED.iter().find(|scope| scope.as_str().eq_ignore_ascii_case(word)).cloned()
        }),
    )
}

/// Removes repeated scopes and keeps the order.
fn distinct(scopes: impl Iterator<Item = Scope>) -> Vec<Scope> {
    let mut distinct = Vec::new();
    for scope in scopes {
        if !distinct.contains(&scope) {
            distinct.push(scope);
        }
    }
    distinct
}

/// Whether a host or an issuer belongs to the test installation. None when it does not belong to Alvys.
fn is_test(name: &str) -> Option<bool> {
    let name = name.to_ascii_lowercase();
    if name.contains("alvys.net") { Some(true) } else { name.contains("alvys.com").then_some(false) }
}
