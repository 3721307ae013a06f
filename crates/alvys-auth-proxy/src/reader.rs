//! How long bytes may wait for a client that does not read them.

use std::time::Duration;

use tokio::time::Instant;

/// How many bytes a second a client must take while bytes wait for it.
const LEAST: u64 = 1024;

/// The patience with one reader. It shrinks while bytes wait for the client, and each byte that the client takes gives
/// some of it back. It does not change while there is nothing to read.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    waiting_since: Option<Instant>,
    used: Duration,
}

impl Reader {
    /// Notes that bytes wait for the client.
    pub(crate) fn waits(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// Notes that the client has taken bytes, and that none wait for it now.
    pub(crate) fn took(&mut self, bytes: usize, now: Instant) {
        self.used = self.used(now).saturating_sub(Duration::from_millis(bytes as u64 * 1000 / LEAST));
        self.waiting_since = None;
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting_since.is_some()
    }

    /// How much patience is used up.
    pub(crate) fn used(&self, now: Instant) -> Duration {
        self.used + self.waiting_since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_who_takes_nothing_or_too_little_and_never_while_nothing_waits() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut reader = Reader::default();
        assert_eq!(reader.used(start + 3600 * second), Duration::ZERO);
        reader.waits(start);
        reader.waits(start + second);
        assert_eq!(reader.used(start + 30 * second), 30 * second);
        reader.took(10 * 1024, start + 30 * second);
        assert_eq!(reader.used(start + 3600 * second), 20 * second, "it waits for nothing now");
        reader.took(1024 * 1024, start + 30 * second);
        assert_eq!(reader.used(start), Duration::ZERO);
        let mut dripping = Reader::default();
        for n in 0..40 {
            dripping.waits(start + n * second);
            dripping.took(1, start + (n + 1) * second);
        }
        assert!(dripping.used(start) > 35 * second, "a byte a second is too little");
    }
}
