//! What happens on a connection: its calls, its bytes, and the bytes that its client does not read.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use alvys_auth_core::Timestamp;
use alvys_auth_driver::Time;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::reader::Reader;
use crate::watch::lock;

/// How long a connection without a call and without traffic stays open after the shutdown has begun.
const GRACE: Duration = Duration::from_secs(1);
/// How often the readers are checked while bytes wait for one of them: so many times within the time limit for reading.
const LOOKS: u32 = 8;
/// The number of the connection's own reader. The readers of answers on HTTP/2 have other numbers.
const SOCKET: u64 = 0;

/// The activity of a connection.
#[derive(Debug)]
pub(crate) struct Activity {
    asked: AtomicBool,
    /// Whether the last request came over HTTP/2.
    http2: AtomicBool,
    /// The number of calls whose answers are not complete.
    calls: AtomicUsize,
    /// The number of requests whose bodies are not complete.
    uploads: AtomicUsize,
    /// Whether a call waits for the rest of a request body.
    starved: AtomicBool,
    /// The task that waits until the client sends something, or until the end of its stream counts as the end of the
    /// connection.
    reading: Mutex<Option<Waker>>,
    /// When the last byte was read or written.
    last: AtomicU64,
    readers: Mutex<HashMap<u64, Reader>>,
    next_reader: AtomicU64,
    leave: Notify,
    leaving: AtomicBool,
    at_once: AtomicBool,
    cut: AtomicBool,
    /// Notified when the connection has become idle.
    freed: Arc<Notify>,
}

/// Counts a call in progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Call(Arc<Activity>);

/// Counts a request body in progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Sending(Arc<Activity>);

/// The client as the reader of one answer.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    activity: Arc<Activity>,
    number: u64,
}

