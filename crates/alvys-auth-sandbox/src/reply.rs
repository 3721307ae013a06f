//! The formats of answers: JSON, an OAuth error, or a problem document.

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::signing;

/// A plain JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    typed(status, "application/json", body.to_string())
}

/// A JSON answer of the current token endpoint, with the headers it always sends.
pub(crate) fn token_json(status: StatusCode, body: &Value) -> Response {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-auth0-requestid");
    let mut response = json(status, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(REQUEST_ID, value(&signing::hex(&signing::random::<10>())));
    response
}

/// An error of the current token endpoint.
pub(crate) fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response {
    token_json(status, &json!({"error": error, "error_description": description}))
}

/// A problem document, as the legacy token endpoint and the API send it.
pub(crate) fn problem(status: StatusCode, detail: &str, instance: &str) -> Response {
    problem_with(status, detail, instance, Map::new())
}

/// A problem document with more members. They replace the usual ones of the same name.
pub(crate) fn problem_with(status: StatusCode, detail: &str, instance: &str, members: Map<String, Value>) -> Response {
    let mut body = Map::from_iter([
        ("Type".to_owned(), json!("about:blank")),
        ("Title".to_owned(), json!(reason(status))),
        ("Status".to_owned(), json!(status.as_u16())),
        ("Detail".to_owned(), json!(detail)),
        ("Instance".to_owned(), json!(instance)),
    ]);
    body.extend(members);
    typed(status, "application/problem+json", Value::Object(body).to_string())
}

/// An answer with a body of the given media type.
pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = empty(status);
    *response.body_mut() = body.into();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Text as a header value. Characters that are not legal in a header become `?`.
pub(crate) fn value(text: &str) -> HeaderValue {
    let safe: String = text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    HeaderValue::from_str(&safe).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The reason phrase of a status.
pub(crate) fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Unknown status")
}
