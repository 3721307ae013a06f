//! The middleware, for programs that have an HTTP client already: reqwest-middleware, and ureq's own.
//!
//! `cargo run --example middleware` starts a local Alvys and talks to that.

use std::error::Error;
use std::time::Duration;

use alvys_auth_core::{Api, CallOptions, Credentials, Flow, Policy};
use alvys_auth_sandbox::Sandbox;
use ureq::Agent;

fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start()?;
    tokio::runtime::Runtime::new()?.block_on(with_reqwest(&sandbox))?;
    with_ureq(&sandbox)
}

async fn with_reqwest(sandbox: &Sandbox) -> Result<(), Box<dyn Error>> {
    use alvys_auth_reqwest::{Authorize, TokenSource, redirects};

    let (flow, credentials, api) = settings(sandbox)?;
    let policy = Policy::new().rejection_grace(Duration::ZERO);
    let tokens = TokenSource::builder(flow, credentials).policy(policy).build()?;
    let mine = reqwest::Client::builder().timeout(Duration::from_secs(20)).redirect(redirects());
    // The local Alvys speaks plain http: a proxy that the environment names would see the token. Leave this out for the real
    // one.
    let mine = mine.no_proxy().build()?;
    let mine = reqwest_middleware::ClientBuilder::new(mine).with(Authorize::new(tokens, api)).build();

    let url = format!("{}/loads/search", sandbox.api_url());
    let search = || {
        mine.post(&url)
            .with_extension(CallOptions::new().idempotent())
            .header("content-type", "application/json")
            .body("{}")
    };
    println!("reqwest: {}", search().send().await?.status());
    sandbox.reject_tokens();
    println!("reqwest: {} after its token was lost", search().send().await?.status());

    let elsewhere = mine.get("https://files.example.net/").send().await.err().ok_or("no failure")?;
    println!("reqwest: {elsewhere}");
    Ok(())
}

fn with_ureq(sandbox: &Sandbox) -> Result<(), Box<dyn Error>> {
    use alvys_auth_ureq::{Authorize, TokenSource};

    let (flow, credentials, api) = settings(sandbox)?;
    let policy = Policy::new().rejection_grace(Duration::ZERO);
    let tokens = TokenSource::builder(flow, credentials).policy(policy).build()?;
    let settings = || Agent::config_builder().timeout_global(Some(Duration::from_secs(20)));
    let authorize = Authorize::new(tokens, api, settings().build().into());
    let mine: Agent = settings().middleware(authorize).build().into();

    let url = format!("{}/loads", sandbox.api_url());
    println!("ureq:    {}", mine.get(&url).call()?.status());
    sandbox.reject_tokens();
    println!("ureq:    {} after its token was lost", mine.get(&url).call()?.status());

    let theirs = mine.get(&url).header("authorization", "Bearer my-own").call().err().ok_or("no failure")?;
    println!("ureq:    {theirs} to a token of one's own, which is left alone");
    Ok(())
}

fn settings(sandbox: &Sandbox) -> Result<(Flow, Credentials, Api), alvys_auth_core::Error> {
    let application = sandbox.application();
    Ok((
        Flow::current().endpoint(sandbox.token_url()),
        Credentials::new(application.client_id(), application.client_secret())?,
        Api::at(&sandbox.api_url())?,
    ))
}
