//! A client for the Alvys API whose calls are authorized.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use alvys_auth_core::{Api, CallOptions, Error, Scope};
use alvys_auth_driver::{Pace, header};
use serde::Serialize;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::request::Parts;
use ureq::http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use ureq::{Agent, Body, SendBody, Timeout};

use crate::TokenSource;
use crate::agent::{agent, config};
use crate::caller::{Caller, Failure, configured, expects_body};

/// How long the client waits for a host's address and for a connection; for each piece of a request to be taken, for the head
/// of an answer, and for each further piece.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls the Alvys API: authorized, renewed and repeated where that is safe.
///
/// What the API answers arrives as an [`http::Response`](Response), with whatever status, except where the answer is about
/// the token or about waiting: a 401 that a renewal does not mend, a 403, a 429 or 503 that outlasts the patience, and an
/// HTML page in place of the API are [`Error`]s. Cheap to clone; clones share connections and token.
///
/// ```no_run
/// use alvys_auth_ureq::{Api, Client, Credentials, Flow, TokenSource};
///
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let alvys = Client::new(tokens, Api::production());
/// let mut answer = alvys.get("loads/4711").send()?;
/// if !answer.status().is_success() {
///     return Err(format!("Alvys answered {}", answer.status()).into());
/// }
/// let load: serde_json::Value = answer.body_mut().read_json()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client {
    caller: Caller,
    agent: Agent,
}

/// One call on its way; from [`Client::get`] and its like.
#[must_use = "a call does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    request: Result<Request<()>, Error>,
    body: Payload,
    options: CallOptions,
}

enum Payload {
    /// None at all where the request has no body.
    Bytes(Vec<u8>),
    Stream(Box<dyn Read + Send>),
}

impl Client {
    /// A client with default settings: 10 seconds each for the host's address and for a connection, 30 each for a piece of the
    /// request to be taken, for the head of an answer and for each further piece.
    #[must_use]
    pub fn new(tokens: TokenSource, api: Api) -> Self {
        let config = config()
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_write(Some(ANSWER_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(ANSWER_TIMEOUT));
        Self { caller: Caller { tokens, api, pace: None }, agent: agent(config) }
    }

    /// Your own transport settings: certificates, proxies, time limits, redirects, user agent.
    ///
    /// They replace the default ones: without time limits of yours, ureq waits for ever. `http_status_as_error` and
    /// `redirect_auth_headers` are set over yours: a redirect is followed without the token, and what it leads to is
    /// delivered as it is, except a page of HTML. Plain http is sent to this machine only, and to no proxy; ureq alone decides
    /// where a redirect may lead, over plain http too, and takes neither token nor body along.
    #[must_use]
    pub fn agent(mut self, agent: Agent) -> Self {
        self.agent = agent;
        self
    }

    /// Shapes the rate of the calls; without it they go out as they come.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.caller.pace = Some(pace);
        self
    }

    /// `GET` on a path below the API base, such as `loads/4711`, or on a full URL that a token may go to.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// `POST`, likewise.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// `PUT`, likewise.
    pub fn put(&self, path: &str) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// `PATCH`, likewise.
    pub fn patch(&self, path: &str) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// `DELETE`, likewise.
    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// Any method, likewise.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.caller.api.url(path).map(|uri| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = uri;
            request
        });
        RequestBuilder { client: self.clone(), request, body: Payload::Bytes(Vec::new()), options: CallOptions::new() }
    }

    /// Sends a request that was built elsewhere, whose URL is a full one.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn execute(&self, request: Request<impl Into<Vec<u8>>>, options: CallOptions) -> Result<Response<Body>, Error> {
        let (parts, body) = request.into_parts();
        self.call(parts, Payload::Bytes(body.into()), options)
    }

    /// Where the tokens come from.
    #[must_use]
    pub fn tokens(&self) -> &TokenSource {
        &self.caller.tokens
    }

    fn call(&self, parts: Parts, mut body: Payload, options: CallOptions) -> Result<Response<Body>, Error> {
        self.caller.call(parts, options, |request| self.run(request, &mut body)).map_err(|failure| match failure {
            Failure::Call(error) => error,
            Failure::Transport(ureq::Error::Timeout(limit)) => Error::timed_out(match limit {
                Timeout::Resolve | Timeout::Connect => "no connection to the API in time",
                Timeout::PerWrite | Timeout::SendRequest | Timeout::SendBody => {
                    "the API did not take the request in time"
                }
                _ => "the API did not answer in time",
            }),
            Failure::Transport(error) => Error::transport("the call failed on the way", error),
        })
    }

    /// Sends one request once, whatever its answer.
    fn run(&self, request: Request<()>, body: &mut Payload) -> Result<Response<Body>, ureq::Error> {
        let request = configured(&self.agent, request);
        match body {
            Payload::Bytes(bytes) if bytes.is_empty() && !expects_body(request.method()) => self.agent.run(request),
            Payload::Bytes(bytes) => self.agent.run(request.map(|()| bytes.as_slice())),
            Payload::Stream(stream) => self.agent.run(request.map(|()| SendBody::from_reader(stream))),
        }
    }
}

