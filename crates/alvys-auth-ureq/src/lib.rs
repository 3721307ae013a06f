#![doc = include_str!("../README.md")]

mod caller;
mod client;
#[cfg(feature = "middleware")]
mod middleware;
mod network;
mod source;
mod tenants;
mod transport;

pub use alvys_auth_core::{
    Api, CallOptions, Change, Credentials, Encoding, Environment, Error, ErrorKind, Flow, LegacyPath, Limit, Policy,
    RateLimits, Scope, Scopes, Status, Token, TokenResponse, UnverifiedClaims,
};
pub use alvys_auth_core::{CredentialsProvider, TenantProvider};
pub use alvys_auth_driver::{BlockingTokens, Engine, Pace, Proxies, Trust};
pub use client::{Calls, Outgoing, Payload};
#[cfg(feature = "middleware")]
pub use middleware::Authorize;
pub use network::Http;
pub use source::{Builder, TokenSource, Ureq};
pub use tenants::{Tenants, TenantsBuilder};
pub use transport::explain;
// What appears in signatures here, under the very names it has there.
pub use {alvys_auth_core, alvys_auth_driver, ureq, ureq::http};

/// Calls the Alvys API: authorized, renewed and repeated where that is safe. What the API answers arrives as an
/// [`http::Response`]; [`Calls`] tells of the time limits and of an agent of your own.
///
/// ```no_run
/// use alvys_auth_ureq::{Api, Client, Credentials, Flow, TokenSource};
///
/// let tokens = TokenSource::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let alvys = Client::new(tokens, Api::production())?;
/// let mut answer = alvys.get("loads/4711").send()?;
/// if !answer.status().is_success() {
///     return Err(format!("Alvys answered {}", answer.status()).into());
/// }
/// let load: serde_json::Value = answer.body_mut().read_json()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Client = alvys_auth_driver::Client<Calls>;

/// Settings of a [`Client`]; from [`Client::builder`](alvys_auth_driver::Client::builder).
pub type ClientBuilder = alvys_auth_driver::ClientBuilder<Calls>;

/// One call on its way; from [`Client::get`](alvys_auth_driver::Client::get) and its like.
pub type RequestBuilder = alvys_auth_driver::RequestBuilder<Calls>;
