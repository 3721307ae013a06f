//! Why the API refused a call, and what to do about it.

use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode, Uri};

use crate::error::Inner;
use crate::words::{self, Problem};
use crate::{Endpoint, Error, ErrorKind, Scope, Token, UnverifiedClaims};

/// The audience of the public API, which every usable token names.
const AUDIENCE: &str = "https://api.alvys.com/public/";

pub(crate) const NOT_REPEATED: &str =
    "wait and call again; it was not repeated, because that is not known to be safe for this method or body";
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
    /// Something other than the API answered.
    pub(crate) fn intercepted(&self) -> Error {
        let (what, hint) = match self.status.as_u16() {
            404 | 405 => ("an HTML page answered instead of the API", "check the base URL and the path"),
            500.. => ("an HTML page answered instead of the API", "a gateway cannot reach the API; try again later"),
            _ => (
                "an HTML page answered instead of the API",
                "a proxy, a captive portal or a bot check stands in between; see what a browser shows from here",
            ),
        };
        self.error(Inner { retryable: self.status.is_server_error(), ..Inner::new(ErrorKind::Intercepted, what, hint) })
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

    /// A 403: about permission, not about the token's age.
    pub(crate) fn forbidden(&self, endpoint: &Endpoint) -> Error {
        let problem = Problem::read(self.body);
        let scopes = self.token.scopes();
        let told: Vec<Scope> = match self.challenge("scope") {
            Some(listed) => listed.split_ascii_whitespace().map(Scope::from).collect(),
            None => documented_in(&problem.said),
        };
        let lacks = |scope: &Scope| !scopes.contains(scope);
        let named: Vec<Scope> = told.iter().filter(|scope| scope.is_well_formed() && lacks(scope)).cloned().collect();
        if scopes.is_read_only() && (!named.is_empty() || endpoint.scope().is_some_and(lacks)) {
            let missing = if named.is_empty() { endpoint.scope().cloned().into_iter().collect() } else { named };
            return self.missing(
                missing,
                "tokens of the legacy flow may only read; move to an application of the current flow".to_owned(),
            );
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
    pub(crate) fn busy(&self, pause: Duration, html: bool, hint: &'static str) -> Error {
        let (kind, what) = match self.status {
            StatusCode::TOO_MANY_REQUESTS => (ErrorKind::RateLimited, "the API asks for fewer requests"),
            _ if html => (ErrorKind::Unavailable, "the API is unavailable, an HTML page answers in its place"),
            _ => (ErrorKind::Unavailable, "the API, or this endpoint of it, is unavailable"),
        };
        self.error(Inner { retryable: true, retry_after: Some(pause), ..Inner::new(kind, what, hint) })
    }

    fn missing(&self, scopes: Vec<Scope>, hint: String) -> Error {
        let what = format!("the access token lacks {}", listed(&scopes));
        self.error(Inner { missing_scopes: scopes, ..Inner::new(ErrorKind::MissingScope, what, hint) })
    }

    /// Adds what the answer says of itself.
    fn error(&self, inner: Inner) -> Error {
        let secret = self.token.access_token();
        let problem = Problem::read(self.body);
        let said =
            if problem.said.is_empty() { self.challenge("error_description") } else { Some(problem.said.as_str()) };
        let said = said.map(|said| words::cleaned(said, secret)).filter(|said| !said.is_empty());
        let code = self.challenge("error").map(str::to_owned).or(problem.code);
        Error::build(Inner {
            status: Some(self.status),
            oauth_code: code.filter(|code| words::is_word(code)).map(|code| words::cleaned(&code, secret)),
            server_said: said,
            request_id: words::request_id(self.headers).map(|id| words::cleaned(id, secret)),
            ..inner
        })
    }

    /// What is most likely wrong when a fresh token is refused: the audience, the tenant or the credentials.
    fn cause(&self) -> String {
        let said = Problem::read(self.body).said + self.challenge("error_description").unwrap_or_default();
        let said = said.to_ascii_lowercase();
        let Some(claims) = self.token.unverified_claims() else {
            return format!(
                "likely the audience: the token is opaque, as it is when none was asked for; ask for {AUDIENCE}"
            );
        };
        let audience = claims.audience().filter(|_| !self.token.scopes().is_read_only());
        if let Some(audience) = audience.filter(|audience| *audience != AUDIENCE) {
            let audience = words::cleaned(audience, self.token.access_token());
            return format!("likely the audience: the token is for {audience}, the API takes {AUDIENCE}");
        }
        if said.contains("audience") {
            return format!("likely the audience: ask for {AUDIENCE}, with the slash at its end");
        }
        let (issued, called) =
            (is_test(claims.issuer().unwrap_or_default()), is_test(self.uri.host().unwrap_or_default()));
        if claims.issuer().is_some_and(|issuer| issuer.contains("alvys")) && issued != called {
            return "likely the credentials: they belong to another environment than the API that was called"
                .to_owned();
        }
        let whose = self.organization(&claims);
        if ["tenant", "organization", "organisation", "company"].iter().any(|word| said.contains(word)) {
            return format!(
                "likely the tenant: check that the call is meant for the tenant of these credentials{whose}"
            );
        }
        if self.token.scopes().is_read_only() {
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

    /// A parameter of `WWW-Authenticate: Bearer …` (RFC 6750, section 3).
    fn challenge(&self, parameter: &str) -> Option<&str> {
        self.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).find_map(|value| {
            let parameters =
                value.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer ")).map(|_| &value[7..])?;
            let mut rest = parameters;
            while let Some((name, after)) = rest.split_once('=') {
                let after = after.trim_start();
                let (text, next) = match after.strip_prefix('"') {
                    Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                    None => after.split_once(',').unwrap_or((after, "")),
                };
                if name.trim_matches([',', ' ', '\t']).eq_ignore_ascii_case(parameter) {
                    return Some(text.trim());
                }
                rest = next;
            }
            None
        })
    }
}

/// Scopes that the caller requires and the token lacks; nothing was sent.
pub(crate) fn required(token: &Token, missing: Vec<Scope>) -> Error {
    let hint = if token.scopes().is_read_only() {
        "tokens of the legacy flow may only read; move to an application of the current flow".to_owned()
    } else {
        grant(&missing, "")
    };
    let what = format!("the access token lacks {}; nothing was sent", listed(&missing));
    Error::build(Inner { missing_scopes: missing, ..Inner::new(ErrorKind::MissingScope, what, hint) })
}

/// Our own rate shaping would have to hold the call back for longer than it may wait.
pub(crate) fn shaped(wait: Duration) -> Error {
    Error::build(Inner {
        retryable: true,
        retry_after: Some(wait),
        ..Inner::new(
            ErrorKind::RateLimited,
            "the call was held back to stay within the published rate limits",
            "call less often, or allow the call more patience; nothing was sent",
        )
    })
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
    said.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')))
        .filter_map(|word| Scope::DOCUMENTED.iter().find(|scope| scope.as_str().eq_ignore_ascii_case(word)).cloned())
        .collect()
}

/// Whether a host or an issuer is of the test installation.
fn is_test(name: &str) -> bool {
    name.contains("alvys.net")
}
