//! A proxy that refuses its password is left alone for a while, because many lock an account after a few wrong ones.

use std::time::Duration;

use http::Uri;

use crate::url::Origin;
use crate::{Error, ErrorKind, Timestamp};

/// How many origins are remembered.
const MANY: usize = 64;

/// The origins that a proxy does not lead to, because it refuses its user name and password; for those who send calls.
///
/// A call of such an origin fails at once with the refusal that is remembered, and nothing is sent: the proxy would refuse it
/// again. This ends after [`REST`](Self::REST), or when somebody [forgets](Self::forget) it. Settings that change make another
/// client, which remembers nothing.
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
    /// How long a refusal is remembered: as long as the longest pause of a token source after one.
    pub const REST: Duration = Duration::from_secs(300);

    /// Whether a request to `uri` may be sent.
    ///
    /// # Errors
    /// The refusal that is remembered, and how long it is yet.
    pub fn check(&self, uri: &Uri, now: Timestamp) -> Result<(), Error> {
        let origin = Origin::of(uri);
        let remembered = self.0.iter().find(|(refused, until, _)| Some(refused) == origin.as_ref() && *until > now);
        let Some((_, until, error)) = remembered else { return Ok(()) };
        Err(error.remembered(until.saturating_duration_since(now)))
    }

    /// A request to `uri` failed with this. Anything but a refusal of the proxy's credentials is not remembered.
    pub fn failed(&mut self, uri: &Uri, error: &Error, now: Timestamp) {
        let Some(origin) = Origin::of(uri).filter(|_| error.kind() == ErrorKind::ProxyCredentials) else { return };
        self.0.retain(|(other, until, _)| *other != origin && *until > now);
        if self.0.len() < MANY {
            self.0.push((origin, now.saturating_add(Self::REST), error.clone()));
        }
    }

    /// The next request may be sent, because somebody has changed something.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
