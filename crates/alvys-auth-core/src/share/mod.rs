//! Sharing a token with other processes: what is done at a store, what the store answers, and what an entry holds.

use std::time::Duration;

mod cell;
mod entry;
mod identity;
mod operation;
mod wait;

pub use cell::Cell;
pub use identity::Subject;
pub use operation::{Answer, Id, Operation, Outcome, SharedToken};
pub use wait::{claim_wait, tell_wait, told_wait};

/// How long a driver may take for an operation at the store.
pub const STORE_TIME: Duration = Duration::from_secs(5);
