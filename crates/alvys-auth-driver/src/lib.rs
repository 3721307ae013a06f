#![doc = include_str!("../README.md")]

mod clock;
mod engine;
mod events;

pub use clock::now;
pub use engine::{Engine, Flight};

/// How many bytes of an answer are worth reading: one more than the longest body that is accepted, so that a longer one is
/// told as such.
pub const BODY_LIMIT: usize = 64 * 1024 + 1;
