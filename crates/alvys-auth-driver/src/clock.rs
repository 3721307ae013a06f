//! The clock of the drivers, which can be replaced by one that is moved by hand.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use alvys_auth_core::Timestamp;
use event_listener::Event;

/// A clock that never runs backwards.
///
/// Drivers use [`Time::boot`] unless they are given another clock. Tests give a [`ManualClock`], so that nothing has to
/// sleep.
pub trait Clock: Send + Sync {
    /// The time now, in milliseconds since an origin that stays the same for the life of the process.
    fn now(&self) -> Timestamp;

    /// Asks the clock to notify `event` whenever it was moved. Only a clock that is moved by hand has to do that: for a
    /// real clock, waiting callers use the system's timers.
    ///
    /// Returns whether the clock does that, so that no timer is needed.
    fn watch(&self, event: &Arc<Event>) -> bool {
        let _ = event;
        false
    }
}

/// The clock that a driver was given; by default [the system's](Time::boot). Cheap to clone.
#[derive(Clone, Default)]
pub struct Time(Option<Arc<dyn Clock>>);

impl Time {
    /// The system's clock: it does not follow the wall clock and, where the system has such a clock, goes on counting while
    /// the machine sleeps.
    ///
    /// Linux and Android count from boot including suspend (`CLOCK_BOOTTIME`), Apple's systems likewise (`CLOCK_MONOTONIC`);
    /// elsewhere this is [`std::time::Instant`], which on some systems stops in suspend.
    pub fn boot() -> Self {
        Self(None)
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => boot_time(),
            Some(clock) => clock.now(),
        }
    }

    /// Makes a place to wait at. It rings when the clock was moved by hand, and when somebody changes what is waited
    /// for there.
    pub fn bell(&self) -> Bell {
        let event = Arc::new(Event::new());
        let moved_by_hand = self.0.as_ref().is_some_and(|clock| clock.watch(&event));
        Bell { event, moved_by_hand }
    }
}

impl<C: Clock + 'static> From<Arc<C>> for Time {
    fn from(clock: Arc<C>) -> Self {
        Self(Some(clock))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Time(given)" } else { "Time(boot)" })
    }
}

/// Where tasks and threads wait for a change or for a time; from [`Time::bell`].
#[derive(Debug, Clone)]
pub struct Bell {
    event: Arc<Event>,
    moved_by_hand: bool,
}

impl Bell {
    /// Begins to listen. Do this before you look at the state that may change, so that no change between the two is
    /// missed.
    pub fn listen(&self) -> event_listener::EventListener {
        self.event.listen()
    }

    /// Wakes everybody who listens.
    pub fn ring(&self) {
        self.event.notify(usize::MAX);
    }

    /// Wakes one listener.
    pub(crate) fn ring_once(&self) {
        self.event.notify_additional(1);
    }

    /// How long to wait at most by the system's timers, when `left` is left on this clock.
    ///
    /// A clock that is moved by hand rings the bell when it is moved, so the system's timers do not matter for it.
    pub fn timer(&self, left: Duration) -> Duration {
        if self.moved_by_hand && !left.is_zero() { Duration::from_secs(3600) } else { left }
    }
}

/// A clock that stands still until it is moved by hand: for tests.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use alvys_auth_driver::{Clock, ManualClock, Time};
///
/// let clock = Arc::new(ManualClock::new());
/// let time = Time::from(Arc::clone(&clock));
/// let start = time.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(time.now().saturating_duration_since(start), Duration::from_secs(3600));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    millis: AtomicU64,
    watching: Mutex<Vec<Weak<Event>>>,
}

impl ManualClock {
    /// A clock that shows a day after its origin, so that something can be older than the test.
    pub fn new() -> Self {
        Self { millis: AtomicU64::new(24 * 60 * 60 * 1000), watching: Mutex::default() }
    }

    /// Moves the clock on, and wakes everybody who waits for a time.
    pub fn advance(&self, by: Duration) {
        self.millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        watching.retain(|event| {
            let Some(event) = event.upgrade() else { return false };
            event.notify(usize::MAX);
            true
        });
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn watch(&self, event: &Arc<Event>) -> bool {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(event));
        true
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn boot_time() -> Timestamp {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(target_vendor = "apple")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

    let time = rustix::time::clock_gettime(CLOCK);
    Timestamp::from_millis(time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
}

/// Milliseconds since the first call.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn boot_time() -> Timestamp {
    use std::sync::OnceLock;
    use std::time::Instant;

    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    Timestamp::default().saturating_add(ORIGIN.get_or_init(Instant::now).elapsed())
}
