//! The error type of the whole workspace: what happened, the likely cause, and what to do.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{Scope, TransportFault, words};

/// Why there is no usable token, or why a call failed.
///
/// An error is cheap to clone and safe to log. `Display` writes one line: what happened, what the server said, and what to
/// do. It never contains a secret, a token or a response body, and it does not repeat its [`source`](StdError::source);
/// `{:#}` adds the innermost [`cause`](Self::cause), for logs.
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
#[derive(Clone)]
pub struct Error(Arc<Inner>);

/// The kind of a failure. More kinds may be added.
///
/// ```
/// use alvys_auth_core::ErrorKind;
///
/// assert_eq!(ErrorKind::RateLimited.as_str(), "rate_limited");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting or a value is wrong. Nothing was sent.
    Configuration,
    /// No answer arrived: name resolution or the connection failed, or the transfer broke off.
    Transport,
    /// The certificate of the server is not trusted, or the server does not take the one of this machine. Somebody else may
    /// have answered in the server's place.
    Certificate,
    /// A proxy refuses its user name and password, or misses them (407).
    ProxyCredentials,
    /// No token or no answer was there when the time limit passed.
    TimedOut,
    /// The server asks for fewer requests, with a 429 or with a message that says so under another status.
    RateLimited,
    /// The server says that it cannot answer now.
    Unavailable,
    /// The client id or the client secret is wrong, was rotated, or has expired.
    Credentials,
    /// The server knows the application but does not allow the request: its audience, scope, grant type or item.
    Refused,
    /// Something other than Alvys answered: a proxy, a captive portal or a bot check.
    Intercepted,
    /// An answer arrived, but it contains no usable token, or cannot be read at all.
    InvalidResponse,
    /// The token belongs to another organization than the expected one.
    WrongOrganization,
    /// The API refuses the token (401), and a new token was no help or could not be tried.
    Unauthorized,
    /// The token lacks a scope; see [`Error::missing_scopes`].
    MissingScope,
    /// The request would take a token to a server that must not receive one.
    Destination,
    /// This program does not serve the requested tenant.
    UnknownTenant,
}

impl ErrorKind {
    /// The kind in `snake_case`, for logs, metrics and JSON. It stays the same between versions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Transport => "transport",
            Self::Certificate => "certificate",
            Self::ProxyCredentials => "proxy_credentials",
            Self::TimedOut => "timed_out",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Credentials => "credentials",
            Self::Refused => "refused",
            Self::Intercepted => "intercepted",
            Self::InvalidResponse => "invalid_response",
            Self::WrongOrganization => "wrong_organization",
            Self::Unauthorized => "unauthorized",
            Self::MissingScope => "missing_scope",
            Self::Destination => "destination",
            Self::UnknownTenant => "unknown_tenant",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

pub(crate) struct Inner {
    pub(crate) kind: ErrorKind,
    pub(crate) what: Cow<'static, str>,
    pub(crate) hint: Cow<'static, str>,
    pub(crate) retryable: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) oauth_code: Option<String>,
    pub(crate) server_said: Option<String>,
    pub(crate) error_uri: Option<String>,
    pub(crate) support_headers: Vec<(&'static str, String)>,
    pub(crate) missing_scopes: Vec<Scope>,
    /// Whether the server may have issued, and billed, a token that is lost.
    pub(crate) costly: bool,
    pub(crate) fault: Option<TransportFault>,
    pub(crate) source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request may succeed later although nobody changes anything.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Why the request has no answer, if the HTTP client has reported it; see [`Error::on_the_way`].
    pub fn fault(&self) -> Option<TransportFault> {
        self.0.fault
    }

    /// How long the server asks its clients to wait, counted from the answer; at most 24 hours.
    ///
    /// It is read from `Retry-After` (seconds or a date). On a 429 without it, it is read from `Auth0-Client-Quota-Limit` or
    /// `Auth0-Organization-Quota-Limit`, else from `X-RateLimit-Reset`. It is 60 seconds, as Alvys documents, when
    /// `Retry-After` is a date and the answer has no `Date`, and when a 429 of the API names no time.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status of the answer. None when there was no answer.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The `error` code of the answer (RFC 6749, section 5.2; RFC 6750, section 3), such as `access_denied`.
    pub fn oauth_code(&self) -> Option<&str> {
        self.0.oauth_code.as_deref()
    }

    /// The `error_description` of the answer (RFC 6749, section 5.2; RFC 6750, section 3), in at most 200 characters.
    ///
    /// When the answer has another format, it is the sentence for people in it, such as `detail` (RFC 9457). Control
    /// characters, secrets and tokens are removed.
    pub fn oauth_description(&self) -> Option<&str> {
        self.0.server_said.as_deref()
    }

    /// The `error_uri` of the answer: a web page about the error (RFC 6749, section 5.2; RFC 6750, section 3).
    ///
    /// None when it is not an http or https URL, has user information, or contains a secret or a token.
    pub fn error_uri(&self) -> Option<&str> {
        self.0.error_uri.as_deref()
    }

    /// The server's id of the request, which support asks for: the first of [`support_headers`](Self::support_headers).
    pub fn request_id(&self) -> Option<&str> {
        self.support_headers().next().map(|(_, id)| id)
    }

    /// The response headers that support asks for, as pairs of name and value: `x-auth0-requestid`, `x-request-id`,
    /// `cf-ray`, `x-correlation-id`, `x-ms-request-id` and `x-azure-ref`, as far as the answer had them.
    pub fn support_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.support_headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The scopes that the token lacks, when the kind is [`ErrorKind::MissingScope`]; empty otherwise.
    pub fn missing_scopes(&self) -> &[Scope] {
        &self.0.missing_scopes
    }

    /// What happened and what the server said about it. `Display` writes this, a semicolon and the [`hint`](Self::hint).
    ///
    /// ```
    /// let error = alvys_auth_core::Error::configuration("the key file is empty", "write a key into it");
    /// assert_eq!(error.what(), "the key file is empty");
    /// assert_eq!(error.to_string(), format!("{}; {}", error.what(), error.hint()));
    /// ```
    pub fn what(&self) -> String {
        self.0.what()
    }

    /// The innermost [`source`](StdError::source) in one line of at most 200 characters: why a request has no answer, in the
    /// words of the HTTP client or the system.
    pub fn cause(&self) -> Option<String> {
        let mut cause: &(dyn StdError + 'static) = self.0.source.as_deref()?;
        loop {
            // An `io::Error` passes over the error that it wraps.
            let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            match wrapped.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| cause.source()) {
                Some(next) => cause = next,
                None => break,
            }
        }
        Some(words::one_line(&cause.to_string(), |word| word))
    }

    /// The likely cause and what to do, in one sentence.
    pub fn hint(&self) -> &str {
        &self.0.hint
    }

    /// An error of the kind [`ErrorKind::Configuration`]: what is wrong with a value, and what to do.
    pub fn configuration(what: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Configuration, what, hint)
    }

