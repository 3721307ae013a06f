//! How connections are made: which proxy they go through, and which certificates are trusted.

mod exceptions;
mod proxies;
mod proxy;
mod refusals;
#[cfg(feature = "tls")]
mod trust;

pub use proxies::{Proxies, Way};
pub use proxy::{Proxy, Scheme};
pub use refusals::Refusals;
#[cfg(feature = "tls")]
pub use trust::{Trust, Trusted};
