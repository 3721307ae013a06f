//! A request to the API: checks its token, its rate limit and its scope, and makes the refusals.

use std::{convert::Infallible, sync::Arc, time::Instant};

use axum::{
    extract::{FromRequest, Request},
    response::Response,
};
use bytes::Bytes;
use http::{Method, StatusCode, header, request::Parts};
use serde_json::Value;

use crate::{fields, issuer::Bearer, limits::Endpoint, reply, server::Server};

/// A request to the API. Refusals are boxed, because answers are large.
pub(crate) struct Call {
    server: Arc<Server>,
    parts: Parts,
    body: Bytes,
}

impl FromRequest<Arc<Server>> for Call {
    type Rejection = Infallible;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        // The gate has read the body already, so collecting it again cannot fail.
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        Ok(Self { server: Arc::clone(server), parts, body })
    }
}

impl Call {
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(crate) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Accepts a request with a valid token, within the rate limits of the endpoint `name`.
    pub(crate) fn admit(&self, name: &str, list: bool) -> Result<Bearer, Box<Response>> {
        let bearer = self.bearer()?;
        let endpoint = Endpoint { name: format!("{} {name}", self.parts.method), list };
        let counted = match self.server.meter().as_mut() {
            Some(meter) => meter.count(&bearer.id, &bearer.tenant, &endpoint, Instant::now()),
            None => Ok(()),
        };
        counted.map_err(|wait| {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let mut response = self.problem(StatusCode::TOO_MANY_REQUESTS, "The rate limit is reached.");
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            response
        })?;
        Ok(bearer)
    }

    /// Refuses a token that does not allow `action` on `entity`.
    pub(crate) fn check_scope(&self, bearer: &Bearer, entity: &str, action: &str) -> Result<(), Box<Response>> {
        if bearer.may(entity, action) {
            return Ok(());
        }
        let scope = format!("{entity}:{action}");
        Err(self.challenge(
            StatusCode::FORBIDDEN,
            &format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""),
            &format!("The access token lacks the scope {scope}."),
        ))
    }

    /// The body, which has to be a JSON object.
    pub(crate) fn json_body(&self) -> Result<Value, Box<Response>> {
        if fields::media_type(&self.parts.headers) != "application/json" {
            return Err(self.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be application/json."));
        }
        serde_json::from_slice(&self.body)
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| self.problem(StatusCode::BAD_REQUEST, "The body is not a JSON object."))
    }

    pub(crate) fn wrong_method(&self, allowed: &str) -> Box<Response> {
        let mut response = self.problem(StatusCode::METHOD_NOT_ALLOWED, "This path does not take this method.");
        response.headers_mut().insert(header::ALLOW, reply::value(allowed));
        response
    }

    pub(crate) fn problem(&self, status: StatusCode, detail: &str) -> Box<Response> {
        Box::new(reply::problem(status, detail, self.parts.uri.path()))
    }

    /// The bearer of this request's token, if the token is valid.
    fn bearer(&self) -> Result<Bearer, Box<Response>> {
        let mut values = self.parts.headers.get_all(header::AUTHORIZATION).iter();
        let token = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(bearer_token),
            (Some(_), Some(_)) => None,
            (None, _) => {
                let detail = "No access token was sent.";
                return Err(self.challenge(StatusCode::UNAUTHORIZED, "Bearer", detail));
            }
        };
        token
            .ok_or("The Authorization header holds no bearer token.")
            .and_then(|token| {
                let now = self.server.clock().now_ms();
                self.server.issuer().check(token, now)
            })
            .map_err(|reason| {
                let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{reason}\"");
                self.challenge(StatusCode::UNAUTHORIZED, &challenge, reason)
            })
    }

    fn challenge(&self, status: StatusCode, challenge: &str, detail: &str) -> Box<Response> {
        let mut response = self.problem(status, detail);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, reply::value(challenge));
        response
    }
}

/// The token in an `Authorization` header. The case of the scheme is ignored.
fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
