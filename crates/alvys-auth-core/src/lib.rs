#![doc = include_str!("../README.md")]

mod claims;
mod credentials;
mod diagnosis;
mod error;
mod flow;
mod lifecycle;
mod policy;
mod request;
mod response;
mod retry_after;
mod scope;
mod snapshot;
mod step;
mod time;
mod token;
mod url;
mod words;

pub use claims::UnverifiedClaims;
pub use credentials::Credentials;
pub use error::{Error, ErrorKind};
pub use flow::{Encoding, Environment, Flow, LegacyPath};
pub use lifecycle::Lifecycle;
pub use policy::Policy;
pub use request::TokenRequest;
pub use response::Grant;
pub use scope::{Scope, Scopes};
pub use snapshot::{Snapshot, Status};
pub use step::{Attempt, Completion, Outcome, Step, Wait};
pub use time::Timestamp;
pub use token::Token;
