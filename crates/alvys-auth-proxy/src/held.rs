//! The body of the answer to a call, until the client has taken all of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::activity::{AnswerReader, Call};
use crate::answer::Answer;

/// The longest piece of a body that HTTP/2 gets at once, in bytes. It keeps a piece in memory until the client takes it.
const PIECE: usize = 16 * 1024;

/// The body of the answer to a call.
///
/// On HTTP/2, it is sent in pieces, and the next one is asked for when the client has room for it. The last byte is a piece of
/// its own: when it is asked for, the client has taken all the others.
pub(crate) struct Held {
    answer: Answer,
    /// What is left of the last piece of the answer.
    rest: Bytes,
    /// The length of the piece that was given last.
    given: usize,
    reader: Option<AnswerReader>,
    _call: Option<Call>,
}

impl Held {
    pub(crate) fn new(answer: Answer, call: Option<Call>) -> Self {
        let reader = call.as_ref().and_then(Call::reader);
        Self { answer, rest: Bytes::new(), given: 0, reader, _call: call }
    }

    fn piece(&mut self) -> Bytes {
        let length = (self.rest.len() - 1).clamp(1, PIECE);
        self.given = length;
        if let Some(reader) = &self.reader {
            reader.next(0, true);
        }
        self.rest.split_to(length)
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        if self.reader.is_none() {
            return Pin::new(&mut self.answer).poll_frame(context);
        }
        let given = std::mem::take(&mut self.given);
        if let Some(reader) = self.reader.as_ref().filter(|_| given > 0) {
            reader.next(given, false);
        }
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.answer).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) if data.len() > 1 => self.rest = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.answer.size_hint() } else { SizeHint::default() }
    }
}
