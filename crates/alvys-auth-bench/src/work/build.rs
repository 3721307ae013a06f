//! Building a token request as `http::Request`.

use http::Request;

use crate::floor::render;
use crate::input::{self, CLIENT_ID, CLIENT_SECRET};
use crate::probe::{Case, Kind, Probe, Work};

pub(super) fn offer(probe: &mut impl Probe) {
    probe.offer(case(Kind::Ours, "alvys-auth-core"), || {
        let request = input::request();
        move || request.to_http()
    });
    probe.offer(case(Kind::Floor, "rendered once, copied per attempt"), || {
        let rendered = render(CLIENT_ID, CLIENT_SECRET);
        move || Request::clone(&rendered)
    });
    probe.offer(case(Kind::Floor, "rendered per attempt"), || || render(CLIENT_ID, CLIENT_SECRET));
    #[cfg(feature = "peers")]
    crate::peers::offer_build(probe);
}

fn case(kind: Kind, subject: &str) -> Case {
    Case::new(Work::Build, kind, subject)
}
