#![doc = include_str!("../README.md")]

mod caller;
mod client;
mod connections;
#[cfg(feature = "middleware")]
mod middleware;
mod provider;
mod runtimes;
mod source;
mod tenants;
mod tls;
mod transport;

pub use alvys_auth_core::{
    Api, CallOptions, Change, Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Policy, Scope,
    Scopes, Status, Token, TokenResponse, UnverifiedClaims,
};
pub use alvys_auth_driver::{AsyncTokens, Engine, Limit, Pace, RateLimits};
pub use client::{Client, ClientBuilder, RequestBuilder, redirects};
#[cfg(feature = "middleware")]
pub use middleware::Authorize;
pub use provider::{AsyncCredentialsProvider, AsyncTenantProvider, ProviderFuture};
pub use source::TokenSource;
pub use tenants::{Tenants, TenantsBuilder};
pub use transport::{Http, Reqwest};
// What appears in signatures here, under the very names it has there.
pub use {alvys_auth_core, alvys_auth_driver, http, reqwest};

/// Settings of a [`TokenSource`]; from [`TokenSource::builder`].
pub type Builder = alvys_auth_driver::Builder<Reqwest>;
