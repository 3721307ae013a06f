#![doc = include_str!("../README.md")]

mod agent;
mod builder;
mod caller;
mod client;
mod middleware;
mod signal;
mod source;
mod tenants;
mod transport;

pub use alvys_auth_core::{
    Api, CallOptions, Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Policy, Scope, Scopes,
    Status, Token, UnverifiedClaims,
};
pub use alvys_auth_driver::{
    CommandProvider, CredentialsProvider, EnvironmentProvider, FileProvider, Limit, Pace, RateLimits, Setup,
    TenantProvider, Variables,
};
pub use builder::Builder;
pub use client::{Client, RequestBuilder};
pub use middleware::Authorise;
pub use source::TokenSource;
pub use tenants::{Tenants, TenantsBuilder};
// What appears in signatures here, under the very names it has there.
pub use {alvys_auth_core, alvys_auth_driver, ureq, ureq::http};
