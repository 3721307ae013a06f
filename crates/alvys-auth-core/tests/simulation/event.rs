//! Random events and random policies.

use std::time::Duration;

use alvys_auth_core::Policy;
use proptest::prelude::*;

/// One thing that happens to a lifecycle.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// So many callers want a token at the same instant.
    Poll(u8),
    Pass(u64),
    Succeed(usize, u64),
    Fail(usize, Failure),
    Abandon(usize),
    Reject(usize),
    Invalidate,
    Adopt(u64),
    SetCredentials {
        same_client: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    Transport,
    Unavailable,
    RetryAfter(u64),
    Credentials,
    RefusedFor(u64),
    Garbage,
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let millis = prop_oneof![
        4 => 0_u64..2_000,
        4 => 0_u64..30_000,
        2 => 0_u64..4_000_000,
        1 => 0_u64..100_000_000,
    ];
    let lifetime = prop_oneof![1_u64..5, 1_u64..120, 3600_u64..3601, 1_u64..90_000];
    let failure = prop_oneof![
        Just(Failure::Transport),
        Just(Failure::Unavailable),
        (0_u64..4000).prop_map(Failure::RetryAfter),
        Just(Failure::Credentials),
        (0_u64..4000).prop_map(Failure::RefusedFor),
        Just(Failure::Garbage),
    ];
    prop_oneof![
        8 => (1_u8..4).prop_map(Event::Poll),
        6 => millis.prop_map(Event::Pass),
        4 => (any::<usize>(), lifetime.clone()).prop_map(|(which, life)| Event::Succeed(which, life)),
        4 => (any::<usize>(), failure).prop_map(|(which, failure)| Event::Fail(which, failure)),
        1 => any::<usize>().prop_map(Event::Abandon),
        2 => any::<usize>().prop_map(Event::Reject),
        1 => Just(Event::Invalidate),
        1 => lifetime.prop_map(Event::Adopt),
        1 => any::<bool>().prop_map(|same_client| Event::SetCredentials { same_client }),
    ]
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let seconds = |most: u64| (0..most * 1000).prop_map(Duration::from_millis);
    let own = (seconds(1000), seconds(30), seconds(20), seconds(20), seconds(60)).prop_map(
        |(margin, timeout, backoff, cool_down, grace)| {
            Policy::new()
                .margin(margin)
                .request_timeout(timeout)
                .backoff(backoff, backoff * 8)
                .cool_down(cool_down, cool_down * 8)
                .rejection_grace(grace)
        },
    );
    prop_oneof![Just(Policy::new()), own]
}
