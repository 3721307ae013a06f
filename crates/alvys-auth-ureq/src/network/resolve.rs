//! Looks up addresses.

use std::net::{IpAddr, SocketAddr};

use ureq::ProxyProtocol;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;

use super::addresses::unreached;

/// ureq's resolver, except for literal addresses. ureq starts a thread for each request that has a time limit, because
/// a look-up cannot be interrupted. A literal address needs no look-up, and so no thread.
#[derive(Debug, Default)]
pub(super) struct Addresses(DefaultResolver);

impl Resolver for Addresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let after = if host.parse::<IpAddr>().is_ok() { Duration::NotHappening } else { timeout.after };
        let found = self.0.resolve(uri, config, NextTimeout { after, ..timeout }).map_err(unreached)?;
        // A SOCKS 4 proxy accepts only IPv4 addresses, and gets the first address.
        let short = |proxy: &ureq::Proxy| proxy.protocol() == ProxyProtocol::Socks4 && proxy.uri() != uri;
        if !config.proxy().is_some_and(short) {
            return Ok(found);
        }
        let mut short = self.empty();
        found.iter().filter(|address| address.is_ipv4()).for_each(|address: &SocketAddr| short.push(*address));
        if short.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(short) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_there_without_a_look_up_and_a_name_within_its_time() {
        let resolve = |uri: &'static str, after| {
            let timeout = NextTimeout { after, ..NextTimeout::default() };
            Addresses::default().resolve(&Uri::from_static(uri), &Config::default(), timeout)
        };
        let at_once = Duration::from_secs(0);
        for (uri, address) in [("http://127.0.0.1:80", "127.0.0.1:80"), ("https://[::1]/path", "[::1]:443")] {
            assert_eq!(resolve(uri, at_once).expect("no look-up")[0], address.parse().expect("an address"));
        }
        let patient = Duration::from_secs(60);
        assert!(resolve("http://localhost", patient).expect("a look-up")[0].ip().is_loopback());
    }
}
