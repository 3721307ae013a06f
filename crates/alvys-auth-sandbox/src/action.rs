//! The action of a fault: how it changes the answer.

use std::fmt;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::{reply, route::Route};

/// The action of a fault, without its timing and its headers.
#[derive(Clone)]
pub(crate) enum Action {
    Serve,
    Truncate,
    Status(StatusCode),
    OAuth(StatusCode, &'static str, &'static str),
    Reply(StatusCode, Bytes),
    Reset,
    Hang,
}

impl Action {
    /// The answer instead of the normal one, if the action has one.
    pub(crate) fn answer(&self, route: Route, path: &str) -> Option<Response> {
        match self {
            Self::Status(status) => Some(usual(*status, route, path)),
            Self::OAuth(status, error, description) => Some(reply::oauth_error(*status, error, description)),
            Self::Reply(status, body) => {
                let mut response = reply::empty(*status);
                *response.body_mut() = body.clone().into();
                Some(response)
            }
            Self::Serve | Self::Truncate | Self::Reset | Self::Hang => None,
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve => f.write_str("Serve"),
            Self::Truncate => f.write_str("Truncate"),
            Self::Status(status) | Self::OAuth(status, ..) => {
                write!(f, "Status({})", status.as_u16())
            }
            Self::Reply(status, body) => {
                write!(f, "Reply({}, {} bytes)", status.as_u16(), body.len())
            }
            Self::Reset => f.write_str("Reset"),
            Self::Hang => f.write_str("Hang"),
        }
    }
}

/// The usual answer of `route` with this status.
fn usual(status: StatusCode, route: Route, path: &str) -> Response {
    if route == Route::Token {
        let (error, description) = match status.as_u16() {
            401 => ("access_denied", "Unauthorized"),
            403 => ("access_denied", "Forbidden"),
            429 => ("too_many_requests", "Rate limit exceeded"),
            503 => ("temporarily_unavailable", "The service is temporarily unavailable"),
            500.. => ("server_error", "Internal error"),
            _ => ("invalid_request", reply::reason(status)),
        };
        return reply::oauth_error(status, error, description);
    }
    let mut response = reply::problem(status, reply::reason(status), path);
    if route == Route::Api {
        let challenge = match status {
            StatusCode::UNAUTHORIZED => "Bearer error=\"invalid_token\"",
            StatusCode::FORBIDDEN => "Bearer error=\"insufficient_scope\"",
            _ => return response,
        };
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}
