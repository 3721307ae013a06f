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
#[cfg(feature = "tls")]
pub use causes::{in_words, plain};
pub use client::{Client, ClientBuilder, RequestBuilder, Transport};
pub use clock::{Bell, Clock, ManualClock, Time};
pub use engine::{Action, Engine, Flight, Question, Task, Watch};
pub use network::{Proxies, Proxy, Refusals, Scheme, Way};
#[cfg(feature = "tls")]
pub use network::{Trust, Trusted};
pub use pace::{Pace, Turn};
pub use sharing::{AsyncSharing, BlockingSharing, Shared, SharedFuture, Waits};
pub use source::{AsyncTokens, BlockingTokens, FixedTokens, MayBeShared, TokenFuture, Tokens};
pub use tenants::{Making, OfTenant, Renewing, Search, TenantDriver, Tenants, Worker};

/// How long a refusal is read before what has arrived must do: its head tells most, and its sender may have fallen silent.
pub const LOOK_TIME: Duration = Duration::from_secs(2);
