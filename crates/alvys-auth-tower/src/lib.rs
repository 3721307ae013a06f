#![doc = include_str!("../README.md")]

mod layer;
mod service;

pub use alvys_auth_core::{Api, CallOptions, Error, ErrorKind, Scope, Token};
pub use alvys_auth_driver::{AsyncTokens, Limit, Pace, RateLimits};
pub use layer::AuthorizeLayer;
pub use service::{Authorize, BoxError};
