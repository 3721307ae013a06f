//! What TLS says of a certificate or a connection, in words and never in the names of a library.
#![cfg(feature = "tls")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use alvys_auth_driver::{in_words, plain};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, ExtendedKeyPurpose, InconsistentKeys,
    InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved,
};

fn day(number: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(number * 24 * 60 * 60))
}

/// The name that rustls-webpki has for an error, as the verifiers of rustls pass it on.
fn named(name: &'static str) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(io::Error::other(name))))
}

#[test]
fn every_fault_of_a_certificate_has_words() {
    use CertificateError::*;

    let server = |name: &'static str| ServerName::try_from(name).expect("a name");
    for (error, words) in [
        (BadEncoding, "it is malformed"),
        (Expired, "it has expired"),
        (ExpiredContext { time: day(10), not_after: day(7) }, "it expired 3 days ago"),
        (NotValidYet, "it is not valid yet"),
        (NotValidYetContext { time: day(7), not_before: day(9) }, "it is not valid yet, but in 2 days"),
        (Revoked, "its issuer has revoked it"),
        (UnhandledCriticalExtension, "it demands a rule that this program does not know"),
        (UnknownIssuer, "this machine does not trust its issuer"),
        (UnknownRevocationStatus, "nobody says whether it has been revoked"),
        (ExpiredRevocationList, "the list of revoked certificates has expired"),
        (BadSignature, "its signature is wrong"),
        (
            UnsupportedSignatureAlgorithmContext { signature_algorithm_id: vec![1], supported_algorithms: vec![] },
            "it is signed in a way that this program does not know",
        ),
        (
            UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: vec![1],
                public_key_algorithm_id: vec![2],
            },
            "it is signed with another kind of key than the issuer that it names has",
        ),
        (NotValidForName, "it is for another host"),
        (
            NotValidForNameContext {
                expected: server("a.example"),
                presented: vec!["DnsName(\"b.example\")".into(), "IpAddress(::1)".into()],
            },
            "it is not for a.example but for b.example, ::1",
        ),
        (
            NotValidForNameContext { expected: server("a.example"), presented: vec![] },
            "it is for no host, and so not for a.example",
        ),
        (InvalidPurpose, "it is for another purpose"),
        (
            InvalidPurposeContext { required: ExtendedKeyPurpose::ServerAuth, presented: vec![] },
            "it is for another purpose",
        ),
        (InvalidOcspResponse, "the proof that it has not been revoked is wrong"),
        (ApplicationVerificationFailure, "this system refuses it"),
        (
            named("CaUsedAsEndEntity"),
            "it is the certificate of an issuer and not of a server, most likely one that was signed with its own key",
        ),
        (named("MaximumPathDepthExceeded"), "maximum path depth exceeded"),
        (named("TrailingData(Certificate)"), "trailing data"),
        (named("the keychain is locked"), "the keychain is locked"),
    ] {
        assert_eq!(in_words(&Error::InvalidCertificate(error)), words);
    }
}

#[test]
fn every_fault_of_a_connection_has_words() {
    for (error, words) in [
        (Error::NoCertificatesPresented, "the other side shows no certificate"),
        (
            Error::InvalidCertRevocationList(CertRevocationListError::BadSignature),
            "the list of revoked certificates cannot be used",
        ),
        (
            Error::AlertReceived(AlertDescription::UnknownCA),
            "the other side refuses the connection or the certificate shown to it: unknown ca",
        ),
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), "what the other side says is not TLS"),
        (
            PeerIncompatible::NoCipherSuitesInCommon.into(),
            "the other side has no kind of TLS in common: no cipher suites in common",
        ),
        (PeerMisbehaved::MissingKeyShare.into(), "the other side breaks the rules of TLS: missing key share"),
        (InconsistentKeys::KeyMismatch.into(), "the certificate and the private key do not belong together"),
    ] {
        assert_eq!(in_words(&error), words);
    }
}

#[test]
fn the_words_stand_in_place_of_the_error_that_has_them_and_no_other() {
    let hidden = io::Error::other(io::Error::other(Error::InvalidCertificate(CertificateError::Revoked)));
    assert_eq!(plain(hidden).to_string(), "its issuer has revoked it");
    assert_eq!(plain(io::Error::other("refused")).to_string(), "refused");
}
