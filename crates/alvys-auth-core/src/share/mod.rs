//! Sharing a token with other processes: what is done at a store, what the store answers, and what an entry holds.

mod cell;
mod entry;
mod identity;
mod operation;

pub use cell::Cell;
pub use operation::{Answer, Id, Operation, Outcome, SharedToken};
