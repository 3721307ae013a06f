//! The async token source: a loop over the steps of the core.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_core::share::{Operation, STORE_TIME, Subject};
use alvys_auth_core::{
    Credentials, Endpoint, Error, Flow, Given, Mark, Status, Timestamp, Token, TokenRequest, TokenResponse,
};
use alvys_auth_driver::{
    Action, AsyncSharing, AsyncTokens, Driver, Engine, Flight, Parts, Question, Shared, Task, TokenFuture, Waits,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument;

use crate::AsyncCredentialsProvider;
use crate::provider::joined;
use crate::settings::Http;
use crate::transport::Transport;

/// Settings of a [`TokenSource`]; from [`TokenSource::builder`].
pub type Builder = alvys_auth_driver::Builder<Reqwest>;

/// The driver on reqwest and tokio: what a [`Builder`](crate::Builder) makes its source with.
#[derive(Debug)]
pub struct Reqwest;

/// Access tokens for one application. A token is fetched once, shared by all callers, and renewed without making them
/// wait.
///
/// Cheap to clone; clones share the token. Usable from any number of tasks, also on several tokio runtimes. Further
/// methods, such as [`reject`](Engine::reject), [`adopt`](Engine::adopt) and [`status`](Engine::status), come from the
/// [`Engine`] below it.
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
#[derive(Debug, Clone)]
pub struct TokenSource(Arc<Parts<Reqwest>>);

impl TokenSource {
    /// A source with default settings. Nothing is fetched before the first call of [`token`](Self::token).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a value is refused or no HTTP client can be
    /// built.
    pub fn new(flow: Flow, credentials: Credentials) -> Result<Self, Error> {
        Self::builder(flow, credentials).build()
    }

    /// A source with settings of your own.
    pub fn builder(flow: Flow, credentials: Credentials) -> Builder {
        Builder::new(flow, credentials)
    }

    /// A source with settings of your own. Its credentials come from `provider`, which is asked again when they change.
    ///
    /// # Errors
    /// The reason why the provider could not give credentials.
    pub async fn provided_by(flow: Flow, provider: impl AsyncCredentialsProvider) -> Result<Builder, Error> {
        let provider: Arc<dyn AsyncCredentialsProvider> = Arc::new(provider);
        let (credentials, mark) = Arc::clone(&provider).credentials(None).await?.first()?;
        Ok(Self::builder(flow, credentials).provider_of(provider, Some(mark)))
    }

    /// A token that is usable now. If none is held, one is fetched first.
    ///
    /// While a usable token is held, this returns at once, also during a renewal and after a failed one. Otherwise it
    /// waits for the one request that serves all callers, and through short pauses, until its patience has ended.
    /// Dropping the future cancels nothing for others.
    ///
    /// A renewal needs a runtime that runs between the calls. On a runtime that runs only inside of `block_on`, the
    /// token is replaced only after it has expired.
    ///
    /// # Errors
    /// The reason why there is no token; every caller gets the same error. If a pause outlasts the patience, this
    /// returns at once, and [`Error::retry_after`] gives the server's wait.
    ///
    /// # Panics
    /// In a tokio runtime that was built without time or I/O.
    pub async fn token(&self) -> Result<Token, Error> {
        match self.with_token(Token::clone) {
            Some(token) => Ok(token),
            None => self.token_for(Duration::ZERO).await,
        }
    }

    /// Like [`token`](Self::token), for work that needs a token that stays usable for at least `least` from now on.
    ///
    /// A token in the first half of its lifetime is always good enough, even if it expires earlier than that.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn token_for(&self, least: Duration) -> Result<Token, Error> {
        let Ok(runtime) = Handle::try_current() else {
            return Err(Error::configuration(
                "an access token was asked for outside of a tokio runtime",
                "call token() from a task of a tokio runtime, or use the blocking driver",
            ));
        };
        let deadline = self.time().now().saturating_add(self.0.common.patience);
        loop {
            match Engine::poll(&self.0, least, deadline) {
                Action::Over(result) => return result,
                Action::Do(flight) => {
                    let task = self.carry_out(flight, &runtime);
                    if task.is_finished() && task.await.is_err_and(|error| error.is_cancelled()) {
                        return Err(Error::timed_out("the tokio runtime drops the token request: it is shutting down"));
                    }
                }
                // Whichever came first, the next poll says what to do.
                Action::Wait(change, timer) => drop(timeout(timer, change).await),
            }
        }
    }

    /// Renews the token if its renewal is due and nobody else renews it. Returns when the attempt has a result. The
    /// store may be told after that.
    pub(crate) async fn renew(&self, runtime: &Handle) {
        if let Action::Do(flight) = Engine::poll(&self.0, Duration::ZERO, Timestamp::default()) {
            drop(self.carry_out(flight, runtime));
            while let Some(change) = self.in_flight() {
                change.await;
            }
        }
    }

    /// Carries out an attempt on a task of its own, which no caller cancels.
    fn carry_out(&self, flight: Flight, runtime: &Handle) -> JoinHandle<()> {
        let this = self.clone();
        runtime.spawn(async move { this.fetch(flight).await }.in_current_span())
    }

    /// Carries out an attempt.
    async fn fetch(&self, mut flight: Flight) {
        while let Some(task) = flight.next_task() {
            match task {
                Task::Ask(known, question) => flight.provided(self.ask(known, question).await),
                Task::Send(request) => flight.answered(self.0.common.transport.send(request).await),
                Task::Store(request, operation) => {
                    if let Some(store) = &self.0.common.store {
                        flight.stored(at_store(&**store, request.into(), operation).await);
                    }
                }
                Task::Wait(change, timer) => drop(timeout(timer, change).await),
            }
        }
    }

    /// The provider's answer; none when it does not answer in time.
    async fn ask(&self, known: Option<Mark>, question: Question) -> Option<Result<Given<Credentials>, Error>> {
        let provider = self.0.provider.clone()?;
        let (blocks, answer) = (provider.blocks(), provider.credentials(known));
        let answer = async move {
            let _question = question;
            answer.await
        };
        let limit = self.0.common.time_limit;
        // A provider that blocks a thread cannot be stopped. Its question stays open until it has answered, even if
        // nobody waits any more.
        let given =
            if blocks { timeout(limit, joined(tokio::spawn(answer))).await } else { timeout(limit, answer).await };
        given.ok()
    }
}

