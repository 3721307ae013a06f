//! Refusals and failures as problem documents (RFC 9457).

use std::time::Duration;

use alvys_auth_core::{Error, ErrorKind};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::answer::Answer;

/// An error answer that the proxy makes.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// One word, for programs and for the metrics.
    pub(crate) reason: &'static str,
    pub(crate) detail: String,
    hint: String,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    closes: bool,
    guessed: bool,
    more: Box<Map<String, Value>>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        reason: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            status,
            reason,
            detail: detail.into(),
            hint: hint.into(),
            retry_after: None,
            allow: None,
            closes: false,
            guessed: false,
            more: Box::default(),
        }
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Sets the allowed methods, which a 405 must list.
    pub(crate) fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// Closes the connection after the answer, because it is not clear where the request ends.
    pub(crate) fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Says whether the request had a wrong key.
    pub(crate) fn guessed(mut self, guessed: bool) -> Self {
        self.guessed = guessed;
        self
    }

    pub(crate) fn is_guess(&self) -> bool {
        self.guessed
    }

    /// The proxy has too much to do for this tenant.
    pub(crate) fn too_many() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many",
            "the proxy has as many calls under way as it may have, or as many of this tenant as its share allows",
            "call again later, or allow it more calls at once",
        )
        .retry_after(Duration::from_secs(1))
    }

    /// There is nothing at this path.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_served",
            "this proxy does not serve this path",
            "see the table of routes in the documentation of alvys-auth-proxy",
        )
    }

    /// There is no token. This is never the caller's fault, so the status is 5xx.
    pub(crate) fn no_token(error: &Error) -> Self {
        let status = match error.kind() {
            ErrorKind::RateLimited | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Configuration | ErrorKind::WrongOrganization => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self::of(status, error)
    }

    /// The call failed.
    pub(crate) fn failed_call(error: &Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Refused | ErrorKind::MissingScope => StatusCode::FORBIDDEN,
            ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Configuration | ErrorKind::Destination => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self::of(status, error)
    }

    fn of(status: StatusCode, error: &Error) -> Self {
        let mut more = Map::new();
        if let Some(status) = error.status() {
            more.insert("upstream_status".to_owned(), status.as_u16().into());
        }
        if !error.missing_scopes().is_empty() {
            let scopes = error.missing_scopes().iter().map(|scope| scope.as_str()).collect::<Vec<_>>();
            more.insert("missing_scopes".to_owned(), json!(scopes));
        }
        if let Some(id) = error.request_id() {
            more.insert("request_id".to_owned(), id.into());
        }
        let cause = error.cause().map(|cause| format!(": {cause}")).unwrap_or_default();
        Self {
            retry_after: error.retry_after(),
            more: Box::new(more),
            ..Self::new(status, error.kind().as_str(), error.what() + &cause, error.hint())
        }
    }

    pub(crate) fn into_response(self) -> Response<Answer> {
        let mut document = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "hint": self.hint,
            "reason": self.reason,
        });
        if let Some(members) = document.as_object_mut() {
            members.extend(*self.more);
        }
        let mut response = Response::new(Answer::full(Bytes::from(document.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, (wait.as_millis().div_ceil(1000) as u64).into());
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        response
    }
}
