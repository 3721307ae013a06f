//! Taking the header of a token that is already there, having looked whether it still holds.

use std::hint::black_box;

use crate::floor::{Locked, Swapped};
use crate::poll::at_once;
use crate::probe::{Case, Kind, Probe, Work};
use crate::subject::{self, Reqwest, Ureq};

const REQWEST_LENT: &str = "alvys-auth-reqwest, lent: with_token";
const UREQ_LENT: &str = "alvys-auth-ureq, lent: with_token";
const SWAPPED: &str = "arc-swap, the same clock";
const LOCKED: &str = "Mutex, Instant, header copied";

pub(super) fn offer(probe: &mut impl Probe) {
    probe.offer(case(Kind::Ours, REQWEST_LENT), || {
        let Reqwest(source) = subject::warm();
        move || source.with_token(|token| token.header().len())
    });
    probe.offer(case(Kind::Ours, UREQ_LENT), || {
        let Ureq(source) = subject::warm();
        move || source.with_token(|token| token.header().len())
    });
    probe.offer(case(Kind::Ours, "alvys-auth-reqwest, shared: token().await"), || {
        let Reqwest(source) = subject::warm();
        move || at_once(source.token()).map(|token| token.header().len())
    });
    probe.offer(case(Kind::Ours, "alvys-auth-ureq, shared: token()"), || {
        let Ureq(source) = subject::warm();
        move || source.token().map(|token| token.header().len())
    });
    probe.offer(case(Kind::Floor, SWAPPED), || {
        let held = Swapped::new();
        move || held.length()
    });
    probe.offer(case(Kind::Floor, LOCKED), || {
        let held = Locked::new();
        move || held.header()
    });
    #[cfg(feature = "peers")]
    crate::peers::offer_cached(probe);
}

fn case(kind: Kind, subject: &str) -> Case {
    Case::new(Work::Cached, kind, subject)
}

/// The subjects that make a point of being shared by threads; see [`shared`].
pub(super) const SHARED: [(Kind, &str); 4] =
    [(Kind::Ours, REQWEST_LENT), (Kind::Ours, UREQ_LENT), (Kind::Floor, SWAPPED), (Kind::Floor, LOCKED)];

/// One of the subjects above as work that threads can do at the same time.
pub(super) fn shared(subject: &str) -> Box<dyn Fn() + Sync> {
    match subject {
        REQWEST_LENT => {
            let Reqwest(source) = subject::warm();
            Box::new(move || {
                black_box(source.with_token(|token| token.header().len()));
            })
        }
        UREQ_LENT => {
            let Ureq(source) = subject::warm();
            Box::new(move || {
                black_box(source.with_token(|token| token.header().len()));
            })
        }
        SWAPPED => {
            let held = Swapped::new();
            Box::new(move || {
                black_box(held.length());
            })
        }
        LOCKED => {
            let held = Locked::new();
            Box::new(move || {
                black_box(held.header());
            })
        }
        other => panic!("{other} is not shared"),
    }
}
