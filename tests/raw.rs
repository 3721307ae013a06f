//! A server that says byte for byte what a test wants it to say.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A server of plain HTTP/1.1.
#[derive(Debug)]
pub struct Raw {
    url: String,
    requests: Arc<AtomicUsize>,
}

/// A request that has arrived whole, and where its answer goes.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The first line and the headers.
    pub head: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// How many requests came on this connection before.
    pub before: usize,
    /// The connection.
    pub stream: &'a mut TcpStream,
}

impl Raw {
    /// Answers each request as `answer` does. Its connection is kept where that gives true.
    ///
    /// # Panics
    /// When there is no socket.
    pub fn start(answer: impl Fn(Asked<'_>) -> io::Result<bool> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let (answer, counted) = (Arc::new(answer), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
                thread::spawn(move || talk(stream, &*answer, &counted));
            }
        });
        Self { url, requests }
    }

    /// Answers each request with these bytes and closes.
    pub fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |asked| asked.stream.write_all(&bytes).map(|()| false))
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many requests have arrived.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn talk(
    mut stream: TcpStream,
    answer: &dyn Fn(Asked<'_>) -> io::Result<bool>,
    requests: &AtomicUsize,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    for before in 0.. {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begun = head.len();
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            if let Some(told) = head[begun..].to_ascii_lowercase().strip_prefix("content-length:") {
                length = told.trim().parse().unwrap_or_default();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        requests.fetch_add(1, Ordering::SeqCst);
        if !answer(Asked { head: &head, body: &body, before, stream: &mut stream })? {
            return Ok(());
        }
    }
    Ok(())
}
