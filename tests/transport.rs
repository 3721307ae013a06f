//! The transport rules hold whatever settings the caller brings.

use std::time::Duration;

use alvys_auth_core::{ErrorKind, Policy};
use alvys_auth_sandbox::{Fault, Route, Sandbox};
use alvys_auth_tests::Settings;
use ureq::Agent;

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
