//! The agent of those who bring none: its proxies, its certificates, and how it connects.

mod addresses;
mod connect;
mod resolve;
mod tls;
mod tunnel;

use std::sync::Arc;

use alvys_auth_core::Error;
use alvys_auth_driver::{Proxies, Trust};
use rustls::ClientConfig;
use rustls::crypto::ring;
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::typestate::AgentScope;

use self::connect::Connect;
use self::resolve::Addresses;

pub(crate) use self::addresses::Unreached;

/// The transport settings of those who bring no agent: the [`Proxies`] of the environment, and the certificates of
/// [`Trust::system`]. Where a host has several addresses, they race (RFC 8305).
///
/// To add to these settings, begin with [`Http::config`]; an agent of your own has ureq's ways in all of it.
///
/// ```
/// use std::time::Duration;
///
/// use alvys_auth_ureq::{Credentials, Flow, Http, TokenSource};
///
/// let agent = Http::default().agent(Http::config().user_agent("my-program/1.0"));
/// let tokens = TokenSource::builder(Flow::current(), Credentials::new("my-client", "s3cret")?).http(agent).build()?;
/// # let _ = tokens;
/// # Ok::<(), alvys_auth_ureq::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Http {
    proxies: Proxies,
    tls: Tls,
}

/// TLS settings: those that were given, or those of the system, which are read when they are needed.
#[derive(Debug, Clone)]
enum Tls {
    Given(Arc<ClientConfig>),
    System,
}

impl Default for Http {
    /// The transport settings of those who bring none.
    fn default() -> Self {
        Self { proxies: Proxies::from_env(), tls: Tls::System }
    }
}

impl Http {
    /// The default settings, but with these proxies, and with TLS settings such as [`Trust::read`] makes.
    #[must_use]
    pub fn with(proxies: Proxies, tls: Arc<ClientConfig>) -> Self {
        Self { proxies, tls: Tls::Given(tls) }
    }

    /// The settings of an agent, beside which ureq's defaults hold.
    pub fn config() -> ConfigBuilder<AgentScope> {
        Agent::config_builder().user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
    }

    /// An agent. The proxy and the TLS settings in `config` are not used.
    pub fn agent(&self, config: ConfigBuilder<AgentScope>) -> Agent {
        // Tells ureq to leave the look-up of a server's address to the proxy.
        let proxy = self.proxies.proxy().and_then(|proxy| ureq::Proxy::new(&proxy.url()).ok());
        let connect = Connect::new(self.clone());
        Agent::with_parts(config.proxy(proxy).build(), connect, Addresses::default())
    }

    /// Checks that these settings can be used for this URL.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the proxy for the URL, or the certificates of this
    /// system, cannot be used.
    pub fn check(&self, url: &Uri) -> Result<(), Error> {
        self.proxies.way(url)?;
        if url.scheme_str() == Some("https") { self.tls.config().map(drop) } else { Ok(()) }
    }
}

impl Tls {
    fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        match self {
            Self::Given(config) => Ok(Arc::clone(config)),
            Self::System => Trust::shared(|| Arc::new(ring::default_provider())),
        }
    }
}