impl Activity {
    pub(crate) fn new(freed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
            reading: Mutex::default(),
            last: AtomicU64::new(Time::boot().now().as_millis()),
            readers: Mutex::default(),
            next_reader: AtomicU64::new(SOCKET + 1),
            leave: Notify::new(),
            leaving: AtomicBool::new(false),
            at_once: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            freed,
        })
    }

    /// A call begins.
    pub(crate) fn call(self: &Arc<Self>, http2: bool) -> Call {
        self.asked.store(true, Ordering::Relaxed);
        self.http2.store(http2, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::AcqRel);
        Call(Arc::clone(self))
    }

    /// A request body begins.
    pub(crate) fn upload(self: &Arc<Self>) -> Sending {
        self.uploads.fetch_add(1, Ordering::AcqRel);
        Sending(Arc::clone(self))
    }

    pub(crate) fn note(&self) {
        self.last.store(Time::boot().now().as_millis(), Ordering::Relaxed);
    }

    /// The time of the last byte.
    pub(crate) fn last(&self) -> Timestamp {
        Timestamp::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// Notes how many bytes were written for the client; none when the socket took none.
    pub(crate) fn wrote(&self, bytes: Option<usize>) {
        let mut readers = lock(&self.readers);
        let reader = readers.entry(SOCKET).or_default();
        let was_blocked = reader.is_waiting();
        match bytes {
            Some(bytes) => reader.took(bytes, Instant::now()),
            None => reader.waits(Instant::now()),
        }
        drop(readers);
        if bytes.is_some() {
            self.note();
            // The connection has just become idle: its last call may have ended before the client had read the answer.
            if was_blocked && self.is_idle() {
                self.freed.notify_one();
            }
        }
    }

    /// Whether the connection has bytes that its client does not read.
    fn is_blocked(&self) -> bool {
        lock(&self.readers).get(&SOCKET).is_some_and(Reader::is_waiting)
    }

    /// Whether nothing is lost when the connection ends.
    pub(crate) fn is_idle(&self) -> bool {
        self.calls.load(Ordering::Acquire) == 0 && !self.is_blocked()
    }

    /// Whether the client waits for an answer on HTTP/1.1, and has sent all of its request, as far as is known. `reader` is
    /// woken when more is known.
    pub(crate) fn awaits_answer(&self, reader: &Waker) -> bool {
        *lock(&self.reading) = Some(reader.clone());
        let http2 = self.http2.load(Ordering::Relaxed);
        let is_whole = self.uploads.load(Ordering::Acquire) == 0 || !self.starved.load(Ordering::Acquire);
        !http2 && !self.is_idle() && is_whole
    }

    /// Asks the connection to end if it is idle; with `at_once`, even if it is not.
    pub(crate) fn leave(&self, at_once: bool) {
        self.at_once.store(at_once, Ordering::Relaxed);
        self.leaving.store(true, Ordering::Release);
        self.leave.notify_one();
    }

    /// Whether the connection was asked to end, and has not found out yet that it is not idle.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether the connection was closed because the client did not read.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Completes when the connection was asked to end while it was idle.
    pub(crate) async fn left(&self) {
        loop {
            self.leave.notified().await;
            if self.at_once.load(Ordering::Relaxed) || self.is_idle() {
                return;
            }
            self.leaving.store(false, Ordering::Relaxed);
        }
    }

    /// Completes when no request came in time. The time limits of the protocols only begin when the protocol is known.
    pub(crate) async fn unused(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.asked.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }

    /// Completes when the client has not read waiting bytes for too long.
    pub(crate) async fn unread(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit / LOOKS).await;
            let now = Instant::now();
            if lock(&self.readers).values().any(|reader| reader.used(now) > limit) {
                self.cut.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Completes when the shutdown has begun, no call is in progress, and no bytes are read or written.
    pub(crate) async fn ended(&self, mut ending: watch::Receiver<bool>) {
        // An error means that the sender was dropped, which is a shutdown too.
        let _ = ending.wait_for(|ending| *ending).await;
        self.note();
        loop {
            let left = self.last().saturating_add(GRACE).saturating_duration_since(Time::boot().now());
            match (self.is_idle(), left.is_zero()) {
                (true, true) => return,
                (false, true) => tokio::time::sleep(GRACE).await,
                (_, false) => tokio::time::sleep(left).await,
            }
        }
    }
}

impl Call {
    /// The reader of one answer; none on HTTP/1.1, where the connection itself shows what the client reads.
    pub(crate) fn reader(&self) -> Option<AnswerReader> {
        let activity = Arc::clone(&self.0);
        activity
            .http2
            .load(Ordering::Relaxed)
            .then(|| AnswerReader { number: activity.next_reader.fetch_add(1, Ordering::Relaxed), activity })
    }
}

impl Sending {
    /// Notes whether the call waits for more of the request body.
    pub(crate) fn is_starved(&self, starved: bool) {
        self.0.starved.store(starved, Ordering::Release);
        if starved && let Some(reader) = lock(&self.0.reading).take() {
            reader.wake();
        }
    }
}

impl AnswerReader {
    /// Notes that the client took `taken` bytes, and whether more bytes wait for it now.
    pub(crate) fn next(&self, taken: usize, waiting: bool) {
        let mut readers = lock(&self.activity.readers);
        let reader = readers.entry(self.number).or_default();
        reader.took(taken, Instant::now());
        if waiting {
            reader.waits(Instant::now());
        }
    }
}

impl Drop for AnswerReader {
    fn drop(&mut self) {
        lock(&self.activity.readers).remove(&self.number);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.note();
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.freed.notify_one();
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_read_after_its_last_call_is_told_as_idle() {
        let freed = Arc::new(Notify::new());
        let told = || tokio::time::timeout(Duration::from_secs(20), freed.notified());
        let activity = Activity::new(Arc::clone(&freed));
        let call = activity.call(false);
        activity.wrote(None);
        drop(call);
        told().await.expect("the call has ended");
        assert!(!activity.is_idle(), "its client has not read the answer");
        activity.wrote(Some(1));
        assert!(activity.is_idle());
        told().await.expect("it is idle now");
        activity.wrote(Some(1));
        let again = tokio::time::timeout(Duration::ZERO, freed.notified()).await;
        assert!(again.is_err(), "it was idle before");
    }
}
