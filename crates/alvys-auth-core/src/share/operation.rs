//! The five operations of a shared store, and their answer.
//!
//! Each is one atomic step at the store. The store keeps three things for each token that is shared: the token, the lease of
//! the process that may ask for the next one, and the pause after a failure. Each of them ends by itself after a time that the
//! store measures with its own clock; no clocks are compared.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// 128 random bits that name one token, or one attempt to get a token. They are compared and never ordered: a store that was
/// emptied could not go on counting.
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

    /// The id of the token with this number that the owner of this id got.
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

/// What to do at the store; `T` is a token and `F` a failure. A store sees both as sealed text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation<T, F> {
    /// Say what is there, and change nothing.
    Look,
    /// Ask for the right to send a token request.
    Claim {
        /// Who asks.
        owner: Id,
        /// The token that is not wanted any more, because it is due for renewal or was refused. Any other token is an answer.
        unwanted: Option<Id>,
        /// How long the right lasts: longer than a token request may take.
        lease: Duration,
    },
    /// Put a token there, and give the lease up.
    ///
    /// A store accepts it from the owner of the lease. Without a lease it accepts the token if there is none, or still the one
    /// that is `replaced`. And while another process holds the lease, if there is no token at all. So an owner whose lease has
    /// ended helps while nobody has a token, and never replaces a newer one.
    Publish {
        /// Who has asked for the token.
        owner: Id,
        /// The token that it replaces.
        replaced: Option<Id>,
        /// The new token's own id.
        generation: Id,
        /// The new token.
        token: T,
        /// How long it is good for, from now on.
        lifetime: Duration,
    },
    /// Tell everybody of a failure, and give the lease up. A store accepts it from the owner of the lease only. A longer pause
    /// that is there already stays.
    Fail {
        /// Who has asked for a token.
        owner: Id,
        /// What went wrong.
        failure: F,
        /// How long nobody should ask for a token; zero to give up the lease and nothing else.
        pause: Duration,
    },
    /// Remove a token that the API refuses, unless it is younger than `grace`: then the refusal is about something else than
    /// its age.
    Reject {
        /// The token in question. Any other one stays.
        generation: Id,
        /// How old it must be.
        grace: Duration,
    },
}

/// What a store answers to any [`Operation`]: what came of it, and what is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T, F> {
    /// What came of it.
    pub outcome: Outcome,
    /// The token that is there.
    pub token: Option<SharedToken<T>>,
    /// How much longer a process has the right to ask for the next one; zero when none has.
    pub busy_for: Duration,
    /// The failure because of which nobody should ask, and how much longer that holds. A failure that cannot be read is none.
    pub pause: Option<(Option<F>, Duration)>,
}

/// A token at a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedToken<T> {
    /// Its id.
    pub generation: Id,
    /// How long it has been there.
    pub age: Duration,
    /// How long it is still good for.
    pub left: Duration,
    /// The token; none when it cannot be read.
    pub token: Option<T>,
}

/// What came of an [`Operation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing has changed.
    Seen,
    /// The lease is the asker's: it is to send a token request.
    Claimed,
    /// There is another token than the one that is not wanted.
    Newer,
    /// Nobody should ask until the pause is over.
    Paused,
    /// Another process has the lease.
    Busy,
    /// The token is there.
    Published,
    /// The lease was somebody else's, so nothing has changed.
    Lost,
    /// The failure was taken in.
    Failed,
    /// The token was removed.
    Rejected,
    /// The token is too young for that, and stays.
    Young,
}