    /// An error of the kind [`ErrorKind::UnknownTenant`], for providers and drivers that serve several tenants.
    pub fn unknown_tenant(tenant: &str) -> Self {
        let shown: String = tenant.chars().take(40).collect();
        Self::new(
            ErrorKind::UnknownTenant,
            format!("there is no tenant {shown:?}"),
            "check the tenant id; nothing was sent, and no other tenant's credentials were used",
        )
    }

    /// An error of the kind [`ErrorKind::Transport`], for drivers. It is retryable.
    ///
    /// `what` says which step failed. It must not contain a secret.
    pub fn transport(what: impl Into<Cow<'static, str>>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::build(Inner {
            retryable: true,
            source: Some(source.into()),
            ..Inner::new(
                ErrorKind::Transport,
                what,
                "check the network, DNS, proxy and TLS settings between this machine and the server",
            )
        })
    }

    /// An error of the kind [`ErrorKind::TimedOut`], for drivers. It is retryable.
    ///
    /// `what` says what was not there in time. It must not contain a secret.
    pub fn timed_out(what: impl Into<Cow<'static, str>>) -> Self {
        Self::build(Inner { retryable: true, ..Inner::new(ErrorKind::TimedOut, what, "try again, or allow more time") })
    }

    /// The same error, as it is reported from memory without a request; `left` is how long it is remembered.
    pub(crate) fn remembered(&self, left: Duration) -> Self {
        let inner = &self.0;
        Self::build(Inner {
            retry_after: Some(left),
            fault: inner.fault,
            source: self.cause().map(Into::into),
            ..Inner::new(inner.kind, inner.what.clone(), inner.hint.clone())
        })
    }

    /// A token that had expired before anybody could use it.
    pub(crate) fn dead_on_arrival() -> Self {
        Self::new(
            ErrorKind::InvalidResponse,
            "the access token had expired by the time it arrived",
            "the token endpoint answers too slowly for the lifetime that it grants, or the clock of this machine runs too fast",
        )
    }

    /// Whether the server may have issued, and billed, a token that is lost.
    pub(crate) fn has_cost_a_token(&self) -> bool {
        self.0.costly
    }

    pub(crate) fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self::build(Inner::new(kind, what, hint))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn build(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        if let Some(cause) = self.cause().filter(|_| f.alternate()) {
            write!(f, ": {cause}")?;
        }
        write!(f, "; {}", self.hint())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("retryable", &self.0.retryable)
            .field("source", &self.0.source)
            .finish()
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
            error_uri: None,
            support_headers: Vec::new(),
            missing_scopes: Vec::new(),
            costly: false,
            fault: None,
            source: None,
        }
    }

    /// `what (status code: what the server said, request id)`
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
        if let Some((_, id)) = self.support_headers.first() {
            facts.push(format!("request id {id}"));
        }
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
        format!("{}{facts}", self.what)
    }
}
