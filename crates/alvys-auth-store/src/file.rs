//! A store in files: for the processes of one user on one host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use alvys_auth_core::share::Cell;
use alvys_auth_core::{Error, Timestamp};
use alvys_auth_driver::Time;
use serde::{Deserialize, Serialize};

use crate::{BlockingStore, Name, SealedAnswer, SealedOperation, files};

/// The longest file that is read, in bytes: the longest token, sealed, has room in it.
const LONGEST: usize = 128 * 1024;
/// How long an operation waits for other processes. They need less than a millisecond each.
const PATIENCE: Duration = Duration::from_secs(2);
const ENDING: &str = "shared";
const FORMAT: u32 = 2;

/// A store in a private directory, for all processes of one user on one host.
///
/// Each entry is a file of its own, which is replaced in one step. An operation holds the lock of the directory only
/// while it reads and replaces the file. A process that was stopped while it requests a token holds no lock, only a
/// lease, which ends. Entries outlive the process and a restart of the machine.
///
/// The directory must not be on a network file system, whose locks do not hold between machines.
///
/// ```
/// use std::time::Duration;
///
/// use alvys_auth_core::share::{Id, Operation, Outcome};
/// use alvys_auth_core::{Credentials, Flow, TokenRequest};
/// use alvys_auth_store::{BlockingStore, FileStore, Key};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path().join("tokens");
/// let store = FileStore::new(directory)?;
/// let request = TokenRequest::new(Flow::current(), Credentials::new("my-client", "s3cret")?)?;
/// let claim = Operation::Claim { owner: Id::from_bytes([1; 16]), unwanted: None, lease: Duration::from_secs(15) };
/// assert_eq!(store.run(Key::of(&request)?.name(), claim)?.outcome, Outcome::Claimed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileStore {
    directory: PathBuf,
}

/// The content of a file: the entry, and when it was written by the clock of its times.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    /// The boot of the machine whose clock gave `at`. None on systems where boots cannot be told apart; `at` is the
    /// wall clock's time then.
    boot: Option<String>,
    at: Timestamp,
    wall: Timestamp,
    cell: Cell,
}

impl FileStore {
    /// The store in this directory. A missing directory is made, and other users get no access to it.
    ///
    /// # Errors
    /// When the directory cannot be made, or belongs to another user.
    pub fn new(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = directory.into();
        files::private_directory(&directory).map_err(|error| unusable(&directory, &error))?;
        Ok(Self { directory })
    }

    /// The names of all entries, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<Name>, Error> {
        let mut names: Vec<Name> = self.files()?.iter().filter_map(|path| named(path)).collect();
        names.sort();
        Ok(names)
    }

    /// Removes all entries, including those of earlier versions, and returns how many there were. Other files stay.
    ///
    /// # Errors
    /// When the directory cannot be read, or an entry cannot be removed.
    pub fn clear(&self) -> Result<usize, Error> {
        let _lock = self.lock()?;
        let files = self.files()?;
        let cleared = files.iter().filter(|path| named(path).is_some()).count();
        for path in &files {
            remove(path).map_err(|error| unusable(path, &error))?;
        }
        Ok(cleared)
    }

    /// The files of entries, and of the first format.
    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = fs::read_dir(&self.directory).map_err(|error| unusable(&self.directory, &error))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(paths.filter(|path| named(path).is_some() || is_of_first_format(path)).collect())
    }

    fn lock(&self) -> Result<files::Lock, Error> {
        files::lock(&self.directory.join("lock"), PATIENCE).map_err(|error| unusable(&self.directory, &error))
    }

    fn carry_out(&self, path: &Path, operation: SealedOperation) -> io::Result<SealedAnswer> {
        let (boot, wall) = (boot(), wall());
        let now = if boot.is_some() { Time::boot().now() } else { wall };
        // A file that cannot be read, such as a link or a pipe in its place, is replaced. The target of a link stays as
        // it is.
        let text = files::read_private(path, LONGEST).unwrap_or_default();
        let before = read(&text, boot.as_deref(), now, wall);
        let mut cell = before.clone();
        let answer = cell.run(operation, now);
        if cell.ends().is_none() {
            remove(path)?;
        } else if cell != before {
            let written = Written { format: FORMAT, boot, at: now, wall, cell };
            files::replace(path, &serde_json::to_vec(&written)?)?;
        }
        Ok(answer)
    }
}

impl BlockingStore for FileStore {
    fn run(&self, name: &Name, operation: SealedOperation) -> Result<SealedAnswer, Error> {
        let _lock = self.lock()?;
        let path = self.directory.join(format!("{name}.{ENDING}"));
        self.carry_out(&path, operation).map_err(|error| unusable(&path, &error))
    }
}

/// Reads the entry in a file, by the clock that shows `now`. The entry is empty when the file is damaged, or of another
/// format.
fn read(text: &[u8], boot: Option<&str>, now: Timestamp, wall: Timestamp) -> Cell {
    let Some(written) = serde_json::from_slice::<Written>(text).ok().filter(|written| written.format == FORMAT) else {
        return Cell::default();
    };
    if written.boot.as_deref() == boot {
        // Neither clock runs backwards, unless somebody sets the wall clock.
        return if written.at <= now { written.cell } else { Cell::default() };
    }
    // The machine was restarted, and only the wall clock went on. It may have been set back.
    if wall < written.wall {
        return Cell::default();
    }
    let passed = wall.saturating_duration_since(written.wall);
    written.cell.restarted(written.at.saturating_add(passed), now)
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().saturating_add(since)
}

/// A text that distinguishes this boot of the machine from others.
fn boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

fn named(path: &Path) -> Option<Name> {
    path.extension().filter(|ending| *ending == ENDING)?;
    Name::parse(path.file_stem()?.to_str()?)
}

fn is_of_first_format(path: &Path) -> bool {
    let ending = path.extension().is_some_and(|ending| ["token", "pause", "lock"].iter().any(|one| ending == *one));
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    ending && stem.len() == 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::configuration(
        format!("tokens cannot be shared in {}: {error}", path.display()),
        "check that it belongs to this user, is on a local disk and can be written to, or choose another directory",
    )
}
