#![doc = include_str!("../README.md")]

mod caller;
mod client;
mod connections;
#[cfg(feature = "middleware")]
mod middleware;
mod provider;
mod runtimes;
mod settings;
mod sharing;
mod source;
mod tenants;
mod transport;

pub use alvys_auth_core::{
    Api, CallOptions, Change, Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Limit, Policy,
    RateLimits, Scope, Scopes, Status, Token, TokenResponse, UnverifiedClaims,
};
pub use alvys_auth_driver::{AsyncTokens, Engine, Pace, Proxies, Trust};
pub use client::{AnswerFuture, Calls, redirects};
#[cfg(feature = "middleware")]
pub use middleware::Authorize;
pub use provider::{AsyncCredentialsProvider, AsyncTenantProvider, ProviderFuture};
pub use settings::Http;
pub use sharing::Blocking;
pub use source::{Builder, Reqwest, TokenSource};
pub use tenants::{Tenants, TenantsBuilder};
pub use transport::explain;
// What appears in signatures here, under the very names it has there.
pub use {alvys_auth_core, alvys_auth_driver, http, reqwest};

/// Calls the Alvys API: authorized, renewed and repeated where that is safe. What the API answers arrives as a
/// [`reqwest::Response`]; [`Calls`] tells of the time limits and of your own transport settings.
///
/// ```no_run
/// use alvys_auth_reqwest::{Api, Client, Credentials, Flow, TokenSource};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let alvys = Client::new(tokens, Api::production())?;
/// let load: serde_json::Value = alvys.get("loads/4711").send().await?.error_for_status()?.json().await?;
/// # Ok(())
/// # }
/// ```
pub type Client = alvys_auth_driver::Client<Calls>;

/// Settings of a [`Client`]; from [`Client::builder`](alvys_auth_driver::Client::builder).
pub type ClientBuilder = alvys_auth_driver::ClientBuilder<Calls>;

/// One call on its way; from [`Client::get`](alvys_auth_driver::Client::get) and its like.
pub type RequestBuilder = alvys_auth_driver::RequestBuilder<Calls>;
