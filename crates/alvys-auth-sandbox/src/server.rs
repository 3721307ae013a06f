//! The shared state of the server, its routes, and the thread that runs it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    middleware,
    response::Response,
    routing::{any, get, post},
    serve::Listener as _,
};
use http::StatusCode;
use tokio::{runtime, sync::oneshot};

use crate::{
    api,
    application::{Application, DEFAULT_AUDIENCE},
    clock::Clock,
    documents,
    fault::Faults,
    gate,
    issuer::{Issuer, Lifespan},
    legacy,
    limits::Meter,
    log::Log,
    mcp, reply, token_endpoint,
    wire::{Cut, Door},
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
    fn new(address: SocketAddr) -> Self {
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

/// Serves until `stop` is sent or its sender is dropped. Sends the result of the start to `ready`.
pub(crate) fn run(address: SocketAddr, ready: &mpsc::Sender<io::Result<Arc<Server>>>, stop: oneshot::Receiver<()>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(ready, Err(error)),
    };
    runtime.block_on(async {
        let door = match Door::open(address) {
            Ok(door) => door,
            Err(error) => return report(ready, Err(error)),
        };
        let server = match door.local_addr() {
            Ok(address) => Arc::new(Server::new(address)),
            Err(error) => return report(ready, Err(error)),
        };
        let service = router(Arc::clone(&server)).into_make_service_with_connect_info::<Cut>();
        let serve = axum::serve(door, service);
        tokio::spawn(async move { serve.await });
        report(ready, Ok(server));
        // An error means that the sender was dropped, which is a stop too.
        let _ = stop.await;
    });
    // Dropping the runtime closes the listener and all connections, whatever they wait for.
}

fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/oauth/token", post(token_endpoint::token))
        .route("/api/authentication/{tenant}/token", post(legacy::token))
        .route("/api/p/authentication/{tenant}/token", post(legacy::token))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/v1/me", get(api::me))
        .route("/mcp", post(mcp::events))
        .route("/storage/{name}", get(documents::stored))
        .route("/api/p/{version}/documents", post(documents::create))
        .route("/api/p/{version}/documents/{id}", get(documents::read))
        .route("/api/p/{version}/documents/{id}/download", get(documents::download))
        .route("/api/p/{version}/loads/{id}/documents", get(documents::of_load))
        .route("/api/p/{version}/{resource}", any(api::collection))
        .route("/api/p/{version}/{resource}/{id}", any(api::item))
        .fallback(gate::unknown_path)
        .method_not_allowed_fallback(gate::wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&server), gate::pass))
        .with_state(server)
}

async fn jwks(State(server): State<Arc<Server>>) -> Response {
    reply::json(StatusCode::OK, &server.issuer().jwks())
}

/// Sends the result of the start. It is ignored when nobody waits for it any more.
fn report(ready: &mpsc::Sender<io::Result<Arc<Server>>>, outcome: io::Result<Arc<Server>>) {
    let _ = ready.send(outcome);
}

/// Locks the mutex, even after a test has panicked with the lock held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
