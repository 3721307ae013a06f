//! The drivers against servers of the tests' own. They are one program, because most of them wait for something, and so they wait
//! side by side. What needs a process of its own is beside it.

#[path = "calls/main.rs"]
mod calls;
mod conformance;
mod connections;
mod early;
mod interruptions;
mod outgoing;
mod rotation;
mod tenants;
mod tenants_async;
mod tenants_credentials;
mod tenants_renewal;
mod transport;
mod unanswered;
