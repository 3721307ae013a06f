//! Where a proxy listens: a TCP port of this machine, or a Unix socket.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::task::{Context, Poll};

use alvys_auth_core::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use crate::settings::Settings;

/// How many bytes the system keeps for a client that does not read, on each connection. Linux takes twice as many.
///
/// On the loopback interface a packet has 64 KiB. With room for less than one and a half of them, each waits until the one before
/// it is acknowledged, and a download comes to a hundredth of its speed.
const UNSENT: u32 = 56 * 1024;
/// How many connections wait to be accepted.
const BACKLOG: u32 = 1024;

/// A place where a proxy listens.
///
/// ```
/// use alvys_auth_proxy::Listen;
///
/// assert!(matches!("127.0.0.1:8350".parse()?, Listen::Tcp(address) if address.ip().is_loopback()));
/// assert!(matches!("unix:/run/alvys/proxy.sock".parse()?, Listen::Unix(_)));
/// # Ok::<(), alvys_auth_proxy::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listen {
    /// A TCP port. Port 0 takes a free port.
    Tcp(SocketAddr),
    /// A Unix socket that only this user can connect to (mode 0600). The socket file of a proxy that has ended is replaced.
    /// Most systems allow paths of up to 107 bytes, macOS 103.
    Unix(PathBuf),
}

impl Listen {
    /// A port of 127.0.0.1. Port 0 takes a free port.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}

impl FromStr for Listen {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            Error::configuration(
                "this is not a place to listen at",
                "give an address with a port, such as 127.0.0.1:8350, or a Unix socket, such as unix:/run/alvys.sock",
            )
        })
    }
}

impl fmt::Display for Listen {
    /// The URL of a TCP port; `unix:` and the path of a socket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, #[expect(dead_code, reason = "removes the file when dropped")] socket::File),
}

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Listener {
    /// Listens for calls, if the settings allow it.
    pub(crate) async fn for_calls(place: &Listen, settings: &Settings) -> Result<(Self, Listen), Error> {
        match place {
            Listen::Tcp(address) => {
                let allowed = address.ip().is_loopback() || settings.exposed && settings.key.is_some();
                if !allowed {
                    return Err(Error::configuration(
                        format!("other machines can reach {address}"),
                        "listen on 127.0.0.1 or a Unix socket, or allow other machines with Settings::expose and a shared key",
                    ));
                }
                Self::tcp(*address).await
            }
            #[cfg(unix)]
            Listen::Unix(path) => {
                let (listener, file) = socket::bind(path).map_err(|error| refused(place, &error))?;
                Ok((Self::Unix(listener, file), place.clone()))
            }
            #[cfg(not(unix))]
            Listen::Unix(_) => Err(Error::configuration(
                "this system has no Unix sockets",
                "listen on a TCP port, such as 127.0.0.1:8350",
            )),
        }
    }

    /// Listens, even if other machines can reach the address.
    pub(crate) async fn tcp(address: SocketAddr) -> Result<(Self, Listen), Error> {
        let listener = bind(address).map_err(|error| refused(&Listen::Tcp(address), &error))?;
        let address = listener.local_addr().map_err(|error| refused(&Listen::Tcp(address), &error))?;
        Ok((Self::Tcp(listener), Listen::Tcp(address)))
    }

    pub(crate) fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(context).map_ok(|(stream, _)| Stream::Tcp(stream)),
            #[cfg(unix)]
            Self::Unix(listener, _) => listener.poll_accept(context).map_ok(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// A listener whose connections keep little in the system for clients that do not read, so that many of them fit into the
/// memory of a container.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Windows, this option lets other programs take the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(UNSENT)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn refused(place: &Listen, error: &io::Error) -> Error {
    Error::configuration(
        format!("the proxy cannot listen at {place}: {error}"),
        "choose another address or path, or end the program that listens there",
    )
}

#[cfg(unix)]
mod socket {
    //! Unix sockets that only this user can connect to, from the moment they are made.

    use std::fs::{self, DirBuilder, Permissions};
    use std::hash::{BuildHasher, RandomState};
    use std::io::{self, ErrorKind};
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
    use std::os::unix::net;
    use std::path::{Path, PathBuf};

    use tokio::net::UnixListener;

    /// How many names are tried for the temporary directory of a new socket.
    const ATTEMPTS: u32 = 16;

    /// The file of a socket. It is removed when the listener ends, unless another socket has replaced it.
    #[derive(Debug)]
    pub(crate) struct File {
        path: PathBuf,
        inode: u64,
    }

    pub(crate) fn bind(path: &Path) -> io::Result<(UnixListener, File)> {
        check_free(path)?;
        let directory =
            path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        // The socket is made in a private directory and gets its mode there. Then it is moved in one step.
        let private = private_directory(directory)?;
        let made = private.join("s");
        let bound = net::UnixListener::bind(&made).and_then(|listener| {
            fs::set_permissions(&made, Permissions::from_mode(0o600))?;
            let inode = fs::symlink_metadata(&made)?.ino();
            listener.set_nonblocking(true)?;
            fs::rename(&made, path)?;
            Ok((listener, File { path: path.to_owned(), inode }))
        });
        // Each of these fails when there is nothing to remove.
        let _ = fs::remove_file(&made);
        let _ = fs::remove_dir(&private);
        let (listener, file) = bound?;
        Ok((UnixListener::from_std(listener)?, file))
    }

    /// A directory with a new name each time, so that one left by a crash does no harm. The name is short, because the path of
    /// a socket may have 107 bytes at most.
    fn private_directory(place: &Path) -> io::Result<PathBuf> {
        let random = RandomState::new();
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            let private = place.join(format!(".{:04x}", random.hash_one(attempt) & 0xffff));
            match DirBuilder::new().mode(0o700).create(&private) {
                Ok(()) => return Ok(private),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ErrorKind::AlreadyExists.into()))
    }

    /// Whether the path may be replaced: nothing is there, or a socket that no program listens on.
    fn check_free(path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(found) if !found.file_type().is_socket() => {
                Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is not a socket has this path"))
            }
            Ok(_) => match net::UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Err(ErrorKind::AddrInUse.into()),
            },
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}
