//! What an operation at a shared store takes beside the way to it.

use std::time::Duration;

use alvys_auth_core::TokenResponse;
use alvys_auth_core::share::{Id, Operation, Subject};
use alvys_auth_driver::BlockingSharing;
use alvys_auth_store::{Key, MemoryStore, Sealed};

use crate::input;
use crate::probe::{Case, Kind, Probe, Work};

pub(super) fn offer(probe: &mut impl Probe) {
    probe.offer(case("the name and the key of an entry"), || {
        let request = input::request();
        move || Key::of(&request).map(|key| key.name().as_str().len())
    });
    probe.offer(case("a claim in memory, answered with a token"), || {
        let (store, request) = (Sealed::new(MemoryStore::new()), input::request());
        let subject = Subject::from(request.clone());
        let token = TokenResponse::from_http(&request, &input::answer()).expect("a token");
        let [owner, generation] = [1, 2].map(|number| Id::from_bytes([number; 16]));
        let lifetime = Duration::from_secs(input::LIFETIME);
        let publish = Operation::Publish { owner, replaced: None, generation, token, lifetime };
        store.share(&subject, publish).expect("a store in memory");
        move || {
            let claim = Operation::Claim { owner, unwanted: None, lease: lifetime };
            store.share(&subject, claim).map(|answer| answer.token.is_some())
        }
    });
}

fn case(subject: &str) -> Case {
    Case::new(Work::Share, Kind::Ours, subject)
}
