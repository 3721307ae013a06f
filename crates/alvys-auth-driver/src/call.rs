//! One authorized call, as every driver makes it: the steps of the core, with a clock, a turn within the limits, and events.

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

/// What authorizes calls: whose tokens, where to, how fast.
#[derive(Clone)]
pub struct Caller<T> {
    /// Where the tokens come from.
    pub tokens: T,
    /// Where calls may go.
    pub api: Api,
    /// The rate limits; none lets calls go out as they come. Their clock is the one of the calls.
    pub pace: Option<Pace>,
    /// The clock of calls without rate limits.
    pub time: Time,
}

/// One authorized call on its way; from [`Caller::begin`].
///
/// A driver does what [`step`](Self::step) says and hands in what came of it, until it delivers or fails. It decides nothing.
#[must_use = "a call does nothing until its request is sent"]
#[derive(Debug)]
pub struct Passage {
    call: Call,
    endpoint: Endpoint,
    pace: Option<Pace>,
    turn: Option<Turn>,
    /// Listens since before the turn was asked for.
    listening: Option<EventListener>,
    time: Time,
    bell: Bell,
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum Failure<E> {
    /// Decided by the call.
    Call(Error),
    /// The HTTP client could not send the request, or not receive its answer.
    Transport(E),
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl<T> Caller<T> {
    /// Without rate limits, by the system's clock.
    pub fn new(tokens: T, api: Api) -> Self {
        Self { tokens, api, pace: None, time: Time::boot() }
    }

    /// Keeps to these rate limits. All who share the token hear of the waits that the API asks for.
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
    /// Leaves the tokens out: they may be of any type.
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

    /// Here is a token. Gives why and until when the call is held back with it.
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

    /// How to wait until then: for the bell, and for so long at the most on the system's timers.
    pub fn wait(&mut self, until: Timestamp) -> (EventListener, Duration) {
        let listener = self.listening.take().unwrap_or_else(|| self.bell.listen());
        let left = until.saturating_duration_since(self.time.now());
        (listener, self.bell.timer(left))
    }

    /// Puts the token on the request that is to be sent.
    pub fn authorize(&self, headers: &mut HeaderMap) {
        self.call.authorize(headers);
    }

    /// The head of an answer has come; see [`Call::answered`].
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap, answered_by: Option<&Uri>) {
        self.call.answered(status, headers, answered_by);
    }

    /// No answer has come; see [`Call::failed`].
    pub fn failed(&mut self, unanswered: bool) -> bool {
        let again = self.call.failed(unanswered);
        if again {
            events::unanswered(&self.endpoint);
        }
        again
    }

    /// Here is the answer, as far as it was looked at; see [`Call::looked`].
    pub fn looked<B: AsRef<[u8]>>(&mut self, answer: &Response<B>, reject: impl FnOnce(&Token) -> bool) -> Verdict {
        // One and the same time for both: the call is not to find the endpoint held when its own pause is over.
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

    /// What is called.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The error of a driver that has no request to send or no answer to give where the call wants one.
    pub fn lost() -> Error {
        Error::configuration("the body cannot be sent again", "call again")
    }
}

/// Reads as much of an answer as is looked at, until `limit` is over. What cannot be read is missing, and the status then has
/// to do.
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
