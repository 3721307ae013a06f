//! The first step for every request: its body is read and logged, and then a fault may apply.

use std::{error::Error as _, future, io, sync::Arc, time::Duration};

use axum::{
    body::{self, Body},
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use http_body_util::LengthLimitError;

use crate::{action::Action, documents, log::Received, reply, route::Route, server::Server, wire::Cut};

/// The longest request body that is read, except for documents, and the longest body that is
/// logged, in bytes.
const LONGEST_BODY: usize = 1024 * 1024;

pub(crate) async fn pass(
    State(server): State<Arc<Server>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let route = Route::of(parts.uri.path());
    let (body, fits) = match body::to_bytes(body, longest_body(parts.uri.path())).await {
        Ok(body) => (body, true),
        Err(error) if is_too_long(&error) => (Bytes::new(), false),
        // The client has closed the connection, so nobody reads this answer.
        Err(_) => return reply::empty(StatusCode::BAD_REQUEST),
    };
    let kept = if body.len() <= LONGEST_BODY { body.clone() } else { Bytes::new() };
    let received = Received::new(route, &parts, kept, server.age());
    let number = server.log().enter(received);
    let fault = server.faults().take(route, parts.uri.path());
    let delay = fault.as_ref().map(|fault| fault.delay_before());
    wait(delay).await;

    let answer = match fault.as_ref().map(|fault| fault.action()) {
        Some(Action::Hang) => future::pending().await,
        Some(Action::Reset) => {
            cut.request();
            return reply::empty(StatusCode::OK);
        }
        Some(action) => action.answer(route, parts.uri.path()),
        None => None,
    };
    let mut response = match answer {
        Some(answer) => answer,
        None if !fits => reply::problem(StatusCode::PAYLOAD_TOO_LARGE, "The body is too long.", parts.uri.path()),
        None => next.run(Request::from_parts(parts, Body::from(body))).await,
    };
    if let Some(fault) = &fault {
        fault.decorate(response.headers_mut(), server.clock());
        wait(Some(fault.lag_after())).await;
        if matches!(fault.action(), Action::Truncate) {
            response = cut_in_half(response).await;
        }
    }
    stamp(&mut response, &server);
    server.log().answered(number, response.status());
    response
}

fn longest_body(path: &str) -> usize {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if matches!(segments[..], ["api", "p", _, "documents"]) { documents::LONGEST } else { LONGEST_BODY }
}

fn is_too_long(error: &axum::Error) -> bool {
    error.source().is_some_and(|source| source.is::<LengthLimitError>())
}

async fn wait(delay: Option<Duration>) {
    if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
        tokio::time::sleep(delay).await;
    }
}

/// The first half of the answer, with the `Content-Length` of the whole answer. An answer without a
/// body gets a `Content-Length` of one byte.
async fn cut_in_half(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let half = whole.slice(..whole.len() / 2);
    parts.headers.insert(header::CONTENT_LENGTH, whole.len().max(1).into());
    let end = async {
        // Lets the server send the first half before the failure closes the connection.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    let stream = stream::iter([Ok::<Bytes, io::Error>(half)]).chain(stream::once(end));
    Response::from_parts(parts, Body::from_stream(stream))
}

/// Adds `Date` by the server's clock, unless a fault has set it.
fn stamp(response: &mut Response, server: &Server) {
    let now = server.clock().http_date(Duration::ZERO);
    response.headers_mut().entry(header::DATE).or_insert_with(|| reply::value(&now));
}

/// The answer to a method that a path does not have. The router adds `Allow`.
pub(crate) async fn wrong_method(request: Request) -> Response {
    reply::problem(StatusCode::METHOD_NOT_ALLOWED, "This path does not take this method.", request.uri().path())
}

/// The answer to an unknown path.
pub(crate) async fn unknown_path(request: Request) -> Response {
    reply::problem(StatusCode::NOT_FOUND, "There is nothing at this path.", request.uri().path())
}
