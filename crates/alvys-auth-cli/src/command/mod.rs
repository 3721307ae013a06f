//! The commands. Each has a module with its arguments and `run`.

use clap::Subcommand;

use crate::failure::Failure;

mod cache;
mod completions;
mod curl;
mod doctor;
mod exec;
mod health;
pub(crate) mod inspect;
mod man;
mod migrate;
mod postman;
mod profile;
mod proxy;
pub(crate) mod request;
#[cfg(feature = "sandbox")]
mod sandbox;
pub(crate) mod scopes;
mod token;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Token(token::Args),
    Exec(exec::Args),
    Request(Box<request::Args>),
    Inspect(Box<inspect::Args>),
    Scopes(Box<scopes::Args>),
    Doctor(Box<doctor::Args>),
    Migrate(Box<migrate::Args>),
    Curl(Box<curl::Args>),
    Postman(postman::Args),
    Profile(profile::Args),
    Proxy(Box<proxy::Args>),
    Health(health::Args),
    Cache(cache::Args),
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Runs the command. `line` describes the whole command line.
    pub(crate) fn run(self, line: fn() -> clap::Command) -> Result<(), Failure> {
        match self {
            Self::Token(arguments) => token::run(&arguments),
            Self::Exec(arguments) => exec::run(&arguments),
            Self::Request(arguments) => request::run(*arguments),
            Self::Inspect(arguments) => inspect::run(*arguments),
            Self::Scopes(arguments) => scopes::run(&arguments),
            Self::Doctor(arguments) => doctor::run(&arguments),
            Self::Migrate(arguments) => migrate::run(&arguments),
            Self::Curl(arguments) => curl::run(&arguments),
            Self::Postman(arguments) => postman::run(&arguments),
            Self::Profile(arguments) => profile::run(arguments),
            Self::Proxy(arguments) => proxy::run(&arguments),
            Self::Health(arguments) => health::run(&arguments),
            Self::Cache(arguments) => cache::run(&arguments),
            #[cfg(feature = "sandbox")]
            Self::Sandbox(arguments) => sandbox::run(&arguments),
            Self::Completions(arguments) => completions::run(&arguments, line()),
            Self::Man(arguments) => man::run(&arguments, line()),
        }
    }
}
