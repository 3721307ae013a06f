//! The five operations of a shared store, and their answer.
//!
//! Each is one atomic step at the store. The store keeps three things for each token that is shared: the token, the lease of
//! the process that may ask for the next one, and the pause after a failure. Each of them ends by itself after a time that the
//! store measures with its own clock; no clocks are compared.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// 128 random bits that name one token, or one attempt to get a token. Ids are compared for equality and never ordered,
/// because a store that was emptied could not go on counting.
///
/// ```
/// use alvys_auth_core::share::Id;
///
/// let id = Id::from_bytes([0xab; 16]);
/// assert_eq!(id.to_string(), "ab".repeat(16));
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Id([u8; 16]);

impl Id {
    /// The id of these bytes, which must come from a good source of randomness.
    pub const fn from_bytes(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// The id of a token. `self` is the id of the lifecycle that got the token, and `number` counts its tokens.
    pub(crate) const fn numbered(self, number: u64) -> Self {
        Self(u128::from_be_bytes(self.0).wrapping_add(number as u128).to_be_bytes())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        bits.map(|bits| Self(bits.to_be_bytes())).ok_or("an id has 32 hexadecimal digits")
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// What to do at the store. `T` is a token and `F` a failure; a store sees both as sealed text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<T, F> {
    /// Return what is there, and change nothing.
    Look,
    /// Ask for the right to send a token request.
    Claim {
        /// Who asks.
        owner: Id,
        /// The token that the process does not want any more, because it is due for renewal or was refused. If the
        /// store has any other token, that token is the answer.
        unwanted: Option<Id>,
        /// How long the right lasts: longer than a token request may take.
        lease: Duration,
    },
    /// Store a token, and give the lease up.
    ///
    /// A store accepts the token from the owner of the lease. If there is no lease, it accepts the token if it has no
    /// token yet, or still has the `replaced` one. If another process holds the lease, it accepts the token only if it
    /// has none. So a process whose lease has ended can help others that have no token, and never replaces a newer
    /// token.
    Publish {
        /// The process that has requested the token.
        owner: Id,
        /// The token that it replaces.
        replaced: Option<Id>,
        /// The new token's own id.
        generation: Id,
        /// The new token.
        token: T,
        /// How long the new token is valid from now on.
        lifetime: Duration,
    },
    /// Report a failure to all processes, and give the lease up. A store accepts it only from the owner of the lease. A
    /// longer pause that is there already stays.
    Fail {
        /// The process that has requested a token.
        owner: Id,
        /// What went wrong.
        failure: F,
        /// How long nobody should ask for a token; zero to give up the lease and nothing else.
        pause: Duration,
    },
    /// Remove a token that the API refused. A token that is younger than `grace` stays, because then the refusal is
    /// about something other than its age.
    Reject {
        /// The refused token. Any other token stays.
        generation: Id,
        /// How old the token must be to be removed.
        grace: Duration,
    },
}

/// The answer of a store to any [`Operation`]: the outcome, and what the store has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T, F> {
    /// The outcome of the operation.
    pub outcome: Outcome,
    /// The token that is there.
    pub token: Option<SharedToken<T>>,
    /// How much longer a process holds the lease; zero when no process holds it.
    pub busy_for: Duration,
    /// The failure because of which nobody should request a token, and the rest of the pause. The failure is none when
    /// it cannot be read.
    pub pause: Option<(Option<F>, Duration)>,
}

/// A token at a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedToken<T> {
    /// Its id.
    pub generation: Id,
    /// How long it has been there.
    pub age: Duration,
    /// How long it is still valid.
    pub left: Duration,
    /// The token; none when it cannot be read.
    pub token: Option<T>,
}

/// The outcome of an [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing has changed.
    Seen,
    /// The process that asked has the lease now, and must send a token request.
    Claimed,
    /// The store has another token than the unwanted one.
    Newer,
    /// Nobody should ask until the pause is over.
    Paused,
    /// Another process has the lease.
    Busy,
    /// The token is there.
    Published,
    /// The process does not hold the lease, and may not do this without it. Nothing has changed.
    Lost,
    /// The failure was stored.
    Failed,
    /// The token was removed.
    Rejected,
    /// The token is too young to be removed, and stays.
    Young,
}
