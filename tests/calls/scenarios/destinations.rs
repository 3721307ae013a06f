//! Where a token may go, and where it does not follow.

use std::time::Duration;

use alvys_auth_core::ErrorKind;
use alvys_auth_sandbox::{Fault, Received, Route, Sandbox};
use alvys_auth_tests::caller::{Call, Caller, Failure, Reply, Setup, calls_to};
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION};

use crate::calls::start;

/// A sandbox whose documents are stored by another one.
fn start_two() -> (Sandbox, Sandbox) {
    let (sandbox, elsewhere) = (start(), start());
    sandbox.set_document_host(elsewhere.url());
    (sandbox, elsewhere)
}

fn download() -> Call {
    Call::get("documents/document-1/download")
}

fn is_bare(request: &Received) -> bool {
    request.header("authorization").is_none()
}

pub(crate) fn a_foreign_host_is_refused_before_anything_is_sent<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    let port = sandbox.address().port();
    for url in [
        "https://files.example.net/pod.pdf?signature=abc".to_owned(),
        format!("https://files.example.test:{port}/loads"),
        format!("https://127.0.0.1.example.test:{port}/loads"),
        "https://integrations.alvys.com.example.test/loads".to_owned(),
    ] {
        let error = caller.call(Call::get(url)).expect_err("a foreign host").ours();
        assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
        assert!(!error.to_string().contains("signature"), "{error}");
    }
    let plain = format!("http://files.example.test:{port}/loads");
    let error = caller.call(Call::get(plain)).expect_err("a foreign host").ours();
    assert!(matches!(error.kind(), ErrorKind::Destination | ErrorKind::Configuration), "{error}");
    assert!(sandbox.requests().is_empty(), "no token was even fetched");
}

pub(crate) fn another_port_of_this_machine_may_have_the_token<C: Caller>() {
    let (sandbox, elsewhere) = (start(), start());
    let caller = C::build(Setup::of(&sandbox));
    // It refuses the token of another issuer, and so shows that it got one.
    let error = caller.call(Call::get(elsewhere.me_url())).expect_err("a foreign token").ours();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(!is_bare(&calls_to(&elsewhere)[0]));
}

pub(crate) fn a_redirect_to_another_host_arrives_there_without_the_token<C: Caller>() {
    let (sandbox, elsewhere) = start_two();
    let reply = C::build(Setup::of(&sandbox)).call(download()).expect("an answer");
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (1, 1));
    if C::FOLLOWS {
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 1024));
        let [stored] = &elsewhere.requests()[..] else { panic!("one request") };
        assert!(is_bare(stored), "the token went to another origin");
    } else {
        assert_eq!(reply.status, 302);
        assert!(reply.headers["location"].to_str().is_ok_and(|to| to.starts_with(&elsewhere.url())));
        assert!(elsewhere.requests().is_empty());
    }
}

pub(crate) fn what_another_host_answers_is_delivered_and_costs_no_token<C: Caller>() {
    if !C::FOLLOWS {
        return;
    }
    let (sandbox, elsewhere) = start_two();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    for fault in [401, 403, 429, 503].map(Fault::status) {
        elsewhere.inject(Route::Storage, fault.once());
        let reply = caller.call(download()).expect("the answer of the other host");
        let answered = elsewhere.requests().pop().expect("a request");
        assert_eq!(Some(reply.status.as_u16()), answered.status());
        assert!(!reply.body.is_empty() && is_bare(&answered));
    }
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (4, 1));
}

pub(crate) fn a_web_page_that_a_redirect_leads_to_is_told_as_one<C: Caller>() {
    let (sandbox, elsewhere) = start_two();
    for (host, origin) in [(&elsewhere, elsewhere.url()), (&sandbox, sandbox.url())] {
        let caller = C::build(Setup::of(&sandbox).without_grace());
        sandbox.clear_faults();
        sandbox.inject_at("/api/p/v1/loads", Fault::redirect(302, format!("{origin}/storage/login")));
        sandbox.clear_log();
        for (calls, status) in (1..).zip([200, 403, 502]) {
            for call in [Call::get("loads"), Call::post("loads")] {
                host.inject(Route::Storage, Fault::challenge(status).retry_after(Duration::from_secs(1)).once());
                let (post, result) = (call.method == Method::POST, caller.call(call));
                if !C::FOLLOWS {
                    assert_eq!(result.expect("the redirect").status, 302);
                    continue;
                }
                let error = result.expect_err("a page").ours();
                let kind = if status == 502 { ErrorKind::Unavailable } else { ErrorKind::Intercepted };
                assert_eq!(error.kind(), kind, "{error}");
                assert_eq!(error.is_retryable(), status == 502 && !post, "{error}");
                assert_eq!(error.hint().contains("may already have taken effect"), post, "{error}");
            }
            assert_eq!((times(&sandbox, "GET"), times(&sandbox, "POST")), (calls, calls), "sent once each");
        }
        assert_eq!(sandbox.token_requests(), 1);
        if C::FOLLOWS {
            host.inject(Route::Storage, Fault::challenge(200).once());
            let wanted = caller.call(Call::get("loads").header(ACCEPT, "text/html")).expect("the page");
            assert!(wanted.body.starts_with(b"<!DOCTYPE html>"));
        }
    }
}

