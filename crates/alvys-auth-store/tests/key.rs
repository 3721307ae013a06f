//! The names and the sealing of entries.

use std::time::Duration;

use alvys_auth_core::share::{Answer, Cell, Id, Operation};
use alvys_auth_core::{Credentials, Error, Flow, Timestamp, TokenRequest, TokenResponse};
use alvys_auth_store::{Key, Name, SealedAnswer};
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn key(flow: Flow, client_id: &str, secret: &str) -> Key {
    let credentials = Credentials::new(client_id, secret).expect("credentials");
    Key::of(&TokenRequest::new(flow, credentials).expect("a request")).expect("a key")
}

fn usual() -> Key {
    key(Flow::current(), "my-client", "s3cret")
}

/// What a store shows of a token, and of a failure, that were sealed with `key`.
fn stored(key: &Key) -> SealedAnswer {
    let mut cell = Cell::default();
    let mut run = |operation| cell.run(key.seal(operation).expect("sealed"), Timestamp::from_millis(0));
    let [owner, generation] = [Id::from_bytes([1; 16]), Id::from_bytes([2; 16])];
    let token = TokenResponse::new("an.access.token", HOUR, "load:read trip:read").expect("a token");
    run(Operation::Publish { owner, replaced: None, generation, token, lifetime: HOUR });
    run(Operation::Claim { owner, unwanted: Some(generation), lease: HOUR });
    let failure = Error::transport("no connection to the token endpoint", "refused");
    run(Operation::Fail { owner, failure, pause: HOUR })
}

fn opened(answer: &Answer<TokenResponse, Error>) -> (bool, bool) {
    let token = answer.token.as_ref().is_some_and(|found| found.token.is_some());
    (token, answer.pause.as_ref().is_some_and(|(failure, _)| failure.is_some()))
}

#[test]
fn what_was_sealed_opens_again_whole() {
    let answer = usual().open(stored(&usual()));
    let token = answer.token.expect("an entry").token.expect("a token");
    assert_eq!(token.scopes().to_string(), "load:read trip:read");
    assert_eq!(token.lifetime(), Some(HOUR));
    let (failure, left) = answer.pause.expect("a pause");
    assert_eq!(left, HOUR);
    let failure = failure.expect("a failure");
    assert_eq!(failure.retry_after(), Some(HOUR));
    assert!(failure.to_string().starts_with("no connection to the token endpoint"), "{failure}");
}

#[test]
fn a_store_sees_neither_token_nor_secret_nor_client_id() {
    let shown = format!("{:?} {:?} {}", stored(&usual()), usual(), usual().name());
    for secret in ["an.access.token", "load:read", "s3cret", "my-client", "no connection"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn another_secret_has_another_name_and_opens_nothing() {
    let rotated = key(Flow::current(), "my-client", "n3w-secret");
    let (request, tag) = usual().name().as_str().split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("-");
    let (same, other) = rotated.name().as_str().split_once('-').expect("a hyphen");
    assert_eq!(request, same);
    assert_ne!(tag, other);
    assert_eq!(opened(&rotated.open(stored(&usual()))), (false, false));
}

#[test]
fn the_order_of_scopes_does_not_matter_and_everything_else_does() {
    let scoped = |scopes: &[&'static str]| key(Flow::current().scopes(scopes.iter().copied()), "my-client", "s3cret");
    assert_eq!(scoped(&["load:read", "trip:read"]).name(), scoped(&["trip:read", "load:read", "trip:read"]).name());
    let names = [
        usual(),
        scoped(&["load:read"]),
        key(Flow::current(), "my-client2", "s3cret"),
        key(Flow::current().audience("https://other.example/"), "my-client", "s3cret"),
        key(Flow::current().endpoint("https://other.example/token"), "my-client", "s3cret"),
        key(Flow::current().expect_organization("org_1"), "my-client", "s3cret"),
        key(Flow::legacy("va336"), "my-client", "s3cret"),
        key(Flow::legacy("va337"), "my-client", "s3cret"),
    ]
    .map(|key| key.name().clone());
    for (index, name) in names.iter().enumerate() {
        assert!(!names[..index].contains(name), "{index} has the name of another one");
        assert_eq!(Name::parse(name.as_str()).as_ref(), Some(name));
    }
}

/// The same two texts must not be swapped, renamed or given to another token.
#[test]
fn an_entry_that_was_exchanged_does_not_open() {
    let stored = stored(&usual());
    let token = stored.token.clone().expect("a token");
    let sealed = token.token.clone().expect("a text");
    let mut renumbered = stored.clone();
    renumbered.token = Some(alvys_auth_core::share::SharedToken { generation: Id::from_bytes([9; 16]), ..token });
    assert_eq!(opened(&usual().open(renumbered)), (false, true));
    let mut swapped = stored.clone();
    swapped.pause = Some((Some(sealed), HOUR));
    assert_eq!(opened(&usual().open(swapped)), (true, false));
    let elsewhere = key(Flow::current().expect_organization("org_1"), "my-client", "s3cret");
    assert_eq!(opened(&elsewhere.open(stored)), (false, false));
}

#[test]
fn names_of_others_are_not_taken() {
    for wrong in ["", "lock", "0123", "0123456789ABCDEF0123456789abcdef-01ab", "../3456789abcdef0123456789abcdef-01ab"]
    {
        assert_eq!(Name::parse(wrong), None, "{wrong}");
    }
}

/// The format of the first release that shares tokens: processes of later ones must find what earlier ones have put there.
#[test]
fn names_and_sealing_stay_the_same() {
    assert_eq!(usual().name().as_str(), "59ee9c6594f78c085ce159885652cedd-a54b");
    let mut answer = stored(&usual());
    let text = "AU7R5ppndX7BF21mCLippk84LEV6euxnmcY4bCMMzQKTvG67sLcjawHXyWJ103t_GnW99Zar0eb1dknxpnspHHU4W-sUHfd8tKIjP_qmB1f4bEebhdflJPFJf2o";
    answer.token.as_mut().expect("a token").token = Some(text.to_owned());
    assert_eq!(opened(&usual().open(answer)), (true, true));
}

proptest! {
    #[test]
    fn a_damaged_entry_does_not_open(at in 0_usize..10_000, with in "[A-Za-z0-9_-]") {
        let mut answer = stored(&usual());
        let found = answer.token.as_mut().expect("a token");
        let mut text = found.token.take().expect("a text");
        let at = at % (text.len() - 1);
        prop_assume!(text.get(at..=at) != Some(with.as_str()));
        text.replace_range(at..=at, &with);
        found.token = Some(text);
        prop_assert_eq!(opened(&usual().open(answer)), (false, true));
    }

    #[test]
    fn no_text_of_others_is_taken_or_panics(text in ".{0,200}") {
        let mut answer = stored(&usual());
        answer.token.as_mut().expect("a token").token = Some(text.clone());
        answer.pause = Some((Some(text), HOUR));
        prop_assert_eq!(opened(&usual().open(answer)), (false, false));
    }
}
