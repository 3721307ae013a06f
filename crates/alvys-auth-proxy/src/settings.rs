//! The settings of a proxy: who may call it, and its limits.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alvys_auth_core::Error;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The shortest key that is accepted, in bytes.
const SHORTEST_KEY: usize = 16;

/// The settings of a [`Proxy`](crate::Proxy). The defaults suit a sidecar that one program on the same machine calls.
///
/// ```
/// use alvys_auth_proxy::{Settings, SharedKey};
/// use std::time::Duration;
///
/// let settings = Settings::new()
///     .mcp("https://mcp.alvys.com/mcp")
///     .name("alvys-proxy")
///     .key(SharedKey::new("0f3b7c1e9a5d4826")?)
///     .expose()
///     .drain_for(Duration::from_secs(10));
/// # let _ = settings;
/// # Ok::<(), alvys_auth_proxy::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until a proxy is made with them"]
pub struct Settings {
    pub(crate) mcp: Option<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) key: Option<SharedKey>,
    pub(crate) exposed: bool,
    pub(crate) hands_out_tokens: bool,
    pub(crate) most_at_once: usize,
    pub(crate) longest_head: usize,
    pub(crate) longest_body: u64,
    pub(crate) longest_replayed: usize,
    pub(crate) idle: Duration,
    pub(crate) answer_within: Duration,
    pub(crate) drain_for: Duration,
}

/// A key that every request must have in `X-Alvys-Proxy-Key`.
///
/// The key is never shown, and it is compared in constant time. Clones share one key: [`set`](Self::set) on one of them
/// changes all.
///
/// ```
/// use alvys_auth_proxy::{Settings, SharedKey};
///
/// let key = SharedKey::new("0f3b7c1e9a5d4826")?;
/// let settings = Settings::new().key(key.clone());
/// // Later, while the proxy runs:
/// key.set("5a1d07c4be93f268")?;
/// # let _ = settings;
/// # Ok::<(), alvys_auth_proxy::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedKey(Arc<RwLock<Zeroizing<String>>>);

impl Settings {
    /// The defaults. Each setter names its default.
    pub fn new() -> Self {
        Self {
            mcp: None,
            paths: Vec::new(),
            names: Vec::new(),
            key: None,
            exposed: false,
            hands_out_tokens: false,
            most_at_once: 256,
            longest_head: 64 * 1024,
            longest_body: 64 * 1024 * 1024,
            longest_replayed: 64 * 1024,
            idle: Duration::from_secs(30),
            answer_within: Duration::from_secs(120),
            drain_for: Duration::from_secs(30),
        }
    }

    /// Sets the MCP server behind `/mcp`, such as `https://mcp.alvys.com/mcp`; none by default.
    pub fn mcp(mut self, url: impl Into<String>) -> Self {
        self.mcp = Some(url.into());
        self
    }

    /// Also serves this path of the API's host, and the paths below it.
    ///
    /// By default, an access token goes to the MCP server, to `/v1/me`, and below the base URL of the API: to any version if
    /// the base URL ends in one. Behind a gateway, other paths of the same host may belong to somebody else.
    pub fn allow_path(mut self, path: impl Into<String>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// Accepts one more host name or IP address, without a port, in the `Host` of requests; by default only `localhost` and
    /// loopback addresses.
    ///
    /// This protects against DNS rebinding, in which a browser calls the proxy by the name of another site.
    pub fn name(mut self, host: impl Into<String>) -> Self {
        self.names.push(host.into().to_ascii_lowercase());
        self
    }

    /// Requires this key from every request; no key by default.
    pub fn key(mut self, key: SharedKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Allows the proxy to listen on an address that other machines can reach; not allowed by default.
    ///
    /// It needs a [`key`](Self::key), and a network that you trust, because the proxy does not use TLS.
    pub fn expose(mut self) -> Self {
        self.exposed = true;
        self
    }

    /// Answers `GET /token` with the access token; not by default.
    pub fn hand_out_tokens(mut self) -> Self {
        self.hands_out_tokens = true;
        self
    }

    /// Sets how many calls may be in progress, including those that stream; 256 by default, at least 1.
    ///
    /// Twice as many more may wait for a token or for their turn within the rate limits. Several tenants share these places: a
    /// tenant may take another one while it holds fewer than are free.
    pub fn most_at_once(mut self, calls: usize) -> Self {
        self.most_at_once = calls.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// Sets the longest request head in bytes; 64 KiB by default, at least 8 KiB.
    pub fn longest_head(mut self, bytes: usize) -> Self {
        self.longest_head = bytes.max(8 * 1024);
        self
    }

    /// Sets the longest request body in bytes; 64 MiB by default.
    pub fn longest_body(mut self, bytes: u64) -> Self {
        self.longest_body = bytes;
        self
    }

    /// Sets the longest request body in bytes that is kept in memory, so that it can be sent again; 64 KiB by default.
    ///
    /// A longer body is streamed, and can be sent only once.
    pub fn longest_replayed(mut self, bytes: usize) -> Self {
        self.longest_replayed = bytes;
        self
    }

    /// Sets how long a client may take for a request head, for the next piece of a body, and between two requests, and how
    /// long it may let an answer wait; 30 seconds by default.
    ///
    /// The connection ends when an answer has waited for that long: the client takes nothing, or less than 1 KiB a second.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle.max(Duration::from_millis(1));
        self
    }

    /// Sets how long the API may take to begin its answer, counted from the last byte of the request; 120 seconds by default.
    ///
    /// There is no limit for the rest of the answer, because a stream of events may pause for any time.
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// Sets how long calls in progress may go on after the shutdown has begun; 30 seconds by default.
    pub fn drain_for(mut self, limit: Duration) -> Self {
        self.drain_for = limit;
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedKey {
    /// Checks a key. It must have at least 16 printable ASCII characters and no spaces, so that it can be sent in a header.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) otherwise.
    pub fn new(key: impl Into<String>) -> Result<Self, Error> {
        Ok(Self(Arc::new(RwLock::new(checked(key.into())?))))
    }

    /// Replaces the key. The old key is refused from now on.
    ///
    /// # Errors
    /// As [`new`](Self::new). The old key stays then.
    pub fn set(&self, key: impl Into<String>) -> Result<(), Error> {
        let key = checked(key.into())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    pub(crate) fn is(&self, presented: &[u8]) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_bytes().ct_eq(presented).into()
    }
}

fn checked(key: String) -> Result<Zeroizing<String>, Error> {
    let key = Zeroizing::new(key);
    if key.len() < SHORTEST_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::configuration(
            "the shared key of the proxy is too short, or contains characters that are not legal in a header",
            "give at least 16 printable ASCII characters without spaces, such as the output of openssl rand -hex 32",
        ));
    }
    Ok(key)
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey([redacted])")
    }
}
