//! End-to-end tests of the commands that call, look and explain, against a local Alvys.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic, and so may what helps it")]

#[path = "../common/mod.rs"]
mod common;

mod doctor;
mod export;
mod inspect;
mod migrate;
mod outgoing;
mod request;
mod request_output;
mod support;
