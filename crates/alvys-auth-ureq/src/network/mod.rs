//! The default agent: its proxies, its certificates, and how it connects.

mod addresses;
mod connect;
mod early;
mod resolve;
mod tls;
mod tunnel;

use std::fmt;
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

pub(crate) use self::addresses::{AtProxy, Unreached};

/// The transport settings that are used when you bring no agent: the [`Proxies`] of the environment, and the
/// certificates of [`Trust::system`]. Where a host has several addresses, the next one is tried after a quarter of a
/// second of silence.
///
/// To add to these settings, begin with [`Http::config`]. An agent of your own does all of this in ureq's way.
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

/// TLS settings: the given ones, or the system's, which are read when they are needed.
#[derive(Clone)]
enum Tls {
    Given(Arc<ClientConfig>),
    Later(Arc<MakeTls>),
    System,
}

/// Makes TLS settings.
type MakeTls = dyn Fn() -> Result<Arc<ClientConfig>, Error> + Send + Sync;

impl Default for Http {
    /// The transport settings that are used when you bring none.
    fn default() -> Self {
        Self { proxies: Proxies::from_env(), tls: Tls::System }
    }
}

impl Http {
    /// The default settings, but with these proxies, and with TLS settings such as [`Trust::read`] makes.
    pub fn with(proxies: Proxies, tls: Arc<ClientConfig>) -> Self {
        Self { proxies, tls: Tls::Given(tls) }
    }

    /// Like [`with`](Self::with), but `tls` makes the TLS settings each time a connection must be encrypted. It is for
    /// programs that often end without such a connection. `tls` should keep the settings that it has made.
    pub fn with_later(
        proxies: Proxies,
        tls: impl Fn() -> Result<Arc<ClientConfig>, Error> + Send + Sync + 'static,
    ) -> Self {
        Self { proxies, tls: Tls::Later(Arc::new(tls)) }
    }

    /// The settings of an agent, beside which ureq's defaults hold.
    pub fn config() -> ConfigBuilder<AgentScope> {
        Agent::config_builder().user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
    }

    /// An agent. The proxy and the TLS settings in `config` are not used.
    pub fn agent(&self, config: ConfigBuilder<AgentScope>) -> Agent {
        // Tells ureq to leave the look-up of a server's address to the proxy.
        let proxy = self.proxies.proxy().and_then(|proxy| ureq::Proxy::new(&proxy.url()).ok());
        let config = config.proxy(proxy).build();
        let connect = Connect::new(self.clone(), config.clone());
        Agent::with_parts(config, connect, Addresses::default())
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
            Self::Later(make) => make(),
            Self::System => Trust::shared(|| Arc::new(ring::default_provider())),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;
    use std::time::{Duration, Instant};

    use ureq::config::Config;
    use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
    use ureq::unversioned::transport::NextTimeout;

    use super::*;

    /// A name service that knows one answer.
    #[derive(Debug)]
    struct Fixed(Vec<SocketAddr>);

    impl Resolver for Fixed {
        fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            self.0.iter().for_each(|address| found.push(*address));
            Ok(found)
        }
    }

    fn agent(addresses: &[SocketAddr]) -> Agent {
        let config = Http::config().timeout_connect(Some(Duration::from_secs(60)));
        let config = config.build();
        Agent::with_parts(config.clone(), Connect::new(Http::default(), config), Fixed(addresses.to_vec()))
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    /// Answers everybody who asks.
    fn serve(listener: TcpListener) {
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let asked = stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0);
                    asked.then(|| stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n"))
                });
            }
        });
    }

    /// An address at which nobody answers and nobody says so, because its queue is full, and what fills it.
    fn swallowing() -> Option<(SocketAddr, TcpListener, Vec<TcpStream>)> {
        let (listener, address) = listener();
        let moment = Duration::from_millis(300);
        let fill = std::iter::from_fn(|| TcpStream::connect_timeout(&address, moment).ok());
        let filled: Vec<_> = fill.take(20_000).collect();
        (filled.len() < 20_000).then_some((address, listener, filled))
    }

    #[test]
    fn an_address_that_the_network_swallows_costs_a_moment() {
        let Some((silent, ..)) = &swallowing() else {
            eprintln!("skipped: this system lets everybody in");
            return;
        };
        let (listener, address) = listener();
        serve(listener);
        let started = Instant::now();
        let answer = agent(&[*silent, address]).get("http://localhost/").call().expect("an answer");
        assert_eq!(answer.status(), 204);
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "ureq alone gives 40 of the 60 seconds to the first address"
        );
    }

    #[test]
    fn an_address_that_takes_longer_than_a_moment_is_tried_again() {
        let Some((slow, queue, _waiting)) = swallowing() else {
            eprintln!("skipped: this system lets everybody in");
            return;
        };
        let closed = listener().1;
        let agent = agent(&[slow, closed]);
        let asking =
            thread::spawn(move || agent.get("http://localhost/").call().map(|answer| answer.status().as_u16()));
        thread::sleep(Duration::from_millis(600));
        serve(queue);
        assert_eq!(asking.join().expect("no panic").expect("an answer"), 204);
    }

    #[test]
    fn tls_settings_that_are_made_later_are_made_for_a_connection_only() {
        let (listener, address) = listener();
        serve(listener);
        let refusing = || Err(Error::configuration("the bundle is missing", "name another one"));
        let agent = Http::with_later(Proxies::from_env(), refusing).agent(Http::config().proxy(None));
        assert_eq!(agent.get(format!("http://{address}/")).call().expect("an answer").status(), 204);
        let error = agent.get(format!("https://{address}/")).call().expect_err("there are no settings");
        assert_eq!(crate::explain("the API", error).what(), "the bundle is missing");
    }

    #[test]
    fn what_went_wrong_at_the_last_address_is_told() {
        let closed = || listener().1;
        let error = agent(&[closed(), closed()]).get("http://localhost/").call().expect_err("nobody listens");
        let ureq::Error::Other(inner) = &error else { panic!("{error:?}") };
        assert!(inner.is::<Unreached>() && inner.to_string().contains("refused"), "{error}");
    }
}
