//! Authorized calls of a run.

use std::time::Duration;

use alvys_auth_core::{Api, RateLimits, Token};
use alvys_auth_ureq::{Client, Pace, RequestBuilder, TokenSource};
use http::Response;
use ureq::Body;

use crate::agent;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::tokens::{self, Wanted};

/// How long a connection and the head of an answer may take.
const CONNECT: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(30);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// One request with its answer; none when that takes as long as it takes.
    pub(crate) request: Option<Duration>,
    /// The silence between two parts of an answer.
    pub(crate) silence: Duration,
    /// All the waits together that the API asks for.
    pub(crate) patience: Duration,
}

/// A client for the API with the tokens of this application.
pub(crate) struct Authorized {
    client: Client,
    tokens: TokenSource,
    /// The token that was had first.
    first: Token,
}

impl Authorized {
    /// Gets a token as wanted and makes a client that uses it.
    ///
    /// # Errors
    /// Why no token is to be had.
    pub(crate) fn open(settings: &Settings, api: Api, limits: Limits, wanted: Wanted) -> Result<Self, Failure> {
        let tokens = tokens::source(settings)?;
        let first = tokens::token(&tokens, wanted)?;
        let config = agent::config()
            .timeout_global(limits.request)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(HEAD))
            .timeout_per_read(Some(limits.silence));
        let base = api.base().parse().map_err(|_| {
            Failure::configuration("the base URL of the API cannot be called", "correct ALVYS_API_BASE_URL")
        })?;
        let agent = settings.network.blocking(&base)?.agent(config);
        // One run knows no limits, but it hears of the waits that others were told, and tells of its own.
        let client = Client::builder(tokens.clone(), api.patience(limits.patience)).pace(Pace::new(RateLimits::none()));
        let client = client.http(agent).build()?;
        Ok(Self { client, tokens, first })
    }

    /// The token in use.
    pub(crate) fn token(&self) -> Token {
        self.tokens.with_token(Token::clone).unwrap_or_else(|| self.first.clone())
    }

    /// Sends one call and gives its answer, whatever its status, except where that is about the token or about waiting.
    ///
    /// # Errors
    /// Why there is no answer, or what the API's refusal means.
    pub(crate) fn send(&self, call: impl FnOnce(&Client) -> RequestBuilder) -> Result<Response<Body>, Failure> {
        let answer = call(&self.client).send();
        let status = self.tokens.status();
        if !status.is_ready() && status.last_error.is_none() {
            // The token was given up and the call not repeated: the next run must not begin with it again. What came of
            // the call is to be told, not what comes of this.
            drop(self.tokens.token());
        }
        Ok(answer?)
    }
}
