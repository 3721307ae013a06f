#![doc = include_str!("../README.md")]

mod call;
mod credentials;
mod error;
mod flow;
mod jitter;
mod provider;
mod quota;
mod retry_after;
mod scope;
pub mod share;
mod tenants;
mod time;
mod token;
mod transport;
mod url;
mod words;

pub use call::{
    Api, Call, CallOptions, CallStep, Endpoint, Hold, Limit, Limiter, ProxyRefusals, RateLimits, Ticket, Verdict,
};
pub use credentials::Credentials;
pub use error::{Error, ErrorKind};
pub use flow::{Encoding, Environment, Flow, LegacyPath};
pub use provider::{CredentialsProvider, Given, Mark, Tenant, TenantProvider};
pub use quota::Quota;
pub use scope::{Scope, Scopes};
pub use tenants::{Due, Found, Maker, Registry, Renewal, RenewalPlan};
pub use time::Timestamp;
pub use token::{
    Attempt, Change, Lifecycle, Next, Policy, Snapshot, Status, Step, Token, TokenRequest, TokenResponse,
    UnverifiedClaims, Wait,
};
pub use transport::TransportFault;
pub use words::{echoes, is_invisible};