/// The answer of the store, or an error when it does not answer in time.
async fn at_store(store: &dyn AsyncSharing, subject: Subject, operation: Operation<TokenResponse, Error>) -> Shared {
    let answer = timeout(STORE_TIME, store.share(subject, operation)).await;
    answer.unwrap_or_else(|_| Err(Error::timed_out("the store did not answer in time")))
}

impl Driver for Reqwest {
    type Http = Http;
    type Transport = Transport;
    type Provider = dyn AsyncCredentialsProvider;
    type Store = dyn AsyncSharing;
    type Source = TokenSource;

    fn time_limit(provider: &Self::Provider) -> Option<Duration> {
        provider.time_limit()
    }

    fn transport(http: Option<Http>, request: &TokenRequest, timeout: Duration) -> Result<Transport, Error> {
        Transport::check(request)?;
        let http = http.unwrap_or_default();
        http.check(request.to_http().uri())?;
        Transport::new(http, request.is_plain_http(), timeout)
    }

    fn source(parts: Arc<Parts<Self>>) -> TokenSource {
        TokenSource(parts)
    }
}

impl Deref for TokenSource {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0.engine
    }
}

impl AsyncTokens for TokenSource {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(self.token())
    }

    fn reject(&self, token: &Token) -> bool {
        Engine::reject(self, token)
    }

    fn status(&self) -> Status {
        Engine::status(self)
    }

    fn waits(&self) -> Option<Arc<dyn Waits>> {
        self.0.common.store.is_some().then(|| Arc::new(self.clone()) as Arc<dyn Waits>)
    }
}

impl Waits for TokenSource {
    fn begin(
        &self,
        endpoint: &Endpoint,
        operation: Operation<TokenResponse, Error>,
        _: bool,
        told: Box<dyn FnOnce(Shared) + Send>,
    ) {
        // Outside of a runtime the store is not asked. Then calls wait for its answer a second at most.
        if let (Some(store), Ok(runtime)) = (self.0.common.store.clone(), Handle::try_current()) {
            let subject = Subject::calls(self.request(), endpoint);
            runtime.spawn(async move { told(at_store(&*store, subject, operation).await) });
        }
    }
}
