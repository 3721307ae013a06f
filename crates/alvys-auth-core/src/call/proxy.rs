//! Remembers that a proxy refused its user name and password, so that it is left alone for a while. Many proxies lock
//! an account after a few wrong passwords.

use std::time::Duration;

use http::Uri;

use crate::url::Origin;
use crate::{Error, ErrorKind, Timestamp};

/// How many origins are remembered.
const MANY: usize = 64;

/// The origins that cannot be reached because their proxy refuses its user name and password.
///
/// A call to such an origin fails at once with the remembered refusal, and nothing is sent, because the proxy would
/// refuse it again. This ends after [`REST`](Self::REST), or with [`forget`](Self::forget). A client with other
/// settings is a new client, which remembers no refusals.
///
/// ```
/// use alvys_auth_core::{Error, ProxyRefusals, Timestamp, TransportFault};
///
/// let (mut refusals, api, now) = (ProxyRefusals::default(), "https://api.example.com/v1".parse()?, Timestamp::default());
/// refusals.check(&api, now)?;
/// refusals.failed(&api, &Error::on_the_way(TransportFault::ProxyCredentials, "the API", "407"), now);
/// assert!(refusals.check(&api, now).is_err());
/// refusals.check(&api, now.saturating_add(ProxyRefusals::REST))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ProxyRefusals(Vec<(Origin, Timestamp, Error)>);

impl ProxyRefusals {
    /// How long a refusal is remembered: as long as the longest pause of a token source after such a refusal.
    pub const REST: Duration = Duration::from_secs(300);

    /// Whether a request to `uri` may be sent.
    ///
    /// # Errors
    /// The remembered refusal, with the time until it is forgotten.
    pub fn check(&self, uri: &Uri, now: Timestamp) -> Result<(), Error> {
        let origin = Origin::of(uri);
        let remembered = self.0.iter().find(|(refused, until, _)| Some(refused) == origin.as_ref() && *until > now);
        let Some((_, until, error)) = remembered else { return Ok(()) };
        Err(error.remembered(until.saturating_duration_since(now)))
    }

    /// Reports that a request to `uri` failed with `error`. It is remembered only if the proxy refused its user name
    /// and password.
    pub fn failed(&mut self, uri: &Uri, error: &Error, now: Timestamp) {
        let Some(origin) = Origin::of(uri).filter(|_| error.kind() == ErrorKind::ProxyCredentials) else { return };
        self.0.retain(|(other, until, _)| *other != origin && *until > now);
        if self.0.len() < MANY {
            self.0.push((origin, now.saturating_add(Self::REST), error.clone()));
        }
    }

    /// Forgets all refusals, so that the next request is sent. Call this after somebody has changed the settings of the
    /// proxy.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
