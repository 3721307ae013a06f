//! The server's clock: the wall clock of the machine plus a skew.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The last millisecond of the year 9999, which is the latest HTTP date.
const LATEST: i64 = 253_402_300_799_999;

/// A wall clock that can be moved while it runs.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    skew_ms: AtomicI64,
}

impl Clock {
    /// Milliseconds since the Unix epoch, by this clock.
    pub(crate) fn now_ms(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_ms);
        real.saturating_add(self.skew_ms.load(Ordering::Relaxed)).clamp(0, LATEST)
    }

    /// The time `ahead` from now, by this clock.
    pub(crate) fn after(&self, ahead: Duration) -> SystemTime {
        let ms = self.now_ms().saturating_add(whole_ms(ahead)).clamp(0, LATEST);
        UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs())
    }

    /// The time `ahead` from now, as in a `Date` or `Retry-After` header.
    pub(crate) fn http_date(&self, ahead: Duration) -> String {
        httpdate::fmt_http_date(self.after(ahead))
    }

    /// The time `ahead` from now in whole seconds since the Unix epoch, rounded up.
    pub(crate) fn unix_seconds(&self, ahead: Duration) -> i64 {
        self.now_ms().saturating_add(whole_ms(ahead)).saturating_add(999) / 1000
    }

    /// Sets the clock `seconds` ahead of the machine's clock, or behind it when negative.
    pub(crate) fn set_skew(&self, seconds: i64) {
        self.skew_ms.store(seconds.saturating_mul(1000), Ordering::Relaxed);
    }
}

/// A duration in whole milliseconds, at most `i64::MAX`.
pub(crate) fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
