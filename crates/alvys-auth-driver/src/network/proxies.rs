//! The proxies of the environment, for every program and library of this workspace.

use std::fmt;

use alvys_auth_core::Error;
use http::Uri;

use super::exceptions::{Exception, listed};
use super::proxy::Proxy;

/// The variables that name a proxy for https. The first variable that is not empty counts.
const PROXY: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The proxies that the environment names, by the rules of curl and a little more.
///
/// - `https_proxy` counts before `all_proxy`, and lower case before upper case. An empty variable counts as not set.
/// - The proxy is `http://`, `https://`, `socks4://`, `socks4a://`, `socks5://` or `socks5h://`; without a scheme it is
///   `http://`. The ports are 80, 443 and 1080 by default.
/// - `no_proxy` lists exceptions, separated by commas or spaces: a domain, which stands for its subdomains too, with or
///   without `.` or `*.` before it; an address; a network such as `10.0.0.0/8`; `*` for everything. Each of these may
///   have a port, except a network.
/// - Plain http, which is for this machine alone, never takes a proxy. `http_proxy` is not read.
/// - A value that cannot be understood is an error. The request is not sent without a proxy then.
///
/// ```
/// use alvys_auth_driver::Proxies;
///
/// let proxies = Proxies::read(|name| match name {
///     "HTTPS_PROXY" => Some("http://DOMAIN\\user:s3cret@proxy:3128".to_owned()),
///     "NO_PROXY" => Some("example.com, 10.0.0.0/8".to_owned()),
///     _ => None,
/// });
/// let way = |url: &'static str| proxies.way(&http::Uri::from_static(url)).map(|way| way.to_string());
///
/// assert_eq!(way("https://auth.alvys.com/oauth/token")?, "through http://proxy:3128, which HTTPS_PROXY names");
/// assert_eq!(way("https://api.example.com/v1")?, "directly: NO_PROXY lists example.com");
/// assert_eq!(way("http://127.0.0.1:8080/")?, "directly: plain http never takes a proxy");
/// # Ok::<(), alvys_auth_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    proxy: Option<Result<Proxy, Error>>,
    /// The variable that lists exceptions, and what it lists.
    exceptions: (&'static str, Vec<Exception>),
}

/// How a request leaves this machine. `Display` describes it in words, without a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// Directly, because the environment names no proxy.
    Unproxied,
    /// Directly, because the URL is plain http.
    Plain,
    /// Directly, because a variable lists its host.
    Excepted {
        /// The variable.
        variable: &'static str,
        /// The entry of its list.
        entry: &'a str,
    },
    /// Through this proxy.
    Through(&'a Proxy),
}

impl Proxies {
    /// The proxies that the environment of this process names now.
    pub fn from_env() -> Self {
        // A value that is not UTF-8 names no host. It must be an error, and not count as not set.
        Self::read(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// The proxies that the variables name; `lookup` returns the value of a variable.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &&'static str| {
            let value = lookup(name)?.trim().to_owned();
            (!value.is_empty()).then_some((*name, value))
        };
        let proxy = PROXY.iter().find_map(value).map(|(name, value)| Proxy::read(name, &value));
        let exceptions = EXCEPTIONS.iter().find_map(value).map(|(name, list)| (name, listed(&list)));
        Self { proxy, exceptions: exceptions.unwrap_or_default() }
    }

    /// How a request to this URL leaves this machine.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](alvys_auth_core::ErrorKind::Configuration) when the proxy for it cannot be understood. The
    /// error names the variable, and nothing of its value.
    pub fn way(&self, url: &Uri) -> Result<Way<'_>, Error> {
        if url.scheme_str() == Some("http") {
            return Ok(Way::Plain);
        }
        let Some(proxy) = &self.proxy else { return Ok(Way::Unproxied) };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = url.port_u16().unwrap_or(443);
        let (variable, exceptions) = &self.exceptions;
        if let Some(exception) = exceptions.iter().find(|exception| exception.matches(&host, port)) {
            return Ok(Way::Excepted { variable, entry: &exception.text });
        }
        proxy.as_ref().map(Way::Through).map_err(Error::clone)
    }

    /// The proxy for https URLs that are not listed as exceptions. None when there is no proxy, or when its value
    /// cannot be understood.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()?.as_ref().ok()
    }
}

impl<'a> Way<'a> {
    /// The proxy that the request goes through.
    pub fn proxy(self) -> Option<&'a Proxy> {
        match self {
            Self::Through(proxy) => Some(proxy),
            _ => None,
        }
    }
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unproxied => f.write_str("directly: neither HTTPS_PROXY nor ALL_PROXY is set"),
            Self::Plain => f.write_str("directly: plain http never takes a proxy"),
            Self::Excepted { variable, entry } => write!(f, "directly: {variable} lists {entry}"),
            Self::Through(proxy) => write!(f, "through {proxy}, which {} names", proxy.variable()),
        }
    }
}
