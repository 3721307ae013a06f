//! What becomes of an answer: delivered, repeated with another token or after a pause, or an error.

use std::cell::Cell;
use std::time::Duration;

use alvys_auth_core::{Api, Call, CallOptions, ErrorKind, Scope};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::support::{
    answer, at, call, call_of, complete, delivers, failed, fetched, get, granted, holding, html, judged, legacy_token,
    reader, repeated, seconds, token, used, with,
};

mod support;

#[test]
fn the_token_is_put_on_the_request_and_marked_sensitive() {
    let mut headers = HeaderMap::new();
    get().authorize(&reader(), &mut headers).unwrap();
    get().authorize(&token("newer", "load:read"), &mut headers).unwrap();
    let values: Vec<_> = headers.get_all("authorization").iter().collect();
    assert_eq!(values, ["Bearer newer"]);
    assert!(values[0].is_sensitive());
}

#[test]
fn a_required_scope_is_checked_before_anything_is_sent() {
    let needs = |scopes: &[Scope]| call("POST", "loads", CallOptions::new().require(scopes.iter().cloned()));
    let mut headers = HeaderMap::new();
    let both = needs(&[Scope::LOAD_READ, Scope::LOAD_CREATE, Scope::from("parrot:feed")]);
    let error = both.authorize(&reader(), &mut headers).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingScope);
    assert_eq!(error.missing_scopes(), [Scope::LOAD_CREATE, Scope::from("parrot:feed")]);
    assert_eq!(error.status(), None);
    assert!(
        error.to_string().starts_with("the access token lacks load:create, parrot:feed; nothing was sent; an Alvys")
    );
    let error = needs(&[Scope::LOAD_CREATE]).authorize(&legacy_token(&json!({})), &mut headers).unwrap_err();
    assert!(error.hint().contains("legacy flow may only read"), "{error}");
    assert!(headers.is_empty(), "nothing is put on a request that is not to be sent");

    for (scopes, token) in [
        (vec![Scope::LOAD_READ], reader()),
        (vec![Scope::LOAD_CREATE], token("opaque", "")),
        (vec![Scope::TRIP_READ], legacy_token(&json!({}))),
        (vec![], reader()),
    ] {
        assert!(needs(&scopes).authorize(&token, &mut headers).is_ok(), "{scopes:?}");
    }
    let twice = CallOptions::new().require(["load:create"]).require(["load:update"]);
    let error = call("POST", "loads", twice).authorize(&reader(), &mut headers).unwrap_err();
    assert_eq!(error.missing_scopes(), [Scope::LOAD_CREATE, Scope::LOAD_UPDATE]);
}

#[test]
fn what_is_no_refusal_of_the_api_is_delivered() {
    for status in [101, 200, 204, 206, 301, 302, 304, 400, 402, 404, 407, 409, 415, 418, 422, 500, 501, 502, 504] {
        assert!(delivers(&mut get(), &answer(status, "")), "{status}");
        assert!(
            delivers(&mut get(), &with(answer(status, "{}"), "content-type", "application/problem+json")),
            "{status}"
        );
    }
    for status in [401, 403, 429, 503] {
        assert!(!delivers(&mut get(), &answer(status, "")), "{status}");
    }
    for status in [301, 302, 307, 308] {
        assert!(delivers(&mut get(), &html(status)), "a redirect is the HTTP client's, {status}");
    }
}

#[test]
fn what_another_origin_answers_is_delivered() {
    let elsewhere = [
        "https://files.example.net/pod.pdf",
        "http://integrations.alvys.com/api/p/v1/loads",
        "https://integrations.alvys.com:8443/api/p/v1/loads",
        "https://integration.alvys.com/api/p/v1/loads",
        "/api/p/v1/loads",
    ];
    for url in elsewhere {
        for refused in [answer(401, ""), answer(403, ""), answer(429, ""), answer(503, ""), html(302)] {
            assert!(get().delivers(refused.status(), refused.headers(), &url.parse().unwrap()), "{url}");
        }
        for label in ["application/pdf", "application/xml", "text/plain", "application/octet-stream"] {
            let document = with(answer(200, "<"), "content-type", label);
            assert!(get().delivers(document.status(), document.headers(), &url.parse().unwrap()), "{url} as {label}");
        }
    }
    for url in ["https://INTEGRATIONS.alvys.com:443/", "https://integrations.alvys.com/another/path"] {
        assert!(!get().delivers(StatusCode::UNAUTHORIZED, &HeaderMap::new(), &url.parse().unwrap()), "{url}");
    }
}

