//! Testing your own code: the sandbox stands in for Alvys, faults included.
//!
//! `cargo run --example testing` shows the program, `cargo test --example testing` its tests.

use alvys_auth_sandbox::Sandbox;
use alvys_auth_ureq::{Credentials, Error, Flow, TokenSource};

/// Stands for your own code: something that needs a token and has to cope when there is none.
fn greeting(tokens: &TokenSource) -> String {
    let answer: Result<_, Error> = tokens.token();
    match answer {
        Ok(token) if token.scopes().contains("load:create") => "ready to create loads".to_owned(),
        Ok(_) => "ready to read".to_owned(),
        Err(error) => match error.retry_after() {
            Some(wait) => format!("try again in {} s", wait.as_secs()),
            None => format!("not ready: {error}"),
        },
    }
}

fn source(sandbox: &Sandbox, client_id: &str, client_secret: &str) -> Result<TokenSource, Error> {
    TokenSource::new(Flow::current().endpoint(sandbox.token_url()), Credentials::new(client_id, client_secret)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::start()?;
    let application = sandbox.application();
    println!("{}", greeting(&source(&sandbox, application.client_id(), application.client_secret())?));
    println!("{}", greeting(&source(&sandbox, application.client_id(), "a wrong secret")?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alvys_auth_sandbox::{Application, Fault, Route};

    use super::*;

    #[test]
    fn an_application_that_may_only_read_is_told_so() {
        let sandbox = Sandbox::start().unwrap();
        sandbox.add(Application::new("reader", "s3cret", "va336").with_scopes(["load:read"]));
        assert_eq!(greeting(&source(&sandbox, "reader", "s3cret").unwrap()), "ready to read");
    }

    #[test]
    fn a_rate_limit_is_passed_on_and_not_hammered() {
        let sandbox = Sandbox::start().unwrap();
        sandbox.inject(Route::Token, Fault::status(429).retry_after(Duration::from_secs(60)));
        let application = sandbox.application();
        let tokens = source(&sandbox, application.client_id(), application.client_secret()).unwrap();
        for _ in 0..10 {
            assert_eq!(greeting(&tokens), "try again in 60 s");
        }
        assert_eq!(sandbox.token_requests(), 1);
    }
}
