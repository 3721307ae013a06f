//! The clock of the drivers: it never runs backwards, does not follow the wall clock and, where the system has such a
//! clock, goes on counting while the machine sleeps.

use alvys_auth_core::Timestamp;

/// The time now, in milliseconds since an origin that stays the same for the life of the process.
///
/// Linux and Android count from boot including suspend (`CLOCK_BOOTTIME`), Apple's systems likewise (`CLOCK_MONOTONIC`);
/// elsewhere this is [`std::time::Instant`], which on some systems stops in suspend.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[must_use]
pub fn now() -> Timestamp {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(target_vendor = "apple")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

    let time = rustix::time::clock_gettime(CLOCK);
    Timestamp::from_millis(time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
}

/// The time now, in milliseconds since the first call.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
#[must_use]
pub fn now() -> Timestamp {
    use std::sync::OnceLock;
    use std::time::Instant;

    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    Timestamp::default().saturating_add(ORIGIN.get_or_init(Instant::now).elapsed())
}
