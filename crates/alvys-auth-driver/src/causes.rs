//! Finds out why a request has no answer, from the causes of the HTTP client's error.

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

/// The fault that the causes of an HTTP client's error show; none when they do not show it.
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
                // This may also happen in the middle of a transfer.
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

/// The error of an HTTP client. If it is about TLS, a description in plain words, without the names of rustls.
#[cfg(feature = "tls")]
pub fn plain(error: impl StdError + Send + Sync + 'static) -> Box<dyn StdError + Send + Sync> {
    let words = causes(&error).find_map(|cause| cause.downcast_ref()).map(in_words);
    words.map_or_else(|| error.into(), Into::into)
}

/// Describes an error of TLS in plain words.
#[cfg(feature = "tls")]
pub fn in_words(error: &rustls::Error) -> String {
    use rustls::Error;

    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented => "the other side shows no certificate".to_owned(),
        Error::InvalidCertRevocationList(_) => "the list of revoked certificates cannot be used".to_owned(),
        Error::AlertReceived(alert) => {
            format!("the other side refuses the connection or the certificate shown to it: {}", spelled(alert))
        }
        Error::InvalidMessage(_) => "what the other side says is not TLS".to_owned(),
        Error::PeerIncompatible(why) => format!("the other side has no kind of TLS in common: {}", spelled(why)),
        Error::PeerMisbehaved(why) => format!("the other side breaks the rules of TLS: {}", spelled(why)),
        Error::InconsistentKeys(_) => "the certificate and the private key do not belong together".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(feature = "tls")]
fn of_certificate(error: &rustls::CertificateError) -> String {
    use rustls::CertificateError::*;

    let days = |from: &rustls::pki_types::UnixTime, to: &rustls::pki_types::UnixTime| {
        to.as_secs().saturating_sub(from.as_secs()) / (24 * 60 * 60)
    };
    let words = match error {
        BadEncoding => "it is malformed",
        ExpiredContext { time, not_after } => return format!("it expired {} days ago", days(not_after, time)),
        NotValidYetContext { time, not_before } => {
            return format!("it is not valid yet, but in {} days", days(time, not_before));
        }
        Expired => "it has expired",
        NotValidYet => "it is not valid yet",
        Revoked => "its issuer has revoked it",
        UnhandledCriticalExtension => "it demands a rule that this program does not know",
        UnknownIssuer => "this machine does not trust its issuer",
        UnknownRevocationStatus => "nobody says whether it has been revoked",
        ExpiredRevocationList | ExpiredRevocationListContext { .. } => "the list of revoked certificates has expired",
        BadSignature => "its signature is wrong",
        UnsupportedSignatureAlgorithmContext { .. } => "it is signed in a way that this program does not know",
        UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with another kind of key than the issuer that it names has"
        }
        NotValidForName => "it is for another host",
        NotValidForNameContext { expected, presented } if presented.is_empty() => {
            return format!("it is for no host, and so not for {}", expected.to_str());
        }
        NotValidForNameContext { expected, presented } => {
            // Each is written as `DnsName("localhost")`.
            let bare = |name: &String| {
                let name = name.split_once('(').map_or(name.as_str(), |(_, name)| name.trim_end_matches(')'));
                name.trim_matches('"').to_owned()
            };
            let presented: Vec<_> = presented.iter().map(bare).collect();
            return format!("it is not for {} but for {}", expected.to_str(), presented.join(", "));
        }
        InvalidPurpose | InvalidPurposeContext { .. } => "it is for another purpose",
        InvalidOcspResponse => "the proof that it has not been revoked is wrong",
        ApplicationVerificationFailure => "this system refuses it",
        Other(error) => match error.0.to_string() {
            name if name == "CaUsedAsEndEntity" => {
                "it is the certificate of an issuer and not of a server, most likely one that was signed with its own key"
            }
            name => return spelled_name(&name),
        },
        other => return spelled(other),
    };
    words.to_owned()
}

/// The Rust name of a value, as words.
#[cfg(feature = "tls")]
fn spelled(value: &impl std::fmt::Debug) -> String {
    spelled_name(&format!("{value:?}"))
}

#[cfg(feature = "tls")]
fn spelled_name(name: &str) -> String {
    if name.contains(' ') && !name.contains(['(', '{']) {
        return name.to_owned();
    }
    let name = name.split(['(', ' ', '{']).next().unwrap_or_default();
    let (mut words, mut within) = (String::new(), false);
    for c in name.chars() {
        if c.is_uppercase() && within {
            words.push(' ');
        }
        within = c.is_lowercase();
        words.extend(c.to_lowercase());
    }
    words
}

/// The reason why the server has ended an HTTP/2 connection, without the server's own text, which may repeat the token.
#[cfg(feature = "h2")]
pub fn farewell(error: &(dyn StdError + 'static)) -> Option<String> {
    let said = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>().filter(|error| error.is_go_away()))?;
    Some(format!("the server ended the connection: {}", said.reason()?))
}

/// The error and all its causes.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| {
        // An `io::Error` passes over the error that it wraps.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &'a (dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