pub(crate) fn a_redirect_to_plain_http_elsewhere_takes_neither_token_nor_body_along<C: Caller>() {
    let (sandbox, elsewhere) = start_two();
    let caller = C::build(Setup::of(&sandbox));
    // Not named as this machine, although it is reached there.
    let location = format!("http://0.0.0.0:{}/storage/x?signature=1", elsewhere.address().port());
    for status in [302, 307] {
        sandbox.clear_faults();
        sandbox.inject_at("/api/p/v1/loads", Fault::redirect(status, &location));
        for call in [Call::get("loads"), Call::post("loads")] {
            elsewhere.clear_log();
            let (by_ureq, moves_body) = (C::FOLLOWS && !C::KEEPS_TOKEN, call.method == Method::POST && status == 307);
            let followed = by_ureq && !moves_body;
            match caller.call(call) {
                Ok(reply) => assert_eq!(reply.status, if followed { 200 } else { status }),
                Err(error) => assert!(by_ureq && moves_body, "{error:?}"),
            }
            let requests = elsewhere.requests();
            assert_eq!(requests.len(), usize::from(followed));
            assert!(requests.iter().all(|request| is_bare(request) && request.body().is_empty()));
        }
    }
    assert_eq!(sandbox.api_requests(), 4);
}

pub(crate) fn a_redirect_there_and_back_gets_no_token_at_the_end<C: Caller>() {
    if !C::FOLLOWS {
        return;
    }
    let (sandbox, elsewhere) = start_two();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    // A pre-signed link back at the first host needs no token.
    elsewhere.inject(Route::Storage, Fault::redirect(302, format!("{}/storage/x?signature=1", sandbox.url())).once());
    assert_eq!(caller.call(download()).expect("an answer").status, 200);
    // Its API does, and a client that took the token off does not put it on again.
    elsewhere.inject(Route::Storage, Fault::redirect(302, sandbox.me_url()));
    match caller.call(download()) {
        Ok(reply) => assert_eq!(reply.status, 401),
        Err(Failure::Ours(error)) => assert_eq!(error.kind(), ErrorKind::Unauthorized),
        Err(error) => panic!("{error:?}"),
    }
    let returned: Vec<_> =
        sandbox.requests().into_iter().filter(|request| !request.path().ends_with("/download")).collect();
    assert!(returned.iter().filter(|request| !request.route().eq(&Route::Token)).all(is_bare));
    assert!(elsewhere.requests().iter().all(is_bare));
    assert!(sandbox.token_requests() <= 2, "a 401 to a request without a token costs one renewal at the most");
    assert!(sandbox.api_requests() <= 5, "no endless loop");
}

pub(crate) fn a_redirect_onwards_at_the_other_host_takes_no_token_along<C: Caller>() {
    if !C::FOLLOWS {
        return;
    }
    let (sandbox, elsewhere) = start_two();
    elsewhere.inject(Route::Storage, Fault::redirect(302, format!("{}/storage/y?signature=1", elsewhere.url())).once());
    let reply = C::build(Setup::of(&sandbox)).call(download()).expect("an answer");
    assert!(matches!(reply.status.as_u16(), 200 | 302));
    assert!(elsewhere.requests().iter().all(is_bare), "the token went to another origin");
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (1, 1));
}

pub(crate) fn a_redirect_within_the_api_is_followed<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    sandbox.inject_at("/api/p/v1/loads", Fault::redirect(307, "/v1/me"));
    let reply = caller.call(Call::get("loads")).expect("an answer");
    let calls = calls_to(&sandbox);
    let expected = match (C::FOLLOWS, C::KEEPS_TOKEN) {
        (true, true) => 200,
        // Without the token; that the API wants one says nothing about the one that was not sent.
        (true, false) => 401,
        (false, _) => 307,
    };
    assert_eq!(reply.status, expected);
    assert_eq!((calls.len(), sandbox.token_requests()), (1 + usize::from(C::FOLLOWS), 1));
    assert!(calls.iter().skip(1).all(|call| is_bare(call) != C::KEEPS_TOKEN));
}

