//! The transport settings of a client: the caller's own or the default ones.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use alvys_auth_core::Error;
use alvys_auth_driver::{Proxies, Scheme, Trust, Way};
use http::Uri;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Proxy, Url};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;

use crate::transport::explained;

/// The protocols that a server may choose from, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// No proxy has this name (RFC 6761, section 6.4). A request that needs a proxy which cannot be used goes to this name,
/// and so is never sent.
const NOWHERE: &str = "http://unusable-proxy.invalid";

/// The transport settings of a client: a function that makes a client builder. The function is called when a source or
/// a client is built, and again for each further tokio runtime, because runtimes share no connections.
///
/// Some settings are overridden. For token requests these are redirects, retries, time limits, `pool_idle_timeout` (2
/// seconds) and `https_only`, and an endpoint on this machine gets no proxy. [`Client`](crate::Client) overrides
/// redirects, and uses no proxy for an API on this machine.
///
/// The default settings use the [`Proxies`] of the environment and the certificates of [`Trust::system`]. To add to
/// them, begin with [`Http::default`]; a builder of your own has the proxies and certificates of reqwest. Its TLS
/// settings are used only there.
///
/// ```
/// use alvys_auth_reqwest::{Credentials, Flow, Http, TokenSource};
///
/// let http = Http::default().and(|http| http.user_agent("my-program/1.0"));
/// let tokens = TokenSource::builder(Flow::current(), Credentials::new("my-client", "s3cret")?).http(http).build()?;
/// # let _ = tokens;
/// # Ok::<(), alvys_auth_reqwest::Error>(())
/// ```
#[derive(Clone)]
pub struct Http {
    make: Arc<dyn Fn() -> ClientBuilder + Send + Sync>,
    check: Arc<Check>,
    /// None when the caller's own builder decides. It may send plain http through a proxy too.
    proxies: Option<Proxies>,
}

/// Checks whether a URL can be called.
type Check = dyn Fn(&Uri) -> Result<(), Error> + Send + Sync;

impl<F: Fn() -> ClientBuilder + Send + Sync + 'static> From<F> for Http {
    fn from(make: F) -> Self {
        Self { make: Arc::new(make), check: Arc::new(|_| Ok(())), proxies: None }
    }
}

impl Default for Http {
    /// The transport settings that are used when you bring none.
    fn default() -> Self {
        let proxies = Proxies::from_env();
        let tls = || Trust::shared(|| Arc::new(aws_lc_rs::default_provider()));
        let used = proxies.clone();
        // If the certificates cannot be used, every https URL gets an error (see `check`). No other certificates are
        // used in their place.
        let nobody = |_| Trust::nobody(Arc::new(aws_lc_rs::default_provider()));
        let make = move || match tls().or_else(nobody) {
            Ok(tls) => builder(&used, &tls),
            // Settings that reqwest does not know, so that building the client is an error.
            Err(_) => Client::builder().tls_backend_preconfigured(()),
        };
        let used = proxies.clone();
        let check = move |url: &Uri| {
            usable(&used, url)?;
            // Plain http needs no certificates.
            if url.scheme_str() == Some("https") { tls().map(drop) } else { Ok(()) }
        };
        Self { make: Arc::new(make), check: Arc::new(check), proxies: Some(proxies) }
    }
}

impl Http {
    /// The default settings, but with these proxies, and with TLS settings such as [`Trust::read`] makes.
    pub fn with(proxies: Proxies, tls: Arc<ClientConfig>) -> Self {
        let (used, checked) = (proxies.clone(), proxies.clone());
        let check = move |url: &Uri| usable(&checked, url);
        Self { make: Arc::new(move || builder(&used, &tls)), check: Arc::new(check), proxies: Some(proxies) }
    }

    /// Adds to these settings. TLS settings of the builder are not used: make them with [`Trust`] and [`Http::with`].
    pub fn and(self, change: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static) -> Self {
        let Self { make, check, proxies } = self;
        Self { make: Arc::new(move || change(make())), check, proxies }
    }

