//! Why a request has no answer: the error for it, and whether trying again can help.

use std::error::Error as StdError;

use crate::error::Inner;
use crate::{Error, ErrorKind};

/// Why a request has no readable answer, as far as the HTTP client reports it; for drivers. See [`Error::on_the_way`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportFault {
    /// The request never arrived: there is no address or no connection.
    NeverArrived,
    /// The request never arrived: there is no connection to the proxy that leads to the server. The peer is the proxy.
    ProxyUnreached,
    /// The request may have arrived. No answer arrived.
    MayHaveArrived,
    /// An answer arrived. Its head or framing breaks the rules of HTTP or the limits of the HTTP client, or it was cut short.
    Unreadable,
    /// The server's certificate is not trusted, or the server does not take the client's.
    Certificate,
    /// A proxy refuses its user name and password, or requires them and got none (407).
    ProxyCredentials,
    /// The settings do not allow the request.
    Configuration,
}

/// The message of a 407, and what to do.
pub(crate) const PROXY_REFUSES: &str = "the proxy refuses its user name and password";
pub(crate) const CORRECT_PROXY: &str =
    "correct the proxy's credentials in its URL, as in HTTPS_PROXY=http://user:password@proxy:3128";

impl Error {
    /// The error of a request to `peer` that has no readable answer, for drivers. The fault decides the kind, the
    /// message, and whether trying again can help.
    ///
    /// An answer that cannot be read may hold a token that Alvys bills. So the lifecycle asks once more at once, and after that
    /// with long pauses only.
    ///
    /// ```
    /// use alvys_auth_core::{Error, ErrorKind, TransportFault};
    ///
    /// let source = std::io::Error::other("this machine does not trust its issuer");
    /// let error = Error::on_the_way(TransportFault::Certificate, "the token endpoint", source);
    /// assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Certificate, false));
    /// assert_eq!(error.what(), "the certificate of the token endpoint is not trusted");
    /// assert_eq!(error.cause().as_deref(), Some("this machine does not trust its issuer"));
    /// ```
    pub fn on_the_way(fault: TransportFault, peer: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let (kind, what, hint) = match fault {
            TransportFault::NeverArrived => (
                ErrorKind::Transport,
                format!("no connection to {peer}"),
                "check the network, the DNS and the proxy settings of this machine",
            ),
            TransportFault::ProxyUnreached => (
                ErrorKind::Transport,
                format!("no connection to {peer}"),
                "check that the proxy runs, and its host and port in HTTPS_PROXY or ALL_PROXY",
            ),
            TransportFault::MayHaveArrived => (
                ErrorKind::Transport,
                format!("{peer} broke off instead of answering"),
                "check the network and any proxy between this machine and the server: something ends connections early",
            ),
            TransportFault::Unreadable => (
                ErrorKind::InvalidResponse,
                format!("the answer of {peer} cannot be read"),
                "something between here and Alvys changes the answer, cuts it short, or adds more headers than the HTTP client \
                 takes: check the URL and the proxies",
            ),
            TransportFault::Certificate => (
                ErrorKind::Certificate,
                format!("the certificate of {peer} is not trusted"),
                "somebody may answer in its place: find out who; if it is your company's proxy, name its certificates, for \
                 example with ALVYS_CA_BUNDLE; else check the clock of this machine",
            ),
            TransportFault::ProxyCredentials => (ErrorKind::ProxyCredentials, PROXY_REFUSES.to_owned(), CORRECT_PROXY),
            TransportFault::Configuration => (
                ErrorKind::Configuration,
                format!("the settings do not allow a request to {peer}"),
                "correct the URL, the proxy or the TLS settings",
            ),
        };
        let costly = fault == TransportFault::Unreadable;
        let retryable = costly || kind == ErrorKind::Transport;
        let fault = Some(fault);
        Self::build(Inner { retryable, costly, fault, source: Some(source.into()), ..Inner::new(kind, what, hint) })
    }
}
