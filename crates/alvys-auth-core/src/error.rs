//! One error for the whole workspace: what failed, why in all likelihood, and what to do.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::Scope;

/// Why there is no usable token, or why a call failed: opaque, cheap to clone, and safe to print.
///
/// `Display` is one line that ends with what to do. It holds neither a secret nor a token nor a response body, and does
/// not repeat its [`source`](StdError::source).
///
/// ```
/// use alvys_auth_core::{Credentials, ErrorKind};
///
/// let error = Credentials::new("YOUR_CLIENT_ID", "s3cret").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Configuration);
/// assert!(!error.is_retryable());
/// assert_eq!(
///     error.to_string(),
///     "the client id is still a placeholder from the documentation; \
///      replace it with the value shown on the application's page in Alvys",
/// );
/// ```
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Inner>);

/// What class of thing went wrong; more may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value was refused before anything was sent.
    Configuration,
    /// No answer arrived: name resolution, connection, TLS or a broken transfer.
    Transport,
    /// The caller's patience or the request's time ran out.
    TimedOut,
    /// The server asks for fewer requests, openly or in disguise.
    RateLimited,
    /// The server says that it cannot answer now.
    Unavailable,
    /// The client id or the secret is wrong, rotated or expired.
    Credentials,
    /// Known, but not allowed what was asked for: an audience, a scope, a response type, an item.
    Refused,
    /// Something other than Alvys answered: a proxy, a captive portal, a bot check.
    Intercepted,
    /// An answer arrived and no usable token could be read from it.
    InvalidResponse,
    /// The token belongs to another organization than the one expected.
    WrongOrganization,
    /// The API refuses the token itself (401), and another one does not mend that.
    Unauthorized,
    /// The token lacks a scope; see [`Error::missing_scopes`].
    MissingScope,
    /// A token must not go to where the request would take it.
    Destination,
    /// There is no such tenant among those that this program serves.
    UnknownTenant,
}

#[derive(thiserror::Error)]
#[error("{}", self.line())]
pub(crate) struct Inner {
    pub(crate) kind: ErrorKind,
    pub(crate) what: Cow<'static, str>,
    pub(crate) hint: Cow<'static, str>,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) oauth_code: Option<String>,
    pub(crate) server_said: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) missing_scopes: Vec<Scope>,
    /// Whether the server may have issued, and billed, a token that is lost.
    pub(crate) costly: bool,
    #[source]
    pub(crate) source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request may well succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long the server asked to be left alone, counted from its answer; at most 24 hours.
    ///
    /// Read from `Retry-After` (seconds or date); on a 429 without one, from the spent `Auth0-Client-Quota-Limit` or from
    /// `X-RateLimit-Reset`. A date that comes without the answer's own `Date` counts as 60 seconds, and so does a 429 of the
    /// API that names no time, as Alvys documents.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The `error` code of the answer (RFC 6749, section 5.2), such as `access_denied`.
    #[must_use]
    pub fn oauth_code(&self) -> Option<&str> {
        self.0.oauth_code.as_deref()
    }

    /// The server's id of the request; support asks for it.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The scopes that the token lacks, where that is the failure; empty otherwise.
    #[must_use]
    pub fn missing_scopes(&self) -> &[Scope] {
        &self.0.missing_scopes
    }

    /// What went wrong and what the server told of it: the line of `Display` up to the [`hint`](Self::hint), for those who
    /// show that apart.
    ///
    /// ```
    /// let error = alvys_auth_core::Error::configuration("the key file is empty", "write a key into it");
    /// assert_eq!(error.what(), "the key file is empty");
    /// assert_eq!(error.to_string(), format!("{}; {}", error.what(), error.hint()));
    /// ```
    #[must_use]
    pub fn what(&self) -> String {
        self.0.what()
    }

    /// The likely cause and what to do about it, in one sentence.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.0.hint
    }

    /// A value that was refused before anything was sent, and how to mend it.
    #[must_use]
    pub fn configuration(what: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Configuration, what, hint)
    }

    /// There is no such tenant; for drivers that serve several. Nobody else's token takes its place.
    #[must_use]
    pub fn unknown_tenant(tenant: &str) -> Self {
        let shown: String = tenant.chars().take(40).collect();
        Self::new(
            ErrorKind::UnknownTenant,
            format!("there is no tenant {shown:?}"),
            "check the tenant id; no other tenant's credentials are used in its place",
        )
    }

    /// No answer arrived; for drivers.
    ///
    /// `what` names the step that failed and must hold no secret. Retryable.
    #[must_use]
    pub fn transport(what: impl Into<Cow<'static, str>>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::build(Inner {
            retryable: true,
            source: Some(source.into()),
            ..Inner::new(
                ErrorKind::Transport,
                what,
                "check the network, DNS, proxy and TLS settings between here and the server",
            )
        })
    }

    /// The answer to a token request began as a success and broke off; for drivers. Retryable, but the token that was in it
    /// may have been billed: it is asked for once more at once, and after that with long pauses only.
    #[must_use]
    pub fn cut_short(what: impl Into<Cow<'static, str>>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::build(Inner {
            retryable: true,
            costly: true,
            source: Some(source.into()),
            ..Inner::new(
                ErrorKind::Transport,
                what,
                "check the network and any proxy between here and the server: something ends connections early",
            )
        })
    }

    /// Time ran out before a token or an answer was there; for drivers. Retryable.
    #[must_use]
    pub fn timed_out(what: impl Into<Cow<'static, str>>) -> Self {
        Self::build(Inner {
            retryable: true,
            ..Inner::new(ErrorKind::TimedOut, what, "try again, or allow it more time")
        })
    }

    /// A token of which nothing was left by the time it could have been used.
    pub(crate) fn dead_on_arrival() -> Self {
        Self::new(
            ErrorKind::InvalidResponse,
            "the access token had expired by the time it arrived",
            "the token endpoint answers too slowly for the lifetime it grants, or this clock runs too fast",
        )
    }

    /// Whether the server may have issued, and billed, a token that is lost.
    pub(crate) fn has_cost_a_token(&self) -> bool {
        self.0.costly
    }

    pub(crate) fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::build(Inner::new(kind, what, hint))
    }

    pub(crate) fn build(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Inner {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: hint.into(),
            retryable: false,
            retry_after: None,
            status: None,
            oauth_code: None,
            server_said: None,
            request_id: None,
            missing_scopes: Vec::new(),
            costly: false,
            source: None,
        }
    }

    /// `what (status code: what the server said, request id); hint`
    fn line(&self) -> String {
        format!("{}; {}", self.what(), self.hint)
    }

    fn what(&self) -> String {
        let mut facts = Vec::new();
        if let Some(status) = self.status {
            facts.push(format!("status {}", status.as_u16()));
        }
        if let Some(code) = &self.oauth_code {
            facts.push(code.clone());
        }
        if let Some(said) = &self.server_said {
            facts.push(format!("\"{said}\""));
        }
        if let Some(wait) = self.retry_after {
            facts.push(format!("retry after {} s", wait.as_millis().div_ceil(1000)));
        }
        if let Some(id) = &self.request_id {
            facts.push(format!("request id {id}"));
        }
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        format!("{}{facts}", self.what)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.line())
            .field("retryable", &self.retryable)
            .field("source", &self.source)
            .finish()
    }
}
