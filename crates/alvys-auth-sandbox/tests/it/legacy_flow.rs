//! The legacy token endpoint.

use alvys_auth_sandbox::{Application, Route, Sandbox};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, decode_header};
use serde_json::{Value, json};

use crate::support::{fields, form, get, legacy_token, legacy_url, post_both, post_json, send, with};

#[test]
fn a_token_comes_without_scope_at_both_paths() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let fields = with(fields(&application), &[("audience", "")]);
    let other_path = format!("{}/api/p/authentication/va336/token", sandbox.url());
    for url in [legacy_url(&sandbox, "va336"), other_path] {
        let answer = post_both(&url, &fields);
        let body = answer.json();
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 3600);
        assert_eq!(body.get("scope"), None);
        let header = decode_header(answer.token()).unwrap();
        assert_eq!(header.alg, Algorithm::HS256);
    }
    assert_ne!(legacy_token(&sandbox), legacy_token(&sandbox));
    assert!(sandbox.requests().iter().all(|request| request.route() == Route::LegacyToken));
}

#[test]
fn a_token_names_its_tenant() {
    let sandbox = Sandbox::start().unwrap();
    let token = legacy_token(&sandbox);
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(claims["org_name"], sandbox.application().tenant());
    assert!(claims["org_id"].as_str().unwrap().starts_with("org_"));
}

#[test]
fn the_tenant_in_the_path_is_percent_decoded() {
    let sandbox = Sandbox::start().unwrap();
    let application = Application::new("id", "secret", "a/b c");
    sandbox.add(application.clone());
    let answer = post_both(&legacy_url(&sandbox, "a%2Fb%20c"), &fields(&application));
    assert_eq!(answer.status, 200);
}

#[test]
fn bad_credentials_are_forbidden() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let barred = Application::new("barred", "secret", "va336").without_client_credentials();
    sandbox.add(barred.clone());
    let url = legacy_url(&sandbox, "va336");
    for (url, fields) in [
        (&url, with(fields(&application), &[("client_secret", "x")])),
        (&url, with(fields(&application), &[("client_id", "x")])),
        (&url, fields(&barred)),
        (&legacy_url(&sandbox, "AB123"), fields(&application)),
    ] {
        let answer = post_both(url, &fields);
        assert_eq!(answer.status, 403);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["Status"], 403);
        assert_eq!(problem["Title"], "Forbidden");
        assert!(problem["Type"].is_string() && problem["Detail"].is_string());
        assert!(url.ends_with(problem["Instance"].as_str().unwrap()));
    }
    assert_eq!(sandbox.tokens_issued(), 0);
}

#[test]
fn missing_fields_are_named_in_a_validation_problem() {
    let sandbox = Sandbox::start().unwrap();
    let url = legacy_url(&sandbox, "va336");
    let answer = post_both(&url, &[("client_id", "x")]);
    assert_eq!(answer.status, 400);
    let problem = answer.json();
    assert_eq!(problem["Title"], "One or more validation errors occurred.");
    assert_eq!(
        problem["Errors"],
        json!({
            "client_secret": ["The client_secret field is required."],
            "grant_type": ["The grant_type field is required."],
        })
    );
    let answer = post_json(&url, &json!([]));
    assert_eq!(answer.status, 400);
}

#[test]
fn a_tenant_in_the_body_must_be_the_one_in_the_path() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let url = legacy_url(&sandbox, "va336");
    let same = with(fields(&application), &[("tenant_id", "va336")]);
    let other = with(fields(&application), &[("tenant_id", "AB123")]);
    assert_eq!(post_both(&url, &same).status, 200);
    let answer = post_both(&url, &other);
    assert_eq!(answer.status, 400);
    assert!(answer.json()["Errors"]["tenant_id"].is_array());
}

#[test]
fn another_grant_type_is_a_validation_problem() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let fields = with(fields(&application), &[("grant_type", "password")]);
    let answer = post_both(&legacy_url(&sandbox, "va336"), &fields);
    assert_eq!(answer.status, 400);
    assert!(answer.json()["Errors"]["grant_type"].is_array());
}

#[test]
fn a_body_of_another_type_is_unsupported() {
    let sandbox = Sandbox::start().unwrap();
    let url = legacy_url(&sandbox, "va336");
    let body = form(&fields(&sandbox.application()));
    for content_type in ["text/plain", "multipart/form-data; boundary=x"] {
        let answer = send("POST", &url, &[("content-type", content_type)], &body);
        assert_eq!(answer.status, 415);
        assert_eq!(answer.json()["Status"], 415);
    }
}

#[test]
fn another_method_is_not_allowed() {
    let sandbox = Sandbox::start().unwrap();
    let answer = get(&legacy_url(&sandbox, "va336"), "");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), "POST");
}
