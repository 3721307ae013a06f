//! The `alvys-auth` command. It writes one payload to stdout, or two lines about a failure to stderr.
//!
//! The core decides about tokens. This crate decides where settings come from, where tokens are shared, and which exit code a
//! failure has.

mod agent;
mod arguments;
mod client;
mod command;
mod environment;
mod failure;
mod jwt;
#[cfg_attr(not(feature = "keychain"), path = "no_keychain.rs")]
mod keychain;
mod keys;
mod log;
mod messages;
mod network;
mod notices;
mod output;
mod private;
mod profiles;
mod report;
mod secret;
mod settings;
mod signals;
mod sink;
mod store;
mod time;
mod tokens;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    private::close_memory();
    let arguments = match arguments::parse() {
        Ok(arguments) => arguments,
        Err(ended) => return ended,
    };
    log::start(arguments.verbose);
    match arguments.command.run(Arguments::command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(arguments.json_errors),
    }
}