/// Makes `call`, which is redirected to where the API refuses it once with `status`.
fn redirected<C: Caller>(call: Call, status: u16) -> (Sandbox, Result<Reply, Failure>) {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    sandbox.inject_at("/api/p/v1/loads", Fault::redirect(303, "/v1/me"));
    sandbox.inject_at("/v1/me", Fault::status(status).retry_after(Duration::from_secs(1)).once());
    let result = caller.call(call);
    let tokens = if C::FOLLOWS && C::KEEPS_TOKEN && status == 401 { 2 } else { 1 };
    caller.call(Call::get("trips")).expect("an answer");
    assert_eq!(sandbox.token_requests(), tokens, "the next call has another token");
    (sandbox, result)
}

fn times(sandbox: &Sandbox, method: &str) -> usize {
    calls_to(sandbox).iter().filter(|call| (call.method(), call.path()) == (method, "/api/p/v1/loads")).count()
}

pub(crate) fn a_post_that_may_have_been_carried_out_before_a_redirect_is_sent_once<C: Caller>() {
    for (status, kind) in [(401, ErrorKind::Unauthorized), (429, ErrorKind::RateLimited), (503, ErrorKind::Unavailable)]
    {
        let (sandbox, result) = redirected::<C>(Call::post("loads"), status);
        assert_eq!(times(&sandbox, "POST"), 1, "{status}");
        if C::FOLLOWS && C::KEEPS_TOKEN {
            let error = result.expect_err("a refusal").ours();
            assert_eq!((error.kind(), error.is_retryable()), (kind, false));
            assert!(error.hint().contains("may already have taken effect"), "{error}");
        } else {
            let delivered = if C::FOLLOWS { status } else { 303 };
            assert_eq!(result.expect("the answer").status, delivered);
        }
    }
}

pub(crate) fn a_call_that_may_happen_twice_is_sent_again_after_a_redirect<C: Caller>() {
    for status in [401, 503] {
        for (method, call) in [("GET", Call::get("loads")), ("POST", Call::post("loads").idempotent())] {
            let (sandbox, result) = redirected::<C>(call, status);
            let (sent, answer) = match (C::FOLLOWS, C::KEEPS_TOKEN) {
                (true, true) => (2, 200),
                (true, false) => (1, status),
                (false, _) => (1, 303),
            };
            assert_eq!((times(&sandbox, method), result.expect("an answer").status.as_u16()), (sent, answer));
        }
    }
}

pub(crate) fn a_redirect_back_to_where_it_began_sends_no_post_twice<C: Caller>() {
    let (sandbox, elsewhere) = start_two();
    for by in [format!("{}/loads", sandbox.api_url()), format!("{}/storage/x", elsewhere.url())] {
        let caller = C::build(Setup::of(&sandbox).without_grace());
        elsewhere.inject(Route::Storage, Fault::redirect(303, format!("{}/loads", sandbox.api_url())).once());
        sandbox.inject_at("/api/p/v1/loads", Fault::redirect(303, by).once());
        sandbox.inject_at("/api/p/v1/loads", Fault::status(401).once());
        sandbox.clear_log();
        let reply = caller.call(Call::post("loads")).expect("what the redirect led to, or the redirect");
        assert_eq!(times(&sandbox, "POST"), 1);
        assert_eq!(reply.status, if C::FOLLOWS && !C::KEEPS_TOKEN { 401 } else { 303 });
        sandbox.clear_faults();
        elsewhere.clear_faults();
    }
}

pub(crate) fn redirects_in_a_circle_end<C: Caller>() {
    if !C::FOLLOWS {
        return;
    }
    let (sandbox, elsewhere) = start_two();
    let caller = C::build(Setup::of(&sandbox));
    sandbox.inject_at("/api/p/v1/loads", Fault::redirect(302, format!("{}/storage/x", elsewhere.url())));
    elsewhere.inject(Route::Storage, Fault::redirect(302, format!("{}/loads", sandbox.api_url())));
    match caller.call(Call::get("loads")) {
        // Not followed back to where it began, because the answer would not tell that a redirect was followed.
        Ok(reply) => assert_eq!((C::KEEPS_TOKEN, reply.status.as_u16(), sandbox.api_requests()), (true, 302, 1)),
        Err(_) => assert!((5..=10).contains(&sandbox.api_requests()), "{}", sandbox.api_requests()),
    }
    assert!(elsewhere.requests().iter().all(is_bare));
}

pub(crate) fn a_request_with_an_authorization_of_its_own_is_left_alone<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    for status in [401, 403, 429, 503] {
        sandbox.inject(Route::Api, Fault::status(status).once());
        let reply = caller.call(Call::get("loads").header(AUTHORIZATION, "Bearer my-own")).expect("the answer");
        assert_eq!(reply.status, status);
        let received = calls_to(&sandbox).pop().expect("a call");
        assert_eq!(received.header("authorization"), Some("Bearer my-own"));
    }
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (4, 0));
}
