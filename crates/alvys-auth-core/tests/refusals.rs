//! Every documented refusal of the token endpoints: what it means, what to do about it, and how long to wait.

use std::time::Duration;

use alvys_auth_core::ErrorKind::{
    self, Credentials as WrongCredentials, Intercepted, InvalidResponse, ProxyCredentials, RateLimited, Refused,
    Unavailable,
};
use alvys_auth_core::{Flow, TokenResponse};

use crate::support::{answer, read, request, with};

mod support;

const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT"; // 1_700_000_000

/// One line of the table: status, body; kind, retryable, code and a word of the hint.
type Row = (u16, &'static str, ErrorKind, bool, Option<&'static str>, &'static str);

#[rustfmt::skip]
const CURRENT: &[Row] = &[
    (401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#,
        WrongCredentials, false, Some("access_denied"), "secret"),
    (401, r#"{"error":"invalid_client","error_description":"Missing client_id"}"#,
        WrongCredentials, false, Some("invalid_client"), "no client id arrived"),
    (401, r#"{"error":"invalid_client"}"#,
        WrongCredentials, false, Some("invalid_client"), "expired"),
    (400, r#"{"error":"invalid_request","error_description":"Missing required parameter: grant_type"}"#,
        Refused, false, Some("invalid_request"), "changes the body"),
    (501, r#"{"error":"unsupported_grant_type","error_description":"Unsupported grant type: x"}"#,
        Refused, false, Some("unsupported_grant_type"), "does not know the grant type client_credentials"),
    (501, "",
        Refused, false, None, "grant type"),
    (403, r#"{"error":"unauthorized_client","error_description":"Grant type 'client_credentials' not allowed for the client.","error_uri":"https://auth0.com/docs/clients/client-grant-types"}"#,
        Refused, false, Some("unauthorized_client"), "ask an Alvys administrator to allow it"),
    (403, r#"{"error":"access_denied","error_description":"Service not enabled within domain: https://api.alvys.com/public"}"#,
        Refused, false, Some("access_denied"), "with the slash at the end"),
    (403, r#"{"error":"access_denied","error_description":"Client is not authorized to access \"https://api.alvys.com/public/\". You need to create a client-grant."}"#,
        Refused, false, Some("access_denied"), "was not granted this audience"),
    (403, r#"{"error":"access_denied","error_description":"Client has not been granted scopes: load:read"}"#,
        Refused, false, Some("access_denied"), "not granted the requested scopes"),
    (403, r#"{"error":"access_denied","error_description":"Non-global clients are not allowed access to APIv1"}"#,
        Refused, false, Some("access_denied"), "no audience arrived"),
    (403, r#"{"error":"access_denied","error_description":"something new"}"#,
        Refused, false, Some("access_denied"), "permissions"),
    (400, r#"{"error":"invalid_scope"}"#,
        Refused, false, Some("invalid_scope"), "remove the scopes from the request"),
    (429, r#"{"error":"too_many_requests","error_description":"Global limit has been reached"}"#,
        RateLimited, true, Some("too_many_requests"), "ask for tokens less often: keep them"),
    (429, r#"{"error":"access_denied","error_description":"Global limit has been reached"}"#,
        RateLimited, true, Some("access_denied"), "wait as long as the server says"),
    (429, r#"{"error":"too_many_requests","error_description":"Too many requests"}"#,
        RateLimited, true, Some("too_many_requests"), "share them between processes"),
    (429, r#"{"statusCode":429,"error":"Too Many Requests","message":"Slow down","errorCode":"too_many_requests"}"#,
        RateLimited, true, Some("too_many_requests"), "share them between processes"),
    (429, r#"{"error":"invalid_request"}"#,
        RateLimited, true, Some("invalid_request"), "as long as the server says"),
    (503, r#"{"error":"invalid_client"}"#,
        Unavailable, true, Some("invalid_client"), "the server's side"),
    (401, "",
        WrongCredentials, false, None, "secret"),
    (403, "",
        Refused, false, None, "audience"),
    (407, "proxy authentication required",
        ProxyCredentials, false, None, "the proxy's credentials"),
    (411, "<html>Length Required</html>", Refused, false, None, "of this form"),
    (413, "", Refused, false, None, "of this form"),
    (502, r#"{"error":{"code":"upstream_down","message":"no backend"}}"#,
        Unavailable, true, Some("upstream_down"), "the server's side"),
    (502, "<html>bad gateway</html>",
        Unavailable, true, None, "HTML page"),
    (429, "<html>", Intercepted, true, None, "bot check"),
    (501, "<html>",
        Intercepted, false, None, "HTML page"),
    (429, "",
        RateLimited, true, None, "as long as the server says"),
    (500, r#"{"error":"access_denied","error_description":"Global limit has been reached"}"#,
        RateLimited, true, Some("access_denied"), "this is a rate limit, whatever the status says"),
    (500, r#"{"error":"access_denied","error_description":"Unauthorized"}"#,
        Unavailable, true, Some("access_denied"), "the server's side"),
    (503, r#"{"error":"temporarily_unavailable"}"#,
        Unavailable, true, Some("temporarily_unavailable"), "the server's side"),
    (503, "<html><body>down</body></html>",
        Unavailable, true, None, "HTML page"),
    (500, "", Unavailable, true, None, "the server's side"),
    (502, "bad gateway", Unavailable, true, None, "the server's side"),
    (504, "", Unavailable, true, None, "the server's side"),
    (408, "", Unavailable, true, None, "the server's side"),
    (404, "", Refused, false, None, "check the token URL"),
    (405, "", Refused, false, None, "check the token URL"),
    (415, "", Refused, false, None, "other encoding"),
    (401, "Unauthorized", WrongCredentials, false, None, "secret"),
    (403, "Forbidden", Refused, false, None, "audience"),
];

#[rustfmt::skip]
const LEGACY: &[Row] = &[
    (400, r#"{"Type":"https://tools.ietf.org/html/rfc9110#section-15.5.1","Title":"One or more validation errors occurred.","Status":400,"Errors":{"client_id":["The ClientId field is required."]}}"#,
        Refused, false, None, "the values sent"),
    (400, r#"{"title":"One or more validation errors occurred.","status":400,"errors":{"client_id":["The ClientId field is required."]}}"#,
        Refused, false, None, "the values sent"),
    (403, r#"{"Type":null,"Title":"Forbidden","Status":403,"Detail":"Invalid credentials","Instance":null}"#,
        WrongCredentials, false, None, "the client id, the client secret and the tenant"),
    (403, r#"{"title":"Forbidden","status":403,"detail":"Invalid credentials"}"#,
        WrongCredentials, false, None, "the client id, the client secret and the tenant"),
    (403, "",
        WrongCredentials, false, None, "the client id, the client secret and the tenant"),
    (415, r#"{"Title":"Unsupported Media Type","Status":415}"#,
        Refused, false, None, "other encoding"),
    (404, "",
        Refused, false, None, "2025-07-31"),
    (404, "<html><title>404</title></html>",
        Refused, false, None, "2025-07-31"),
    (429, r#"{"Title":"Too Many Requests"}"#,
        RateLimited, true, None, "share one token"),
    (500, r#"{"Title":"An error occurred while processing your request."}"#,
        Unavailable, true, None, "the server's side"),
];

fn assert_rows(flow: &Flow, rows: &[Row]) {
    for &(status, body, kind, retryable, code, word) in rows {
        let response = with(answer(status, body), "x-auth0-requestid", "b1946ac92492d2347c62");
        let error = TokenResponse::from_http(&request(flow.clone()), &response).expect_err("a refusal");
        let row = format!("{status} {body}\n-> {error}");
        assert_eq!(error.kind(), kind, "{row}");
        assert_eq!(error.is_retryable(), retryable, "{row}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status), "{row}");
        assert_eq!(error.oauth_code(), code, "{row}");
        assert_eq!(error.request_id(), Some("b1946ac92492d2347c62"), "{row}");
        assert_eq!(error.retry_after(), None, "{row}");
        assert!(error.hint().contains(word), "{row}");
        assert!(error.to_string().ends_with(error.hint()), "{row}");
        assert!(error.to_string().contains("b1946ac92492d2347c62"), "{row}");
    }
}

#[test]
fn the_current_endpoint_is_understood() {
    assert_rows(&Flow::current(), CURRENT);
}

#[test]
fn the_legacy_endpoint_is_understood() {
    assert_rows(&Flow::legacy("va336"), LEGACY);
}

#[test]
fn a_validation_problem_names_its_fields() {
    for body in [LEGACY[0].1, LEGACY[1].1, r#"{"errors":{"client_id":"The ClientId field is required."}}"#] {
        let error = TokenResponse::from_http(&request(Flow::legacy("va336")), &answer(400, body)).unwrap_err();
        let line = error.to_string();
        assert!(line.contains("client_id: The ClientId field is required."), "{line}");
    }
}

#[test]
fn a_load_balancers_page_that_limits_the_rate_is_a_rate_limit() {
    let error = read(&with(answer(429, "<html>"), "retry-after", "7")).unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (RateLimited, Some(Duration::from_secs(7))));
}

#[test]
fn what_a_gateway_says_is_quoted_in_its_own_format() {
    for (body, code, said) in [
        (r#"{"error":{"code":"quota","message":"too much"}}"#, Some("quota"), "too much"),
        (r#"{"Error":{"Message":"too much"}}"#, None, "too much"),
        (
            r#"{"error":"x","message":"outer","errors":[{"message":"one"},{"message":"two"},{"other":1}]}"#,
            Some("x"),
            "outer one two",
        ),
        (r#"{"errors":["plain"]}"#, None, "plain"),
    ] {
        let error = read(&answer(400, body)).unwrap_err();
        assert_eq!((error.oauth_code(), error.oauth_description()), (code, Some(said)), "{body}");
    }
}

#[test]
fn of_two_waits_the_longer_counts() {
    let wait = |values: [&str; 2]| {
        let response = values
            .iter()
            .fold(with(answer(503, ""), "date", DATE), |response, value| with(response, "retry-after", value));
        read(&response).unwrap_err().retry_after()
    };
    assert_eq!(wait(["5", "7"]), Some(Duration::from_secs(7)));
    assert_eq!(wait(["Tue, 14 Nov 2023 22:13:50 GMT", "7"]), Some(Duration::from_secs(30)));
    assert_eq!(wait(["soon", "7"]), Some(Duration::from_secs(7)));
}

#[test]
fn display_is_one_line_with_all_that_support_asks_for() {
    let response = answer(401, r#"{"error":"access_denied","error_description":"Unauthorized"}"#);
    let response = with(response, "x-auth0-requestid", "b1946ac9");
    let error = read(&with(response, "retry-after", "1.5")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token endpoint refused the credentials \
         (status 401, access_denied, \"Unauthorized\", retry after 2 s, request id b1946ac9); \
         check the client id and the client secret, and that the application has not expired"
    );
}

#[test]
fn the_request_id_is_found_under_several_names() {
    let id = |headers: &[(&'static str, &str)]| {
        let response = headers.iter().fold(answer(500, ""), |response, (name, value)| with(response, name, value));
        read(&response).unwrap_err().request_id().map(str::to_owned)
    };
    assert_eq!(id(&[]), None);
    assert_eq!(id(&[("x-auth0-requestid", "a")]).as_deref(), Some("a"));
    assert_eq!(id(&[("x-request-id", "b")]).as_deref(), Some("b"));
    assert_eq!(id(&[("cf-ray", "c"), ("x-auth0-requestid", "a")]).as_deref(), Some("a"));
    assert_eq!(id(&[("x-auth0-requestid", "not a word"), ("cf-ray", "c")]).as_deref(), Some("c"));
    assert_eq!(id(&[("x-auth0-requestid", ""), ("cf-ray", &"c".repeat(129))]), None);
}

#[test]
fn a_bad_answer_keeps_status_and_request_id() {
    let error = read(&with(answer(200, "nonsense"), "x-auth0-requestid", "b1946ac9")).unwrap_err();
    assert_eq!(error.kind(), InvalidResponse);
    assert_eq!(error.request_id(), Some("b1946ac9"));
    let error = read(&with(answer(200, "{}"), "x-auth0-requestid", "b1946ac9")).unwrap_err();
    assert_eq!((error.status().map(|status| status.as_u16()), error.request_id()), (Some(200), Some("b1946ac9")));
}

#[test]
fn the_server_says_how_long_to_wait() {
    let client = "auth0-client-quota-limit";
    let organization = "auth0-organization-quota-limit";
    let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
    let day = seconds(86_400.0);
    for (headers, wait) in [
        (&[][..], None),
        (&[("retry-after", "60")], seconds(60.0)),
        (&[("retry-after", " 60 ")], seconds(60.0)),
        (&[("retry-after", "1.5")], seconds(1.5)),
        (&[("retry-after", "0")], seconds(0.0)),
        (&[("retry-after", "-5")], None),
        (&[("retry-after", "NaN")], None),
        (&[("retry-after", "soon")], None),
        (&[("retry-after", "")], None),
        (&[("retry-after", "86401")], day),
        (&[("retry-after", "99999999999999999999999999")], day),
        (&[("retry-after", "1e300")], day),
        (&[("retry-after", "Tue, 14 Nov 2023 22:14:20 GMT"), ("date", DATE)], seconds(60.0)),
        (&[("retry-after", "Tuesday, 14-Nov-23 22:14:20 GMT"), ("date", DATE)], seconds(60.0)),
        (&[("retry-after", "Tue, 14 Nov 2023 22:13:10 GMT"), ("date", DATE)], seconds(0.0)),
        (&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"), ("date", DATE)], day),
        // Without a date to compare with: the minute that Alvys documents.
        (&[("retry-after", "Tue, 14 Nov 2023 22:14:35 GMT")], seconds(60.0)),
        (&[("retry-after", "Tue, 14 Nov 2023 22:14:35 GMT"), ("date", "yesterday")], seconds(60.0)),
        (&[("x-ratelimit-reset", "1700000030"), ("date", DATE)], seconds(30.0)),
        (&[("x-ratelimit-reset", "1600000000"), ("date", DATE)], seconds(0.0)),
        (&[("x-ratelimit-reset", "18446744073709551615"), ("date", DATE)], day),
        (&[("x-ratelimit-reset", "1700000030")], None),
        (&[("x-ratelimit-reset", "soon"), ("date", DATE)], None),
        (&[("retry-after", "5"), ("x-ratelimit-reset", "1700000030"), ("date", DATE)], seconds(5.0)),
        (&[("retry-after", "soon"), ("x-ratelimit-reset", "1700000030"), ("date", DATE)], seconds(30.0)),
        (&[(client, "b=per_hour;q=10;r=0;t=3540,b=per_day;q=50;r=47;t=43200")], seconds(3540.0)),
        (&[(client, "b=per_hour;q=10;r=0;t=3540, b=per_day;q=50;r=0;t=43200")], seconds(43_200.0)),
        (&[(client, "q=10;r=0;t=3540")], seconds(3540.0)),
        (&[(client, " q = 10 ; r=0 ; t=3540 ")], seconds(3540.0)),
        (&[(client, "b=per_hour;q=10;r=3;t=3540")], None),
        (&[(client, "b=per_hour;q=10;r=0")], None),
        (&[(client, "b=per_hour;q=10;r=0;t=99999999")], day),
        (&[(client, "nonsense")], None),
        (&[(organization, "b=per_hour;q=10;r=0;t=1800")], seconds(1800.0)),
        (&[(client, "q=10;r=0;t=60"), (organization, "q=10;r=0;t=1800")], seconds(1800.0)),
        (&[(client, "q=10;r=5;t=60"), (organization, "q=10;r=0;t=1800")], seconds(1800.0)),
        (&[(client, "q=10;r=0;t=60"), ("retry-after", "5")], seconds(5.0)),
        (&[(client, "q=10;r=0;t=60"), ("x-ratelimit-reset", "1700000005"), ("date", DATE)], seconds(60.0)),
    ] {
        let response = headers.iter().fold(answer(429, ""), |response, (name, value)| with(response, name, value));
        let error = read(&response).unwrap_err();
        assert_eq!(error.retry_after(), wait, "{headers:?}");
    }
}

#[test]
fn every_refusal_carries_the_wait() {
    for status in [400, 401, 403, 429, 500, 503] {
        let error = read(&with(answer(status, ""), "retry-after", "60")).unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(60)), "{status}");
    }
    let page = with(answer(429, "<html>"), "retry-after", "60");
    assert_eq!(read(&page).unwrap_err().retry_after(), Some(Duration::from_secs(60)));
    let success =
        with(answer(200, r#"{"access_token":"abc","expires_in":60}"#), "auth0-client-quota-limit", "q=9;r=0;t=60");
    assert!(read(&success).is_ok(), "a token is a token even when it was the last one");
}
