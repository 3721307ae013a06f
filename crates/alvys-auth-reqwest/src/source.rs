//! The async token source: a loop over the steps of the core.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow, Status, Step, Timestamp, Token};
use alvys_auth_driver::{Engine, Flight, Rotated, Rotation, Tokens, now};
use http::Request;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::Instrument;

use crate::transport::Transport;
use crate::{Builder, CredentialsProvider};

/// How often one caller may start a request that is never begun before it gives up: a runtime in shutdown drops all.
const MOST_DROPPED: u32 = 3;

/// Access tokens for one application: fetched once, shared by all callers, renewed off their path.
///
/// Cheap to clone; clones share the token. Usable from any number of tasks, also on several tokio runtimes.
///
/// ```no_run
/// use alvys_auth_reqwest::{Credentials, Flow, TokenSource};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let response = reqwest::Client::new()
///     .get("https://integrations.alvys.com/api/p/v1/loads")
///     .header("authorization", tokens.token().await?.header())
///     .send()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenSource(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Arc<Engine>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) rotation: Option<Rotation<dyn CredentialsProvider>>,
    pub(crate) patience: Duration,
    /// Whether somebody sees to a renewal that is due, and has heard of it now.
    pub(crate) workers: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl TokenSource {
    /// A source with default settings. Nothing is fetched before the first call of [`token`](Self::token).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a value is refused or no HTTP client can be
    /// built.
    pub fn new(flow: Flow, credentials: Credentials) -> Result<Self, Error> {
        Self::builder(flow, credentials).build()
    }

    /// A source whose credentials come from `provider`, and come from there again when they change.
    ///
    /// # Errors
    /// What kept the provider from giving credentials, or as [`new`](Self::new).
    pub async fn from_provider(flow: Flow, provider: impl CredentialsProvider) -> Result<Self, Error> {
        Self::builder_from_provider(flow, provider).await?.build()
    }

    /// The same with settings of your own.
    ///
    /// # Errors
    /// What kept the provider from giving credentials.
    pub async fn builder_from_provider(flow: Flow, provider: impl CredentialsProvider) -> Result<Builder, Error> {
        let revision = provider.revision();
        let provider = Arc::new(provider);
        let credentials = Arc::clone(&provider).credentials().await?;
        Ok(Self::builder(flow, credentials).rotation(provider, Some(revision)))
    }

    /// A source with settings of your own.
    pub fn builder(flow: Flow, credentials: Credentials) -> Builder {
        Builder::new(flow, credentials)
    }

    /// A token that is usable now, fetched first when none is.
    ///
    /// While a usable token is held this returns at once, also during a renewal and after one has failed. Otherwise it
    /// waits for the one request that serves all callers, through short pauses too, for as long as its patience lasts.
    /// Dropping the future cancels nothing for others.
    ///
    /// A renewal needs a runtime that runs between the calls. On one that runs only inside of `block_on`, the token is
    /// replaced once it has expired.
    ///
    /// # Errors
    /// What the token endpoint answered, when no token is to be had; every caller gets the same error. With a pause that
    /// outlasts the patience this returns at once, and [`Error::retry_after`] tells the server's wait.
    ///
    /// # Panics
    /// In a tokio runtime that was built without time or I/O.
    pub async fn token(&self) -> Result<Token, Error> {
        if let Some(token) = self.with_token(Token::clone) {
            return Ok(token);
        }
        let Ok(runtime) = Handle::try_current() else {
            return Err(Error::configuration(
                "an access token was asked for outside of a tokio runtime",
                "call token() from a task of a tokio runtime, or use the blocking driver",
            ));
        };
        let Inner { engine, changed, patience, .. } = &*self.0;
        let deadline = now().saturating_add(*patience);
        let mut dropped = 0;
        let mut begun = Arc::new(AtomicBool::new(false));
        loop {
            // Listening begins before the poll, so that no completion falls between the two.
            let mut change = pin!(changed.notified());
            change.as_mut().enable();
            match engine.poll() {
                Step::Use(token) => return Ok(token),
                Step::Fail(error) => {
                    if !self.0.finds_other_credentials(deadline).await? {
                        return Err(error);
                    }
                }
                Step::Fetch(attempt) => {
                    let (request, flight) = engine.launch(attempt);
                    if begun.load(Ordering::Relaxed) {
                        dropped = 0;
                    } else if dropped == MOST_DROPPED {
                        return Err(Error::timed_out("the tokio runtime drops the token request: it is shutting down"));
                    }
                    dropped += 1;
                    begun = Arc::default();
                    let (inner, begins) = (Arc::clone(&self.0), Arc::clone(&begun));
                    let fetch = async move {
                        begins.store(true, Ordering::Relaxed);
                        inner.fetch(request, flight).await;
                    };
                    runtime.spawn(fetch.in_current_span());
                }
                Step::Wait(wait) => {
                    let left = deadline.saturating_duration_since(now());
                    if left.is_zero() || !wait.is_in_flight() && wait.until() > deadline {
                        return Err(wait.give_up());
                    }
                    let until = left.min(wait.until().saturating_duration_since(now()));
                    // Either way the next poll tells what is the case.
                    let _ = tokio::time::timeout(until, change).await;
                    if !wait.is_in_flight() {
                        dropped = 0;
                    }
                }
            }
        }
    }

    /// Lends the token that is usable without asking; none when [`token`](Self::token) has something to do.
    ///
    /// For the hottest paths: allocates nothing, and touches no counter that threads share while a token is fresh.
    ///
    /// ```
    /// # use alvys_auth_reqwest::{Credentials, Flow, TokenSource};
    /// # let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
    /// let length = tokens.with_token(|token| token.header().len());
    /// assert_eq!(length, None, "nothing was fetched yet");
    /// # Ok::<(), alvys_auth_reqwest::Error>(())
    /// ```
    pub fn with_token<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R> {
        self.0.engine.with_token_or(|| self.0.workers.get().is_some_and(|renewed| renewed()), read)
    }

    /// The API answered 401 to `token`: gives it up, and says whether one retry with another token is worth it.
    ///
    /// However many callers report the same token, it is renewed once. A token that is only seconds old is kept, because
    /// then the 401 is about something else than its age; the answer is no. Never call this for a 403.
    #[must_use = "the answer says whether a retry is worth it"]
    pub fn reject(&self, token: &Token) -> bool {
        self.0.engine.reject(token)
    }

    /// Gives the held token up; the next caller fetches another one.
    pub fn invalidate(&self) {
        self.0.engine.invalidate();
    }

    /// Goes on with other credentials, as after a rotation. A pause because the old ones were refused ends.
    ///
    /// The held token, and a wait that the server asked for, stay when only the secret has changed and go when the client id
    /// has.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when they cannot be sent; nothing has changed then.
    pub fn set_credentials(&self, credentials: Credentials) -> Result<(), Error> {
        self.0.engine.set_credentials(credentials).map(|_| ())
    }

    /// Renews the token if that is due and nobody else does, returns when that is over, and says whether it was renewed. A
    /// renewal that somebody else sees to counts as one.
    pub(crate) async fn renew(&self) -> bool {
        let attempt = match self.0.engine.poll() {
            Step::Fetch(attempt) => attempt,
            Step::Use(_) => return true,
            Step::Wait(_) | Step::Fail(_) => return false,
        };
        let (request, flight) = self.0.engine.launch(attempt);
        self.0.fetch(request, flight).await;
        self.status().last_error.is_none()
    }

    /// From when on [`renew`](Self::renew) has something to do; none without a token.
    pub(crate) fn renewal_due(&self) -> Option<Timestamp> {
        self.0.engine.wake_at().filter(|_| self.status().is_ready())
    }

    /// The state now, for health endpoints. Asks nobody and waits for nothing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.engine.status()
    }

    /// What to tell people when the server's side of the flow in use is going away.
    #[must_use]
    pub fn deprecation(&self) -> Option<&'static str> {
        self.0.engine.flow().deprecation()
    }
}

