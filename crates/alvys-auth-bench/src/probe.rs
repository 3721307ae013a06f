//! What is measured, by whom, and how a measurement gets at it.

use serde::{Deserialize, Serialize};

/// A piece of work, done by several subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Credentials to a request that can be sent.
    Build,
    /// The server's bytes to a token that can be used.
    Parse,
    /// A held token to a header, its expiry checked.
    Cached,
    /// The same for one of many tenants.
    Tenant,
    /// What a store that tokens are shared through costs before it is asked, and with no way to it.
    Share,
}

impl Work {
    /// All work that has peers or floors, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Build, Self::Parse, Self::Cached];

    /// As tables head it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Build => "build a token request",
            Self::Parse => "response bytes → usable token",
            Self::Cached => "cached token → header, expiry checked",
            Self::Tenant => "tenant id → header of its cached token, expiry checked",
            Self::Share => "share a token",
        }
    }
}

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// This library.
    Ours,
    /// The least code that does the same with the same crates, written for this comparison.
    Floor,
    /// A public library.
    Peer,
}

/// One subject at one piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// What is done.
    pub work: Work,
    /// By whom.
    pub kind: Kind,
    /// The subject's name: a crate, or what a floor does.
    pub subject: String,
}

impl Case {
    /// The case of a subject.
    #[must_use]
    pub fn new(work: Work, kind: Kind, subject: &str) -> Self {
        Self { work, kind, subject: subject.to_owned() }
    }
}

/// A way to measure. Each measurement walks over all work and picks what it wants.
pub trait Probe {
    /// Offers one case: `prepare` does what is not measured and gives the work that is, to be repeated at will.
    fn offer<T, W: FnMut() -> T>(&mut self, case: Case, prepare: impl FnOnce() -> W);
}
