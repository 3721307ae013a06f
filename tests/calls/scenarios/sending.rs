//! What goes out and comes back when nothing is wrong.

use alvys_auth_sandbox::{Application, Fault, Received, Route, Sandbox};
use alvys_auth_tests::caller::{Body, Call, Caller, Setup, calls_to};
use alvys_auth_tests::credentials;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, Method};

use crate::calls::start;

pub(crate) fn a_call_is_authorized_and_its_token_is_shared<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    assert_eq!(sandbox.token_requests(), 0, "nothing is fetched before it is needed");
    let reply = caller.call(Call::get("loads").query("page", "1").query("pageSize", "2")).expect("an answer");
    assert_eq!(reply.status, 200);
    assert_eq!((reply.json()["Page"].as_u64(), reply.json()["PageSize"].as_u64()), (Some(1), Some(2)));
    caller.call(Call::get(sandbox.me_url())).expect("an answer");

    let [loads, me] = &calls_to(&sandbox)[..] else { panic!("two calls") };
    assert_eq!((loads.path(), loads.query()), ("/api/p/v1/loads", Some("page=1&pageSize=2")));
    assert!(loads.header("authorization").is_some_and(|value| value.starts_with("Bearer ")));
    assert_eq!(loads.header("authorization"), me.header("authorization"));
    assert_eq!(sandbox.token_requests(), 1);
}

pub(crate) fn json_goes_out_and_comes_back<C: Caller>() {
    let sandbox = start();
    let reply = C::build(Setup::of(&sandbox)).call(Call::post("loads")).expect("an answer");
    assert_eq!(reply.status, 201);
    assert_eq!(reply.json()["Id"], "load-4");
    let call = &calls_to(&sandbox)[0];
    assert_eq!(call.header("content-type"), Some("application/json"));
    let sent: serde_json::Value = serde_json::from_slice(call.body()).expect("JSON");
    assert_eq!(sent["Reference"], "a+b & \u{e4}\u{20ac}");
}

pub(crate) fn every_method_and_header_arrives<C: Caller>() {
    const OWN: HeaderName = HeaderName::from_static("x-own");
    let sandbox = start();
    let (read, update, delete) = ("load:read", "load:update", "load:delete");
    sandbox.add(Application::new("all", "of-the-loads", "va336").with_scopes([read, update, delete]));
    let mut setup = Setup::of(&sandbox);
    setup.tokens.credentials = credentials("all", "of-the-loads");
    let caller = C::build(setup);
    let json = || Body::Json(serde_json::json!({}));
    for (method, body, status) in [
        (Method::GET, Body::Empty, 200),
        (Method::HEAD, Body::Empty, 200),
        (Method::PUT, json(), 200),
        (Method::PATCH, json(), 200),
        (Method::DELETE, Body::Empty, 204),
    ] {
        let call = Call::new(method.clone(), "loads/load-1").header(OWN, "one").header(OWN, "two").body(body);
        assert_eq!(caller.call(call).expect("an answer").status, status);
        let received = calls_to(&sandbox).pop().expect("a call");
        assert_eq!(received.method(), method.as_str());
        let own: Vec<_> = received.headers().get_all(OWN).iter().collect();
        assert_eq!(own, ["one", "two"]);
    }
    assert_eq!(sandbox.token_requests(), 1);
}

fn pattern(length: usize) -> Bytes {
    let bytes = Vec::from_iter(0..=250).repeat(length / 251 + 1);
    Bytes::from(bytes).slice(..length)
}

pub(crate) fn body_bytes_arrive_whole<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for length in [1, 100_000, 1024 * 1024] {
        let body = pattern(length);
        let reply =
            caller.call(Call::new(Method::POST, "documents").body(Body::Bytes(body.clone()))).expect("an answer");
        assert_eq!(reply.json()["Length"], length);
        assert!(calls_to(&sandbox).pop().is_some_and(|call| call.body() == body));
    }
}

