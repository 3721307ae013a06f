//! The core's notion of time: milliseconds that the driver counts.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since an origin that the driver chooses.
///
/// The core never reads a clock. Its driver passes the current time as `now`. The driver's clock must not run backwards, and
/// it should go on counting while the machine is suspended. All arithmetic saturates.
///
/// ```
/// use alvys_auth_core::Timestamp;
/// use std::time::Duration;
///
/// let start = Timestamp::from_millis(1_000);
/// let later = start.saturating_add(Duration::from_secs(2));
/// assert_eq!(later.as_millis(), 3_000);
/// assert_eq!(later.saturating_duration_since(start), Duration::from_secs(2));
/// assert_eq!(start.saturating_duration_since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Timestamp(
    /// One more than the milliseconds: an `Option` of this then takes no room of its own.
    NonZeroU64,
);

impl Timestamp {
    /// The point `millis` milliseconds after the driver's origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(millis))
    }

    /// Milliseconds since the driver's origin.
    pub const fn as_millis(self) -> u64 {
        self.0.get() - 1
    }

    /// The point `duration` later, in whole milliseconds. The latest possible point instead of an overflow.
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(duration)))
    }

    /// The point `duration` earlier, in whole milliseconds. The origin instead of an underflow.
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self::from_millis(self.as_millis().saturating_sub(whole_millis(duration)))
    }

    /// The time from `earlier` to this point. Zero when this point is not after `earlier`.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::from_millis(0)
    }
}

impl From<u64> for Timestamp {
    fn from(millis: u64) -> Self {
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for u64 {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.as_millis()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.as_millis())
    }
}

const fn whole_millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis() as u64)
}
