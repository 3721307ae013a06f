#![doc = include_str!("../README.md")]

use std::time::Duration;

mod clock;
mod engine;
pub mod events;
mod limits;
mod pace;
mod tokens;

pub use clock::now;
pub use engine::{Engine, Flight};
pub use limits::{Limit, RateLimits};
pub use pace::{Pace, Turn};
pub use tokens::Tokens;

/// How long a refusal is read before what has arrived must do: its head tells most, and its sender may have fallen silent.
pub const LOOK_TIME: Duration = Duration::from_secs(2);

/// How many bytes of an answer are worth reading: one more than the longest body that is accepted, so that a longer one is
/// told as such.
pub const BODY_LIMIT: usize = 64 * 1024 + 1;
