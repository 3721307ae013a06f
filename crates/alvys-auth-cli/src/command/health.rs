//! `alvys-auth health`: asks a running proxy whether it is well, for images that hold no other program.

use std::time::Duration;

use ureq::Agent;

use crate::agent;
use crate::failure::{Class, Failure};

/// Ask a running proxy whether it is alive, or ready. The exit code is 0 when it answers with a success.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The address to ask: the one of `proxy --health`, with /healthz or /readyz.
    #[arg(default_value = "http://127.0.0.1:8351/healthz")]
    url: String,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let url = &arguments.url;
    let config = agent::config().proxy(None).max_redirects(0).http_status_as_error(false);
    let agent: Agent = config.timeout_global(Some(Duration::from_secs(5))).build().into();
    let todo = "look at what the proxy writes to stderr, and start it with --health and this address";
    let answer = agent.get(url).call();
    let answer = answer.map_err(|error| {
        Failure::new(Class::Unreachable, format!("no proxy answers at this address: {error}"), todo)
    })?;
    if !answer.status().is_success() {
        let status = answer.status().as_u16();
        return Err(Failure::new(Class::TryLater, format!("the proxy is not well (status {status})"), todo));
    }
    Ok(())
}
