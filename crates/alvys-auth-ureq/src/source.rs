//! The blocking token source: a loop over the steps of the core.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use alvys_auth_core::share::{Operation, STORE_TIME, Subject};
use alvys_auth_core::{
    Credentials, CredentialsProvider, Endpoint, Error, Flow, Given, Mark, Status, Timestamp, Token, TokenRequest,
    TokenResponse,
};
use alvys_auth_driver::{
    Action, BlockingSharing, BlockingTokens, Driver, Engine, Flight, Parts, Question, Shared, Task, Waits,
};
use event_listener::Listener;
use tracing::Span;
use ureq::Agent;

use crate::network::Http;
use crate::transport::Transport;

/// Settings of a [`TokenSource`]; from [`TokenSource::builder`].
pub type Builder = alvys_auth_driver::Builder<Ureq>;

/// The driver on ureq: what a [`Builder`](crate::Builder) makes its source with.
#[derive(Debug)]
pub struct Ureq;

/// Access tokens for one application: fetched once, shared by all callers, renewed off their path.
///
/// Cheap to clone; clones share the token. Usable from any number of threads. What else can be done with a source, such as
/// [`reject`](Engine::reject), [`adopt`](Engine::adopt) and [`status`](Engine::status), are methods of the [`Engine`] below
/// it.
///
/// ```no_run
/// use alvys_auth_ureq::{Credentials, Flow, TokenSource};
///
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let response = ureq::get("https://integrations.alvys.com/api/p/v1/loads")
///     .header("authorization", tokens.token()?.header())
///     .call()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokenSource(Arc<Parts<Ureq>>);

impl TokenSource {
    /// A source with default settings. Nothing is fetched before the first call of [`token`](Self::token).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when a value is refused.
    pub fn new(flow: Flow, credentials: Credentials) -> Result<Self, Error> {
        Self::builder(flow, credentials).build()
    }

    /// A source with settings of your own.
    pub fn builder(flow: Flow, credentials: Credentials) -> Builder {
        Builder::new(flow, credentials)
    }

    /// A source whose credentials come from `provider`, and come from there again when they change; with settings of your
    /// own.
    ///
    /// # Errors
    /// What kept the provider from giving credentials.
    pub fn provided_by(flow: Flow, provider: impl CredentialsProvider + 'static) -> Result<Builder, Error> {
        let (credentials, mark) = provider.credentials(None)?.first()?;
        Ok(Self::builder(flow, credentials).provider_of(Arc::new(provider), Some(mark)))
    }

    /// A token that is usable now, fetched first when none is.
    ///
    /// While a usable token is held this returns at once, also during a renewal, which runs on a thread of its own, and
    /// after one has failed. Otherwise it waits for the one request that serves all callers, through short pauses too, for
    /// as long as its patience lasts.
    ///
    /// # Errors
    /// What the token endpoint answered, when no token is to be had; every caller gets the same error. With a pause that
    /// outlasts the patience this returns at once, and [`Error::retry_after`] tells the server's wait.
    pub fn token(&self) -> Result<Token, Error> {
        match self.with_token(Token::clone) {
            Some(token) => Ok(token),
            None => self.token_for(Duration::ZERO),
        }
    }

