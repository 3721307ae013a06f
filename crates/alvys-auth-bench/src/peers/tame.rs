//! tame-oauth: builds and reads requests and caches the token; sends nothing itself. Its flow that comes nearest is the one
//! for a user's refresh token.

use http::{HeaderValue, Response};
use tame_oauth::gcp::end_user::{EndUserCredentials, EndUserCredentialsInfo};
use tame_oauth::gcp::{TokenOrRequest, TokenProvider};

use super::common::case;
use crate::input;
use crate::probe::{Probe, Work};

const NAME: &str = "tame-oauth";
const SCOPES: [&str; 1] = ["load:read"];

fn provider() -> EndUserCredentials {
    EndUserCredentials::new(EndUserCredentialsInfo {
        client_id: input::CLIENT_ID.to_owned(),
        client_secret: input::CLIENT_SECRET.to_owned(),
        refresh_token: input::AUDIENCE.to_owned(),
        client_type: "authorized_user".to_owned(),
    })
}

pub(super) fn offer_build(probe: &mut impl Probe) {
    probe.offer(case(Work::Build, NAME), || {
        let provider = provider();
        move || match provider.inner().get_token(&SCOPES) {
            Ok(TokenOrRequest::Request { request, .. }) => request,
            _ => panic!("no token is held"),
        }
    });
}

pub(super) fn offer_parse(probe: &mut impl Probe) {
    probe.offer(case(Work::Parse, "tame-oauth (scopes are lost)"), || {
        let (provider, answer) = (provider(), input::answer());
        move || {
            let token = provider.inner().parse_token_response(0, Response::new(answer.body())).expect("a token");
            let header: HeaderValue = token.clone().try_into().expect("legal in a header");
            (header, token)
        }
    });
}

pub(super) fn offer_cached(probe: &mut impl Probe) {
    probe.offer(case(Work::Cached, NAME), || {
        let provider = provider();
        let Ok(TokenOrRequest::Request { scope_hash, .. }) = provider.get_token(&SCOPES) else {
            panic!("nothing is held yet")
        };
        let answer = input::answer();
        provider.parse_token_response(scope_hash, Response::new(answer.body())).expect("a token");
        move || -> HeaderValue {
            match provider.get_token(&SCOPES) {
                Ok(TokenOrRequest::Token(token)) => token.try_into().expect("legal in a header"),
                _ => panic!("a token is held"),
            }
        }
    });
}
