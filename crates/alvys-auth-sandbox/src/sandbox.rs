//! The sandbox: starts and stops the server, and changes its settings.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    application::Application,
    fault::{Fault, Target},
    limits::{Meter, RateLimits},
    log::Received,
    route::Route,
    serve,
    server::Server,
};

/// A local imitation of Alvys. It runs until this value is dropped.
///
/// It runs on a thread of its own, so it can be used in blocking and in async tests. Dropping it
/// closes the listener and all connections at once, including those that hang or wait.
///
/// ```
/// use alvys_auth_sandbox::Sandbox;
///
/// let sandbox = Sandbox::start()?;
/// let application = sandbox.application();
/// let answer = ureq::post(sandbox.token_url())
///     .send_form([
///         ("grant_type", "client_credentials"),
///         ("client_id", application.client_id()),
///         ("client_secret", application.client_secret()),
///         ("audience", application.audience()),
///     ])
///     .unwrap();
/// assert_eq!(answer.status(), 200);
/// assert_eq!(sandbox.tokens_issued(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Sandbox {
    server: Arc<Server>,
    application: Application,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a sandbox on a free port of 127.0.0.1. It is listening when this returns.
    ///
    /// # Errors
    ///
    /// If the system cannot give a thread or a socket.
    pub fn start() -> io::Result<Self> {
        Self::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts a sandbox on a loopback address. Port 0 takes a free port.
    ///
    /// # Errors
    ///
    /// If the address is not a loopback address or is in use, or if the system cannot give a thread.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a sandbox listens on loopback only, and {address} is not a loopback address"),
            ));
        }
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("alvys-sandbox".to_owned())
            .spawn(move || serve::run(address, &ready, stopped))?;
        let server =
            started.recv().map_err(|_| io::Error::other("the thread of the sandbox ended while starting"))??;
        let application = Application::generate();
        server.applications().push(application.clone());
        Ok(Self { server, application, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The base URL of the server, `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The URL of the current token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.url())
    }

    /// The URL of the legacy token endpoint, with `{tenant_id}` in place of the tenant.
    pub fn legacy_token_url(&self) -> String {
        format!("{}/api/authentication/{{tenant_id}}/token", self.url())
    }

    /// The URL of `/v1/me`, which answers who a token belongs to.
    pub fn me_url(&self) -> String {
        format!("{}/v1/me", self.url())
    }

    /// The base URL of the API's resources, without a slash at the end. Append `/loads`, for example.
    pub fn api_url(&self) -> String {
        format!("{}/api/p/v1", self.url())
    }

    /// The URL of the endpoint that answers with a stream of events.
    pub fn mcp_url(&self) -> String {
        format!("{}/mcp", self.url())
    }

    /// The application that the sandbox started with, with its present secret.
    ///
    /// It belongs to the tenant `va336` and has [`DEFAULT_SCOPES`]. Every sandbox has another id and
    /// another secret. The secret has 64 characters, among them `+`, `&`, `=`, `"`, `%` and `/`.
    ///
    /// [`DEFAULT_SCOPES`]: crate::DEFAULT_SCOPES
    pub fn application(&self) -> Application {
        self.server
            .applications()
            .iter()
            .find(|application| application.client_id() == self.application.client_id())
            .unwrap_or(&self.application)
            .clone()
    }

    /// Adds an application. It replaces one with the same client id.
    pub fn add(&self, application: Application) {
        let mut applications = self.server.applications();
        applications.retain(|other| other.client_id() != application.client_id());
        applications.push(application);
    }

    /// Removes an application. Its tokens stay valid until they expire. False when there is no such
    /// application.
    pub fn remove(&self, client_id: &str) -> bool {
        let mut applications = self.server.applications();
        let before = applications.len();
        applications.retain(|application| application.client_id() != client_id);
        applications.len() < before
    }

    /// Gives an application a new secret. The old secret is refused from now on; the tokens stay valid
    /// until they expire. False when there is no such application.
    pub fn rotate_secret(&self, client_id: &str, new_secret: impl Into<String>) -> bool {
        let mut applications = self.server.applications();
        let application = applications.iter_mut().find(|application| application.client_id() == client_id);
        match application {
            Some(application) => {
                application.replace_secret(new_secret.into());
                true
            }
            None => false,
        }
    }

    /// Sets the lifetime of the tokens issued from now on; 3600 seconds by default.
    ///
    /// `expires_in`, `iat` and `exp` are whole numbers if the lifetime is in whole seconds, otherwise
    /// fractions. The API accepts a token for its full lifetime, to the millisecond.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.server.settings().lifetime = lifetime;
    }

    /// Sets the server's clock this many seconds ahead of the machine's, or behind it when negative.
    ///
    /// This clock decides when tokens and applications expire. It is the time in `Date`, `iat`, `exp`,
    /// `X-RateLimit-Reset` and a `Retry-After` with a date.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.server.clock().set_skew(seconds);
    }

    /// Sets what the current token endpoint answers when the audience is missing: 403 (`false`, the
    /// default), or 200 with an opaque token that the API refuses (`true`).
    pub fn set_opaque_tokens(&self, opaque: bool) {
        self.server.settings().opaque_tokens = opaque;
    }

    /// Sets the base URL of the pre-signed links of documents, for example [`url`](Self::url) of a
    /// second sandbox. `/storage/` is appended. By default, the links lead to this sandbox.
    pub fn set_document_host(&self, url: impl Into<String>) {
        let url = url.into().trim_end_matches('/').to_owned();
        self.server.settings().document_host = Some(url);
    }

    /// Makes the API answer 429 when these limits are exceeded. By default there are no limits.
    pub fn limit_rates(&self, limits: RateLimits) {
        *self.server.meter() = Some(Meter::new(limits));
    }

    /// Removes all rate limits.
    pub fn lift_rate_limits(&self) {
        *self.server.meter() = None;
    }

    /// Makes the API answer 401 `invalid_token` to every token issued until now.
    pub fn reject_tokens(&self) {
        self.server.issuer().reject_all();
    }

    /// Injects a fault for requests on `route`.
    ///
    /// Faults form a queue: the oldest one that fits and is not used up applies to a request. So a
    /// fault without an end hides those after it.
    pub fn inject(&self, route: Route, fault: Fault) {
        self.server.faults().push(Target::Route(route), fault);
    }

    /// Injects a fault for requests to `path`, for example `/api/p/v1/loads`, with any method and
    /// query. A path that ends in a slash covers all paths below it.
    ///
    /// The fault is in the same queue as those of [`inject`](Self::inject).
    ///
    /// # Panics
    ///
    /// If `path` does not start with a slash, or if it has a query.
    pub fn inject_at(&self, path: impl Into<String>, fault: Fault) {
        let path = path.into();
        assert!(path.starts_with('/'), "the path of a fault starts with a slash");
        assert!(!path.contains(['?', '#']), "the path of a fault has no query");
        self.server.faults().push(Target::Path(path), fault);
    }

    /// Removes all faults. Requests that a fault has met already are not released.
    pub fn clear_faults(&self) {
        self.server.faults().clear();
    }

    /// The received requests, oldest first: the last 100,000, or fewer when their bodies have more
    /// than 64 MiB together. A body of more than 1 MiB is not kept.
    pub fn requests(&self) -> Vec<Received> {
        self.server.log().requests()
    }

    /// How many requests went to the token endpoints since the log was last cleared.
    pub fn token_requests(&self) -> usize {
        self.server.log().token_requests()
    }

    /// How many requests went to the API since the log was last cleared.
    pub fn api_requests(&self) -> usize {
        self.server.log().api_requests()
    }

    /// How many tokens were issued since the log was last cleared, including those that did not arrive.
    pub fn tokens_issued(&self) -> usize {
        self.server.log().tokens_issued()
    }

    /// Empties the log and sets its counts to zero.
    pub fn clear_log(&self) {
        self.server.log().clear();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("url", &self.url()).finish_non_exhaustive()
    }
}
