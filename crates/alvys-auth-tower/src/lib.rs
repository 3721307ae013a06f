#![doc = include_str!("../README.md")]

mod layer;
mod service;

pub use alvys_auth_core::{Api, CallOptions, Error, ErrorKind, Limit, RateLimits, Scope, Token};
pub use alvys_auth_driver::{AsyncTokens, Pace};
pub use layer::AuthorizeLayer;
pub use service::{Authorize, BoxError};
