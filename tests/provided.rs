//! Sources whose credentials come from a provider, of both drivers behind one face, and a provider to count questions.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alvys_auth_core::{Credentials, Error, Flow, Policy, Token};
use alvys_auth_driver::CredentialsProvider;
use tokio::runtime::{Builder, Runtime};

/// A source of either driver whose credentials come from a provider.
pub trait Provided: Clone + Send + Sync + 'static {
    /// Builds one with the default patience.
    fn from_provider(flow: Flow, policy: Policy, provider: impl CredentialsProvider + Clone + 'static) -> Self {
        Self::patient(flow, Duration::from_secs(15), policy, provider)
    }
    /// Builds one whose callers wait for so long.
    fn patient(
        flow: Flow,
        patience: Duration,
        policy: Policy,
        provider: impl CredentialsProvider + Clone + 'static,
    ) -> Self;
    /// Builds one with credentials of its own and a provider beside them.
    fn beside(flow: Flow, first: Credentials, provider: impl CredentialsProvider + Clone + 'static) -> Self;
    /// One caller asks for a token.
    fn token(&self) -> Result<Token, Error>;
    /// See the drivers.
    fn invalidate(&self);
}

/// The async driver, on a runtime of its own.
#[derive(Debug, Clone)]
pub struct Async(alvys_auth_reqwest::TokenSource, Arc<Runtime>);

impl Provided for Async {
    fn patient(
        flow: Flow,
        patience: Duration,
        policy: Policy,
        provider: impl CredentialsProvider + Clone + 'static,
    ) -> Self {
        let runtime = runtime();
        let builder = alvys_auth_reqwest::TokenSource::builder_from_provider(flow, provider);
        let builder = runtime.block_on(builder).expect("credentials").policy(policy).patience(patience);
        Self(builder.build().expect("acceptable settings"), Arc::new(runtime))
    }

    fn beside(flow: Flow, first: Credentials, provider: impl CredentialsProvider + Clone + 'static) -> Self {
        let runtime = runtime();
        let builder = alvys_auth_reqwest::TokenSource::builder(flow, first).provider(provider);
        Self(builder.build().expect("acceptable settings"), Arc::new(runtime))
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
    fn patient(
        flow: Flow,
        patience: Duration,
        policy: Policy,
        provider: impl CredentialsProvider + Clone + 'static,
    ) -> Self {
        let builder = alvys_auth_ureq::TokenSource::builder_from_provider(flow, provider).expect("credentials");
        Self(builder.policy(policy).patience(patience).build().expect("acceptable settings"))
    }

    fn beside(flow: Flow, first: Credentials, provider: impl CredentialsProvider + Clone + 'static) -> Self {
        let builder = alvys_auth_ureq::TokenSource::builder(flow, first).provider(provider);
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
    pub revision: AtomicU64,
    asked: AtomicUsize,
}

impl Store {
    /// Of one client.
    pub fn new(client_id: &str, secrets: impl IntoIterator<Item = Result<String, Error>>) -> Self {
        Self(Arc::new(Shelf {
            client_id: client_id.to_owned(),
            secrets: Mutex::new(secrets.into_iter().collect()),
            revision: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
        }))
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }
}

impl CredentialsProvider for Store {
    fn credentials(&self) -> Result<Credentials, Error> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let mut secrets = self.0.secrets.lock().expect("a whole list");
        let secret = if secrets.len() > 1 { secrets.remove(0) } else { secrets[0].clone() };
        Credentials::new(self.0.client_id.clone(), secret?)
    }

    fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::SeqCst)
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
