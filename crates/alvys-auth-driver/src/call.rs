//! One authorized call, as every driver makes it: the core's call machine together with a clock, a turn within the rate
//! limits, and events.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use alvys_auth_core::{Api, Call, CallOptions, CallStep, Endpoint, Error, Hold, Timestamp, Token, Verdict};
use bytes::BufMut;
use event_listener::EventListener;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body::Body;

use crate::pace::Turn;
use crate::{Bell, MayBeShared, Pace, Time, events};

/// What calls need: a token source, the API that tokens may be sent to, and the rate limits.
#[derive(Clone)]
pub struct Caller<T> {
    /// The token source.
    pub tokens: T,
    /// The API: it decides where a token may be sent.
    pub api: Api,
    /// The rate limits; with none, calls are sent at once. The calls use the clock of the rate limits.
    pub pace: Option<Pace>,
    /// The clock of calls without rate limits.
    pub time: Time,
}

/// One authorized call; from [`Caller::begin`].
///
/// A driver does what [`step`](Self::step) says and hands in the result, until the call delivers an answer or fails.
/// The driver decides nothing.
#[must_use = "a call does nothing until its request is sent"]
#[derive(Debug)]
pub struct Passage {
    call: Call,
    endpoint: Endpoint,
    pace: Option<Pace>,
    turn: Option<Turn>,
    /// The listener for the bell. It was made before the call asked for its turn, so that it misses nothing.
    listening: Option<EventListener>,
    time: Time,
    bell: Bell,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum Failure<E> {
    /// The call itself has failed.
    Call(Error),
    /// The HTTP client could not send the request, or not receive its answer.
    Transport(E),
}

impl<E> Failure<E> {
    /// The failure as one error. `explain` turns the error of the HTTP client into one.
    pub fn explained(self, explain: impl FnOnce(&str, E) -> Error) -> Error {
        match self {
            Self::Call(error) => error,
            Self::Transport(error) => explain("the API", error),
        }
    }
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl<T> Caller<T> {
    /// Makes calls without rate limits, by the system's clock.
    pub fn new(tokens: T, api: Api) -> Self {
        Self { tokens, api, pace: None, time: Time::boot() }
    }

    /// Keeps these rate limits. All processes that share the token learn of the waits that the API asks for.
    pub fn keep_to(&mut self, pace: Pace)
    where
        T: MayBeShared,
    {
        self.pace = Some(pace.sharing(self.tokens.waits()));
    }

    /// The clock of the calls.
    pub fn time(&self) -> &Time {
        self.pace.as_ref().map_or(&self.time, Pace::time)
    }

    /// Begins a call. None when the request carries an `Authorization` of its own: it is sent as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`](alvys_auth_core::ErrorKind::Destination) when no token may go to `uri`.
    pub fn begin(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        options: CallOptions,
    ) -> Result<Option<Passage>, Error> {
        let Some(call) = self.api.call(method, uri, headers, options)? else {
            events::left_alone(uri.host());
            return Ok(None);
        };
        let (endpoint, pace, time) = (call.endpoint(), self.pace.clone(), self.time().clone());
        let bell = pace.as_ref().map_or_else(|| time.bell(), |pace| pace.bell().clone());
        Ok(Some(Passage { call, endpoint, pace, turn: None, listening: None, time, bell }))
    }
}

impl<T> fmt::Debug for Caller<T> {
    /// Leaves the tokens out, because they may be of any type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("api", &self.api).field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl Passage {
    /// What to do now. A call queues for its turn before it gets its first token.
    pub fn step(&mut self) -> CallStep {
        let step = self.call.next(self.time.now());
        if let (CallStep::NeedToken, None, Some(pace)) = (&step, &self.turn, &self.pace) {
            self.turn = Some(pace.turn(&self.endpoint));
        }
        step
    }

    /// Hands in a token. Returns the hold if the rate limits keep the call back.
    pub fn token(&mut self, token: Token) -> Option<Hold> {
        self.listening = self.turn.as_ref().map(Turn::listen);
        let (now, turn, mut held) = (self.time.now(), &mut self.turn, None);
        self.call.token(token, now, || {
            held = turn.as_mut()?.ask();
            if held.is_none() {
                *turn = None;
            }
            held
        });
        if let Some(hold) = held {
            events::shaped(&self.endpoint, hold.until.saturating_duration_since(now));
        }
        held
    }

    /// How to wait until then: for this event, and at most for this time by the system's timers.
    pub fn wait(&mut self, until: Timestamp) -> (EventListener, Duration) {
        let listener = self.listening.take().unwrap_or_else(|| self.bell.listen());
        let left = until.saturating_duration_since(self.time.now());
        (listener, self.bell.timer(left))
    }

    /// Puts the token on the request that is to be sent.
    pub fn authorize(&self, headers: &mut HeaderMap) {
        self.call.authorize(headers);
    }

    /// Hands in the head of an answer; see [`Call::answered`].
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap, answered_by: Option<&Uri>) {
        self.call.answered(status, headers, answered_by);
    }

    /// Says that no answer came; see [`Call::failed`].
    pub fn failed(&mut self, unanswered: bool) -> bool {
        let again = self.call.failed(unanswered);
        if again {
            events::unanswered(&self.endpoint);
        }
        again
    }

    /// Hands in the answer, as far as it was read for the look; see [`Call::looked`].
    pub fn looked<B: AsRef<[u8]>>(&mut self, answer: &Response<B>, reject: impl FnOnce(&Token) -> bool) -> Verdict {
        // Both get the same time, so that the endpoint is not held any more when the call's own pause is over.
        let now = self.time.now();
        let verdict = self.call.looked(answer, now, reject);
        events::judged(&self.endpoint, answer.status(), &verdict);
        if let Some(pace) = &self.pace {
            pace.heed(&self.endpoint, answer.status(), &verdict, now);
        }
        verdict
    }

    /// The clock of the call.
    pub fn time(&self) -> &Time {
        &self.time
    }

    /// The endpoint that is called.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The error of a driver that has no request or no answer when the call needs one.
    pub fn lost() -> Error {
        Error::configuration("the body cannot be sent again", "call again")
    }
}

/// Reads the part of an answer that the call looks at, until `limit` completes. If the body cannot be read, what was
/// read so far is used together with the status.
pub async fn look<B: Body + Unpin>(answer: Response<B>, limit: impl Future<Output = ()>) -> Response<Vec<u8>> {
    let (parts, mut body) = answer.into_parts();
    let (mut looked, mut limit) = (Vec::new(), pin!(limit));
    poll_fn(|context| {
        while looked.len() < Call::LOOK && limit.as_mut().poll(context).is_pending() {
            match Pin::new(&mut body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        looked.put(data);
                    }
                }
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    })
    .await;
    looked.truncate(Call::LOOK);
    Response::from_parts(parts, looked)
}
