//! The commands, a module each: its arguments, and `run`.

use clap::Subcommand;

use crate::failure::Failure;

mod cache;
mod completions;
mod exec;
mod inspect;
mod man;
mod profile;
mod request;
mod sandbox;
mod scopes;
mod token;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Token(token::Args),
    Exec(exec::Args),
    Request(Box<request::Args>),
    Inspect(Box<inspect::Args>),
    Scopes(Box<scopes::Args>),
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
            Self::Request(arguments) => request::run(*arguments),
            Self::Inspect(arguments) => inspect::run(*arguments),
            Self::Scopes(arguments) => scopes::run(&arguments),
            Self::Profile(arguments) => profile::run(arguments),
            Self::Cache(arguments) => cache::run(&arguments),
            Self::Sandbox(arguments) => sandbox::run(&arguments),
            Self::Completions(arguments) => completions::run(&arguments),
            Self::Man(arguments) => man::run(&arguments),
        }
    }
}
