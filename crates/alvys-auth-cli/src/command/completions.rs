//! `alvys-auth completions`: the completions for a shell.

use clap::Command;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output;

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Args, mut line: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut line, "alvys-auth", &mut script);
    output::payload(&String::from_utf8_lossy(&script))
}
