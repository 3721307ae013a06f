//! Random events and random policies.

use std::time::Duration;

use alvys_auth_core::Policy;
use proptest::prelude::*;

/// One thing that happens to a lifecycle, its driver, its provider or its clock.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// So many callers want a token at the same instant.
    Poll(u8),
    /// A caller wants a token that lasts for so many seconds.
    PollFor(u64),
    Pass(u64),
    /// The machine sleeps for so many days, in the middle of whatever it does.
    Suspend(u64),
    /// One of the attempts takes its next step: what the provider or the server says then.
    Step(usize, Reading, Answer),
    /// One of the attempts is carried out to its end at once, with a provider and a server that are well.
    Finish(usize, u64),
    /// The driver of one of the attempts is cancelled or panics, or its answer gets lost.
    Abandon(usize),
    /// A provider that has not answered in time does so now.
    ProviderAnswers,
    /// Other credentials are put where the provider reads them.
    Store(Stored),
    Reject(usize),
    Invalidate,
    Adopt(u64),
    SetCredentials {
        same_client: bool,
    },
    EndPause,
}

/// What becomes of a question to the provider.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reading {
    /// It reads what is stored, which is handed in at once, or at the attempt's next step.
    Reads {
        at_once: bool,
    },
    Fails,
    UnknownTenant,
    /// It hangs, and the driver goes on without an answer.
    Hangs,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Token(u64),
    Transport,
    CutShort,
    Unavailable,
    RetryAfter(u64),
    Denied,
    RefusedFor(u64),
    Redirect,
    Page,
    Garbage,
    WrongOrganization,
}

/// How what the provider reads changes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    Secret,
    Client,
    /// Only the mark is another one.
    Mark,
    /// An older secret is put back.
    Back,
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let millis = prop_oneof![
        4 => 0_u64..2_000,
        4 => 0_u64..30_000,
        2 => 0_u64..4_000_000,
    ];
    let lifetime = prop_oneof![1_u64..5, 1_u64..120, 3600_u64..3601, 1_u64..90_000];
    let reading = prop_oneof![
        6 => any::<bool>().prop_map(|at_once| Reading::Reads { at_once }),
        1 => Just(Reading::Fails),
        1 => Just(Reading::UnknownTenant),
        1 => Just(Reading::Hangs),
    ];
    let answer = prop_oneof![
        3 => lifetime.clone().prop_map(Answer::Token),
        1 => Just(Answer::Transport),
        1 => Just(Answer::CutShort),
        1 => Just(Answer::Unavailable),
        1 => (0_u64..4000).prop_map(Answer::RetryAfter),
        3 => Just(Answer::Denied),
        1 => (0_u64..4000).prop_map(Answer::RefusedFor),
        1 => Just(Answer::Redirect),
        1 => Just(Answer::Page),
        1 => Just(Answer::Garbage),
        1 => Just(Answer::WrongOrganization),
    ];
    let stored = prop::sample::select(vec![Stored::Secret, Stored::Client, Stored::Mark, Stored::Back]);
    let step =
        (any::<usize>(), reading, answer).prop_map(|(which, reading, answer)| Event::Step(which, reading, answer));
    prop_oneof![
        8 => (1_u8..4).prop_map(Event::Poll),
        1 => (0_u64..4000).prop_map(Event::PollFor),
        6 => millis.prop_map(Event::Pass),
        1 => (1_u64..9).prop_map(Event::Suspend),
        14 => step,
        2 => (any::<usize>(), lifetime.clone()).prop_map(|(which, life)| Event::Finish(which, life)),
        1 => any::<usize>().prop_map(Event::Abandon),
        1 => Just(Event::ProviderAnswers),
        2 => stored.prop_map(Event::Store),
        2 => any::<usize>().prop_map(Event::Reject),
        1 => Just(Event::Invalidate),
        1 => lifetime.prop_map(Event::Adopt),
        1 => any::<bool>().prop_map(|same_client| Event::SetCredentials { same_client }),
        1 => Just(Event::EndPause),
    ]
}

/// A policy, and what a model must know of it.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) waiting: Duration,
    pub(crate) hedge_after: Duration,
    pub(crate) longest_cool_down: Duration,
}

pub(crate) fn rules() -> impl Strategy<Value = Rules> {
    let seconds = |most: u64| (1..most * 1000).prop_map(Duration::from_millis);
    let own = (seconds(1000), seconds(30), seconds(20), seconds(20), seconds(60), seconds(4), seconds(20)).prop_map(
        |(margin, timeout, backoff, cool_down, grace, waiting, hedge_after)| Rules {
            policy: Policy::new()
                .margin(margin)
                .request_timeout(timeout)
                .backoff(backoff, backoff * 8)
                .cool_down(cool_down, cool_down * 8)
                .rejection_grace(grace)
                .pause_while_waiting(waiting)
                .hedge_after(hedge_after),
            waiting,
            hedge_after,
            longest_cool_down: cool_down * 8,
        },
    );
    let standard = Rules {
        policy: Policy::new(),
        waiting: Duration::from_millis(1500),
        hedge_after: Duration::from_secs(3),
        longest_cool_down: Duration::from_secs(300),
    };
    prop_oneof![Just(standard), own]
}
