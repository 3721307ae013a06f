//! The public libraries that this one is compared with, each through its public API.
//!
//! None of them speaks to Alvys. Where one cannot send client credentials, it sends the nearest thing it can, a refresh
//! token with id and secret in a form, which costs about as much; where one takes no other endpoint than its own, the
//! connection is turned to the loopback server underneath it.

mod azure;
mod google;
mod oauth2;
mod tame;
mod yup;

pub use azure::Azure;
pub use google::Google;
pub use oauth2::Oauth2;
pub use yup::Yup;

use http::HeaderValue;

use crate::probe::{Case, Kind, Probe, Work};

pub(crate) fn offer_build(probe: &mut impl Probe) {
    oauth2::offer_build(probe);
    tame::offer_build(probe);
}

pub(crate) fn offer_parse(probe: &mut impl Probe) {
    oauth2::offer_parse(probe);
    tame::offer_parse(probe);
}

pub(crate) fn offer_cached(probe: &mut impl Probe) {
    tame::offer_cached(probe);
    yup::offer_cached(probe);
    azure::offer_cached(probe);
    google::offer_cached(probe);
}

fn case(work: Work, subject: &str) -> Case {
    Case::new(work, Kind::Peer, subject)
}

/// What a caller does with a library that hands out the bare token.
fn header(access_token: &str) -> HeaderValue {
    let mut header = HeaderValue::try_from(format!("Bearer {access_token}")).expect("legal in a header");
    header.set_sensitive(true);
    header
}
