//! `alvys-auth exec`: runs a program with a token in its environment.

use std::ffi::OsString;
use std::io;
use std::process::Command;

use tracing::debug;

use super::token::{EXPIRES_AT, TOKEN, WantedArgs};
use crate::failure::Failure;
use crate::private;
use crate::secret::{PROXY_KEY, SECRET_VARIABLES};
use crate::settings::SettingsArgs;
use crate::store::STORE;
use crate::time::rfc3339;
use crate::tokens;

/// Run a program with ALVYS_ACCESS_TOKEN and ALVYS_ACCESS_TOKEN_EXPIRES_AT in its environment, and without the secret,
/// the key of the sidecar and the URL of the store.
///
/// The token is not renewed while the program runs: set --min-ttl to the time that the program needs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: WantedArgs,

    #[command(flatten)]
    settings: SettingsArgs,

    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

pub(crate) fn run(arguments: &Args) -> Result<(), Failure> {
    let Some((program, rest)) = arguments.program.split_first() else {
        return Err(Failure::usage("no program was given", "write the program and its arguments after --"));
    };
    let source = tokens::source(&arguments.settings.read()?)?;
    let token = tokens::token(&source, arguments.wanted.wanted())?;
    let mut command = Command::new(program);
    command.args(rest).env(TOKEN, token.access_token()).env(EXPIRES_AT, rfc3339(tokens::expires_at(&token)));
    for name in SECRET_VARIABLES.into_iter().chain([PROXY_KEY, STORE]) {
        command.env_remove(name);
    }
    debug!(target: "alvys_auth", program = %program.display(), "runs the program");
    let error = become_program(&mut command);
    Err(Failure::configuration(
        format!("cannot run {}: {error}", program.display()),
        "check that the program is installed and on the PATH, and that this user may run it",
    ))
}

/// Replaces this process by the program, which then has its signals, streams and exit code. Returns only on failure.
#[cfg(unix)]
fn become_program(command: &mut Command) -> io::Error {
    use std::os::unix::process::CommandExt;
    private::hand_over();
    command.exec()
}

/// Runs the program and ends with its exit code. Returns only on failure.
#[cfg(not(unix))]
fn become_program(command: &mut Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}
