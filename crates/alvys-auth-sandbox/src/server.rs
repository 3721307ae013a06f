//! The shared state of the server.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    application::{Application, DEFAULT_AUDIENCE},
    clock::Clock,
    fault::Faults,
    issuer::{Issuer, Lifespan},
    limits::Meter,
    log::Log,
};

/// The state of one sandbox.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    started: Instant,
    clock: Clock,
    issuer: Issuer,
    settings: Mutex<Settings>,
    applications: Mutex<Vec<Application>>,
    faults: Mutex<Faults>,
    log: Mutex<Log>,
    meter: Mutex<Option<Meter>>,
}

impl Server {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            started: Instant::now(),
            clock: Clock::default(),
            issuer: Issuer::new(format!("http://{address}/")),
            settings: Mutex::default(),
            applications: Mutex::default(),
            faults: Mutex::default(),
            log: Mutex::default(),
            meter: Mutex::default(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The time since the sandbox started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(crate) fn applications(&self) -> MutexGuard<'_, Vec<Application>> {
        lock(&self.applications)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    pub(crate) fn meter(&self) -> MutexGuard<'_, Option<Meter>> {
        lock(&self.meter)
    }

    /// The base URL of the server that pre-signed links lead to, without a slash at the end.
    pub(crate) fn document_host(&self) -> String {
        self.settings().document_host.clone().unwrap_or_else(|| format!("http://{}", self.address))
    }

    /// The lifespan of a token issued now.
    pub(crate) fn lifespan(&self) -> Lifespan {
        Lifespan::new(self.clock.now_ms(), self.settings().lifetime)
    }

    /// The application that these credentials belong to. None when they are wrong or expired.
    pub(crate) fn authenticate(&self, client_id: &str, client_secret: &str) -> Option<Application> {
        let now = self.clock.after(Duration::ZERO);
        let applications = self.applications();
        let application = applications.iter().find(|application| application.client_id() == client_id)?;
        application.accepts(client_secret, now).then(|| application.clone())
    }

    /// Whether this is the audience of the public API or of an application.
    pub(crate) fn serves_audience(&self, audience: &str) -> bool {
        audience == DEFAULT_AUDIENCE || self.applications().iter().any(|application| application.audience() == audience)
    }
}

/// The settings that can be changed while the server runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) lifetime: Duration,
    pub(crate) opaque_tokens: bool,
    /// None means this server.
    pub(crate) document_host: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(3600), opaque_tokens: false, document_host: None }
    }
}

/// Locks the mutex, even after a test has panicked with the lock held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
