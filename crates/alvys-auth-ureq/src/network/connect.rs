//! Connects to a server: directly or through a proxy, and encrypted for https.

use std::sync::Arc;

use alvys_auth_core::TransportFault::{MayHaveArrived, NeverArrived, ProxyCredentials};
use alvys_auth_driver::{Proxy, Scheme};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::transport::{ConnectionDetails, Connector, SocksConnector, Transport};

use super::Http;
use super::addresses::{AtProxy, connected, timeout};
use super::early::Early;
use super::tls::Encrypted;
use super::tunnel::tunnelled;
use crate::transport::explain;

/// Makes the connections of an agent.
#[derive(Debug)]
pub(super) struct Connect {
    http: Http,
    /// The settings of the agent, with the proxy of the environment.
    config: Config,
    socks: SocksConnector,
}

impl Connect {
    pub(super) fn new(http: Http, config: Config) -> Self {
        Self { http, config, socks: SocksConnector::default() }
    }

    /// Makes a connection to the server, directly or through a proxy. It is not encrypted yet.
    fn reached(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, Error> {
        let way = self.http.proxies.way(details.uri).map_err(|error| Error::Other(error.into()))?;
        let Some(proxy) = way.proxy() else { return self.direct(details) };
        // A request over plain http has no proxy in its settings, but may have been redirected to https. Then the
        // agent's proxy is used.
        let config = if details.config.proxy().is_some() { details.config } else { &self.config };
        // Made of the same proxy.
        let place = config.proxy().ok_or(Error::InvalidProxyUrl)?;
        let details = &ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: Arc::clone(&details.current_time),
            run_connector: Arc::clone(&details.run_connector),
            register_shutdown: Arc::clone(&details.register_shutdown),
        };
        if !matches!(proxy.scheme(), Scheme::Http | Scheme::Https) {
            let connection = Connector::<()>::connect(&self.socks, details, None);
            let connection = connection.map_err(|error| of_socks(proxy, details.uri, error))?;
            return Ok(Box::new(Early::new(connection.ok_or(Error::ConnectionFailed)?)));
        }
        let addresses = details.resolver.resolve(place.uri(), details.config, timeout(details));
        let connection = addresses.and_then(|addresses| connected(&addresses, details));
        let connection = connection.and_then(|connection| match proxy.scheme() {
            Scheme::Https => self.encrypted(proxy.host(), connection, details),
            _ => Ok(connection),
        });
        let connection = connection.map_err(|error| of_proxy(proxy, details.uri, error))?;
        tunnelled(connection, proxy.user(), details)
    }

    fn direct(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, Error> {
        if !details.addrs.is_empty() {
            return connected(&details.addrs, details);
        }
        // ureq has left the look-up to the proxy, but this server is reached without the proxy.
        connected(&details.resolver.resolve(details.uri, details.config, timeout(details))?, details)
    }

    fn encrypted(
        &self,
        host: &str,
        connection: Box<dyn Transport>,
        details: &ConnectionDetails,
    ) -> Result<Box<dyn Transport>, Error> {
        let tls = self.http.tls.config().map_err(|error| Error::Other(error.into()))?;
        Ok(Box::new(Encrypted::new(host, tls, connection, details)?))
    }
}

/// An error on the way to a proxy.
fn of_proxy(proxy: &Proxy, uri: &Uri, error: Error) -> Error {
    let told = explain(&proxy.in_words(), error);
    let told = match told.fault() {
        Some(NeverArrived | MayHaveArrived) => proxy.unreached(told.cause().unwrap_or_default()),
        _ => told,
    };
    AtProxy::told(uri, told)
}

/// An error on the way to a SOCKS proxy, or a refusal of that proxy, which ureq reports only as text.
fn of_socks(proxy: &Proxy, uri: &Uri, error: Error) -> Error {
    const CREDENTIALS: [&str; 3] =
        ["password authentication failed", "no acceptable auth methods", "unknown auth method"];
    match error {
        Error::Io(error) if CREDENTIALS.contains(&error.to_string().as_str()) => {
            AtProxy::told(uri, alvys_auth_core::Error::on_the_way(ProxyCredentials, "the server", error.to_string()))
        }
        // The system's own errors are about the connection to the proxy, all others about what it says.
        Error::Io(error) if error.raw_os_error().is_none() => {
            Error::ConnectProxyFailed(format!("the proxy answered: {error}"))
        }
        error => of_proxy(proxy, uri, error),
    }
}

impl Connector for Connect {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let connection = self.reached(details)?;
        if !details.needs_tls() {
            return Ok(Some(connection));
        }
        self.encrypted(details.uri.host().unwrap_or_default(), connection, details).map(Some)
    }
}
