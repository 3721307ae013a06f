//! A wait that the API asked for, as all who share a token hear of it: a failure without a token.

use std::time::Duration;

use http::StatusCode;

use crate::error::Inner;
use crate::share::{Answer, Id, Operation, STORE_TIME};
use crate::{Error, ErrorKind, TokenResponse};

/// Asks for the right to tell the others. Only who gets it [tells](tell_wait) them: of many who hear of the wait at once, one is
/// enough.
pub fn claim_wait(owner: Id) -> Operation<TokenResponse, Error> {
    Operation::Claim { owner, unwanted: None, lease: STORE_TIME }
}

/// Tells that the API answered with this status, and wants to be left alone for so long.
pub fn tell_wait(owner: Id, status: StatusCode, pause: Duration) -> Operation<TokenResponse, Error> {
    let limited = status == StatusCode::TOO_MANY_REQUESTS;
    let kind = if limited { ErrorKind::RateLimited } else { ErrorKind::Unavailable };
    let inner = Inner::new(kind, "the API wants to be left alone", "wait; another process was told so");
    let failure = Error::build(Inner { retryable: true, status: Some(status), ..inner });
    Operation::Fail { owner, failure, pause }
}

/// What others were told, as a store answers it: the status, and how much longer the API wants to be left alone.
pub fn told_wait(answer: &Answer<TokenResponse, Error>) -> Option<(StatusCode, Duration)> {
    let (failure, left) = answer.pause.as_ref()?;
    Some((failure.as_ref()?.status()?, *left))
}
