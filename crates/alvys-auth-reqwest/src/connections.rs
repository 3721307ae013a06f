//! The HTTP clients behind a client: one for calls that are answered soon, and one for those that take their time.

use std::time::Duration;

use reqwest::Request;

use crate::Error;
use crate::transport::{Http, built};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the head of an answer, the sending of the request included, and for each further piece.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The same where the request takes long to be sent.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// From this many bytes on a body may take long to be sent.
const LONG_BODY: usize = 256 * 1024;

/// Connections with one time limit, or with two. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    quick: reqwest::Client,
    patient: reqwest::Client,
}

impl Connections {
    /// The default settings, to which `finish` adds what holds over any settings.
    pub(crate) fn new(finish: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Result<Self, Error> {
        let within =
            |limit| built(finish(Http::default().builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(limit)));
        Ok(Self { quick: within(READ_TIMEOUT)?, patient: within(UPLOAD_TIMEOUT)? })
    }

    /// A client with settings of the caller's own, for every call.
    pub(crate) fn of(http: reqwest::Client) -> Self {
        Self { quick: http.clone(), patient: http }
    }

    /// What makes requests; which of the clients is asked does not matter for that.
    pub(crate) fn builder(&self) -> &reqwest::Client {
        &self.quick
    }

    /// What sends this one. reqwest counts its read timeout from the start of a request, and so takes a long upload for a
    /// silent server. A request with a time limit of its own is bounded by that.
    pub(crate) fn sending(&self, request: &Request) -> &reqwest::Client {
        let long = |body: &reqwest::Body| body.as_bytes().is_none_or(|bytes| bytes.len() > LONG_BODY);
        let patient = request.timeout().is_some() || request.body().is_some_and(long);
        if patient { &self.patient } else { &self.quick }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Body;

    use super::*;

    /// The time limit under which a request would be sent, as the client itself shows it.
    fn limit(
        connections: &Connections,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> String {
        let request = change(connections.builder().post("http://127.0.0.1/")).build().expect("a request");
        let shown = format!("{:?}", connections.sending(&request));
        let (_, limit) = shown.split_once("read_timeout: ").expect("a time limit");
        limit.chars().take_while(|c| c.is_ascii_alphanumeric()).collect()
    }

    #[test]
    fn uploads_and_calls_with_a_time_limit_of_their_own_may_take_longer() {
        let ours = Connections::new(|http| http).expect("two clients");
        assert_eq!(limit(&ours, |request| request), "30s");
        assert_eq!(limit(&ours, |request| request.body("short")), "30s");
        assert_eq!(limit(&ours, |request| request.body(vec![0; 256 * 1024])), "30s");
        assert_eq!(limit(&ours, |request| request.body(vec![0; 256 * 1024 + 1])), "600s");
        assert_eq!(limit(&ours, |request| request.body(Body::wrap(Body::from("streamed")))), "600s");
        assert_eq!(limit(&ours, |request| request.timeout(Duration::from_secs(1))), "600s");
    }

    #[test]
    fn settings_of_the_callers_own_hold_for_every_call() {
        let http = reqwest::Client::builder().read_timeout(Duration::from_secs(7)).build().expect("a client");
        let theirs = Connections::of(http);
        assert_eq!(limit(&theirs, |request| request), "7s");
        assert_eq!(limit(&theirs, |request| request.body(Body::wrap(Body::from("streamed")))), "7s");
    }
}
