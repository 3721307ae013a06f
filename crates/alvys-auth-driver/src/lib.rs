#![doc = include_str!("../README.md")]

use std::time::Duration;

mod builder;
mod call;
mod causes;
mod client;
mod clock;
mod engine;
mod events;
mod network;
mod pace;
mod sharing;
mod source;
mod tenants;

pub use builder::{Builder, Common, Driver, Many, One, Parts, TenantsBuilder};
pub use call::{Caller, Failure, Passage, look};
#[cfg(feature = "h2")]
pub use causes::farewell;
pub use causes::{fault, is_unanswered};
pub use client::{Client, ClientBuilder, RequestBuilder, Transport};
pub use clock::{Bell, Clock, ManualClock, Time};
pub use engine::{Action, Engine, Flight, Question, Task, Watch};
pub use network::{Proxies, Proxy, Scheme, Way};
#[cfg(feature = "tls")]
pub use network::{Trust, Trusted};
pub use pace::{Pace, Turn};
pub use sharing::{AsyncSharing, BlockingSharing, Shared, SharedFuture, Waits};
pub use source::{AsyncTokens, BlockingTokens, FixedTokens, MayBeShared, TokenFuture, Tokens};
pub use tenants::{Making, OfTenant, Renewing, Search, TenantDriver, Tenants, Worker};

/// How long a refusal is read before what has arrived must do: its head tells most, and its sender may have fallen silent.
pub const LOOK_TIME: Duration = Duration::from_secs(2);

/// How many bytes of an answer are worth reading: one more than the longest body that is accepted, so that a longer one is
/// told as such.
pub const BODY_LIMIT: usize = 64 * 1024 + 1;
