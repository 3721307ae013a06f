//! Encrypts a connection, with the TLS settings that both drivers share.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, LazyBuffers, NextTimeout, Transport, TransportAdapter};

use super::addresses::{timeout, unreached};

/// A connection that is encrypted.
pub(super) struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Encrypted {
    /// Agrees with the server on how to encrypt, and checks its certificate.
    pub(super) fn new(
        host: &str,
        tls: Arc<ClientConfig>,
        connection: Box<dyn Transport>,
        details: &ConnectionDetails,
    ) -> Result<Self, Error> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|_| Error::Tls("the host is no name that a certificate can be for"))?;
        let mut connection = TransportAdapter::new(connection, Arc::clone(&details.current_time));
        connection.set_timeout(timeout(details));
        let mut session = ClientConnection::new(tls, name)?;
        session.complete_io(&mut connection).map_err(failed)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Self { buffers, stream: StreamOwned::new(session, connection) })
    }
}

/// Makes the error of a failed handshake. Nothing of a request was sent before it.
fn failed(error: io::Error) -> Error {
    match error.downcast::<rustls::Error>() {
        Ok(error) => error.into(),
        Err(error) => unreached(error.into()),
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encrypted").field(self.stream.sock.get_ref()).finish()
    }
}
