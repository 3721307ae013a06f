//! A proxy that speaks whatever its client does: `CONNECT`, plain or encrypted, and SOCKS 4, 4a and 5.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::tls;

/// Leads every connection to this machine, whatever host is asked for.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its port.
    pub port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    answer: Arc<str>,
}

/// What a proxy has seen of those whose password it does not take.
const REFUSED: &str = "socks5, refused";

/// Whatever can be read and written.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Proxy {
    /// Starts one at an address such as `127.0.0.1:0`, which gives this answer to `CONNECT`. One that answers 407 takes no
    /// password over SOCKS 5 either.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn start(address: &str, answer: &str) -> Self {
        Self::serve(address, answer, false)
    }

    /// A proxy on this machine that is willing.
    #[must_use]
    pub fn willing() -> Self {
        Self::start("127.0.0.1:0", "HTTP/1.1 200 OK\r\n\r\n")
    }

    /// The same for `https://localhost`.
    #[must_use]
    pub fn encrypted() -> Self {
        Self::serve("127.0.0.1:0", "HTTP/1.1 200 OK\r\n\r\n", true)
    }

    /// What was asked of it: the protocol, the user if one was told, the host and the port.
    ///
    /// # Panics
    /// When a thread of the proxy did.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }

    fn serve(address: &str, answer: &str, encrypted: bool) -> Self {
        let listener = TcpListener::bind(address).expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let this = Self { port, seen: Arc::default(), answer: answer.into() };
        let proxy = this.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let proxy = proxy.clone();
                thread::spawn(move || proxy.lead(client, encrypted));
            }
        });
        this
    }

    /// Leads one connection on. What breaks off is over.
    fn lead(&self, socket: TcpStream, encrypted: bool) -> Option<()> {
        let turn = socket.try_clone().ok()?;
        let mut client: Box<dyn Stream> = if encrypted {
            Box::new(tls::accepted(socket, tls::encryption(false), |_| ()).ok()?)
        } else {
            Box::new(socket)
        };
        let mut first = [0];
        client.read_exact(&mut first).ok()?;
        let (said, port) = match first[0] {
            4 => socks4(&mut client)?,
            5 => socks5(&mut client, self.answer.starts_with("HTTP/1.1 407"))?,
            _ => http(&mut client)?,
        };
        let refused = said == REFUSED;
        self.seen.lock().expect("no panic").push(said);
        match first[0] {
            _ if refused => return None,
            4 => client.write_all(&[0, 90, 0, 0, 0, 0, 0, 0]).ok()?,
            5 => client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?,
            _ => client.write_all(self.answer.as_bytes()).ok()?,
        }
        if first[0] > 5 && !self.answer.starts_with("HTTP/1.1 2") {
            return None;
        }
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        for socket in [&turn, &server] {
            socket.set_read_timeout(Some(Duration::from_millis(2))).ok()?;
        }
        while moved(&mut client, &mut server)? && moved(&mut server, &mut client)? {}
        None
    }
}

/// Whether more may come, after what was there has been moved on.
fn moved(from: &mut impl Read, to: &mut impl Write) -> Option<bool> {
    let mut buffer = [0; 4096];
    match from.read(&mut buffer) {
        Ok(0) => Some(false),
        Ok(read) => to.write_all(&buffer[..read]).ok().map(|()| true),
        Err(error) => Some(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
    }
}

fn http(client: &mut impl Read) -> Option<(String, u16)> {
    let head = until(client, b"\r\n\r\n").ok()?;
    let head = format!("C{}", String::from_utf8(head).ok()?);
    let place = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let user = head
        .lines()
        .find_map(|line| line.strip_prefix("Proxy-Authorization: "))
        .or_else(|| head.lines().find_map(|line| line.strip_prefix("proxy-authorization: ")));
    let port = place.rsplit(':').next()?.parse().ok()?;
    Some((
        ["CONNECT", user.unwrap_or_default(), &place]
            .iter()
            .filter(|word| !word.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" "),
        port,
    ))
}

fn socks4(client: &mut impl Read) -> Option<(String, u16)> {
    let [_, high, low, a, b, c, d] = exactly(client).ok()?;
    let port = u16::from_be_bytes([high, low]);
    until(client, b"\0").ok()?;
    if [a, b, c] == [0; 3] && d > 0 {
        let mut host = until(client, b"\0").ok()?;
        host.pop();
        return Some((format!("socks4a {}:{port}", String::from_utf8(host).ok()?), port));
    }
    Some((format!("socks4 {}:{port}", Ipv4Addr::new(a, b, c, d)), port))
}

/// Wants a user name and a password from those who offer to tell them.
fn socks5(client: &mut Box<dyn Stream>, refuses: bool) -> Option<(String, u16)> {
    let [count] = exactly(client).ok()?;
    let mut methods = vec![0; count.into()];
    client.read_exact(&mut methods).ok()?;
    let mut user = String::new();
    if methods.contains(&2) {
        client.write_all(&[5, 2]).ok()?;
        let [_, length] = exactly(client).ok()?;
        let name = text(client, length)?;
        let [length] = exactly(client).ok()?;
        user = format!("{name}:{} ", text(client, length)?);
        client.write_all(&[1, refuses.into()]).ok()?;
    } else if refuses {
        client.write_all(&[5, 0xff]).ok()?;
    } else {
        client.write_all(&[5, 0]).ok()?;
    }
    if refuses {
        return Some((REFUSED.to_owned(), 0));
    }
    let [_, _, _, kind] = exactly(client).ok()?;
    let host = if kind == 3 {
        let [length] = exactly(client).ok()?;
        text(client, length)?
    } else if kind == 1 {
        Ipv4Addr::from(exactly::<4>(client).ok()?).to_string()
    } else {
        format!("[{}]", std::net::Ipv6Addr::from(exactly::<16>(client).ok()?))
    };
    let port = u16::from_be_bytes(exactly(client).ok()?);
    Some((format!("socks5 {user}{host}:{port}"), port))
}

fn exactly<const N: usize>(client: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).map(|()| bytes)
}

fn text(client: &mut impl Read, length: u8) -> Option<String> {
    let mut bytes = vec![0; length.into()];
    client.read_exact(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

fn until(client: &mut impl Read, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        bytes.extend(exactly::<1>(client)?);
    }
    Ok(bytes)
}
