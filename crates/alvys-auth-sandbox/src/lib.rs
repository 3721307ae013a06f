#![doc = include_str!("../README.md")]

mod action;
mod api;
mod application;
mod call;
mod clock;
mod documents;
mod fault;
mod fields;
mod gate;
mod issuer;
mod legacy;
mod limits;
mod log;
mod mcp;
mod reply;
mod route;
mod sandbox;
mod serve;
mod server;
mod signing;
mod token_endpoint;
mod wire;

pub use application::{Application, DEFAULT_AUDIENCE, DEFAULT_SCOPES};
pub use fault::Fault;
pub use limits::RateLimits;
pub use log::Received;
pub use route::Route;
pub use sandbox::Sandbox;
