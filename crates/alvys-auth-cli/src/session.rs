//! A usable token: the one that is kept, or one request on behalf of every process that waits for it.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use alvys_auth_core::{Credentials, Flow, Policy, Token};
use alvys_auth_driver::Time;
use alvys_auth_store::files::{Lock, Try};
use alvys_auth_ureq::TokenSource;
use tracing::debug;
use zeroize::Zeroizing;

use crate::agent;
use crate::cache::{self, Held, Slot};
use crate::failure::{Class, Failure};
use crate::keys;
use crate::messages;
use crate::network::Network;
use crate::settings::Settings;
use crate::time::in_words;

/// How long one run asks for a token, pauses included.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same while a token is held that is still good: nobody should have to wait for its renewal, so not for long.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a run that waits for another one rests between two looks.
const TICK: Duration = Duration::from_millis(15);
/// How long the next runs do without a renewal after one that did not succeed.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// How long it waits for another run that asks: longer than that one may take.
const QUEUE: Duration = Duration::from_secs(17);
/// How long before its end a kept token is replaced, and how much of its lifetime that may be at the most.
const MARGIN: Duration = Duration::from_secs(300);
const PART: u32 = 5;
/// How long a refusal is repeated without asking: a loop of cron jobs gets the same answer.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// What kind of token is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// How long it must still be usable; by default as long as suits its lifetime.
    pub(crate) min_ttl: Option<Duration>,
    /// Whether a kept one does not do.
    pub(crate) force: bool,
    /// When the token that the API refused was obtained: only a later one does.
    pub(crate) instead_of: Option<SystemTime>,
}

/// One application's tokens during one run.
#[derive(Debug)]
pub(crate) struct Session {
    flow: Flow,
    credentials: Credentials,
    network: Network,
    slot: Option<Slot>,
}

impl Session {
    /// Takes the settings; asks for nothing yet.
    ///
    /// # Errors
    /// When flow and credentials make no token request.
    pub(crate) fn open(settings: Settings) -> Result<Self, Failure> {
        let Settings { credentials, setup, network, cache_dir } = settings;
        setup.flow.deprecation().into_iter().for_each(messages::warn);
        let slot = match &cache_dir {
            Some(directory) => Slot::open(directory, &setup.flow, &credentials)?,
            None => None,
        };
        agent::conceal(&credentials);
        Ok(Self { flow: setup.flow, credentials, network, slot })
    }

    /// A token that is usable for as long as wanted.
    ///
    /// # Errors
    /// Why none is to be had.
    pub(crate) fn token(&self, wanted: Wanted) -> Result<Held, Failure> {
        let started = SystemTime::now();
        let Some(slot) = &self.slot else { return wanted.checked(self.fetch(PATIENCE)?) };
        let kept = slot.read();
        if let Some(held) = &kept
            && wanted.is_served_by(held, started)
        {
            debug!(target: "alvys_auth", left_s = held.left().as_secs(), "uses the kept token");
            return wanted.checked(held.clone());
        }
        let fallback = kept.filter(|held| wanted.makes_do_with(held));
        match (self.take_turn(slot, wanted, started, fallback.as_ref()), fallback) {
            (Err(failure), Some(held)) if wanted.makes_do_with(&held) => {
                messages::warn(&format!("the token was not renewed and is used on: {}", failure.what));
                Ok(held)
            }
            (served, _) => served,
        }
    }

    /// Waits for the one process that may ask, or is it. Nobody waits for another one who has a `fallback`.
    fn take_turn(
        &self,
        slot: &Slot,
        wanted: Wanted,
        started: SystemTime,
        fallback: Option<&Held>,
    ) -> Result<Held, Failure> {
        let deadline = Instant::now() + QUEUE;
        let lock: Option<Lock> = loop {
            match (slot.try_lock(), fallback) {
                (Ok(Try::Taken(lock)), _) => break Some(lock),
                (Ok(Try::Busy), Some(held)) => {
                    debug!(target: "alvys_auth", "uses the kept token while another process renews it");
                    return Ok(held.clone());
                }
                (Ok(Try::Busy), None) if Instant::now() < deadline => {}
                (Ok(Try::Busy), None) => {
                    debug!(target: "alvys_auth", "another process holds the lock for too long: goes on without it");
                    break None;
                }
                (Err(error), _) => {
                    cache::unusable(&format!("goes on without a lock: {error}"));
                    break None;
                }
            }
            if let Some(outcome) = outcome(slot, wanted, started) {
                return outcome;
            }
            sleep(TICK);
        };
        // The process before this one may have been served meanwhile.
        if let Some(outcome) = outcome(slot, wanted, started) {
            return outcome;
        }
        let patience = sit_out_pause(slot, fallback.is_some())?;
        let fetched = self.fetch(patience);
        match &fetched {
            Ok(held) => slot.write(held),
            // Nobody was asked: the next run can find out for itself.
            Err(failure) if failure.class == Class::Configuration => {}
            Err(failure) => slot.put_pause(failure, SystemTime::now() + pause_after(failure, fallback.is_some())),
        }
        drop(lock);
        wanted.checked(fetched?)
    }

