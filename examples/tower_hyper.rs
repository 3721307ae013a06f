//! The tower layer around hyper's own client, between layers of one's own.
//!
//! `cargo run --example tower_hyper` starts a local Alvys and talks to that.

use std::error::Error;
use std::time::Duration;

use alvys_auth_reqwest::{Credentials, Flow, Policy, TokenSource};
use alvys_auth_sandbox::Sandbox;
use alvys_auth_tower::{Api, AuthorizeLayer, CallOptions};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let flow = Flow::current().endpoint(sandbox.token_url());
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    let policy = Policy::new().rejection_grace(Duration::ZERO);
    let tokens = TokenSource::builder(flow, credentials).policy(policy).build()?;

    let mut alvys = ServiceBuilder::new()
        .layer(AuthorizeLayer::new(tokens, Api::at(&sandbox.api_url())?))
        .map_request(|request: Request<Full<Bytes>>| {
            println!("→ {} {}", request.method(), request.uri().path());
            request
        })
        .service(Client::builder(TokioExecutor::new()).build_http());

    let search = || {
        Request::post(format!("{}/loads/search", sandbox.api_url()))
            .header("content-type", "application/json")
            .extension(CallOptions::new().idempotent().require(["load:read"]))
            .body(Full::from("{}"))
    };
    let answer = alvys.ready().await?.call(search()?).await?;
    println!("← {} {:?}", answer.status(), answer.into_body().collect().await?.to_bytes());

    sandbox.reject_tokens();
    let answer = alvys.ready().await?.call(search()?).await?;
    println!("← {} with another token, the {} so far", answer.status(), sandbox.tokens_issued());
    Ok(())
}
