//! Taking the header of one of many tenants' tokens, having looked the tenant up and whether the token still holds.

use crate::crowd::{Crowd, Reqwest, Ureq, names};
use crate::input;
use crate::loopback::{Loopback, Reply};
use crate::poll::at_once;
use crate::probe::{Case, Kind, Probe, Work};

/// As many as do not make the preparation long; the number of instructions does not depend on it.
const TENANTS: usize = 100;
const TENANT: &str = "000042";

pub(super) fn offer(probe: &mut impl Probe) {
    probe.offer(case("alvys-auth-reqwest, lent: with_token"), || {
        let crowd = warm::<Reqwest>();
        move || crowd.with_token(TENANT, |token| token.header().len())
    });
    probe.offer(case("alvys-auth-ureq, lent: with_token"), || {
        let crowd = warm::<Ureq>();
        move || crowd.with_token(TENANT, |token| token.header().len())
    });
    probe.offer(case("alvys-auth-reqwest, shared: token().await"), || {
        let crowd = warm::<Reqwest>();
        move || at_once(crowd.tenants.token(TENANT)).map(|token| token.header().len())
    });
    probe.offer(case("alvys-auth-ureq, shared: token()"), || {
        let crowd = warm::<Ureq>();
        move || crowd.tenants.token(TENANT).map(|token| token.header().len())
    });
}

fn case(subject: &str) -> Case {
    Case::new(Work::Tenant, Kind::Ours, subject)
}

/// Tenants whose tokens outlive the measurement, and no server.
fn warm<C: Crowd>() -> C {
    let server = Loopback::start(Reply::token(input::LIFETIME));
    let crowd = C::new(&server, 0);
    for name in names(TENANTS) {
        crowd.fetch(&name);
    }
    crowd
}
