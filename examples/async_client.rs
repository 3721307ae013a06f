//! Calls that just work: authorized, renewed after a 401, repeated after a wait, and refusals that say what to do.
//!
//! `cargo run --example async_client` starts a local Alvys and talks to that.

use std::error::Error;
use std::time::{Duration, Instant};

use alvys_auth_reqwest::{Api, Client, Credentials, Flow, Policy, TokenSource};
use alvys_auth_sandbox::{Fault, Sandbox};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let flow = Flow::current().endpoint(sandbox.token_url());
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    // Tokens that are only seconds old are not renewed after a 401; here that would take too long to watch.
    let policy = Policy::new().rejection_grace(Duration::ZERO);
    let tokens = TokenSource::builder(flow, credentials).policy(policy).build()?;
    let alvys = Client::new(tokens, Api::at(&sandbox.api_url())?)?;

    let page: Value = alvys.get("loads").query(&[("pageSize", 2)]).send().await?.json().await?;
    println!("two loads:            {}", page["Items"]);

    let created = alvys.post("loads").json(&json!({"Reference": "PO-17"})).send().await?;
    println!("a new load:           {}", created.status());

    sandbox.reject_tokens();
    let answer = alvys.get("loads/load-1").send().await?;
    println!("after a lost token:   {}, tokens issued: {}", answer.status(), sandbox.tokens_issued());

    sandbox.inject_at("/api/p/v1/trips", Fault::status(429).retry_after(Duration::from_secs(1)).once());
    let started = Instant::now();
    let answer = alvys.get("trips").send().await?;
    println!("after a rate limit:   {} in {:.1?}", answer.status(), started.elapsed());

    let error = alvys.delete("loads/load-1").send().await.err().ok_or("no failure")?;
    println!("without permission:   {error}");
    println!("missing:              {:?}", error.missing_scopes());

    let error = alvys.get("invoices").require(["invoice:update"]).send().await.err().ok_or("no failure")?;
    println!("checked beforehand:   {error}");

    let error = alvys.get("https://files.example.net/pod.pdf?signature=abc").send().await.err().ok_or("no failure")?;
    println!("to another host:      {error}");
    Ok(())
}
