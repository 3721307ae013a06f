//! End-to-end tests of the built command against a local Alvys. They know it as its users do: arguments, environment, two
//! streams and an exit code.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

#[path = "../common/mod.rs"]
mod common;

mod cache;
mod crowd;
mod exec;
mod failures;
mod odds;
mod profiles;
mod secrets;
mod settings;
mod support;
mod token;