/// Content-Length and Transfer-Encoding of each call so far.
fn framing(sandbox: &Sandbox) -> Vec<(Option<String>, Option<String>)> {
    let header = |call: &Received, name| call.header(name).map(str::to_owned);
    calls_to(sandbox).iter().map(|call| (header(call, "content-length"), header(call, "transfer-encoding"))).collect()
}

pub(crate) fn a_body_goes_out_with_its_length_first_and_again<C: Caller>() {
    let hello = || Body::Bytes(Bytes::from_static(b"hello"));
    for (method, body, lengths) in [
        (Method::GET, Body::Empty, &[None][..]),
        (Method::DELETE, Body::Empty, &[None]),
        // hyper by itself leaves the zero out, and a layer leaves that to its client.
        (Method::POST, Body::Empty, &[None, Some("0")]),
        (Method::PATCH, Body::Empty, &[None, Some("0")]),
        (Method::POST, hello(), &[Some("5")]),
        (Method::DELETE, hello(), &[Some("5")]),
    ] {
        let sandbox = start();
        let caller = C::build(Setup::of(&sandbox).without_grace());
        sandbox.inject(Route::Api, Fault::status(401).once());
        sandbox.inject(Route::Api, Fault::status(204));
        let call = Call::new(method.clone(), "loads/load-1").body(body);
        assert_eq!(caller.call(call).expect("an answer").status, 204);
        let framing = framing(&sandbox);
        let (length, coding) = &framing[0];
        assert!(coding.is_none() && lengths.contains(&length.as_deref()), "{method}: {framing:?}");
        assert_eq!(framing, vec![framing[0].clone(); 2], "{method}: first and again");
    }
}

pub(crate) fn a_length_or_coding_of_the_callers_own_is_kept<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for (name, value) in [(CONTENT_LENGTH, "5"), (TRANSFER_ENCODING, "chunked")] {
        let body = Body::Bytes(Bytes::from_static(b"hello"));
        caller.call(Call::new(Method::POST, "documents").body(body).header(name, value)).expect("an answer");
    }
    let own = |value: &str| Some(value.to_owned());
    assert_eq!(framing(&sandbox), [(own("5"), None), (None, own("chunked"))]);
    assert!(calls_to(&sandbox).iter().all(|call| call.body() == b"hello"));
}

pub(crate) fn a_long_stream_goes_out_whole_and_once<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    let body = pattern(4 * 1024 * 1024);
    let upload = |body| caller.call(Call::new(Method::POST, "documents").body(body)).expect("an answer").json();
    let streamed = upload(Body::Stream(body.clone()));
    assert_eq!(streamed["Length"], body.len());
    assert_eq!(sandbox.api_requests(), 1);
    assert_eq!(streamed["Sha256"], upload(Body::Bytes(body))["Sha256"]);
}

pub(crate) fn a_long_answer_comes_back_whole<C: Caller>() {
    let sandbox = start();
    let call = Call::get("documents/document-1").query("bytes", "8388608");
    let reply = C::build(Setup::of(&sandbox)).call(call).expect("an answer");
    assert!(reply.body == pattern(8_388_608));
}

pub(crate) fn an_answer_that_is_not_about_the_token_is_delivered_whatever_its_status<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for status in [202, 304, 400, 404, 409, 422, 500, 502, 504] {
        sandbox.inject(Route::Api, Fault::status(status).once());
        assert_eq!(caller.call(Call::get("loads")).expect("an answer").status, status);
    }
    assert_eq!((sandbox.token_requests(), sandbox.api_requests()), (1, 9));
}

pub(crate) fn a_path_goes_out_in_the_same_bytes_whatever_the_stack<C: Caller>() {
    let sandbox = start();
    let caller = C::build(Setup::of(&sandbox));
    for (path, sent) in
        [("caf\u{e9}/\u{2713}", "caf%C3%A9/%E2%9C%93"), (r"a\b", "a%5Cb"), ("a{b}|^[c]'", "a%7Bb%7D%7C%5E%5Bc%5D'")]
    {
        caller.call(Call::get(path)).expect("an answer");
        let received = calls_to(&sandbox).pop().expect("a call");
        assert_eq!(received.path(), format!("/api/p/v1/{sent}"), "{path}");
    }
}
