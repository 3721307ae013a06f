//! Connects to one of a host's addresses. If the network drops the packets to one family of addresses without an
//! answer, that costs only a moment (RFC 8305).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::resolver::ResolvedSocketAddrs;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport};

use super::early::Early;

/// How long an address may be silent before the next one is tried (RFC 8305, section 5).
const HEAD_START: std::time::Duration = std::time::Duration::from_millis(250);

/// Says that there is no connection, so nothing of a request has left this machine.
#[derive(Debug)]
pub(crate) struct Unreached(io::Error);

/// What went wrong at the proxy on the way to this URL.
#[derive(Debug)]
pub(crate) struct AtProxy {
    pub(crate) uri: Uri,
    pub(crate) told: alvys_auth_core::Error,
}

impl AtProxy {
    pub(super) fn told(uri: &Uri, told: alvys_auth_core::Error) -> Error {
        Error::Other(Self { uri: uri.clone(), told }.into())
    }
}

impl fmt::Display for AtProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.told)
    }
}

impl std::error::Error for AtProxy {}

/// Marks an error as one before the connection was made. ureq's own error does not show whether the request was sent
/// before.
pub(super) fn unreached(error: Error) -> Error {
    match error {
        Error::Io(error) => Error::Other(Unreached(error).into()),
        other => other,
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unreached {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A connection to one of these addresses. Each is tried for a moment. The addresses that did not answer then get the
/// rest of the time.
pub(super) fn connected(
    addresses: &ResolvedSocketAddrs,
    details: &ConnectionDetails,
) -> Result<Box<dyn Transport>, Error> {
    let (mut silent, mut failure) = (details.resolver.empty(), Error::HostNotFound);
    for address in in_turn(addresses) {
        if addresses.len() == 1 {
            silent.push(address);
            break;
        }
        let mut timeout = timeout(details);
        let limit = timeout.not_zero().map_or(HEAD_START, |left| HEAD_START.min(*left));
        timeout.after = Duration::Exact(limit);
        let mut one = details.resolver.empty();
        one.push(address);
        match tcp(one, timeout, details) {
            Ok(connection) => return Ok(connection),
            Err(Error::Timeout(_)) => silent.push(address),
            Err(error) => failure = error,
        }
    }
    if silent.is_empty() { Err(unreached(failure)) } else { tcp(silent, timeout(details), details).map_err(unreached) }
}

/// The rest of the time for the whole connection.
pub(super) fn timeout(details: &ConnectionDetails) -> NextTimeout {
    let after = match (details.timeout.after, details.now, (details.current_time)()) {
        (Duration::Exact(limit), Instant::Exact(started), Instant::Exact(now)) => {
            Duration::Exact(limit.saturating_sub(now.saturating_duration_since(started)))
        }
        (unlimited, ..) => unlimited,
    };
    NextTimeout { after, ..details.timeout }
}

fn tcp(
    addrs: ResolvedSocketAddrs,
    timeout: NextTimeout,
    details: &ConnectionDetails,
) -> Result<Box<dyn Transport>, Error> {
    let details = ConnectionDetails {
        uri: details.uri,
        addrs,
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        now: (details.current_time)(),
        timeout,
        current_time: Arc::clone(&details.current_time),
        run_connector: Arc::clone(&details.run_connector),
        register_shutdown: Arc::clone(&details.register_shutdown),
    };
    let connection = Connector::<()>::connect(&TcpConnector::default(), &details, None)?;
    Ok(Box::new(Early::new(connection.ok_or(Error::ConnectionFailed)?)))
}

/// Reorders the addresses so that the two families take turns.
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv6() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    std::iter::from_fn(|| Some([one.next(), other.next()])).take(addresses.len()).flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_of_addresses_take_turns() {
        let addresses =
            |list: &[&str]| list.iter().map(|one| one.parse().expect("an address")).collect::<Vec<SocketAddr>>();
        let resolved = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"]);
        assert_eq!(in_turn(&resolved), addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]));
        let resolved = addresses(&["127.0.0.1:1", "[::1]:1", "127.0.0.2:1"]);
        assert_eq!(in_turn(&resolved), resolved);
    }
}
