//! What the end-to-end tests share: one face for both drivers, one for all clients, and one way to reach the sandbox.

/// The page about sharing tokens, whose examples are compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/sharing.md")]
pub struct Sharing;

pub mod caller;
pub mod provided;
pub mod proxied;
pub mod raw;
pub mod stacks;
pub mod tls;
pub mod transcript;

pub mod many;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Credentials, Error, Flow, Policy, Status, Token};
use alvys_auth_driver::{Clock, ManualClock, Time};
use alvys_auth_sandbox::{Application, Sandbox};
use alvys_auth_store::{FileStore, Sealed};
use tokio::runtime::Runtime;

/// How to build a source under test; everything not given is the driver's default.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which flow, with its endpoint.
    pub flow: Flow,
    /// Whose token.
    pub credentials: Credentials,
    /// When to renew and to back off.
    pub policy: Policy,
    /// How long a caller waits.
    pub patience: Duration,
    /// Which clock the source goes by.
    pub time: Time,
    /// The directory through which the token is shared, if it is.
    pub store: Option<PathBuf>,
}

impl Settings {
    /// The current flow against `sandbox`, with its default application.
    pub fn current(sandbox: &Sandbox) -> Self {
        Self::new(Flow::current().endpoint(sandbox.token_url()), &sandbox.application())
    }

    /// The legacy flow against `sandbox`, with its default application.
    pub fn legacy(sandbox: &Sandbox) -> Self {
        let application = sandbox.application();
        Self::new(Flow::legacy(application.tenant()).endpoint(sandbox.legacy_token_url()), &application)
    }

    fn new(flow: Flow, application: &Application) -> Self {
        let credentials = credentials(application.client_id(), application.client_secret());
        Self {
            flow,
            credentials,
            policy: Policy::new(),
            patience: Duration::from_secs(15),
            time: Time::boot(),
            store: None,
        }
    }

    /// With another policy.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// With a clock that is moved by hand.
    #[must_use]
    pub fn clock(mut self, clock: &Arc<ManualClock>) -> Self {
        self.time = Arc::clone(clock).into();
        self
    }

    /// Sharing the token through files in that directory.
    #[must_use]
    pub fn store(mut self, directory: &Path) -> Self {
        self.store = Some(directory.to_owned());
        self
    }

    /// With another patience.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// Credentials that are known to be acceptable.
///
/// # Panics
/// When they are not.
pub fn credentials(client_id: &str, client_secret: &str) -> Credentials {
    Credentials::new(client_id, client_secret).expect("acceptable credentials")
}

/// A source of the async driver against `sandbox`, with its default application.
///
/// # Panics
/// Never, as long as the driver takes what the sandbox gives.
pub fn async_tokens(sandbox: &Sandbox) -> alvys_auth_reqwest::TokenSource {
    let settings = Settings::current(sandbox);
    alvys_auth_reqwest::TokenSource::new(settings.flow, settings.credentials).expect("acceptable settings")
}

/// The same of the blocking driver.
///
/// # Panics
/// As [`async_tokens`].
pub fn blocking_tokens(sandbox: &Sandbox) -> alvys_auth_ureq::TokenSource {
    let settings = Settings::current(sandbox);
    alvys_auth_ureq::TokenSource::new(settings.flow, settings.credentials).expect("acceptable settings")
}

/// A token source of either driver, seen from blocking code.
pub trait Source: Clone + Send + Sync + 'static {
    /// Builds a source.
    fn build(settings: Settings) -> Result<Self, Error>;
    /// One caller asks for a token.
    fn token(&self) -> Result<Token, Error>;
    /// As many callers ask at the same time.
    fn tokens(&self, callers: usize) -> Vec<Result<Token, Error>>;
    /// See the drivers.
    fn with_token<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R>;
    /// See the drivers.
    fn reject(&self, token: &Token) -> bool;
    /// See the drivers.
    fn invalidate(&self);
    /// See the drivers.
    fn set_credentials(&self, credentials: Credentials) -> Result<(), Error>;
    /// See the drivers.
    fn status(&self) -> Status;
}

