//! Many tenants, each with a token source of its own.

mod builder;
mod making;
mod members;
mod place;
mod renewal;
mod sources;

pub use builder::TenantsBuilder;
pub use making::{Making, Search, Stage};
pub use renewal::{Renewing, Work, Worker};
pub use sources::{OfTenant, TenantDriver, Tenants};
