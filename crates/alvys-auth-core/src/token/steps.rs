//! What a lifecycle decides about an attempt, step by step: when the provider is asked, what is sent, and what the
//! result changes.

use std::time::Duration;

use crate::token::attempt::{Attempt, Change, Next, Purpose, Stage};
use crate::token::lifecycle::{LOOK_EVERY, Provider, is_mendable};
use crate::{Credentials, Error, ErrorKind, Given, Lifecycle, Timestamp, TokenResponse};

impl Lifecycle {
    /// Takes in the result of the attempt's last step, and says what to do next.
    ///
    /// All rules about providers are here. Only the attempt that everybody waits for may install credentials. The
    /// provider is asked before each request whether it has other credentials than those in use, and once more when the
    /// server refuses them. When the provider gives other credentials, the held token stays in use until the new
    /// credentials have brought another one. A provider that has not answered yet is not asked again.
    pub fn next(&mut self, attempt: Attempt, now: Timestamp) -> Next {
        let mut next = self.step(attempt, now);
        self.tell_of_store(&mut next);
        next
    }

    fn step(&mut self, mut attempt: Attempt, now: Timestamp) -> Next {
        match attempt.stage {
            Stage::Begun => self.ask(attempt, None, now),
            Stage::Provided(given, refusal) => {
                attempt.stage = Stage::Begun;
                if let (Some(_), Some(provider)) = (&given, &mut self.provider) {
                    provider.asked_by.take_if(|asked_by| *asked_by == attempt.id);
                }
                self.take_over(attempt, given, refusal, now)
            }
            Stage::Answered(result) => {
                attempt.stage = Stage::Begun;
                match result {
                    Err(error) if attempt.purpose == Purpose::Token && is_mendable(&error) => {
                        self.refused(attempt, error, now)
                    }
                    result => self.finished(attempt, result, now),
                }
            }
            Stage::Stored(asked, asked_at, answer) => {
                attempt.stage = Stage::Begun;
                self.stored(attempt, (asked, asked_at), *answer, now)
            }
            Stage::Waiting(asked, until) => self.waited(attempt, asked, until, now),
            // The result of the step is unknown, so the step is not repeated.
            Stage::Abandoned | Stage::Asking(_) | Stage::Sending | Stage::AtStore(..) => {
                let change = self.given_up(&attempt, Change::Abandoned);
                Next::Over(attempt.store.end(change))
            }
        }
    }

    /// Notes that the provider has answered, however late, so that it may be asked again.
    pub fn provider_answered(&mut self) {
        if let Some(provider) = &mut self.provider {
            provider.asked_by = None;
        }
    }

    /// Restarts the lease of the attempt that everybody waits for, plus `more`. After `hedge_after`, a second request
    /// may join the attempt's own request.
    pub(super) fn keep_lease(&mut self, more: Duration, hedge_after: Duration, now: Timestamp) {
        if let Some(current) = &mut self.in_flight {
            current.lease_ends = now.saturating_add(self.policy.lease()).saturating_add(more);
            current.hedge_at = current.hedge_at.map(|_| now.saturating_add(hedge_after));
        }
    }

    /// Lets the driver ask the provider, if there is one and no question to it is open. `refusal` is the refusal
    /// because of which it is asked, if there was one.
    pub(super) fn ask(&mut self, mut attempt: Attempt, refusal: Option<Error>, now: Timestamp) -> Next {
        let Some(Provider { known, time_limit, asked_by: None, asked_at }) = self.provider else {
            return self.take_over(attempt, None, refusal, now);
        };
        // The first attempt already has the credentials that the provider gave a moment ago.
        let is_new = |given_at| attempt.id == 1 && now.saturating_duration_since(given_at) < LOOK_EVERY;
        if refusal.is_none() && asked_at.is_some_and(is_new) || !self.is_current(&attempt) {
            return self.take_over(attempt, None, refusal, now);
        }
        let known = known.filter(|_| refusal.is_none() && attempt.purpose != Purpose::Retry);
        self.keep_lease(time_limit, Duration::MAX, now);
        if let Some(provider) = &mut self.provider {
            (provider.asked_by, provider.asked_at) = (Some(attempt.id), Some(now));
        }
        attempt.stage = Stage::Asking(refusal);
        Next::Ask(attempt, known)
    }

