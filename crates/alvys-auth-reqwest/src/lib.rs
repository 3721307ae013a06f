#![doc = include_str!("../README.md")]

mod builder;
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
    Api, CallOptions, Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Policy, Scope, Scopes,
    Status, Token, UnverifiedClaims,
};
pub use alvys_auth_driver::{
    CommandProvider, EnvironmentProvider, FileProvider, Limit, Pace, RateLimits, Setup, Variables,
};
pub use builder::Builder;
pub use client::{Client, ClientBuilder, RequestBuilder, redirects};
#[cfg(feature = "middleware")]
pub use middleware::Authorise;
pub use provider::{CredentialsProvider, ProviderFuture, TenantFuture, TenantProvider};
pub use source::TokenSource;
pub use tenants::{Tenants, TenantsBuilder};
// What appears in signatures here, under the very names it has there.
pub use {alvys_auth_core, alvys_auth_driver, http, reqwest};
