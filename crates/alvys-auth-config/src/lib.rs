#![doc = include_str!("../README.md")]

mod command;
mod environment;
mod file;
mod running;
mod setup;
mod text;
mod variables;

pub use command::CommandProvider;
pub use environment::EnvironmentProvider;
pub use file::{FileProvider, read_secret};
#[cfg(unix)]
pub use running::reap_orphans;
pub use setup::Setup;
pub use variables::Variables;
