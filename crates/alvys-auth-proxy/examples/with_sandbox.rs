//! A proxy in front of a sandbox, to try with curl; ends with Ctrl-C.

use std::error::Error;

use alvys_auth_proxy::{Account, Api, Listen, Proxy, Server, Settings};
use alvys_auth_reqwest::{Credentials, Flow, TokenSource};
use alvys_auth_sandbox::Sandbox;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    let credentials = Credentials::new(application.client_id(), application.client_secret())?;
    let tokens = TokenSource::new(Flow::current().endpoint(sandbox.token_url()), credentials)?;

    let settings = Settings::new().mcp(sandbox.mcp_url()).hand_out_tokens();
    let proxy = Proxy::new(Account::new(tokens), Api::at(&sandbox.api_url())?, settings)?;
    let server = Server::new(proxy).listen(&Listen::loopback(8350)).await?;

    let url = &server.places()[0];
    println!("curl -i {url}/api/p/v1/loads");
    println!("curl -N {url}/mcp -H 'content-type: application/json' -d '{{\"events\":5,\"interval_ms\":500}}'");
    println!("curl {url}/token -H 'x-alvys-token-request: true'");
    println!("{url}/status in a browser");
    let cut = server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
    println!("ended, {cut} connections were cut");
    Ok(())
}
