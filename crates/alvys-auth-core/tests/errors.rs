//! What an error tells programs, beside its one line for people.

use std::time::Duration;

use alvys_auth_core::ErrorKind::*;
use alvys_auth_core::{CallOptions, Error, ProxyRefusals, Timestamp, TransportFault};
use http::Uri;
use serde_json::json;

use crate::support::{answer, call, failed, judged, read, with};

mod support;

/// The error of a token request that is refused with this body.
fn refused(body: &serde_json::Value) -> Error {
    read(&answer(403, body.to_string())).expect_err("a refusal")
}

/// The error of a call that is refused with this body and this challenge.
fn forbidden(body: &serde_json::Value, challenge: &str) -> Error {
    let response = with(answer(403, body.to_string()), "www-authenticate", challenge);
    failed(judged(&mut call("GET", "loads", CallOptions::new()), &response))
}

#[test]
fn a_kind_is_named_in_snake_case() {
    for kind in [
        Configuration,
        Transport,
        Certificate,
        ProxyCredentials,
        TimedOut,
        RateLimited,
        Unavailable,
        Credentials,
        Refused,
        Intercepted,
        InvalidResponse,
        WrongOrganization,
        Unauthorized,
        MissingScope,
        Destination,
        UnknownTenant,
    ] {
        let variant = format!("{kind:?}").to_lowercase();
        assert_eq!(kind.as_str().replace('_', ""), variant, "the word is the name of the variant");
        assert_eq!(kind.to_string(), kind.as_str());
    }
    assert_eq!((TimedOut.as_str(), UnknownTenant.as_str()), ("timed_out", "unknown_tenant"));
}

#[test]
fn what_stood_in_the_way_decides_what_is_told_and_whether_trying_again_can_help() {
    for (fault, kind, retryable, words) in [
        (TransportFault::NeverArrived, Transport, true, "no connection to the API"),
        (TransportFault::ProxyUnreached, Transport, true, "in HTTPS_PROXY or ALL_PROXY"),
        (TransportFault::MayHaveArrived, Transport, true, "the API broke off"),
        (TransportFault::Unreadable, InvalidResponse, true, "the answer of the API cannot be read"),
        (TransportFault::Certificate, Certificate, false, "ALVYS_CA_BUNDLE"),
        (TransportFault::ProxyCredentials, ProxyCredentials, false, "the proxy refuses its user name and password"),
        (TransportFault::Configuration, Configuration, false, "the settings do not allow a request to the API"),
    ] {
        let error = Error::on_the_way(fault, "the API", "a cause");
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{fault:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.fault(), Some(fault));
    }
    assert_eq!(Error::timed_out("too slow").fault(), None);
}

#[test]
fn a_refusal_of_the_proxy_is_remembered_for_its_origin_and_no_longer_than_it_is_said() {
    let uri = |uri: &str| uri.parse::<Uri>().expect("a URL");
    let (api, other) = (uri("https://API.example.com/v1/loads"), uri("https://api.example.com:8443/v1/loads"));
    let now = Timestamp::from_millis(1000);
    let mut refusals = ProxyRefusals::default();
    for fault in [TransportFault::NeverArrived, TransportFault::ProxyUnreached, TransportFault::Certificate] {
        refusals.failed(&api, &Error::on_the_way(fault, "the API", "a cause"), now);
        assert!(refusals.check(&api, now).is_ok(), "{fault:?}");
    }
    let refused = Error::on_the_way(TransportFault::ProxyCredentials, "the API", "status 407");
    refusals.failed(&api, &refused, now);
    let later = now.saturating_add(Duration::from_secs(100));
    let error = refusals.check(&uri("https://api.example.com:443/v1/me"), later).expect_err("the same origin");
    assert_eq!((error.kind(), error.retry_after()), (ProxyCredentials, Some(Duration::from_secs(200))));
    assert!(!error.is_retryable() && error.what().starts_with("the proxy refuses its user name and password (retry"));
    assert_eq!((error.hint(), error.cause().as_deref()), (refused.hint(), Some("status 407")));
    assert!(refusals.check(&other, later).is_ok());
    let over = now.saturating_add(Duration::from_secs(300));
    assert!(refusals.check(&api, over).is_ok());

    refusals.failed(&api, &refused, over);
    assert_eq!(refusals.check(&api, over).expect_err("again").retry_after(), Some(ProxyRefusals::REST));
    refusals.forget();
    assert!(refusals.check(&api, over).is_ok());
}

