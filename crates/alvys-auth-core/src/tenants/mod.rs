//! Many tenants in one process: which token sources are kept, who makes them, and when their tokens are renewed.

mod plan;
mod registry;

pub use plan::{Due, Renewal, RenewalPlan};
pub use registry::{Found, Maker, Registry};
