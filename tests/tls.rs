//! A server that encrypts, for tests of trust.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{error, thread};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{CipherSuite, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What a connection has offered: protocols, how to encrypt, and whether it has shown a certificate.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The protocols.
    pub protocols: Vec<String>,
    /// How to encrypt.
    pub suites: Vec<CipherSuite>,
}

/// A server for `https://localhost` that answers every request with a token.
#[derive(Debug, Clone)]
pub struct Server {
    /// The port of it.
    pub port: u16,
    offers: Arc<Mutex<Vec<Offer>>>,
    answered: Arc<Mutex<usize>>,
}

/// A certificate for `localhost` that nobody else has signed, valid until 2120, or its key; both are for tests alone.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certificates").join(name)
}

/// What a server encrypts with; `demanding` the same certificate of its clients.
///
/// # Panics
/// When the certificate cannot be read.
#[must_use]
pub fn encryption(demanding: bool) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(fixture("localhost.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(fixture("localhost.key")).expect("a key");
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = if demanding {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("a verifier");
        config.with_client_cert_verifier(verifier)
    } else {
        config.with_no_client_auth()
    };
    Arc::new(config.with_single_cert(vec![certificate], key).expect("a matching pair"))
}

/// Accepts an encrypted connection.
///
/// # Errors
/// When the client does not agree.
pub fn accepted(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    tell: impl FnOnce(Offer),
) -> Result<StreamOwned<ServerConnection, TcpStream>, Box<dyn error::Error + Send + Sync>> {
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(&mut stream)? == 0 {
            return Err("the client has left".into());
        }
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error)? {
            break accepted;
        }
    };
    let hello = accepted.client_hello();
    let protocols = hello.alpn().into_iter().flatten();
    let protocols = protocols.map(|protocol| String::from_utf8_lossy(protocol).into_owned()).collect();
    tell(Offer { protocols, suites: hello.cipher_suites().to_vec() });
    let connection = accepted.into_connection(config).map_err(|(error, _)| error)?;
    Ok(StreamOwned::new(connection, stream))
}

impl Server {
    /// Starts one; `demanding` one serves those only who show its own certificate.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn start(demanding: bool) -> Self {
        let config = encryption(demanding);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let server = Self { port, offers: Arc::default(), answered: Arc::default() };
        let seen = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, seen) = (Arc::clone(&config), seen.clone());
                thread::spawn(move || seen.serve(stream, config));
            }
        });
        server
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// What each connection has offered.
    ///
    /// # Panics
    /// When a thread of the server did.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        self.offers.lock().expect("no panic").clone()
    }

    /// How many requests were answered.
    ///
    /// # Panics
    /// When a thread of the server did.
    #[must_use]
    pub fn answered(&self) -> usize {
        *self.answered.lock().expect("no panic")
    }

    fn serve(&self, stream: TcpStream, config: Arc<ServerConfig>) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        let tell = |offer| self.offers.lock().expect("no panic").push(offer);
        let mut reader = BufReader::new(accepted(stream, config, tell)?);
        loop {
            let (mut length, mut line) = (0, String::new());
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if let Some(told) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = told.trim().parse()?;
                }
            }
            reader.read_exact(&mut vec![0; length])?;
            *self.answered.lock().expect("no panic") += 1;
            let body = r#"{"access_token":"opaque","token_type":"Bearer","expires_in":3600}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            reader.get_mut().write_all((head + body).as_bytes())?;
        }
    }
}
