//! Shares a wait that the API asked for with all processes that share the token. In the store it is a failure, without
//! a token.

use std::time::Duration;

use http::StatusCode;

use crate::error::Inner;
use crate::share::{Answer, Id, Operation, STORE_TIME};
use crate::{Error, ErrorKind, TokenResponse};

/// Asks for the lease of the entry. The process that gets it [tells](tell_wait) the others. So one process tells them,
/// even if the API asks many processes to wait at the same time.
pub fn claim_wait(owner: Id) -> Operation<TokenResponse, Error> {
    Operation::Claim { owner, unwanted: None, lease: STORE_TIME }
}

/// Tells the other processes that the API answered with `status` and must be left alone for `pause`.
pub fn tell_wait(owner: Id, status: StatusCode, pause: Duration) -> Operation<TokenResponse, Error> {
    let limited = status == StatusCode::TOO_MANY_REQUESTS;
    let kind = if limited { ErrorKind::RateLimited } else { ErrorKind::Unavailable };
    let inner = Inner::new(kind, "the API wants to be left alone", "wait; another process was told so");
    let failure = Error::build(Inner { retryable: true, status: Some(status), ..inner });
    Operation::Fail { owner, failure, pause }
}

/// Reads the wait from a store's answer: the status, and how much longer the API must be left alone.
pub fn told_wait(answer: &Answer<TokenResponse, Error>) -> Option<(StatusCode, Duration)> {
    let (failure, left) = answer.pause.as_ref()?;
    Some((failure.as_ref()?.status()?, *left))
}