#[test]
fn a_401_is_replayed_once_with_another_token() {
    for method in ["GET", "HEAD", "POST", "PATCH", "DELETE"] {
        let mut call = call(method, "loads", CallOptions::new());
        assert!(!delivers(&mut call, &answer(401, "")));
        assert_eq!(repeated(call.judge(&answer(401, ""), &reader(), |_| true)), Duration::ZERO);
        let rejected = Cell::new(0);
        let second = call.judge(&answer(401, ""), &token("newer", ""), |token| {
            assert_eq!(token.access_token(), "newer");
            rejected.set(rejected.get() + 1);
            true
        });
        let error = failed(second);
        assert_eq!((error.kind(), error.status().unwrap().as_u16()), (ErrorKind::Unauthorized, 401));
        assert!(!error.is_retryable());
        assert_eq!(rejected.get(), 1, "the second token is refused too, and its owner told");
    }
}

#[test]
fn what_may_have_been_carried_out_before_a_redirect_is_not_sent_again() {
    let later = "https://integrations.alvys.com/api/p/v1/loads/1".parse().unwrap();
    let refusals = [401, 429, 503].map(|status| with(answer(status, ""), "retry-after", "5"));
    for refused in &refusals {
        let judge = |method, options: &CallOptions, token_is_old| {
            let (mut call, rejected) = (call(method, "loads", options.clone()), Cell::new(false));
            assert!(!call.delivers(refused.status(), refused.headers(), &later));
            let verdict = call.judge(refused, &reader(), |_| {
                rejected.set(true);
                token_is_old
            });
            assert_eq!(rejected.get(), refused.status() == 401, "the next call gets another token");
            verdict
        };
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            for options in [CallOptions::new(), CallOptions::new().single_use_body()] {
                for token_is_old in [true, false] {
                    let error = failed(judge(method, &options, token_is_old));
                    assert!(error.hint().contains("may already have taken effect") && !error.is_retryable(), "{error}");
                    assert_eq!(error.status(), Some(refused.status()));
                    assert_eq!(
                        error.retry_after().is_some(),
                        refused.status() != 401,
                        "others leave the endpoint alone"
                    );
                }
            }
            repeated(judge(method, &CallOptions::new().idempotent(), true));
        }
        repeated(judge("GET", &CallOptions::new(), true));

        let mut direct = call("POST", "loads", CallOptions::new());
        assert!(!direct.delivers(refused.status(), refused.headers(), &later));
        assert!(!delivers(&mut direct, refused));
        if refused.status() == 401 {
            repeated(direct.judge(refused, &reader(), |_| true));
        }
    }
}

#[test]
fn a_401_costs_one_token_however_many_calls_see_it() {
    let mut lifecycle = holding("old", 3600);
    let old = used(&mut lifecycle, at(60));
    let mut calls: Vec<Call> = (0..10).map(|_| get()).collect();
    for call in &mut calls {
        repeated(call.judge(&answer(401, ""), &old, |token| lifecycle.reject(token, at(60))));
    }
    let attempt = fetched(&mut lifecycle, at(60));
    complete(&mut lifecycle, attempt.answered(&granted("new", 3600)), at(60));
    assert_eq!(used(&mut lifecycle, at(61)).access_token(), "new");
    // Seconds old: the 401 is not about its age, so that it stays.
    let new = used(&mut lifecycle, at(61));
    failed(calls[0].judge(&answer(401, ""), &new, |token| lifecycle.reject(token, at(61))));
    assert_eq!(used(&mut lifecycle, at(61)).access_token(), "new");
}

