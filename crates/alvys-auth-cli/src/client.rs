//! Authorized calls whose tokens are the kept ones: the cache stands where the client expects the token endpoint.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use alvys_auth_core::{Api, Policy};
use alvys_auth_ureq::{Client, RequestBuilder, TokenResponse, TokenSource};
use http::{Request, Response};
use serde_json::json;
use tracing::debug;
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Body, SendBody};

use crate::agent;
use crate::cache::Held;
use crate::failure::Failure;
use crate::session::{Session, Wanted};
use crate::settings::Settings;

/// How long a connection and the head of an answer may take.
const CONNECT: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(30);
/// A token that is newer than this is not given up because of a 401, in this run and in the ones after it.
const GRACE: Duration = Duration::from_secs(10);

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
    kept: Arc<Kept>,
}

/// Answers the client's token requests: with the token at hand first, with one in its place after that.
struct Kept {
    session: Session,
    state: Mutex<State>,
}

struct State {
    held: Held,
    handed_out: bool,
    /// Why there is no other token.
    failure: Option<Failure>,
}

impl Authorized {
    /// Gets a token as wanted and makes a client of it.
    ///
    /// # Errors
    /// Why no token is to be had.
    pub(crate) fn open(settings: Settings, api: Api, limits: Limits, wanted: Wanted) -> Result<Self, Failure> {
        let (flow, credentials) = (settings.setup.flow.clone(), settings.credentials.clone());
        let network = settings.network.clone();
        let session = Session::open(settings)?;
        let held = session.token(wanted)?;
        let age = SystemTime::now().duration_since(held.obtained_at).unwrap_or_default();
        // One that was there before is no new token of the source, and is given up at the first 401.
        let old = (age >= GRACE)
            .then(|| TokenResponse::new(&held.access_token, held.left(), held.scope.as_deref().unwrap_or_default()));
        let old = old.transpose()?;
        let state = Mutex::new(State { held, handed_out: old.is_some(), failure: None });
        let kept = Arc::new(Kept { session, state });
        let config = agent::config().middleware(InPlace(Arc::clone(&kept)));
        let tokens =
            TokenSource::builder(flow, credentials).policy(Policy::new().rejection_grace(GRACE)).http(config.build());
        let tokens = old.into_iter().fold(tokens, alvys_auth_ureq::Builder::holding).build()?;
        let config = agent::config()
            .timeout_global(limits.request)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(HEAD))
            .timeout_per_read(Some(limits.silence));
        let base = api.base().parse().map_err(|_| {
            Failure::configuration("the base URL of the API cannot be called", "correct ALVYS_API_BASE_URL")
        })?;
        let agent = network.blocking(&base)?.agent(config);
        let client = Client::builder(tokens, api.patience(limits.patience)).http(agent).build()?;
        Ok(Self { client, kept })
    }

    /// The token in use.
    pub(crate) fn held(&self) -> Held {
        self.kept.lock().held.clone()
    }

    /// Sends one call and gives its answer, whatever its status, except where that is about the token or about waiting.
    ///
    /// # Errors
    /// Why there is no answer, or what the API's refusal means.
    pub(crate) fn send(&self, call: impl FnOnce(&Client) -> RequestBuilder) -> Result<Response<Body>, Failure> {
        let answer = call(&self.client).send();
        let answer = answer.map_err(|error| self.kept.lock().failure.take().unwrap_or_else(|| error.into()));
        let tokens = self.client.tokens();
        if !tokens.status().is_ready() {
            // The token was given up and the call not repeated: the next run must not begin with it again. What came of
            // the call is to be told, not what comes of this.
            drop(tokens.token());
        }
        answer
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token at hand the first time, another one after that.
    fn next(&self) -> Option<Held> {
        let mut state = self.lock();
        if state.handed_out {
            debug!(target: "alvys_auth", "replaces the kept token");
            match self.session.token(Wanted { instead_of: Some(state.held.obtained_at), ..Wanted::default() }) {
                Ok(held) => state.held = held,
                Err(failure) => {
                    state.failure = Some(failure);
                    return None;
                }
            }
        }
        state.handed_out = true;
        Some(state.held.clone())
    }
}

struct InPlace(Arc<Kept>);

impl Middleware for InPlace {
    fn handle(&self, _: Request<SendBody>, _: MiddlewareNext) -> Result<Response<Body>, ureq::Error> {
        let (status, body) = match self.0.next() {
            Some(held) => (
                200,
                json!({
                    "access_token": held.access_token.as_str(),
                    "token_type": "Bearer",
                    "expires_in": held.left().as_secs_f64(),
                    "scope": held.scope,
                }),
            ),
            // No refusal of a server, but nothing that the client should try again.
            None => (400, json!({"error": "access_denied"})),
        };
        let body = Body::builder().mime_type("application/json").data(body.to_string());
        Ok(Response::builder().status(status).body(body)?)
    }
}
