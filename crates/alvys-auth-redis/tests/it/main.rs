//! The store on real servers, which the tests start and stop, and what it makes of its URL.
//!
//! The tests that need servers are ignored unless asked for; `.ci/redis` installs the servers and runs them. `redis-server` and
//! `valkey-server` are looked for on the path, or where REDIS_SERVER and VALKEY_SERVER name them. A missing one is a failure.

#![allow(clippy::unwrap_used, reason = "the lint's exception for tests leaves their helpers out")]

mod access;
mod contract;
mod cost;
mod failures;
mod fleet;
mod servers;
mod tls;
mod url;
