//! The transport rules hold whatever settings the caller brings.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use alvys_auth_core::{Api, CallOptions, Error, ErrorKind, Policy};
use alvys_auth_reqwest::Client;
use alvys_auth_sandbox::{Fault, Received, Route, Sandbox};
use alvys_auth_tests::{Settings, async_tokens, blocking_tokens};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Request, Response};
use ureq::middleware::MiddlewareNext;
use ureq::{Agent, SendBody};

const TICK: Duration = Duration::from_millis(1);

fn start() -> Sandbox {
    Sandbox::start().expect("a sandbox")
}

async fn with_client(
    sandbox: &Sandbox,
    http: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static,
) -> Result<(), Error> {
    let settings = Settings::current(sandbox);
    let policy = Policy::new().request_timeout(Duration::from_secs(2)).backoff(TICK, TICK);
    let source = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials)
        .policy(policy)
        .patience(Duration::from_millis(3_500))
        .http(http)
        .build()?;
    source.token().await.map(drop)
}

fn with_agent(sandbox: &Sandbox, agent: Agent) -> Result<(), Error> {
    let settings = Settings::current(sandbox);
    let policy = Policy::new().request_timeout(Duration::from_secs(2)).backoff(TICK, TICK);
    let source = alvys_auth_ureq::TokenSource::builder(settings.flow, settings.credentials)
        .policy(policy)
        .patience(Duration::from_millis(3_500))
        .http(agent)
        .build()?;
    source.token().map(drop)
}

#[tokio::test]
async fn a_client_that_follows_redirects_is_overruled() {
    let (sandbox, elsewhere) = (start(), start());
    sandbox.inject(Route::Token, Fault::redirect(307, elsewhere.token_url()));
    let client = || reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(10));
    assert_eq!(with_client(&sandbox, client).await.unwrap_err().kind(), ErrorKind::Intercepted);

    let agent: Agent = Agent::config_builder().max_redirects(10).max_redirects_will_error(true).build().into();
    assert_eq!(with_agent(&sandbox, agent).unwrap_err().kind(), ErrorKind::Intercepted);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn plain_http_passes_no_proxy() {
    let (sandbox, proxy) = (start(), start());
    let url = proxy.url();
    let client = move || reqwest::Client::builder().proxy(reqwest::Proxy::all(&url).unwrap());
    with_client(&sandbox, client).await.expect("a token");

    let through = ureq::Proxy::new(&proxy.url()).unwrap();
    let agent: Agent = Agent::config_builder().proxy(Some(through)).build().into();
    with_agent(&sandbox, agent).expect("a token");
    assert!(proxy.requests().is_empty());
    assert_eq!(sandbox.token_requests(), 2);
}

#[tokio::test]
async fn a_client_without_timeouts_is_bounded() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::hang());
    let client = || reqwest::Client::builder().timeout(Duration::from_secs(3600));
    assert_eq!(with_client(&sandbox, client).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(sandbox.token_requests(), 2, "the first request ended in time for a second one");

    let agent: Agent = Agent::config_builder().timeout_global(None).build().into();
    assert_eq!(with_agent(&sandbox, agent).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(sandbox.token_requests(), 4, "the first request ended in time for a second one");
}

#[tokio::test]
async fn a_client_that_retries_is_overruled() {
    let sandbox = start();
    sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(600)));
    let retrying = || {
        let retry = reqwest::retry::for_host("127.0.0.1").max_retries_per_request(5);
        reqwest::Client::builder().retry(retry.classify_fn(|attempt| attempt.retryable()))
    };
    let error = with_client(&sandbox, retrying).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(sandbox.token_requests(), 1);
}

#[tokio::test]
async fn the_body_of_a_refusal_is_read_whatever_the_client_does_about_statuses() {
    let sandbox = start();
    sandbox.remove(sandbox.application().client_id());
    let error = with_client(&sandbox, reqwest::Client::builder).await.unwrap_err();
    assert_eq!(error.oauth_code(), Some("access_denied"));

    let agent: Agent = Agent::config_builder().http_status_as_error(true).build().into();
    let error = with_agent(&sandbox, agent).unwrap_err();
    assert_eq!(error.oauth_code(), Some("access_denied"));
}

