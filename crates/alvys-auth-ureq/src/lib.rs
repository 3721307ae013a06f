#![doc = include_str!("../README.md")]

mod agent;
mod caller;
mod client;
mod middleware;
mod source;
mod tenants;
mod transport;

pub use alvys_auth_core::{
    Api, CallOptions, Change, Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Policy, Scope,
    Scopes, Status, Token, TokenResponse, UnverifiedClaims,
};
pub use alvys_auth_core::{CredentialsProvider, TenantProvider};
pub use alvys_auth_driver::{BlockingTokens, Engine, Limit, Pace, RateLimits};
pub use client::{Client, RequestBuilder};
pub use middleware::Authorize;
pub use source::TokenSource;
pub use tenants::{Tenants, TenantsBuilder};
pub use transport::Ureq;
// What appears in signatures here, under the very names it has there.
pub use {alvys_auth_core, alvys_auth_driver, ureq, ureq::http};

/// Settings of a [`TokenSource`]; from [`TokenSource::builder`].
pub type Builder = alvys_auth_driver::Builder<Ureq>;