impl Inner {
    /// Sends an attempt's request, and a second one where it turns out that the credentials have changed.
    async fn fetch(&self, mut request: Request<Vec<u8>>, mut flight: Flight) {
        let remembered = self.rotation.is_some() && self.engine.calls_for_credentials();
        if let Some(rotation) = &self.rotation
            && (remembered || rotation.is_new(rotation.provider().revision()))
        {
            if !flight.extend(self.time_limit(rotation)) {
                return;
            }
            match self.rotate(rotation).await {
                Rotated::Unchanged if remembered && flight.is_futile() => return flight.spare(),
                Rotated::Unchanged => {}
                Rotated::Elsewhere => return,
                Rotated::Unknown(error) => return flight.give_up(error),
                Rotated::Here(attempt) => (request, flight) = self.engine.launch(attempt),
            }
        }
        // The provider took its time, or the runtime runs only now and then: others may have taken over meanwhile.
        if !flight.extend(Duration::ZERO) {
            return;
        }
        let mut answer = self.transport.send(request).await;
        if let Some(rotation) = self.rotation.as_ref().filter(|_| !remembered)
            && answer.as_ref().is_ok_and(|answer| flight.calls_for_credentials(answer))
            && let Some(_asking) = rotation.ask()
            && flight.extend(self.time_limit(rotation))
        {
            match self.rotate(rotation).await {
                Rotated::Unchanged => {}
                Rotated::Elsewhere => return,
                Rotated::Unknown(error) => return flight.give_up(error),
                Rotated::Here(attempt) => {
                    (request, flight) = self.engine.launch(attempt);
                    answer = self.transport.send(request).await;
                }
            }
        }
        flight.land(answer);
    }