#[tokio::test]
async fn the_callers_own_settings_reach_the_wire() {
    let sandbox = start();
    with_client(&sandbox, || reqwest::Client::builder().user_agent("mine/1")).await.expect("a token");
    let agent: Agent = Agent::config_builder().user_agent("mine/2").build().into();
    with_agent(&sandbox, agent).expect("a token");
    let agents: Vec<_> =
        sandbox.requests().iter().map(|request| request.header("user-agent").map(str::to_owned)).collect();
    assert_eq!(agents, [Some("mine/1".to_owned()), Some("mine/2".to_owned())]);
}

#[test]
fn what_a_builder_shows_holds_no_setting_of_the_client() {
    let sandbox = start();
    let settings = Settings::current(&sandbox);
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("proxy-authorization", reqwest::header::HeaderValue::from_static("Basic canary"));
    let builder = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials)
        .http(move || reqwest::Client::builder().default_headers(headers.clone()));
    assert!(!format!("{builder:?}").contains("canary"));
}

#[test]
fn a_client_that_cannot_be_built_is_an_error_and_no_panic() {
    let sandbox = start();
    let settings = Settings::current(&sandbox);
    let error = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials)
        .http(|| reqwest::Client::builder().user_agent("line\nbreak"))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn a_call_over_plain_http_passes_no_proxy() {
    let (sandbox, proxy) = (start(), start());
    let (lower, upper) = (sandbox.api_url(), sandbox.api_url().replace("http", "HTTP"));
    for (base, plain) in [(lower, true), (upper, true), ("https://integrations.alvys.com/api/p/v1".to_owned(), false)] {
        let api = Api::at(&base).unwrap();
        let through = reqwest::Proxy::all(proxy.url()).unwrap();
        let http = move || reqwest::Client::builder().proxy(through.clone());
        let client = Client::builder(async_tokens(&sandbox), api.clone()).http(http).build().unwrap();
        match client.get(&sandbox.me_url()).send().await {
            Ok(answer) => assert!(plain && answer.status() == 200),
            Err(error) => assert!(!plain && error.kind() == ErrorKind::Configuration, "{error}"),
        }

        let through = ureq::Proxy::new(&proxy.url()).unwrap();
        let agent: Agent = Agent::config_builder().proxy(Some(through)).build().into();
        let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), api.clone()).agent(agent.clone());
        assert_eq!(client.get(&sandbox.me_url()).send().unwrap().status(), 200);

        let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), api, agent);
        let through = ureq::Proxy::new(&proxy.url()).unwrap();
        let agent: Agent = Agent::config_builder().proxy(Some(through)).middleware(authorize).build().into();
        sandbox.inject(Route::Api, Fault::status(503).retry_after(TICK).once());
        assert_eq!(agent.get(&sandbox.me_url()).call().unwrap().status(), 200);
    }
    assert!(proxy.requests().is_empty(), "a token went through a proxy unencrypted");
    assert_eq!(sandbox.api_requests(), 11);
}

#[tokio::test]
async fn a_client_whose_settings_send_the_url_along_is_overruled() {
    let (sandbox, elsewhere) = (start(), start());
    sandbox.set_document_host(elsewhere.url());
    let http = || reqwest::Client::builder().referer(true).redirect(reqwest::redirect::Policy::limited(10));
    let api = Api::at(&sandbox.api_url()).unwrap();
    let client = Client::builder(async_tokens(&sandbox), api).http(http).build().unwrap();
    let answer = client.get("documents/document-1/download?private=1").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(elsewhere.requests()[0].header("referer"), None);
}