#[test]
fn a_401_that_no_other_token_mends_is_an_error_at_once() {
    let error = failed(get().judge(&answer(401, ""), &reader(), |_| false));
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let once = CallOptions::new().single_use_body();
    let error = failed(call("POST", "loads", once).judge(&answer(401, ""), &reader(), |_| false));
    assert!(!error.is_retryable() && error.hint().starts_with("likely the "), "{error}");
}

#[test]
fn a_body_that_cannot_be_replayed_is_never_sent_twice() {
    for options in [CallOptions::new().single_use_body(), CallOptions::new().single_use_body().idempotent()] {
        for method in ["GET", "POST"] {
            let call = || call(method, "loads", options.clone());
            let error = failed(call().judge(&answer(401, ""), &reader(), |_| true));
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, true));
            assert!(error.to_string().contains("cannot be sent again"), "{error}");
            for status in [429, 503] {
                let error = failed(judged(&mut call(), &with(answer(status, ""), "retry-after", "1")));
                assert!(error.hint().contains("not repeated"), "{error}");
            }
        }
    }
}

#[test]
fn a_pause_is_as_long_as_the_server_asks() {
    let date = |answer| {
        with(with(answer, "date", "Sun, 06 Nov 1994 08:49:37 GMT"), "retry-after", "Sun, 06 Nov 1994 08:49:57 GMT")
    };
    for (answer, pause) in [
        (with(answer(429, ""), "retry-after", "7"), seconds(7)),
        (with(answer(503, ""), "retry-after", "7"), seconds(7)),
        (with(answer(503, ""), "retry-after", " 1.5 "), Duration::from_millis(1500)),
        (date(answer(429, "")), seconds(20)),
        (date(answer(503, "")), seconds(20)),
        (with(answer(429, ""), "retry-after", "0"), seconds(1)),
        (with(answer(503, ""), "retry-after", "0.2"), seconds(1)),
        (with(answer(429, ""), "retry-after", "60"), seconds(60)),
        (answer(429, ""), seconds(60)),
        (with(answer(429, ""), "retry-after", "soon"), seconds(60)),
        (answer(503, ""), seconds(1)),
        (with(answer(503, ""), "retry-after", "-1"), seconds(1)),
        (with(html(429), "retry-after", "3"), seconds(3)),
        (html(503), seconds(1)),
    ] {
        assert_eq!(repeated(judged(&mut get(), &answer)), pause, "{answer:?}");
    }
}

#[test]
fn a_longer_wait_than_the_patience_is_an_error_with_the_time() {
    for (status, kind) in [(429, ErrorKind::RateLimited), (503, ErrorKind::Unavailable)] {
        let error = failed(judged(&mut get(), &with(answer(status, ""), "retry-after", "61")));
        assert_eq!((error.kind(), error.retry_after(), error.is_retryable()), (kind, Some(seconds(61)), true));
        assert!(error.to_string().contains("retry after 61 s") && error.hint().contains("longer"), "{error}");
        let patient = Api::production().patience(seconds(61));
        let mut call = call_of(&patient, "GET", "loads", CallOptions::new());
        assert_eq!(repeated(judged(&mut call, &with(answer(status, ""), "retry-after", "61"))), seconds(61));
        let none = Api::production().patience(Duration::ZERO);
        failed(judged(&mut call_of(&none, "GET", "loads", CallOptions::new()), &answer(status, "")));
    }
}

#[test]
fn all_the_waits_of_a_call_share_one_patience() {
    let mut call = get();
    let busy = |wait| with(answer(429, ""), "retry-after", wait);
    assert_eq!(repeated(judged(&mut call, &busy("20"))), seconds(20));
    call.spend(seconds(15), None).unwrap();
    let error = call.spend(seconds(26), None).unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(failed(judged(&mut call, &busy("26"))).retry_after(), Some(seconds(26)));
    assert_eq!(repeated(judged(&mut call, &busy("25"))), seconds(25), "a wait that was not taken costs nothing");
    let error = call.spend(Duration::from_millis(1), None).unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_millis(1))));
    call.spend(Duration::ZERO, None).unwrap();
}

