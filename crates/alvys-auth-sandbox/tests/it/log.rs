//! The log, its counts, and what Debug shows.

use alvys_auth_sandbox::{Fault, Route, Sandbox};

use crate::support::{call, fields, get, legacy_token, post_form, send, token, with};

#[test]
fn requests_are_logged_as_they_came() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    post_form(&sandbox.token_url(), &fields(&application));
    let url = format!("{}/loads/search?page=0", sandbox.api_url());
    call("POST", &url, "token", "{\"Page\":1}");
    send("GET", &format!("{}/elsewhere", sandbox.url()), &[], "");

    let requests = sandbox.requests();
    let summary: Vec<_> =
        requests.iter().map(|request| (request.route(), request.method(), request.path(), request.status())).collect();
    assert_eq!(
        summary,
        [
            (Route::Token, "POST", "/oauth/token", Some(200)),
            (Route::Api, "POST", "/api/p/v1/loads/search", Some(401)),
            (Route::Other, "GET", "/elsewhere", Some(404)),
        ]
    );
    assert_eq!(requests[0].query(), None);
    assert_eq!(requests[1].query(), Some("page=0"));
    assert_eq!(requests[1].body(), b"{\"Page\":1}");
    assert_eq!(requests[1].header("Authorization"), Some("Bearer token"));
    assert!(requests[0].at() <= requests[1].at());
    assert!(requests[0].headers().contains_key("content-length"));
}

#[test]
fn each_kind_of_request_is_counted() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let token = token(&sandbox);
    legacy_token(&sandbox);
    let wrong = with(fields(&application), &[("client_secret", "x")]);
    post_form(&sandbox.token_url(), &wrong);
    get(&sandbox.me_url(), &token);
    get(&format!("{}/.well-known/jwks.json", sandbox.url()), "");
    assert_eq!(sandbox.token_requests(), 3);
    assert_eq!(sandbox.tokens_issued(), 2);
    assert_eq!(sandbox.api_requests(), 1);
    assert_eq!(sandbox.requests().len(), 5);
    assert_eq!(sandbox.requests()[4].route(), Route::Keys);

    sandbox.clear_log();
    assert!(sandbox.requests().is_empty());
    assert_eq!(sandbox.token_requests(), 0);
    assert_eq!(sandbox.tokens_issued(), 0);
    assert_eq!(sandbox.api_requests(), 0);
    get(&sandbox.me_url(), &token);
    assert_eq!(sandbox.requests()[0].status(), Some(200));
}

#[test]
fn a_body_too_long_is_refused_and_not_kept() {
    let sandbox = Sandbox::start().unwrap();
    let body = "x".repeat(1024 * 1024 + 1);
    let answer = send("POST", &sandbox.token_url(), &[], &body);
    assert_eq!(answer.status, 413);
    let requests = sandbox.requests();
    assert_eq!(requests[0].status(), Some(413));
    assert!(requests[0].body().is_empty());
}

#[test]
fn debug_shows_no_secret_no_token_and_no_body() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let token = token(&sandbox);
    get(&format!("{}?client_secret=hidden", sandbox.me_url()), &token);
    let fault = Fault::reply(200, "hidden").header("x-secret", "hidden");
    let shown = format!("{sandbox:?} {application:?} {:?} {fault:?}", sandbox.requests());
    for hidden in [application.client_secret(), &token, "hidden", "Bearer", "grant_type"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
    for expected in ["/oauth/token", "/v1/me", application.client_id(), "authorization"] {
        assert!(shown.contains(expected), "{expected} not in {shown}");
    }
}
