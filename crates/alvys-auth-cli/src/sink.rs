//! Writes the body of an answer to stdout or a file, whole or not at all. A terminal gets no control characters.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use alvys_auth_core::is_invisible;
use tempfile::{NamedTempFile, SpooledTempFile};

use crate::failure::Failure;

/// How much of a body for stdout is kept in memory, in bytes. A longer body is kept in a temporary file.
const IN_MEMORY: usize = 4 * 1024 * 1024;
/// The number of links that are followed, as on Linux.
const MOST_LINKS: usize = 40;

/// The destination of a payload. It receives nothing before [`finish`](Self::finish), except with [`Sink::live`].
pub(crate) struct Sink(Place);

enum Place {
    Stdout(SpooledTempFile),
    Live(Live),
    File { file: NamedTempFile, path: PathBuf },
}

/// A destination that receives the bytes as they arrive: stdout, a device or a pipe.
struct Live {
    out: Box<dyn Write>,
    name: PathBuf,
    /// The line that has begun, when the destination is a terminal.
    terminal: Option<Vec<u8>>,
}

impl Sink {
    /// Stdout, which receives the whole payload at once.
    pub(crate) fn stdout() -> Self {
        // Tested before the call is made, so that a long answer does not fail for want of a temporary directory.
        let in_memory = if tempfile::tempfile().is_ok() { IN_MEMORY } else { usize::MAX };
        Self(Place::Stdout(SpooledTempFile::new(in_memory)))
    }

    /// Stdout, which receives the bytes as they arrive.
    pub(crate) fn live() -> Self {
        let terminal = io::stdout().is_terminal().then(Vec::new);
        Self(Place::Live(Live { out: Box::new(io::stdout()), name: "stdout".into(), terminal }))
    }

    /// A file, which is replaced when the payload is complete. A pipe or a device receives the bytes as they arrive. A path
    /// that leads to stdout, such as `/dev/stdout`, is stdout.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| unwritable(path, &error);
        match descriptor(path) {
            Some(Descriptor::Stdout) => return Ok(Self::stdout()),
            // Other processes may write to this open file, at positions that are not known here.
            Some(Descriptor::Other) if path.is_file() => {
                return Err(Failure::configuration(
                    format!("{} leads to a file that is open already and would be replaced", path.display()),
                    "give the path of the file itself, or write to stdout and redirect it",
                ));
            }
            _ => {}
        }
        let place = match fs::metadata(path) {
            // The system does not follow some links, such as those of other users in a directory that all can write to.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
                let terminal = file.is_terminal().then(Vec::new);
                Place::Live(Live { out: Box::new(file), name: path.to_owned(), terminal })
            }
            found => {
                // A link stays. The file that it leads to is replaced, if the system still says that it is the one.
                let path = match found {
                    Ok(found) => target(path, &found).map_err(failed)?,
                    Err(_) => path.to_owned(),
                };
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                // A killed run leaves this file behind, so its name tells where it comes from.
                let mut named = tempfile::Builder::new();
                let file = named.prefix(".alvys-auth-").tempfile_in(directory.unwrap_or_else(|| Path::new(".")));
                let file = file.map_err(failed)?;
                Place::File { file, path }
            }
        };
        Ok(Self(place))
    }

    /// Writes the payload to its destination.
    ///
    /// # Errors
    /// When it cannot be written. It is not a failure when the reader has closed stdout.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.0 {
            Place::Stdout(mut spooled) => {
                let mut live = Self::live();
                let written = spooled.rewind().and_then(|()| io::copy(&mut spooled, &mut live)).map(drop);
                gone(written).map_err(|error| unwritable(Path::new("stdout"), &error))?;
                live.finish()
            }
            Place::Live(Live { mut out, name, terminal }) => {
                let rest = out.write_all(shown(&terminal.unwrap_or_default()).as_bytes());
                gone(rest.and_then(|()| out.flush())).map_err(|error| unwritable(&name, &error))
            }
            Place::File { file, path } => {
                file.persist(&path).map(|_| ()).map_err(|error| unwritable(&path, &error.error))
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Place::Stdout(spooled) => spooled.write(bytes),
            Place::Live(live) => live.write(bytes).map(|()| bytes.len()),
            Place::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Live {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(line) = &mut self.terminal else {
            return self.out.write_all(bytes).and_then(|()| self.out.flush());
        };
        line.extend_from_slice(bytes);
        let Some(end) = line.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let whole: Vec<u8> = line.drain(..=end).collect();
        self.out.write_all(shown(&whole).as_bytes()).and_then(|()| self.out.flush())
    }
}

/// `bytes` as text without control characters. Line breaks and tabs stay.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_invisible(*c)).collect()
}

/// A file descriptor, of this process or of another one.
enum Descriptor {
    Stdout,
    Other,
}

/// The file descriptor that a path such as `/dev/stdout` leads to. Replacing the file behind it would remove what others
/// have written to it.
fn descriptor(path: &Path) -> Option<Descriptor> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let name = path.file_name()?.to_owned();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // Links are followed, except for the last one, which would lead to the open file.
        let directory = fs::canonicalize(directory.unwrap_or_else(|| Path::new("."))).ok()?;
        let own = directory == Path::new("/dev/fd") || directory == Path::new(&format!("/proc/{}/fd", process::id()));
        if own || directory.starts_with("/proc") && directory.ends_with("fd") {
            return Some(if own && name == "1" { Descriptor::Stdout } else { Descriptor::Other });
        }
        path = directory.join(fs::read_link(directory.join(name)).ok()?);
    }
    None
}

/// The path of the file that was found at `path`, without links.
fn target(path: &Path, found: &Metadata) -> io::Result<PathBuf> {
    let target = fs::canonicalize(path)?;
    let there = fs::symlink_metadata(&target)?;
    #[cfg(unix)]
    let same = {
        use std::os::unix::fs::MetadataExt;
        (there.dev(), there.ino()) == (found.dev(), found.ino())
    };
    #[cfg(not(unix))]
    let same = there.len() == found.len();
    if same { Ok(target) } else { Err(io::Error::other("it was replaced meanwhile")) }
}

/// It is not a failure when the reader has closed the destination.
fn gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::configuration(
        format!("cannot write to {}: {error}", path.display()),
        "check that this user may write there, and that the disk is not full",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_lines_and_tabs_but_no_escapes() {
        assert_eq!(shown(b"{\"a\":\t1}\n\x1b]0;owned\x07\x1b[2J\r\xc2\x9b"), "{\"a\":\t1}\n]0;owned[2J");
        assert_eq!(shown("\u{202e}l\u{61c}e\u{ad}f\u{e0041}t".as_bytes()), "left");
    }
}
