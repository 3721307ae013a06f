//! Authorized calls for a client built with `reqwest-middleware`.

use alvys_auth_driver::{Failure, Time};
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};

use crate::caller::{self, Caller, Exchange};
use crate::{Api, AsyncTokens, CallOptions, Pace};

/// Authorizes every request of a `reqwest-middleware` client, as [`Client`](crate::Client) does its own.
///
/// A request with an `Authorization` header of its own is sent as it is. A request to a host that no token may be sent
/// to fails, so use another client for other hosts. [`CallOptions`] are taken from the request's extensions. Errors of
/// this library arrive as [`reqwest_middleware::Error::Middleware`], from which [`Error`](crate::Error) can be
/// downcast.
///
/// The client below is used as it is, because a middleware cannot see its settings. Build it with
/// [`redirects`](crate::redirects), because otherwise redirects may take the token to other hosts, and with time
/// limits. For an API on this machine over plain http, also build it with
/// [`no_proxy`](reqwest::ClientBuilder::no_proxy), because otherwise a proxy that the environment names would get the
/// token unencrypted.
///
/// ```no_run
/// use alvys_auth_reqwest::{Api, Authorize, CallOptions, Credentials, Flow, TokenSource};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let http = reqwest::Client::builder()
///     .redirect(alvys_auth_reqwest::redirects())
///     .connect_timeout(std::time::Duration::from_secs(10))
///     .read_timeout(std::time::Duration::from_secs(30))
///     .build()?;
/// let client = reqwest_middleware::ClientBuilder::new(http)
///     .with(Authorize::new(tokens, Api::production()))
///     .build();
/// let answer = client
///     .post("https://integrations.alvys.com/api/p/v1/loads/search")
///     .with_extension(CallOptions::new().idempotent())
///     .send()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "its setters give back the changed value"]
pub struct Authorize(Caller);

impl Authorize {
    /// Takes the tokens from `tokens` and the rules from `api`.
    pub fn new(tokens: impl AsyncTokens + 'static, api: Api) -> Self {
        Self(Caller::new(tokens.into(), api))
    }

    /// Keeps the calls within rate limits.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.0.keep_to(pace);
        self
    }

    /// Another clock than the system's, such as a `ManualClock` in tests.
    pub fn clock(mut self, clock: impl Into<Time>) -> Self {
        self.0.time = clock.into();
        self
    }
}

#[async_trait::async_trait]
impl Middleware for Authorize {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let options = extensions.get::<CallOptions>().cloned().unwrap_or_default();
        caller::call(&self.0, request, options, Rest { next, extensions }).await.map_err(|failure| match failure {
            Failure::Call(error) => reqwest_middleware::Error::middleware(error),
            Failure::Transport(error) => error,
        })
    }
}

/// The next middlewares, down to the client itself.
struct Rest<'a> {
    next: Next<'a>,
    extensions: &'a mut Extensions,
}

impl Exchange for Rest<'_> {
    type Error = reqwest_middleware::Error;

    async fn send(&mut self, request: Request, _: bool) -> Result<Response, Failure<Self::Error>> {
        self.next.clone().run(request, self.extensions).await.map_err(Failure::Transport)
    }
}
