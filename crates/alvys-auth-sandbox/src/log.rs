//! The log of the received requests, for tests.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, request::Parts};

use crate::route::Route;

/// The most requests in the log. The oldest are dropped.
const MOST_ENTRIES: usize = 100_000;

/// The most bytes of request bodies in the log. The oldest requests are dropped.
const MOST_BODY_BYTES: usize = 64 * 1024 * 1024;

/// A request as the server received it.
///
/// `Debug` shows neither the body nor the query nor the values of headers.
#[derive(Clone)]
pub struct Received {
    route: Route,
    version: Version,
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Bytes,
    at: Duration,
    status: Option<u16>,
}

impl Received {
    pub(crate) fn new(route: Route, parts: &Parts, body: Bytes, at: Duration) -> Self {
        Self {
            route,
            version: parts.version,
            method: parts.method.as_str().to_owned(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers.clone(),
            body,
            at,
            status: None,
        }
    }

    /// The part of the server that the request went to.
    pub fn route(&self) -> Route {
        self.route
    }

    /// The version of HTTP.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The method, for example `POST`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path as it was sent, with its percent-encoding.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query, without the question mark. None when there was none.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first value of a header. None when it is missing or not text. The case of `name` is ignored.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body. Empty when it was longer than 1 MiB.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The time when the request was read, counted from the start of the sandbox.
    pub fn at(&self) -> Duration {
        self.at
    }

    /// The status of the answer. None before the answer is sent, and when it never is: after a reset
    /// or a hang, or when the client has closed the connection.
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(http::HeaderName::as_str).collect();
        f.debug_struct("Received")
            .field("route", &self.route)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &names)
            .field("body_length", &self.body.len())
            .field("at", &self.at)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The received requests. The counts also contain requests that were dropped from the log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<Received>,
    /// The number of the oldest request in the log.
    first: u64,
    body_bytes: usize,
    token_requests: usize,
    api_requests: usize,
    tokens_issued: usize,
}

impl Log {
    /// Adds a request. Returns its number, for the status of its answer.
    pub(crate) fn enter(&mut self, received: Received) -> u64 {
        if received.route.is_token() {
            self.token_requests += 1;
        } else if received.route == Route::Api {
            self.api_requests += 1;
        }
        let number = self.first + self.entries.len() as u64;
        self.body_bytes += received.body.len();
        self.entries.push_back(received);
        while self.entries.len() > MOST_ENTRIES || self.body_bytes > MOST_BODY_BYTES {
            self.drop_oldest();
        }
        number
    }

    /// Stores the status of the answer, if the request is still in the log.
    pub(crate) fn answered(&mut self, number: u64, status: StatusCode) {
        let entry = number.checked_sub(self.first).and_then(|index| self.entries.get_mut(usize::try_from(index).ok()?));
        if let Some(entry) = entry {
            entry.status = Some(status.as_u16());
        }
    }

    pub(crate) fn token_issued(&mut self) {
        self.tokens_issued += 1;
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.entries.iter().cloned().collect()
    }

    pub(crate) fn token_requests(&self) -> usize {
        self.token_requests
    }

    pub(crate) fn api_requests(&self) -> usize {
        self.api_requests
    }

    pub(crate) fn tokens_issued(&self) -> usize {
        self.tokens_issued
    }

    /// Removes all requests. Requests that are not answered yet are not added again.
    pub(crate) fn clear(&mut self) {
        *self = Self { first: self.first + self.entries.len() as u64, ..Self::default() };
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.first += 1;
            self.body_bytes -= oldest.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(body: Bytes) -> Received {
        let (parts, ()) = http::Request::new(()).into_parts();
        Received::new(Route::Api, &parts, body, Duration::ZERO)
    }

    #[test]
    fn the_oldest_requests_go_when_there_are_too_many() {
        let mut log = Log::default();
        for number in 0..MOST_ENTRIES as u64 + 2 {
            assert_eq!(log.enter(received(Bytes::new())), number);
        }
        assert_eq!(log.requests().len(), MOST_ENTRIES);
        assert_eq!(log.api_requests(), MOST_ENTRIES + 2);
        log.answered(1, StatusCode::OK);
        log.answered(2, StatusCode::NO_CONTENT);
        assert_eq!(log.requests()[0].status(), Some(204));
        assert_eq!(log.requests()[1].status(), None);
    }

    #[test]
    fn an_answer_that_outlasts_a_clear_is_not_noted_on_a_later_request() {
        let mut log = Log::default();
        let early = log.enter(received(Bytes::new()));
        log.clear();
        log.enter(received(Bytes::new()));
        log.answered(early, StatusCode::OK);
        assert_eq!(log.requests()[0].status(), None);
    }

    #[test]
    fn the_oldest_requests_go_when_their_bodies_are_too_long() {
        let mut log = Log::default();
        let body = Bytes::from(vec![0; MOST_BODY_BYTES / 4]);
        for _ in 0..5 {
            log.enter(received(body.clone()));
        }
        assert_eq!(log.requests().len(), 4);
    }
}
