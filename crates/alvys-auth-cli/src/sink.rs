//! Where the body of an answer goes: whole or not at all, and to no terminal what a terminal would obey.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use tempfile::{NamedTempFile, SpooledTempFile};

use crate::failure::Failure;
use crate::output::is_obeyed;

/// What is kept in memory of a body for stdout, in bytes; the rest waits in a temporary file.
const IN_MEMORY: usize = 4 * 1024 * 1024;
/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// A place for a payload. Nothing is there before [`finish`](Self::finish), except for [`Sink::live`].
pub(crate) struct Sink(Place);

enum Place {
    Stdout(SpooledTempFile),
    Live(Live),
    File { file: NamedTempFile, path: PathBuf },
}

/// Something that is written to as the bytes come: stdout, a device, a pipe.
struct Live {
    out: Box<dyn Write>,
    name: PathBuf,
    /// The line begun, where a terminal reads.
    terminal: Option<Vec<u8>>,
}

impl Sink {
    /// Stdout, all at once.
    pub(crate) fn stdout() -> Self {
        // Whether there is a place for temporary files is found out before the call is made, and not by a long answer to it.
        let in_memory = if tempfile::tempfile().is_ok() { IN_MEMORY } else { usize::MAX };
        Self(Place::Stdout(SpooledTempFile::new(in_memory)))
    }

    /// Stdout as it comes.
    pub(crate) fn live() -> Self {
        let terminal = io::stdout().is_terminal().then(Vec::new);
        Self(Place::Live(Live { out: Box::new(io::stdout()), name: "stdout".into(), terminal }))
    }

    /// A file, put in the place of any other when it is whole. What is no regular file is written to directly, and stdout by
    /// any of its names is stdout.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| unwritable(path, &error);
        match descriptor(path) {
            Some(Descriptor::Stdout) => return Ok(Self::stdout()),
            // What the others who write through it have written, and where they go on, is not known here.
            Some(Descriptor::Other) if path.is_file() => {
                return Err(Failure::configuration(
                    format!("{} leads to a file that is open already, which would be replaced", path.display()),
                    "name the file itself, or write to stdout and redirect that",
                ));
            }
            _ => {}
        }
        let place = match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
                let terminal = file.is_terminal().then(Vec::new);
                Place::Live(Live { out: Box::new(file), name: path.to_owned(), terminal })
            }
            _ => {
                // A link stays one: what it leads to is replaced.
                let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                // Left behind by a run that is killed, it is to tell whose it is.
                let mut named = tempfile::Builder::new();
                let file = named.prefix(".alvys-auth-").tempfile_in(directory.unwrap_or_else(|| Path::new(".")));
                let file = file.map_err(failed)?;
                Place::File { file, path }
            }
        };
        Ok(Self(place))
    }

    /// Hands the payload over.
    ///
    /// # Errors
    /// When it cannot be written. A reader of stdout that has gone away is no failure.
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

/// `bytes` as text, without what a terminal would obey; lines and tabs stay.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_obeyed(*c)).collect()
}

/// A descriptor, of this process or of another one.
enum Descriptor {
    Stdout,
    Other,
}

/// The descriptor that a path leads to, such as `/dev/stdout` does. To replace the file behind it would take away what others
/// have written there.
fn descriptor(path: &Path) -> Option<Descriptor> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let name = path.file_name()?.to_owned();
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // Its links are followed, but not the last one, which would lead to the file that is open.
        let directory = fs::canonicalize(directory.unwrap_or_else(|| Path::new("."))).ok()?;
        let own = directory == Path::new("/dev/fd") || directory == Path::new(&format!("/proc/{}/fd", process::id()));
        if own || directory.starts_with("/proc") && directory.ends_with("fd") {
            return Some(if own && name == "1" { Descriptor::Stdout } else { Descriptor::Other });
        }
        path = directory.join(fs::read_link(directory.join(name)).ok()?);
    }
    None
}

/// A reader that has seen enough is no failure.
fn gone(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::configuration(
        format!("cannot write to {}: {error}", path.display()),
        "check that this user may write there and that the disk is not full",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_lines_and_tabs_but_no_escapes() {
        assert_eq!(shown(b"{\"a\":\t1}\n\x1b]0;owned\x07\x1b[2J\r\xc2\x9b"), "{\"a\":\t1}\n]0;owned[2J");
        assert_eq!(shown("\u{202e}left".as_bytes()), "left");
    }
}
