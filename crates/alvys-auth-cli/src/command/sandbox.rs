//! `alvys-auth sandbox`: a local imitation of Alvys, in the foreground.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use alvys_auth_sandbox::Sandbox;
use tokio::runtime;

use super::token::quoted;
use crate::failure::Failure;
use crate::output;
use crate::signals;

/// Run a local imitation of Alvys to try things out, and print the environment variables for it. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The port of 127.0.0.1 to listen on; a free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::configuration(
            format!("cannot listen on port {} of this machine: {error}", arguments.port),
            "choose another --port, or remove --port to use a free one",
        )
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        // Before anything is printed, because a reader of the lines may send a signal at once.
        let ended = signals::ended().map_err(failed)?;
        let sandbox = Sandbox::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port))).map_err(failed)?;
        output::payload(&lines(&sandbox))?;
        ended.await;
        Ok(())
    })
}

fn lines(sandbox: &Sandbox) -> String {
    let application = sandbox.application();
    let set = [
        ("ALVYS_CLIENT_ID", application.client_id().to_owned()),
        ("ALVYS_CLIENT_SECRET", application.client_secret().to_owned()),
        ("ALVYS_TOKEN_URL", sandbox.token_url()),
        ("ALVYS_API_BASE_URL", sandbox.api_url()),
    ];
    let legacy = [
        ("ALVYS_FLOW", "legacy".to_owned()),
        ("ALVYS_TENANT_ID", application.tenant().to_owned()),
        ("ALVYS_TOKEN_URL", sandbox.legacy_token_url()),
    ];
    let exports = |pairs: &[(&str, String)]| {
        pairs.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect::<String>()
    };
    format!("{}\n# for the legacy flow, also:\n{}", exports(&set), exports(&legacy).replace("export", "# export"))
}
