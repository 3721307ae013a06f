//! Sources whose credentials come from a provider, of both drivers behind one face.

use std::sync::Arc;
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

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
