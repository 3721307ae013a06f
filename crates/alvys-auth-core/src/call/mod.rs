//! Calls of the API: where a token may go, when a call may go, what an answer means, and whether to send the request again.

mod api;
mod endpoint;
mod limits;
mod machine;
mod options;
mod pace;
mod proxy;
mod refusal;

pub use api::Api;
pub use endpoint::Endpoint;
pub use limits::{Limit, RateLimits};
pub use machine::{Call, CallStep};
pub use options::CallOptions;
pub use pace::{Hold, Limiter, Ticket};
pub use proxy::ProxyRefusals;
pub use refusal::Verdict;
