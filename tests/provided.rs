//! Sources whose credentials come from a provider, of both drivers behind one face, and a provider to count questions.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use alvys_auth_core::{Credentials, CredentialsProvider, Error, Flow, Given, Mark, Policy, Token};
use alvys_auth_driver::{ManualClock, Time};
use tokio::runtime::{Builder, Runtime};

/// How a source under test is set up; everything not given is the driver's default.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// When to renew and to back off.
    pub policy: Policy,
    /// How long a caller waits.
    pub patience: Duration,
    /// Which clock the source goes by.
    pub time: Time,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { policy: Policy::new(), patience: Duration::from_secs(15), time: Time::boot() }
    }
}

impl From<Policy> for Wanted {
    fn from(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }
}

impl From<&Arc<ManualClock>> for Wanted {
    fn from(clock: &Arc<ManualClock>) -> Self {
        Self { time: Arc::clone(clock).into(), ..Self::default() }
    }
}

/// A source of either driver whose credentials come from a provider.
pub trait Provided: Clone + Send + Sync + 'static {
    /// Builds one.
    fn from_provider(flow: Flow, wanted: impl Into<Wanted>, provider: impl CredentialsProvider + 'static) -> Self;
    /// Builds one with credentials of its own and a provider beside them.
    fn beside(flow: Flow, first: Credentials, provider: impl CredentialsProvider + 'static) -> Self;
    /// One caller asks for a token.
    fn token(&self) -> Result<Token, Error>;
    /// See the drivers.
    fn invalidate(&self);
}

/// The async driver, on a runtime of its own.
#[derive(Debug, Clone)]
pub struct Async(alvys_auth_reqwest::TokenSource, Arc<Runtime>);

impl Provided for Async {
    fn from_provider(flow: Flow, wanted: impl Into<Wanted>, provider: impl CredentialsProvider + 'static) -> Self {
        let (runtime, wanted) = (runtime(), wanted.into());
        let builder = runtime.block_on(alvys_auth_reqwest::TokenSource::provided_by(flow, provider));
        let builder = builder.expect("credentials").policy(wanted.policy).patience(wanted.patience).clock(wanted.time);
        Self(builder.build().expect("acceptable settings"), Arc::new(runtime))
    }

    fn beside(flow: Flow, first: Credentials, provider: impl CredentialsProvider + 'static) -> Self {
        let builder = alvys_auth_reqwest::TokenSource::builder(flow, first).provider(Arc::new(provider));
        Self(builder.build().expect("acceptable settings"), Arc::new(runtime()))
    }

    fn token(&self) -> Result<Token, Error> {
        self.1.block_on(self.0.token())
    }

    fn invalidate(&self) {
        self.0.invalidate();
    }
}

/// The blocking driver.
#[derive(Debug, Clone)]
pub struct Blocking(alvys_auth_ureq::TokenSource);

impl Provided for Blocking {
    fn from_provider(flow: Flow, wanted: impl Into<Wanted>, provider: impl CredentialsProvider + 'static) -> Self {
        let (builder, wanted) = (alvys_auth_ureq::TokenSource::provided_by(flow, provider), wanted.into());
        let builder = builder.expect("credentials").policy(wanted.policy).patience(wanted.patience).clock(wanted.time);
        Self(builder.build().expect("acceptable settings"))
    }

    fn beside(flow: Flow, first: Credentials, provider: impl CredentialsProvider + 'static) -> Self {
        let builder = alvys_auth_ureq::TokenSource::builder(flow, first).provider(Arc::new(provider));
        Self(builder.build().expect("acceptable settings"))
    }

    fn token(&self) -> Result<Token, Error> {
        self.0.token()
    }

    fn invalidate(&self) {
        self.0.invalidate();
    }
}

/// Gives the secrets in turn, the last one for ever, and counts how often it is asked.
#[derive(Debug, Clone)]
pub struct Store(pub Arc<Shelf>);

/// What a [`Store`] has.
#[derive(Debug)]
pub struct Shelf {
    client_id: String,
    /// What it gives from now on.
    pub secrets: Mutex<Vec<Result<String, Error>>>,
    /// The mark of what it would give.
    version: AtomicU64,
    asked: AtomicUsize,
}

impl Store {
    /// Of one client.
    pub fn new(client_id: &str, secrets: impl IntoIterator<Item = Result<String, Error>>) -> Self {
        Self(Arc::new(Shelf {
            client_id: client_id.to_owned(),
            secrets: Mutex::new(secrets.into_iter().collect()),
            version: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
        }))
    }

    /// From now on it says that its credentials have changed.
    pub fn change(&self) {
        self.0.version.fetch_add(1, Ordering::SeqCst);
    }

    /// How often it gave credentials, or could not.
    pub fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }
}

impl CredentialsProvider for Store {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        Given::unless(known, Mark::new(self.0.version.load(Ordering::SeqCst)), || {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            let mut secrets = self.0.secrets.lock().expect("a whole list");
            let secret = if secrets.len() > 1 { secrets.remove(0) } else { secrets[0].clone() };
            Credentials::new(self.0.client_id.clone(), secret?)
        })
    }
}

/// Answers as its [`Store`] does, but holds every answer back after the first one until it is let go.
#[derive(Debug, Clone)]
pub struct Held {
    /// What it gives.
    pub store: Store,
    /// How long it says that it may take.
    pub says: Option<Duration>,
    let_go: Arc<(Mutex<bool>, Condvar)>,
}

impl Held {
    /// Holds the answers of `store` back.
    pub fn new(store: &Store, says: Option<Duration>) -> Self {
        Self { store: store.clone(), says, let_go: Arc::default() }
    }

    /// Lets the answers go, those of the future too.
    pub fn let_go(&self) {
        *self.let_go.0.lock().expect("a flag") = true;
        self.let_go.1.notify_all();
    }
}

impl CredentialsProvider for Held {
    fn credentials(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        let given = self.store.credentials(known);
        if self.store.asked() > 1 && !matches!(given, Ok(Given::Unchanged)) {
            let free = self.let_go.0.lock().expect("a flag");
            drop(self.let_go.1.wait_while(free, |free| !*free).expect("a flag"));
        }
        given
    }

    fn time_limit(&self) -> Option<Duration> {
        self.says
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
