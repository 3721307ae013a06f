//! The agent of those who bring none.

use std::net::IpAddr;

use ureq::Agent;
use ureq::config::{Config, ConfigBuilder};
use ureq::http::Uri;
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, NextTimeout, RustlsConnector, TcpConnector};

use crate::early::Hearing;

/// The settings of such an agent, beside which ureq's defaults hold.
pub(crate) fn config() -> ConfigBuilder<AgentScope> {
    Agent::config_builder().user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
}

/// An agent that starts no thread to look up an address.
pub(crate) fn agent(config: ConfigBuilder<AgentScope>) -> Agent {
    let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(Hearing);
    let connector = connector.chain(RustlsConnector::default());
    Agent::with_parts(config.build(), connector, Addresses(DefaultResolver::default()))
}

/// ureq's resolver, but for literal addresses: ureq starts a thread for each request that has a time limit, because a look-up
/// cannot be given up. An address needs no look-up and so no time limit.
#[derive(Debug)]
struct Addresses(DefaultResolver);

impl Resolver for Addresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let after = if host.parse::<IpAddr>().is_ok() { Duration::NotHappening } else { timeout.after };
        self.0.resolve(uri, config, NextTimeout { after, ..timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_there_without_a_look_up_and_a_name_within_its_time() {
        let resolve = |uri: &'static str, after| {
            let timeout = NextTimeout { after, ..NextTimeout::default() };
            Addresses(DefaultResolver::default()).resolve(&Uri::from_static(uri), &Config::default(), timeout)
        };
        let at_once = Duration::from_secs(0);
        for (uri, address) in [("http://127.0.0.1:80", "127.0.0.1:80"), ("https://[::1]/path", "[::1]:443")] {
            assert_eq!(resolve(uri, at_once).expect("no look-up")[0], address.parse().expect("an address"));
        }
        let patient = Duration::from_secs(60);
        assert!(resolve("http://localhost", patient).expect("a look-up")[0].ip().is_loopback());
    }
}