    /// Like [`token`](Self::token), for work that needs the token to last for at least `least` from now on.
    ///
    /// A token in the first half of its life is always good enough, also where that is shorter.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub fn token_for(&self, least: Duration) -> Result<Token, Error> {
        let deadline = self.time().now().saturating_add(self.0.common.patience);
        loop {
            match Engine::poll(&self.0, least, deadline) {
                Action::Over(result) => return result,
                Action::Do(flight) => self.carry_out(flight),
                // Either way the next poll tells what is the case.
                Action::Wait(change, timer) => drop(change.wait_timeout(timer)),
            }
        }
    }

    /// Renews the token if that is due and nobody else does, and returns when it is known whether there is another token. A store
    /// may hear of it later.
    pub(crate) fn renew(&self) {
        if let Action::Do(flight) = Engine::poll(&self.0, Duration::ZERO, Timestamp::default()) {
            self.carry_out(flight);
            while let Some(change) = self.in_flight() {
                change.wait();
            }
        }
    }

    /// Carries out an attempt on a thread of its own, so that the caller may use another one's token or give up meanwhile.
    fn carry_out(&self, flight: Flight) {
        let (this, span) = (self.clone(), Span::current());
        let fetch = move |flight| span.in_scope(|| this.fetch(flight));
        let (hand_over, taken) = mpsc::channel();
        let spawned = thread::Builder::new().name("alvys-auth".to_owned()).spawn({
            let fetch = fetch.clone();
            move || taken.recv().map(fetch)
        });
        // Should the system have no thread to spare, the attempt is carried out here.
        match spawned {
            Ok(_) => drop(hand_over.send(flight)),
            Err(_) => fetch(flight),
        }
    }

    /// Carries out an attempt.
    fn fetch(&self, mut flight: Flight) {
        while let Some(task) = flight.next_task() {
            match task {
                Task::Ask(known, question) => flight.provided(self.ask(known, question)),
                Task::Send(request) => flight.answered(self.0.common.transport.send(request)),
                Task::Store(request, operation) => {
                    if let Some(store) = &self.0.common.store {
                        flight.stored(at_store(Arc::clone(store), request.into(), operation));
                    }
                }
                Task::Wait(change, timer) => drop(change.wait_timeout(timer)),
            }
        }
    }

    /// What the provider gives; none when it does not answer in time.
    fn ask(&self, known: Option<Mark>, question: Question) -> Option<Result<Given<Credentials>, Error>> {
        let provider = self.0.provider.clone()?;
        asked("provider of credentials", self.0.common.time_limit, move || {
            let _question = question;
            provider.credentials(known)
        })
    }
}

/// What a provider or a store answers within `limit`, none when it does not: on a thread of its own, because it may block for ever.
pub(crate) fn asked<T: Send + 'static>(
    whom: &str,
    limit: Duration,
    ask: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Option<Result<T, Error>> {
    let (give, given) = mpsc::channel();
    let asking = thread::Builder::new().name("alvys-auth-asking".to_owned());
    match asking.spawn(move || give.send(ask())) {
        Ok(_) => match given.recv_timeout(limit) {
            Ok(given) => Some(given),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(Error::configuration(format!("the {whom} panicked"), "mend it; its panic was printed")))
            }
        },
        Err(error) => Some(Err(Error::transport(format!("no thread to ask the {whom} on"), error))),
    }
}

/// What a store answers within its time.
fn at_store(store: Arc<dyn BlockingSharing>, subject: Subject, operation: Operation<TokenResponse, Error>) -> Shared {
    let answer = asked("store", STORE_TIME, move || store.share(&subject, operation));
    answer.unwrap_or_else(|| Err(Error::timed_out("the store did not answer in time")))
}

impl Driver for Ureq {
    type Http = Agent;
    type Transport = Transport;
    type Provider = dyn CredentialsProvider;
    type Store = dyn BlockingSharing;
    type Source = TokenSource;

    fn time_limit(provider: &Self::Provider) -> Option<Duration> {
        provider.time_limit()
    }

    fn transport(http: Option<Agent>, request: &TokenRequest, timeout: Duration) -> Result<Transport, Error> {
        let default = || {
            let http = Http::default();
            http.check(request.to_http().uri())?;
            Ok(http.agent(Http::config()))
        };
        Ok(Transport::new(http.map_or_else(default, Ok)?, request, timeout))
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

impl BlockingTokens for TokenSource {
    fn token(&self) -> Result<Token, Error> {
        self.token()
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
        urgent: bool,
        told: Box<dyn FnOnce(Shared) + Send>,
    ) {
        let Some(store) = self.0.common.store.clone() else { return };
        let subject = Subject::calls(self.request(), endpoint);
        if urgent {
            told(at_store(store, subject, operation));
        } else {
            // Without a thread to spare nothing is told now, and it is tried again later.
            let looking = thread::Builder::new().name("alvys-auth-looking".to_owned());
            let _ = looking.spawn(move || told(store.share(&subject, operation)));
        }
    }
}