    /// A builder with these settings for calls of this API. No call over plain http goes through a proxy.
    pub(crate) fn builder_for(&self, api: &Uri) -> ClientBuilder {
        let http = self.builder();
        if self.proxies.is_none() && api.scheme_str() == Some("http") { http.no_proxy() } else { http }
    }

    /// A builder with these settings.
    pub fn builder(&self) -> ClientBuilder {
        (self.make)()
    }

    /// The proxy for requests to this URL, if these settings know it.
    pub fn proxy(&self, url: &Uri) -> Option<&alvys_auth_driver::Proxy> {
        self.proxies.as_ref()?.way(url).ok()?.proxy()
    }

    /// Explains an error of reqwest for a request to `peer`, such as `the API`. Like [`explain`](crate::explain), but
    /// names the proxy.
    pub fn explain(&self, peer: &str, error: reqwest::Error) -> Error {
        let url = error.url().and_then(|url| url.as_str().parse().ok());
        explained(peer, url.and_then(|url: Uri| self.proxy(&url)), error)
    }

    /// Checks that these settings can be used for this URL.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the proxy for the URL, or the certificates of
    /// this system, cannot be used. Settings of your own always pass.
    pub fn check(&self, url: &Uri) -> Result<(), Error> {
        (self.check)(url)
    }
}

impl fmt::Debug for Http {
    /// Shows nothing, because default headers may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

/// The most headers of an answer, and their total length over HTTP/2. An answer with more is unreadable.
const MOST_HEADERS: usize = 256;
const LONGEST_HEADERS: u32 = 256 * 1024;

fn builder(proxies: &Proxies, tls: &ClientConfig) -> ClientBuilder {
    let mut tls = tls.clone();
    tls.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    let http = Client::builder().user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
    let http = http.http1_max_headers(MOST_HEADERS).http2_max_header_list_size(LONGEST_HEADERS);
    through(http, proxies).tls_backend_preconfigured(tls)
}

/// Sends requests through their proxy. reqwest would connect directly if it could not read the URL of the proxy.
fn through(http: ClientBuilder, proxies: &Proxies) -> ClientBuilder {
    let used = proxies.clone();
    let proxy = move |url: &Url| {
        let url: Option<Uri> = url.as_str().parse().ok();
        match url.map(|url| used.way(&url).map(|way| way.proxy().map(|proxy| proxy.url().parse()))) {
            Some(Ok(None)) => None,
            Some(Ok(Some(Ok(proxy)))) => Some(proxy),
            _ => Url::parse(NOWHERE).ok(),
        }
    };
    // reqwest gives a SOCKS 4 proxy the first address of the server, which must be an IPv4 address.
    let short = matches!(proxies.proxy().map(|proxy| proxy.scheme()), Some(Scheme::Socks4));
    let http = if short { http.dns_resolver(Arc::new(FourFirst)) } else { http };
    http.no_proxy().proxy(Proxy::custom(proxy))
}

/// The system's addresses of a host, those of IPv4 first.
struct FourFirst;

impl Resolve for FourFirst {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(four_first(found).into_iter()) as Addrs)
        })
    }
}

fn four_first(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
}

/// Refuses a proxy that reqwest cannot read.
fn usable(proxies: &Proxies, url: &Uri) -> Result<(), Error> {
    let Way::Through(proxy) = proxies.way(url)? else { return Ok(()) };
    proxy.url().parse::<Url>().map(drop).map_err(|error| {
        let variable = proxy.variable();
        Error::configuration(
            format!("{variable} names no proxy that can be used: {error}"),
            format!("correct the host in {variable}, or unset it"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_socks_4_gets_an_address_of_ipv4_where_there_is_one() {
        let addresses =
            ["[::1]:0", "[::2]:0", "127.0.0.2:0", "127.0.0.1:0"].map(|one| one.parse().expect("an address"));
        let first = |found: &[SocketAddr]| four_first(found.iter().copied()).first().copied();
        assert_eq!(first(&addresses), Some(addresses[2]), "the first of its family");
        assert_eq!(first(&addresses[..2]), Some(addresses[0]));
    }
}
