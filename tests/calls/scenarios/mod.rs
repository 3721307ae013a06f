//! The scenarios, by what they are about.

pub(crate) mod cancelling;
pub(crate) mod destinations;
pub(crate) mod failures;
pub(crate) mod refusals;
pub(crate) mod renewals;
pub(crate) mod sending;
pub(crate) mod shaping;
pub(crate) mod waiting;
