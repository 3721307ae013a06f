//! The current token endpoint.

use alvys_auth_sandbox::{Application, DEFAULT_SCOPES, Sandbox};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};

use crate::support::{fields, get, post_both, post_form, post_json, send, token, with};

#[track_caller]
fn assert_refused(sandbox: &Sandbox, fields: &[(&str, &str)], status: u16, body: &Value) {
    let answer = post_both(&sandbox.token_url(), fields);
    assert_eq!(answer.status, status);
    assert_eq!(answer.json(), *body);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(sandbox.tokens_issued(), 0);
}

fn denied(description: &str) -> Value {
    json!({"error": "access_denied", "error_description": description})
}

#[test]
fn a_token_request_is_answered_with_every_granted_scope() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let answer = post_both(&sandbox.token_url(), &with(fields(&application), &[("scope", "load:read")]));
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(body["scope"], DEFAULT_SCOPES.join(" "));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("pragma"), "no-cache");
    assert_eq!(answer.header("x-auth0-requestid").len(), 20);
    assert!(httpdate::parse_http_date(answer.header("date")).is_ok());
    assert_eq!(sandbox.tokens_issued(), 2);
}

#[test]
fn a_charset_beside_the_content_type_changes_nothing() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let body = crate::support::form(&fields(&application));
    let content_type = "Application/X-WWW-Form-UrlEncoded; charset=UTF-8";
    let headers = [("content-type", content_type)];
    assert_eq!(send("POST", &sandbox.token_url(), &headers, &body).status, 200);
}

#[test]
fn tokens_verify_against_the_served_key_set() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let token = token(&sandbox);

    let keys = get(&format!("{}/.well-known/jwks.json", sandbox.url()), "");
    let keys: JwkSet = serde_json::from_str(&keys.body).unwrap();
    let header = decode_header(&token).unwrap();
    assert_eq!(header.alg, Algorithm::RS256);
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.leeway = 0;
    validation.set_audience(&[application.audience()]);
    validation.set_issuer(&[format!("{}/", sandbox.url())]);
    let key = DecodingKey::from_jwk(key).unwrap();
    let claims = decode::<Value>(&token, &key, &validation).unwrap().claims;

    assert_eq!(claims["sub"], format!("{}@clients", application.client_id()));
    assert_eq!(claims["azp"], application.client_id());
    assert_eq!(claims["gty"], "client-credentials");
    assert_eq!(claims["org_name"], "va336");
    assert!(claims["org_id"].as_str().unwrap().starts_with("org_"));
    assert_eq!(claims["client_name"], application.client_name());
    assert_eq!(claims["scope"], DEFAULT_SCOPES.join(" "));
    let (issued, expires) = (claims["iat"].as_u64(), claims["exp"].as_u64());
    assert_eq!(expires.unwrap() - issued.unwrap(), 3600);
}

#[test]
fn every_token_is_unique_and_of_a_realistic_length() {
    let sandbox = Sandbox::start().unwrap();
    let (one, other) = (token(&sandbox), token(&sandbox));
    assert_ne!(one, other);
    assert!((1_100..1_400).contains(&one.len()), "{}", one.len());
}

#[test]
fn the_secret_of_the_first_application_needs_escaping() {
    let sandbox = Sandbox::start().unwrap();
    let secret = sandbox.application().client_secret().to_owned();
    assert_eq!(secret.len(), 64);
    for character in ['+', '&', '=', '"', '%', '/'] {
        assert!(secret.contains(character), "{character}");
    }
    let other = Sandbox::start().unwrap();
    assert_ne!(other.application().client_secret(), secret);
}

#[test]
fn a_wrong_secret_or_id_is_denied() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let almost = application.client_secret().replace('+', " ");
    for change in
        [("client_secret", "wrong"), ("client_secret", almost.as_str()), ("client_secret", ""), ("client_id", "nobody")]
    {
        let fields = with(fields(&application), &[change]);
        assert_refused(&sandbox, &fields, 401, &denied("Unauthorized"));
    }
}

#[test]
fn a_missing_client_id_is_an_invalid_client() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let fields = with(fields(&application), &[("client_id", "")]);
    let body = json!({"error": "invalid_client", "error_description": "Missing client_id"});
    assert_refused(&sandbox, &fields, 401, &body);
}

#[test]
fn a_missing_grant_type_is_an_invalid_request() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let fields = with(fields(&application), &[("grant_type", "")]);
    let description = "Missing required parameter: grant_type";
    let body = json!({"error": "invalid_request", "error_description": description});
    assert_refused(&sandbox, &fields, 400, &body);
}

#[test]
fn another_grant_type_is_unsupported() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let fields = with(fields(&application), &[("grant_type", "password")]);
    let answer = post_both(&sandbox.token_url(), &fields);
    assert_eq!(answer.status, 501);
    assert_eq!(answer.json()["error"], "unsupported_grant_type");
}

#[test]
fn an_application_without_the_grant_type_is_unauthorized() {
    let sandbox = Sandbox::start().unwrap();
    let application = Application::new("id", "secret", "va336").without_client_credentials();
    sandbox.add(application.clone());
    let answer = post_both(&sandbox.token_url(), &fields(&application));
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"], "unauthorized_client");
    assert_eq!(answer.json()["error_description"], "Grant type 'client_credentials' not allowed for the client.");
    assert!(answer.json()["error_uri"].is_string());
}

