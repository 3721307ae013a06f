//! Authorized calls for an existing agent.

use std::fmt;
use std::io::{Cursor, Read};

use alvys_auth_core::{Api, CallOptions, Error};
use alvys_auth_driver::{BlockingTokens, Failure, Pace, Time};
use ureq::http::HeaderValue;
use ureq::http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use ureq::http::request::Parts;
use ureq::http::{Request, Response};
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Agent, Body, SendBody};

use crate::caller::{self, Caller, configured, expects_body, on_connection};

/// The longest body that is kept, in bytes, so that it can be sent again.
const KEPT: u64 = 1024 * 1024;

/// Authorizes every request of a ureq agent, as [`Client`](crate::Client) does its own.
///
/// A request with an `Authorization` header of its own is sent as it is, with the settings of its own agent. A request
/// to a host that no token may be sent to fails, so use another agent for other hosts. [`CallOptions`] are taken from
/// the request's extensions. Errors of this library arrive as [`ureq::Error::Other`], from which
/// [`Error`](crate::Error) can be downcast.
///
/// ureq lets a middleware pass a request on only once. If the request must be sent again, that goes through the agent
/// given to [`new`](Self::new). The settings of that agent also hold for the first time, unless the request has its
/// own. Redirects are followed without the token and the body. ureq alone decides where they may lead, over plain http
/// too. That agent alone decides whether a status becomes an error. Otherwise, plain http is sent to this machine only,
/// and to no proxy. Bodies of up to 1 MiB are kept to be sent again; a longer one is streamed in chunks and sent once.
/// Give that agent time limits, as below: without them ureq waits for ever for a server that answers nothing, or that
/// stops reading a long body.
///
/// ```no_run
/// use std::time::Duration;
///
/// use alvys_auth_ureq::{Api, Authorize, Credentials, Flow, TokenSource};
/// use ureq::Agent;
///
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let limit = Some(Duration::from_secs(30));
/// let plain = Agent::config_builder()
///     .timeout_resolve(limit)
///     .timeout_connect(limit)
///     .timeout_per_write(limit)
///     .timeout_recv_response(limit)
///     .timeout_per_read(limit);
/// let authorize = Authorize::new(tokens, Api::production(), plain.build().into());
/// let agent: Agent = Agent::config_builder().middleware(authorize).build().into();
/// let loads = agent.get("https://integrations.alvys.com/api/p/v1/loads").call()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "its setters give back the changed value"]
pub struct Authorize {
    caller: Caller,
    agent: Agent,
}

impl Authorize {
    /// Takes the tokens from `tokens` and the rules from `api`. Requests that are sent again go through `agent`.
    pub fn new(tokens: impl BlockingTokens + 'static, api: Api, agent: Agent) -> Self {
        Self { caller: Caller::new(tokens.into(), api), agent }
    }

    /// Keeps the calls within rate limits.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.caller.keep_to(pace);
        self
    }

    /// Another clock than the system's, such as a `ManualClock` in tests.
    pub fn clock(mut self, time: impl Into<Time>) -> Self {
        self.caller.time = time.into();
        self
    }

    /// Sends a request again, with the settings of the first time.
    fn run(&self, request: Request<&[u8]>, anew: bool) -> Result<Response<Body>, ureq::Error> {
        let request = on_connection(&self.agent, request, anew);
        if request.body().is_empty() { self.agent.run(request.map(|_| ())) } else { self.agent.run(request) }
    }
}

impl Middleware for Authorize {
    fn handle(&self, request: Request<SendBody>, next: MiddlewareNext) -> Result<Response<Body>, ureq::Error> {
        // The call begins before anything about the request is changed.
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let begun = self.caller.begin(method, uri, headers, CallOptions::new()).map_err(boxed)?;
        if begun.is_none() {
            return next.handle(request);
        }
        let (mut parts, body) = configured(&self.agent, request).into_parts();
        let options = parts.extensions.get::<CallOptions>().cloned().unwrap_or_default();

        let mut rest = body.into_reader();
        let mut kept = Vec::new();
        rest.by_ref().take(KEPT + 1).read_to_end(&mut kept)?;
        let options = if kept.len() as u64 > KEPT {
            parts.headers.entry(EXPECT).or_insert(HeaderValue::from_static("100-continue"));
            options.single_use_body()
        } else {
            tell_length(&mut parts, kept.len());
            options
        };
        let mut first = Some(next);
        let answer = caller::call(&self.caller, parts, options, |request, anew| match first.take() {
            None => self.run(request.map(|()| kept.as_slice()), anew),
            Some(next) if kept.is_empty() => next.handle(request.map(|()| SendBody::none())),
            Some(next) => {
                let mut body = Cursor::new(&kept).chain(&mut rest);
                next.handle(request.map(|()| SendBody::from_reader(&mut body)))
            }
        });
        match answer {
            Ok(answer) if self.agent.config().http_status_as_error() && !is_fine(&answer) => {
                Err(ureq::Error::StatusCode(answer.status().as_u16()))
            }
            Ok(answer) => Ok(answer),
            Err(Failure::Call(error)) => Err(boxed(error)),
            Err(Failure::Transport(error)) => Err(error),
        }
    }
}

impl fmt::Debug for Authorize {
    /// Leaves the agent out: its settings may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorize").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// What has been read is a stream to ureq, which would send it in chunks.
fn tell_length(parts: &mut Parts, length: usize) {
    let told = parts.headers.contains_key(CONTENT_LENGTH) || parts.headers.contains_key(TRANSFER_ENCODING);
    if !told && (length > 0 || expects_body(&parts.method)) {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
}

fn boxed(error: Error) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

fn is_fine(answer: &Response<Body>) -> bool {
    !answer.status().is_client_error() && !answer.status().is_server_error()
}
