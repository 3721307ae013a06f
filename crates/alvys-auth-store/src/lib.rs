#![doc = include_str!("../README.md")]

mod file;
#[doc(hidden)]
pub mod files;
mod key;
pub mod kit;
mod memory;
mod sealed;
mod store;

pub use file::FileStore;
pub use key::{Key, Name};
pub use memory::MemoryStore;
pub use sealed::{Fallback, Sealed};
pub use store::{AsyncStore, BlockingStore, SealedAnswer, SealedOperation, StoreFuture};
