//! Reading the token endpoint's answer into a token that can be used: header ready, scopes readable, end known.

use std::time::Duration;

use alvys_auth_core::{Change, Lifecycle, Next, Policy, Step, Timestamp, Token, TokenResponse};
use http::Response;

use crate::floor::read;
use crate::input;
use crate::probe::{Case, Kind, Probe, Work};

/// From asking the lifecycle to holding the token.
pub(crate) const WITH_LIFECYCLE: &str = "alvys-auth-core, with its lifecycle";

pub(super) fn offer(probe: &mut impl Probe) {
    probe.offer(case(Kind::Ours, "alvys-auth-core, the answer alone"), || {
        let (request, answer) = (input::request(), input::answer());
        move || TokenResponse::from_http(&request, &answer).expect("a token")
    });
    probe.offer(case(Kind::Ours, WITH_LIFECYCLE), || {
        let (mut lifecycle, answer) = (Lifecycle::new(input::request(), Policy::new(), 1), input::answer());
        let mut now = Timestamp::from_millis(0);
        move || {
            // Past the end of the token before, so that this one is a first one again.
            now = now.saturating_add(Duration::from_secs(input::LIFETIME));
            renew(&mut lifecycle, &answer, now)
        }
    });
    probe.offer(case(Kind::Floor, "answer and claims"), || {
        let answer = input::answer();
        move || read(answer.body(), true)
    });
    probe.offer(case(Kind::Floor, "answer, claims left alone"), || {
        let answer = input::answer();
        move || read(answer.body(), false)
    });
    #[cfg(feature = "peers")]
    crate::peers::offer_parse(probe);
}

fn case(kind: Kind, subject: &str) -> Case {
    Case::new(Work::Parse, kind, subject)
}

fn renew(lifecycle: &mut Lifecycle, answer: &Response<Vec<u8>>, now: Timestamp) -> Token {
    let Step::Fetch(attempt) = lifecycle.poll(now) else { panic!("nothing is held") };
    match lifecycle.next(attempt.answered(answer), now) {
        Next::Over(Change::Obtained(token)) => token,
        other => panic!("no token: {other:?}"),
    }
}
