//! Records the bytes of a connection, and keeps the connection open for a client that has closed its sending side.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alvys_auth_driver::Time;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep};

use crate::activity::Activity;

/// How long the proxy goes on with a call whose client has closed its sending side, counted from the last byte. The
/// client may be gone altogether, which the system shows only when something is sent.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// A stream that records the activity of its connection.
pub(crate) struct Watched<T: Socket> {
    socket: T,
    activity: Arc<Activity>,
    /// Runs since the client has closed its sending side.
    half_open: Option<Pin<Box<Sleep>>>,
}

/// A stream of a client.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Makes the system forget what the client has not read, when the stream is closed.
    fn forget(&self);
}

impl Socket for TcpStream {
    fn forget(&self) {
        // This fails when the connection has ended already, which is fine.
        let _ = self.set_zero_linger();
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    /// Nothing to do: a Unix socket has no bytes of its own to forget, they are in the client's socket already.
    fn forget(&self) {}
}

impl<T: Socket> Watched<T> {
    pub(crate) fn new(socket: T, activity: Arc<Activity>) -> Self {
        Self { socket, activity, half_open: None }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.activity.wrote(Some(*bytes)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.wrote(None),
        }
    }
}

impl<T: Socket> Drop for Watched<T> {
    fn drop(&mut self) {
        if self.activity.is_cut() {
            self.socket.forget();
        }
    }
}

impl<T: Socket> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, activity, half_open } = &mut *self;
        if half_open.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(socket).poll_read(context, buffer))?;
            activity.note();
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // The server is not told of the end of the stream yet, because it would believe that the client is gone.
        let timer = half_open.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_OPEN)));
        while activity.awaits_answer(context.waker()) {
            ready!(timer.as_mut().poll(context));
            let left = activity.last().saturating_add(HALF_OPEN).saturating_duration_since(Time::boot().now());
            if left.is_zero() {
                break;
            }
            timer.as_mut().reset(Instant::now() + left);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Socket> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, pieces);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
