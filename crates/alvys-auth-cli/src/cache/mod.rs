//! Keeps tokens between two runs: one file and one lock per key, in a private directory.
//!
//! A file that is not valid is ignored, and a token that cannot be written is not kept, which is told of. Neither is a failure.

mod entry;
mod key;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::SystemTime;

use alvys_auth_core::{Credentials, Flow};
use alvys_auth_store::files::{self, Try};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tracing::debug;

pub(crate) use entry::{Description, Held};
use key::Key;

use crate::environment::{cache_directory, variable};
use crate::failure::{Class, Failure};
use crate::messages;
use crate::time::{at_unix_millis, unix_millis};

/// The longest file that is read, in bytes. It has room for the longest token, its scopes and its description.
const LONGEST: usize = 64 * 1024;

/// The place of one token in the cache.
#[derive(Debug)]
pub(crate) struct Slot {
    key: Key,
    path: PathBuf,
}

/// A failure that other runs should know of, and the time until which no run should ask again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pause {
    at: u64,
    until: u64,
    class: Class,
    what: String,
    todo: String,
    retryable: bool,
    status: Option<u16>,
    request_id: Option<String>,
}

/// The directory for tokens: the given one, `ALVYS_CACHE_DIR`, or the platform's. None when there is no home directory.
pub(crate) fn directory(given: Option<PathBuf>) -> Option<PathBuf> {
    let base = given.or_else(|| variable("ALVYS_CACHE_DIR").map(PathBuf::from)).or_else(cache_directory);
    if base.is_none() {
        debug!(target: "alvys_auth", "keeps no tokens: there is no home directory");
    }
    Some(base?.join("tokens"))
}

/// Warns once that tokens are not kept or not shared as they should be, because each run may then buy a token of its own.
pub(crate) fn unusable(what: &str) {
    static TOLD: Once = Once::new();
    let todo =
        "each run may request a token of its own; give another directory with --cache-dir, or set ALVYS_NO_CACHE=1";
    TOLD.call_once(|| messages::notice(&format!("{what}; {todo}")));
}

/// Whether tokens can be kept in the directory.
///
/// # Errors
/// Why not.
pub(crate) fn check(directory: &Path) -> io::Result<()> {
    files::private_directory(directory)?;
    // It is removed again.
    let file = NamedTempFile::new_in(directory)?;
    match files::try_lock(file.path())? {
        Try::Taken(_) | Try::Busy => Ok(()),
    }
}

impl Slot {
    /// The place of the token of these credentials and this flow. None when the directory cannot be used.
    ///
    /// # Errors
    /// When flow and credentials are not valid.
    pub(crate) fn open(directory: &Path, flow: &Flow, credentials: &Credentials) -> Result<Option<Self>, Failure> {
        let key = Key::of(flow, credentials)?;
        if let Err(error) = files::private_directory(directory) {
            unusable(&format!("keeps no tokens: {}: {error}", directory.display()));
            return Ok(None);
        }
        let path = directory.join(key.name());
        Ok(Some(Self { key, path }))
    }

