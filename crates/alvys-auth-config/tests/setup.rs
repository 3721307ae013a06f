//! What a program needs to start, from variables: meanings, defaults, warnings and refusals.

use std::ffi::OsString;

use alvys_auth_config::{Setup, Variables};
use alvys_auth_core::{Api, Credentials, Encoding, Environment, Flow, Scope, TokenRequest};

use crate::support::{CANARY, assert_refused};

mod support;

fn read<const N: usize>(variables: [(&str, &str); N]) -> Setup {
    Setup::read(&Variables::from_iter(variables)).expect("variables that are accepted")
}

#[track_caller]
fn refused<const N: usize>(variables: [(&str, &str); N], words: &[&str]) {
    assert_refused(Setup::read(&Variables::from_iter(variables)), words);
}

#[test]
fn nothing_set_means_the_current_flow_of_production() {
    let setup = read([]);
    assert_eq!(setup.flow, Flow::current());
    assert_eq!((setup.api, setup.warnings.len()), (Api::production(), 0));
    assert_eq!(read([("ALVYS_FLOW", "current"), ("ALVYS_ENV", "production")]).flow, Flow::current());
}

#[test]
fn every_variable_of_the_current_flow_is_read() {
    let setup = read([
        ("ALVYS_FLOW", "Current"),
        ("ALVYS_ENV", "QA"),
        ("ALVYS_ENCODING", "form"),
        ("ALVYS_TOKEN_URL", "https://gateway.example/token"),
        ("ALVYS_AUDIENCE", "https://gateway.example/"),
        ("ALVYS_SCOPE", " load:read  trip:read "),
        ("ALVYS_GRANT_TYPE", "client_credentials"),
        ("ALVYS_API_BASE_URL", "https://gateway.example/api"),
    ]);
    let flow = Flow::current()
        .environment(Environment::Qa)
        .encoding(Encoding::Form)
        .endpoint("https://gateway.example/token")
        .audience("https://gateway.example/")
        .scopes([Scope::LOAD_READ, Scope::TRIP_READ]);
    assert_eq!(setup.flow, flow);
    assert_eq!(setup.api.base(), "https://gateway.example/api");
    assert_eq!(setup.warnings, [""; 0]);
}

#[test]
fn every_other_name_is_read() {
    let setup = read([
        ("Alvys__TokenUrl", "https://gateway.example/token"),
        ("Alvys__Audience", "https://gateway.example/"),
        ("ALVYS_BASE_URL", "http://127.0.0.1:8080/api/"),
    ]);
    let flow = Flow::current().endpoint("https://gateway.example/token").audience("https://gateway.example/");
    assert_eq!(setup.flow, flow);
    assert_eq!(setup.api.base(), "http://127.0.0.1:8080/api");
}

#[test]
fn the_legacy_flow_is_chosen_by_name_and_has_a_tenant() {
    let setup = read([
        ("ALVYS_FLOW", "legacy"),
        ("ALVYS_TENANT_ID", "va336"),
        ("ALVYS_TOKEN_URL", "https://gateway.example/{tenant_id}/token"),
        ("ALVYS_ENCODING", "JSON"),
    ]);
    let flow = Flow::legacy("va336").endpoint("https://gateway.example/{tenant_id}/token").encoding(Encoding::Json);
    assert_eq!(setup.flow, flow);
    assert_eq!(setup.warnings, [""; 0]);
    let request = TokenRequest::new(setup.flow, Credentials::new("id", "s3cret").unwrap()).unwrap();
    assert_eq!(request.to_http().uri(), "https://gateway.example/va336/token");

    assert_eq!(read([("ALVYS_FLOW", "legacy"), ("ALVYS_COMPANY_CODE", "va336")]).flow, Flow::legacy("va336"));
    refused([("ALVYS_FLOW", "legacy")], &["ALVYS_FLOW is legacy", "ALVYS_TENANT_ID is not set"]);
}

#[test]
fn a_tenant_alone_selects_nothing_and_expects_nothing() {
    for name in ["ALVYS_TENANT_ID", "ALVYS_COMPANY_CODE"] {
        for setup in [read([(name, "va336")]), read([(name, "va336"), ("ALVYS_FLOW", "current")])] {
            assert_eq!(setup.flow, Flow::current());
            let warning = format!("{name} is set and ignored: only ALVYS_FLOW=legacy uses it");
            assert_eq!(setup.warnings, [warning]);
        }
    }
}

#[test]
fn a_static_token_never_beats_credentials_in_silence() {
    for name in ["ALVYS_ACCESS_TOKEN", "ALVYS_TOKEN"] {
        let setup = read([(name, "C4n4ry-t0ken")]);
        assert_eq!(setup.flow, Flow::current());
        assert_eq!(setup.warnings.len(), 1);
        assert!(setup.warnings[0].starts_with(&format!("{name} is set and ignored: ")), "{:?}", setup.warnings);
        assert!(!format!("{setup:?}").contains(CANARY));
    }
    assert_eq!(read([("ALVYS_TOKEN", "")]).warnings, [""; 0]);
}

#[test]
fn a_value_that_is_not_known_is_refused_with_those_that_are() {
    for (name, words) in [
        ("ALVYS_FLOW", "set it to current or legacy"),
        ("ALVYS_ENV", "set it to production or qa"),
        ("ALVYS_ENCODING", "set it to json or form"),
        ("ALVYS_GRANT_TYPE", "set it to client_credentials"),
    ] {
        for value in ["C4n4ry", "legacy ", "password"] {
            refused([(name, value), ("ALVYS_TENANT_ID", "va336")], &[name, words]);
        }
    }
}

