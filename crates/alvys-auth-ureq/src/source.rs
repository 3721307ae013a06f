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

/// Access tokens for one application. A token is fetched once, shared by all callers, and renewed without making them
/// wait.
///
/// Cheap to clone; clones share the token. Usable from any number of threads. Further methods, such as
/// [`reject`](Engine::reject), [`adopt`](Engine::adopt) and [`status`](Engine::status), come from the [`Engine`] below
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

    /// A source with settings of your own. Its credentials come from `provider`, which is asked again when they change.
    ///
    /// # Errors
    /// The reason why the provider could not give credentials.
    pub fn provided_by(flow: Flow, provider: impl CredentialsProvider + 'static) -> Result<Builder, Error> {
        let (credentials, mark) = provider.credentials(None)?.first()?;
        Ok(Self::builder(flow, credentials).provider_of(Arc::new(provider), Some(mark)))
    }

    /// A token that is usable now. If none is held, one is fetched first.
    ///
    /// While a usable token is held, this returns at once, also during a renewal, which runs on a thread of its own,
    /// and after a failed one. Otherwise it waits for the one request that serves all callers, and through short
    /// pauses, until its patience has ended.
    ///
    /// # Errors
    /// The reason why there is no token; every caller gets the same error. If a pause outlasts the patience, this
    /// returns at once, and [`Error::retry_after`] gives the server's wait.
    pub fn token(&self) -> Result<Token, Error> {
        match self.with_token(Token::clone) {
            Some(token) => Ok(token),
            None => self.token_for(Duration::ZERO),
        }
    }

    /// Like [`token`](Self::token), for work that needs a token that stays usable for at least `least` from now on.
    ///
    /// A token in the first half of its lifetime is always good enough, even if it expires earlier than that.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub fn token_for(&self, least: Duration) -> Result<Token, Error> {
        let deadline = self.time().now().saturating_add(self.0.common.patience);
        loop {
            match Engine::poll(&self.0, least, deadline) {
                Action::Over(result) => return result,
                Action::Do(flight) => self.carry_out(flight),
                // Whichever came first, the next poll says what to do.
                Action::Wait(change, timer) => drop(change.wait_timeout(timer)),
            }
        }
    }

    /// Renews the token if its renewal is due and nobody else renews it. Returns when the attempt has a result. The
    /// store may be told after that.
    pub(crate) fn renew(&self) {
        if let Action::Do(flight) = Engine::poll(&self.0, Duration::ZERO, Timestamp::default()) {
            self.carry_out(flight);
            while let Some(change) = self.in_flight() {
                change.wait();
            }
        }
    }

    /// Carries out an attempt on a thread of its own, so that the caller may use the token of another attempt, or give
    /// up, meanwhile.
    fn carry_out(&self, flight: Flight) {
        let (this, span) = (self.clone(), Span::current());
        let fetch = move |flight| span.in_scope(|| this.fetch(flight));
        let (hand_over, taken) = mpsc::channel();
        let spawned = thread::Builder::new().name("alvys-auth".to_owned()).spawn({
            let fetch = fetch.clone();
            move || taken.recv().map(fetch)
        });
        // If the system has no free thread, the attempt is carried out here.
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

    /// The provider's answer; none when it does not answer in time.
    fn ask(&self, known: Option<Mark>, question: Question) -> Option<Result<Given<Credentials>, Error>> {
        let provider = self.0.provider.clone()?;
        asked("provider of credentials", self.0.common.time_limit, move || {
            let _question = question;
            provider.credentials(known)
        })
    }
}

/// The answer of a provider or a store; none when it does not answer within `limit`. It is asked on a thread of its
/// own, because it may block for ever.
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

/// The answer of the store, or an error when it does not answer in time.
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
            // If the system has no free thread, the store is not asked now, and a later call asks it again.
            let looking = thread::Builder::new().name("alvys-auth-looking".to_owned());
            let _ = looking.spawn(move || told(store.share(&subject, operation)));
        }
    }
}
