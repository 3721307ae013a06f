//! Sources as their users see them: fixed ones for tests, behind pointers and as trait objects.
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a test that fails")]

use std::sync::Arc;

use alvys_auth_driver::{AsyncTokens, BlockingTokens, FixedTokens};

fn fixed() -> FixedTokens {
    FixedTokens::holding("an.access.token", "load:read").unwrap()
}

#[test]
fn a_fixed_source_always_has_its_token_and_gives_it_up_for_nobody() {
    let tokens = fixed();
    let token = BlockingTokens::token(&tokens).unwrap();
    assert_eq!(token.header(), "Bearer an.access.token");
    assert!(token.scopes().contains("load:read") && !token.scopes().contains("load:create"));
    assert!(!BlockingTokens::reject(&tokens, &token));
    assert!(BlockingTokens::status(&tokens).is_ready());
    assert!(!format!("{tokens:?}").contains("an.access.token"));
    assert!(FixedTokens::holding("not legal in a header\n", "").is_err());
}

#[test]
fn pointers_to_a_source_are_sources() {
    let blocking: [&dyn BlockingTokens; 3] =
        [&&fixed(), &Box::new(fixed()), &(Arc::new(fixed()) as Arc<dyn BlockingTokens>)];
    for tokens in blocking {
        let token = tokens.token().unwrap();
        assert!(!tokens.reject(&token) && tokens.status().is_ready());
    }
    let tokens: Arc<dyn AsyncTokens> = Arc::new(Box::new(fixed()));
    let mut token = tokens.token();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(token)) = token.as_mut().poll(&mut context) else { panic!("a token at once") };
    assert!(!tokens.reject(&token) && tokens.status().is_ready());
}