    /// Goes on with the provider's answer; `given` is none when the provider was not asked or has not answered in time.
    fn take_over(
        &mut self,
        mut attempt: Attempt,
        given: Option<Result<Given<Credentials>, Error>>,
        refusal: Option<Error>,
        now: Timestamp,
    ) -> Next {
        // Another attempt may have taken over while the provider was slow, or while the driver was suspended.
        if !self.is_current(&attempt) {
            return match refusal {
                Some(error) => self.finished(attempt, Err(error), now),
                None => Next::Over(Change::Superseded),
            };
        }
        let is_known = matches!(given, Some(Ok(_)));
        match given.map(|given| self.install(given)) {
            Some(Ok(true)) => return self.replace(attempt, refusal.is_some(), now),
            None | Some(Ok(false)) => {}
            Some(Err(error)) if error.kind() == ErrorKind::UnknownTenant => {
                self.invalidate();
                return Next::Over(self.ended(&attempt, Err(error), now));
            }
            Some(Err(error)) if attempt.purpose == Purpose::Look => {
                return Next::Over(self.given_up(&attempt, Change::ProviderFailed(error)));
            }
            Some(Err(error)) => attempt.news.push(Change::ProviderFailed(error)),
        }
        match (refusal, attempt.purpose) {
            (Some(refusal), _) => self.finished(attempt, Err(refusal), now),
            (None, Purpose::Look | Purpose::Retry) if is_known && self.is_unknown_tenant() => self.send(attempt, now),
            (None, Purpose::Look) => Next::Over(self.given_up(&attempt, Change::Unchanged)),
            (None, Purpose::Retry) if self.is_futile(now) => Next::Over(self.spared(&attempt, now)),
            (None, _) => self.send(attempt, now),
        }
    }

    /// Takes the provider's credentials into use, and returns whether they are others than before.
    fn install(&mut self, given: Result<Given<Credentials>, Error>) -> Result<bool, Error> {
        let Given::These(credentials, mark) = given? else { return Ok(false) };
        let changed = self.replace_credentials(credentials)?;
        if let Some(provider) = &mut self.provider {
            provider.known = Some(mark);
        }
        Ok(changed)
    }

    /// Restarts the attempt with the credentials that were installed. Results of requests with the old credentials no
    /// longer count.
    fn replace(&mut self, attempt: Attempt, refused: bool, now: Timestamp) -> Next {
        let routine = attempt.purpose == Purpose::Token && !refused;
        let purpose = if routine { Purpose::Token } else { Purpose::Replaced };
        let mut attempt = self.start(purpose, now);
        attempt.news.push(Change::CredentialsChanged);
        self.send(attempt, now)
    }

    /// Lets the request be sent. Where the token is shared, the store is asked first.
    pub(super) fn send(&mut self, attempt: Attempt, now: Timestamp) -> Next {
        if self.is_shared(&attempt, now) { self.claim(attempt, now) } else { self.dispatch(attempt, now) }
    }

    pub(super) fn dispatch(&mut self, mut attempt: Attempt, now: Timestamp) -> Next {
        // The server has asked another attempt, whose request was still open, to wait.
        if self.failure.as_ref().is_some_and(|failure| now < failure.soon && failure.error.is_retryable()) {
            let change = self.given_up(&attempt, Change::Superseded);
            return self.report(attempt, change, now);
        }
        if self.sharing.is_some() {
            // The attempt may have waited for other processes, and the lifetime of its token counts from now.
            attempt.started = now;
        }
        self.keep_lease(Duration::ZERO, self.policy.hedge_after, now);
        attempt.stage = Stage::Sending;
        Next::Send(attempt)
    }

    /// Takes in the result of an attempt, and reports it to the store.
    fn finished(&mut self, attempt: Attempt, result: Result<TokenResponse, Error>, now: Timestamp) -> Next {
        let change = self.ended(&attempt, result, now);
        if self.sharing.is_some() { self.report(attempt, change, now) } else { Next::Over(change) }
    }

    /// Takes in the result of an attempt.
    fn ended(&mut self, attempt: &Attempt, result: Result<TokenResponse, Error>, now: Timestamp) -> Change {
        if attempt.id < self.oldest {
            return Change::Superseded;
        }
        let current = self.is_current(attempt);
        if current {
            self.in_flight = None;
        }
        match result.and_then(|response| self.token(response, Some(attempt.started), now)) {
            Ok(token) => self.arrived(token, current, now),
            Err(error) => self.failed(error, attempt.started, current, now),
        }
    }

    /// Ends an attempt that has no result.
    pub(super) fn given_up(&mut self, attempt: &Attempt, change: Change) -> Change {
        if !self.is_current(attempt) {
            return Change::Superseded;
        }
        self.in_flight = None;
        change
    }

    /// Whether the provider said last that there is no such tenant.
    fn is_unknown_tenant(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.error.kind() == ErrorKind::UnknownTenant)
    }

    /// Whether a request would be useless: the tenant does not exist, or the same credentials would get another token
    /// of the wrong organization, which costs money.
    fn is_futile(&self, now: Timestamp) -> bool {
        let (_, longest) = self.policy.cool_down;
        self.is_unknown_tenant()
            || self.failure.as_ref().is_some_and(|failure| {
                failure.error.kind() == ErrorKind::WrongOrganization && now < failure.asked.saturating_add(longest)
            })
    }

    /// Reports the last failure again, and sends no request.
    fn spared(&mut self, attempt: &Attempt, now: Timestamp) -> Change {
        self.in_flight = None;
        match self.failure.clone() {
            Some(failure) => self.failed(failure.error.clone(), failure.asked, true, now),
            None => self.given_up(attempt, Change::Abandoned),
        }
    }
}
