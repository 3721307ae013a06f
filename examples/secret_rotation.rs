//! A secret that is rotated while the program runs: noticed in its file, or when the server refuses the old one.
//!
//! `cargo run --example secret_rotation` starts a local Alvys and talks to that.

use std::error::Error;
use std::fs;

use alvys_auth_config::{CommandProvider, FileProvider};
use alvys_auth_sandbox::Sandbox;
use alvys_auth_ureq::{Flow, TokenSource};

fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start()?;
    let client_id = sandbox.application().client_id().to_owned();
    let flow = || Flow::current().endpoint(sandbox.token_url());
    let folder = std::env::temp_dir().join(format!("alvys-auth-example-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let secret = folder.join("client-secret");
    let rotate = |to: &str| {
        sandbox.rotate_secret(&client_id, to);
        fs::write(&secret, to)
    };

    // As a mounted Kubernetes secret: the file is read again when it has changed.
    rotate("the first secret")?;
    let tokens = TokenSource::provided_by(flow(), FileProvider::secret(client_id.clone(), &secret))?.build()?;
    tokens.token()?;
    rotate("the second secret")?;
    tokens.invalidate(); // as if the token had come to its end
    tokens.token()?;
    println!("a changed file:       {} token requests for 2 tokens", sandbox.token_requests());

    // As a key management service with a command line: it is run again when the server refuses what it gave before.
    sandbox.clear_log();
    let command = CommandProvider::new("cat", [&secret]).client_id(client_id.clone());
    let tokens = TokenSource::provided_by(flow(), command)?.build()?;
    tokens.token()?;
    rotate("the third secret")?;
    tokens.invalidate();
    tokens.token()?;
    println!("a refused old secret: {} token requests for 2 tokens, and no failure", sandbox.token_requests());

    sandbox.rotate_secret(&client_id, "a secret that nobody was told");
    tokens.invalidate();
    let error = tokens.token().err().ok_or("no failure")?;
    println!("nothing better known: {error}");
    fs::remove_dir_all(&folder)?;
    Ok(())
}
