//! Sends one token request with reqwest, under rules that the caller's settings cannot loosen.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::{Error, TokenRequest};
use alvys_auth_driver::{BODY_LIMIT, Driver, Engine};
use reqwest::redirect;

use crate::source::Inner;
use crate::{AsyncCredentialsProvider, TokenSource};

/// The driver on reqwest and tokio: what a [`Builder`](crate::Builder) makes its source with.
#[derive(Debug)]
pub struct Reqwest;

/// The transport settings of a client: a function that makes a builder of it, because it is needed more than once.
#[derive(Clone)]
pub struct Http(Arc<dyn Fn() -> reqwest::ClientBuilder + Send + Sync>);

impl<F: Fn() -> reqwest::ClientBuilder + Send + Sync + 'static> From<F> for Http {
    fn from(make: F) -> Self {
        Self(Arc::new(make))
    }
}

impl Default for Http {
    /// The transport settings of those who bring none.
    fn default() -> Self {
        let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
        Self::from(move || reqwest::Client::builder().user_agent(agent))
    }
}

impl Http {
    pub(crate) fn builder(&self) -> reqwest::ClientBuilder {
        (self.0)()
    }
}

impl fmt::Debug for Http {
    /// Shows nothing: default headers may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Driver for Reqwest {
    type Http = Http;
    type Transport = Transport;
    type Provider = dyn AsyncCredentialsProvider;
    type Source = TokenSource;

    fn time_limit(provider: &Self::Provider) -> Option<Duration> {
        provider.time_limit()
    }

    fn transport(http: Option<Http>, request: &TokenRequest, timeout: Duration) -> Result<Transport, Error> {
        Transport::check(request)?;
        Transport::new(http.unwrap_or_default().builder(), request.is_plain_http(), timeout)
    }

    fn source(
        engine: Engine,
        transport: Arc<Transport>,
        provider: Option<Arc<Self::Provider>>,
        patience: Duration,
    ) -> TokenSource {
        TokenSource(Arc::new(Inner { engine: Arc::new(engine), transport, provider, patience }))
    }
}

/// What sends token requests.
#[derive(Debug)]
pub struct Transport {
    client: reqwest::Client,
    timeout: Duration,
}

impl Transport {
    /// Finishes the caller's builder: no redirects, no retries, no proxy for plain http, a bound on every wait.
    pub(crate) fn new(builder: reqwest::ClientBuilder, plain_http: bool, timeout: Duration) -> Result<Self, Error> {
        let builder = builder
            // A redirect would take the secret along in the body, whatever the status says about methods.
            .redirect(redirect::Policy::none())
            .referer(false)
            // Whether and when to try again is decided by the lifecycle alone.
            .retry(reqwest::retry::never())
            // A pooled connection is driven by the runtime that opened it, and hangs when that one is not running. A
            // request every hour needs no pool.
            .pool_max_idle_per_host(0)
            .connect_timeout(timeout / 2);
        let builder = if plain_http {
            // Plain http is for this machine alone: a proxy would carry the secret off it, unencrypted.
            builder.no_proxy().https_only(false)
        } else {
            builder.https_only(true)
        };
        Ok(Self { client: built(builder)?, timeout })
    }

    /// Refuses an endpoint that reqwest would not take.
    pub(crate) fn check(request: &TokenRequest) -> Result<(), Error> {
        let url = request.to_http().uri().to_string();
        let refused = |error| {
            Error::configuration(
                format!("the token endpoint is not a URL that reqwest accepts: {error}"),
                "correct its host name or address",
            )
        };
        reqwest::Url::parse(&url).map(|_| ()).map_err(refused)
    }

    /// How long one request takes at the most.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends the request once and reads the answer, whatever its status.
    pub(crate) async fn send(&self, request: http::Request<Vec<u8>>) -> Result<http::Response<Vec<u8>>, Error> {
        let failed = |what: &'static str| {
            move |error: reqwest::Error| match error {
                error if error.is_timeout() => Error::timed_out("the token endpoint did not answer in time"),
                error if error.is_connect() => {
                    Error::transport("no connection to the token endpoint", error.without_url())
                }
                error => Error::transport(what, error.without_url()),
            }
        };
        let (parts, body) = request.into_parts();
        let request = self.client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body);
        let sent = request.timeout(self.timeout).send().await;
        let mut answer = sent.map_err(failed("the token request could not be sent"))?;

        let success = answer.status().is_success();
        let cut_short = |error: reqwest::Error| {
            let what = "the answer of the token endpoint was cut short";
            if success && !error.is_timeout() {
                Error::cut_short(what, error.without_url())
            } else {
                failed(what)(error)
            }
        };
        let mut body = Vec::new();
        while body.len() < BODY_LIMIT
            && let Some(chunk) = answer.chunk().await.map_err(cut_short)?
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(BODY_LIMIT);
        let mut response = http::Response::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// The client of a builder that the caller may have filled.
pub(crate) fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, Error> {
    builder.build().map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::configuration(
            format!("the HTTP client could not be built{cause}"),
            "check the certificates, proxies and TLS settings given to it",
        )
    })
}
