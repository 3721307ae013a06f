//! Where the body of an answer goes: whole or not at all, and to no terminal what a terminal would obey.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, SpooledTempFile};

use crate::failure::Failure;
use crate::output::is_obeyed;

/// What is kept in memory of a body for stdout, in bytes; the rest waits in a temporary file.
const IN_MEMORY: usize = 4 * 1024 * 1024;

/// A place for a payload. Nothing is there before [`finish`](Self::finish), except for [`Sink::live`].
pub(crate) struct Sink(Place);

enum Place {
    Stdout(SpooledTempFile),
    Live { terminal: Option<Vec<u8>> },
    File { file: NamedTempFile, path: PathBuf },
    Special(File),
}

impl Sink {
    /// Stdout, all at once.
    pub(crate) fn stdout() -> Self {
        Self(Place::Stdout(SpooledTempFile::new(IN_MEMORY)))
    }

    /// Stdout as it comes.
    pub(crate) fn live() -> Self {
        Self(Place::Live { terminal: io::stdout().is_terminal().then(Vec::new) })
    }

    /// A file, put in the place of any other when it is whole. What is no regular file is written to directly.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| unwritable(path, &error);
        let place = match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                Place::Special(OpenOptions::new().write(true).open(path).map_err(failed)?)
            }
            _ => {
                // A link stays one: what it leads to is replaced.
                let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let file = NamedTempFile::new_in(directory.unwrap_or_else(|| Path::new("."))).map_err(failed)?;
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
            Place::Live { terminal } => {
                let mut stdout = io::stdout().lock();
                let rest = stdout.write_all(shown(&terminal.unwrap_or_default()).as_bytes());
                gone(rest.and_then(|()| stdout.flush())).map_err(|error| unwritable(Path::new("stdout"), &error))
            }
            Place::File { file, path } => {
                file.persist(&path).map(|_| ()).map_err(|error| unwritable(&path, &error.error))
            }
            Place::Special(mut file) => file.flush().map_err(|error| unwritable(Path::new("the output"), &error)),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Place::Stdout(spooled) => spooled.write(bytes),
            Place::Live { terminal: None } => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())?;
                Ok(bytes.len())
            }
            Place::Live { terminal: Some(line) } => {
                line.extend_from_slice(bytes);
                if let Some(end) = line.iter().rposition(|byte| *byte == b'\n') {
                    let whole: Vec<u8> = line.drain(..=end).collect();
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(shown(&whole).as_bytes()).and_then(|()| stdout.flush())?;
                }
                Ok(bytes.len())
            }
            Place::File { file, .. } => file.write(bytes),
            Place::Special(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `bytes` as text, without what a terminal would obey; lines and tabs stay.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_obeyed(*c)).collect()
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
