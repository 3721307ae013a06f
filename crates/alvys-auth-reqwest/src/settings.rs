//! The transport settings of a client: the caller's own or the default ones.
//!
//! The default TLS settings are those that reqwest makes for each client. They are made once in a process, because reading the
//! system's certificates takes milliseconds.

use std::fmt;
use std::sync::{Arc, OnceLock};

use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_platform_verifier::Verifier;

static SHARED: OnceLock<ClientConfig> = OnceLock::new();

/// The transport settings of a client: a function that makes a builder of it. It is called when a source or a client is built,
/// and again for each further tokio runtime, because runtimes share no connections.
///
/// For token requests, redirects, retries, time limits, `pool_idle_timeout` (2 seconds) and `https_only` are set over these
/// settings, and proxies are taken off an endpoint on this machine. [`Client`](crate::Client) sets redirects, and takes
/// proxies off an API on this machine.
#[derive(Clone)]
pub struct Http(Arc<dyn Fn() -> ClientBuilder + Send + Sync>);

impl<F: Fn() -> ClientBuilder + Send + Sync + 'static> From<F> for Http {
    fn from(make: F) -> Self {
        Self(Arc::new(make))
    }
}

impl Default for Http {
    /// The transport settings of those who bring none.
    fn default() -> Self {
        Self::from(default_http)
    }
}

impl Http {
    /// A builder with these settings.
    pub fn builder(&self) -> ClientBuilder {
        (self.0)()
    }
}

impl fmt::Debug for Http {
    /// Shows nothing: default headers may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

/// The most headers of an answer, and their length in all over HTTP/2. More make the answer unreadable.
const MOST_HEADERS: usize = 256;
const LONGEST_HEADERS: u32 = 256 * 1024;

/// A builder with our user agent, and with TLS settings that all such builders share.
pub(crate) fn default_http() -> ClientBuilder {
    let http = Client::builder().user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
    let http = http.http1_max_headers(MOST_HEADERS).http2_max_header_list_size(LONGEST_HEADERS);
    match SHARED.get().cloned().or_else(made) {
        Some(shared) => http.tls_backend_preconfigured(shared),
        // reqwest tries by itself, and says what is wrong.
        None => http,
    }
}

/// What reqwest makes: the provider of the process if there is one, the certificates of the system, HTTP/2 and HTTP/1.1.
fn made() -> Option<ClientConfig> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let verifier = Verifier::new(Arc::clone(&provider)).ok()?;
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let verified = versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = verified.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A later reqwest may be built on another rustls, and would not take these.
    Client::builder().no_proxy().tls_backend_preconfigured(config.clone()).build().ok()?;
    Some(SHARED.get_or_init(|| config).clone())
}
