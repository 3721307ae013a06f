//! How ureq sends the calls of a client.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Api, CallOptions, Error};
use alvys_auth_driver::{Refusals, Transport};
use ureq::http::{Request, Response};
use ureq::{Agent, Body, SendBody};

use crate::caller::{self, Caller, Tokens, configured, expect_consent, expects_body, on_connection};
use crate::network::Http;
use crate::transport::{explain, not_led_to};

/// How long the client waits for a host's address and for a connection. The next limit is for each piece of a request
/// to be sent, for the head of an answer, and for each further piece.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A body with more bytes is sent only after the server agrees, as curl does.
const LARGE: usize = 1024 * 1024;

/// Sends the calls of a [`Client`](crate::Client) with ureq.
///
/// By default, a call waits up to 10 seconds each for the host's address and for a connection, and up to 30 seconds
/// each until a piece of the request is sent, for the head of the answer, and for each further piece.
///
/// A body of more than a mebibyte, and any stream, waits for the server's consent, for a second at the most. An answer
/// that comes before the body is sent is delivered, even if the server then closes its connection.
///
/// A proxy that refuses its user name and password is not asked again for 5 minutes: calls of that origin fail at once. Another
/// client, which has other settings, does not wait.
///
/// An agent of your own ([`http`](alvys_auth_driver::ClientBuilder::http), or
/// [`sharing`](alvys_auth_driver::ClientBuilder::sharing), which is the same here) brings time limits of its own:
/// without them ureq waits for ever. It does not hear an answer to a request that could not be sent whole, and
/// does not remember what a proxy refuses, unless [`Http::agent`](crate::Http::agent) made it. `http_status_as_error` and `redirect_auth_headers` are set over yours:
/// a redirect is followed without the token, and what it leads to is delivered as it is, except a page of HTML. Plain
/// http is sent to this machine only, and to no proxy; ureq alone decides where a redirect may lead, over plain http
/// too, and takes neither token nor body along.
#[derive(Clone)]
pub struct Calls {
    agent: Agent,
    /// The remembered refusals of proxies.
    refusals: Refusals,
}

/// The body of a request: bytes or text, or a stream.
pub struct Payload(Content);

enum Content {
    /// No bytes when the request has no body.
    Bytes(Vec<u8>),
    Stream(Box<dyn Read + Send>),
}

/// A request as [`Calls`] send it; made of any [`http::Request`](Request) whose body is a [`Payload`] or bytes.
#[derive(Debug)]
pub struct Outgoing(Request<Payload>);

impl Payload {
    /// Makes a body of a stream, which is sent once and never again.
    pub fn stream(body: impl Read + Send + 'static) -> Self {
        Self(Content::Stream(Box::new(body)))
    }
}

impl<B: Into<Vec<u8>>> From<B> for Payload {
    fn from(bytes: B) -> Self {
        Self(Content::Bytes(bytes.into()))
    }
}

impl<B: Into<Payload>> From<Request<B>> for Outgoing {
    fn from(request: Request<B>) -> Self {
        Self(request.map(Into::into))
    }
}

impl Transport for Calls {
    type Tokens = Tokens;
    type Http = Agent;
    type Shared = Agent;
    type Body = Payload;
    type Request = Outgoing;
    type Sent = Result<Response<Body>, Error>;

    fn new(http: Option<Agent>, api: &Api) -> Result<Self, Error> {
        let default = || {
            let http = Http::default();
            http.check(&api.base().parse().map_err(|_| {
                Error::configuration("the base URL of the API cannot be called", "correct its host or path")
            })?)?;
            let config = Http::config()
                .timeout_resolve(Some(CONNECT_TIMEOUT))
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_per_write(Some(ANSWER_TIMEOUT))
                .timeout_recv_response(Some(ANSWER_TIMEOUT))
                .timeout_per_read(Some(ANSWER_TIMEOUT));
            Ok(http.agent(config))
        };
        Ok(Self { agent: http.map_or_else(default, Ok)?, refusals: Refusals::default() })
    }

    fn sharing(shared: Agent, _: &Api) -> Self {
        Self { agent: shared, refusals: Refusals::default() }
    }

    fn request(&self, request: Request<Payload>, timeout: Option<Duration>) -> Result<Outgoing, Error> {
        let Some(limit) = timeout.map(Some) else { return Ok(Outgoing(request)) };
        let (parts, body) = request.into_parts();
        let config = self.agent.configure_request(Request::from_parts(parts, ())).timeout_global(limit);
        let config = config.timeout_recv_response(limit).timeout_per_read(limit).timeout_per_write(limit);
        Ok(Outgoing(config.build().map(|()| body)))
    }

    fn send(
        &self,
        caller: Arc<Caller>,
        request: Result<Outgoing, Error>,
        options: CallOptions,
    ) -> Result<Response<Body>, Error> {
        let (parts, Payload(mut body)) = request?.0.into_parts();
        let streamed = matches!(body, Content::Stream(_));
        let options = if streamed { options.single_use_body() } else { options };
        self.refusals.check(&parts.uri, caller.time().now())?;
        let sent = caller::call(&caller, parts, options, |request, anew| self.run(request, &mut body, anew));
        sent.map_err(|failure| {
            failure.explained(|peer, error| {
                let place = not_led_to(&error);
                let error = explain(peer, error);
                place.iter().for_each(|uri| self.refusals.failed(uri, &error, caller.time().now()));
                error
            })
        })
    }
}

impl Calls {
    /// Sends one request once, whatever its answer.
    fn run(&self, request: Request<()>, body: &mut Content, anew: bool) -> Result<Response<Body>, ureq::Error> {
        let mut request = on_connection(&self.agent, configured(&self.agent, request), anew);
        if !matches!(body, Content::Bytes(bytes) if bytes.len() <= LARGE) {
            expect_consent(&mut request);
        }
        match body {
            Content::Bytes(bytes) if bytes.is_empty() && !expects_body(request.method()) => self.agent.run(request),
            Content::Bytes(bytes) => self.agent.run(request.map(|()| bytes.as_slice())),
            Content::Stream(stream) => self.agent.run(request.map(|()| SendBody::from_reader(stream))),
        }
    }
}

impl fmt::Debug for Calls {
    /// Leaves the agent out: its settings may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

impl fmt::Debug for Payload {
    /// Leaves the bytes out: they are the caller's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_of_a_call_is_without_a_time_limit_by_default() {
        let calls = Calls::new(None, &Api::production()).expect("an agent");
        let config = calls.agent.config();
        let limits = config.timeouts();
        assert_eq!([limits.resolve, limits.connect], [Some(CONNECT_TIMEOUT); 2]);
        let answer = [config.timeout_per_write(), limits.recv_response, config.timeout_per_read()];
        assert_eq!(answer, [Some(ANSWER_TIMEOUT); 3]);
        assert_eq!([limits.global, limits.send_body, limits.recv_body], [None; 3], "a long body may take its time");
    }
}
