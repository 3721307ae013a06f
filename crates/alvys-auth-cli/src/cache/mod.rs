//! Tokens between two runs: one file per key in a private directory, and one lock per key.
//!
//! A file that is not exactly what it should be is taken for none. What cannot be written is not kept; neither is a failure.

mod entry;
mod key;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use alvys_auth_core::{Credentials, Flow};
use etcetera::AppStrategy;
use serde::{Deserialize, Serialize};
use tracing::debug;

pub(crate) use entry::{Description, Held};
use key::Key;

use crate::failure::{Class, Failure};
use crate::files::{self, Try};
use crate::settings::variable;
use crate::time::{at_unix_millis, unix_millis};

/// The longest file that is read, in bytes: a token of the greatest length, its scopes and what it is for.
const LONGEST: usize = 64 * 1024;

/// The place of one token among those that are kept.
#[derive(Debug)]
pub(crate) struct Slot {
    key: Key,
    path: PathBuf,
}

/// A failure that other runs should know of: what was said, and until when nobody should ask again.
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

/// The directory for tokens: the given one, `ALVYS_CACHE_DIR`, or the platform's; none when there is no home.
pub(crate) fn directory(given: Option<PathBuf>) -> Option<PathBuf> {
    let platform = || {
        let arguments = etcetera::AppStrategyArgs {
            top_level_domain: String::new(),
            author: String::new(),
            app_name: "alvys-auth".into(),
        };
        Some(etcetera::app_strategy::choose_native_strategy(arguments).ok()?.cache_dir())
    };
    let base = given.or_else(|| variable("ALVYS_CACHE_DIR").map(PathBuf::from)).or_else(platform);
    if base.is_none() {
        debug!(target: "alvys_auth", "keeps no tokens: there is no home directory");
    }
    Some(base?.join("tokens"))
}

impl Slot {
    /// The place for tokens of these credentials and this flow; none when the directory cannot be used.
    ///
    /// # Errors
    /// When flow and credentials make no token request.
    pub(crate) fn open(directory: &Path, flow: &Flow, credentials: &Credentials) -> Result<Option<Self>, Failure> {
        let key = Key::of(flow, credentials)?;
        if let Err(error) = files::private_directory(directory) {
            debug!(target: "alvys_auth", "keeps no tokens: {}: {error}", directory.display());
            return Ok(None);
        }
        let path = directory.join(key.name());
        Ok(Some(Self { key, path }))
    }

    /// The token that is kept here, whether or not it is still usable.
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

    /// Keeps a token, and forgets what went wrong before.
    pub(crate) fn write(&self, held: &Held) {
        let sealed = entry::seal(&self.key, held).ok_or_else(|| io::Error::other("it cannot be sealed"));
        if let Err(error) = sealed.and_then(|sealed| files::replace(&self.file(), &sealed)) {
            debug!(target: "alvys_auth", "cannot keep the token: {error}");
        }
        // None being there is the usual case.
        let _ = fs::remove_file(self.path.with_extension("pause"));
    }

    /// Tries to become the one process that asks for this token.
    ///
    /// # Errors
    /// When there are no locks here.
    pub(crate) fn try_lock(&self) -> io::Result<Try> {
        files::try_lock(&self.path.with_extension("lock"))
    }

    /// What went wrong last, as far as other runs should know of it.
    pub(crate) fn pause(&self) -> Option<Pause> {
        let contents = files::read_private(&self.path.with_extension("pause"), LONGEST).ok()?;
        let pause: Pause = serde_json::from_slice(&contents).ok()?;
        // Written by a clock that was ahead of this one.
        (pause.at <= unix_millis(SystemTime::now())).then_some(pause)
    }

    /// Lets other runs know of a failure until then.
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
    /// Whether this became known at `time` or later.
    pub(crate) fn is_since(&self, time: SystemTime) -> bool {
        self.at >= unix_millis(time)
    }

    /// Until when nobody should ask.
    pub(crate) fn until(&self) -> SystemTime {
        at_unix_millis(self.until).unwrap_or_else(SystemTime::now)
    }

    /// Whether the failure passes by itself.
    pub(crate) fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The failure, with what is left of its wait.
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

/// What is kept, as each file says of itself.
///
/// # Errors
/// When the directory is there and cannot be read.
pub(crate) fn list(directory: &Path) -> Result<Vec<Description>, Failure> {
    let contents =
        names(directory, &["token"])?.into_iter().filter_map(|path| files::read_private(&path, LONGEST).ok());
    Ok(contents.filter_map(|contents| entry::describe(&contents)).collect())
}

/// Forgets every token that this command has kept, and says how many there were. Locks stay, because a process may be
/// waiting at one.
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
    // Somebody else's files may be in a directory that was given.
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
    Failure::configuration(format!("cannot use {}: {error}", path.display()), "check that it belongs to this user")
}