    /// Asks for a token.
    fn fetch(&self, patience: Duration) -> Result<Held, Failure> {
        let policy = Policy::new();
        // Beside the renewal of a token that is still good nobody needs a second request, which may cost another token.
        let policy = if patience > RENEWAL_PATIENCE { policy } else { policy.hedge_after(patience) };
        let tokens = TokenSource::builder(self.flow.clone(), self.credentials.clone())
            .policy(policy)
            .patience(patience)
            .http(self.network.blocking(&keys::endpoint(&self.flow)?)?.agent(agent::config()))
            .build()?;
        let token = tokens.token()?;
        if let Some(warning) = token.warning() {
            messages::warn(warning);
        }
        Ok(held(&token))
    }
}

impl Wanted {
    /// Whether a kept token is as good as a new one.
    fn is_served_by(self, held: &Held, started: SystemTime) -> bool {
        if self.instead_of.is_some_and(|refused| held.obtained_at <= refused) {
            return false;
        }
        if self.force && held.obtained_at < started {
            return false;
        }
        if self.is_beyond(held) {
            return true;
        }
        let margin = self.min_ttl.unwrap_or_else(|| MARGIN.min(held.lifetime() / PART));
        held.left() > margin
    }

    /// Whether a kept token is better than none.
    fn makes_do_with(self, held: &Held) -> bool {
        !self.force
            && self.instead_of.is_none()
            && !held.left().is_zero()
            && held.left() >= self.min_ttl.unwrap_or_default()
    }

    /// Whether no token lives as long as is wanted, as this usable one shows: asking for another one would not help.
    fn is_beyond(self, held: &Held) -> bool {
        !held.left().is_zero() && self.min_ttl.is_some_and(|min_ttl| min_ttl >= held.lifetime())
    }

    /// Refuses a token that cannot be used for as long as is wanted.
    fn checked(self, held: Held) -> Result<Held, Failure> {
        match self.min_ttl {
            Some(min_ttl) if held.left() < min_ttl => Err(Failure::configuration(
                format!(
                    "tokens live for {} here, which is too short for --min-ttl {}",
                    in_words(held.lifetime()),
                    in_words(min_ttl)
                ),
                "ask for a shorter --min-ttl",
            )),
            _ => Ok(held),
        }
    }
}

/// Waits where the server asked an earlier run to wait, and says how long may be spent on asking now.
fn sit_out_pause(slot: &Slot, renewal: bool) -> Result<Duration, Failure> {
    let patience = if renewal { RENEWAL_PATIENCE } else { PATIENCE };
    let Some(pause) = slot.pause() else { return Ok(patience) };
    let left = pause.until().duration_since(SystemTime::now()).unwrap_or_default();
    if left.is_zero() {
        return Ok(patience);
    }
    if renewal || !pause.is_retryable() || left > patience {
        debug!(target: "alvys_auth", "does not ask: an earlier run was told to wait, or refused");
        return Err(pause.failure());
    }
    debug!(target: "alvys_auth", wait_ms = left.as_millis() as u64, "waits, as an earlier run was told to");
    sleep(left);
    Ok(patience.saturating_sub(left))
}

/// For how long other runs should not ask after a failure.
fn pause_after(failure: &Failure, renewal: bool) -> Duration {
    match failure.wait {
        Some(wait) => wait,
        None if !failure.retryable => COOL_DOWN,
        None if renewal => RENEWAL_PAUSE,
        None => Duration::ZERO,
    }
}

/// What another process brought about since this one started.
fn outcome(slot: &Slot, wanted: Wanted, started: SystemTime) -> Option<Result<Held, Failure>> {
    if let Some(held) = slot.read().filter(|held| wanted.is_served_by(held, started)) {
        debug!(target: "alvys_auth", "uses the token that another process asked for");
        return Some(wanted.checked(held));
    }
    let failed = slot.pause().filter(|pause| pause.is_since(started))?;
    debug!(target: "alvys_auth", "shares the failure of another process");
    Some(Err(failed.failure()))
}

/// Puts a token on the wall clock.
fn held(token: &Token) -> Held {
    let (wall, clock) = (SystemTime::now(), Time::boot().now());
    let age = token.obtained_at().map(|obtained| clock.saturating_duration_since(obtained)).unwrap_or_default();
    let scopes: Vec<&str> = token.scopes().iter().collect();
    Held {
        access_token: Zeroizing::new(token.access_token().to_owned()),
        scope: Some(scopes.join(" ")).filter(|scopes| !scopes.is_empty()),
        obtained_at: wall - age,
        expires_at: wall + token.expires_in(clock),
    }
}