#[tokio::test]
async fn an_async_call_states_that_its_body_is_empty() {
    let sandbox = start();
    let api = Api::at(&sandbox.api_url()).unwrap();
    let client = Client::new(async_tokens(&sandbox), api).unwrap();
    let chunked = |request: reqwest::RequestBuilder| request.header("transfer-encoding", "chunked");
    client.post("loads").send().await.unwrap();
    client.patch("loads/load-1").send().await.unwrap();
    client.put("loads/load-1").body("ab").send().await.unwrap();
    client.post("loads").with(chunked).send().await.unwrap();
    client.get("loads").send().await.unwrap();
    let calls = sandbox.requests().into_iter().filter(|request| request.route() == Route::Api);
    let lengths =
        calls.map(|call| call.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned()));
    let lengths: Vec<_> = lengths.collect();
    let stated = |length: &str| Some(length.to_owned());
    assert_eq!(lengths, [stated("0"), stated("0"), stated("2"), None, None]);
}

#[test]
fn an_agent_that_makes_statuses_errors_keeps_them_for_the_client() {
    let sandbox = start();
    let agent: Agent = Agent::config_builder().http_status_as_error(true).build().into();
    let api = Api::at(&sandbox.api_url()).unwrap();
    let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), api.clone()).agent(agent.clone());
    assert_eq!(client.get("loads/none").send().unwrap().status(), 404);

    // Middleware leaves it to the agent, once the answer has been judged.
    let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), api, agent);
    let agent: Agent = Agent::config_builder().middleware(authorize).build().into();
    let status = |path: &str| agent.get(format!("{}/{path}", sandbox.api_url())).call().map(|answer| answer.status());
    assert!(matches!(status("loads/none"), Err(ureq::Error::StatusCode(404))));
    assert_eq!(status("loads").unwrap(), 200);
    sandbox.inject(Route::Api, Fault::status(503).retry_after(Duration::from_secs(1)).once());
    assert_eq!(status("loads").unwrap(), 200);
}

#[test]
fn an_answer_that_another_middleware_has_made_is_delivered() {
    let sandbox = start();
    let api = Api::at(&sandbox.api_url()).unwrap();
    let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), api, Agent::new_with_defaults());
    let from_a_cache =
        |_: Request<SendBody<'_>>, _: MiddlewareNext<'_>| Ok(Response::new(ureq::Body::builder().data("kept")));
    let agent: Agent = Agent::config_builder().middleware(authorize).middleware(from_a_cache).build().into();
    let mut answer = agent.get(format!("{}/loads", sandbox.api_url())).call().unwrap();
    assert_eq!(answer.body_mut().read_to_string().unwrap(), "kept");
}

#[test]
fn a_request_with_an_authorization_of_its_own_keeps_the_settings_of_its_agent() {
    let sandbox = start();
    let api = Api::at(&sandbox.api_url()).unwrap();
    let plain = Agent::config_builder().max_redirects(0).build().into();
    let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), api, plain);
    let keeps = RedirectAuthHeaders::SameHost;
    let agent: Agent = Agent::config_builder().redirect_auth_headers(keeps).middleware(authorize).build().into();
    sandbox.inject_at("/api/p/v1/loads", Fault::redirect(307, "/v1/me"));
    let call = |path: &str| {
        let request = agent.get(format!("{}/{path}", sandbox.api_url()));
        request.header("authorization", "Bearer my-own").call()
    };
    assert!(matches!(call("loads"), Err(ureq::Error::StatusCode(401))), "my-own is no token of the sandbox");
    let sent: Vec<_> =
        sandbox.requests().iter().map(|request| request.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, vec![Some("Bearer my-own".to_owned()); 2], "the redirect was followed with it, as it was set");
}

