//! Token sources that can be put through the same scenarios: both drivers, and the peers that send requests themselves.

use std::future::Future;
use std::time::Duration;

use alvys_auth_core::{Flow, Policy};

use crate::input;
use crate::loopback::{Loopback, Reply};

/// A token that is still valid and due for renewal.
#[derive(Debug, Clone, Copy)]
pub struct Inside {
    /// How long the server says that it lives, in seconds.
    pub lifetime: u64,
    /// How long after its arrival the source wants another one.
    pub after: Duration,
}

/// Something that callers ask for a token.
pub trait Subject: Clone + Send + Sync + 'static {
    /// As tables name it.
    const NAME: &'static str;
    /// How to bring it inside its margin.
    const INSIDE: Inside;
    /// Whether a caller can leave while it waits.
    const CANCELLABLE: bool = true;

    /// A source that holds nothing yet.
    fn new(server: &Loopback) -> impl Future<Output = Self> + Send;

    /// One caller asks.
    ///
    /// # Errors
    /// The words of the source.
    fn token(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// A fifth of the lifetime, of which jitter takes up to half: renewal begins between 16 and 18 s. A busy machine has the
/// better part of two seconds for questions that take 0.3 s.
const OURS: Inside = Inside { lifetime: 20, after: Duration::from_millis(18_100) };

/// The async driver with its defaults.
#[derive(Debug, Clone)]
pub struct Reqwest(pub alvys_auth_reqwest::TokenSource);

impl Subject for Reqwest {
    const NAME: &'static str = "alvys-auth-reqwest";
    const INSIDE: Inside = OURS;

    async fn new(server: &Loopback) -> Self {
        let flow = Flow::current().endpoint(server.url());
        let source = alvys_auth_reqwest::TokenSource::builder(flow, input::credentials()).policy(Policy::new());
        Self(source.build().expect("good values"))
    }

    async fn token(&self) -> Result<(), String> {
        self.0.token().await.map(drop).map_err(|error| error.to_string())
    }
}

/// The blocking driver with its defaults, a thread for each caller.
#[derive(Debug, Clone)]
pub struct Ureq(pub alvys_auth_ureq::TokenSource);

impl Subject for Ureq {
    const NAME: &'static str = "alvys-auth-ureq";
    const INSIDE: Inside = OURS;
    const CANCELLABLE: bool = false;

    async fn new(server: &Loopback) -> Self {
        let flow = Flow::current().endpoint(server.url());
        let source = alvys_auth_ureq::TokenSource::builder(flow, input::credentials()).policy(Policy::new());
        Self(source.build().expect("good values"))
    }

    async fn token(&self) -> Result<(), String> {
        let source = self.0.clone();
        let asked = tokio::task::spawn_blocking(move || source.token().map(drop)).await;
        asked.expect("no panic").map_err(|error| error.to_string())
    }
}

/// A source that holds a token which outlives the measurement, and no server.
///
/// # Panics
/// When the loopback server fails.
#[must_use]
pub fn warm<S: Subject>() -> S {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let server = Loopback::start(Reply::token(input::LIFETIME));
        let source = S::new(&server).await;
        source.token().await.expect("a token");
        source
    })
}
