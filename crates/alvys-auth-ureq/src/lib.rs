#![doc = include_str!("../README.md")]

mod signal;
mod source;
mod transport;

pub use alvys_auth_core::{
    Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Policy, Scope, Scopes, Status, Token,
    UnverifiedClaims,
};
pub use source::{Builder, TokenSource};
