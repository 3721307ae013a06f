//! What the proxy knows of the tokens of each tenant. It counts them, remembers them for the status page, and logs a
//! warning when somebody must act.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use alvys_auth_core::{Error, Status, Timestamp, Token};
use alvys_auth_driver::Time;
use tracing::warn;

use crate::accounts::Tokens;
use crate::known::{Failure, Known, Seen};
use crate::metrics::count;
use crate::watch::{NOTICES, Subject, Watch, lock};

/// Two ends that differ by more than this belong to two different pauses, or to two different tokens.
const ANOTHER: Duration = Duration::from_millis(100);

/// A tenant and the state of its tokens.
#[derive(Debug)]
pub(crate) enum State {
    Source(Status),
    /// There is no source, for this reason.
    Broken(String),
}

impl Watch {
    /// Notes that `source` gave a token.
    pub(crate) fn has_token(&self, subject: &Subject, source: &Tokens, token: &Token) {
        let obtained_at = token.obtained_at().unwrap_or_else(|| token.expires_at());
        let fresh = Seen { obtained_at, expires_at: token.expires_at(), rejected: false };
        let mut all = lock(&self.known);
        let known = all.get_or_insert_mut(subject.tenant.clone(), Known::default);
        known.source = Some(source.clone());
        let why = match &mut known.seen {
            // This call took its token before the last one seen was there, and is reported later.
            Some(last) if obtained_at <= last.obtained_at => return,
            Some(last) if last.rejected => "rejected",
            Some(_) => "renewed",
            None => "first",
        };
        known.seen = Some(fresh);
        known.failure = None;
        known.counted = None;
        drop(all);
        count(&self.metrics.tokens, "reason", why);
        let left = token.expires_in(Time::boot().now()).as_secs();
        self.remember(Some(subject), format!("has another access token ({why}), good for {left} s"));
    }

    /// Notes that the API refused a tenant's token, and that another token is worth trying. A call that was refused
    /// with an older token says nothing about a newer one that is in use now.
    pub(crate) fn rejected(&self, subject: &Subject, token: &Token) {
        if let Some(Known { seen: Some(seen), .. }) = lock(&self.known).get_mut(&subject.tenant)
            && token.obtained_at().is_none_or(|obtained_at| obtained_at >= seen.obtained_at)
        {
            seen.rejected = true;
        }
    }

    /// Notes that a request for a token failed. `source` is none when the tenant has no token source.
    pub(crate) fn no_token(&self, subject: &Subject, source: Option<&Tokens>, error: &Error) {
        let (reason, what) = (error.kind().as_str(), format!("{error:#}"));
        let paused_for = source.and_then(|source| source.status().paused_for).unwrap_or_default();
        let mut all = lock(&self.known);
        let known = all.get_or_insert_mut(subject.tenant.clone(), Known::default);
        known.source = source.cloned();
        known.counted = Some((what.clone(), Time::boot().now().saturating_add(paused_for)));
        let last = known.failure.replace(Failure { reason, what: what.clone() });
        drop(all);
        count(&self.metrics.token_failures, "kind", reason);
        // Repeated checks with the same failure are left out, because they would push all other decisions out of the
        // list.
        if !subject.is_check() || last.as_ref().is_none_or(|last| last.what != what) {
            self.remember(Some(subject), format!("no access token: {what}"));
        }
        if !error.is_retryable() && last.is_none_or(|last| last.reason != reason) {
            let tenant = subject.tenant.as_deref().map(|tenant| format!(" for {tenant}")).unwrap_or_default();
            warn!(target: NOTICES, "no access token{tenant}: {error:#}");
        }
    }

    /// Looks for what happened in the background: tokens that were renewed, and renewals that failed.
    pub(crate) fn look(&self) {
        let sources: Vec<_> = {
            let all = lock(&self.known);
            all.iter().filter_map(|(tenant, known)| Some((tenant.clone(), known.source.clone()?))).collect()
        };
        for (tenant, source) in sources {
            let subject = Subject::check(tenant, "renewal");
            let status = source.status();
            // The status is read first: asking the source for a token that is near its end counts as a use, and could
            // start a renewal.
            let renewed =
                status.expires_in.is_some_and(|left| self.is_later(&subject, Time::boot().now().saturating_add(left)));
            if renewed && let Some(token) = at_hand(&source) {
                self.has_token(&subject, &source, &token);
            }
            // Without a held token, a caller who asks for one gets the failure, and it is counted then.
            let Some(error) = status.last_error.filter(|_| status.expires_in.is_some()) else { continue };
            let until = Time::boot().now().saturating_add(status.paused_for.unwrap_or_default());
            let is_counted = lock(&self.known).peek(&subject.tenant).and_then(|known| {
                let (what, paused_until) = known.counted.as_ref()?;
                Some(
                    *what == format!("{error:#}")
                        && (status.paused_for.is_none() || until <= paused_until.saturating_add(ANOTHER)),
                )
            });
            if !is_counted.unwrap_or(false) {
                self.no_token(&subject, Some(&source), &error);
            }
        }
    }

    /// Whether a token that expires at `ends` is newer than the token that was seen last.
    fn is_later(&self, subject: &Subject, ends: Timestamp) -> bool {
        let known = lock(&self.known).peek(&subject.tenant).and_then(|known| known.seen);
        known.is_none_or(|seen| ends > seen.expires_at.saturating_add(ANOTHER))
    }

    /// Whether the tenant had a token before, so that it is likely to get another one.
    pub(crate) fn had_token(&self, tenant: &Option<Arc<str>>) -> bool {
        lock(&self.known).peek(tenant).is_some_and(|known| known.seen.is_some())
    }

    /// Forgets a tenant that does not exist, or no longer exists.
    pub(crate) fn is_unknown(&self, tenant: &Option<Arc<str>>) {
        lock(&self.known).pop(tenant);
    }

    /// The tenants that requests have named, sorted by name.
    pub(crate) fn tenants(&self) -> Vec<(Option<Arc<str>>, State)> {
        let all = lock(&self.known);
        let told = all.iter().map(|(tenant, known)| {
            let state = match (&known.source, &known.failure) {
                (Some(source), _) => State::Source(source.status()),
                (None, failure) => State::Broken(failure.as_ref().map(|last| last.what.clone()).unwrap_or_default()),
            };
            (tenant.clone(), state)
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by(|(one, _), (other, _)| one.cmp(other));
        told
    }

    /// The time until the first token that was seen in use expires. Expired tokens are left out.
    pub(crate) fn expiry(&self) -> Duration {
        let now = Time::boot().now();
        let all = lock(&self.known);
        let left = all.iter().filter_map(|(_, known)| Some(known.seen?.expires_at.saturating_duration_since(now)));
        left.filter(|left| !left.is_zero()).min().unwrap_or_default()
    }
}

/// The token that a source can give without a wait.
fn at_hand(source: &Tokens) -> Option<Token> {
    match source.token().as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(token)) => Some(token),
        _ => None,
    }
}
