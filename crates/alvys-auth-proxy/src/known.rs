//! What the watch remembers of one tenant.

use alvys_auth_core::Timestamp;

use crate::accounts::Tokens;

/// What is known of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The token source; none where it could not be made.
    pub(crate) source: Option<Tokens>,
    pub(crate) seen: Option<Seen>,
    pub(crate) failure: Option<Failure>,
    /// The failure that was counted last, and until when the source pauses because of it.
    pub(crate) counted: Option<(String, Timestamp)>,
}

/// The token that was seen last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) obtained_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) rejected: bool,
}

/// Why there was no token when one was asked for last.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) what: String,
}
