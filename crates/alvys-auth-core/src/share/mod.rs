//! Sharing a token with other processes: the operations at a store, the store's answers, and the content of an entry.

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

/// How long one operation at the store may take.
pub const STORE_TIME: Duration = Duration::from_secs(5);