#[test]
fn an_empty_variable_is_refused_by_name() {
    for name in [
        "ALVYS_FLOW",
        "ALVYS_TENANT_ID",
        "ALVYS_COMPANY_CODE",
        "ALVYS_ENV",
        "ALVYS_ENCODING",
        "ALVYS_TOKEN_URL",
        "Alvys__TokenUrl",
        "ALVYS_AUDIENCE",
        "Alvys__Audience",
        "ALVYS_SCOPE",
        "ALVYS_GRANT_TYPE",
        "ALVYS_API_BASE_URL",
        "ALVYS_BASE_URL",
    ] {
        refused([(name, " ")], &[&format!("{name} is set, but empty")]);
    }
}

#[test]
fn two_names_of_one_value_agree_or_are_refused() {
    for (name, other) in [
        ("ALVYS_TENANT_ID", "ALVYS_COMPANY_CODE"),
        ("ALVYS_TOKEN_URL", "Alvys__TokenUrl"),
        ("ALVYS_AUDIENCE", "Alvys__Audience"),
        ("ALVYS_API_BASE_URL", "ALVYS_BASE_URL"),
    ] {
        read([(name, "https://a.example/"), (other, "https://a.example/")]);
        refused([(name, "https://C4n4ry.example/"), (other, "https://b.example/")], &[name, other, "differ"]);
    }
}

#[test]
fn what_the_legacy_flow_does_not_have_is_refused_by_name() {
    for name in ["ALVYS_AUDIENCE", "Alvys__Audience", "ALVYS_SCOPE"] {
        refused(
            [("ALVYS_FLOW", "legacy"), ("ALVYS_TENANT_ID", "va336"), (name, "C4n4ry")],
            &[name, "the legacy flow does not have this setting", "ALVYS_FLOW"],
        );
    }
}

#[test]
fn an_api_base_that_would_leak_tokens_is_refused() {
    for (url, words) in [
        ("C4n4ry", "is not a full URL"),
        ("/api", "is not a full URL"),
        ("https://C4n4ry api", "is not a URL"),
        ("http://api.alvys.com/C4n4ry", "unencrypted"),
        ("http://localhost.C4n4ry.com", "unencrypted"),
        ("ftp://api.alvys.com", "unencrypted"),
        ("https://me:C4n4ry@api.alvys.com", "has user information"),
        ("https://api.alvys.com/?key=C4n4ry", "a query"),
        ("https://api.alvys.com/#C4n4ry", "a fragment"),
    ] {
        for name in ["ALVYS_API_BASE_URL", "ALVYS_BASE_URL"] {
            refused([(name, url)], &[name, words]);
        }
    }
    for url in ["https://api.alvys.com/v2", "http://localhost:8080/api", "http://[::1]:8080/api"] {
        assert_eq!(read([("ALVYS_API_BASE_URL", url)]).api.base(), url);
    }
}

#[test]
fn a_bare_host_is_completed_and_a_version_goes_where_none_is() {
    let base = |variables: &[(&str, &str)]| {
        Setup::read(&Variables::from_iter(variables.iter().copied())).map(|setup| setup.api.base().to_owned())
    };
    let (url, version) = ("ALVYS_API_BASE_URL", "ALVYS_API_VERSION");
    for (variables, expected) in [
        (&[(url, "https://a.example")][..], "https://a.example/api/p/v1"),
        (&[(url, "https://a.example/")], "https://a.example/api/p/v1"),
        (&[(url, "https://a.example"), (version, "v2")], "https://a.example/api/p/v2"),
        (&[(url, "https://a.example/api/p/v1"), (version, "/v2")], "https://a.example/api/p/v2"),
        (&[(version, "v2")], "https://integrations.alvys.com/api/p/v2"),
        (&[(version, "v2"), ("ALVYS_ENV", "qa")], "https://qaapi.alvys.net/api/p/v2"),
        (&[("ALVYS_ENV", "qa")], "https://qaapi.alvys.net/api/p/v1"),
    ] {
        assert_eq!(base(variables).unwrap(), expected, "{variables:?}");
    }
    refused([(url, "https://a.example/other"), (version, "v2")], &[version, url, "has a path already"]);
    refused([(version, "v2?C4n4ry")], &[version, "has a query"]);
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_utf8_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt;
    let variables =
        Variables::new(|name| (name == "ALVYS_AUDIENCE").then(|| OsString::from_vec(b"C4n4ry\xff".to_vec())));
    assert_refused(Setup::read(&variables), &["ALVYS_AUDIENCE is not UTF-8"]);
}

#[test]
fn flags_beat_a_profile_and_that_the_environment() {
    let environment = || {
        Variables::from_iter([
            ("ALVYS_FLOW", "legacy"),
            ("ALVYS_TENANT_ID", "lower"),
            ("ALVYS_API_BASE_URL", "https://lower.example"),
            ("ALVYS_ENCODING", "json"),
        ])
    };
    let profile =
        Variables::from_iter([("ALVYS_COMPANY_CODE", "middle"), ("ALVYS_BASE_URL", "https://middle.example")]);
    let flags = Variables::from_iter([("ALVYS_TENANT_ID", "upper")]);
    let setup = Setup::read(&flags.over(profile).over(environment())).unwrap();
    assert_eq!(setup.flow, Flow::legacy("upper").encoding(Encoding::Json));
    assert_eq!(setup.api.base(), "https://middle.example/api/p/v1");

    let flags = Variables::from_iter([("ALVYS_FLOW", "current")]);
    assert!(!Setup::read(&flags.over(environment())).unwrap().flow.is_legacy());
}
