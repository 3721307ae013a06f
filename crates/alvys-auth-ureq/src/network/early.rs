//! Reads an answer that comes before the whole request is sent (RFC 9112, section 9.5).

use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};

use ureq::Error;
use ureq::unversioned::transport::time::Duration;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

/// How long to look for an answer on a connection that takes no more of the request.
const LOOK: Duration = Duration::from_millis(100);

/// A connection whose writes fail only if no answer has arrived.
///
/// A server that refuses a request may answer and close while the body is on its way. ureq would then report the failed
/// write and drop the answer. So this connection accepts the rest of the request and discards it, and ureq goes on to
/// read the answer. It is below TLS, because after a failed write nothing can be read through TLS either.
#[derive(Debug)]
pub(super) struct Early<T> {
    connection: T,
    over: bool,
}

impl<T> Early<T> {
    pub(super) fn new(connection: T) -> Self {
        Self { connection, over: false }
    }
}

impl<T: Transport> Transport for Early<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        let failed = match self.connection.transmit_output(amount, timeout) {
            Err(Error::Io(error)) if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) => {
                Error::Io(error)
            }
            Err(error @ Error::Timeout(_)) => error,
            done => return done,
        };
        let look = NextTimeout { after: LOOK, ..NextTimeout::default() };
        self.over = matches!(self.connection.await_input(look), Ok(true));
        if self.over { Ok(()) } else { Err(failed) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.connection.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.over && self.connection.is_open()
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}