#[test]
fn an_unknown_audience_is_denied_by_name() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let audience = "https://api.alvys.com/public";
    let fields = with(fields(&application), &[("audience", audience)]);
    let description = format!("Service not enabled within domain: {audience}");
    assert_refused(&sandbox, &fields, 403, &denied(&description));
}

#[test]
fn an_application_without_a_grant_is_told_how_to_get_one() {
    let sandbox = Sandbox::start().unwrap();
    let ungranted = Application::new("id", "secret", "va336").without_grant();
    let elsewhere = Application::new("id2", "secret", "va336").with_audience("https://elsewhere/");
    sandbox.add(ungranted.clone());
    sandbox.add(elsewhere.clone());
    let other_audience = with(fields(&ungranted), &[("audience", "https://elsewhere/")]);
    for (fields, audience) in
        [(fields(&ungranted), "https://api.alvys.com/public/"), (other_audience, "https://elsewhere/")]
    {
        let answer = post_both(&sandbox.token_url(), &fields);
        assert_eq!(answer.status, 403);
        assert_eq!(answer.json()["error"], "access_denied");
        let description = answer.json()["error_description"].to_string();
        let start = format!("Client is not authorized to access \\\"{audience}\\\". ");
        assert!(description.contains(&start), "{description}");
        assert!(description.contains("client-grant"), "{description}");
    }
    let answer = post_both(&sandbox.token_url(), &fields(&elsewhere));
    assert_eq!(answer.status, 200);
}

#[test]
fn a_scope_that_was_not_granted_is_denied_by_name() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let fields = with(fields(&application), &[("scope", "load:read load:delete user:read")]);
    let description = "Client has not been granted scopes: load:delete, user:read";
    assert_refused(&sandbox, &fields, 403, &denied(description));
}

#[test]
fn a_missing_audience_is_denied() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let fields = with(fields(&application), &[("audience", "")]);
    let description = "Non-global clients are not allowed access to APIv1";
    assert_refused(&sandbox, &fields, 403, &denied(description));
}

#[test]
fn a_missing_audience_can_get_an_opaque_token_that_opens_nothing() {
    let sandbox = Sandbox::start().unwrap();
    sandbox.set_opaque_tokens(true);
    let application = sandbox.application();
    let fields = with(fields(&application), &[("audience", "")]);
    let answer = post_both(&sandbox.token_url(), &fields);
    assert_eq!(answer.json()["expires_in"], 86400);
    assert_eq!(answer.json().get("scope"), None);
    assert!(!answer.token().contains('.'));
    assert_eq!(get(&sandbox.me_url(), &answer.token()).status, 401);
    assert_eq!(sandbox.tokens_issued(), 2);
}

#[test]
fn a_body_of_another_type_is_an_invalid_request() {
    let sandbox = Sandbox::start().unwrap();
    for content_type in ["text/plain", "multipart/form-data; boundary=x"] {
        let headers = [("content-type", content_type)];
        let answer = send("POST", &sandbox.token_url(), &headers, "grant_type=x");
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"], "invalid_request");
    }
}

#[test]
fn repeated_and_nested_fields_are_refused() {
    let sandbox = Sandbox::start().unwrap();
    let url = sandbox.token_url();
    let application = sandbox.application();
    let twice = [fields(&application), vec![("client_id", "other")]].concat();
    let listed = [fields(&application), vec![("scope[]", "load:read")]].concat();
    let json = |body: &str| send("POST", &url, &[("content-type", "application/json")], body);
    for answer in [
        post_form(&url, &twice),
        post_form(&url, &listed),
        json("{\"grant_type\": \"client_credentials\", \"grant_type\": \"password\"}"),
        post_json(&url, &json!({"grant_type": ["client_credentials"]})),
        post_json(&url, &json!({"grant_type": "client_credentials", "client_id": 7})),
        json("[]"),
        json("{\"grant_type\":"),
    ] {
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"], "invalid_request");
    }
}

#[test]
fn another_method_is_not_allowed() {
    let sandbox = Sandbox::start().unwrap();
    let answer = get(&sandbox.token_url(), "");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), "POST");
}

#[test]
fn a_rotated_secret_replaces_the_old_one() {
    let sandbox = Sandbox::start().unwrap();
    let before = sandbox.application();
    assert!(sandbox.rotate_secret(before.client_id(), "new"));
    let after = sandbox.application();
    assert_eq!(after.client_secret(), "new");
    assert_eq!(post_both(&sandbox.token_url(), &fields(&before)).status, 401);
    assert_eq!(post_both(&sandbox.token_url(), &fields(&after)).status, 200);
    assert!(!sandbox.rotate_secret("nobody", "new"));
}

#[test]
fn a_removed_application_is_denied_but_its_tokens_stay_good() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let application = sandbox.application();
    assert!(sandbox.remove(application.client_id()));
    assert!(!sandbox.remove(application.client_id()));
    assert_eq!(post_both(&sandbox.token_url(), &fields(&application)).status, 401);
    assert_eq!(get(&sandbox.me_url(), &token).status, 200);
}
