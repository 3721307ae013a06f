//! What goes over the wire: exact bytes for the documented cases, and nothing lost or added for any value.

use std::collections::BTreeMap;

use alvys_auth_core::{Credentials, Encoding, Environment, Flow, LegacyPath, Scope, TokenRequest};
use percent_encoding::percent_decode_str;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{cases, credentials, request, value};

mod support;

const CURRENT: &str = "https://auth.alvys.com/oauth/token";
const QA: &str = "https://qaauth.alvys.net/oauth/token";
const LEGACY: &str = "https://integrations.alvys.com/api/authentication/va336/token";
const LEGACY_P: &str = "https://integrations.alvys.com/api/p/authentication/va336/token";

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Method, URL, headers and body, as an HTTP client would get them.
#[track_caller]
fn assert_wire(flow: Flow, url: &str, content_type: &str, body: &str) {
    let http = request(flow).to_http();
    assert_eq!(http.method(), "POST");
    assert_eq!(http.uri().to_string(), url);
    let headers: Vec<_> =
        http.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or("?"))).collect();
    assert_eq!(headers, [("content-type", content_type), ("accept", "application/json")]);
    assert_eq!(std::str::from_utf8(http.body()), Ok(body));
}

#[test]
fn the_current_flow_sends_json_by_default() {
    let body = r#"{"client_id":"my-client","client_secret":"s3cret","audience":"https://api.alvys.com/public/","grant_type":"client_credentials"}"#;
    assert_wire(Flow::current(), CURRENT, JSON, body);
    assert_wire(Flow::current().encoding(Encoding::Json), CURRENT, JSON, body);
}

#[test]
fn the_current_flow_sends_a_form_on_request() {
    let body = "client_id=my-client&client_secret=s3cret&audience=https%3A%2F%2Fapi.alvys.com%2Fpublic%2F&grant_type=client_credentials";
    assert_wire(Flow::current().encoding(Encoding::Form), CURRENT, FORM, body);
}

#[test]
fn the_legacy_flow_sends_a_form_by_default() {
    let body = "client_id=my-client&client_secret=s3cret&grant_type=client_credentials";
    assert_wire(Flow::legacy("va336"), LEGACY, FORM, body);
    assert_wire(Flow::legacy("va336").encoding(Encoding::Form), LEGACY, FORM, body);
}

#[test]
fn the_legacy_flow_sends_json_on_request() {
    let body = r#"{"client_id":"my-client","client_secret":"s3cret","grant_type":"client_credentials"}"#;
    assert_wire(Flow::legacy("va336").encoding(Encoding::Json), LEGACY, JSON, body);
}

#[test]
fn the_legacy_body_names_the_tenant_on_request() {
    let flow = Flow::legacy("va336").tenant_in_body();
    let form = "client_id=my-client&client_secret=s3cret&grant_type=client_credentials&tenant_id=va336";
    assert_wire(flow.clone(), LEGACY, FORM, form);
    let json =
        r#"{"client_id":"my-client","client_secret":"s3cret","grant_type":"client_credentials","tenant_id":"va336"}"#;
    assert_wire(flow.encoding(Encoding::Json), LEGACY, JSON, json);
}

#[test]
fn scopes_and_another_audience_are_sent_as_given() {
    let flow =
        Flow::current().audience("https://api.example/v2/").scopes([Scope::LOAD_READ, Scope::from("parrot:feed")]);
    let json = r#"{"client_id":"my-client","client_secret":"s3cret","audience":"https://api.example/v2/","grant_type":"client_credentials","scope":"load:read parrot:feed"}"#;
    assert_wire(flow.clone(), CURRENT, JSON, json);
    let form = "client_id=my-client&client_secret=s3cret&audience=https%3A%2F%2Fapi.example%2Fv2%2F&grant_type=client_credentials&scope=load%3Aread+parrot%3Afeed";
    assert_wire(flow.encoding(Encoding::Form), CURRENT, FORM, form);
}

#[test]
fn every_endpoint_is_the_documented_one() {
    let url = |flow| request(flow).to_http().uri().to_string();
    assert_eq!(url(Flow::current()), CURRENT);
    assert_eq!(url(Flow::current().environment(Environment::Production)), CURRENT);
    assert_eq!(url(Flow::current().environment(Environment::Qa)), QA);
    assert_eq!(url(Flow::legacy("va336")), LEGACY);
    assert_eq!(url(Flow::legacy("va336").legacy_path(LegacyPath::Api)), LEGACY);
    assert_eq!(url(Flow::legacy("va336").legacy_path(LegacyPath::ApiP)), LEGACY_P);
}

#[test]
fn an_endpoint_overrides_the_documented_one() {
    let url = |flow| request(flow).to_http().uri().to_string();
    let own = "https://gateway.example:8443/va336/token?v=1";
    assert_eq!(url(Flow::current().endpoint(own)), own);
    assert_eq!(url(Flow::current().environment(Environment::Qa).endpoint(own)), own);
    assert_eq!(url(Flow::legacy("va336").endpoint(own)), own);
    assert_eq!(url(Flow::legacy("va336").environment(Environment::Qa).endpoint(own)), own);

    let template = "https://gateway.example/{tenant_id}/token?tenant={tenant_id}";
    let filled = "https://gateway.example/va%2F336/token?tenant=va%2F336";
    assert_eq!(url(Flow::legacy("va/336").endpoint(template)), filled);
}

