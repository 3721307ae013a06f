//! Every piece of work by every subject; the measurements walk over it with a [`Probe`].

mod build;
mod cached;
mod parse;
mod share;
mod tenants;

pub(crate) use self::parse::WITH_LIFECYCLE;

use crate::probe::{Kind, Probe};

/// Offers every case to `probe`.
pub fn offer_all(probe: &mut impl Probe) {
    build::offer(probe);
    parse::offer(probe);
    cached::offer(probe);
    tenants::offer(probe);
    share::offer(probe);
}

/// The subjects that several threads use at the same time.
pub fn shared_subjects() -> impl Iterator<Item = (Kind, &'static str)> {
    cached::SHARED.into_iter()
}

/// One of them, ready to be used.
///
/// # Panics
/// For any other subject.
#[must_use]
pub fn shared(subject: &str) -> Box<dyn Fn() + Sync> {
    cached::shared(subject)
}

/// Whether a subject is one of them.
pub(crate) fn is_shared(subject: &str) -> bool {
    shared_subjects().any(|(_, shared)| shared == subject)
}
