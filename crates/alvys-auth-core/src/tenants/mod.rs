//! Many tenants in one process: whose source is kept, who makes one, and whose token is renewed when.

mod plan;
mod registry;

pub use plan::{Due, Renewal, RenewalPlan};
pub use registry::{Found, Maker, Registry};
