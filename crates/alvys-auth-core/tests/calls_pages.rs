//! HTML where JSON was due: told from an answer of the API, whatever its status and its label.

use std::time::Duration;

use alvys_auth_core::{Api, CallOptions, ErrorKind};
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::support::{HERE, Steps, answer, call, delivers, failed, get, html, judged, reader, repeated, seconds, with};

mod support;

#[test]
fn html_where_json_was_due_is_an_error_of_its_own_and_costs_no_token() {
    for (status, hint) in [
        (200, "bot check"),
        (206, "bot check"),
        (401, "bot check"),
        (403, "bot check"),
        (429, "bot check"),
        (404, "check the base URL of the API and the path"),
        (405, "check the base URL of the API and the path"),
        (501, "check the base URL of the API and the path"),
        (500, "gateway cannot reach"),
        (502, "gateway cannot reach"),
        (504, "gateway cannot reach"),
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let error = failed(judged(&mut call(method, "loads", CallOptions::new()), &html(status)));
            let outage = [500, 502, 504].contains(&status);
            let kind = if outage { ErrorKind::Unavailable } else { ErrorKind::Intercepted };
            assert_eq!((error.kind(), error.is_retryable()), (kind, outage), "{status}");
            assert!(error.hint().contains(hint), "{status}: {error}");
            assert_eq!(error.status().unwrap().as_u16(), status);
        }
    }
    for content_type in ["text/html", "TEXT/HTML; charset=x", "application/xhtml+xml"] {
        assert!(!delivers(&mut get(), &with(answer(200, ""), "content-type", content_type)), "{content_type}");
    }
    let unavailable = with(html(503), "retry-after", "3600");
    let error = failed(judged(&mut get(), &unavailable));
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Unavailable, Some(seconds(3600))));
    assert!(error.to_string().contains("HTML page"), "{error}");
}

#[test]
fn a_success_without_content_is_no_page_whatever_its_label() {
    let empty = |status| with(html(status), "content-length", "0");
    for done in [html(204), empty(200), empty(201), empty(205)] {
        assert!(delivers(&mut call("DELETE", "loads/1", CallOptions::new()), &done), "{done:?}");
        assert!(get().delivers_bare(done.status(), done.headers()), "{done:?}");
    }
    for page in [empty(401), empty(404), html(205), with(html(200), "content-length", "10")] {
        assert_eq!(failed(judged(&mut get(), &page)).kind(), ErrorKind::Intercepted, "{page:?}");
    }
}

#[test]
fn a_page_about_the_form_or_the_length_of_the_request_is_delivered() {
    for status in [411, 413, 414, 417, 431] {
        assert!(delivers(&mut call("POST", "documents", CallOptions::new()), &html(status)), "{status}");
    }
    assert!(!delivers(&mut call("POST", "documents", CallOptions::new()), &html(400)));
}

#[test]
fn a_load_balancers_page_that_limits_the_rate_is_a_rate_limit() {
    let limited = with(html(429), "retry-after", "3600");
    let error = failed(judged(&mut get(), &limited));
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(seconds(3600))));
}

#[test]
fn html_from_where_a_redirect_led_is_no_answer_either_and_costs_nothing() {
    let elsewhere = Uri::from_static("https://portal.example.net/login");
    for status in [200, 401, 403, 404, 429, 500, 503] {
        let challenged = with(html(status), "www-authenticate", "Bearer error=\"invalid_token\"");
        let page = with(challenged, "retry-after", "1");
        for (method, may_be_done) in [("GET", false), ("POST", true)] {
            for same_origin in [false, true] {
                let mut call = call(method, "loads", CallOptions::new());
                let delivers = if same_origin {
                    call.delivers_bare(page.status(), page.headers())
                } else {
                    call.delivers(page.status(), page.headers(), &elsewhere)
                };
                assert!(!delivers, "{status} {method}");
                let error = failed(call.judge(&page, &reader(), |_| panic!("the token was not there")));
                let kind = if status >= 500 { ErrorKind::Unavailable } else { ErrorKind::Intercepted };
                assert_eq!((error.kind(), error.retry_after()), (kind, None), "{status}");
                assert_eq!(error.is_retryable(), status >= 500 && !may_be_done, "{status} {method}");
                assert_eq!(error.hint().contains("may already have taken effect"), may_be_done, "{error}");
            }
        }
    }
    // With the token, at another URL of the API.
    let later = "https://integrations.alvys.com/login".parse().unwrap();
    let mut post = call("POST", "loads", CallOptions::new());
    assert!(!post.delivers(html(502).status(), html(502).headers(), &later));
    let error = failed(post.judge(&html(502), &reader(), |_| panic!("only a 401 costs a token")));
    assert!(!error.is_retryable() && error.hint().contains("may already have taken effect"), "{error}");
    // What is said of one answer does not hold for the next one.
    let mut call = get();
    assert!(call.delivers_bare(StatusCode::OK, &HeaderMap::new()));
    assert!(!delivers(&mut call, &answer(401, "")));
    repeated(call.judge(&answer(401, ""), &reader(), |_| true));
}

