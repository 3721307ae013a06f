//! Fleets of processes that share a token, while they are killed and stopped, and while the store between them fails.
//!
//! The processes are this program once more, half of them with the async driver and half with the blocking one. `.ci/redis`
//! starts all of this with real servers:
//!
//! ```sh
//! cargo test -p alvys-auth-tests --features real-servers --test fleet
//! ```

#![allow(clippy::unwrap_used, reason = "the lint's exception for tests leaves their helpers out")]

mod crew;
mod fifty;
mod leaders;
mod outages;
#[path = "../../crates/alvys-auth-redis/tests/it/servers.rs"]
#[allow(dead_code, reason = "the tests of the store alone need more of it")]
mod servers;
mod topologies;
mod way;
mod worker;
