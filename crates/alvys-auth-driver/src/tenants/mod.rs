//! Many tenants, each with a token source of its own.

mod making;
mod members;
mod place;
mod renewal;
mod sources;

pub use making::{Making, Search};
pub use renewal::{Renewing, Worker};
pub use sources::{OfTenant, TenantDriver, Tenants};
