//! What must follow once the server and the provider are well again.

use super::*;

/// How soon a caller who waits must have a token, whatever has gone wrong in passing.
const SOON: Duration = Duration::from_secs(5);
/// How often callers come who are told of a failure at once.
const CALLERS: Duration = Duration::from_millis(500);

impl World {
    /// Lets the server and the provider be well from now on, while callers keep coming. The drivers of what is on its way
    /// are gone without a word.
    pub(crate) fn recover(&mut self) {
        self.open.clear();
        self.provider_answers();
        // What the server refused, it accepts once the provider has the right credentials.
        let mended = self.stored.is_some() && self.failure.is_some_and(|failure| failure.is_mendable());
        if mended {
            self.store(Stored::Secret);
        }
        let lease_ends = self.live.map_or(self.now, |live| live.lease_ends).max(self.now);
        let pause_ends = self.failure.map_or(self.now, |failure| {
            let passes = failure.retryable && !failure.costly;
            let asked_for = if mended { self.now } else { self.word };
            let longest = self.rules.longest_cool_down;
            if mended || passes {
                asked_for
            } else if failure.kind == ErrorKind::WrongOrganization {
                failure.asked.saturating_add(longest).max(failure.soon.1).saturating_add(longest)
            } else {
                failure.soon.1
            }
        });
        let deadline = lease_ends.max(pause_ends.saturating_add(SOON.max(self.rules.waiting))).saturating_add(CALLERS);
        let mut requests = 0;
        while self.now <= deadline {
            match self.lifecycle.poll(self.now) {
                Step::Use(_) => return,
                Step::Wait(wait) => self.now = wait.until(),
                Step::Fail(_) => self.now = self.now.saturating_add(CALLERS),
                Step::Fetch(mut attempt) => loop {
                    attempt = match self.lifecycle.next(attempt, self.now) {
                        Next::Ask(attempt, known) => attempt.provided(Some(self.reads(known))),
                        Next::Send(attempt) => {
                            requests += 1;
                            let response = self.granted(3600, "va336");
                            attempt.answered(&response)
                        }
                        Next::Over(_) => break,
                        other => panic!("{other:?}"),
                    }
                },
            }
            assert!(requests <= 1, "more than one request of a server that is well");
        }
        panic!("no token at {:?} although all has been well for long: {:?}", self.now, self.lifecycle);
    }

    fn reads(&self, known: Option<Mark>) -> Result<Given<Credentials>, Error> {
        let (credentials, mark) = self.stored.clone().expect("a provider");
        Given::unless(known, Mark::new(mark), || Ok(credentials))
    }
}
