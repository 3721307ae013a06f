//! What a 403 and a page of somebody else's mean.

use alvys_auth_core::{ErrorKind, Scope};
use alvys_auth_sandbox::{Application, Fault, Route, Sandbox};
use alvys_auth_tests::caller::{Call, Caller, Setup, calls_to};
use alvys_auth_tests::credentials;
use http::Method;
use http::header::ACCEPT;

use crate::calls::start;

/// An application that may read loads and nothing else.
fn reader(sandbox: &Sandbox) -> Setup {
    sandbox.add(Application::new("reader", "of-the-loads", "va336").with_scopes(["load:read"]));
    let mut setup = Setup::of(sandbox).without_grace();
    setup.tokens.credentials = credentials("reader", "of-the-loads");
    setup
}

pub(crate) fn a_403_that_names_the_scope_is_told_with_it<C: Caller>() {
    let sandbox = start();
    let caller = C::build(reader(&sandbox));
    for calls in 1..=3 {
        let error = caller.call(Call::post("loads")).expect_err("a refusal").ours();
        assert_eq!(error.kind(), ErrorKind::MissingScope);
        assert_eq!(error.missing_scopes(), [Scope::LOAD_CREATE]);
        assert!(!error.is_retryable());
        assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (calls, 1));
    }
}

pub(crate) fn a_403_that_names_nothing_is_told_by_the_table<C: Caller>() {
    let sandbox = start();
    let caller = C::build(reader(&sandbox));
    sandbox.inject(Route::Api, Fault::status(403));
    let error = caller.call(Call::get("trips/trip-1")).expect_err("a refusal").ours();
    assert_eq!(error.kind(), ErrorKind::MissingScope);
    assert_eq!(error.missing_scopes(), [Scope::TRIP_READ]);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (1, 1));
}

pub(crate) fn a_403_although_the_scope_is_there_is_a_refusal<C: Caller>() {
    let sandbox = start();
    let caller = C::build(reader(&sandbox));
    sandbox.inject(Route::Api, Fault::status(403));
    let error = caller.call(Call::get("loads/load-1")).expect_err("a refusal").ours();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.missing_scopes().is_empty());
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (1, 1));
}

pub(crate) fn a_403_that_cannot_be_read_to_its_end_is_told_by_its_head<C: Caller>() {
    let sandbox = start();
    let caller = C::build(reader(&sandbox));
    sandbox.inject(Route::Api, Fault::truncate());
    let error = caller.call(Call::post("loads")).expect_err("a refusal").ours();
    assert_eq!(error.missing_scopes(), [Scope::LOAD_CREATE]);
}

pub(crate) fn a_required_scope_that_lacks_sends_nothing<C: Caller>() {
    let sandbox = start();
    let caller = C::build(reader(&sandbox));
    let call = || Call::post("loads").require(Scope::LOAD_READ).require(Scope::LOAD_CREATE);
    for _ in 0..2 {
        let error = caller.call(call()).expect_err("a refusal").ours();
        assert_eq!(error.kind(), ErrorKind::MissingScope);
        assert_eq!(error.missing_scopes(), [Scope::LOAD_CREATE]);
    }
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (0, 1));
}

pub(crate) fn a_required_scope_that_is_there_lets_the_call_pass<C: Caller>() {
    let sandbox = start();
    let call = Call::get("loads").require(Scope::LOAD_READ);
    assert_eq!(C::build(reader(&sandbox)).call(call).expect("an answer").status, 200);
}

pub(crate) fn a_web_page_in_place_of_the_api_is_told_as_one<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    for (calls, status) in (1..).zip([200, 401, 403, 404, 429, 502]) {
        sandbox.inject(Route::Api, Fault::challenge(status).once());
        let error = caller.call(Call::get("loads")).expect_err("a page").ours();
        let kind = if status == 502 { ErrorKind::Unavailable } else { ErrorKind::Intercepted };
        assert_eq!((error.kind(), error.is_retryable()), (kind, status == 502), "{status}");
        assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
        assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (calls, 1), "{status}");
    }
    sandbox.inject(Route::Api, Fault::challenge(503).once());
    let error = caller.call(Call::post("loads")).expect_err("a page").ours();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(sandbox.token_requests(), 1);
}

pub(crate) fn a_web_page_that_asks_for_a_token_is_about_the_token<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox).without_grace());
    let page =
        Fault::reply(401, "<html><h1>401 Authorization Required</h1></html>").header("content-type", "text/html");
    sandbox.inject(Route::Api, page.header("www-authenticate", "Bearer error=\"invalid_token\"").once());
    assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, 200);
    assert_eq!((sandbox.api_requests(), sandbox.token_requests()), (2, 2));
}

pub(crate) fn a_success_without_content_is_delivered_whatever_its_label<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for status in [204, 200] {
        sandbox.inject(Route::Api, Fault::reply(status, "").header("content-type", "text/html").once());
        let reply = caller.call(Call::new(Method::DELETE, "loads/load-1")).expect("done");
        assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0));
    }
}

pub(crate) fn a_web_page_that_was_asked_for_is_delivered<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    sandbox.inject(Route::Api, Fault::challenge(200).once());
    let reply = caller.call(Call::get("loads").header(ACCEPT, "text/html")).expect("the page");
    assert!(reply.body.starts_with(b"<!DOCTYPE html>"));
    assert_eq!(calls_to(&sandbox).len(), 1);
}
