//! Why a request has no answer, as far as the causes of the HTTP client's error tell.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use alvys_auth_core::TransportFault;

/// Whether the connection closed before any byte of an answer arrived; see [`Call::failed`](alvys_auth_core::Call::failed).
pub fn is_unanswered(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

    let closed =
        |error: &io::Error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
    causes(error).any(|cause| {
        #[cfg(feature = "hyper")]
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return true;
        }
        cause.downcast_ref().is_some_and(closed)
    })
}

/// What any HTTP client's error says by its causes; none where they leave it open.
pub fn fault(error: &(dyn StdError + 'static)) -> Option<TransportFault> {
    causes(error).find_map(|cause| {
        #[cfg(feature = "tls")]
        if let Some(error) = cause.downcast_ref() {
            use rustls::{AlertDescription as Alert, Error};

            return match error {
                Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_) => {
                    Some(TransportFault::Certificate)
                }
                Error::AlertReceived(
                    Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    | Alert::CertificateRequired,
                ) => Some(TransportFault::Certificate),
                // In the middle of a transfer too.
                _ => None,
            };
        }
        #[cfg(feature = "h2")]
        if cause.downcast_ref().is_some_and(|error: &h2::Error| error.is_library() && !error.is_io()) {
            return Some(TransportFault::Unreadable);
        }
        #[cfg(feature = "hyper")]
        if cause.downcast_ref().is_some_and(hyper::Error::is_parse) {
            return Some(TransportFault::Unreadable);
        }
        let refused = |error: &io::Error| {
            use io::ErrorKind::*;

            let never = [ConnectionRefused, HostUnreachable, NetworkUnreachable, NetworkDown, AddrNotAvailable];
            never.contains(&error.kind()).then_some(TransportFault::NeverArrived)
        };
        cause.downcast_ref().and_then(refused)
    })
}

/// Why the server has ended an HTTP/2 connection, without the words that it gave with that, which may repeat the token.
#[cfg(feature = "h2")]
pub fn farewell(error: &(dyn StdError + 'static)) -> Option<String> {
    let said = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>().filter(|error| error.is_go_away()))?;
    Some(format!("the server ended the connection: {}", said.reason()?))
}

/// The error and all that it was caused by.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| {
        // An `io::Error` passes over the error that it wraps.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &'a (dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