#[test]
fn a_blocking_call_is_framed_as_a_plain_agent_frames_it() {
    let sandbox = start();
    let (api, plain) = (Api::at(&sandbox.api_url()).unwrap(), Agent::new_with_defaults());
    let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), api.clone());
    let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), api, plain.clone());
    let agent: Agent = Agent::config_builder().middleware(authorize).build().into();
    let url = format!("{}/documents", sandbox.api_url());
    let send = |agent: &Agent, text: &str| {
        agent.post(&url).send(text).map(drop).unwrap();
        agent.post(&url).header("authorization", "Bearer my-own").send(text).map(drop).unwrap();
    };
    for text in ["", "hello"] {
        sandbox.inject(Route::Api, Fault::status(200).times(5));
        send(&plain, text);
        send(&agent, text);
        let call = client.post("documents");
        let _ = if text.is_empty() { call } else { call.body(text) }.send().unwrap();
    }
    let calls: Vec<_> = sandbox.requests().into_iter().filter(|request| request.route() == Route::Api).collect();
    let framing = |call: &Received| {
        (call.header("content-length").map(str::to_owned), call.header("transfer-encoding").map(str::to_owned))
    };
    let lengths: Vec<_> = calls.iter().map(framing).collect();
    let of = |length: &str| vec![(Some(length.to_owned()), None); 5];
    assert_eq!(lengths, [of("0"), of("5")].concat());
}

#[test]
fn a_transfer_coding_of_the_callers_own_gets_no_length_beside_it() {
    let (sandbox, listener) = (start(), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}", listener.local_addr().unwrap());
    let plain = Agent::new_with_defaults();
    let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), Api::at(&url).unwrap(), plain);
    let agent: Agent = Agent::config_builder().middleware(authorize).build().into();
    let call = thread::spawn(move || agent.post(url).header("transfer-encoding", "chunked").send("hello"));

    // Raw, because servers drop the length of such a request.
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"0\r\n\r\n") {
        let mut piece = [0; 1024];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the request was cut short");
        received.extend_from_slice(&piece[..read]);
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!(call.join().unwrap().unwrap().status(), 204);
    let received = String::from_utf8(received).unwrap().to_ascii_lowercase();
    assert!(received.contains("transfer-encoding: chunked") && received.ends_with("5\r\nhello\r\n0\r\n\r\n"));
    assert!(!received.contains("content-length"), "{received}");
}

/// A server that refuses each request at once and then falls silent, without ever closing.
fn silent_refuser() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            kept.extend(stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\n{").map(|()| stream));
        }
    });
    url
}

#[test]
fn a_refusal_that_falls_silent_is_told_by_agents_without_time_limits() {
    let sandbox = start();
    let api = Api::at(&silent_refuser()).unwrap();
    let started = Instant::now();
    let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), api.clone()).agent(Agent::new_with_defaults());
    assert_eq!(client.get("loads").send().unwrap_err().kind(), ErrorKind::Refused);

    let plain = Agent::new_with_defaults();
    let authorize = alvys_auth_ureq::Authorize::new(blocking_tokens(&sandbox), api.clone(), plain);
    let agent: Agent = Agent::config_builder().middleware(authorize).build().into();
    let error = agent.get(format!("{}/loads", api.base())).call().unwrap_err();
    assert!(matches!(&error, ureq::Error::Other(error) if error.is::<Error>()), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
}

#[test]
fn a_blocking_call_can_be_sent_from_another_thread() {
    let sandbox = start();
    let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), Api::at(&sandbox.api_url()).unwrap());
    let call = client.post("documents").stream(&b"streamed"[..]);
    let mut answer = thread::spawn(move || call.send()).join().unwrap().unwrap();
    assert!(answer.body_mut().read_to_string().unwrap().contains(r#""Length":8"#));
}

#[test]
fn a_request_that_was_built_elsewhere_is_authorized() {
    let sandbox = start();
    let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), Api::at(&sandbox.api_url()).unwrap());
    let post = Request::post(format!("{}/documents", sandbox.api_url())).header("x-own", "one").body("ready").unwrap();
    sandbox.inject(Route::Api, Fault::status(503).retry_after(TICK).once());
    let options = CallOptions::new().idempotent();
    assert_eq!(client.execute(post, options).unwrap().status(), 201);
    let received = sandbox.requests().pop().unwrap();
    assert_eq!((received.header("x-own"), received.body()), (Some("one"), &b"ready"[..]));

    let elsewhere = Request::get("https://elsewhere.invalid/loads").body("").unwrap();
    let error = client.execute(elsewhere, CallOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Destination);
}
