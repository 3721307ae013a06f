//! The calls of a run that carry an access token.

use std::time::Duration;

use alvys_auth_core::{Api, RateLimits, Token};
use alvys_auth_ureq::{Client, Pace, RequestBuilder, TokenSource};
use http::Response;
use ureq::Body;

use crate::agent;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::tokens::{self, Wanted};

/// How long connecting may take, and how long the head of an answer may take.
const CONNECT: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(30);

/// The time limits of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The time for one request with its answer; none for no limit.
    pub(crate) request: Option<Duration>,
    /// The longest silence between two parts of an answer.
    pub(crate) silence: Duration,
    /// The longest time for all waits together that the API asks for.
    pub(crate) patience: Duration,
}

/// A client for the API that uses the tokens of this application.
pub(crate) struct Authorized {
    client: Client,
    tokens: TokenSource,
    /// The token that the run got first.
    first: Token,
}

impl Authorized {
    /// Gets a token as `wanted`, and makes a client that uses it.
    ///
    /// # Errors
    /// The reason why there is no token.
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
        // A run counts no rate limits. The pace is there to share the waits that the API asks for with other processes.
        let client = Client::builder(tokens.clone(), api.patience(limits.patience)).pace(Pace::new(RateLimits::none()));
        let client = client.http(agent).build()?;
        Ok(Self { client, tokens, first })
    }

    /// The token in use.
    pub(crate) fn token(&self) -> Token {
        self.tokens.with_token(Token::clone).unwrap_or_else(|| self.first.clone())
    }

    /// Sends one call and returns its answer, whatever its status. An answer about the token, or one that asks for a
    /// longer wait than allowed, becomes an error.
    ///
    /// # Errors
    /// The reason why there is no answer, or the meaning of the API's refusal.
    pub(crate) fn send(&self, call: impl FnOnce(&Client) -> RequestBuilder) -> Result<Response<Body>, Failure> {
        let answer = call(&self.client).send();
        let status = self.tokens.status();
        if !status.is_ready() && status.last_error.is_none() {
            // The token was given up and the call was not repeated. Getting another token now removes the old one from
            // the store, so that the next run does not begin with it. The result is dropped, because the user must see
            // the result of the call.
            drop(self.tokens.token());
        }
        Ok(answer?)
    }
}
