//! The proxy between clients and the sandbox, end to end.

#![allow(clippy::unwrap_used, reason = "the lint's exception for tests leaves their helpers out")]

mod door;
mod fair;
mod limits;
mod pages;
mod pass;
mod raw;
mod renew;
mod shutdown;
mod sockets;
mod stage;
mod streams;
mod tenants;