/// Runs each scenario once per driver: with the types that are called `Async` and `Blocking` where this stands.
#[macro_export]
macro_rules! both_drivers {
    ($($(#[$attribute:meta])* $scenario:ident),* $(,)?) => {
        mod reqwest_driver {
            $(#[test] $(#[$attribute])* fn $scenario() { super::$scenario::<super::Async>(); })*
        }
        mod ureq_driver {
            $(#[test] $(#[$attribute])* fn $scenario() { super::$scenario::<super::Blocking>(); })*
        }
    };
}

/// The same, both drivers at the same time: for scenarios that mostly wait.
#[macro_export]
macro_rules! both_drivers_at_once {
    ($($scenario:ident),* $(,)?) => {
        mod both_drivers {
            $(#[test] fn $scenario() {
                $crate::at_once(&[
                    ("reqwest_driver", super::$scenario::<super::Async>),
                    ("ureq_driver", super::$scenario::<super::Blocking>),
                ]);
            })*
        }
    };
}

/// Runs each scenario in a thread of its own, named as given, and waits for all.
///
/// # Panics
/// When one of them does, once all have ended; says which ones did.
pub fn at_once(scenarios: &[(&str, fn())]) {
    let start = |&(name, scenario): &(&str, fn())| {
        (name.to_owned(), thread::Builder::new().name(name.to_owned()).spawn(scenario).expect("a thread"))
    };
    let threads: Vec<_> = scenarios.iter().map(start).collect();
    let failed: Vec<_> = threads.into_iter().filter_map(|(name, thread)| thread.join().err().map(|_| name)).collect();
    assert!(failed.is_empty(), "failed with {failed:?}");
}

/// Lets time fly by `clock` while `work` is done, twenty seconds in about one, and gives how much of it has passed.
///
/// # Panics
/// When `work` does.
pub fn flying<R>(clock: &ManualClock, work: impl FnOnce() -> R) -> (R, Duration) {
    let (began, over) = (clock.now(), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                clock.advance(Duration::from_millis(20));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let result = catch_unwind(AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        result
    });
    let passed = clock.now().saturating_duration_since(began);
    (result.unwrap_or_else(|panic| resume_unwind(panic)), passed)
}

macro_rules! forward {
    ($($field:tt)+) => {
        fn with_token<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R> {
            self.$($field)+.with_token(read)
        }

        fn reject(&self, token: &Token) -> bool {
            self.$($field)+.reject(token)
        }

        fn invalidate(&self) {
            self.$($field)+.invalidate();
        }

        fn set_credentials(&self, credentials: Credentials) -> Result<(), Error> {
            self.$($field)+.set_credentials(credentials).map(|_| ())
        }

        fn status(&self) -> Status {
            self.$($field)+.status()
        }
    };
}

/// The async driver on a multi-threaded runtime of its own.
#[derive(Debug, Clone)]
pub struct Async {
    source: alvys_auth_reqwest::TokenSource,
    runtime: Arc<Runtime>,
}

impl Source for Async {
    fn build(settings: Settings) -> Result<Self, Error> {
        let mut builder = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials)
            .policy(settings.policy)
            .patience(settings.patience)
            .clock(settings.time);
        if let Some(directory) = settings.store {
            builder =
                builder.store(Arc::new(alvys_auth_reqwest::Blocking::new(Sealed::new(FileStore::new(directory)?))));
        }
        let source = builder.build()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Ok(Self { source, runtime: Arc::new(runtime.expect("a runtime")) })
    }

    fn token(&self) -> Result<Token, Error> {
        self.runtime.block_on(self.source.token())
    }

    fn tokens(&self, callers: usize) -> Vec<Result<Token, Error>> {
        let start = Arc::new(tokio::sync::Barrier::new(callers));
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (source, start) = (self.source.clone(), Arc::clone(&start));
                self.runtime.spawn(async move {
                    start.wait().await;
                    source.token().await
                })
            })
            .collect();
        let join = async {
            let mut results = Vec::new();
            for task in tasks {
                results.push(task.await.expect("a caller that does not panic"));
            }
            results
        };
        self.runtime.block_on(join)
    }

    forward!(source);
}

/// The blocking driver, a thread per caller.
#[derive(Debug, Clone)]
pub struct Blocking(alvys_auth_ureq::TokenSource);

impl Source for Blocking {
    fn build(settings: Settings) -> Result<Self, Error> {
        let mut builder = alvys_auth_ureq::TokenSource::builder(settings.flow, settings.credentials)
            .policy(settings.policy)
            .patience(settings.patience)
            .clock(settings.time);
        if let Some(directory) = settings.store {
            builder = builder.store(Arc::new(Sealed::new(FileStore::new(directory)?)));
        }
        Ok(Self(builder.build()?))
    }

    fn token(&self) -> Result<Token, Error> {
        self.0.token()
    }

    fn tokens(&self, callers: usize) -> Vec<Result<Token, Error>> {
        let start = Barrier::new(callers);
        thread::scope(|scope| {
            let call = || {
                start.wait();
                self.token()
            };
            let threads: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a caller that does not panic")).collect()
        })
    }

    forward!(0);
}

/// Calls `GET /v1/me` of the sandbox with a token and gives the status.
///
/// # Panics
/// When no answer arrives.
pub fn call_api(sandbox: &Sandbox, token: &Token) -> u16 {
    let request = ureq::get(sandbox.me_url()).config().http_status_as_error(false).build();
    request.header("authorization", token.header()).call().expect("an answer").status().as_u16()
}

/// Looks again and again until `check` holds.
///
/// # Panics
/// When it does not within a minute, which a busy machine may need.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !check() {
        assert!(Instant::now() < give_up, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The code of the project's README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
