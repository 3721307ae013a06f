//! Tokens: asking for one, reading the answer, keeping it and renewing it.

mod access_token;
mod attempt;
mod claims;
mod diagnosis;
mod lifecycle;
mod policy;
mod request;
mod response;
mod sharing;
mod snapshot;
mod steps;

pub use access_token::Token;
pub use attempt::{Attempt, Change, Next, Step, Wait};
pub use claims::UnverifiedClaims;
pub use lifecycle::Lifecycle;
pub use policy::Policy;
pub use request::TokenRequest;
pub(crate) use request::{Head, Tail};
pub use response::TokenResponse;
pub use snapshot::{Snapshot, Status};
