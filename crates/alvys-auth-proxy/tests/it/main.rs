//! The proxy between clients and the sandbox, end to end.

mod door;
mod limits;
mod pages;
mod pass;
mod raw;
mod renew;
mod shutdown;
mod stage;
mod streams;
mod tenants;
