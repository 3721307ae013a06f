#![doc = include_str!("../README.md")]

mod caller;
mod client;
#[cfg(feature = "middleware")]
mod middleware;
mod source;
mod transport;

pub use alvys_auth_core::{
    Api, CallOptions, Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Policy, Scope, Scopes,
    Status, Token, UnverifiedClaims,
};
pub use alvys_auth_driver::{Limit, Pace, RateLimits};
pub use client::{Client, ClientBuilder, RequestBuilder, redirects};
#[cfg(feature = "middleware")]
pub use middleware::Authorise;
pub use source::{Builder, TokenSource};
