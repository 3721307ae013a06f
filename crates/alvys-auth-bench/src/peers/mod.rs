//! The public libraries that this one is compared with, each through its public API.
//!
//! None of them speaks to Alvys. Where one cannot send client credentials, it sends the nearest thing it can, a refresh
//! token with id and secret in a form, which costs about as much; where one takes no other endpoint than its own, the
//! connection is turned to the loopback server underneath it.

mod azure;
mod common;
mod google;
mod oauth2;
mod tame;
mod yup;

pub use azure::Azure;
pub use google::Google;
pub use oauth2::Oauth2;
pub use yup::Yup;

use crate::probe::Probe;

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
