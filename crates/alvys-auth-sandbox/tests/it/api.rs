//! The API behind the tokens.

use alvys_auth_sandbox::{Application, DEFAULT_SCOPES, Sandbox};
use serde_json::json;

use crate::support::{call, fields, get, legacy_token, post_form, send, token};

#[test]
fn me_tells_whose_token_it_is() {
    let sandbox = Sandbox::start().unwrap();
    let application = sandbox.application();
    let me = get(&sandbox.me_url(), &token(&sandbox)).json();
    assert_eq!(me["ClientId"], application.client_id());
    assert_eq!(me["TenantId"], "va336");
    assert_eq!(me["Scopes"], json!(DEFAULT_SCOPES));
    assert_eq!(me["Flow"], "current");

    let me = get(&sandbox.me_url(), &legacy_token(&sandbox)).json();
    assert_eq!(me["ClientId"], application.client_id());
    assert_eq!(me["Scopes"], json!([]));
    assert_eq!(me["Flow"], "legacy");
}

#[test]
fn a_request_without_a_good_token_is_unauthorized() {
    let sandbox = Sandbox::start().unwrap();
    let good = token(&sandbox);
    let foreign = token(&Sandbox::start().unwrap());
    let foreign_legacy = legacy_token(&Sandbox::start().unwrap());
    let forged = mixed(&good, &token(&sandbox));
    let forged_legacy = mixed(&legacy_token(&sandbox), &legacy_token(&sandbox));
    for bad in ["", "x", "a.b.c", &forged, &forged_legacy, &foreign, &foreign_legacy] {
        let answer = get(&sandbox.me_url(), bad);
        assert_eq!(answer.status, 401, "{bad}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["Status"], 401);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{challenge}");
    }
    let answer = send("GET", &sandbox.me_url(), &[], "");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    assert_eq!(get(&sandbox.me_url(), &good).status, 200);
}

/// The claims of one token with the signature of another.
fn mixed(claims: &str, signature: &str) -> String {
    let (claims, _) = claims.rsplit_once('.').unwrap();
    let (_, signature) = signature.rsplit_once('.').unwrap();
    format!("{claims}.{signature}")
}

#[test]
fn rejected_tokens_stay_rejected_and_new_ones_work() {
    let sandbox = Sandbox::start().unwrap();
    let (old, old_legacy) = (token(&sandbox), legacy_token(&sandbox));
    sandbox.reject_tokens();
    let new = token(&sandbox);
    assert_eq!(get(&sandbox.me_url(), &old).status, 401);
    assert_eq!(get(&sandbox.me_url(), &old_legacy).status, 401);
    assert_eq!(get(&sandbox.me_url(), &new).status, 200);
}

#[test]
fn each_method_takes_its_own_scope() {
    let sandbox = Sandbox::start().unwrap();
    let url = format!("{}/loads", sandbox.api_url());
    let (item, search) = (format!("{url}/load-1"), format!("{url}/search"));
    for (scope, method, url, body, status) in [
        ("load:read", "GET", &url, "", 200),
        ("load:read", "GET", &item, "", 200),
        ("load:read", "POST", &search, "{}", 200),
        ("load:create", "POST", &url, "{}", 201),
        ("load:update", "PUT", &item, "{}", 200),
        ("load:update", "PATCH", &item, "{}", 200),
        ("load:delete", "DELETE", &item, "", 204),
    ] {
        let granted = Application::new("granted", "s", "va336").with_scopes([scope]);
        let others = ["read", "create", "update", "delete"]
            .map(|action| format!("load:{action}"))
            .into_iter()
            .filter(|other| other != scope);
        let denied = Application::new("denied", "s", "va336").with_scopes(others);
        sandbox.add(granted.clone());
        sandbox.add(denied.clone());
        let granted = post_form(&sandbox.token_url(), &fields(&granted)).token();
        let denied = post_form(&sandbox.token_url(), &fields(&denied)).token();
        assert_eq!(call(method, url, &granted, body).status, status, "{method} {url}");
        let answer = call(method, url, &denied, body);
        assert_eq!(answer.status, 403, "{method} {url}");
        assert!(answer.json()["Detail"].as_str().unwrap().contains(scope));
        assert_eq!(
            answer.header("www-authenticate"),
            format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"")
        );
    }
}

#[test]
fn legacy_tokens_may_only_read() {
    let sandbox = Sandbox::start().unwrap();
    let token = legacy_token(&sandbox);
    let url = format!("{}/users", sandbox.api_url());
    assert_eq!(get(&url, &token).status, 200);
    assert_eq!(call("POST", &format!("{url}/search"), &token, "{}").status, 200);
    assert_eq!(call("POST", &url, &token, "{}").status, 403);
    assert_eq!(call("DELETE", &format!("{url}/user-1"), &token, "").status, 403);
}

#[test]
fn lists_come_in_pages_and_end() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let url = format!("{}/loads", sandbox.api_url());
    assert_eq!(
        get(&url, &token).json(),
        json!({"Page": 0, "PageSize": 100, "Total": 3,
               "Items": [{"Id": "load-1"}, {"Id": "load-2"}, {"Id": "load-3"}]})
    );
    let second = json!({"Page": 1, "PageSize": 2, "Total": 3, "Items": [{"Id": "load-3"}]});
    assert_eq!(get(&format!("{url}?page=1&pageSize=2"), &token).json(), second);
    let body = json!({"Page": 1, "PageSize": 2}).to_string();
    let search = format!("{url}/search");
    assert_eq!(call("POST", &search, &token, &body).json(), second);
    assert_eq!(get(&format!("{url}?page=2&pageSize=2"), &token).status, 404);
    assert_eq!(get(&format!("{url}?page=1&pageSize=3"), &token).status, 404);
    assert_eq!(get(&format!("{url}/load-9"), &token).status, 404);
}

#[test]
fn documented_versions_are_known_and_others_are_not() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    for (version, status) in [("1", 200), ("v1", 200), ("1.0", 200), ("2.0", 200), ("v9", 404)] {
        let url = format!("{}/api/p/{version}/loads", sandbox.url());
        assert_eq!(get(&url, &token).status, status, "{version}");
    }
    let authorization = format!("Bearer {token}");
    let url = format!("{}/loads", sandbox.api_url());
    for (version, status) in [("1.0", 200), ("9", 400)] {
        let headers = [("authorization", authorization.as_str()), ("api-version", version)];
        assert_eq!(send("GET", &url, &headers, "").status, status);
    }
}

#[test]
fn unfit_requests_are_problems() {
    let sandbox = Sandbox::start().unwrap();
    let token = token(&sandbox);
    let authorization = format!("Bearer {token}");
    let api = sandbox.api_url();
    let text = [("authorization", authorization.as_str()), ("content-type", "text/plain")];
    for (answer, status) in [
        (get(&format!("{api}/moons"), &token), 404),
        (get(&format!("{}/elsewhere", sandbox.url()), &token), 404),
        (send("POST", &format!("{api}/loads/search"), &text, "{}"), 415),
        (call("POST", &format!("{api}/loads/search"), &token, "[]"), 400),
        (call("DELETE", &format!("{api}/loads"), &token, ""), 405),
    ] {
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["Status"], status);
    }
    let answer = call("DELETE", &format!("{api}/dispatch/dispatch-1"), &token, "");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), "GET, PUT, PATCH");
}
