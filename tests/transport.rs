//! The transport rules hold whatever settings the caller brings.

use std::time::Duration;

use alvys_auth_core::{Api, ErrorKind, Policy};
use alvys_auth_reqwest::Client;
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::Settings;
use ureq::http::{Request, Response};
use ureq::middleware::MiddlewareNext;
use ureq::{Agent, SendBody};

const TICK: Duration = Duration::from_millis(1);

fn start() -> Sandbox {
    Sandbox::start().expect("a sandbox")
}

async fn with_client(sandbox: &Sandbox, client: reqwest::ClientBuilder) -> Result<(), alvys_auth_core::Error> {
    let settings = Settings::current(sandbox);
    let policy = Policy::new().request_timeout(Duration::from_millis(500)).backoff(TICK, TICK);
    let source = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials)
        .policy(policy)
        .patience(Duration::from_millis(700))
        .client(client)
        .build()?;
    source.token().await.map(drop)
}

fn with_agent(sandbox: &Sandbox, agent: Agent) -> Result<(), alvys_auth_core::Error> {
    let settings = Settings::current(sandbox);
    let policy = Policy::new().request_timeout(Duration::from_millis(500)).backoff(TICK, TICK);
    let source = alvys_auth_ureq::TokenSource::builder(settings.flow, settings.credentials)
        .policy(policy)
        .patience(Duration::from_millis(700))
        .agent(agent)
        .build()?;
    source.token().map(drop)
}

#[tokio::test]
async fn a_client_that_follows_redirects_is_overruled() {
    let (sandbox, elsewhere) = (start(), start());
    sandbox.inject(Route::Token, Fault::redirect(307, elsewhere.token_url()));
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(10));
    assert_eq!(with_client(&sandbox, client).await.unwrap_err().kind(), ErrorKind::Intercepted);

    let agent: Agent = Agent::config_builder().max_redirects(10).max_redirects_will_error(true).build().into();
    assert_eq!(with_agent(&sandbox, agent).unwrap_err().kind(), ErrorKind::Intercepted);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn plain_http_passes_no_proxy() {
    let (sandbox, proxy) = (start(), start());
    let client = reqwest::Client::builder().proxy(reqwest::Proxy::all(proxy.url()).unwrap());
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
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3600));
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
    let retry =
        reqwest::retry::for_host("127.0.0.1").max_retries_per_request(5).classify_fn(|attempt| attempt.retryable());
    let error = with_client(&sandbox, reqwest::Client::builder().retry(retry)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(sandbox.token_requests(), 1);
}

#[tokio::test]
async fn the_body_of_a_refusal_is_read_whatever_the_client_does_about_statuses() {
    let sandbox = start();
    sandbox.remove(sandbox.application().client_id());
    let error = with_client(&sandbox, reqwest::Client::builder()).await.unwrap_err();
    assert_eq!(error.oauth_code(), Some("access_denied"));

    let agent: Agent = Agent::config_builder().http_status_as_error(true).build().into();
    let error = with_agent(&sandbox, agent).unwrap_err();
    assert_eq!(error.oauth_code(), Some("access_denied"));
}

#[tokio::test]
async fn the_callers_own_settings_reach_the_wire() {
    let sandbox = start();
    with_client(&sandbox, reqwest::Client::builder().user_agent("mine/1")).await.expect("a token");
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
        .client(reqwest::Client::builder().default_headers(headers));
    assert!(!format!("{builder:?}").contains("canary"));
}

#[test]
fn a_client_that_cannot_be_built_is_an_error_and_no_panic() {
    let sandbox = start();
    let settings = Settings::current(&sandbox);
    let error = alvys_auth_reqwest::TokenSource::builder(settings.flow, settings.credentials)
        .client(reqwest::Client::builder().user_agent("line\nbreak"))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

fn async_tokens(sandbox: &Sandbox) -> alvys_auth_reqwest::TokenSource {
    let settings = Settings::current(sandbox);
    alvys_auth_reqwest::TokenSource::new(settings.flow, settings.credentials).expect("acceptable settings")
}

fn blocking_tokens(sandbox: &Sandbox) -> alvys_auth_ureq::TokenSource {
    let settings = Settings::current(sandbox);
    alvys_auth_ureq::TokenSource::new(settings.flow, settings.credentials).expect("acceptable settings")
}

#[tokio::test]
async fn a_call_over_plain_http_passes_no_proxy() {
    let (sandbox, proxy) = (start(), start());
    let (lower, upper) = (sandbox.api_url(), sandbox.api_url().replace("http", "HTTP"));
    for (base, plain) in [(lower, true), (upper, true), ("https://integrations.alvys.com/api/p/v1".to_owned(), false)] {
        let api = Api::at(&base).unwrap();
        let http = reqwest::Client::builder().proxy(reqwest::Proxy::all(proxy.url()).unwrap());
        let client = Client::builder(async_tokens(&sandbox), api.clone()).client(http).build().unwrap();
        match client.get(&sandbox.me_url()).send().await {
            Ok(answer) => assert!(plain && answer.status() == 200),
            Err(error) => assert!(!plain && error.kind() == ErrorKind::Configuration, "{error}"),
        }

        let through = ureq::Proxy::new(&proxy.url()).unwrap();
        let agent: Agent = Agent::config_builder().proxy(Some(through)).build().into();
        let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), api).agent(agent);
        assert_eq!(client.get(&sandbox.me_url()).send().unwrap().status(), 200);
    }
    assert!(proxy.requests().is_empty(), "a token went through a proxy unencrypted");
    assert_eq!(sandbox.api_requests(), 5);
}

#[tokio::test]
async fn a_client_whose_settings_send_the_url_along_is_overruled() {
    let (sandbox, elsewhere) = (start(), start());
    sandbox.set_document_host(elsewhere.url());
    let http = reqwest::Client::builder().referer(true).redirect(reqwest::redirect::Policy::limited(10));
    let api = Api::at(&sandbox.api_url()).unwrap();
    let client = Client::builder(async_tokens(&sandbox), api).client(http).build().unwrap();
    let answer = client.get("documents/document-1/download?private=1").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(elsewhere.requests()[0].header("referer"), None);
}

#[test]
fn an_agent_that_makes_statuses_errors_keeps_them_for_the_client() {
    let sandbox = start();
    let agent: Agent = Agent::config_builder().http_status_as_error(true).build().into();
    let api = Api::at(&sandbox.api_url()).unwrap();
    let client = alvys_auth_ureq::Client::new(blocking_tokens(&sandbox), api.clone()).agent(agent.clone());
    assert_eq!(client.get("loads/none").send().unwrap().status(), 404);

    // Middleware leaves it to the agent, once the answer has been judged.
    let authorise = alvys_auth_ureq::Authorise::new(blocking_tokens(&sandbox), api, agent);
    let agent: Agent = Agent::config_builder().middleware(authorise).build().into();
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
    let authorise = alvys_auth_ureq::Authorise::new(blocking_tokens(&sandbox), api, Agent::new_with_defaults());
    let from_a_cache =
        |_: Request<SendBody<'_>>, _: MiddlewareNext<'_>| Ok(Response::new(ureq::Body::builder().data("kept")));
    let agent: Agent = Agent::config_builder().middleware(authorise).middleware(from_a_cache).build().into();
    let mut answer = agent.get(format!("{}/loads", sandbox.api_url())).call().unwrap();
    assert_eq!(answer.body_mut().read_to_string().unwrap(), "kept");
}
