//! Calls of the API: where a token may go, what an answer means, and whether to send the request again.

mod api;
mod endpoint;
mod machine;
mod refusal;

pub use api::Api;
pub use endpoint::Endpoint;
pub use machine::{Call, CallOptions, Verdict};