impl RequestBuilder {
    /// Adds a header. One that cannot be sent fails in [`send`](Self::send).
    pub fn header(mut self, name: impl TryInto<HeaderName>, value: impl TryInto<HeaderValue>) -> Self {
        self.request = self.request.and_then(|mut request| {
            let (name, value) = header(name, value)?;
            request.headers_mut().append(name, value);
            Ok(request)
        });
        self
    }

    /// Adds parameters to the query: a map, a struct, or pairs such as `[("page", 1)]`.
    pub fn query<T: Serialize + ?Sized>(mut self, parameters: &T) -> Self {
        self.request = self.request.and_then(|mut request| {
            *request.uri_mut() = with_query(request.uri(), parameters)?;
            Ok(request)
        });
        self
    }

    /// Sends `value` as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => self.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(json),
            Err(_) => {
                self.request = self.request.and_then(|_| {
                    Err(Error::configuration("the body makes no JSON", "give a value that serde_json can write"))
                });
                self
            }
        }
    }

    /// Sends bytes or text.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Payload::Bytes(bytes.into());
        self
    }

    /// Streams a body, which is sent once and never again.
    pub fn stream(mut self, body: impl Read + Send + 'static) -> Self {
        self.body = Payload::Stream(Box::new(body));
        self.options = self.options.single_use_body();
        self
    }

    /// How long the request may take, from its sending until its answer has been read to the end; sent again, it may take as
    /// long again.
    ///
    /// This stands in place of the agent's time limits for sending and for the answer. Waiting for a token, and
    /// [`Api::patience`], are not part of it.
    pub fn timeout(mut self, limit: Duration) -> Self {
        let limit = Some(limit);
        self.request = self.request.map(|request| {
            let config = self.client.agent.configure_request(request).timeout_global(limit);
            config.timeout_recv_response(limit).timeout_per_read(limit).timeout_per_write(limit).build()
        });
        self
    }

    /// Says that sending this twice does the same as sending it once; see [`CallOptions::idempotent`].
    pub fn idempotent(mut self) -> Self {
        self.options = self.options.idempotent();
        self
    }

    /// Names scopes that the token must have; without them nothing is sent.
    pub fn require<S: Into<Scope>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.options = self.options.require(scopes);
        self
    }

    /// Sends the request, again where the rules say so, and gives the answer.
    ///
    /// # Errors
    /// Why there is no token, why none may go there, or what the API's refusal means; see [`Client`].
    pub fn send(self) -> Result<Response<Body>, Error> {
        let (parts, ()) = self.request?.into_parts();
        self.client.call(parts, self.body, self.options)
    }
}

/// Adds to the query that is there.
fn with_query<T: Serialize + ?Sized>(uri: &Uri, parameters: &T) -> Result<Uri, Error> {
    let mut pairs = form_urlencoded::Serializer::new(uri.query().unwrap_or_default().to_owned());
    parameters.serialize(serde_urlencoded::Serializer::new(&mut pairs)).map_err(|_| {
        Error::configuration("the parameters make no query", "give a map, a struct or pairs, whose values are plain")
    })?;
    let query = pairs.finish();
    let mut parts = uri.clone().into_parts();
    let mark = if query.is_empty() { "" } else { "?" };
    parts.path_and_query = format!("{}{mark}{query}", uri.path()).parse().ok();
    Uri::from_parts(parts).map_err(|_| Error::configuration("the query makes no URL", "give shorter parameters"))
}

impl fmt::Debug for Client {
    /// Leaves the agent out: its settings may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl fmt::Debug for RequestBuilder {
    /// Leaves the query, the headers and the body out: they may hold secrets of the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RequestBuilder");
        match &self.request {
            Ok(request) => shown.field("method", request.method()).field("path", &request.uri().path()),
            Err(error) => shown.field("error", error),
        };
        shown.field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alvys_auth_core::{Credentials, Flow};

    use super::*;

    #[test]
    fn no_step_of_a_call_is_without_a_time_limit_by_default() {
        let credentials = Credentials::new("my-client", "s3cret").expect("legal credentials");
        let client = Client::new(TokenSource::new(Flow::current(), credentials).expect("a source"), Api::production());
        let config = client.agent.config();
        let limits = config.timeouts();
        assert_eq!([limits.resolve, limits.connect], [Some(CONNECT_TIMEOUT); 2]);
        let answer = [config.timeout_per_write(), limits.recv_response, config.timeout_per_read()];
        assert_eq!(answer, [Some(ANSWER_TIMEOUT); 3]);
        assert_eq!([limits.global, limits.send_body, limits.recv_body], [None; 3], "a long body may take its time");
    }
}