#[test]
fn what_is_held_back_says_whether_it_was_sent_before() {
    let busy = with(answer(503, ""), "retry-after", "5");
    let (limited, unavailable) = (ErrorKind::RateLimited, ErrorKind::Unavailable);
    for (asked_by, kind) in [(None, limited), (Some(429), limited), (Some(503), unavailable)] {
        let asked_by = asked_by.map(|status| StatusCode::from_u16(status).unwrap());
        let mut call = call("POST", "loads", CallOptions::new().idempotent());
        let told = |error: alvys_auth_core::Error| {
            assert_eq!((error.kind(), error.is_retryable(), error.retry_after()), (kind, true, Some(seconds(61))));
            (error.status().map(|status| status.as_u16()), error.hint().to_owned())
        };
        let (status, hint) = told(call.spend(seconds(61), asked_by).unwrap_err());
        assert!(status.is_none() && hint.ends_with("; nothing was sent"), "{hint}");

        repeated(judged(&mut call, &busy));
        let (status, hint) = told(call.spend(seconds(61), asked_by).unwrap_err());
        assert_eq!(status, Some(503));
        assert!(hint.ends_with("; it was sent once, answered 503, and not sent again"), "{hint}");
    }
    let mut call = call("POST", "loads", CallOptions::new().require([Scope::LOAD_CREATE]));
    repeated(call.judge(&answer(401, ""), &token("abc", "load:create"), |_| true));
    let error = call.authorize(&reader(), &mut HeaderMap::new()).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::MissingScope, Some(StatusCode::UNAUTHORIZED)));
    let text = error.to_string();
    assert!(text.contains("it was sent once, answered 401") && !text.contains("nothing was sent"), "{text}");
}

#[test]
fn an_outage_without_a_time_is_waited_out_in_ever_longer_pauses() {
    let mut call = get();
    for pause in [1, 2, 4, 8, 16] {
        assert_eq!(repeated(judged(&mut call, &answer(503, ""))), seconds(pause));
    }
    failed(judged(&mut call, &answer(503, "")));
}

#[test]
fn a_time_that_the_server_did_not_name_is_not_reported_as_its_word() {
    let post = || call("POST", "loads", CallOptions::new());
    assert_eq!(failed(judged(&mut post(), &answer(503, ""))).retry_after(), None);
    // For a rate limit the documents name it.
    assert_eq!(failed(judged(&mut post(), &answer(429, ""))).retry_after(), Some(seconds(60)));
}

#[test]
fn only_what_is_safe_or_idempotent_is_repeated_after_a_pause() {
    for status in [429, 503] {
        let busy = with(answer(status, ""), "retry-after", "5");
        for method in ["GET", "HEAD", "OPTIONS"] {
            repeated(judged(&mut call(method, "loads", CallOptions::new()), &busy));
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
            let error = failed(judged(&mut call(method, "loads", CallOptions::new()), &busy));
            assert_eq!(error.retry_after(), Some(seconds(5)));
            assert!(error.hint().contains("not repeated"), "{error}");
            repeated(judged(&mut call(method, "loads", CallOptions::new().idempotent()), &busy));
        }
    }
}

#[test]
fn a_call_is_shown_without_the_query() {
    let call = call("POST", "loads?key=s3cret", CallOptions::new().idempotent());
    let shown = format!("{call:?}");
    for part in ["POST", "/api/p/v1/loads\"", "idempotent: true", "60s"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(!shown.contains("s3cret") && !shown.contains("key"), "{shown}");
}

#[test]
fn a_call_knows_its_endpoint() {
    assert_eq!(call("POST", "loads/4711/notes", CallOptions::new()).endpoint().name(), "POST loads/{id}/notes");
}