#[test]
fn a_page_that_asks_for_a_bearer_token_is_about_the_token() {
    for challenge in ["Bearer error=\"invalid_token\"", "Bearer", "Basic realm=\"a, b\", bearer realm=x", ",Bearer abc"]
    {
        for page in [html(401), answer(401, "<html>Authorization Required")] {
            let asking = with(page, "www-authenticate", challenge);
            assert!(!delivers(&mut get(), &asking));
            assert_eq!(repeated(get().judge(&asking, &reader(), |_| true)), Duration::ZERO, "{challenge}");
            let error = failed(get().judge(&asking, &reader(), |_| false));
            assert_eq!(error.kind(), ErrorKind::Unauthorized, "{challenge}");
        }
        for (status, kind) in [(403, ErrorKind::Intercepted), (429, ErrorKind::Intercepted)] {
            let page = with(html(status), "www-authenticate", challenge);
            assert_eq!(failed(judged(&mut get(), &page)).kind(), kind, "{status}");
        }
    }
    for challenge in
        ["", "Basic realm=\"Bearer\"", "Negotiate", "Basic realm=\"a\", x=Bearer", "BearerToken", "NTLM, Basic a"]
    {
        let page = with(html(401), "www-authenticate", challenge);
        assert_eq!(failed(judged(&mut get(), &page)).kind(), ErrorKind::Intercepted, "{challenge}");
    }
}

#[test]
fn html_under_another_label_costs_no_token_either() {
    let pages = ["<!DOCTYPE html><p>no", " \r\n<html>", "\u{feff}<html>"];
    for page in pages {
        for label in ["text/plain", "application/json", "application/octet-stream"] {
            let error = failed(judged(&mut get(), &with(answer(401, page), "content-type", label)));
            assert_eq!(error.kind(), ErrorKind::Intercepted, "{page} as {label}");
        }
        assert_eq!(failed(judged(&mut get(), &answer(401, page))).kind(), ErrorKind::Intercepted, "{page}");
    }
}

#[test]
fn a_caller_that_asks_for_html_gets_it() {
    let api = Api::production();
    let accepting = |accept: &str| {
        let mut headers = HeaderMap::new();
        headers.append("accept", "application/json".parse().unwrap());
        headers.append("accept", accept.parse().unwrap());
        api.call(&Method::GET, &HERE.parse().unwrap(), &headers, CallOptions::new()).unwrap().unwrap()
    };
    assert!(delivers(&mut accepting("application/json, Text/HTML;q=0.5"), &html(200)));
    assert!(!delivers(&mut accepting("Text/HTML"), &html(401)), "a refusal is judged all the same");
    for status in [200, 401] {
        assert!(accepting("Text/HTML").delivers_bare(html(status).status(), html(status).headers()), "{status}");
    }
    for accept in ["*/*", "application/pdf"] {
        assert!(!delivers(&mut accepting(accept), &html(200)), "{accept}");
    }
}

#[test]
fn a_parameter_of_the_media_type_makes_no_html() {
    let json =
        with(answer(200, "{}"), "content-type", "application/problem+json; profile=\"https://x.example/e.html\"");
    assert!(delivers(&mut get(), &json));
}