#[test]
fn an_option_of_the_legacy_flow_changes_nothing_in_the_current_one() {
    let plain = request(Flow::current()).to_http();
    let with_options = request(Flow::current().legacy_path(LegacyPath::ApiP).tenant_in_body()).to_http();
    assert_eq!(plain.uri(), with_options.uri());
    assert_eq!(plain.body(), with_options.body());
}

#[test]
fn every_rendering_of_a_request_is_the_same() {
    let request = request(Flow::current());
    let (first, second) = (request.to_http(), request.clone().to_http());
    assert_eq!(first.uri(), second.uri());
    assert_eq!(first.headers(), second.headers());
    assert_eq!(first.body(), second.body());
}

#[test]
fn plain_http_is_told_apart_for_the_proxy_rule() {
    assert!(!request(Flow::current()).is_plain_http());
    assert!(!request(Flow::current().endpoint("https://localhost/token")).is_plain_http());
    assert!(request(Flow::current().endpoint("http://localhost:8080/token")).is_plain_http());
    assert!(request(Flow::current().endpoint("HTTP://LOCALHOST:8080/token")).is_plain_http());
}

/// Reads a body back with a decoder that knows nothing of the encoder.
fn decode(encoding: Encoding, body: &[u8]) -> BTreeMap<String, String> {
    let pairs: Vec<(String, String)> = match encoding {
        Encoding::Form => form_urlencoded::parse(body).into_owned().collect(),
        Encoding::Json => {
            let fields: BTreeMap<String, String> = serde_json::from_slice(body).expect("an object of texts");
            let length = serde_json::to_vec(&fields).expect("encodable").len();
            assert_eq!(length, body.len(), "a member occurs twice");
            fields.into_iter().collect()
        }
    };
    let count = pairs.len();
    let fields: BTreeMap<_, _> = pairs.into_iter().collect();
    assert_eq!(fields.len(), count, "a field occurs twice");
    fields
}

fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![Encoding::Json, Encoding::Form])
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn the_current_flow_loses_and_adds_nothing(
        id in value(),
        secret in value(),
        audience in value(),
        scopes in vec("[!#-\\[\\]-~]{1,20}", 0..4),
        encoding in encoding(),
    ) {
        let flow = Flow::current().encoding(encoding).audience(&*audience).scopes(scopes.clone());
        let credentials = Credentials::new(&*id, &*secret).unwrap();
        let http = TokenRequest::new(flow, credentials).unwrap().to_http();

        let mut expected = fields(&[
            ("client_id", &id),
            ("client_secret", &secret),
            ("audience", &audience),
            ("grant_type", "client_credentials"),
        ]);
        if !scopes.is_empty() {
            expected.insert("scope".to_owned(), scopes.join(" "));
        }
        prop_assert_eq!(decode(encoding, http.body()), expected);
        prop_assert!(http.body().is_ascii() || encoding == Encoding::Json);
    }

    #[test]
    fn the_legacy_flow_loses_and_adds_nothing(
        id in value(),
        secret in value(),
        tenant in value().prop_filter("a segment of dots", |tenant| tenant != "." && tenant != ".."),
        encoding in encoding(),
        path in prop::sample::select(vec![LegacyPath::Api, LegacyPath::ApiP]),
        tenant_in_body in any::<bool>(),
    ) {
        let flow = Flow::legacy(&*tenant).encoding(encoding).legacy_path(path);
        let flow = if tenant_in_body { flow.tenant_in_body() } else { flow };
        let credentials = Credentials::new(&*id, &*secret).unwrap();
        let http = TokenRequest::new(flow, credentials).unwrap().to_http();

        let mut expected = fields(&[
            ("client_id", &id),
            ("client_secret", &secret),
            ("grant_type", "client_credentials"),
        ]);
        if tenant_in_body {
            expected.insert("tenant_id".to_owned(), tenant.clone());
        }
        prop_assert_eq!(decode(encoding, http.body()), expected);

        prop_assert_eq!(http.uri().host(), Some("integrations.alvys.com"));
        prop_assert_eq!(http.uri().query(), None);
        let segments: Vec<_> = http.uri().path().split('/').collect();
        let (segment, frame): (Vec<_>, Vec<_>) = match path {
            LegacyPath::Api => (vec![segments[3]], [&segments[..3], &segments[4..]].concat()),
            LegacyPath::ApiP => (vec![segments[4]], [&segments[..4], &segments[5..]].concat()),
        };
        let expected: &[&str] = match path {
            LegacyPath::Api => &["", "api", "authentication", "token"],
            LegacyPath::ApiP => &["", "api", "p", "authentication", "token"],
        };
        prop_assert_eq!(frame, expected);
        let decoded = percent_decode_str(segment[0]).decode_utf8();
        prop_assert_eq!(decoded.as_deref(), Ok(&*tenant));
    }

    #[test]
    fn a_tenant_stays_one_segment_of_an_own_endpoint(
        tenant in value().prop_filter("a segment of dots", |tenant| tenant != "." && tenant != ".."),
    ) {
        let flow = Flow::legacy(&*tenant).endpoint("https://gateway.example/{tenant_id}/token");
        let http = TokenRequest::new(flow, credentials()).unwrap().to_http();
        let segment = http.uri().path().strip_prefix('/').and_then(|path| path.strip_suffix("/token")).unwrap();
        prop_assert!(!segment.contains('/'));
        let decoded = percent_decode_str(segment).decode_utf8();
        prop_assert_eq!(decoded.as_deref(), Ok(&*tenant));
    }
}
