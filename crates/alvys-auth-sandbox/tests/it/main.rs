//! What the sandbox promises, seen through its public API and over HTTP.

#![allow(clippy::unwrap_used, reason = "in a test and its helpers a failed unwrap is a failed test")]

mod api;
mod clock;
mod current_flow;
mod documents;
mod faults;
mod http2;
mod legacy_flow;
mod lifecycle;
mod limits;
mod log;
mod mcp;
mod support;
