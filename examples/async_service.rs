//! An axum service that calls Alvys for its own callers: one token source, shared by every handler.
//!
//! `cargo run --example async_service` starts a local Alvys and the service, asks the service a few questions at once and
//! shows how many token requests that cost.

use std::error::Error;

use alvys_auth_reqwest::{Credentials, Flow, TokenSource};
use alvys_auth_sandbox::Sandbox;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

#[derive(Clone)]
struct Service {
    tokens: TokenSource,
    http: reqwest::Client,
    loads: String,
}

/// Passes the list of loads on.
async fn loads(State(service): State<Service>) -> Result<String, (StatusCode, String)> {
    let token = service.tokens.token().await.map_err(|error| {
        // A wait is worth telling; anything else is for whoever runs this service.
        let status = if error.is_retryable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
        (status, error.to_string())
    })?;
    let unreachable = |error: reqwest::Error| (StatusCode::BAD_GATEWAY, error.to_string());
    let answer = service.http.get(&service.loads).header("authorization", token.header()).send().await;
    answer.map_err(unreachable)?.text().await.map_err(unreachable)
}

/// Ready while a usable token is held. Looking costs nothing and asks nobody.
async fn health(State(service): State<Service>) -> (StatusCode, String) {
    let status = service.tokens.status();
    match (status.expires_in, status.last_error) {
        (Some(left), _) => (StatusCode::OK, format!("token good for {} s", left.as_secs())),
        (None, Some(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        (None, None) => (StatusCode::OK, "no token was needed yet".to_owned()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    let service = Service {
        tokens: TokenSource::new(Flow::current().endpoint(sandbox.token_url()), credentials)?,
        http: reqwest::Client::new(),
        loads: format!("{}/loads", sandbox.api_url()),
    };
    let app = Router::new().route("/loads", get(loads)).route("/health", get(health)).with_state(service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, app).await });

    println!("before  {}", reqwest::get(format!("{url}/health")).await?.text().await?);
    let ask = || async { reqwest::get(format!("{url}/loads")).await?.text().await };
    let (one, two, three) = tokio::try_join!(ask(), ask(), ask())?;
    println!("loads   {one}");
    println!("after   {}", reqwest::get(format!("{url}/health")).await?.text().await?);
    let alike = one == two && two == three;
    println!("three callers got the same answer: {alike}; token requests: {}", sandbox.token_requests());
    Ok(())
}
