//! Requests with a wrong key: slowed down, and logged.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::watch::{NOTICES, lock};

/// The time between two answers to wrong keys, whoever sent them.
const PACE: Duration = Duration::from_millis(100);
/// How long such an answer may wait for its turn. A request whose answer would wait longer gets none.
const LONGEST: Duration = Duration::from_secs(10);
/// How often wrong keys are logged.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The requests with a wrong key. One with the right key never waits for them.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<Guessed>);

/// A request gets no answer. Its connection is closed, or on HTTP/2 its stream, because other calls may go on there.
#[derive(Debug)]
pub(crate) struct TooManyGuesses;

impl fmt::Display for TooManyGuesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many wrong keys")
    }
}

impl std::error::Error for TooManyGuesses {}

#[derive(Debug, Default)]
struct Guessed {
    /// The latest turn that an answer was given.
    last: Option<Instant>,
    untold: u64,
    told: Option<Instant>,
}

impl Guesses {
    /// Waits for the turn of one more answer to a wrong key.
    ///
    /// # Errors
    /// [`TooManyGuesses`] when too many answers wait already. The error comes only after [`LONGEST`], so that it does
    /// not let an attacker guess faster.
    pub(crate) async fn slow(&self) -> Result<(), TooManyGuesses> {
        let turn = lock(&self.0).turn(Instant::now());
        self.tell();
        tokio::time::sleep_until(turn.unwrap_or_else(|| Instant::now() + LONGEST)).await;
        turn.map(drop).ok_or(TooManyGuesses)
    }

    /// Logs how many wrong keys came since the last such message, if that is long enough ago.
    pub(crate) fn tell(&self) {
        if let Some(many) = lock(&self.0).due(Instant::now()) {
            let requests = if many == 1 { "a request".to_owned() } else { format!("{many} requests") };
            warn!(target: NOTICES, "{requests} with a wrong key came; somebody may be guessing it");
        }
    }
}

impl Guessed {
    fn turn(&mut self, now: Instant) -> Option<Instant> {
        self.untold += 1;
        let turn = self.last.unwrap_or(now).max(now) + PACE;
        (turn <= now + LONGEST).then(|| *self.last.insert(turn))
    }

    fn due(&mut self, now: Instant) -> Option<u64> {
        let rested = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        (self.untold > 0 && rested).then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.untold)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_keys_a_second_are_answered_and_the_queue_is_bounded() {
        let (mut guessed, now) = (Guessed::default(), Instant::now());
        let turns: Vec<_> = std::iter::from_fn(|| guessed.turn(now)).collect();
        assert_eq!(turns.len(), 100, "more would wait for longer than 10 s");
        assert!(turns.iter().zip(1..).all(|(turn, n)| *turn == now + n * PACE));
        assert_eq!(guessed.turn(now + 2 * PACE), Some(now + LONGEST + PACE));
        assert_eq!(guessed.turn(now + 2 * LONGEST), Some(now + 2 * LONGEST + PACE), "each of them waits");
    }

    #[test]
    fn wrong_keys_are_told_of_at_once_and_then_once_a_minute() {
        let (mut guessed, now) = (Guessed::default(), Instant::now());
        assert_eq!(guessed.due(now), None);
        let mut come = |many: usize, at: Instant| {
            let _turns: Vec<_> = (0..many).map(|_| guessed.turn(at)).collect();
            guessed.due(at)
        };
        assert_eq!(come(1, now), Some(1));
        assert_eq!(come(1000, now + TELL_EVERY / 2), None);
        assert_eq!(come(1, now + TELL_EVERY), Some(1001));
    }
}