    /// Whether a refusal that is remembered is out of date, because the provider has other credentials by now; an error when
    /// it has none any more. Who asks waits until `deadline`, and the answer counts when it comes later too.
    async fn finds_other_credentials(self: &Arc<Self>, deadline: Timestamp) -> Result<bool, Error> {
        let Some(rotation) = &self.rotation else { return Ok(false) };
        if !self.engine.calls_for_credentials() || !rotation.is_worth_a_look(rotation.provider().revision()) {
            return Ok(false);
        }
        let inner = Arc::clone(self);
        let asking = tokio::spawn(async move { inner.ask_again().await }.in_current_span());
        let left = deadline.saturating_duration_since(now());
        // A panic of the provider was printed, and a runtime in shutdown asks nobody.
        tokio::time::timeout(left, asking).await.map_or(Ok(false), |asked| asked.unwrap_or(Ok(false)))
    }

    async fn ask_again(&self) -> Result<bool, Error> {
        let Some(rotation) = &self.rotation else { return Ok(false) };
        let Some(_asking) = rotation.ask() else { return Ok(false) };
        if !rotation.is_worth_a_look(rotation.provider().revision()) {
            // Somebody else has asked meanwhile.
            return Ok(!self.engine.calls_for_credentials());
        }
        rotation.looks();
        match self.rotate(rotation).await {
            Rotated::Unchanged => Ok(false),
            Rotated::Elsewhere => Ok(true),
            Rotated::Unknown(error) => Err(error),
            Rotated::Here(attempt) => {
                // Taken up by the next poll.
                self.engine.abandon(attempt);
                Ok(true)
            }
        }
    }

    /// Asks the provider.
    async fn rotate(&self, rotation: &Rotation<dyn CredentialsProvider>) -> Rotated {
        let provider = rotation.provider();
        let revision = provider.revision();
        let given = tokio::time::timeout(self.time_limit(rotation), provider.credentials()).await;
        let late = |_| Err(Error::timed_out("the credentials provider did not answer in time"));
        rotation.rotate(&self.engine, revision, given.unwrap_or_else(late))
    }

    /// How long the provider may take.
    fn time_limit(&self, rotation: &Rotation<dyn CredentialsProvider>) -> Duration {
        rotation.provider().time_limit().unwrap_or_else(|| self.transport.timeout())
    }
}

impl Tokens for TokenSource {
    async fn token(&self) -> Result<Token, Error> {
        Self::token(self).await
    }

    fn reject(&self, token: &Token) -> bool {
        Self::reject(self, token)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("flow", &self.0.engine.flow()).field("status", &self.status()).finish()
    }
}
