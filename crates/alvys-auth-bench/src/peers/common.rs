//! What the peers have in common.

use http::HeaderValue;

use crate::probe::{Case, Kind, Work};

pub(super) fn case(work: Work, subject: &str) -> Case {
    Case::new(work, Kind::Peer, subject)
}

/// What a caller does with a library that hands out the bare token.
pub(super) fn header(access_token: &str) -> HeaderValue {
    let mut header = HeaderValue::try_from(format!("Bearer {access_token}")).expect("legal in a header");
    header.set_sensitive(true);
    header
}
