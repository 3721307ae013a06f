//! What a proxy can be told: who may call it, and how much of everything it takes.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alvys_auth_core::Error;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The shortest key that is accepted, in bytes.
const SHORTEST_KEY: usize = 16;

/// Settings of a [`Proxy`](crate::Proxy); the defaults suit a sidecar that one program calls on loopback.
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

/// A key that every request must carry in `X-Alvys-Proxy-Key`. Never shown, compared in constant time.
///
/// Clones are one key: what is set with one of them holds for all.
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
    /// The defaults, which each setter names.
    pub fn new() -> Self {
        Self {
            mcp: None,
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

    /// Where `/mcp` leads, such as `https://mcp.alvys.com/mcp`; nowhere by default.
    pub fn mcp(mut self, url: impl Into<String>) -> Self {
        self.mcp = Some(url.into());
        self
    }

    /// Lets requests call the proxy by one more host name or address, without a port; by default only `localhost` and
    /// loopback addresses.
    ///
    /// A browser that was led here by another name is turned away (DNS rebinding).
    pub fn name(mut self, host: impl Into<String>) -> Self {
        self.names.push(host.into().to_ascii_lowercase());
        self
    }

    /// Asks every request for this key; none by default.
    pub fn key(mut self, key: SharedKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Lets the proxy listen on an address that other machines can reach; not by default. Takes a [`key`](Self::key)
    /// beside it, and the network between must be one that you trust: the proxy speaks no TLS.
    pub fn expose(mut self) -> Self {
        self.exposed = true;
        self
    }

    /// Answers `GET /token` with the access token itself; not by default.
    pub fn hand_out_tokens(mut self) -> Self {
        self.hands_out_tokens = true;
        self
    }

    /// How many calls may be under way, the ones that wait and the ones that stream included; 256, at least 1.
    pub fn most_at_once(mut self, calls: usize) -> Self {
        self.most_at_once = calls.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// The longest request head, in bytes; 64 KiB, at least 8 KiB.
    pub fn longest_head(mut self, bytes: usize) -> Self {
        self.longest_head = bytes.max(8 * 1024);
        self
    }

    /// The longest request body, in bytes; 64 MiB.
    pub fn longest_body(mut self, bytes: u64) -> Self {
        self.longest_body = bytes;
        self
    }

    /// The longest request body that is held in memory, so that it can be sent again, in bytes; 64 KiB. A longer one is
    /// streamed and sent once.
    pub fn longest_replayed(mut self, bytes: usize) -> Self {
        self.longest_replayed = bytes;
        self
    }

    /// How long a client may take for a request head, for the next piece of a body, or between two requests; 30 seconds.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle.max(Duration::from_millis(1));
        self
    }

    /// How long the API may take to begin its answer, counted from the last byte it was sent; 120 seconds.
    ///
    /// Once begun, an answer may take any time: events come when they come.
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// How long calls under way may go on after the shutdown began; 30 seconds.
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
    /// Checks a key: at least 16 printable characters of ASCII without a space, so that it can stand in a header.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) otherwise.
    pub fn new(key: impl Into<String>) -> Result<Self, Error> {
        Ok(Self(Arc::new(RwLock::new(checked(key.into())?))))
    }

    /// Asks for another key from now on, and no longer for this one.
    ///
    /// # Errors
    /// As [`new`](Self::new); the key stays as it is then.
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
            "the shared key of the proxy is too short, or holds characters that a header cannot carry",
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