#[test]
fn the_innermost_cause_is_one_line_for_logs_and_no_part_of_the_error_itself() {
    let inner = std::io::Error::other("refused\r\n\u{1b}[2J by the system");
    let error = Error::on_the_way(TransportFault::NeverArrived, "the API", std::io::Error::other(inner));
    assert_eq!(error.cause().as_deref(), Some("refused [2J by the system"));
    assert_eq!(format!("{error:#}"), format!("{}: refused [2J by the system; {}", error.what(), error.hint()));
    assert_eq!(error.to_string(), format!("{}; {}", error.what(), error.hint()));
    assert_eq!(Error::timed_out("too slow").cause(), None);
}

#[test]
fn the_token_endpoint_is_quoted_with_description_and_uri() {
    let uri = "https://auth0.com/docs/clients/client-grant-types";
    let error = refused(&json!({"error": "access_denied", "error_description": "Not\nallowed", "error_uri": uri}));
    assert_eq!((error.oauth_code(), error.oauth_description()), (Some("access_denied"), Some("Not allowed")));
    assert_eq!(error.error_uri(), Some(uri));

    let uri = "http://login.example:8443/error?code=7000215";
    assert_eq!(refused(&json!({"error": "invalid_client", "error_uri": uri})).error_uri(), Some(uri));
    let error = refused(&json!({"detail": "In the words of RFC 9457"}));
    assert_eq!((error.oauth_description(), error.error_uri()), (Some("In the words of RFC 9457"), None));
    let error = refused(&json!({}));
    assert_eq!((error.oauth_description(), error.error_uri()), (None, None));
}

#[test]
fn the_api_is_quoted_with_description_and_uri_of_its_challenge_or_its_body() {
    let challenge = r#"Bearer error="invalid_token", error_description="Too old", error_uri="https://api.example/e""#;
    let error = forbidden(&json!({}), challenge);
    assert_eq!((error.oauth_description(), error.error_uri()), (Some("Too old"), Some("https://api.example/e")));

    let error = forbidden(&json!({"detail": "In the body", "error_uri": "https://api.example/body"}), "Bearer");
    assert_eq!((error.oauth_description(), error.error_uri()), (Some("In the body"), Some("https://api.example/body")));
}

#[test]
fn an_error_uri_that_is_no_plain_web_address_is_left_out() {
    for uri in [
        "",
        "/errors/1",
        "urn:ietf:rfc:6749",
        "javascript:alert(1)",
        "ftp://auth.example/e",
        "https://user:password@auth.example/e",
        "https://auth.example:/e",
        "https:///e",
        "https://auth.example/an error",
        "https://auth.example/\u{1b}[2J",
        "https://auth.example/fehler/ü",
        "https://auth.example/?secret=s3cret",
        "https://auth.example/?secret=%73%33cret",
        "https://auth.example/?token=eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln",
        &format!("https://auth.example/{}", "0".repeat(41)),
        &format!("https://auth.example/{}", "e/".repeat(90)),
    ] {
        assert_eq!(refused(&json!({"error": "access_denied", "error_uri": uri})).error_uri(), None, "{uri}");
    }
}

#[test]
fn the_headers_that_support_asks_for_come_with_their_names() {
    let headers = [("cf-ray", "8c1-FRA"), ("x-request-id", "req-1"), ("x-azure-ref", "a b"), ("server", "cloudflare")];
    let response = headers.iter().fold(answer(403, "{}"), |response, (name, value)| with(response, name, value));
    let of_token_endpoint = read(&response).expect_err("a refusal");
    let of_api = failed(judged(&mut call("GET", "loads", CallOptions::new()), &response));
    for error in [of_token_endpoint, of_api] {
        let told: Vec<_> = error.support_headers().collect();
        assert_eq!(told, [("x-request-id", "req-1"), ("cf-ray", "8c1-FRA")]);
        assert_eq!(error.request_id(), Some("req-1"), "the first of them");
    }
    let unanswered = Error::timed_out("no answer came");
    assert_eq!((unanswered.support_headers().count(), unanswered.request_id()), (0, None));
}