    /// The token that is kept here, even if it has expired.
    pub(crate) fn read(&self) -> Option<Held> {
        let contents = match files::read_private(&self.file(), LONGEST) {
            Ok(contents) => contents,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                debug!(target: "alvys_auth", "ignores a kept token: {error}");
                return None;
            }
        };
        match entry::open(&self.key, &contents, SystemTime::now()) {
            Ok(held) => Some(held),
            Err(why) => {
                debug!(target: "alvys_auth", "ignores a kept token: {why}");
                None
            }
        }
    }

    /// Keeps a token, and removes the failure that was kept before.
    pub(crate) fn write(&self, held: &Held) {
        let sealed = entry::seal(&self.key, held).ok_or_else(|| io::Error::other("it cannot be sealed"));
        if let Err(error) = sealed.and_then(|sealed| files::replace(&self.file(), &sealed)) {
            unusable(&format!("cannot keep the token: {}: {error}", self.file().display()));
        }
        // Usually there is none.
        let _ = fs::remove_file(self.path.with_extension("pause"));
    }

    /// Tries to become the one process that requests this token.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub(crate) fn try_lock(&self) -> io::Result<Try> {
        files::try_lock(&self.path.with_extension("lock"))
    }

    /// The last failure of another run, if it was shared.
    pub(crate) fn pause(&self) -> Option<Pause> {
        let contents = files::read_private(&self.path.with_extension("pause"), LONGEST).ok()?;
        let pause: Pause = serde_json::from_slice(&contents).ok()?;
        // A file from the future was written when the clock was wrong.
        (pause.at <= unix_millis(SystemTime::now())).then_some(pause)
    }

    /// Shares a failure with other runs until `until`.
    pub(crate) fn put_pause(&self, failure: &Failure, until: SystemTime) {
        let pause = Pause {
            at: unix_millis(SystemTime::now()),
            until: unix_millis(until),
            class: failure.class,
            what: failure.what.clone(),
            todo: failure.todo.clone(),
            retryable: failure.retryable,
            status: failure.status,
            request_id: failure.request_id.clone(),
        };
        let written = serde_json::to_vec(&pause).map_err(io::Error::from);
        if let Err(error) = written.and_then(|json| files::replace(&self.path.with_extension("pause"), &json)) {
            debug!(target: "alvys_auth", "cannot tell other runs of the failure: {error}");
        }
    }

    fn file(&self) -> PathBuf {
        self.path.with_extension("token")
    }
}

impl Pause {
    /// Whether the failure happened at `time` or later.
    pub(crate) fn is_since(&self, time: SystemTime) -> bool {
        self.at >= unix_millis(time)
    }

    /// The time until which no run should ask.
    pub(crate) fn until(&self) -> SystemTime {
        at_unix_millis(self.until).unwrap_or_else(SystemTime::now)
    }

    /// Whether the failure may pass although nobody changes anything.
    pub(crate) fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The failure, with the rest of its wait.
    pub(crate) fn failure(&self) -> Failure {
        let wait = self.until().duration_since(SystemTime::now()).ok();
        Failure {
            wait: wait.filter(|_| self.retryable),
            retryable: self.retryable,
            status: self.status,
            request_id: self.request_id.clone(),
            ..Failure::new(self.class, &self.what, &self.todo)
        }
    }
}

/// The descriptions of the kept tokens.
///
/// # Errors
/// When the directory exists but cannot be read.
pub(crate) fn list(directory: &Path) -> Result<Vec<Description>, Failure> {
    let contents =
        names(directory, &["token"])?.into_iter().filter_map(|path| files::read_private(&path, LONGEST).ok());
    Ok(contents.filter_map(|contents| entry::describe(&contents)).collect())
}

/// Removes all kept tokens, and returns how many there were. The lock files stay, because a process may wait for one.
///
/// # Errors
/// When a file cannot be removed.
pub(crate) fn clear(directory: &Path) -> Result<usize, Failure> {
    let mut tokens = 0;
    for path in names(directory, &["token", "pause"])? {
        fs::remove_file(&path).or_else(ignore_missing).map_err(|error| failed(&path, &error))?;
        tokens += usize::from(path.extension().is_some_and(|extension| extension == "token"));
    }
    Ok(tokens)
}

fn names(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| failed(directory, &error))?,
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    // A directory that was given may contain other files.
    let ours = |path: &PathBuf| {
        let ending = path.extension().is_some_and(|found| extensions.iter().any(|one| found == *one));
        ending && path.file_stem().and_then(OsStr::to_str).is_some_and(key::is_name)
    };
    let mut paths: Vec<PathBuf> = paths.filter(ours).collect();
    paths.sort();
    Ok(paths)
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::configuration(
        format!("cannot use {}: {error}", path.display()),
        "check that it belongs to this user, or give another directory with --cache-dir",
    )
}
