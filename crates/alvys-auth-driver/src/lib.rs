#![doc = include_str!("../README.md")]

mod clock;
mod engine;
mod events;

pub use clock::now;
pub use engine::{Engine, Flight};
