//! The sandbox: starts the server, stops it, and turns its knobs.

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
    server::{self, Server},
};

/// A local Alvys that lives as long as this value.
///
/// It runs on a thread of its own, so blocking and async tests use it alike. Dropping it closes
/// the listener and every connection at once, hanging and delayed ones included.
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
    /// Starts a sandbox on a free port of 127.0.0.1 and returns once it is listening.
    ///
    /// # Errors
    ///
    /// If the system gives no thread or no socket.
    pub fn start() -> io::Result<Self> {
        Self::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts a sandbox on a chosen loopback address; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// If the address is not a loopback one, if it is taken, or if the system gives no thread.
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
            .spawn(move || server::run(address, &ready, stopped))?;
        let server =
            started.recv().map_err(|_| io::Error::other("the thread of the sandbox ended while starting"))??;
        let application = Application::generate();
        server.applications().push(application.clone());
        Ok(Self { server, application, stop: Some(stop), thread: Some(thread) })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The root of the server, `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The current token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.url())
    }

    /// The legacy token endpoint with `{tenant_id}` still to be replaced by a tenant.
    pub fn legacy_token_url(&self) -> String {
        format!("{}/api/authentication/{{tenant_id}}/token", self.url())
    }

    /// The API that answers who a token belongs to.
    pub fn me_url(&self) -> String {
        format!("{}/v1/me", self.url())
    }

    /// The base of the API's resources: `/loads` is appended to it.
    pub fn api_url(&self) -> String {
        format!("{}/api/p/v1", self.url())
    }

    /// The endpoint that answers with events spaced in time.
    pub fn mcp_url(&self) -> String {
        format!("{}/mcp", self.url())
    }

    /// The application the sandbox started with, its secret as it is now.
    ///
    /// It belongs to the tenant `va336` and holds [`DEFAULT_SCOPES`]. Its id and secret differ in
    /// every sandbox; the secret has 64 characters, among them `+`, `&`, `=`, `"`, `%` and `/`.
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

    /// Adds an application, in place of any with the same client id.
    pub fn add(&self, application: Application) {
        let mut applications = self.server.applications();
        applications.retain(|other| other.client_id() != application.client_id());
        applications.push(application);
    }

    /// Removes an application and says whether it was there; its tokens stay good until they
    /// expire.
    pub fn remove(&self, client_id: &str) -> bool {
        let mut applications = self.server.applications();
        let before = applications.len();
        applications.retain(|application| application.client_id() != client_id);
        applications.len() < before
    }

    /// Gives an application a new secret and says whether it was there; its tokens stay good until
    /// they expire, the old secret does not.
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

    /// Sets how long tokens issued from now on are good; 3600 seconds at the start.
    ///
    /// Whole seconds make `expires_in`, `iat` and `exp` whole numbers, other lifetimes fractional
    /// ones. The API accepts a token for the full lifetime, to the millisecond.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.server.settings().lifetime = lifetime;
    }

    /// Puts the server's clock this many seconds ahead of the machine's, or behind when negative.
    ///
    /// That clock decides when tokens and applications expire and is what `Date`, `iat`, `exp`,
    /// `X-RateLimit-Reset` and a dated `Retry-After` tell.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.server.clock().set_skew(seconds);
    }

    /// Chooses what the current token endpoint answers when the audience is missing: 403 (`false`,
    /// as at the start) or 200 with an opaque token that opens nothing.
    pub fn set_opaque_tokens(&self, opaque: bool) {
        self.server.settings().opaque_tokens = opaque;
    }

    /// Makes the pre-signed links of documents lead to `/storage/` at another base URL, for example
    /// [`url`](Self::url) of a second sandbox; at the start they lead to this one.
    pub fn set_document_host(&self, url: impl Into<String>) {
        let url = url.into().trim_end_matches('/').to_owned();
        self.server.settings().document_host = Some(url);
    }

    /// Makes the API answer 429 beyond these limits; at the start there are none.
    pub fn limit_rates(&self, limits: RateLimits) {
        *self.server.meter() = Some(Meter::new(limits));
    }

    /// Takes all rate limits away again.
    pub fn lift_rate_limits(&self) {
        *self.server.meter() = None;
    }

    /// Makes the API answer 401 `invalid_token` to every token issued until now.
    pub fn reject_tokens(&self) {
        self.server.issuer().reject_all();
    }

    /// Puts a fault in place for requests on `route`.
    ///
    /// Faults queue up: each request meets the oldest one that is aimed at it and not used up, so
    /// one without an end hides those behind it.
    pub fn inject(&self, route: Route, fault: Fault) {
        self.server.faults().push(Target::Route(route), fault);
    }

    /// Puts a fault in place for requests to `path`, for example `/api/p/v1/loads`, whatever their
    /// method and query; one that ends in a slash covers every path below it.
    ///
    /// It queues up with the faults of [`inject`](Self::inject).
    ///
    /// # Panics
    ///
    /// If `path` does not start with a slash or has a query: it would never be met.
    pub fn inject_at(&self, path: impl Into<String>, fault: Fault) {
        let path = path.into();
        assert!(path.starts_with('/'), "the path of a fault starts with a slash");
        assert!(!path.contains(['?', '#']), "the path of a fault has no query");
        self.server.faults().push(Target::Path(path), fault);
    }

    /// Takes every fault away; requests that a fault holds already stay held.
    pub fn clear_faults(&self) {
        self.server.faults().clear();
    }

    /// The requests received, oldest first: the last 100,000, or fewer where their bodies exceed
    /// 64 MiB together. A body of more than 1 MiB is not kept.
    pub fn requests(&self) -> Vec<Received> {
        self.server.log().requests()
    }

    /// How many requests went to either token endpoint since the log was last cleared.
    pub fn token_requests(&self) -> usize {
        self.server.log().token_requests()
    }

    /// How many requests went to the API since the log was last cleared.
    pub fn api_requests(&self) -> usize {
        self.server.log().api_requests()
    }

    /// How many tokens were issued since the log was last cleared, whether they arrived or not.
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
            // The thread may be gone already.
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
