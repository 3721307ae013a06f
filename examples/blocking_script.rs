//! A script: get a token, check what it may do, call the API, and replay once after a 401.
//!
//! `cargo run --example blocking_script` runs against a local Alvys.

use std::error::Error;
use std::time::Duration;

use alvys_auth_sandbox::Sandbox;
use alvys_auth_ureq::{Credentials, Flow, Policy, Scope, TokenSource};
use ureq::Agent;

fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    let tokens = TokenSource::builder(Flow::current().endpoint(sandbox.token_url()), credentials)
        // For this demonstration only: by default a token that is seconds old is not given up for a 401.
        .policy(Policy::new().rejection_grace(Duration::ZERO))
        .build()?;
    let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
    let loads = format!("{}/loads", sandbox.api_url());

    let token = tokens.token()?;
    for scope in [Scope::LOAD_READ, Scope::USER_DELETE] {
        println!("may {scope}: {}", token.scopes().contains(&scope));
    }

    // What a revoked application or a rotated signing key looks like.
    sandbox.reject_tokens();
    let mut answer = agent.get(&loads).header("authorization", token.header()).call()?;
    println!("first try: {}", answer.status());
    if answer.status() == 401 && tokens.reject(&token) {
        answer = agent.get(&loads).header("authorization", tokens.token()?.header()).call()?;
        println!("with a new token: {}", answer.status());
    }
    println!("{}", answer.body_mut().read_to_string()?);
    println!("token requests: {}", sandbox.token_requests());
    Ok(())
}
