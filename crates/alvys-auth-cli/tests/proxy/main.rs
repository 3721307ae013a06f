//! End-to-end tests of the built `alvys-auth proxy` against a local Alvys: a process that is called, signalled and ended.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod doors;
mod end;
mod load;
mod outgoing;
mod refusals;
mod reload;
mod resources;
mod sharing;
mod support;
mod tenants;
