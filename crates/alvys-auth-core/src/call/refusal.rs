//! Why the API refused a call, and what to do about it.

use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode, Uri};

use crate::error::Inner;
use crate::flow::AUDIENCE;
use crate::words::{self, Problem};
use crate::{Endpoint, Error, ErrorKind, Scope, Token, UnverifiedClaims};

pub(crate) const NOT_REPEATED: &str =
    "wait and call again; it was not repeated, because that is not known to be safe for this method or body";
const MAY_BE_DONE: &str = "look whether it was carried out before you call again; it was not repeated, because the redirect \
    that was its first answer may mean that";
const READS_ONLY: &str = "tokens of the legacy flow may only read; move to an application of the current flow";
pub(crate) const TOO_LONG: &str = "wait and call again; the wait is longer than this call's patience";

/// A refusal, and the call it answers.
pub(crate) struct Refused<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) token: &'a Token,
    pub(crate) uri: &'a Uri,
}

impl Refused<'_> {
    /// Something other than the API answered, after the request was carried out perhaps.
    pub(crate) fn intercepted(&self, may_be_done: bool) -> Error {
        let hint = match self.status.as_u16() {
            _ if may_be_done => MAY_BE_DONE,
            404 | 405 => "check the base URL and the path",
            500.. => "a gateway cannot reach the API; try again later",
            _ => "a proxy, a captive portal or a bot check stands in between; see what a browser shows from here",
        };
        let what = "an HTML page answered instead of the API";
        let retryable = self.status.is_server_error() && !may_be_done;
        self.error(Inner { retryable, ..Inner::new(ErrorKind::Intercepted, what, hint) })
    }

    /// A 401 that another token does not mend.
    pub(crate) fn unauthorized(&self) -> Error {
        let what = "the API refuses the access token";
        self.error(Inner::new(ErrorKind::Unauthorized, what, self.cause()))
    }

    /// A 401 to a request that cannot be sent again, after which another token will be fetched.
    pub(crate) fn renewed_too_late(&self) -> Error {
        self.error(Inner {
            retryable: true,
            ..Inner::new(
                ErrorKind::Unauthorized,
                "the API refuses the access token, and the body cannot be sent again",
                "call again: another token is fetched for that",
            )
        })
    }

    /// A 401 from where a redirect led, to a request that must not be carried out twice.
    pub(crate) fn unauthorized_later(&self) -> Error {
        let what = "the API refuses the access token where a redirect led";
        self.error(Inner::new(ErrorKind::Unauthorized, what, MAY_BE_DONE))
    }

    /// A 403: about permission, not about the token's age.
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
            "the token is known but not allowed this: check the application's permissions, and that the item is its own"
        } else {
            "the token carries the scope that the API names: check that the item belongs to this organization"
        };
        self.error(Inner::new(ErrorKind::Refused, "the API refuses permission", hint))
    }

    /// A 429 or a 503.
    pub(crate) fn busy(&self, told: Option<Duration>, html: bool, hint: &'static str) -> Error {
        self.error(Inner { retryable: true, ..self.waiting(told, html, hint) })
    }

    /// A 429 or a 503 from where a redirect led, to a request that must not be carried out twice.
    pub(crate) fn busy_later(&self, told: Option<Duration>, html: bool) -> Error {
        self.error(self.waiting(told, html, MAY_BE_DONE))
    }

    fn waiting(&self, told: Option<Duration>, html: bool, hint: &'static str) -> Inner {
        let (kind, what) = match self.status {
            StatusCode::TOO_MANY_REQUESTS => (ErrorKind::RateLimited, "the API asks for fewer requests"),
            _ if html => (ErrorKind::Unavailable, "the API is unavailable, an HTML page answers in its place"),
            _ => (ErrorKind::Unavailable, "the API, or this endpoint of it, is unavailable"),
        };
        Inner { retry_after: told, ..Inner::new(kind, what, hint) }
    }

    /// Whether a 401 says itself that it is about the token: its challenge asks for one.
    pub(crate) fn is_about_token(&self) -> bool {
        self.bearer().next().is_some()
    }

    fn missing(&self, scopes: Vec<Scope>, hint: String) -> Error {
        let what = format!("the access token lacks {}", listed(&scopes));
        self.error(Inner { missing_scopes: scopes, ..Inner::new(ErrorKind::MissingScope, what, hint) })
    }

    /// Adds what the answer says of itself.
    fn error(&self, inner: Inner) -> Error {
        let secret = self.token.access_token();
        let problem = Problem::read(self.body);
        let said = words::cleaned(&self.said(), secret);
        let code = self.challenge("error").filter(|code| words::is_word(code)).or(problem.code);
        Error::build(Inner {
            status: Some(self.status),
            oauth_code: code.map(|code| words::cleaned(&code, secret)),
            server_said: Some(said).filter(|said| !said.is_empty()),
            request_id: words::request_id(self.headers).map(|id| words::cleaned(id, secret)),
            ..inner
        })
    }

    /// The sentences for people: of the body, else of the challenge.
    fn said(&self) -> String {
        let said = Problem::read(self.body).said;
        if said.is_empty() { self.challenge("error_description").unwrap_or_default() } else { said }
    }

    /// The scopes of a list that are fit to be shown.
    fn scopes_in(&self, listed: &str) -> Vec<Scope> {
        let shown = |scope: &&str| words::cleaned(scope, self.token.access_token()) == **scope;
        distinct(listed.split_ascii_whitespace().filter(shown).map(Scope::from).filter(Scope::is_well_formed))
    }

    /// What is most likely wrong when a fresh token is refused: the audience, the tenant or the credentials.
    fn cause(&self) -> String {
        let said = self.said().to_ascii_lowercase();
        let legacy = self.token.scopes().is_read_only();
        let Some(claims) = self.token.unverified_claims() else {
            return format!(
                "likely the audience: the token is opaque, as it is when none was asked for; ask for {AUDIENCE}"
            );
        };
        let audience = claims.audience().filter(|_| !legacy);
        if let Some(audience) = audience.filter(|_| !claims.is_for(AUDIENCE)) {
            let audience = words::cleaned(audience, self.token.access_token());
            return format!("likely the audience: the token is for {audience}, the API takes {AUDIENCE}");
        }
        let issued = claims.issuer().and_then(is_test);
        let called = self.uri.host().and_then(is_test);
        if issued.is_some() && called.is_some() && issued != called {
            return "likely the credentials: they belong to another environment than the API that was called"
                .to_owned();
        }
        if said.contains("audience") && !legacy {
            return match audience {
                Some(_) => "likely the audience: the token is for the public API, so check the base URL".to_owned(),
                None => format!("likely the audience: ask for {AUDIENCE}, with the slash at its end"),
            };
        }
        let whose = self.organization(&claims);
        if ["tenant", "organization", "organisation", "company"].iter().any(|word| said.contains(word)) {
            return format!(
                "likely the tenant: check that the call is meant for the tenant of these credentials{whose}"
            );
        }
        if legacy {
            return format!("likely the tenant: check it, and that Alvys still takes tokens of the legacy flow{whose}");
        }
        format!(
            "likely the credentials: check in Alvys that the application is still active and has not expired{whose}"
        )
    }

    fn organization(&self, claims: &UnverifiedClaims) -> String {
        let name = claims.organization_name().or_else(|| claims.organization_id());
        let name = name.map(|name| words::cleaned(name, self.token.access_token()));
        name.map(|name| format!(" (the token says {name})")).unwrap_or_default()
    }

    /// A parameter of `WWW-Authenticate: Bearer …` (RFC 6750, section 3), also where other schemes stand beside it.
    fn challenge(&self, parameter: &str) -> Option<String> {
        self.bearer().find_map(|(name, text)| {
            let text = text.filter(|_| name.eq_ignore_ascii_case(parameter))?;
            Some(unquoted(text.trim()))
        })
    }

    /// The elements of the challenges whose scheme is `Bearer`: parameters with their texts, and what stands without one.
    fn bearer(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| {
            let mut bearer = false;
            elements(value).filter(|element| !element.trim().is_empty()).filter_map(move |element| {
                let (name, text) = element.split_once('=').map_or((element, None), |(name, text)| (name, Some(text)));
                // A new scheme stands before its first parameter, separated by a space, or alone.
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

/// Splits at the commas that stand outside of quoted strings.
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

/// A token as it is, a quoted string without its quotes and escapes (RFC 9110, section 5.6.4).
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

/// Scopes that the caller requires and the token lacks, so that nothing is sent, or not again.
pub(crate) fn required(token: &Token, missing: Vec<Scope>, answered: Option<StatusCode>) -> Error {
    let hint = if token.scopes().is_read_only() { READS_ONLY.to_owned() } else { grant(&missing, "") };
    let what = format!("the access token lacks {}; {}", listed(&missing), so_far(answered));
    Error::build(Inner { status: answered, missing_scopes: missing, ..Inner::new(ErrorKind::MissingScope, what, hint) })
}

/// A call would have to be held back for longer than it may wait, to keep the limits or because the API asked for it.
pub(crate) fn held_back(wait: Duration, asked_by: Option<StatusCode>, answered: Option<StatusCode>) -> Error {
    let (kind, what, hint) = match asked_by {
        Some(StatusCode::SERVICE_UNAVAILABLE) => (
            ErrorKind::Unavailable,
            "the call was held back because the API said a moment ago that it is unavailable",
            "wait and call again",
        ),
        Some(_) => (
            ErrorKind::RateLimited,
            "the call was held back because the API asked a moment ago for fewer requests",
            "wait and call again",
        ),
        None => (
            ErrorKind::RateLimited,
            "the call was held back to stay within the rate limits",
            "call less often, or allow the call more patience",
        ),
    };
    let hint = format!("{hint}; {}", so_far(answered));
    let inner = Inner::new(kind, what, hint);
    Error::build(Inner { status: answered, retryable: true, retry_after: Some(wait), ..inner })
}

/// What the API has seen of a request that is not sent now.
fn so_far(answered: Option<StatusCode>) -> String {
    match answered {
        None => "nothing was sent".to_owned(),
        Some(status) => format!("it was sent before, answered {}, and not sent again", status.as_u16()),
    }
}

/// A token keeps the scopes it was issued with, so granting alone does not help at once.
fn grant(missing: &[Scope], how_sure: &str) -> String {
    format!(
        "{how_sure}an Alvys administrator has to grant the application {}; tokens issued before that stay without",
        listed(missing)
    )
}

fn listed(scopes: &[Scope]) -> String {
    scopes.iter().map(Scope::as_str).collect::<Vec<_>>().join(", ")
}

/// The documented scopes that a sentence names.
fn documented_in(said: &str) -> Vec<Scope> {
    let words = said.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')));
    distinct(
        words.filter_map(|word| {
            Scope::DOCUMENTED.iter().find(|scope| scope.as_str().eq_ignore_ascii_case(word)).cloned()
        }),
    )
}

/// Each scope once, in the order given.
fn distinct(scopes: impl Iterator<Item = Scope>) -> Vec<Scope> {
    let mut distinct = Vec::new();
    for scope in scopes {
        if !distinct.contains(&scope) {
            distinct.push(scope);
        }
    }
    distinct
}

/// Whether a host or an issuer is of the test installation; none when it is not of Alvys.
fn is_test(name: &str) -> Option<bool> {
    let name = name.to_ascii_lowercase();
    if name.contains("alvys.net") { Some(true) } else { name.contains("alvys.com").then_some(false) }
}
