#![doc = include_str!("../README.md")]

mod accounts;
mod answer;
mod connection;
mod door;
mod forward;
mod headers;
mod known;
mod listen;
mod management;
mod metrics;
mod problem;
mod proxy;
mod route;
mod server;
mod settings;
mod status;
mod tokens;
mod upload;
mod upstream;
mod watch;

pub use accounts::{Account, Accounts, NotServed, PerTenant};
pub use alvys_auth_core::{Api, Error, ErrorKind};
pub use alvys_auth_core::{Limit, RateLimits};
pub use alvys_auth_driver::{AsyncTokens, Pace};
pub use alvys_auth_reqwest::TokenSource;
pub use listen::Listen;
pub use proxy::Proxy;
pub use server::Server;
pub use settings::{Settings, SharedKey};
