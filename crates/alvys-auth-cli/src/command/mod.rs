//! The commands, a module each: its arguments, and `run`.

use clap::Subcommand;

use crate::failure::Failure;

mod cache;
mod completions;
mod exec;
mod man;
mod profile;
mod sandbox;
mod token;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Token(token::Args),
    Exec(exec::Args),
    Profile(profile::Args),
    Cache(cache::Args),
    Sandbox(sandbox::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Does what was asked for.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Token(arguments) => token::run(&arguments),
            Self::Exec(arguments) => exec::run(&arguments),
            Self::Profile(arguments) => profile::run(arguments),
            Self::Cache(arguments) => cache::run(&arguments),
            Self::Sandbox(arguments) => sandbox::run(&arguments),
            Self::Completions(arguments) => completions::run(&arguments),
            Self::Man(arguments) => man::run(&arguments),
        }
    }
}
